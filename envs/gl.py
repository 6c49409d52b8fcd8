"""Headless OpenGL: which backend, and a clear sentence when there is none.

Nothing here runs at import. The backend is resolved on the first draw: `MUJOCO_GL` if it names one of ours, else EGL, else
OSMesa.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Protocol

from assets.errors import MissingDependencyError, UnknownNameError

# What Debian and Ubuntu call the libraries.
PACKAGES = {"egl": "libegl1 libgl1-mesa-dri", "osmesa": "libosmesa6"}


class Context(Protocol):
    """An OpenGL context that can be made current in one thread at a time; `lock` is held while it draws."""

    @property
    def lock(self) -> threading.Lock:
        """Held while drawing; contexts that must take turns share it."""
        ...

    def make_current(self) -> None:
        """Draw into this context from now on, in this thread."""
        ...

    def free(self) -> None:
        """Give it back."""
        ...


def _egl(width: int, height: int, slot: int) -> Context:
    from envs.egl import EGLContext

    del width, height  # Drawing goes into framebuffer objects of any size.
    return EGLContext(slot)


# OSMesa's contexts share one screen.
_OSMESA = threading.Lock()


def _osmesa(width: int, height: int, slot: int) -> Context:
    del slot  # Its contexts share nothing that could be separated.
    # mujoco.osmesa answers a missing library with an AttributeError deep inside PyOpenGL, so ask for it first.
    import ctypes.util

    if ctypes.util.find_library("OSMesa") is None:
        raise ImportError("libOSMesa.so was not found")
    from mujoco.osmesa import GLContext

    class OSMesaContext(GLContext):
        lock = _OSMESA

    return OSMesaContext(width, height)


_BACKENDS: dict[str, Callable[[int, int, int], Context]] = {"egl": _egl, "osmesa": _osmesa}


def candidates() -> list[str]:
    """Backends to try, in order.

    Raises:
        UnknownNameError: `MUJOCO_GL` names a backend that cannot draw without a display.
    """
    asked = os.environ.get("MUJOCO_GL", "").strip().lower()
    if asked in ("", "on", "true", "1", "enable", "enabled"):
        return ["egl", "osmesa"]
    if asked not in _BACKENDS:
        raise UnknownNameError("headless backend in MUJOCO_GL", asked, _BACKENDS)
    return [asked]


def create_context(width: int, height: int, slot: int = 0) -> Context:
    """A context for offscreen drawing of up to width x height pixels, current nowhere yet.

    Args:
        width: pixels.
        height: pixels.
        slot: number of the render thread that will use it; threads of different slots share as little as the driver allows.

    Raises:
        MissingDependencyError: no backend works; the sentence names the Debian packages.
    """
    # One software-GL thread per context: simulations are drawn in parallel by threads of our own.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    failures: dict[str, str] = {}
    for name in candidates():
        try:
            return _BACKENDS[name](width, height, slot)
        except (ImportError, RuntimeError, AttributeError, OSError) as error:
            failures[name] = str(error).strip() or type(error).__name__
    told = "; ".join(f"{name}: {why}" for name, why in failures.items())
    packages = " or ".join(f"`apt-get install {PACKAGES[name]}`" for name in failures)
    raise MissingDependencyError(f"no headless OpenGL backend works ({told}). On Debian or Ubuntu: {packages}")


def describe() -> dict[str, Any]:
    """Vendor, renderer and version of the OpenGL in use; needs a current context."""
    from OpenGL import GL

    def read(what: Any) -> str:
        value = GL.glGetString(what)
        return value.decode() if value else "unknown"

    return {"vendor": read(GL.GL_VENDOR), "renderer": read(GL.GL_RENDERER), "version": read(GL.GL_VERSION)}
