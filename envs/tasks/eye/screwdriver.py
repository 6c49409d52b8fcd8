"""ScrewdriverReorient: lay the screwdriver the way the board tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from envs.tasks.eye.pickplace import Job, PickPlace


@dataclass
class ScrewdriverReorient(PickPlace):
    """Pick up the screwdriver, find the board, and lay it along the board's mark.

    Task: screwdriver and board lie on an arc of 200 degrees, mostly out of view at first, each turned its own way. After
    EyeRobot's screwdriver reorientation (arXiv:2506.10968).

    Observations: the foveal pyramid "eye_0" (17.3 degrees), "eye_1" (62.3), "eye_2" (116.1): (40, 40, 3) uint8; "joints" (7,)
    rad; "joint_velocity" (7,) rad/s; "tool" (3,) m; "opening" (1,) of the gripper, 0 to 1; "gaze" (2,) rad; "gaze_velocity"
    (2,) rad/s; "explored" (2,) rad; "target" (68,) embedding of the instruction.

    Action: "eye" (2,) rates, 1 is 150 degrees per second; "arm" (4,): 3 cm outwards, left along the arc and up, 0.12 rad of
    turn, or with control="joint" (7,), 1 is 0.1 rad; "gripper" (1,), 1 open, -1 closed.

    Reward: 0.3 (1 - tanh(tool to screwdriver / 0.1 m)) + 1 - tanh(screwdriver to board / 0.2 m), less 0.01 times the mean
    squared action.

    Randomised: where screwdriver, board and distractors are and how they are turned, first gaze, joints.

    Success: the screwdriver lies on the board within 15 degrees of the mark, either way round, let go and at rest. Nothing ends
    the episode but its time limit of 20 s.
    """

    needs: ClassVar[Mapping[str, tuple[str, bool]]] = {
        "screwdriver": ("props/screwdriver.xml", True), "board": ("places/board.xml", False),
    }  # fmt: skip
    phrases: ClassVar[Mapping[str, str]] = {"screwdriver": "the yellow screwdriver", "board": "the board"}
    job: ClassVar[Job] = Job(
        "lay the yellow screwdriver along the mark on the board",
        "screwdriver",
        "board",
        (-0.04, 0, 0.014),
        0.032,
        0.02,
        (0.03, 0.03, 0.012),
        drop=0.006,
    )
