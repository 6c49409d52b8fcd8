"""EGL contexts of our own, so that render threads do not share a driver's screen.

Mesa's software renderer keeps a rasteriser, caches and fences for each display, and two contexts of one display that draw at
the same time crash it now and then (seen on Mesa 22.3: a segmentation fault within minutes). Every EGL platform has a display
of its own, so the first render thread draws on the device platform's and the second on the surfaceless one's. Contexts of
one display take turns, through `lock`; on a GPU, one context keeps the device busy anyway.

A context that is freed is kept for the next one on its display: a new one compiles its shaders anew, which takes Mesa a
quarter of a second, more than everything else that an environment needs.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import threading
from typing import Any

from mujoco import egl as mujoco_egl  # pyright: ignore[reportAttributeAccessIssue]  (its stub is left out where no display is)
from mujoco.egl import egl_ext as egl
from OpenGL import error

from assets.errors import MissingDependencyError

_PLATFORM_SURFACELESS_MESA = 0x31DD  # EGL_MESA_platform_surfaceless
# Contexts of a display that are kept when they are freed.
SPARE = 4


class _Display:
    """An initialised EGL display, the lock of its contexts, and those that nobody has now."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.lock = threading.Lock()
        self.spare: list[Any] = []


_displays: list[_Display] = []


def _forget_spare() -> None:
    """A forked process makes its own: what a driver keeps for a context does not survive in two processes."""
    for display in _displays:
        display.spare.clear()


os.register_at_fork(after_in_child=_forget_spare)


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
        self._display = displays[slot % len(displays)]
        self.lock = self._display.lock
        self._context = self._take()

    def _take(self) -> Any:
        try:
            return self._display.spare.pop()
        except IndexError:
            return self._create()

    def _create(self) -> Any:
        display, configs, found = self._display.handle, (egl.EGLConfig * 1)(), ctypes.c_long()
        egl.eglChooseConfig(display, mujoco_egl.EGL_ATTRIBUTES, configs, 1, found)
        if found.value < 1:
            raise RuntimeError("EGL has no framebuffer configuration with 8-bit colours and 24-bit depth")
        egl.eglBindAPI(egl.EGL_OPENGL_API)
        context = egl.eglCreateContext(display, configs[0], egl.EGL_NO_CONTEXT, None)
        if not context:
            raise MissingDependencyError("EGL cannot create an OpenGL context: `apt-get install libgl1-mesa-dri`")
        return context

    def make_current(self) -> None:
        """Bind the context to the calling thread."""
        self._bind(self._context)

    def free(self) -> None:
        """Give the context back, to be kept or destroyed; safe to call twice."""
        if self._context:
            self._bind(egl.EGL_NO_CONTEXT)
            if len(self._display.spare) < SPARE:
                self._display.spare.append(self._context)
            else:
                egl.eglDestroyContext(self._display.handle, self._context)
            egl.eglReleaseThread()
            self._context = None

    def _bind(self, context: Any) -> None:
        egl.eglBindAPI(egl.EGL_OPENGL_API)  # which every thread has its own of
        egl.eglMakeCurrent(self._display.handle, egl.EGL_NO_SURFACE, egl.EGL_NO_SURFACE, context)
