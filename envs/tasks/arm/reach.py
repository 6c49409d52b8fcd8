"""Reach: bring the tool to a ball."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from envs.actions import Gaze, Part, control_parts
from envs.arm import Arm, damped
from envs.eye import Eye, direction_to
from envs.physics import Ids, Physics
from envs.render import View
from envs.scene import Scene
from envs.streams import Draw
from envs.task import State, Task, box
from rewards.base import WeightedSum
from rewards.verifiable import Effort, Proximity

LOW, HIGH = np.array([0.35, -0.25, 0.08]), np.array([0.60, 0.25, 0.40])
NEAR = 0.03
# Two cameras beside the front one: a metre from where the ball hovers, on either side of the arm, 35 degrees above it.
CORNERS = {"left": np.radians(40.0), "right": np.radians(-40.0)}
_RAISED, _AWAY = np.radians(35.0), 1.0


def ball(radius: float = 0.03) -> mujoco.MjSpec:
    """A green ball that nothing bumps into; `radius` in metres."""
    spec = mujoco.MjSpec()
    root = spec.worldbody.add_body(name="root")
    root.add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[radius, 0, 0], rgba=[0.1, 0.8, 0.2, 1], contype=0, conaffinity=0, mass=0
    )
    return spec


@dataclass
class Reach(Task):
    """Bring the tool within 3 cm of a green ball that hovers somewhere in front of the arm.

    Observations: "front" (84, 84, 3) uint8 from a fixed camera, or with `eye` the foveal pyramid "eye_0".."eye_2" (40, 40, 3);
    "joints" (dof,) rad; "joint_velocity" (dof,) rad/s; "tool" (3,) m; with `eye` also "gaze" (2,) rad; "target" (68,)
    embedding of the instruction. The ball's position is to be seen, it is not told, but for `told`: "ball" (3,) m.

    Action: "arm", (3,) translation of the tool, 1 is 3 cm per step, or with control="joint" (dof,), 1 is 0.1 rad per step;
    "gripper" (1,) where there is one; with `eye` first "eye" (2,) rates, 1 is 150 degrees per second.

    Reward: 1 - tanh(distance / 0.1 m), less 0.01 times the mean squared action.

    Randomised: the ball in a box of 0.25 x 0.5 x 0.32 m, the arm's joints +-0.05 rad around home, with `eye` the first gaze.

    Success: tool within 3 cm of the ball's centre. Nothing ends the episode but its time limit.

    Args:
        robot: asset name or path of an MJCF arm.
        control: "tool" or "joint".
        eye: observe through an active eye that stands beside the arm, instead of the fixed camera.
        cameras: fixed cameras that are observed instead of the front one: "front", "left", "right", "side", "top".
        told: observe where the ball is, for what is not about seeing it.
    """

    control_dt: ClassVar[float] = 0.05

    robot: str = "panda"
    control: str = "tool"
    eye: bool = False
    cameras: Sequence[str] = ()
    told: bool = False

    def __post_init__(self) -> None:
        if self.eye and self.cameras:
            raise InvalidValueError(f"with eye=true the eye is observed: cameras must be empty, got {list(self.cameras)}")
        self.arm = Arm(self.robot)
        self.gaze = Eye(pos=(0.0, 0.35, 0.5)) if self.eye else None

    def build(self, timestep: float) -> Scene:
        """A table, the arm, the ball, and the eye if asked for."""
        scene = Scene("arenas/tabletop.xml", timestep)
        self.arm.attach(scene)
        scene.attach(ball(), "ball", joint="mocap")
        for name, azimuth in CORNERS.items():
            _stand(scene, name, azimuth)
        if self.gaze:
            self.gaze.attach(scene)
        return scene

    def parts(self) -> tuple[Part, ...]:
        """The eye if there is one, then the arm."""
        arm = control_parts(self.arm, self.control)
        return (Gaze(self.gaze), *arm) if self.gaze else arm

    def views(self, image_size: int | None) -> Sequence[View]:
        """The fixed cameras, or the eye's pyramid."""
        if self.gaze:
            return Eye(pos=self.gaze.pos, resolution=image_size or self.gaze.resolution).views
        side = image_size or 84
        return [View(name, name, side, side) for name in self.cameras or ("front",)]

    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """Where the ball is, and how the arm stands."""
        start = {"ball": draw.uniform(LOW, HIGH, (3,)), "joints": self.arm.home + draw.uniform(-0.05, 0.05, (self.arm.dof,))}
        if self.gaze:
            start["gaze"] = draw.uniform(np.radians([-60, -30]), np.radians([30, 0]), (2,))
        return start

    def place(self, physics: Physics, ids: Ids, start: State) -> None:
        """Put ball, arm and gaze where the start says."""
        physics.mocap_pos("ball/root")[ids] = start["ball"]
        self.arm.put(physics, ids, start["joints"])
        if self.gaze:
            self.gaze.aim(physics, ids, start["gaze"])

    def state(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """Joints (rad, rad/s), tool and ball (m), distance (m), gaze (rad)."""
        tool, target = self.arm.tool_pos(physics).copy(), physics.mocap_pos("ball/root").copy()
        state = {
            "joints": self.arm.qpos(physics),
            "joint_velocity": self.arm.qvel(physics),
            "tool": tool,
            "ball": target,
            "distance": np.linalg.norm(tool - target, axis=1),
        }
        if self.control == "joint":
            state["jacobian"] = self.arm.jacobian(physics)[:, :3]
        if self.gaze:
            state["gaze"] = self.gaze.gaze(physics)
            state["ball_direction"] = direction_to(target, self.gaze.centre(physics))
        return state

    def proprio(self) -> dict[str, spaces.Box]:
        """The arm's own joints and tool, the gaze, and the ball where it is told."""
        felt = {"joints": box(self.arm.dof), "joint_velocity": box(self.arm.dof), "tool": box(3)}
        felt |= {"ball": box(3)} if self.told else {}
        return {**felt, "gaze": box(2)} if self.gaze else felt

    def instruction(self, state: State) -> list[str]:
        """The same for every episode."""
        return ["touch the green ball"] * len(state["distance"])

    def success(self, state: State) -> NDArray[np.bool_]:
        """Tool within 3 cm of the ball."""
        return state["distance"] < NEAR

    def reward(self) -> WeightedSum:
        """Closeness, less a small price on moving."""
        return WeightedSum({"reach": Proximity("distance", 0.1), "effort": Effort()}, {"effort": 0.01})

    def oracle(self, state: State) -> NDArray[np.float32]:
        """Straight to the ball, at most as fast as the action allows; gripper open; the eye on the ball."""
        offset = state["ball"] - state["tool"]  # (N, 3)
        if self.control == "joint":
            move = damped(state["jacobian"], 0.3 * offset, 0.1) / 0.1
            move /= np.maximum(1, np.abs(move).max(axis=1, keepdims=True))
        else:
            move = 0.5 * offset / 0.03
            move /= np.maximum(1, np.linalg.norm(move, axis=1, keepdims=True))
        columns = [move]
        if self.gaze:
            turn = state["ball_direction"] - state["gaze"]
            columns.insert(0, turn / (np.radians(self.gaze.max_speed) * self.control_dt))
        if self.arm.has_gripper:
            columns.append(np.ones((len(move), 1)))
        return np.clip(np.concatenate(columns, axis=1), -1, 1).astype(np.float32)


def _stand(scene: Scene, name: str, azimuth: float) -> None:
    """Put up a camera that looks at the middle of where the ball hovers, from an azimuth, rad."""
    (sin, cos), (rise, flat) = (np.sin(azimuth), np.cos(azimuth)), (np.sin(_RAISED), np.cos(_RAISED))
    away = np.array([flat * cos, flat * sin, rise])
    axes = [-sin, cos, 0, -rise * cos, -rise * sin, flat]
    scene.spec.worldbody.add_camera(name=name, pos=((LOW + HIGH) / 2 + _AWAY * away).tolist(), xyaxes=axes, fovy=46)
