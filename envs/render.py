"""Drawing N simulations on all cores.

Each render thread owns one OpenGL context, one MuJoCo render context, one scene and one `MjData`; it draws the simulations
i, i + T, i + 2T, ... A view is drawn once, and rgb and depth come out of the same pass. OpenGL calls release the GIL, so T
threads are nearly T times as fast.
"""

from __future__ import annotations

import atexit
import copy
import os
import queue
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

import cv2
import mujoco
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from envs import gl
from envs.physics import Ids, Physics

MODALITIES = ("rgb", "depth", "segmentation")

# Geom groups: 0-2 are seen by everybody; an eye's own housing is in 4, which only outside cameras see.
HOUSING_GROUP = 4


@dataclass(frozen=True)
class Profile:
    """How much beauty a frame gets; on software OpenGL this, not the resolution, decides the speed.

    Attributes:
        name: what results are labelled with.
        samples: multisampling per pixel; 0 is off.
        shadows, reflections: drawn or not.
        slices, stacks: tessellation of curved primitives.
        shadow_size: shadow map, pixels.
    """

    name: str
    samples: int
    shadows: bool
    reflections: bool
    slices: int
    stacks: int
    shadow_size: int = 1024

    def __post_init__(self) -> None:
        for field, low in (("samples", 0), ("slices", 3), ("stacks", 2), ("shadow_size", 1)):
            value = getattr(self, field)
            if value < low:
                raise InvalidValueError(f"render profile {self.name!r}: {field} must be >= {low}, got {value}")


PROFILES = {
    "fast": Profile("fast", samples=0, shadows=False, reflections=False, slices=12, stacks=6),
    "standard": Profile("standard", samples=4, shadows=False, reflections=False, slices=28, stacks=16),
    "quality": Profile("quality", samples=8, shadows=True, reflections=True, slices=48, stacks=32, shadow_size=4096),
}


def profile(which: str | Mapping[str, Any] | Profile) -> Profile:
    """A profile by name, or made from its fields.

    Raises:
        UnknownNameError: no such profile or field.
    """
    if isinstance(which, Profile):
        return which
    if isinstance(which, str):
        if which not in PROFILES:
            raise UnknownNameError("render profile", which, PROFILES)
        return PROFILES[which]
    known = [f.name for f in fields(Profile)]
    for key in which:
        if key not in known:
            raise UnknownNameError("render profile field", key, known)
    return Profile(**{**asdict(PROFILES["fast"]), "name": "custom", **which})


class Lens(Protocol):
    """Where in a square source render each pixel of an image comes from; -2 is nowhere, and black."""

    @property
    def source(self) -> int:
        """Side of the source render, pixels."""
        ...

    @property
    def map_u(self) -> NDArray[np.float32]:
        """Column in the source, (H, W)."""
        ...

    @property
    def map_v(self) -> NDArray[np.float32]:
        """Row in the source, (H, W)."""
        ...


def _bend(image: NDArray[Any], lens: Lens, nothing: float = 0) -> NDArray[Any]:
    """Resample a source render through a lens; only colours are interpolated."""
    how = cv2.INTER_LINEAR if image.dtype == np.uint8 else cv2.INTER_NEAREST
    source = image.astype(np.float32) if image.dtype == np.int32 else np.ascontiguousarray(image)
    bent = cv2.remap(source, lens.map_u, lens.map_v, how, borderMode=cv2.BORDER_CONSTANT, borderValue=nothing)
    return bent.astype(image.dtype)


@dataclass(frozen=True)
class View:
    """One camera to draw.

    Attributes:
        name: key of the result.
        camera: camera name in the model.
        width, height: pixels.
        modalities: of "rgb" (H, W, 3) uint8, "depth" (H, W) float32 metres along the viewing axis, "segmentation"
            (H, W) int32 geom ids, -1 where nothing is.
        inside_eye: leave out the housing the camera sits in.
        lens: bends the drawn pinhole image, or None.
    """

    name: str
    camera: str
    width: int
    height: int
    modalities: tuple[str, ...] = ("rgb",)
    inside_eye: bool = False
    lens: Lens | None = None

    def __post_init__(self) -> None:
        if self.width < 1 or self.height < 1:
            raise InvalidValueError(f"view {self.name!r}: width and height must be >= 1, got {self.width} x {self.height}")
        for modality in self.modalities:
            if modality not in MODALITIES:
                raise UnknownNameError("modality", modality, MODALITIES)

    @property
    def drawn_size(self) -> tuple[int, int]:
        """Width and height that OpenGL draws, pixels; larger than the image where a lens resamples it."""
        return (self.lens.source, self.lens.source) if self.lens else (self.width, self.height)

    def empty(self, modality: str, n: int) -> NDArray[Any]:
        """An array for n images of one modality."""
        shape = (n, self.height, self.width)
        if modality == "rgb":
            return np.empty((*shape, 3), np.uint8)
        return np.empty(shape, np.float32 if modality == "depth" else np.int32)


