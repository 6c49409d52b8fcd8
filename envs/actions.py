"""What an agent can move: named parts of one flat action in [-1, 1].

A part turns its slice of the action into actuator inputs. Scaling to physical units happens here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assets.errors import UnknownNameError
from envs.arm import Arm, damped
from envs.eye import Eye
from envs.physics import Physics


class Part(Protocol):
    """One named slice of the action."""

    @property
    def name(self) -> str:
        """What its slice of the action is called."""
        ...

    @property
    def size(self) -> int:
        """How many numbers it takes."""
        ...

    def apply(self, physics: Physics, action: NDArray[np.float64]) -> None:
        """Write actuator inputs for every simulation from an action (N, size) in [-1, 1]."""
        ...


@dataclass(frozen=True)
class Gaze:
    """Angular velocity of the eye: +1 is `eye.max_speed` degrees per second, (left, up)."""

    eye: Eye

    @property
    def name(self) -> str:
        """The eye's name."""
        return self.eye.name

    @property
    def size(self) -> int:
        """Azimuth and elevation."""
        return 2

    def apply(self, physics: Physics, action: NDArray[np.float64]) -> None:
        """Write the eye's velocity servos."""
        speed = np.radians(self.eye.max_speed)
        for k, axis in enumerate(("pan", "tilt")):
            physics.ctrl[:, physics.id("actuator", f"{self.eye.name}/{axis}")] = action[:, k] * speed


@dataclass(frozen=True)
class JointDelta:
    """Change of the arm's joint set-points: +1 is `step` radians per control step, clipped to the joint ranges."""

    arm: Arm
    step: float = 0.1

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def size(self) -> int:
        """One per joint."""
        return self.arm.dof

    def apply(self, physics: Physics, action: NDArray[np.float64]) -> None:
        """Move the set-points."""
        self.arm.move_setpoints(physics, action * self.step)


@dataclass(frozen=True)
class ToolDelta:
    """Translation of the tool in the world frame: +1 is `step` metres per control step along x, y or z.

    Solved by damped least squares with the tool's orientation held as it was at home and the posture pulled gently towards
    home in the null space (Nakamura and Hanafusa 1986; Siciliano et al., Robotics, 3.5):

        dq = J^T (J J^T + lambda^2 I)^-1 e + (I - J^+ J) k (q_home - q)

    With `turn`, a fourth number turns the tool about the world's z: +1 is `turn` radians per control step.
    """

    arm: Arm
    step: float = 0.03
    turn: float = 0.0
    damping: float = 0.05
    posture: float = 0.05

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def size(self) -> int:
        """x, y and z, and the turn where there is one."""
        return 4 if self.turn else 3

    def apply(self, physics: Physics, action: NDArray[np.float64]) -> None:
        """Move the set-points along the solution."""
        self.move(physics, action[:, :3] * self.step, action[:, 3] * self.turn if self.turn else None)

    def move(self, physics: Physics, by: NDArray[np.float64], turn: NDArray[np.float64] | None) -> None:
        """Move the set-points so that the tool moves by (N, 3) metres and turns by (N,) radians, or not at all."""
        arm = self.arm
        jacobian = arm.jacobian(physics)  # (N, 6, dof)
        error = np.concatenate([by, arm.orientation_error(physics, turn)], axis=1)  # (N, 6)
        pull = self.posture * (arm.home - arm.qpos(physics))  # (N, dof)
        rest = error - (jacobian @ pull[..., None])[..., 0]
        arm.move_setpoints(physics, pull + damped(jacobian, rest, self.damping))


@dataclass(frozen=True)
class ArcDelta:
    """Translation of the tool about the arm's foot: +1 is `step` metres outwards, to the left along the arc, or up.

    The tool turns with its azimuth, as if only the arm's first joint moved; the fourth number turns it further, +1 is `turn`
    radians per control step. So the whole arc is reached in one posture, where a fixed orientation would wind up the wrist.
    """

    arm: Arm
    step: float = 0.03
    turn: float = 0.12

    @property
    def name(self) -> str:
        """The arm's name."""
        return self.arm.name

    @property
    def size(self) -> int:
        """Outwards, left, up, turn."""
        return 4

    def apply(self, physics: Physics, action: NDArray[np.float64]) -> None:
        """Move the set-points."""
        foot = np.asarray(self.arm.pos)
        x, y, _ = (self.arm.tool_pos(physics) - foot).T
        radius = np.maximum(np.hypot(x, y), 0.1)
        cos, sin = x / radius, y / radius
        out, left, up = (action[:, :3] * self.step).T
        by = np.stack([out * cos - left * sin, out * sin + left * cos, up], axis=1)
        ToolDelta(self.arm, self.step).move(physics, by, left / radius + action[:, 3] * self.turn)


@dataclass(frozen=True)
class Grip:
    """Opening of the gripper: +1 fully open, -1 closed."""

    arm: Arm

    @property
    def name(self) -> str:
        """What the slice is called."""
        return "gripper"

    @property
    def size(self) -> int:
        """One number."""
        return 1

    def apply(self, physics: Physics, action: NDArray[np.float64]) -> None:
        """Write the gripper's set-point."""
        self.arm.set_opening(physics, (action[:, 0] + 1) / 2)


def control_parts(arm: Arm, control: str, turn: float = 0.0) -> tuple[Part, ...]:
    """The parts that drive an arm, and its gripper if it has one.

    Args:
        arm: the arm, attached.
        control: "tool" moves the tool in the world frame, "arc" about the arm's foot, "joint" moves the joints.
        turn: with "tool", radians per control step of a turn about the world's z; 0 for no such action.

    Raises:
        UnknownNameError: no such control.
    """
    choices: dict[str, Part] = {"tool": ToolDelta(arm, turn=turn), "arc": ArcDelta(arm), "joint": JointDelta(arm)}
    if control not in choices:
        raise UnknownNameError("control", control, choices)
    return (choices[control], Grip(arm)) if arm.has_gripper else (choices[control],)
