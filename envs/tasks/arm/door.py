"""DoorOpen: open a cabinet's hinged door by its handle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import mujoco
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from envs.actions import Part, control_parts
from envs.arm import Arm
from envs.physics import Ids, Physics
from envs.render import View
from envs.scene import Scene, load_spec
from envs.streams import Draw
from envs.task import State, Task, box
from envs.upright import turned, upright
from rewards.base import WeightedSum
from rewards.verifiable import Effort, Fraction, Proximity

OPEN = 0.9
TURN = 0.12
# The oracle's pull, metres per control step, and how far the handle's path turns from the door's normal, radians: the bar
# stands 0.061 m in front of the hinge and 0.340 m beside it.
PULL = 0.01
DEPTH = 0.005  # how far behind the middle of the pads the bar should be, metres
ARC_LEAD = np.arctan2(0.061, 0.340)
# Where the cabinet stands, metres: a Panda keeps its hand level with ease only this high, for its wrist bends up no further.
CABINET = (0.80, 0.05)
PLINTH = 0.43
# The Panda with its hand level along +x, fingers opening along y, tool at (0.449, -0.09, 0.68) m: 15 cm in front of the
# handle. Found by damped least squares on the asset's own kinematics, the null space pulled towards a bent elbow; chosen
# among cabinet positions because following the door to 1 rad from here keeps 0.23 rad from every joint limit.
HAND_LEVEL = (0.246, -0.774, -0.380, -2.571, -0.125, 3.399, 0.644)
POSTURES = {"panda": HAND_LEVEL}


@dataclass
class DoorOpen(Task):
    """Grasp the handle of a cabinet's door and pull it open.

    Observations: "cabinet" (84, 84, 3) uint8 from a fixed camera; "joints" (dof,) rad; "joint_velocity" (dof,) rad/s;
    "tool" (3,) m; "target" (68,) embedding of the instruction. Where the handle is and how far the door is open is to be seen.

    Action: "arm" (4,): translation of the tool, 1 is 3 cm per step, and turn about the vertical, 1 is 0.12 rad per step;
    "gripper" (1,), 1 open, -1 closed.

    Reward: 0.3 (1 - tanh(distance to handle / 0.1 m)) + clip(angle / 0.9 rad, 0, 1), less 0.01 times the mean squared action.

    Randomised: the cabinet's position +-3 cm in x and y and +-0.1 rad of yaw, the arm's joints +-0.02 rad.

    Success: the door is open by 0.9 rad (52 degrees). Nothing ends the episode but its time limit.

    Args:
        robot: asset name or path of an MJCF arm with a gripper: "panda", or "human_arm", which shows how people do it.
        posture: its rest posture, hand level towards +x, radians; None takes the Panda's for this task, else the model's own.
        spread: how much the cabinet's place is randomised, as a share of the above; 0 keeps it where it is.
    """

    control_dt: ClassVar[float] = 0.05
    render_camera: ClassVar[str] = "cabinet"

    robot: str = "panda"
    posture: Sequence[float] | None = None
    spread: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.spread <= 1:
            raise InvalidValueError(f"spread must be in [0, 1], got {self.spread}")
        posture = POSTURES.get(self.robot) if self.posture is None else tuple(self.posture)
        self.arm = Arm(self.robot, posture=posture)

    def build(self, timestep: float) -> Scene:
        """A table, the arm, the cabinet as a body that is placed by hand."""
        scene = Scene("arenas/tabletop.xml", timestep)
        self.arm.attach(scene)
        if not self.arm.has_gripper:
            raise InvalidValueError(f"DoorOpen needs an arm with a gripper; {self.robot!r} has none")
        cabinet = load_spec("props/door.xml")
        cabinet.body("root").add_geom(
            name="plinth", type=mujoco.mjtGeom.mjGEOM_BOX, pos=[-0.02, 0, -PLINTH / 2], size=[0.1, 0.17, PLINTH / 2],
            rgba=[0.45, 0.46, 0.48, 1],
        )  # fmt: skip
        scene.attach(cabinet, "cabinet", joint="mocap")
        # From behind the arm's shoulder: the door's front and the hand at once.
        scene.spec.worldbody.add_camera(
            name="cabinet", pos=[-0.55, -1.35, 1.25], xyaxes=[0.818, -0.575, 0.0, 0.201, 0.286, 0.937], fovy=38
        )
        return scene

    def parts(self) -> Sequence[Part]:
        """Tool translation and turn, gripper."""
        return control_parts(self.arm, "tool", turn=TURN)

    def views(self, image_size: int | None) -> Sequence[View]:
        """A fixed camera that sees the arm and the door's front."""
        side = image_size or 84
        return (View("cabinet", "cabinet", side, side),)

    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """Where the cabinet stands, and how the arm does."""
        return {
            "cabinet": CABINET + self.spread * draw.uniform(-0.03, 0.03, (2,)),
            "yaw": self.spread * draw.uniform(-0.1, 0.1),
            "angle": np.zeros(len(draw)),
            "joints": self.arm.home + draw.uniform(-0.02, 0.02, (self.arm.dof,)),
        }

    def place(self, physics: Physics, ids: Ids, start: State) -> None:
        """Put cabinet, door and arm where the start says."""
        body = "cabinet/root"
        physics.mocap_pos(body)[ids] = np.pad(start["cabinet"], ((0, 0), (0, 1)), constant_values=PLINTH)
        physics.mocap_quat(body)[ids] = upright(start["yaw"])
        physics.qpos("cabinet/hinge")[ids] = start["angle"][:, None]
        self.arm.put(physics, ids, start["joints"])

    def state(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """Joints (rad, rad/s), tool, handle and their distance (m), the door, and how far the tool is from facing it.

        "angle" (rad), "angle_velocity" (rad/s) and "outward" (N, 2), the normal in the world's x and y, are the door's;
        "misturn" (rad) is the turn about the vertical that would make the tool's approach opposite to that normal.
        "progress" in [0, 1] is a quarter for nearness to the handle, and the rest for how far the door is open.
        """
        tool, handle = self.arm.tool_pos(physics).copy(), physics.site_xpos("cabinet/handle").copy()
        out, approach = physics.site_xmat("cabinet/handle")[:, :, 0], physics.site_xmat(self.arm.tool)[:, :, 2]
        distance, angle = np.linalg.norm(tool - handle, axis=1), physics.qpos("cabinet/hinge")[:, 0].copy()
        return {
            "joints": self.arm.qpos(physics),
            "joint_velocity": self.arm.qvel(physics),
            "tool": tool,
            "handle": handle,
            "distance": distance,
            "angle": angle,
            "progress": 0.25 * (1 - np.tanh(distance / 0.1)) + 0.75 * np.clip(angle / OPEN, 0, 1),
            "angle_velocity": physics.qvel("cabinet/hinge")[:, 0].copy(),
            "outward": out[:, :2].copy(),
            "misturn": _turn_between(approach[:, :2], -out[:, :2]),
        }

    def proprio(self) -> dict[str, spaces.Box]:
        """The arm's own joints and tool."""
        return {"joints": box(self.arm.dof), "joint_velocity": box(self.arm.dof), "tool": box(3)}

    def instruction(self, state: State) -> list[str]:
        """The same for every episode."""
        return ["open the cabinet door"] * len(state["angle"])

    def success(self, state: State) -> NDArray[np.bool_]:
        """Open by 0.9 rad."""
        return state["angle"] > OPEN

    def reward(self) -> WeightedSum:
        """Come to the handle, open the door, do not thrash."""
        terms = {"handle": Proximity("distance", 0.1), "open": Fraction("angle", OPEN), "effort": Effort()}
        return WeightedSum(terms, {"handle": 0.3, "effort": 0.01})

    def oracle(self, state: State) -> NDArray[np.float32]:
        """Line up in front of the handle, move in, close, pull along the arc with the hand turning as the door does."""
        outward = np.pad(state["outward"], ((0, 0), (0, 1)))  # (N, 3)
        offset = state["handle"] - state["tool"]
        along = -np.einsum("ni,ni->n", offset, outward)  # how far the tool is in front of the handle, m
        sideways = np.linalg.norm(offset + along[:, None] * outward, axis=1)
        lined_up = (sideways < 0.012) & (np.abs(state["misturn"]) < 0.2)
        # Close only when the bar is deep between the pads; let go, and come again, when it has slipped to their tips.
        grasping = state["distance"] < np.where(state["angle_velocity"] > 0.02, 0.025, 0.01)
        goal = state["handle"] + np.where(lined_up, -DEPTH, 0.06)[:, None] * outward
        approach = 0.5 * (goal - state["tool"])
        pull = PULL * turned(outward, -ARC_LEAD) + 0.5 * (offset - DEPTH * outward)
        move = np.where(grasping[:, None], pull, approach) / 0.03
        move /= np.maximum(1, np.linalg.norm(move, axis=1, keepdims=True))
        turn = np.clip(state["misturn"] / TURN, -1, 1)[:, None]
        grip = np.where(grasping, -1.0, 1.0)[:, None]
        return np.clip(np.concatenate([move, turn, grip], axis=1), -1, 1).astype(np.float32)


def _turn_between(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Signed angle that turns planar vectors a to b, radians. Shapes (N, 2), (N, 2) -> (N,)."""
    return np.arctan2(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0], np.sum(a * b, axis=1))
