"""Behaviour cloning: chunk arithmetic, both heads learn, exact resume, and an eye that learns to search from its oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv

from agents import checkpoint
from agents.base import RandomPolicy
from agents.bc import BCLearner
from agents.chunk import ChunkBuffer
from agents.collect import collect
from agents.dataset import DatasetError
from agents.rollout import Episode, rollout
from assets.errors import InvalidValueError, UnknownNameError

GAIN = np.array([[-0.5, 0.0], [0.25, -0.5]], np.float32)


class Plane(VectorEnv[Any, Any, Any]):
    """A point x on a plane that moves by 0.2 times the action; the expert acts a = clip(G x)."""

    metadata = {"autoreset_mode": AutoresetMode.DISABLED}  # noqa: RUF012

    def __init__(self, num_envs: int = 4, length: int = 20) -> None:
        self.num_envs, self.length = num_envs, length
        self.single_observation_space = spaces.Dict({"x": spaces.Box(-np.inf, np.inf, (2,), np.float32)})
        self.single_action_space = spaces.Box(-1, 1, (2,), np.float32)
        self.x, self.t = np.zeros((num_envs, 2), np.float32), 0

    def info(self) -> dict[str, Any]:
        done = np.linalg.norm(self.x, axis=1) < 0.2
        no = np.zeros(self.num_envs, bool)
        return {"success": done, "instruction": ["home"] * self.num_envs, "state": {}, "physics_error": no}

    def reset(self, *, seed: Any = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        self.x = np.stack([np.random.default_rng(s).uniform(-2, 2, 2) for s in seed]).astype(np.float32)
        self.t = 0
        return {"x": self.x.copy()}, self.info()

    def step(self, actions: Any) -> Any:
        self.x = self.x + 0.2 * actions
        self.t += 1
        ended = np.full(self.num_envs, self.t >= self.length)
        return {"x": self.x.copy()}, np.zeros(self.num_envs, np.float32), ~ended & False, ended, self.info()


def expert(x: np.ndarray) -> np.ndarray:
    return np.clip(2 * x @ GAIN.T, -1, 1).astype(np.float32)


def plane_episodes(count: int = 40, length: int = 20) -> list[Episode]:
    episodes = []
    for seed in range(count):
        x = [np.random.default_rng(1000 + seed).uniform(-2, 2, 2).astype(np.float32)]
        actions = []
        for _ in range(length):
            actions.append(expert(x[-1][None])[0])
            x.append(x[-1] + 0.2 * actions[-1])
        zeros = np.zeros(length, np.float32)
        episodes.append(Episode(seed, "home", zeros, zeros > 1, False, False, action=np.stack(actions), obs={"x": np.stack(x)}))
    return episodes


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# -- chunks ------------------------------------------------------------------------------------------------------------


def plans(*first: float) -> Any:
    """One simulation, one action; a chunk predicted at step k says first[k] + 1, + 2, ... for the steps to come."""
    calls = iter(first)
    return lambda: (next(calls) + np.arange(3, dtype=np.float32)).reshape(1, 3, 1)


def test_ensemble_weighs_the_oldest_prediction_most():
    buffer, predict = ChunkBuffer(3, execute=1, ensemble=0.5), plans(0, 10, 20, 30)
    got = [buffer.act(1, predict)[0, 0] for _ in range(4)]
    w = np.exp(-0.5 * np.arange(3))
    # About step 2: the chunk of step 0 says 2, that of step 1 says 11, that of step 2 says 20; step 3 drops the first.
    expected = [
        0.0,
        (w[:2] @ [1, 10]) / w[:2].sum(),
        (w @ [2, 11, 20]) / w.sum(),
        (w @ [12, 21, 30]) / w.sum(),
    ]
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_without_ensemble_the_newest_speaks():
    buffer, predict = ChunkBuffer(3, execute=1, ensemble=None), plans(0, 10, 20)
    assert [buffer.act(1, predict)[0, 0] for _ in range(3)] == [0, 10, 20]


def test_executing_a_whole_chunk_asks_once_per_chunk():
    buffer, predict = ChunkBuffer(3, execute=3, ensemble=0.01), plans(0, 10)
    assert [buffer.act(1, predict)[0, 0] for _ in range(6)] == [0, 1, 2, 10, 11, 12]


def test_reset_forgets_all_or_some():
    buffer = ChunkBuffer(2, execute=2, ensemble=None)
    calls = iter(np.arange(100, dtype=np.float32))

    def predict() -> Any:
        return np.full((2, 2, 1), next(calls), np.float32)

    assert buffer.act(2, predict)[:, 0].tolist() == [0, 0]
    buffer.reset(np.array([False, True]))
    assert buffer.act(2, predict)[:, 0].tolist() == [0, 1]  # the first goes on with its chunk
    buffer.reset()
    assert buffer.act(1, lambda: predict()[:1])[:, 0].tolist() == [2]  # another batch size


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"chunk": 0}, r"chunk must be >= 1 action, got 0"),
        ({"chunk": 4, "execute": 5}, r"execute must be between 1 and the chunk's 4 actions, got 5"),
        ({"chunk": 4, "ensemble": -1.0}, r"ensemble must be a finite number >= 0, or None for no averaging, got -1.0"),
    ],
)
def test_chunk_errors(arguments: dict[str, Any], sentence: str):
    with pytest.raises(InvalidValueError, match=sentence):
        ChunkBuffer(**arguments)


def test_another_batch_size_needs_a_reset():
    buffer = ChunkBuffer(2)
    buffer.act(2, lambda: np.zeros((2, 2, 1), np.float32))
    with pytest.raises(InvalidValueError, match=r"the chunks are of 2 simulations, now there are 3: call reset\(\)"):
        buffer.act(3, lambda: np.zeros((3, 2, 1), np.float32))


# -- learning ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("head", "tolerance"), [("mse", 0.05), ("flow", 0.15)])
def test_each_head_learns_a_linear_expert(head: str, tolerance: float):
    env = Plane()
    learner = BCLearner(env, plane_episodes(), head=head, chunk=4, hidden=(64, 64), learning_rate=3e-3)
    learner.advance(800)
    x = np.random.default_rng(5).uniform(-1.5, 1.5, (64, 2)).astype(np.float32)
    error = np.abs(learner.act({"x": x}, deterministic=True) - expert(x)).mean()
    assert error < tolerance
    episodes = rollout(env, learner, range(10))
    assert all(e.succeeded for e in episodes)


def test_the_flow_takes_sides_where_regression_averages():
    # Half of the demonstrators go left, half right, from the same place.
    def one(side: float) -> Episode:
        still = {"x": np.zeros((11, 2), np.float32)}
        action, zeros = np.full((10, 2), side, np.float32), np.zeros(10, np.float32)
        return Episode(0, "", zeros, zeros > 1, False, False, action=action, obs=still)

    episodes, seen = [one(-0.8), one(0.8)], {"x": np.zeros((200, 2), np.float32)}
    said = {}
    for head in ("mse", "flow"):
        learner = BCLearner(Plane(), episodes, head=head, chunk=1, hidden=(64, 64), euler_steps=10)
        learner.advance(600)
        said[head] = learner.act(seen)
    assert np.abs(said["mse"]).max() < 0.2
    assert (np.abs(np.abs(said["flow"]) - 0.8) < 0.25).mean() > 0.8
    assert 0.3 < (said["flow"][:, 0] > 0).mean() < 0.7


def test_what_lies_beyond_the_end_is_not_learned():
    learner = BCLearner(Plane(), plane_episodes(1, length=3), chunk=5)
    data = learner._prepare()
    _, chunk, real = data.draw(50, 5, torch.Generator().manual_seed(0))
    assert chunk.shape == (50, 5, 2)
    assert set(real.sum(dim=1).tolist()) == {1, 2, 3}
    changed = torch.where(real[..., None], chunk, 1e6)
    obs = {"x": torch.zeros(50, 2)}
    losses = [learner.network.loss(obs, c, real, torch.Generator()).item() for c in (chunk, changed)]
    assert losses[0] == losses[1]


def test_normalisation_is_the_demonstrations():
    episodes = plane_episodes()
    learner = BCLearner(Plane(), episodes)
    learner.advance(1)
    seen = np.concatenate([e.obs["x"][:-1] for e in episodes])
    np.testing.assert_allclose(learner.state()["policy"]["mean_x"], seen.mean(axis=0), atol=1e-5)
    np.testing.assert_allclose(learner.state()["policy"]["std_x"], seen.std(axis=0), atol=1e-5)


# -- checkpoints -------------------------------------------------------------------------------------------------------


def parameters(learner: BCLearner) -> dict[str, np.ndarray]:
    return {key: value.cpu().numpy().copy() for key, value in learner.network.state_dict().items()}


@pytest.mark.parametrize("head", ["mse", "flow"])
def test_resume_is_exact(head: str, tmp_path: Path):
    def make(seed: int) -> BCLearner:
        return BCLearner(Plane(), plane_episodes(), seed=seed, head=head, hidden=(32,), device="cpu")

    straight, first, second = make(0), make(0), make(99)
    straight.advance(60)
    first.advance(30)
    checkpoint.save(first.state(), tmp_path / "c")
    second.load_state(checkpoint.load(tmp_path / "c"))
    assert second.steps == 30
    second.advance(30)
    assert second.steps == straight.steps == 60
    for key, value in parameters(straight).items():
        np.testing.assert_array_equal(parameters(second)[key], value)
    x = {"x": np.ones((4, 2), np.float32)}
    np.testing.assert_array_equal(second.act(x), straight.act(x))  # the flow's noise goes on alike, too


def test_a_state_in_memory_does_not_train_on():
    learner = BCLearner(Plane(), plane_episodes(), hidden=(32,), device="cpu")
    learner.advance(10)
    kept, before = learner.state(), parameters(learner)
    learner.advance(10)
    after = parameters(learner)
    learner.load_state(kept)
    for key, value in before.items():
        np.testing.assert_array_equal(parameters(learner)[key], value)
    learner.advance(10)
    for key, value in after.items():
        np.testing.assert_array_equal(parameters(learner)[key], value)


def test_a_policy_loads_without_its_demonstrations(tmp_path: Path):
    learner = BCLearner(Plane(), plane_episodes(), hidden=(32,))
    learner.advance(20)
    checkpoint.save(learner.state(), tmp_path / "c")
    actor = BCLearner(Plane(), None, hidden=(32,), seed=7)
    actor.load_policy(checkpoint.load(tmp_path / "c"))
    x = {"x": np.ones((4, 2), np.float32)}
    np.testing.assert_array_equal(actor.act(x, deterministic=True), learner.act(x, deterministic=True))
    with pytest.raises(InvalidValueError, match=r"made with demonstrations=None: it can act, but not learn"):
        actor.advance(1)


def test_other_demonstrations_cannot_resume():
    learner = BCLearner(Plane(), plane_episodes())
    learner.advance(1)
    other = BCLearner(Plane(), plane_episodes(10))
    other.load_state(learner.state())
    with pytest.raises(InvalidValueError, match=r"trained on demonstrations with digest .*: resume with the same dataset"):
        other.advance(1)


def test_making_a_learner_leaves_the_global_stream_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    BCLearner(Plane(), plane_episodes(2)).advance(1)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)


def test_errors():
    with pytest.raises(UnknownNameError, match=r"unknown head 'flows': did you mean 'flow'\? available: flow, mse"):
        BCLearner(Plane(), plane_episodes(1), head="flows")
    with pytest.raises(InvalidValueError, match=r"batch_size must be >= 1, got 0"):
        BCLearner(Plane(), plane_episodes(1), batch_size=0)
    with pytest.raises(DatasetError, match=r"no demonstrations to learn from: at least one episode is needed"):
        BCLearner(Plane(), []).advance(1)
    with pytest.raises(DatasetError, match=r"nowhere is not a dataset: it has no data/metadata.json"):
        BCLearner(Plane(), "nowhere").advance(1)
    learner = BCLearner(Plane(), plane_episodes(1))
    with pytest.raises(InvalidValueError, match=r"the checkpoint has chunk=8, this learner 4: make them alike"):
        BCLearner(Plane(), plane_episodes(1), chunk=4).load_policy(learner.state())
    blind = plane_episodes(1)
    blind[0].obs = {"y": blind[0].obs["x"]}
    with pytest.raises(InvalidValueError, match=r"the vector 'x', which the demonstrations lack \(they have \['y'\]\)"):
        BCLearner(Plane(), blind).advance(1)


# -- the real thing ----------------------------------------------------------------------------------------------------


def search(**kwargs: Any) -> VectorEnv[Any, Any, Any]:
    how = {"vectorization_mode": "vector_entry_point", "autoreset_mode": "disabled", **kwargs}
    return gym.make_vec("envs:Saccade/EyeSearch-v0", num_envs=20, **how)


@pytest.mark.slow
def test_an_eye_learns_to_search_from_its_oracle(tmp_path: Path):
    # Many short episodes: the search is over in a dozen steps, and each shows one more arrangement of objects.
    env = search(observe=(), max_episode_steps=20)
    made = collect(env, None, 250, 1000, tmp_path, "saccade/eye-search/oracle-v0", noise=0.3, only_successes=False)
    env.close()
    env, seeds = search(image_size=32, max_episode_steps=75), range(20)
    try:
        learner = BCLearner(env, made.path, device="cpu")
        learner.advance(1000)
        cloned = np.mean([e.succeeded for e in rollout(env, learner, seeds)])
        random = np.mean([e.succeeded for e in rollout(env, RandomPolicy(env.single_action_space), seeds)])
    finally:
        env.close()
    assert random <= 0.1
    assert cloned >= 0.4  # 0.5 to 0.65 where this was written
