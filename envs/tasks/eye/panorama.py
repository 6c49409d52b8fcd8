"""What the panoramic tasks share: an arc of 210 degrees, an arm in its middle, an eye on the arm's foot, things to look for.

Follows EyeRobot's set-up (arXiv:2506.10968): most of the arc is out of sight at any time, and the arm reaches all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from assets import Prop, props
from assets.errors import InvalidValueError
from envs.actions import Gaze, Part, control_parts
from envs.arm import Arm, damped
from envs.eye import OUTSIDE, angle_between, direction_to, first_gaze, geoms_of
from envs.physics import Ids, Physics
from envs.scene import Scene
from envs.streams import Draw
from envs.task import State, box
from envs.tasks.eye.arc import ARENA, ArcTask, on_arc
from envs.upright import upright

# How high over its root a thing is looked at, metres.
MIDDLE = 0.03
# The oracle's way over things, and how high a thing is carried, metres.
ABOVE, CARRIED = 0.10, 0.28
# What the arm's action means, see `envs.actions.ArcDelta`.
STEP, TURN = 0.03, 0.12
# Share of the way that the oracle goes in a step. The servos lag by about one step, so that a quarter is critically damped.
GAIN = 0.25


def polar(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Radius (m), azimuth (rad) and height (m) about the arm's foot. (N, 3) -> (N, 3)."""
    return np.stack([np.hypot(points[:, 0], points[:, 1]), np.arctan2(points[:, 1], points[:, 0]), points[:, 2]], axis=1)


