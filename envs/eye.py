"""The eye: an actuated gimbal with a foveal pyramid of cameras, so that looking is acting.

Angles are (azimuth, elevation) in radians in the eye's own frame: zero looks along +x, azimuth turns left about +z,
elevation looks up. Both axes pass through the optical centre, so the eye rotates without parallax. Index 0 of the pyramid
is the fovea. Geometry and limits follow EyeRobot (arXiv:2506.10968; github.com/kerrj/eyerobot).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import mujoco
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from envs.physics import Ids, Physics
from envs.render import HOUSING_GROUP, Renderer, View
from envs.scene import Scene, load_spec
from envs.streams import Draw
from perception.frame import Fisheye, Frame, Pinhole, pose_of
from perception.sphere import CUBE, cube_axes

# Crops of 320, 1120 and 1920 pixels of EyeRobot's 1920 x 1200 sensor, degrees.
FOVEAL_PYRAMID = (17.3, 62.3, 116.1)
PROJECTIONS = ("pinhole", "fisheye")
# Geom groups that stop a line of sight: all but the eye's own housing.
OUTSIDE = tuple(group for group in range(mujoco.mjNGROUP) if group != HOUSING_GROUP)
# A thing is fixated within this angle, rad, and found when that has lasted so long, s.
FIXATED, HOLD = np.radians(5.0), 0.5


@dataclass(frozen=True)
class Lens:
    """A fisheye crop, resampled from a wide pinhole render.

    Attributes:
        fovy: vertical field of view of the square source render, degrees.
        source: side of the source render, pixels.
        map_u, map_v: (R, R) float32, where in the source each output pixel comes from; -2 is outside the sensor.
    """

    fovy: float
    source: int
    map_u: NDArray[np.float32]
    map_v: NDArray[np.float32]


def fisheye_lens(fov: float, resolution: int, camera: Fisheye | None = None) -> Lens:
    """The lens of one pyramid level: `fov` degrees across, resolution x resolution pixels."""
    camera = camera or Fisheye()
    crop = camera.crop_for(fov)
    rays = camera.crop_rays(crop, resolution)
    slopes = rays[..., :2] / rays[..., 2:]
    reach = float(np.nanmax(np.abs(slopes))) * 1.02
    # As dense at the centre, where a pinhole is at its coarsest, as the fisheye is.
    source = int(np.ceil(2 * reach * camera.f * resolution / crop))
    fovy = float(np.degrees(2 * np.arctan(reach)))
    pixels = Pinhole.from_fovy(fovy, source, source).project(np.nan_to_num(rays, nan=0.0))
    maps = np.where(np.isnan(rays[..., :1]), -2.0, np.nan_to_num(pixels, nan=-2.0)).astype(np.float32)
    return Lens(fovy, source, maps[..., 0].copy(), maps[..., 1].copy())


@dataclass(frozen=True)
class Eye:
    """An eye to be attached to a scene.

    Args:
        name: prefix of its elements, and of its observations "<name>_0" (the fovea), "<name>_1", ...
        pos: where it stands, world frame, metres.
        fovs: field of view across each level of the pyramid, degrees, fovea first.
        resolution: pixels on each side of every level.
        projection: "pinhole", or "fisheye" with EyeRobot's published coefficients.
        max_speed: speed limit of both axes, degrees per second.
        azimuth, elevation: limits, +- degrees.
        encoder_bits: the gaze is read in 2^bits steps a turn, 15 as EyeRobot's motors do; None reads it exactly.
    """

    name: str = "eye"
    pos: tuple[float, float, float] = (0.0, 0.0, 0.2)
    fovs: tuple[float, ...] = FOVEAL_PYRAMID
    resolution: int = 40
    projection: str = "pinhole"
    max_speed: float = 150.0
    azimuth: float = 130.0
    elevation: float = 30.0
    encoder_bits: int | None = None

    def __post_init__(self) -> None:
        if self.projection not in PROJECTIONS:
            raise UnknownNameError("projection", self.projection, PROJECTIONS)
        if not self.fovs or any(not 0 < fov < 180 for fov in self.fovs) or list(self.fovs) != sorted(self.fovs):
            raise InvalidValueError(f"fovs must be degrees inside (0, 180), fovea (smallest) first, got {self.fovs}")
        if self.resolution < 1:
            raise InvalidValueError(f"the eye's resolution must be >= 1 pixel, got {self.resolution}")
        if not self.max_speed > 0:
            raise InvalidValueError(f"the eye's max_speed must be > 0 degrees per second, got {self.max_speed}")
        if not (0 < self.azimuth <= 180 and 0 < self.elevation <= 90):
            raise InvalidValueError(
                f"the eye's limits must be azimuth in (0, 180] and elevation in (0, 90] degrees, got {self.azimuth} and "
                f"{self.elevation}"
            )
        if self.encoder_bits is not None and self.encoder_bits < 1:
            raise InvalidValueError(f"encoder_bits must be >= 1, or None for an exact reading, got {self.encoder_bits}")

    @cached_property
    def lenses(self) -> tuple[Lens | None, ...]:
        """One per level; None where the projection is a plain pinhole."""
        if self.projection == "pinhole":
            return (None,) * len(self.fovs)
        return tuple(fisheye_lens(fov, self.resolution) for fov in self.fovs)

    def attach(self, scene: Scene) -> None:
        """Put the gimbal and its cameras into a scene, and six more, "<name>/front" and so on, that look around and stand."""
        spec = load_spec("eyes/gimbal.xml")
        speed = np.radians(self.max_speed)
        for axis, limit in (("pan", self.azimuth), ("tilt", self.elevation)):
            reach = np.radians(limit)
            spec.joint(axis).range = np.array([-reach, reach])
            actuator = spec.actuator(axis)
            actuator.ctrlrange, actuator.actrange = np.array([-speed, speed]), np.array([-reach, reach])
        mount = spec.body("camera")
        for level, (fov, lens) in enumerate(zip(self.fovs, self.lenses, strict=True)):
            mount.add_camera(name=str(level), fovy=lens.fovy if lens else fov)
        scene.attach(spec, self.name, self.pos)
        for face, angles in CUBE.items():
            _, left, up = cube_axes(*angles)
            scene.spec.worldbody.add_camera(name=f"{self.name}/{face}", pos=list(self.pos), xyaxes=[*(-left), *up], fovy=90)

    @property
    def views(self) -> tuple[View, ...]:
        """The pyramid's views, fovea first."""
        side = self.resolution
        return tuple(
            View(f"{self.name}_{level}", f"{self.name}/{level}", side, side, inside_eye=True, lens=lens)
            for level, lens in enumerate(self.lenses)
        )

    def aim(self, physics: Physics, ids: Ids, gaze: NDArray[np.float64]) -> None:
        """Put the gaze of some simulations somewhere, at rest.

        Args:
            physics: the simulations; call `forward` afterwards.
            ids: which of them, n.
            gaze: azimuth and elevation, radians. Shape (n, 2).
        """
        limits = np.radians([self.azimuth, self.elevation])
        gaze = np.clip(gaze, -limits, limits)
        for k, axis in enumerate(("pan", "tilt")):
            name = f"{self.name}/{axis}"
            physics.qpos(name)[ids] = gaze[:, k : k + 1]
            physics.qvel(name)[ids] = 0
            physics.act(name)[ids] = gaze[:, k : k + 1]

    def gaze(self, physics: Physics) -> NDArray[np.float64]:
        """Azimuth and elevation as they are read, radians. Shape (N, 2)."""
        found = np.concatenate([physics.qpos(f"{self.name}/pan"), physics.qpos(f"{self.name}/tilt")], axis=1)
        if self.encoder_bits is None:
            return found
        step = 2 * np.pi / 2**self.encoder_bits
        return np.round(found / step) * step

    def velocity(self, physics: Physics) -> NDArray[np.float64]:
        """Rate of azimuth and elevation, rad/s. Shape (N, 2)."""
        return np.concatenate([physics.qvel(f"{self.name}/pan"), physics.qvel(f"{self.name}/tilt")], axis=1)

    def centre(self, physics: Physics) -> NDArray[np.float64]:
        """Optical centre, world frame, metres. Shape (N, 3)."""
        return physics.site_xpos(f"{self.name}/lens")

    def ray(self, physics: Physics, sim: int = 0, far: float = 1.5) -> NDArray[np.float64]:
        """Optical centre and the first surface that the gaze meets, world frame, metres. Shape (2, 3).

        Args:
            physics: the simulations.
            sim: which one.
            far: how long the ray is that meets nothing nearer, metres.
        """
        position, rotation = physics.camera_pose(f"{self.name}/0")
        origin, ahead = np.array(position[sim], np.float64), np.array(-rotation[sim][:, 2], np.float64)
        met = physics.ray(sim, origin, ahead, OUTSIDE)
        return np.stack([origin, origin + ahead * min(far, far if met is None else met)])

    def look(self, physics: Physics, renderer: Renderer, level: int = 0, ids: Ids | None = None) -> Frame:
        """Draw one level with rgb, depth and segmentation, and where it was drawn from; for pinhole eyes.

        Raises:
            InvalidValueError: the eye is a fisheye, whose pixels a pinhole frame cannot describe.
        """
        if self.projection != "pinhole":
            raise InvalidValueError("look() returns a pinhole Frame; this eye's projection is 'fisheye'")
        sims = physics.all if ids is None else ids
        view = self.views[level]
        full = View(view.name, view.camera, view.width, view.height, ("rgb", "depth", "segmentation"), True)
        drawn = renderer.draw([full], sims)
        position, rotation = physics.camera_pose(view.camera)
        return Frame(
            drawn[view.name, "rgb"],
            Pinhole.from_fovy(self.fovs[level], view.width, view.height),
            pose_of(position[sims], rotation[sims]),
            drawn[view.name, "depth"],
            drawn[view.name, "segmentation"],
        )


