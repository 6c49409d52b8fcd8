"""TowelBucket: put the towel into the bucket."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.streams import Draw
from envs.tasks.eye.arc import on_arc
from envs.tasks.eye.pickplace import Job, PickPlace

# Degrees beyond the widest level's edge at which nothing of a thing is in view.
MARGIN = 8.0


@dataclass
class TowelBucket(PickPlace):
    """Pick up the towel, find the bucket, and drop the towel into it.

    Task: towel and bucket are on an arc of 200 degrees, neither in view at first: the eye begins where its widest level shows
    neither, in the rare case that there is no such direction as far from both as it can be. The towel is a soft body's
    stand-in: a fold with four sprung flaps that droop when it is lifted; it is no cloth. After EyeRobot's towel task
    (arXiv:2506.10968).

    Observations: the foveal pyramid "eye_0" (17.3 degrees), "eye_1" (62.3), "eye_2" (116.1): (40, 40, 3) uint8; "joints" (7,)
    rad; "joint_velocity" (7,) rad/s; "tool" (3,) m; "opening" (1,) of the gripper, 0 to 1; "gaze" (2,) rad; "gaze_velocity"
    (2,) rad/s; "explored" (2,) rad; "target" (68,) embedding of the instruction.

    Action: "eye" (2,) rates, 1 is 150 degrees per second; "arm" (4,): 3 cm outwards, left along the arc and up, 0.12 rad of
    turn, or with control="joint" (7,), 1 is 0.1 rad; "gripper" (1,), 1 open, -1 closed.

    Reward: 0.3 (1 - tanh(tool to towel / 0.1 m)) + 1 - tanh(towel to bucket / 0.2 m), less 0.01 times the mean squared action.

    Randomised: where towel, bucket and distractors are and how they are turned, first gaze, joints.

    Success: the towel is in the bucket, let go and at rest. Nothing ends the episode but its time limit of 20 s.
    """

    needs: ClassVar[Mapping[str, tuple[str, bool]]] = {
        "towel": ("places/soft_towel.xml", True), "bucket": ("props/bucket.xml", False),
    }  # fmt: skip
    phrases: ClassVar[Mapping[str, str]] = {"towel": "the cyan towel", "bucket": "the orange bucket"}
    # The fingers stay above the bucket's rim.
    job: ClassVar[Job] = Job(
        "put the cyan towel into the orange bucket",
        "towel",
        "bucket",
        (0, 0, 0.032),
        0.028,
        0.05,
        (0.06, 0.06, 0.06),
        drop=0.11,
        aligned=False,
    )

    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """As in every panoramic task, but for the first gaze."""
        start = super().sample(draw)
        away = on_arc(start["radius"], start["azimuth"])[:, : len(self.needs)] - np.array(self.stand)
        things, clear = np.arctan2(away[..., 1], away[..., 0]), np.radians(max(self.fovs) / 2 + MARGIN)
        start["gaze"][:, 0] = unseen(things, draw.uniform(0, 1), clear, np.radians(self.eye.azimuth))
        return start


def unseen(things: NDArray[np.float64], chosen: NDArray[np.float64], away: float, limit: float) -> NDArray[np.float64]:
    """Azimuths, one a simulation, that are at least so far from all things; the farthest where none is. (N,), rad.

    Args:
        things: (N, K) azimuths, rad.
        chosen: (N,) in [0, 1): which of the azimuths.
        away: least distance from each thing, rad.
        limit: the azimuths are within +- it, rad.
    """
    around = np.linspace(-limit, limit, 1041)
    nearest = np.abs(around - things[..., None]).min(axis=1)  # (N, 1041)
    fit = nearest >= np.minimum(away, nearest.max(axis=1, keepdims=True))
    rank = np.floor(chosen * fit.sum(axis=1)).astype(int) + 1
    return around[np.argmax(fit.cumsum(axis=1) == rank[:, None], axis=1)]
