"""EraserStand: put the eraser into the tray of its stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from envs.tasks.eye.pickplace import Job, PickPlace


@dataclass
class EraserStand(PickPlace):
    """Pick up the eraser, find its stand, and put it into the stand's tray.

    Task: eraser and stand lie on an arc of 200 degrees, mostly out of view at first. After EyeRobot's eraser task
    (arXiv:2506.10968); `perturb` is its variant in which the target moves.

    Observations: the foveal pyramid "eye_0" (17.3 degrees), "eye_1" (62.3), "eye_2" (116.1): (40, 40, 3) uint8; "joints" (7,)
    rad; "joint_velocity" (7,) rad/s; "tool" (3,) m; "opening" (1,) of the gripper, 0 to 1; "gaze" (2,) rad; "gaze_velocity"
    (2,) rad/s; "explored" (2,) rad; "target" (68,) embedding of the instruction.

    Action: "eye" (2,) rates, 1 is 150 degrees per second; "arm" (4,): 3 cm outwards, left along the arc and up, 0.12 rad of
    turn, or with control="joint" (7,), 1 is 0.1 rad; "gripper" (1,), 1 open, -1 closed.

    Reward: 0.3 (1 - tanh(tool to eraser / 0.1 m)) + 1 - tanh(eraser to tray / 0.2 m), less 0.01 times the mean squared action.

    Randomised: where eraser, tray and distractors are and how they are turned, first gaze, joints.

    Success: the eraser lies in the tray, along it, let go and at rest. Nothing ends the episode but its time limit of 20 s.
    """

    needs: ClassVar[Mapping[str, tuple[str, bool]]] = {
        "eraser": ("props/eraser.xml", True), "stand": ("props/stand.xml", False),
    }  # fmt: skip
    phrases: ClassVar[Mapping[str, str]] = {"eraser": "the pink eraser", "stand": "the black stand"}
    # The fingers stay above the tray's walls.
    job: ClassVar[Job] = Job(
        "put the pink eraser into the black stand",
        "eraser",
        "stand",
        (0, 0, 0.014),
        0.049,
        0.088,
        (0.025, 0.02, 0.015),
        drop=0.026,
    )
