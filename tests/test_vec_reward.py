"""Rewards in vector environments of others."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import DummyVecEnv

from agents.vec_reward import VecRewardWrapper
from rewards.base import Transition, WeightedSum


class Corridor(gym.Env[Any, Any]):
    """A walker that is at 0, 1, 2 ..; it is done at `end`, and cut off there where it is told to be."""

    observation_space = gym.spaces.Box(0, 99, (1,), np.float32)
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, end: int, cut: bool) -> None:
        self._end, self._cut, self._at = end, cut, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        super().reset(seed=seed)
        self._at = 0
        return np.zeros(1, np.float32), {}

    def step(self, action: NDArray[Any]) -> Any:
        self._at += 1
        done = self._at == self._end
        return np.array([self._at], np.float32), 7.0, done and not self._cut, done and self._cut, {}


class Where:
    """Pays for where a step led."""

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        return batch.next_obs["obs"][:, 0].astype(np.float32)


class Count:
    """Pays for how many steps of its episode there were; tells of what it was shown."""

    def __init__(self, count: int) -> None:
        self.steps, self.ended, self.from_ = np.zeros(count, int), [], []

    def reset(self, ids: NDArray[np.intp]) -> None:
        self.steps[ids] = 0

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        self.steps += 1
        self.ended.append(batch.terminated.tolist())
        self.from_.append(batch.obs["obs"][:, 0].tolist())
        return self.steps.astype(np.float32)


def test_episodes_are_paid_to_their_end_and_forgotten_one_by_one() -> None:
    count = Count(2)
    reward = WeightedSum({"where": Where(), "count": count}, {"count": 100.0})
    env = VecRewardWrapper(DummyVecEnv([lambda: Corridor(3, False), lambda: Corridor(4, True)]), reward)
    assert env.reset().tolist() == [[0], [0]]
    paid, seen = [], []
    for _ in range(5):
        obs, reward_now, _, infos = env.step(np.zeros((2, 1), np.float32))
        paid.append(reward_now.tolist())
        seen.append(obs[:, 0].tolist())
        assert [info["task_reward"] for info in infos] == [7.0, 7.0]
        assert set(infos[0]["reward_terms"]) == {"where", "count"}
    # The first walker's third step leads to 3, although what is returned then is the next episode's 0.
    assert paid == [[101, 101], [202, 202], [303, 303], [101, 404], [202, 101]]
    assert seen == [[1, 1], [2, 2], [0, 3], [1, 0], [2, 1]]
    assert count.from_ == [[0, 0], [1, 1], [2, 2], [0, 3], [1, 0]]
    assert count.ended == [[False, False], [False, False], [True, False], [False, False], [False, False]]


def test_reset_forgets_everything() -> None:
    count = Count(1)
    env = VecRewardWrapper(DummyVecEnv([lambda: Corridor(9, False)]), WeightedSum({"count": count}))
    env.reset()
    env.step(np.zeros((1, 1), np.float32))
    env.reset()
    assert count.steps.tolist() == [0]
    _, paid, _, _ = env.step(np.zeros((1, 1), np.float32))
    assert paid.tolist() == [1]
