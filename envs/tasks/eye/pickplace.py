"""Picking one thing up from the arc and putting it where another one is: what four of the panoramic tasks share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from envs.physics import Ids, Physics
from envs.scene import Scene
from envs.streams import Draw
from envs.task import State, climb
from envs.tasks.eye.panorama import Panorama, approach
from envs.tasks.eye.pick import bring, fetch, gripped, missing
from envs.upright import turned, yaw_of
from rewards.base import WeightedSum
from rewards.verifiable import Effort, Proximity

# With `perturb`, how far the goal slides once the thing is lifted, rad, and how fast, rad/s.
GOES, SPEED = (np.radians(20), np.radians(40)), np.radians(30)
LIFTED, AT_REST, ASKEW = 0.05, 0.03, np.radians(15)  # m, m/s, rad
PHASES = ("search", "grasp", "carry", "done")


@dataclass(frozen=True)
class Job:
    """What is picked up and where it goes; metres.

    Attributes:
        told: the instruction.
        thing, goal: prefixes of the two bodies; the goal stands, and is moved by hand.
        grasp: where it is held, in the thing's own frame as it lies.
        width: of the thing between the pads.
        floor: height above the goal's root at which the thing's root comes to rest.
        inside: how far the thing's middle may then be from the goal's, along the goal's x, y and z.
        drop: how far above that it is let go.
        aligned: whether its x must come to lie along the goal's.
    """

    told: str
    thing: str
    goal: str
    grasp: tuple[float, float, float]
    width: float
    floor: float
    inside: tuple[float, float, float]
    drop: float = 0.01
    aligned: bool = True


@dataclass
class PickPlace(Panorama):
    """Base of the tasks with a `job`.

    Args:
        perturb: the goal slides 20 to 40 degrees along the arc once the thing is lifted.
    """

    job: ClassVar[Job]

    perturb: bool = False

    def build(self, timestep: float) -> Scene:
        """The arc with both, and what it must remember."""
        scene = super().build(timestep)
        scene.memory("left")  # how far the goal has still to slide, rad, once the thing is lifted
        scene.memory("tier")
        return scene

    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """As ever, and with `perturb` how far the goal will slide, away from the nearer end of the arc."""
        start = super().sample(draw)
        if self.perturb:
            start["goes"] = draw.uniform(*GOES) * np.where(start["azimuth"][:, 1] > 0, -1, 1)
        return start

    def place(self, physics: Physics, ids: Ids, start: State) -> None:
        """Put everything where the start says."""
        super().place(physics, ids, start)
        physics.memory("left")[ids, 0] = start.get("goes", 0.0)
        physics.memory("tier")[ids] = 0

    def advance(self, physics: Physics, dt: float) -> None:
        """Slide the goal, and remember how far the job has come: a quarter each for reached, lifted, over the goal, done."""
        super().advance(physics, dt)
        found = self._found(physics)
        over = (np.linalg.norm(found["in_goal"][:, :2], axis=1) < 0.06) & found["held"]
        tiers = (found["distance"] < 0.04, found["held"] & (found["thing"][:, 2] > LIFTED), over, self.success(found))
        tier = physics.memory("tier")
        climb(tier, tiers)
        left = physics.memory("left")
        step = np.clip(left[:, 0], -SPEED * dt, SPEED * dt) * (tier[:, 0] >= 2)
        left[:, 0] -= step
        goal = physics.mocap_pos(f"{self.job.goal}/root")
        goal[:] = turned(goal, step)

    def _found(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """Where the thing and its goal are (m), and what is missing between them and the tool."""
        job = self.job
        pose, foot = physics.qpos(f"{job.thing}/free"), physics.mocap_pos(f"{job.goal}/root")
        tool, opening, goal = self.arm.tool_pos(physics), self.arm.opening(physics), foot + np.array([0, 0, job.floor])
        yaw, wanted = yaw_of(pose[:, 3:]), yaw_of(physics.mocap_quat(f"{job.goal}/root"))
        grasp = pose[:, :3] + turned(np.broadcast_to(job.grasp, (len(yaw), 3)), yaw)
        closing = physics.site_xmat(self.arm.tool)[:, :, 1]
        inside = turned(pose[:, :3] - goal, -wanted)
        goal_misturn = missing(yaw, pose[:, :3], wanted, foot) * job.aligned
        return {
            "opening": opening,
            "thing": pose[:, :3].copy(),
            "grasp": grasp,
            "goal": goal,
            "held": gripped(tool, grasp, opening, job.width),
            "laid": np.all(np.abs(inside) < job.inside, axis=1) & (np.abs(goal_misturn) < ASKEW),
            "distance": np.linalg.norm(tool - grasp, axis=1),
            "to_goal": np.linalg.norm(pose[:, :3] - goal, axis=1),
            "misturn": missing(np.arctan2(closing[:, 1], closing[:, 0]), tool, yaw + np.pi / 2, pose[:, :3]),
            "goal_misturn": goal_misturn,
            "in_goal": inside,
            "speed": np.linalg.norm(physics.qvel(f"{job.thing}/free")[:, :3], axis=1),
        }

    def state(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """What is felt; thing, goal and what is missing between them and the tool; what is to be looked at; the progress."""
        found = self._found(physics)
        held, laid = found["held"], found["laid"]
        return {
            **self.felt(physics),
            **self.looked_at(physics, np.where((held | laid)[:, None], found["goal"], found["grasp"])),
            **found,
            "phase": np.select([laid, held, found["distance"] < 0.12], [3, 2, 1], 0),
            "progress": physics.memory("tier")[:, 0] / 4,
        }

    def instruction(self, state: State) -> list[str]:
        """The same for every episode."""
        return [self.job.told] * len(state["held"])

    def success(self, state: State) -> NDArray[np.bool_]:
        """Where it belongs, let go, at rest."""
        free = state["opening"][:, 0] > min(self.job.width / 0.08 + 0.1, 0.9)
        return state["laid"] & free & (state["speed"] < AT_REST)

    def reward(self) -> WeightedSum:
        """To the thing, with it to the goal, without thrashing."""
        terms = {"reach": Proximity("distance", 0.1), "place": Proximity("to_goal", 0.2), "effort": Effort()}
        return WeightedSum(terms, {"reach": 0.3, "effort": 0.01})

    def oracle(self, state: State) -> NDArray[np.float32]:
        """Fetch the thing, bring it to its goal, and leave it there."""
        job, tool = self.job, state["tool"]
        get = fetch(tool, state["grasp"], state["misturn"], job.width)
        carry = bring(tool, state["thing"], state["goal"], state["goal_misturn"], job.width, job.drop)
        leave = approach(tool, state["grasp"] + [0, 0, 0.2]), np.zeros(len(tool)), np.ones(len(tool))
        conditions = (state["laid"], state["held"])
        move, turn, grip = (
            np.select([c[:, None] if part.ndim == 2 else c for c in conditions], [part, with_it], without)
            for part, with_it, without in zip(leave, carry, get, strict=True)
        )
        return np.concatenate([self.turn_to_target(state), self.drive(state, move, turn), grip[:, None]], axis=1).astype(
            np.float32
        )
