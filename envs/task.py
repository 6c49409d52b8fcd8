"""A task: one skill, and all that is special about it.

Physics enters by four doors: `build` makes the model, `sample` and `place` make a start, `advance` moves what moves by itself
once per control step, `state` reads named quantities. Everything after that (what the agent may see, success, failure,
reward, oracle) is a pure function of that state, so it is tested with plain arrays and recomputed from recordings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from envs.actions import Part
from envs.physics import Ids, Physics
from envs.render import View
from envs.scene import Scene
from envs.streams import Draw
from rewards.base import WeightedSum

State = Mapping[str, NDArray[Any]]


class Task(ABC):
    """Base of all tasks; a subclass is a dataclass whose fields are the task's options.

    Class attributes:
        control_dt: time between two actions, seconds.
        timestep: physics step, seconds; `control_dt` is a whole multiple of it.
        render_camera: camera of `render()` where none is asked for.
    """

    control_dt: ClassVar[float] = 0.05
    timestep: ClassVar[float] = 1 / 240
    render_camera: ClassVar[str] = "front"

    @abstractmethod
    def build(self, timestep: float) -> Scene:
        """A fresh scene with everything attached; `timestep` is the physics step, seconds."""

    @abstractmethod
    def parts(self) -> Sequence[Part]:
        """What the agent moves, in the order of the flat action."""

    @abstractmethod
    def views(self, image_size: int | None) -> Sequence[View]:
        """The cameras an agent may observe; `image_size` pixels a side, or the task's own choice."""

    @abstractmethod
    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """Draw n starts: named quantities, (n, ...). Any of them can be set by `reset(options=...)`."""

    @abstractmethod
    def place(self, physics: Physics, ids: Ids, start: State) -> None:
        """Write starts into simulations `ids`; the caller resets before and calls `forward` after."""

    def advance(self, physics: Physics, dt: float) -> None:  # noqa: B027  optional: most tasks have nothing to do here
        """Once per control step of `dt` seconds: what moves by itself, and what the episode must remember."""

    @abstractmethod
    def state(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """Named quantities, SI units, world frame; (N, ...)."""

    def sights(self, physics: Physics) -> dict[str, NDArray[np.float64]]:
        """Where all that could be asked for is: phrase -> (N, 2) azimuth and elevation from the eye, rad, NaN if absent."""
        del physics
        return {}

    def visible(self, physics: Physics) -> dict[str, NDArray[np.bool_]]:
        """Which of `sights` nothing hides from the eye: phrase -> (N,); empty where nobody looks it up."""
        del physics
        return {}

    @abstractmethod
    def proprio(self) -> dict[str, spaces.Box]:
        """The part of the state that the agent feels without a camera; name -> space."""

    @abstractmethod
    def instruction(self, state: State) -> list[str]:
        """What to do, a sentence for each simulation."""

    @abstractmethod
    def success(self, state: State) -> NDArray[np.bool_]:
        """(N,) done; reported, and does not end the episode."""

    def failure(self, state: State) -> NDArray[np.bool_]:
        """(N,) cannot be saved any more; ends the episode."""
        return np.zeros(len(next(iter(state.values()))), bool)

    @abstractmethod
    def reward(self) -> WeightedSum:
        """The default reward."""

    @abstractmethod
    def oracle(self, state: State) -> NDArray[np.float32]:
        """(N, A) action of a scripted expert that sees the state: proof that the task can be done."""


def box(size: int, limit: float = 10.0) -> spaces.Box:
    """A float32 vector space, each entry within +- `limit`; what the agent feels is cut to it.

    The default holds joint angles (rad), positions on a table (m) and velocities of an arm (rad/s) with room to spare.
    """
    return spaces.Box(-limit, limit, (size,), np.float32)


def climb(tier: NDArray[np.float64], reached: Sequence[NDArray[np.bool_]]) -> None:
    """Raise how far a job has come to the highest of its tiers that is reached now; it never falls.

    Args:
        tier: (N, 1) highest tier so far, changed in place; 0 for none.
        reached: (N,) each, from the first tier to the last.
    """
    for number, there in enumerate(reached, start=1):
        np.maximum(tier[:, 0], number * there, out=tier[:, 0])
