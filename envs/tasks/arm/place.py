"""PlaceCube: pick a cube up and put it on a block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from envs.actions import Grip, Part, ToolDelta
from envs.arm import Arm
from envs.physics import Ids, Physics
from envs.render import View
from envs.scene import Scene
from envs.streams import Draw
from envs.task import State, Task, box, climb
from rewards.base import WeightedSum
from rewards.verifiable import Effort, Proximity

# Half of the cube's edge, and half of the block's three; metres.
CUBE, BLOCK = 0.02, (0.06, 0.06, 0.03)
# Where they stand without spread, and how far from there with all of it; metres.
CUBE_AT, BLOCK_AT, SPREAD = (0.50, 0.10), (0.50, -0.10), 0.04
NEAR, LIFTED, AT_REST = 0.03, 0.03, 0.03  # m, m, m/s
# Width of the open gripper, and of the closed one: a centimetre narrower than the cube, which holds it and crushes nothing.
HAND, SHUT = 0.08, 0.03
# How far the tool goes in a step, metres.
STEP = 0.04
# How high above its goal the cube travels and is let go, and the share of the way that the oracle goes in a step.
ABOVE, DROP, GAIN = 0.08, 0.005, 0.7
# The Panda's hand straight down, tool at (0.50, 0, 0.14) m. Found by damped least squares from its home.
HAND_DOWN = (0.0, 0.174, 0.0, -2.400, 0.0, 2.574, 0.785)


def cuboid(half: Sequence[float], rgba: Sequence[float], density: float = 1300.0) -> mujoco.MjSpec:
    """A box that stands on its root; half of its edges in metres, density in kg/m^3."""
    spec = mujoco.MjSpec()
    root = spec.worldbody.add_body(name="root")
    root.add_geom(
        name="box", type=mujoco.mjtGeom.mjGEOM_BOX, size=list(half), pos=[0, 0, half[2]], rgba=list(rgba), density=density,
        condim=4,
    )  # fmt: skip
    return spec


@dataclass(frozen=True)
class Pinch(Grip):
    """The gripper opens where the action is above 0, and else closes as far as `SHUT`."""

    def apply(self, physics: Physics, action: NDArray[np.float64]) -> None:
        """Write the gripper's set-point."""
        super().apply(physics, np.where(action > 0, 1.0, 2 * SHUT / HAND - 1))


