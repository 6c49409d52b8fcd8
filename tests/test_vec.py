"""What Stable-Baselines3 is told is what happened: ends, limits, successes and returns."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import envs  # noqa: F401  registers the ids
from agents.vec import SB3VecEnv
from assets.errors import InvalidValueError

SEARCH = "Saccade/EyeSearch-v0"


def batch(n: int = 3, mode: str = "same_step", **kwargs: Any) -> Any:
    how: dict[str, Any] = {"observe": (), "max_episode_steps": 12, **kwargs}
    return gym.make_vec(SEARCH, num_envs=n, vectorization_mode="vector_entry_point", autoreset_mode=mode, **how)


def test_ends_are_told_as_they_happened() -> None:
    plain, vec = batch(), SB3VecEnv(batch())
    vec.seed(5)
    seen = vec.reset()
    obs, _ = plain.reset(seed=5)
    plain.unwrapped.stagger()
    returns, lengths, ended = np.zeros(3), np.zeros(3, int), 0
    for _ in range(40):
        for key in obs:
            np.testing.assert_array_equal(seen[key], obs[key])
        action = plain.unwrapped.oracle()
        obs, reward, terminated, truncated, info = plain.step(action)
        seen, rewards, dones, infos = vec.step(action)
        np.testing.assert_array_equal(rewards, reward)
        np.testing.assert_array_equal(dones, terminated | truncated)
        returns += reward
        lengths += 1
        for i in range(3):
            if not dones[i]:
                assert infos[i] == {}
                continue
            ended += 1
            for key, value in info["final_obs"][i].items():
                np.testing.assert_array_equal(infos[i]["terminal_observation"][key], value)
            # Drawn anew: the next episode does not begin where the last one ended.
            assert not np.array_equal(infos[i]["terminal_observation"]["gaze"], seen["gaze"][i])
            assert infos[i]["TimeLimit.truncated"] is True
            assert infos[i]["is_success"] is bool(info["final_info"]["is_success"][i])
            assert infos[i]["episode"] == {"r": pytest.approx(returns[i]), "l": lengths[i], "t": 0.0}
            returns[i], lengths[i] = 0, 0
    assert ended >= 9
    plain.close()
    vec.close()


def test_successes_are_counted_at_the_end() -> None:
    vec = SB3VecEnv(batch(n=4, max_episode_steps=60))
    vec.seed(0)
    vec.reset()
    won = []
    for _ in range(120):
        *_, infos = vec.step(vec.env.unwrapped.oracle())
        won += [info["is_success"] for info in infos if info]
    assert len(won) >= 6
    assert np.mean(won[4:]) == 1  # of whole episodes; staggered ones begin late
    vec.close()


def test_a_failure_is_no_time_limit() -> None:
    # A simulation that diverges ends before its limit, and its value is not to be bootstrapped.
    vec = SB3VecEnv(batch(n=2, max_episode_steps=100))
    vec.seed(0)
    vec.reset()
    vec.env.unwrapped.physics.all_qvel[0] = np.nan
    with pytest.warns(UserWarning, match="simulation 0 diverged"):
        _, _, dones, infos = vec.step(np.zeros((2, 2), np.float32))
    assert dones.tolist() == [True, False]
    assert infos[0]["TimeLimit.truncated"] is False
    vec.close()


def test_simulations_are_spread_over_the_episode() -> None:
    vec = SB3VecEnv(batch(n=4))
    vec.reset()
    ends = []
    for _ in range(12):
        _, _, dones, _ = vec.step(np.zeros((4, 2), np.float32))
        ends.append(dones)
    assert np.argmax(ends, axis=0).tolist() == [11, 8, 5, 2]
    vec.close()


def test_attributes_and_methods_are_the_batchs() -> None:
    vec = SB3VecEnv(batch())
    assert vec.get_attr("num_envs") == [3, 3, 3]
    assert vec.get_attr("num_envs", [1]) == [3]
    vec.reset()
    assert [a.shape for a in vec.env_method("oracle", indices=[0, 2])] == [(3, 2), (3, 2)]
    assert vec.env_is_wrapped(gym.Wrapper) == [False] * 3
    vec.set_attr("marked", 7)
    assert vec.get_attr("marked", [0]) == [7]
    with pytest.raises(InvalidValueError, match="all simulations share their attributes: set_attr takes no indices here"):
        vec.set_attr("marked", 8, indices=[0])
    vec.close()


def test_pictures_come_one_by_one() -> None:
    vec = SB3VecEnv(batch(n=2, render_mode="rgb_array", width=20, height=10))
    vec.reset()
    assert [np.shape(frame) for frame in vec.get_images()] == [(10, 20, 3)] * 2
    vec.close()


@pytest.mark.parametrize("mode", ["disabled", "next_step"])
def test_another_autoreset_is_refused(mode: str) -> None:
    env = batch(mode=mode)
    with pytest.raises(InvalidValueError, match=r"Stable-Baselines3 needs autoreset_mode='same_step', the environment has "):
        SB3VecEnv(env)
    env.close()
