"""EyeSearch: what is special about it."""

from __future__ import annotations

import gymnasium as gym
import numpy as np
import pytest

import envs  # noqa: F401
from assets.errors import InvalidValueError
from envs.tasks.eye.search import EyeSearch


def batch(num_envs: int = 32, **options: object) -> gym.vector.VectorEnv:
    return gym.make_vec(
        "Saccade/EyeSearch-v0",
        num_envs=num_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode="disabled",
        observe=(),
        **options,
    )


def test_objects_lie_on_the_arc_and_apart() -> None:
    env = batch(64, distractors=5)
    _, info = env.reset(seed=3)
    azimuth = np.sort(info["start"]["azimuth"], axis=1)
    assert (np.abs(azimuth) <= EyeSearch.arc / 2 + 1e-9).all()
    assert (np.diff(azimuth, axis=1) >= EyeSearch.separation - 1e-9).all()
    assert all(len(set(row)) == 6 for row in info["start"]["objects"].tolist())
    env.close()


def test_the_rate_of_the_gaze_error_is_its_derivative() -> None:
    env = batch()
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    action = rng.uniform(-0.4, 0.4, (32, 2)).astype(np.float32)
    for _ in range(3):  # the eye has to be moving steadily
        _, _, _, _, before = env.step(action)
    _, _, _, _, after = env.step(action)
    state, last = after["state"], before["state"]
    slope = (state["gaze_error"] - last["gaze_error"]) / env.unwrapped.task.control_dt
    middle = (state["gaze_error_rate"] + last["gaze_error_rate"]) / 2
    away = (state["gaze_error"] > 0.3) & (np.abs(state["target_direction"] - state["gaze"]).max(axis=1) < 1.0)
    assert away.sum() > 5
    np.testing.assert_allclose(slope[away], middle[away], atol=0.12)
    env.close()


def test_success_needs_half_a_second_on_the_target() -> None:
    env = batch(4)
    _, info = env.reset(seed=1)
    target = info["state"]["target_direction"]
    env.reset(seed=1, options={"gaze": target})
    still = np.zeros((4, 2), np.float32)
    won = [env.step(still)[4]["success"].copy() for _ in range(9)]
    assert not won[6].any()  # 7 steps are 0.467 s
    assert won[7].all()  # 8 steps are 0.533 s
    env.step(np.full((4, 2), -1, np.float32))
    _, _, _, _, info = env.step(still)
    assert not info["success"].any()
    env.close()


def test_the_start_can_be_set_by_name() -> None:
    env = batch(2)
    _, info = env.reset(seed=0, options={"objects": [3, 0, 1, 2], "gaze": [0.5, -0.1]})
    assert list(info["instruction"]) == ["find the pink eraser"] * 2
    np.testing.assert_allclose(info["state"]["gaze"], [[0.5, -0.1]] * 2)
    with pytest.raises(InvalidValueError, match="an object can lie on the table once only"):
        env.reset(options={"objects": [1, 1, 2, 3]})
    env.close()


def test_more_distractors_than_the_arc_holds_are_refused() -> None:
    with pytest.raises(InvalidValueError, match="distractors must be between 0 and 13, got 40"):
        EyeSearch(distractors=40)
