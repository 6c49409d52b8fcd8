"""EStop: keep the hand over an emergency-stop button that moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.physics import Ids, Physics
from envs.scene import Scene
from envs.streams import Draw
from envs.task import State
from envs.tasks.eye.arc import on_arc
from envs.tasks.eye.panorama import Panorama, approach
from rewards.base import WeightedSum
from rewards.verifiable import Effort, Proximity

# How far above the button the tool should be, how near counts, and for how long; metres, seconds.
HOVER, NEAR, HOLD = 0.10, 0.04, 0.5
# When the button sets off, s, how far it goes along the arc, rad, and how fast, rad/s.
LEAVES, GOES, SPEED = (4.0, 5.0), (np.radians(30), np.radians(60)), np.radians(30)
PHASES = ("approach", "over")
BUTTON = np.array([0, 0, 0.071])


@dataclass
class EStop(Panorama):
    """Bring the hand over an emergency-stop button, and follow it when it moves.

    Task: the button stands anywhere on an arc of 200 degrees, mostly out of view at first. After 4 to 5 seconds it slides 30 to
    60 degrees along the arc at 30 degrees per second. After EyeRobot's e-stop servoing (arXiv:2506.10968), whose measure is the
    distance that is left at the end.

    Observations: the foveal pyramid "eye_0" (17.3 degrees), "eye_1" (62.3), "eye_2" (116.1): (40, 40, 3) uint8; "joints" (7,)
    rad; "joint_velocity" (7,) rad/s; "tool" (3,) m; "opening" (1,) of the gripper, 0 to 1; "gaze" (2,) rad; "gaze_velocity"
    (2,) rad/s; "explored" (2,) rad; "target" (68,) embedding of the instruction.

    Action: "eye" (2,) rates, 1 is 150 degrees per second; "arm" (4,): 3 cm outwards, left along the arc and up, 0.12 rad of
    turn, or with control="joint" (7,), 1 is 0.1 rad; "gripper" (1,).

    Reward: 1 - tanh(distance / 0.1 m), less 0.01 times the mean squared action.

    Randomised: where the button and the distractors stand, when, how far and which way it moves, first gaze, joints.

    Success: within 4 cm of the point 10 cm above the button for half a second, after it has moved. Nothing ends the episode but
    its time limit of 10 s.
    """

    needs: ClassVar[Mapping[str, tuple[str, bool]]] = {"estop": ("props/estop.xml", False)}
    phrases: ClassVar[Mapping[str, str]] = {"estop": "the red e-stop button"}

    def build(self, timestep: float) -> Scene:
        """The arc with the button, and what it must remember."""
        scene = super().build(timestep)
        scene.memory("journey", 3)  # when it leaves (s), and where from and to (rad)
        scene.memory("held")
        scene.memory("tier")
        return scene

    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """As ever, and the button's journey: away from the nearer end of the arc."""
        start = super().sample(draw)
        start["leaves"], goes = draw.uniform(*LEAVES), draw.uniform(*GOES)
        start["goes"] = np.where(start["azimuth"][:, 0] > 0, -goes, goes)
        return start

    def place(self, physics: Physics, ids: Ids, start: State) -> None:
        """Put everything where the start says."""
        super().place(physics, ids, start)
        first = start["azimuth"][:, 0]
        physics.memory("journey")[ids] = np.stack([start["leaves"], first, first + start["goes"]], axis=1)
        physics.memory("held")[ids] = 0
        physics.memory("tier")[ids] = 0

    def advance(self, physics: Physics, dt: float) -> None:
        """Slide the button along the arc; count how long the hand has been over it since it arrived; remember how far it came.

        A third of the progress each for having been over the button, over it once it stands again, and there long enough.
        """
        super().advance(physics, dt)
        leaves, first, last = physics.memory("journey").T
        gone = np.clip((physics.time - leaves) * SPEED, 0, np.abs(last - first))
        azimuth, button = first + np.sign(last - first) * gone, physics.mocap_pos("estop/root")
        radius = np.hypot(button[:, 0], button[:, 1])
        button[:, :2] = on_arc(radius, azimuth)[:, :2]
        held, near, arrived = physics.memory("held"), self._distance(physics) < NEAR, gone >= np.abs(last - first)
        held[:, 0] = np.where(near & arrived, held[:, 0] + dt, 0)
        tier = physics.memory("tier")
        tier[:, 0] = np.maximum(tier[:, 0], np.select([held[:, 0] >= HOLD - 1e-9, near & arrived, near], [3, 2, 1], 0))

    def _distance(self, physics: Physics) -> NDArray[np.float64]:
        return np.linalg.norm(self.arm.tool_pos(physics) - (physics.mocap_pos("estop/root") + BUTTON + [0, 0, HOVER]), axis=1)

    def state(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """What is felt; the button (m), the tool's distance to its place above it (m), how long it was held there (s).

        "phase" is 0 on the way and 1 over the button, `PHASES` names them; "progress" is what `advance` remembers.
        """
        button, distance = physics.mocap_pos("estop/root") + BUTTON, self._distance(physics)
        return {
            **self.felt(physics),
            **self.looked_at(physics, button),
            "button": button,
            "distance": distance,
            "held": physics.memory("held")[:, 0].copy(),
            "phase": (distance < NEAR).astype(np.int64),
            "progress": physics.memory("tier")[:, 0] / 3,
        }

    def instruction(self, state: State) -> list[str]:
        """The same for every episode."""
        return ["hold the hand over the red e-stop button"] * len(state["held"])

    def success(self, state: State) -> NDArray[np.bool_]:
        """Over the button for half a second after it has moved."""
        return state["held"] >= HOLD - 1e-9

    def reward(self) -> WeightedSum:
        """Closeness, less a small price on moving."""
        return WeightedSum({"reach": Proximity("distance", 0.1), "effort": Effort()}, {"effort": 0.01})

    def oracle(self, state: State) -> NDArray[np.float32]:
        """Look at the button, and bring the hand over it."""
        move = approach(state["tool"], state["button"] + [0, 0, HOVER])
        arm = self.drive(state, move, np.zeros(len(move)))
        return np.concatenate([self.turn_to_target(state), arm, np.ones((len(move), 1))], axis=1).astype(np.float32)
