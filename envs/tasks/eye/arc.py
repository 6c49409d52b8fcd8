"""What every task on the arc shares: an eye in its middle, things around it, most of them out of sight at any time.

Follows EyeRobot's set-up (arXiv:2506.10968).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from assets import Prop
from assets.errors import InvalidValueError
from envs.eye import FOVEAL_PYRAMID, Eye, direction_to, geoms_of, hide, observed_as, widen
from envs.physics import Ids, Physics
from envs.render import View
from envs.scene import Scene
from envs.streams import Draw
from envs.task import State, Task
from envs.upright import upright

ARENA = "arenas/tabletop_arc.xml"


@dataclass
class ArcTask(Task):
    """Base of the tasks on the arc.

    Args:
        distractors: things on the arc that the task is not about.
        resolution: pixels a side of each level of the eye's pyramid.
        fovs: levels of the pyramid, degrees, fovea first.
        projection: "pinhole" or "fisheye".
        randomise_light: draw the light's strength from 0.6 to 1.2 of its own.
        cameras: names of cameras, such as "front" and "arm/wrist", that are observed instead of the eye's pyramid.
        camera_resolution: pixels a side of their pictures.
        eye_speed: speed limit of the eye, degrees per second: EyeRobot's policies keep to 150, its saccades to 1000.
        eye_elevation: limit of the gaze, +- degrees.
        encoder_bits: see `Eye`.
    """

    control_dt: ClassVar[float] = 1 / 15
    # Where things lie: azimuth +- half of it, at least so far apart, rad; radius, m.
    arc: ClassVar[float]
    separation: ClassVar[float]
    radius: ClassVar[tuple[float, float]]
    # Where the eye stands, m.
    stand: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.2)

    distractors: int = 3
    resolution: int = 40
    fovs: Sequence[float] = FOVEAL_PYRAMID
    projection: str = "pinhole"
    randomise_light: bool = False
    cameras: Sequence[str] = ()
    camera_resolution: int = 80
    eye_speed: float = 150.0
    eye_elevation: float = 30.0
    encoder_bits: int | None = None

    def __post_init__(self) -> None:
        self.eye = Eye(
            pos=self.stand, fovs=tuple(self.fovs), resolution=self.resolution, projection=self.projection,
            max_speed=self.eye_speed, elevation=self.eye_elevation, encoder_bits=self.encoder_bits,
        )  # fmt: skip

    def check_distractors(self, others: int, needed: int) -> None:
        """Make sure that the distractors exist and fit beside `needed` things.

        Raises:
            InvalidValueError: they do not.
        """
        most = min(others, int(self.arc / self.separation) - needed)
        if not 0 <= self.distractors <= most:
            raise InvalidValueError(f"distractors must be between 0 and {most}, got {self.distractors}")

    def attach_props(self, scene: Scene, props: Sequence[Prop]) -> None:
        """Props, out of sight, moved by hand."""
        for prop in props:
            scene.attach(f"props/{prop.name}.xml", prop.name, (0, 0, -2), joint="mocap")

    def views(self, image_size: int | None) -> Sequence[View]:
        """The pyramid, or the cameras instead; another `image_size` resizes every view."""
        if self.cameras:
            side = image_size or self.camera_resolution
            return [View(observed_as(camera), camera, side, side) for camera in self.cameras]
        if image_size is not None:
            return replace(self.eye, resolution=image_size).views
        return self.eye.views

    def azimuths(self, draw: Draw, count: int) -> NDArray[np.float64]:
        """Directions of `count` things, in no order, uniform over all arrangements that keep them apart. (N, count), rad."""
        # Gaps first, then the separations between them.
        free = np.sort(draw.uniform(0, self.arc - (count - 1) * self.separation, (count,)), axis=1)
        azimuth = free + np.arange(count) * self.separation - self.arc / 2
        return np.take_along_axis(azimuth, draw.permutation(count), axis=1)

    def draw_light(self, draw: Draw, start: dict[str, NDArray[Any]]) -> None:
        """The light's strength, where it is random."""
        if self.randomise_light:
            start["light"] = draw.uniform(0.6, 1.2)

    def lay(
        self, physics: Physics, ids: Ids, props: Sequence[Prop], chosen: NDArray[Any], at: NDArray[np.float64],
        yaw: NDArray[np.float64],
    ) -> None:  # fmt: skip
        """Lay chosen props on the arc and hide the others.

        Args:
            physics: the simulations.
            ids: which of them, N.
            props: what there is.
            chosen: (N, K) indices into `props`.
            at: (N, K, 3) where they come to lie, m.
            yaw: (N, K) how they are turned, rad.
        """
        quat = upright(yaw)
        for number, prop in enumerate(props):
            sims, seat = np.nonzero(chosen == number)
            body, geoms = f"{prop.name}/root", geoms_of(physics.model, prop.name)
            physics.mocap_pos(body)[ids] = (0, 0, -2)
            physics.mocap_pos(body)[ids[sims]], physics.mocap_quat(body)[ids[sims]] = at[sims, seat], quat[sims, seat]
            shown = np.any(chosen == number, axis=1)
            hide(physics, geoms, ids, np.repeat(shown[:, None], len(geoms), axis=1))

    def lying(self, physics: Physics, props: Sequence[Prop]) -> dict[str, NDArray[np.float64]]:
        """Directions of props that are moved by hand, from the eye; NaN for those out of sight. Phrase -> (N, 2), rad."""
        found, eye = {}, self.eye.centre(physics)
        for prop in props:
            root = physics.mocap_pos(f"{prop.name}/root")
            direction = direction_to(root + np.array([0, 0, prop.height_m / 2]), eye)
            found[prop.phrase] = np.where(root[:, 2:] < -1, np.nan, direction)
        return found

    def open_eye(self, physics: Physics, ids: Ids, start: State) -> None:
        """Aim the eye as the start says, forget what it saw, and light the scene."""
        self.eye.aim(physics, ids, start["gaze"])
        physics.memory("explored")[ids] = start["gaze"][:, :1]
        if "light" in start:
            physics.field("light_diffuse")[ids] = physics.model.light_diffuse * start["light"][:, None, None]

    def advance(self, physics: Physics, dt: float) -> None:
        """Remember how far the eye has turned."""
        widen(physics.memory("explored"), self.eye.gaze(physics)[:, 0])

    def turn_to_target(self, state: State) -> NDArray[np.float64]:
        """The oracle's gaze: straight to the target. (N, 2) in [-1, 1]."""
        turn = state["target_direction"] - state["gaze"]
        return np.clip(turn / (np.radians(self.eye.max_speed) * self.control_dt), -1, 1)


def on_arc(radius: NDArray[np.float64], azimuth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points on the table, (..., 3), m."""
    return np.stack([radius * np.cos(azimuth), radius * np.sin(azimuth), 0 * radius], axis=-1)
