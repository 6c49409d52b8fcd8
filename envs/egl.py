"""EGL contexts of our own, so that render threads do not share a driver's screen.

Mesa's software renderer keeps a rasteriser, caches and fences for each display, and two contexts of one display that draw at
the same time crash it now and then (seen on Mesa 22.3: a segmentation fault within minutes). Every EGL platform has a display
of its own, so the first render thread draws on the device platform's and the second on the surfaceless one's. Contexts of
one display take turns, through `lock`; on a GPU, one context keeps the device busy anyway.
"""

from __future__ import annotations

import atexit
import ctypes
import threading
from typing import Any

from mujoco import egl as mujoco_egl  # pyright: ignore[reportAttributeAccessIssue]  (its stub is left out where no display is)
from mujoco.egl import egl_ext as egl
from OpenGL import error

from assets.errors import MissingDependencyError

_PLATFORM_SURFACELESS_MESA = 0x31DD  # EGL_MESA_platform_surfaceless


class _Display:
    """An initialised EGL display and the lock of its contexts."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.lock = threading.Lock()


_displays: list[_Display] = []


def _open_displays() -> list[_Display]:
    """The device platform's display, which MuJoCo chooses (`MUJOCO_EGL_DEVICE_ID`), and the surfaceless one, where it is."""
    if _displays:
        return _displays
    if mujoco_egl.EGL_DISPLAY is None:
        mujoco_egl.EGL_DISPLAY = mujoco_egl.create_initialized_egl_device_display()
        atexit.register(mujoco_egl._terminate_display)
    if mujoco_egl.EGL_DISPLAY == egl.EGL_NO_DISPLAY:
        mujoco_egl.EGL_DISPLAY = None
        raise ImportError("no EGL device has a display")
    _displays.append(_Display(mujoco_egl.EGL_DISPLAY))
    if b"MESA" in (egl.eglQueryString(mujoco_egl.EGL_DISPLAY, egl.EGL_VENDOR) or b"").upper():
        second = _surfaceless()
        if second is not None:
            _displays.append(_Display(second))
            atexit.register(egl.eglTerminate, second)
    return _displays


def _surfaceless() -> Any:
    """Mesa's surfaceless display, or None where there is none."""
    try:
        display = egl.eglGetPlatformDisplayEXT(_PLATFORM_SURFACELESS_MESA, None, None)
        return display if egl.eglInitialize(display, None, None) == egl.EGL_TRUE else None
    except error.GLError:
        return None


class EGLContext:
    """An OpenGL context without a surface.

    Args:
        slot: number of the render thread; threads spread over the displays.

    Attributes:
        lock: held while drawing, shared by the contexts of one display.

    Raises:
        ImportError, RuntimeError: EGL cannot be used here, and why.
    """

    def __init__(self, slot: int) -> None:
        displays = _open_displays()
        display = displays[slot % len(displays)]
        self._display, self.lock = display.handle, display.lock
        configs, found = (egl.EGLConfig * 1)(), ctypes.c_long()
        egl.eglChooseConfig(self._display, mujoco_egl.EGL_ATTRIBUTES, configs, 1, found)
        if found.value < 1:
            raise RuntimeError("EGL has no framebuffer configuration with 8-bit colours and 24-bit depth")
        egl.eglBindAPI(egl.EGL_OPENGL_API)
        self._context: Any = egl.eglCreateContext(self._display, configs[0], egl.EGL_NO_CONTEXT, None)
        if not self._context:
            raise MissingDependencyError("EGL cannot create an OpenGL context: `apt-get install libgl1-mesa-dri`")

    def make_current(self) -> None:
        """Bind the context to the calling thread."""
        egl.eglMakeCurrent(self._display, egl.EGL_NO_SURFACE, egl.EGL_NO_SURFACE, self._context)

    def free(self) -> None:
        """Destroy the context; safe to call twice."""
        if self._context:
            egl.eglMakeCurrent(self._display, egl.EGL_NO_SURFACE, egl.EGL_NO_SURFACE, egl.EGL_NO_CONTEXT)
            egl.eglDestroyContext(self._display, self._context)
            egl.eglReleaseThread()
            self._context = None
