"""One episode for each seed, whoever runs beside it, and the same one in training, evaluation and replay."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import envs  # noqa: F401  registers the ids
from agents.base import OraclePolicy, RandomPolicy
from agents.rollout import Episode, Record, rollout
from assets.errors import InvalidValueError

SEEDS = [11, 4, 4, 900_000, 0]


@contextmanager
def batch(n: int, mode: str = "disabled", env_id: str = "Saccade/EyeSearch-v0", **kwargs: Any) -> Iterator[Any]:
    how: dict[str, Any] = {"observe": (), "max_episode_steps": 20, **kwargs}
    env = gym.make_vec(env_id, num_envs=n, vectorization_mode="vector_entry_point", autoreset_mode=mode, **how)
    try:
        yield env
    finally:
        env.close()


def assert_same(a: Episode, b: Episode) -> None:
    assert (a.seed, a.instruction, a.terminated, a.physics_error) == (b.seed, b.instruction, b.terminated, b.physics_error)
    for name in ("reward", "success", "action"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("obs", "state", "snapshots", "terms"):
        mine, other = getattr(a, name), getattr(b, name)
        assert mine.keys() == other.keys()
        for key in mine:
            np.testing.assert_array_equal(mine[key], other[key], err_msg=f"{name}/{key}")


def run(n: int, seeds: Sequence[int], **kwargs: Any) -> list[Episode]:
    with batch(n) as env:
        return rollout(env, OraclePolicy(env), seeds, record=Record(), **kwargs)


@pytest.mark.parametrize("n", [1, 2, 4, 5, 7])
def test_as_many_as_seeds_in_their_order_whatever_the_batch(n: int) -> None:
    episodes = run(n, SEEDS)
    assert [e.seed for e in episodes] == SEEDS
    assert all(e.length == 20 for e in episodes)
    assert_same(episodes[1], episodes[2])  # the same seed is the same episode
    for a, b in zip(episodes, run(3, SEEDS), strict=True):
        assert_same(a, b)


def test_an_episode_does_not_depend_on_its_neighbours() -> None:
    among = run(4, [1, 2, 3, 4])[2]
    others = run(4, [70, 80, 3, 90])[2]
    assert_same(among, others)
    assert_same(among, run(1, [3])[0])
    assert not np.array_equal(among.reward, run(1, [70])[0].reward)


def test_what_is_recorded_lines_up() -> None:
    (e,) = run(1, [5])
    assert e.action is not None
    assert e.action.shape == (20, 2)
    assert e.obs["gaze"].shape == (21, 2)
    assert e.state["gaze"].shape == (21, 2)
    np.testing.assert_array_equal(e.snapshots["steps"], np.arange(21))
    np.testing.assert_allclose(e.obs["gaze"], e.state["gaze"], atol=1e-6)
    np.testing.assert_allclose(sum(e.terms.values()), e.reward, atol=1e-6)
    np.testing.assert_allclose(e.reward, np.clip(1 - e.state["gaze_error"][1:] / np.radians(50), 0, 1), atol=1e-6)


def test_nothing_is_recorded_unasked() -> None:
    with batch(1) as env:
        (e,) = rollout(env, OraclePolicy(env), [5])
        assert (e.action, e.obs, e.state, e.snapshots, e.terms) == (None, {}, {}, {}, {})
        light = rollout(env, OraclePolicy(env), [5], record=Record(snapshots=False))[0]
        assert light.snapshots == {}
        np.testing.assert_array_equal(light.reward, e.reward)


def test_images_are_kept_on_request() -> None:
    with batch(2, observe=("eye_0",), image_size=8) as env:
        for wanted, kept in ((False, set()), (True, {"eye_0"})):
            episodes = rollout(env, OraclePolicy(env), [1, 2], record=Record(images=wanted))
            assert {k for k, v in episodes[0].obs.items() if v.ndim > 2} == kept
        assert episodes[0].obs["eye_0"].shape == (21, 8, 8, 3)


def test_success_is_when_it_first_came() -> None:
    with batch(1, max_episode_steps=75) as env:
        (e,) = rollout(env, OraclePolicy(env), [3])
        (lost,) = rollout(env, RandomPolicy(env.single_action_space), [3])
    assert e.succeeded
    assert e.first_success == np.flatnonzero(e.success)[0] + 1
    assert not lost.succeeded
    assert lost.first_success is None


def test_a_diverged_simulation_ends_its_episode_alone() -> None:
    class Breaker(OraclePolicy):
        """The expert, with an accident of the first simulation at the third step."""

        calls = 0

        def act(self, obs: Any, *, deterministic: bool = False) -> Any:
            self.calls += 1
            if self.calls == 3:
                env.unwrapped.physics.all_qvel[0] = np.nan
            return super().act(obs, deterministic=deterministic)

    with batch(2) as env, pytest.warns(UserWarning, match="simulation 0 diverged"):
        broken, whole = rollout(env, Breaker(env), [1, 2])
    assert (broken.length, broken.physics_error, broken.terminated) == (3, True, True)
    assert (whole.length, whole.physics_error, whole.terminated) == (20, False, False)
    np.testing.assert_array_equal(whole.reward, run(1, [2])[0].reward)


def test_a_start_can_be_forced() -> None:
    episodes = run(2, [1, 2], options={"gaze": [0.1, 0.2]})
    for e in episodes:
        np.testing.assert_allclose(e.state["gaze"][0], [0.1, 0.2], atol=1e-9)


def test_a_policy_is_told_of_every_batch_and_progress_of_every_episode() -> None:
    class Counting(RandomPolicy):
        resets = 0

        def reset(self) -> None:
            self.resets += 1

    finished: list[int] = []
    with batch(2) as env:
        policy = Counting(env.single_action_space)
        assert len(rollout(env, policy, range(5), progress=finished.append)) == 5
        assert rollout(env, policy, []) == []
    assert policy.resets == 3
    assert finished == [2, 2, 1]


def test_an_environment_that_resets_itself_is_refused() -> None:
    with (
        batch(1, mode="next_step") as env,
        pytest.raises(InvalidValueError, match="rollouts need autoreset_mode='disabled', the environment has "),
    ):
        rollout(env, OraclePolicy(env), [1])


def test_an_environment_without_a_time_limit_is_refused() -> None:
    with (
        batch(1, max_episode_steps=None) as env,
        pytest.raises(InvalidValueError, match="rollouts need a time limit, the environment has none: give max_episode_steps"),
    ):
        rollout(env, OraclePolicy(env), [1])
