"""Other shapes of actions and observations mean what the flat ones mean."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode

import envs  # noqa: F401  registers the ids
from assets.errors import InvalidValueError, UnknownNameError
from envs.wrappers import (
    DictAction,
    DiscreteGaze,
    FlatObservation,
    VectorDictAction,
    VectorDiscreteGaze,
    VectorFlatObservation,
    gaze_steps,
)

SEARCH, REACH, BOTH = "Saccade/EyeSearch-v0", "Saccade/Reach-v0", "Saccade/ReachEye-v0"


def one(env_id: str, **kwargs: Any) -> Any:
    return gym.make(env_id, **{"observe": (), **kwargs})


def many(env_id: str, n: int = 3, **kwargs: Any) -> Any:
    return gym.make_vec(env_id, num_envs=n, vectorization_mode="vector_entry_point", **{"observe": (), **kwargs})


WRAPPED = [
    (BOTH, DictAction, {}),
    (SEARCH, DictAction, {}),
    (REACH, DictAction, {}),
    (SEARCH, DiscreteGaze, {"n": 9}),
    (BOTH, DiscreteGaze, {"n": 25}),
    (BOTH, FlatObservation, {}),
    (SEARCH, FlatObservation, {"pixels": True}),
]


@pytest.mark.parametrize(("env_id", "wrapper", "kwargs"), WRAPPED)
def test_gymnasium_accepts_the_wrapped_environment(env_id: str, wrapper: Any, kwargs: dict[str, Any]) -> None:
    env = wrapper(one(env_id, observe=None, image_size=8), **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version.*")
        warnings.filterwarnings("ignore", message=".*we recommend using a symmetric and normalized space.*")
        check_env(env, skip_render_check=True)
        assert env.spec is not None
        again = gym.make(env.spec)
    assert again.action_space == env.action_space
    assert again.observation_space == env.observation_space
    env.close()
    again.close()


def test_a_dictionary_is_the_flat_action_by_parts() -> None:
    flat, parts = many(BOTH), VectorDictAction(many(BOTH))
    flat.reset(seed=0)
    parts.reset(seed=0)
    slices = flat.unwrapped.action_slices
    action = flat.action_space.sample()
    rest = np.delete(action, np.arange(action.shape[1])[slices["eye"]], axis=1)
    assert isinstance(parts.single_action_space, spaces.Dict)
    told = {"eye": action[:, slices["eye"]], "hand": rest}
    assert told in parts.action_space
    for a, b in zip(flat.step(action)[0].values(), parts.step(told)[0].values(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_dictionary_must_have_the_right_parts() -> None:
    env = DictAction(one(BOTH))
    env.reset(seed=0)
    good = env.action_space.sample()
    with pytest.raises(UnknownNameError, match="unknown part of the action 'eyes': did you mean 'eye'"):
        env.step({**good, "eyes": good["eye"]})
    with pytest.raises(InvalidValueError, match="the action lacks 'hand'; it needs"):
        env.step({"eye": good["eye"]})
    with pytest.raises(InvalidValueError, match=r"'eye' needs 2 numbers, got \(3,\)"):
        env.step({**good, "eye": np.zeros(3)})
    with pytest.raises(InvalidValueError, match="must be a dictionary"):
        env.step(np.zeros(6))


def test_gaze_steps_turn_as_far_as_they_say() -> None:
    env = DiscreteGaze(one(SEARCH), n=25)
    table = gaze_steps(25, 10.0)
    for choice in range(25):
        _, info = env.reset(seed=0, options={"gaze": [0.0, 0.0]})
        *_, info = env.step(choice)
        for _ in range(5):  # the servo lags by 11 ms
            *_, info = env.step(0)
        turned = np.degrees(info["state"]["gaze"])
        np.testing.assert_allclose(turned, 10 * table[choice], atol=0.15)
    lengths = np.linalg.norm(table, axis=1)
    np.testing.assert_allclose(lengths, [0, *[1] * 8, *[0.3] * 8, *[0.1] * 8], atol=1e-6)


def test_nine_choices_are_full_speed_in_eight_directions() -> None:
    table = gaze_steps(9, 7.5)
    np.testing.assert_array_equal(table[0], 0)
    np.testing.assert_allclose(np.linalg.norm(table[1:], axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(table[1:].sum(axis=0), 0, atol=1e-6)
    assert len({tuple(row) for row in table.round(4).tolist()}) == 9


def test_discrete_gaze_beside_a_hand_and_in_a_batch() -> None:
    env = VectorDiscreteGaze(many(BOTH), n=9)
    env.reset(seed=0)
    assert env.action_space.sample() in env.action_space
    before = env.reset(seed=0)[1]["state"]["gaze"]
    *_, info = env.step({"eye": np.array([0, 1, 5]), "hand": np.zeros((3, 4), np.float32)})
    turned = info["state"]["gaze"] - before
    assert abs(turned[0, 0]) < 0.01
    assert turned[1, 0] > 0.05
    assert turned[2, 0] < -0.05
    env.close()


@pytest.mark.parametrize("choice", [-1, 9, 0.5])
def test_a_choice_must_exist(choice: float) -> None:
    env = DiscreteGaze(one(SEARCH))
    env.reset(seed=0)
    with pytest.raises(InvalidValueError, match=f"must be an integer from 0 to 8, got {choice}"):
        env.step(choice)


def test_discrete_gaze_needs_an_eye_and_a_known_number() -> None:
    with pytest.raises(InvalidValueError, match=r"has no eye to move; its action has \['arm', 'gripper'\]"):
        DiscreteGaze(one(REACH))
    with pytest.raises(InvalidValueError, match="n = 9 or 25 choices, got 8"):
        DiscreteGaze(one(SEARCH), n=8)


def test_flat_observations_are_the_members_in_order() -> None:
    plain, flat = one(BOTH), FlatObservation(one(BOTH))
    obs, vector = plain.reset(seed=0)[0], flat.reset(seed=0)[0]
    np.testing.assert_array_equal(vector, np.concatenate([obs[key] for key in plain.observation_space]))
    assert vector in flat.observation_space


def test_flat_pixels_are_scaled_and_vectors_alone_leave_them_out() -> None:
    plain = one(SEARCH, observe=("eye_0",), image_size=4)
    seen = plain.reset(seed=0)[0]
    with_pixels = FlatObservation(one(SEARCH, observe=("eye_0",), image_size=4), pixels=True)
    without = FlatObservation(one(SEARCH, observe=("eye_0",), image_size=4))
    assert with_pixels.observation_space.shape == (without.observation_space.shape[0] + 48,)
    vector = with_pixels.reset(seed=0)[0]
    keys = list(plain.observation_space)  # a Dict space keeps its keys in alphabetical order
    at = sum(seen[key].size for key in keys[: keys.index("eye_0")])
    np.testing.assert_allclose(vector[at : at + 48], seen["eye_0"].ravel() / 255, rtol=1e-6)
    for env in (plain, with_pixels, without):
        env.close()


def test_a_flat_batch_flattens_final_observations_too() -> None:
    flat = VectorFlatObservation(many(SEARCH, max_episode_steps=2, autoreset_mode="same_step"))
    assert flat.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    plain = many(SEARCH, max_episode_steps=2, autoreset_mode="same_step")
    flat.reset(seed=0)
    plain.reset(seed=0)
    for _ in range(2):
        zero = np.zeros(flat.action_space.shape, np.float32)
        obs, _, _, truncated, info = flat.step(zero)
        raw = plain.step(zero)
    assert truncated.all()
    assert obs.shape == flat.observation_space.shape
    for i in range(3):
        np.testing.assert_array_equal(
            info["final_obs"][i], np.concatenate([raw[4]["final_obs"][i][key] for key in plain.single_observation_space])
        )