def _metres(zbuffer: NDArray[np.float32], near: float, far: float) -> NDArray[np.float32]:
    """Distance along the viewing axis from a reversed, hyperbolic depth buffer (1 at near, 0 at far)."""
    return (near * far / (near + zbuffer.astype(np.float64) * (far - near))).astype(np.float32)


class _Painter:
    """What one render thread owns. Every method runs in that thread."""

    def __init__(self, physics: Physics, look: Profile, width: int, height: int, slot: int) -> None:
        self._physics = physics
        model = copy.copy(physics.model)
        model.vis.quality.offsamples = look.samples
        model.vis.quality.numslices = look.slices
        model.vis.quality.numstacks = look.stacks
        model.vis.quality.shadowsize = look.shadow_size
        model.vis.global_.offwidth, model.vis.global_.offheight = width, height
        self._model = model
        self._data = mujoco.MjData(model)
        self._gl = gl.create_context(width, height, slot)
        with self._gl.lock:
            self._gl.make_current()
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100.value)
            mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
            self.description = gl.describe()
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(model, maxgeom=model.ngeom + model.nsite + 1000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = look.shadows
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = look.reflections
        self._outside, self._inside = mujoco.MjvOption(), mujoco.MjvOption()
        self._outside.geomgroup[HOUSING_GROUP] = 1
        for option in (self._outside, self._inside):
            option.sitegroup[:] = 0
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        extent = model.stat.extent
        self._near, self._far = model.vis.map.znear * extent, model.vis.map.zfar * extent

    def draw(self, views: Sequence[View], sims: Ids, rows: Ids, out: dict[tuple[str, str], NDArray[Any]]) -> None:
        """Draw simulations `sims` into rows `rows` of the result arrays."""
        with self._gl.lock:
            self._gl.make_current()
            self._draw(views, sims, rows, out)

    def _draw(self, views: Sequence[View], sims: Ids, rows: Ids, out: dict[tuple[str, str], NDArray[Any]]) -> None:
        for sim, row in zip(sims, rows, strict=True):
            self._load(sim)
            shown: bool | None = None
            for view in views:
                self._camera.fixedcamid = self._physics.id("camera", view.camera)
                if shown is not view.inside_eye:
                    self._update(self._inside if view.inside_eye else self._outside)
                    shown = view.inside_eye
                else:
                    mujoco.mjv_updateCamera(self._model, self._data, self._camera, self._scene)
                self._paint(view, row, out)

    def _load(self, sim: int) -> None:
        for name, values in self._physics.fields.items():
            getattr(self._model, name)[...] = values[sim]
        state, kind = self._physics.batch.state[sim], mujoco.mjtState.mjSTATE_INTEGRATION
        mujoco.mj_setState(self._model, self._data, state, kind.value)
        mujoco.mj_kinematics(self._model, self._data)
        mujoco.mj_comPos(self._model, self._data)
        if self._model.nflex:
            mujoco.mj_flex(self._model, self._data)
        mujoco.mj_camlight(self._model, self._data)

    def _update(self, option: mujoco.MjvOption) -> None:
        everything = mujoco.mjtCatBit.mjCAT_ALL.value
        mujoco.mjv_updateScene(self._model, self._data, option, None, self._camera, everything, self._scene)

    def _paint(self, view: View, row: int, out: dict[tuple[str, str], NDArray[Any]]) -> None:
        width, height = view.drawn_size
        rect = mujoco.MjrRect(0, 0, width, height)
        rgb, depth = out.get((view.name, "rgb")), out.get((view.name, "depth"))
        if rgb is not None or depth is not None:
            pixels = None if rgb is None else np.empty((height, width, 3), np.uint8)
            zbuffer = None if depth is None else np.empty((height, width), np.float32)
            mujoco.mjr_render(rect, self._scene, self._context)
            mujoco.mjr_readPixels(pixels, zbuffer, rect, self._context)
            if rgb is not None and pixels is not None:
                rgb[row] = _bend(pixels[::-1], view.lens) if view.lens else pixels[::-1]
            if depth is not None and zbuffer is not None:
                metres = _metres(zbuffer[::-1], self._near, self._far)
                depth[row] = _bend(metres, view.lens) if view.lens else metres
        if (view.name, "segmentation") in out:
            geoms = self._segment(rect)
            out[view.name, "segmentation"][row] = _bend(geoms, view.lens, -1) if view.lens else geoms

    def _segment(self, rect: mujoco.MjrRect) -> NDArray[np.int32]:
        """Geom ids, -1 where nothing is. Shape (height, width)."""
        flags, pixels = self._scene.flags, np.empty((rect.height, rect.width, 3), np.uint8)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = True
        mujoco.mjr_render(rect, self._scene, self._context)
        mujoco.mjr_readPixels(pixels, None, rect, self._context)
        flags[mujoco.mjtRndFlag.mjRND_SEGMENT] = flags[mujoco.mjtRndFlag.mjRND_IDCOLOR] = False
        geom_of = np.full(self._scene.ngeom + 1, -1, np.int32)
        for drawn in self._scene.geoms[: self._scene.ngeom]:
            if drawn.segid >= 0 and drawn.objtype == mujoco.mjtObj.mjOBJ_GEOM:
                geom_of[drawn.segid + 1] = drawn.objid
        packed = pixels[::-1].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        return geom_of[packed]

    def close(self) -> None:
        with self._gl.lock:
            self._gl.make_current()
            self._context.free()
            self._gl.free()


class _Worker:
    """A daemon thread that runs jobs in order; daemon, so that it still answers while the interpreter exits."""

    def __init__(self, name: str) -> None:
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def _loop(self) -> None:
        while (job := self._jobs.get()) is not None:
            work, future = job
            try:
                future.set_result(work())
            except BaseException as error:  # noqa: BLE001  handed to the caller, who raises it
                future.set_exception(error)
            del work, future, job

    def submit(self, work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._jobs.put((work, future))
        return future

    def stop(self) -> None:
        self._jobs.put(None)
        self._thread.join()


def _close(workers: list[_Worker], painters: list[_Painter]) -> None:
    for worker, painter in zip(workers, painters, strict=False):
        worker.submit(painter.close).result()
    for worker in workers:
        worker.stop()
    workers.clear()
    painters.clear()


_open_renderers: weakref.WeakSet[Renderer] = weakref.WeakSet()


def _close_at_exit(renderer: Renderer) -> None:
    """Exit handlers run last in, first out: called with the first context made, so ours come before the display's end."""
    if not _open_renderers:
        atexit.unregister(_close_open)
        atexit.register(_close_open)
    _open_renderers.add(renderer)


def _close_open() -> None:
    for renderer in list(_open_renderers):
        renderer.close()


class Renderer:
    """Draws views of N simulations; contexts are made on the first draw and freed by `close`.

    Args:
        physics: what to draw.
        look: render profile.
        width, height: the largest view, pixels.
        num_threads: render threads; 0 takes all cores, but never more than simulations.

    Attributes:
        draws: images drawn so far.
    """

    def __init__(self, physics: Physics, look: Profile, width: int, height: int, num_threads: int = 0) -> None:
        self._physics, self._look, self._size = physics, look, (width, height)
        wanted = num_threads or len(os.sched_getaffinity(0))
        self._num_threads = max(1, min(wanted, physics.num_sims))
        self._workers: list[_Worker] = []
        self._painters: list[_Painter] = []
        # At exit `_close_open` does it, because by the turn of finalizers the display is gone already.
        weakref.finalize(self, _close, self._workers, self._painters).atexit = False
        self.draws = 0

    @property
    def is_open(self) -> bool:
        """Whether contexts exist."""
        return bool(self._painters)

    def _open(self) -> None:
        physics, look, size = self._physics, self._look, self._size
        self._workers.extend(_Worker(f"render-{i}") for i in range(self._num_threads))
        try:
            # One after the other: drivers differ in whether displays may be initialised concurrently.
            for slot, worker in enumerate(self._workers):
                self._painters.append(worker.submit(lambda k=slot: _Painter(physics, look, *size, k)).result())
        except BaseException:
            _close(self._workers, self._painters)
            raise
        _close_at_exit(self)

    def draw(self, views: Sequence[View], ids: Ids | None = None) -> dict[tuple[str, str], NDArray[Any]]:
        """Draw every view of the chosen simulations.

        Returns:
            (view name, modality) -> (n, H, W[, 3]).
        """
        if not self.is_open:
            self._open()
        sims = self._physics.all if ids is None else ids
        out = {(view.name, m): view.empty(m, len(sims)) for view in views for m in view.modalities}
        rows = np.arange(len(sims))
        step = self._num_threads
        jobs = []
        for k, (worker, painter) in enumerate(zip(self._workers, self._painters, strict=True)):
            if k < len(sims):
                jobs.append(worker.submit(_job(painter, views, sims[k::step], rows[k::step], out)))
        for job in jobs:
            job.result()
        self.draws += len(sims) * len(views)
        return out

    def describe(self) -> dict[str, Any]:
        """OpenGL vendor, renderer and version, render threads and profile."""
        if not self.is_open:
            self._open()
        return {**self._painters[0].description, "threads": self._num_threads, "profile": self._look.name}

    def close(self) -> None:
        """Free the contexts; safe to call twice."""
        _open_renderers.discard(self)
        _close(self._workers, self._painters)


def _job(
    painter: _Painter, views: Sequence[View], sims: Ids, rows: Ids, out: dict[tuple[str, str], NDArray[Any]]
) -> Callable[[], None]:
    return lambda: painter.draw(views, sims, rows, out)