def observed_as(camera: str) -> str:
    """Key of a camera's picture among observations: its name within what it is part of; "arm/wrist" -> "wrist"."""
    return camera.rsplit("/", 1)[-1]


def first_gaze(draw: Draw) -> NDArray[np.float64]:
    """Where an eye looks at first: azimuth +-90, elevation +-15 degrees. (n, 2), rad."""
    return draw.uniform(np.radians([-90, -15]), np.radians([90, 15]), (2,))


def widen(explored: NDArray[np.float64], azimuth: NDArray[np.float64]) -> None:
    """Take in how far eyes have turned: rightmost and leftmost azimuth so far (N, 2), in place, rad."""
    np.minimum(explored[:, 0], azimuth, out=explored[:, 0])
    np.maximum(explored[:, 1], azimuth, out=explored[:, 1])


def direction_to(point: NDArray[np.float64], origin: NDArray[np.float64]) -> NDArray[np.float64]:
    """Azimuth and elevation of a point seen from an origin, radians. Shapes (N, 3), (N, 3) -> (N, 2)."""
    d = point - origin
    return np.stack([np.arctan2(d[:, 1], d[:, 0]), np.arctan2(d[:, 2], np.hypot(d[:, 0], d[:, 1]))], axis=1)


def unit(gaze: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vectors of directions (azimuth, elevation). Shape (N, 2) -> (N, 3)."""
    az, el = gaze[:, 0], gaze[:, 1]
    return np.stack([np.cos(el) * np.cos(az), np.cos(el) * np.sin(az), np.sin(el)], axis=1)


def angle_between(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angle between two directions (azimuth, elevation), radians, exact near 0 and pi. Shape (N, 2) x2 -> (N,)."""
    u, v = unit(a), unit(b)
    return 2 * np.arctan2(np.linalg.norm(u - v, axis=1), np.linalg.norm(u + v, axis=1))


def hide(physics: Physics, geoms: NDArray[np.intp], ids: Ids, visible: NDArray[np.bool_]) -> None:
    """Show or hide geoms per simulation; a hidden geom is not drawn and costs nothing.

    Args:
        physics: the simulations.
        geoms: geom ids, G.
        ids: simulations, n.
        visible: (n, G).
    """
    base = physics.model.geom_rgba[geoms, 3]
    physics.field("geom_rgba")[np.ix_(ids, geoms, np.array([3]))] = np.where(visible, base, 0.0)[..., None]


def geoms_of(model: mujoco.MjModel, prefix: str) -> NDArray[np.intp]:
    """Ids of the geoms of everything attached under a prefix."""
    bodies = [i for i in range(model.nbody) if model.body(i).name.startswith(f"{prefix}/")]
    return np.flatnonzero(np.isin(model.geom_bodyid, bodies))
