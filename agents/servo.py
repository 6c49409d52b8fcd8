"""A policy without learning: turn the eye to the box that perception found, and search while there is none."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from agents.base import Observation
from assets.errors import InvalidValueError


class GazeServo:
    """Turns an eye to what `envs.perceive` says where the instructed thing is.

    A box's middle at the share s of the picture's width lies atan((1 - 2 s) tan(fov / 2)) to the left of the gaze (pinhole). It
    was seen `age` seconds ago, and the eye has turned since; how far is not told, so that only fresh boxes are followed.

    Args:
        fov: of the camera that perception looks through, degrees.
        reach: the farthest turn in one control step, degrees; `gaze_reach` of the environment.
        search_at: elevation of the gaze while searching, degrees.
        sides: how far to either side is searched, degrees.
        fresh: seconds after which a box is old.

    Raises:
        InvalidValueError: an angle that is not above 0.
    """

    def __init__(
        self, fov: float = 62.3, reach: float = 10.0, search_at: float = -20.0, sides: float = 100.0, fresh: float = 0.05
    ) -> None:
        if not (0 < fov < 180 and reach > 0 and sides > 0):
            raise InvalidValueError(f"fov, reach and sides must be above 0 degrees, got {fov}, {reach} and {sides}")
        self._slope = float(np.tan(np.radians(fov) / 2))
        self._reach, self._search_at, self._sides = np.radians((reach, search_at, sides))
        self._fresh = fresh

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """Rates of azimuth and elevation, 1 is `reach` a step. (N, 2) in [-1, 1].

        Args:
            obs: "box" (N, 4), "found" and "age" (N, 1), "gaze" and "gaze_velocity" (N, 2).
            deterministic: nothing is drawn in any case.
        """
        del deterministic
        middle = (obs["box"][:, :2] + obs["box"][:, 2:]) / 2
        follow = np.arctan((1 - 2 * middle) * self._slope)
        known = (obs["found"][:, 0] > 0.5) & (obs["age"][:, 0] <= self._fresh)
        turn = np.where(known[:, None], follow, self._search(obs))
        return np.clip(turn / self._reach, -1, 1).astype(np.float32)

    def _search(self, obs: Observation) -> NDArray[np.float64]:
        """On in the direction in which the eye turns, back at the ends, at one height."""
        azimuth, speed = obs["gaze"][:, 0], obs["gaze_velocity"][:, 0]
        # From rest, first to the nearer end.
        way = np.where(np.abs(speed) > 1e-3, np.sign(speed), np.where(azimuth >= 0, 1.0, -1.0))
        way = np.where(azimuth > self._sides, -1.0, np.where(azimuth < -self._sides, 1.0, way))
        return np.stack([way * self._reach, self._search_at - obs["gaze"][:, 1]], axis=1)
