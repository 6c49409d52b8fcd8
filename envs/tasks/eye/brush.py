"""BrushHandoff: hand the brush over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from envs.tasks.eye.pickplace import Job, PickPlace


@dataclass
class BrushHandoff(PickPlace):
    """Pick up the brush, find the open hand, and lay the brush into it.

    Task: brush and hand are on an arc of 200 degrees, mostly out of view at first. After EyeRobot's brush hand-off
    (arXiv:2506.10968), with a hand that stands still.

    Observations: the foveal pyramid "eye_0" (17.3 degrees), "eye_1" (62.3), "eye_2" (116.1): (40, 40, 3) uint8; "joints" (7,)
    rad; "joint_velocity" (7,) rad/s; "tool" (3,) m; "opening" (1,) of the gripper, 0 to 1; "gaze" (2,) rad; "gaze_velocity"
    (2,) rad/s; "explored" (2,) rad; "target" (68,) embedding of the instruction.

    Action: "eye" (2,) rates, 1 is 150 degrees per second; "arm" (4,): 3 cm outwards, left along the arc and up, 0.12 rad of
    turn, or with control="joint" (7,), 1 is 0.1 rad; "gripper" (1,), 1 open, -1 closed.

    Reward: 0.3 (1 - tanh(tool to brush / 0.1 m)) + 1 - tanh(brush to palm / 0.2 m), less 0.01 times the mean squared action.

    Randomised: where brush, palm and distractors are and how they are turned, first gaze, joints.

    Success: the brush lies on the palm, let go and at rest. Nothing ends the episode but its time limit of 20 s.
    """

    needs: ClassVar[Mapping[str, tuple[str, bool]]] = {
        "brush": ("props/brush.xml", True), "palm": ("places/palm.xml", False),
    }  # fmt: skip
    phrases: ClassVar[Mapping[str, str]] = {"brush": "the blue brush", "palm": "the open hand"}
    job: ClassVar[Job] = Job(
        "hand over the blue brush", "brush", "palm", (0, 0, 0.038), 0.058, 0.13, (0.035, 0.035, 0.03), drop=0.012, aligned=False
    )
