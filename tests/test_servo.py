"""The servo looks to where perception points, to the degree, and searches where it points nowhere."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.base import RandomPolicy
from agents.servo import GazeServo
from assets.errors import InvalidValueError
from envs.perceive import VectorPerceive
from perception.vlm.base import Detections
from perception.vlm.colour import Colour


def seen(box: tuple[float, ...] | None, gaze: tuple[float, float] = (0, 0), speed: float = 0, age: float = 0) -> dict[str, Any]:
    return {
        "box": np.array([box or (0, 0, 0, 0)]), "found": np.array([[float(box is not None)]]), "age": np.array([[age]]),
        "gaze": np.array([gaze]), "gaze_velocity": np.array([[speed, 0]]), "explored": np.zeros((1, 2)),
    }  # fmt: skip


@given(st.floats(-30, 30), st.floats(-30, 30))
def test_it_turns_by_the_angle_at_which_the_box_is_seen(left: float, up: float) -> None:
    slope = np.tan(np.radians(62.3 / 2))
    u, v = (0.5 - np.tan(np.radians(a)) / slope / 2 for a in (left, up))
    action = GazeServo(reach=60).act(seen((u - 0.1, v - 0.05, u + 0.1, v + 0.05)))
    np.testing.assert_allclose(action[0] * 60, [left, up], atol=1e-4)


def test_it_searches_onwards_and_turns_back_at_the_ends() -> None:
    servo = GazeServo(reach=10, sides=100)
    for gaze, speed, way in ((0.5, 0, 1), (-0.5, 0, -1), (0.5, -2, -1), (1.8, 2, -1), (-1.8, -2, 1)):
        assert servo.act(seen(None, (gaze, 0), speed))[0, 0] == way
    assert servo.act(seen(None, (0, 0)))[0, 1] == -1  # down to where things lie
    assert servo.act(seen((0.4, 0.4, 0.6, 0.6), (0.5, 0), age=0.4))[0, 0] == 1  # an old box is none


class Nothing:
    """Finds nothing, wherever it looks."""

    def ground(self, images: NDArray[np.uint8], phrases: list[str]) -> list[Detections]:
        return [Detections()] * len(images)


def success(policy: Any, backend: Any, episodes: int = 24) -> float:
    env = gym.make_vec(
        "envs:Saccade/EyeSearch-v0", num_envs=episodes, vectorization_mode="vector_entry_point", autoreset_mode="disabled",
        resolution=64, fovs=[62.3], distractors=0,
    )  # fmt: skip
    env = VectorPerceive(env, backend)
    obs, info = env.reset(seed=0)
    done = np.zeros(episodes, bool)
    for _ in range(75):
        obs, _, _, _, info = env.step(policy.act(obs))
        done |= info["success"]
    env.close()
    return float(done.mean())


def test_with_a_seeing_backend_it_finds_what_it_is_told_to_find() -> None:
    found = success(GazeServo(), Colour())
    blind = success(GazeServo(), Nothing())
    random = success(RandomPolicy(gym.spaces.Box(-1, 1, (2,), np.float32)), Nothing())
    assert found > 0.5 > max(blind, random) + 0.2, (found, blind, random)


def test_its_benchmark_runs_every_episode_once() -> None:
    from benchmarks.grounded_gaze import measure

    rows = {row.name: row for row in measure(Colour(), episodes=42, seed=3)}  # more than a batch
    assert set(rows) == {"tiny", "colour", "tiny, black pictures", "random"}
    assert all(row.n == 42 for row in rows.values())
    assert rows["tiny"].value == rows["colour"].value > rows["tiny, black pictures"].value


def test_refusals() -> None:
    with pytest.raises(InvalidValueError, match=r"must be above 0 degrees, got 0, 10\.0 and 100\.0"):
        GazeServo(fov=0)
