"""PlaceCube: what is special to it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import envs  # noqa: F401  registers the ids
from assets.errors import InvalidValueError
from envs.env import BatchEnv
from envs.tasks.arm.place import BLOCK, CUBE, HAND, SHUT, PlaceCube

TASK = "envs.tasks.arm.place:PlaceCube"


def state(**changes: Any) -> dict[str, Any]:
    """Everything as it is once the cube is placed."""
    goal = np.array([[0.5, -0.1, 2 * BLOCK[2] + CUBE]])
    told = {"cube": goal.copy(), "goal": goal, "over": np.array([True]), "opening": np.array([[1.0]]), "speed": np.zeros(1)}
    return told | changes


def test_success_is_to_lie_there_let_go_and_at_rest() -> None:
    task = PlaceCube()
    assert task.success(state())
    assert not task.success(state(opening=np.array([[0.5]])))
    assert not task.success(state(speed=np.array([0.1])))
    assert not task.success(state(over=np.array([False])))
    assert not task.success(state(cube=state()["goal"] + [0, 0, 0.05]))


def test_stages_come_one_after_another_and_are_remembered() -> None:
    env = BatchEnv(TASK, 8, observe=(), autoreset_mode="disabled")
    env.reset(seed=0)
    seen = []
    for _ in range(40):
        info = env.step(env.oracle())[-1]
        seen.append(info["state"]["progress"].copy())
    env.reset(options={"reset_mask": np.arange(8) < 4})
    after = env.step(np.zeros((8, 4), np.float32))[-1]["state"]["progress"]
    env.close()
    stages = np.array(seen)
    assert (np.diff(stages, axis=0) >= 0).all()
    assert (stages[-1] == 1).all()
    assert set(stages[:, 0]) == {0, 0.25, 0.5, 0.75, 1.0}
    np.testing.assert_array_equal(after, [0] * 4 + [1] * 4)


def test_the_gripper_opens_or_shuts_and_no_further_than_it_must() -> None:
    env: Any = gym.make("Saccade/PlaceCube-v0", observe=())
    env.reset(seed=0)
    for action, wide in ((-0.1, SHUT), (0.1, HAND), (-1.0, SHUT), (1.0, HAND), (0.0, SHUT)):
        for _ in range(7):
            env.step(np.array([0, 0, 0, action], np.float32))
        *_, info = env.step(np.array([0, 0, 0, action], np.float32))
        assert info["state"]["opening"][0] * HAND == pytest.approx(wide, abs=0.002)
    env.close()


def test_without_spread_everything_stands_where_it_always_stands() -> None:
    env = BatchEnv(TASK, 3, observe=(), spread=0.0)
    _, info = env.reset(seed=1)
    env.close()
    for name in ("cube", "goal"):
        assert np.ptp(info["state"][name], axis=0).max() < 1e-9
    with pytest.raises(InvalidValueError, match=r"spread must be in \[0, 1\], got 1.5"):
        PlaceCube(spread=1.5)
