"""Every learner learns: something tiny, in seconds. (Behaviour cloning does in test_bc.py.)"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space

from agents.base import OraclePolicy, Policy, RandomPolicy
from agents.sb3 import SB3Learner
from assets.errors import UnknownNameError


class Point(VectorEnv[Any, Any, Any]):
    """Say where the point is: reward 1 - |a - x|^2 per step, five steps an episode, so 5 is perfect and -0.3 is chance."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012
    length = 5

    def __init__(self, num_envs: int = 8) -> None:
        self.num_envs, self.render_mode = num_envs, None
        self.single_observation_space = spaces.Dict({"x": spaces.Box(-1, 1, (2,), np.float32)})
        self.single_action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def draw(self) -> dict[str, np.ndarray]:
        self.x = self.np_random.uniform(-0.8, 0.8, (self.num_envs, 2)).astype(np.float32)
        return {"x": self.x.copy()}

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        del options
        self._np_random = np.random.default_rng(seed)
        self.t = 0
        return self.draw(), {}

    def step(self, actions: Any) -> Any:
        reward = 1 - np.square(actions - self.x).sum(axis=1)
        self.t += 1
        done = np.full(self.num_envs, self.t % self.length == 0)
        final = [{"x": row} for row in self.x]
        obs = self.draw()
        info = {"final_obs": final, "final_info": {"is_success": reward > 0.9}} if done.any() else {}
        return obs, reward, np.zeros_like(done), done, info


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def score(learner: Policy) -> float:
    """Mean return of the greedy policy over 100 fresh episodes."""
    env = Point(100)
    obs, total = env.reset(seed=77)[0], 0.0
    for _ in range(Point.length):
        obs, reward, *_ = env.step(learner.act(obs, deterministic=True))
        total += float(reward.mean())
    return total


SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"n_steps": 64, "batch_size": 128, "n_epochs": 6, "learning_rate": 3e-3, "gamma": 0.5, "policy": {"net_arch": [32]}},
    "sac": {
        "buffer_size": 10_000, "learning_starts": 200, "batch_size": 64, "learning_rate": 3e-3, "gamma": 0.5,
        "gradient_steps": 2, "policy": {"net_arch": [32, 32]},
    },
}  # fmt: skip
STEPS = {"ppo": 16_000, "sac": 4_000}


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_it_learns(algorithm: str) -> None:
    learner = SB3Learner(Point(), algorithm, seed=0, device="cpu", threads=1, **SETTINGS[algorithm])
    before = score(learner)
    metrics = learner.advance(STEPS[algorithm])
    assert isinstance(learner, Policy)
    assert learner.steps == metrics["time/total_timesteps"] >= STEPS[algorithm]
    assert score(learner) > 4.7, f"{before} before"
    assert score(RandomPolicy(Point().single_action_space)) < 2
    # What was logged is what happened: sampled, so a little lower than greedy.
    assert 3.5 < metrics["rollout/ep_rew_mean"] <= 5
    assert metrics["rollout/ep_len_mean"] == Point.length
    assert metrics["rollout/success_rate"] > 0.5


@pytest.mark.parametrize("algorithm", SETTINGS)
def test_the_same_seed_trains_the_same(algorithm: str) -> None:
    def train(seed: int) -> np.ndarray:
        learner = SB3Learner(Point(), algorithm, seed=seed, device="cpu", threads=1, **SETTINGS[algorithm])
        learner.advance(600)
        return learner.act({"x": np.linspace(-1, 1, 20, dtype=np.float32).reshape(10, 2)}, deterministic=True)

    first = train(0)
    np.testing.assert_array_equal(train(0), first)
    assert not np.array_equal(train(1), first)


def test_actions_are_batched_bounded_and_greedy_on_demand() -> None:
    learner = SB3Learner(Point(), "ppo", device="cpu", threads=1, **{**SETTINGS["ppo"], "policy": {"log_std_init": 2.0}})
    obs = {"x": np.zeros((200, 2), np.float32)}
    sampled, greedy = learner.act(obs), learner.act(obs, deterministic=True)
    assert sampled.shape == greedy.shape == (200, 2)
    assert sampled.dtype == greedy.dtype == np.float32
    assert np.abs(sampled).max() == 1
    assert sampled.std() > 0.5
    assert np.unique(greedy, axis=0).shape[0] == 1


def test_an_unknown_algorithm() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown algorithm 'pppo': did you mean 'ppo'\? available: ppo, sac"):
        SB3Learner(Point(), "pppo")


def test_the_scripted_policies() -> None:
    space = Point().single_action_space
    obs = {"x": np.zeros((500, 2), np.float32)}
    first = RandomPolicy(space, 3).act(obs)
    np.testing.assert_array_equal(RandomPolicy(space, 3).act(obs), first)
    assert not np.array_equal(RandomPolicy(space, 4).act(obs), first)
    assert first in batch_space(space, 500)
    np.testing.assert_allclose(first.mean(axis=0), 0, atol=0.1)

    class Certain(Point):
        def oracle(self) -> np.ndarray:
            return np.full((500, 2), 0.9, np.float32)

    noisy = OraclePolicy(Certain(500), noise=0.2, seed=1)
    np.testing.assert_array_equal(noisy.act(obs, deterministic=True), np.float32(0.9))
    said = noisy.act(obs)
    assert said.max() == 1
    assert 0.8 < said.mean() < 0.9
    assert all(isinstance(p, Policy) for p in (noisy, RandomPolicy(space)))