@dataclass
class PlaceCube(Task):
    """Pick a red cube up and put it on a blue block.

    Observations: "close" (84, 84, 3) uint8 from a fixed camera; "joints" (dof,) rad; "joint_velocity" (dof,) rad/s; "tool" (3,)
    m; "opening" (1,) of the gripper, 0 to 1; "target" (68,) embedding of the instruction. Where the cube and block are is to
    be seen.

    Action: "arm" (3,) translation of the tool, 1 is 4 cm per step; "gripper" (1,) opens above 0, else closes as far as 3 cm.

    Reward: 0.3 (1 - tanh(tool to cube / 0.1 m)) + 1 - tanh(cube to its place / 0.2 m), less 0.01 times the mean squared action.

    Randomised: cube and block +-4 cm in x and y, the arm's joints +-0.02 rad.

    Success: the cube lies on the block, let go and at rest. Nothing ends the episode but its time limit.

    Args:
        robot: asset name or path of an MJCF arm.
        posture: its rest posture, hand down over the table, radians.
        spread: how much cube and block are randomised, as a share of the above; 0 keeps them where they are.
    """

    control_dt: ClassVar[float] = 0.1
    timestep: ClassVar[float] = 1 / 200
    render_camera: ClassVar[str] = "close"

    robot: str = "panda"
    posture: Sequence[float] | None = HAND_DOWN
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.spread <= 1:
            raise InvalidValueError(f"spread must be in [0, 1], got {self.spread}")
        self.arm = Arm(self.robot, posture=None if self.posture is None else tuple(self.posture))

    def build(self, timestep: float) -> Scene:
        """A table, the arm, the cube, and the block as a body that is placed by hand."""
        scene = Scene("arenas/tabletop.xml", timestep)
        self.arm.attach(scene)
        if not self.arm.has_gripper:
            raise InvalidValueError(f"PlaceCube needs an arm with a gripper; {self.robot!r} has none")
        scene.attach(cuboid((CUBE, CUBE, CUBE), (0.9, 0.05, 0.05, 1)), "cube", joint="free")
        scene.attach(cuboid(BLOCK, (0.1, 0.25, 0.85, 1)), "block", joint="mocap")
        # Opposite the arm, and near enough to see the cube.
        scene.spec.worldbody.add_camera(name="close", pos=[1.05, 0, 0.55], xyaxes=[0, 1, 0, -0.665, 0, 0.747], fovy=45)
        scene.memory("tier")
        return scene

    def parts(self) -> Sequence[Part]:
        """Tool translation, gripper."""
        return (ToolDelta(self.arm, STEP), Pinch(self.arm))

    def views(self, image_size: int | None) -> Sequence[View]:
        """A fixed camera opposite the arm."""
        side = image_size or 84
        return (View("close", "close", side, side),)

    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """Where cube and block stand, and how the arm does."""
        reach = self.spread * SPREAD
        return {
            "cube": CUBE_AT + draw.uniform(-reach, reach, (2,)),
            "block": BLOCK_AT + draw.uniform(-reach, reach, (2,)),
            "joints": self.arm.home + draw.uniform(-0.02, 0.02, (self.arm.dof,)),
        }

    def place(self, physics: Physics, ids: Ids, start: State) -> None:
        """Put everything where the start says."""
        upright = np.broadcast_to([0.0, 1.0, 0.0, 0.0, 0.0], (len(ids), 5))  # on the table, unturned
        physics.qpos("cube/free")[ids] = np.concatenate([start["cube"], upright], axis=1)
        physics.qvel("cube/free")[ids] = 0
        physics.mocap_pos("block/root")[ids] = np.pad(start["block"], ((0, 0), (0, 1)))
        self.arm.put(physics, ids, start["joints"])
        physics.memory("tier")[ids] = 0

    def advance(self, physics: Physics, dt: float) -> None:
        """Remember how far the job has come: a quarter each for reached, lifted, over the block, done."""
        found = self._found(physics)
        lifted = found["held"] & (found["cube"][:, 2] > CUBE + LIFTED)
        tiers = (found["distance"] < NEAR, lifted, lifted & found["over"], self.success(found))
        climb(physics.memory("tier"), tiers)

    def _found(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """Where tool, cube and its place are (m), and how they stand to one another."""
        tool, opening = self.arm.tool_pos(physics).copy(), self.arm.opening(physics)
        cube = physics.qpos("cube/free")[:, :3] + [0, 0, CUBE]
        goal = physics.mocap_pos("block/root") + np.array([0, 0, 2 * BLOCK[2] + CUBE])
        distance = np.linalg.norm(tool - cube, axis=1)
        return {
            "tool": tool,
            "opening": opening,
            "cube": cube,
            "goal": goal,
            "distance": distance,
            "to_goal": np.linalg.norm(cube - goal, axis=1),
            "held": (distance < NEAR + 0.01) & (np.abs(opening[:, 0] - 2 * CUBE / HAND) < 0.06),
            "over": np.all(np.abs(cube - goal)[:, :2] < BLOCK[:2], axis=1) & (cube[:, 2] > goal[:, 2] - 0.01),
            "speed": np.linalg.norm(physics.qvel("cube/free")[:, :3], axis=1),
        }

    def state(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """Joints (rad, rad/s); tool, cube and the cube's place (m), distances between them (m); what holds; the progress.

        "held" says whether the pads are on the cube, "over" whether the cube is above the block, "speed" (m/s) is the cube's.
        """
        return {
            "joints": self.arm.qpos(physics),
            "joint_velocity": self.arm.qvel(physics),
            **self._found(physics),
            "progress": physics.memory("tier")[:, 0] / 4,
        }

    def proprio(self) -> dict[str, spaces.Box]:
        """The arm's own joints, tool and gripper."""
        return {"joints": box(self.arm.dof), "joint_velocity": box(self.arm.dof), "tool": box(3), "opening": box(1)}

    def instruction(self, state: State) -> list[str]:
        """The same for every episode."""
        return ["put the red cube on the blue block"] * len(state["distance"])

    def success(self, state: State) -> NDArray[np.bool_]:
        """On the block, let go, at rest."""
        lies = state["over"] & (np.abs(state["cube"] - state["goal"])[:, 2] < 0.01)
        return lies & (state["opening"][:, 0] > 2 * CUBE / HAND + 0.1) & (state["speed"] < AT_REST)

    def reward(self) -> WeightedSum:
        """To the cube, with it to its place, without thrashing."""
        terms = {"reach": Proximity("distance", 0.1), "place": Proximity("to_goal", 0.2), "effort": Effort()}
        return WeightedSum(terms, {"reach": 0.3, "effort": 0.01})

    def oracle(self, state: State) -> NDArray[np.float32]:
        """Above the cube, down, close; up and above the block, down, open, and up again."""
        tool, cube, goal, held = state["tool"], state["cube"], state["goal"], state["held"]
        done = state["over"] & (np.abs(cube - goal)[:, 2] < DROP + 0.01)
        to_cube = _from_above(tool, cube)
        to_goal = _from_above(cube, goal + np.array([0, 0, DROP]))
        move = np.where(done[:, None], [0, 0, STEP], np.where(held[:, None], to_goal, to_cube))
        grip = np.where(~done & (state["distance"] < 0.012) | held & ~done, -1.0, 1.0)
        return np.clip(np.concatenate([GAIN * move / STEP, grip[:, None]], axis=1), -1, 1).astype(np.float32)


def _from_above(point: NDArray[np.float64], goal: NDArray[np.float64]) -> NDArray[np.float64]:
    """The way of a point to its goal: rise, go over it, come down. (N, 3) m, twice -> (N, 3) m."""
    way = goal - point
    aside = np.linalg.norm(way[:, :2], axis=1)
    height = way[:, 2] + np.where(aside > 0.01, ABOVE, 0.0)
    low = (aside > 0.03) & (height > 0.02)
    return np.concatenate([np.where(low[:, None], 0.0, way[:, :2]), height[:, None]], axis=1)