@dataclass
class Panorama(ArcTask):
    """Base of the panoramic tasks: a subclass says which props it needs and what is to be done with them.

    Args:
        distractors, resolution, fovs, projection, randomise_light: see `ArcTask`.
        control: "arc" moves the tool about the arm's foot, "joint" moves the joints.
        robot: asset name or path of an MJCF arm.
    """

    arc: ClassVar[float] = np.radians(200.0)
    separation: ClassVar[float] = np.radians(24.0)
    radius: ClassVar[tuple[float, float]] = (0.45, 0.68)
    # On the arm's foot, in front of the first joint.
    stand: ClassVar[tuple[float, float, float]] = (0.13, 0.0, 0.22)
    # A gripper holds what is light only at half of the usual step.
    timestep: ClassVar[float] = 1 / 480
    # What the task is about: prefix -> asset, and whether the arm can move it.
    needs: ClassVar[Mapping[str, tuple[str, bool]]] = {}
    # What each of them is called.
    phrases: ClassVar[Mapping[str, str]] = {}

    distractors: int = 2
    control: str = "arc"
    robot: str = "panda"

    def __post_init__(self) -> None:
        self.check_distractors(len(self.others), len(self.needs))
        self.arm = Arm(self.robot)
        super().__post_init__()

    @cached_property
    def others(self) -> list[Prop]:
        """What can distract."""
        return [prop for name, prop in props().items() if name not in self.needs]

    def build(self, timestep: float) -> Scene:
        """The arc, arm and eye, the props that the task is about, and distractors as bodies that are moved by hand."""
        scene = Scene(ARENA, timestep)
        self.arm.attach(scene)
        if not self.arm.has_gripper:
            raise InvalidValueError(f"{type(self).__name__} needs an arm with a gripper; {self.robot!r} has none")
        self.eye.attach(scene)
        for name, (asset, movable) in self.needs.items():
            scene.attach(asset, name, joint="free" if movable else "mocap")
        self.attach_props(scene, self.others)
        scene.memory("explored", 2)
        return scene

    def parts(self) -> Sequence[Part]:
        """The eye, the arm, the gripper."""
        return (Gaze(self.eye), *control_parts(self.arm, self.control))

    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """Where the things lie, needed ones first, which distract, and the first gaze."""
        count = len(self.needs) + self.distractors
        azimuth = self.azimuths(draw, count)
        start = {
            "azimuth": azimuth,
            "radius": draw.uniform(*self.radius, (count,)),
            "yaw": draw.uniform(-np.radians(40), np.radians(40), (count,)),
            "others": draw.permutation(len(self.others)),  # the first ones distract
            "gaze": first_gaze(draw),
            "joints": self.arm.home + draw.uniform(-0.02, 0.02, (self.arm.dof,)),
        }
        self.draw_light(draw, start)
        return start

    def place(self, physics: Physics, ids: Ids, start: State) -> None:
        """Put everything where the start says."""
        at, yaw, needed = on_arc(start["radius"], start["azimuth"]), start["azimuth"] + start["yaw"], len(self.needs)
        quat = upright(yaw)
        for k, (name, (_, movable)) in enumerate(self.needs.items()):
            if movable:
                physics.qpos(f"{name}/free")[ids] = np.concatenate([at[:, k], quat[:, k]], axis=1)
                physics.qvel(f"{name}/free")[ids] = 0
            else:
                physics.mocap_pos(f"{name}/root")[ids], physics.mocap_quat(f"{name}/root")[ids] = at[:, k], quat[:, k]
        self.lay(physics, ids, self.others, start["others"][:, : self.distractors], at[:, needed:], yaw[:, needed:])
        self.arm.put(physics, ids, start["joints"])
        self.open_eye(physics, ids, start)

    def felt(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """The part of the state that every panoramic task has: arm, gripper and eye.

        "tool_axes" (N, 6) are the tool's x and y axes in the world frame, the first two columns of its rotation.
        """
        felt = {
            "joints": self.arm.qpos(physics),
            "joint_velocity": self.arm.qvel(physics),
            "tool": self.arm.tool_pos(physics).copy(),
            "tool_axes": physics.site_xmat(self.arm.tool)[:, :, :2].swapaxes(1, 2).reshape(-1, 6).copy(),
            "opening": self.arm.opening(physics),
            "gaze": self.eye.gaze(physics),
            "gaze_velocity": self.eye.velocity(physics),
            "explored": physics.memory("explored").copy(),
        }
        if self.control == "joint":  # which the oracle needs
            felt |= {
                "jacobian": self.arm.jacobian(physics),
                "tilt": self.arm.orientation_error(physics, 0 * felt["tool"][:, 0]),
            }
        return felt

    def looked_at(self, physics: Physics, point: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
        """Direction of a point (N, 3) from the eye, and the angle of the gaze to it, radians."""
        direction = direction_to(point, self.eye.centre(physics))
        return {"target_direction": direction, "gaze_error": angle_between(self.eye.gaze(physics), direction)}

    def sights(self, physics: Physics) -> dict[str, NDArray[np.float64]]:
        """What the task is about, and the distractors."""
        found, eye = self.lying(physics, self.others), self.eye.centre(physics)
        for name, (_, movable) in self.needs.items():
            root = physics.qpos(f"{name}/free")[:, :3] if movable else physics.mocap_pos(f"{name}/root")
            found[self.phrases[name]] = direction_to(root + np.array([0, 0, MIDDLE]), eye)
        return found

    def visible(self, physics: Physics) -> dict[str, NDArray[np.bool_]]:
        """Whether a ray from the eye to the middle of any of a thing's geoms meets that thing first."""
        eye, middles = self.eye.centre(physics), physics.geom_xpos
        called = {self.phrases[name]: name for name in self.needs} | {prop.phrase: prop.name for prop in self.others}
        found = {}
        for phrase, name in called.items():
            geoms, seen = geoms_of(physics.model, name), np.zeros(physics.num_sims, bool)
            for sim in range(physics.num_sims):
                ahead = middles[sim, geoms] - eye[sim]
                ahead /= np.linalg.norm(ahead, axis=1, keepdims=True)
                seen[sim] = np.isin(physics.rays(sim, eye[sim], ahead, OUTSIDE)[1], geoms).any()
            found[phrase] = seen
        return found

    def proprio(self) -> dict[str, spaces.Box]:
        """Joints, tool and gripper, where the eye points and how far it has looked."""
        dof = self.arm.dof
        return {
            "joints": box(dof), "joint_velocity": box(dof), "tool": box(3), "opening": box(1), "gaze": box(2),
            "gaze_velocity": box(2), "explored": box(2),
        }  # fmt: skip

    def drive(self, state: State, move: NDArray[np.float64], turn: NDArray[np.float64]) -> NDArray[np.float64]:
        """The oracle's arm action, from its move outwards, left and up (N, 3) and its turn (N,), all in [-1, 1]. (N, size)."""
        if self.control != "joint":
            return np.concatenate([move, turn[:, None]], axis=1)
        radius, azimuth, _ = polar(state["tool"]).T
        cos, sin = np.cos(azimuth), np.sin(azimuth)
        out, left, up = (move * STEP).T
        twist = np.stack(
            [out * cos - left * sin, out * sin + left * cos, up, 0 * up, 0 * up, left / radius + turn * TURN], axis=1
        )
        twist[:, 3:] += state["tilt"]
        delta = damped(state["jacobian"], twist, 0.05) / 0.1
        return delta / np.maximum(1, np.abs(delta).max(axis=1, keepdims=True))


def approach(tool: NDArray[np.float64], goal: NDArray[np.float64], over: float = CARRIED) -> NDArray[np.float64]:
    """An arc's way to a goal: up first, along the arc, then out and down. (N, 3) x2, metres -> (N, 3) in [-1, 1].

    Args:
        tool: where the tool is.
        goal: where it should be.
        over: height at which it travels, metres.
    """
    now, wanted = polar(tool), polar(goal)
    across = wanted[:, 1] - now[:, 1]  # never through the back, where the arm cannot turn
    far = np.hypot(across * now[:, 0], wanted[:, 0] - now[:, 0]) > 0.05
    height = np.where(far, np.maximum(over, wanted[:, 2]), wanted[:, 2])
    # While low, rise before moving on.
    free = np.where(far & (now[:, 2] < over - 0.08), 0.0, 1.0)
    move = np.stack([free * (wanted[:, 0] - now[:, 0]), free * across * now[:, 0], height - now[:, 2]], axis=1)
    return np.clip(GAIN * move / STEP, -1, 1)
