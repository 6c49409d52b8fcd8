"""PosterSearch: EyeSearch with a poster in the colour of what is searched, to see which rewards fall for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from assets.errors import UnknownNameError
from envs.eye import direction_to
from envs.physics import Ids, Physics
from envs.scene import Scene
from envs.streams import Draw
from envs.task import State, box
from envs.tasks.eye.arc import on_arc
from envs.tasks.eye.search import EyeSearch
from envs.upright import upright
from perception.text import COLOURS


def board(colour: str, side: float) -> mujoco.MjSpec:
    """A square board of one colour that faces the origin of the arc; `side` in metres."""
    spec = mujoco.MjSpec()
    root = spec.worldbody.add_body(name="root")
    root.add_geom(
        type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.005, side / 2, side / 2], rgba=[*COLOURS[colour], 1], contype=0, conaffinity=0
    )
    return spec


@dataclass
class PosterSearch(EyeSearch):
    """EyeSearch for one thing, while a poster in the thing's colour hangs over the arc.

    It is for measuring how a reward is exploited, and is registered under no id. As EyeSearch, but: "bearings" (4,) tells the
    directions of thing and poster, azimuth and elevation of each, rad, so that an agent needs no eyes to learn what pays. The
    poster hangs anywhere on the arc, at least 45 degrees from the thing.

    Args:
        thing: name of the prop that is searched.
        side: of the poster, m; 0 hangs none.
        height: of its middle over the table, m.
    """

    hung_at: ClassVar[float] = 0.85
    apart: ClassVar[float] = np.radians(45.0)

    thing: str = "mug"
    side: float = 0.25
    height: float = 0.35

    def __post_init__(self) -> None:
        super().__post_init__()
        self._target = next((k for k, prop in enumerate(self.props) if prop.name == self.thing), -1)
        if self._target < 0:
            raise UnknownNameError("prop", self.thing, [prop.name for prop in self.props])

    def build(self, timestep: float) -> Scene:
        """EyeSearch's scene and the poster."""
        scene = super().build(timestep)
        scene.attach(board(self.props[self._target].colour, max(self.side, 1e-3)), "poster", joint="mocap")
        return scene

    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """As EyeSearch, with the thing as the target; and where the poster hangs, azimuth, rad."""
        start = super().sample(draw)
        objects = start["objects"]
        # Where the thing was drawn as a distractor, it changes places with the target.
        objects[:, 1:] = np.where(objects[:, 1:] == self._target, objects[:, :1], objects[:, 1:])
        objects[:, 0] = self._target
        away = draw.uniform(self.apart, self.arc - self.apart, (1,))[:, 0]
        start["poster"] = (start["azimuth"][:, 0] + self.arc / 2 + away) % self.arc - self.arc / 2
        return start

    def place(self, physics: Physics, ids: Ids, start: State) -> None:
        """As EyeSearch, and hang the poster."""
        super().place(physics, ids, start)
        azimuth = np.asarray(start["poster"])
        at = on_arc(np.full(azimuth.shape, self.hung_at), azimuth)
        at[:, 2] = self.height if self.side else -2
        physics.mocap_pos("poster/root")[ids], physics.mocap_quat("poster/root")[ids] = at, upright(azimuth)

    def state(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """As EyeSearch, and the directions of thing and poster (rad)."""
        state = super().state(physics)
        poster = direction_to(physics.mocap_pos("poster/root"), self.eye.centre(physics))
        return {**state, "bearings": np.concatenate([state["target_direction"], poster], axis=1)}

    def proprio(self) -> dict[str, spaces.Box]:
        """As EyeSearch, and the bearings."""
        return {**super().proprio(), "bearings": box(4)}
