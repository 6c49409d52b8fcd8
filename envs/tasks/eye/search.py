"""EyeSearch: find the named object on an arc of 210 degrees."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from assets import Prop, props
from assets.errors import InvalidValueError
from envs.actions import Gaze, Part
from envs.eye import FIXATED, HOLD, angle_between, direction_to, first_gaze
from envs.physics import Ids, Physics
from envs.scene import Scene
from envs.streams import Draw
from envs.task import State, box
from envs.tasks.eye.arc import ARENA, ArcTask, on_arc
from rewards.base import WeightedSum
from rewards.verifiable import Closeness


@dataclass
class EyeSearch(ArcTask):
    """Turn the eye to the object that the instruction names, and hold it there.

    Task: one target and some distractors lie on an arc of 210 degrees around the eye; most of it is out of view at any time.
    Follows EyeRobot's active visual search (arXiv:2506.10968) at its 15 Hz, with 150 degrees per second at most.

    Observations: "eye_0" (fovea, 17.3 degrees), "eye_1" (62.3), "eye_2" (116.1): (40, 40, 3) uint8; "gaze" (2,) azimuth and
    elevation, rad; "gaze_velocity" (2,) rad/s; "explored" (2,) rightmost and leftmost azimuth so far, rad, so that a policy
    without memory can search; "target" (68,) embedding of the instruction.

    Action: "eye" (2,) rates of azimuth and elevation, 1 is 150 degrees per second.

    Reward: clip(1 - angle(gaze, target) / 50 degrees, 0, 1).

    Randomised: which objects, where (radius 0.45 to 0.75 m, at least 15 degrees apart), their yaw, the first gaze (azimuth
    +-90, elevation +-15 degrees), the light's strength where `randomise_light`.

    Success: gaze within 5 degrees of the target for 0.5 s on end. Nothing ends the episode but its time limit of 5 s.

    Args:
        distractors, resolution, fovs, projection, randomise_light: see `ArcTask`.
    """

    render_camera: ClassVar[str] = "front"
    arc: ClassVar[float] = np.radians(210.0)
    separation: ClassVar[float] = np.radians(15.0)
    radius: ClassVar[tuple[float, float]] = (0.45, 0.75)

    def __post_init__(self) -> None:
        self.check_distractors(len(self.props) - 1, 1)
        super().__post_init__()

    @cached_property
    def props(self) -> list[Prop]:
        """Everything that can lie on the table, in the order of the state's "target"."""
        return list(props().values())

    def build(self, timestep: float) -> Scene:
        """The arc, the eye, and every prop as a body that is moved by hand."""
        scene = Scene(ARENA, timestep)
        self.eye.attach(scene)
        self.attach_props(scene, self.props)
        scene.memory("target")
        scene.memory("held")
        scene.memory("explored", 2)
        return scene

    def parts(self) -> tuple[Part, ...]:
        """The eye."""
        return (Gaze(self.eye),)

    def sample(self, draw: Draw) -> dict[str, NDArray[Any]]:
        """Which objects, where, and the first gaze."""
        count = self.distractors + 1
        azimuth = self.azimuths(draw, count)
        start = {
            "objects": draw.permutation(len(self.props))[:, :count],  # the first is the target
            "azimuth": azimuth,
            "radius": draw.uniform(*self.radius, (count,)),
            "yaw": draw.uniform(-np.pi, np.pi, (count,)),
            "gaze": first_gaze(draw),
        }
        self.draw_light(draw, start)
        return start

    def place(self, physics: Physics, ids: Ids, start: State) -> None:
        """Put the drawn objects on the arc, hide the others."""
        self._check(start["objects"])
        at = on_arc(start["radius"], start["azimuth"])
        self.lay(physics, ids, self.props, start["objects"], at, start["yaw"])
        physics.memory("target")[ids, 0] = start["objects"][:, 0]
        physics.memory("held")[ids] = 0
        self.open_eye(physics, ids, start)

    def _check(self, objects: NDArray[Any]) -> None:
        if objects.min() < 0 or objects.max() >= len(self.props):
            raise InvalidValueError(
                f"objects must be indices below {len(self.props)} into {[p.name for p in self.props]}, got {objects.max()}"
            )
        if any(len(set(row)) != len(row) for row in objects.tolist()):
            raise InvalidValueError(f"an object can lie on the table once only, got objects {objects.tolist()[0]}")

    def _error(self, physics: Physics) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Direction of the target from the eye (N, 2) and angle of the gaze to it (N,), radians."""
        target = physics.memory("target")[:, 0].astype(int)
        middles = [np.array([0, 0, prop.height_m / 2]) for prop in self.props]
        centres = np.stack([physics.mocap_pos(f"{p.name}/root") + m for p, m in zip(self.props, middles, strict=True)], axis=1)
        direction = direction_to(centres[physics.all, target], self.eye.centre(physics))
        return direction, angle_between(self.eye.gaze(physics), direction)

    def advance(self, physics: Physics, dt: float) -> None:
        """Count how long the target has been fixated, and remember how far the eye has turned."""
        _, error = self._error(physics)
        held = physics.memory("held")
        held[:, 0] = np.where(error < FIXATED, held[:, 0] + dt, 0)
        super().advance(physics, dt)

    def state(self, physics: Physics) -> dict[str, NDArray[Any]]:
        """Gaze and target direction (rad), the angle between them (rad), how long it was held (s), which object."""
        direction, error = self._error(physics)
        gaze, velocity = self.eye.gaze(physics), self.eye.velocity(physics)
        return {
            "gaze": gaze,
            "gaze_velocity": velocity,
            "explored": physics.memory("explored").copy(),
            "target_direction": direction,
            "gaze_error": error,
            "gaze_error_rate": -_approach(gaze, velocity, direction),
            "held": physics.memory("held")[:, 0].copy(),
            "target": physics.memory("target")[:, 0].astype(np.int64),
        }

    def sights(self, physics: Physics) -> dict[str, NDArray[np.float64]]:
        """Everything on the table."""
        return self.lying(physics, self.props)

    def proprio(self) -> dict[str, spaces.Box]:
        """Where the eye points, how fast it moves, and how far to either side it has looked."""
        return {"gaze": box(2), "gaze_velocity": box(2), "explored": box(2)}

    def instruction(self, state: State) -> list[str]:
        """Such as "find the purple mug"."""
        return [f"find {self.props[k].phrase}" for k in state["target"]]

    def success(self, state: State) -> NDArray[np.bool_]:
        """Fixated for half a second."""
        return state["held"] >= HOLD - 1e-9

    def reward(self) -> WeightedSum:
        """EyeRobot's search reward."""
        return WeightedSum({"gaze": Closeness("gaze_error", np.radians(50))})

    def oracle(self, state: State) -> NDArray[np.float32]:
        """Turn straight to the target."""
        return self.turn_to_target(state).astype(np.float32)


def _approach(gaze: NDArray[np.float64], velocity: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """Speed at which the gaze comes nearer to a target direction, rad/s. Shapes (N, 2) x3 -> (N,).

    Near the equator, where both axes are nearly perpendicular, azimuth and elevation are taken as a plane.
    """
    offset = target - gaze
    distance = np.linalg.norm(offset, axis=1)
    return np.einsum("ni,ni->n", offset, velocity) / np.maximum(distance, 1e-6)
