"""Rewards are plain functions of recorded transitions: their laws, their edges, and that an environment agrees."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import envs  # noqa: F401  registers the ids
from agents.base import RandomPolicy
from agents.rollout import Record, rollout
from assets.errors import InvalidValueError, UnknownNameError
from rewards.base import Reward, Transition, WeightedSum
from rewards.verifiable import Closeness, Descent, Effort, Fraction, Proximity

QUANTITIES = hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(0, 1e3))
SCALES = st.floats(1e-3, 1e3)
ACTIONS = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 4)), elements=st.floats(-1, 1, width=32))


def step(x: Any = (0.0,), action: Any = None) -> Transition:
    x = np.asarray(x, np.float64)
    action = np.zeros((len(x), 1), np.float32) if action is None else action
    return Transition({}, action, {"x": x, "y": 2 * x}, {}, np.zeros(len(x), bool), [""] * len(x))


SHAPED = [Closeness, Proximity]


@pytest.mark.parametrize("kind", [Closeness, Proximity, lambda q, s: Fraction(q, s)])
@given(x=QUANTITIES, scale=SCALES)
def test_shaped_rewards_are_between_0_and_1_and_follow_the_unit(kind: Any, x: np.ndarray, scale: float) -> None:
    reward = kind("x", scale)(step(x))
    assert reward.dtype == np.float32
    assert reward.shape == x.shape
    assert ((reward >= 0) & (reward <= 1)).all()
    # Metres or millimetres: only the ratio counts.
    np.testing.assert_allclose(kind("x", 1000 * scale)(step(1000 * x)), reward, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", SHAPED)
@given(x=QUANTITIES, scale=SCALES)
def test_nearer_is_never_worse(kind: Any, x: np.ndarray, scale: float) -> None:
    assert (np.diff(kind("x", scale)(step(np.sort(x)))) <= 0).all()


@given(x=QUANTITIES, full=SCALES)
def test_further_is_never_worse_for_a_fraction(x: np.ndarray, full: float) -> None:
    assert (np.diff(Fraction("x", full)(step(np.sort(x)))) >= 0).all()


def test_edges() -> None:
    np.testing.assert_allclose(Closeness("x", 2.0)(step([0, 1, 2, 3])), [1, 0.5, 0, 0])
    np.testing.assert_allclose(Proximity("x", 2.0)(step([0, 2])), [1, 1 - np.tanh(1)])
    assert Proximity("x", 1.0)(step([5]))[0] > 0  # a gradient from afar
    np.testing.assert_allclose(Fraction("x", 2.0)(step([-1, 0, 1, 2, 3])), [0, 0, 0.5, 1, 1])


@given(rate=hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(-1e3, 1e3)), scale=SCALES)
def test_descent_pays_as_much_as_it_takes_back(rate: np.ndarray, scale: float) -> None:
    paid = Descent("x", scale)(step(rate))
    np.testing.assert_array_equal(Descent("x", scale)(step(-rate)), -paid)  # going in circles earns nothing
    assert (np.abs(paid) <= 1).all()
    inside = np.abs(rate) <= scale
    np.testing.assert_allclose(paid[inside], -rate[inside] / scale, rtol=1e-5, atol=1e-6)


def test_eyerobots_reward_of_a_gaze() -> None:
    # arXiv:2506.10968: 1 on the target, 0 from 50 degrees on.
    reward = Closeness("x", np.radians(50))
    np.testing.assert_allclose(reward(step(np.radians([0, 25, 50, 180]))), [1, 0.5, 0, 0], atol=1e-6)


@given(ACTIONS)
def test_effort_is_the_mean_square(action: np.ndarray) -> None:
    effort = Effort()(step(np.zeros(len(action)), action))
    np.testing.assert_allclose(effort, -(action.astype(np.float64) ** 2).mean(axis=1), atol=1e-6)
    assert ((effort <= 0) & (effort >= -1)).all()
    np.testing.assert_array_equal(Effort()(step(np.zeros(len(action)), -action)), effort)


@pytest.mark.parametrize(("kind", "name"), [(Closeness, "scale"), (Proximity, "scale"), (Fraction, "full"), (Descent, "scale")])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_scales_are_positive(kind: Any, name: str, value: float) -> None:
    with pytest.raises(InvalidValueError) as caught:
        kind("x", value)
    assert str(caught.value) == f"{name} must be > 0, got {value}"


def test_an_unknown_quantity_names_those_there_are() -> None:
    with pytest.raises(UnknownNameError) as caught:
        Closeness("z", 1.0)(step())
    assert str(caught.value) == "unknown state quantity 'z': available: x, y"


@given(x=QUANTITIES, a=st.floats(-10, 10), b=st.floats(-10, 10))
def test_a_weighted_sum_is_linear(x: np.ndarray, a: float, b: float) -> None:
    near, far = Closeness("x", 5.0), Fraction("y", 7.0)
    batch = step(x)
    both = WeightedSum({"near": near, "far": far}, {"near": a, "far": b})
    np.testing.assert_allclose(both(batch), a * near(batch) + b * far(batch), rtol=1e-5, atol=1e-5)
    assert set(both.terms(batch)) == {"near", "far"}
    np.testing.assert_array_equal(both.terms(batch)["near"], near(batch))  # unweighted
    assert both(batch).shape == x.shape


@given(QUANTITIES)
def test_a_batch_is_its_rows(x: np.ndarray) -> None:
    reward = WeightedSum({"near": Proximity("x", 3.0), "effort": Effort()}, {"effort": 0.1})
    whole = reward(step(x))
    np.testing.assert_array_equal(whole, np.concatenate([reward(step(x[i : i + 1])) for i in range(len(x))]))


def test_a_term_without_a_weight_counts_one() -> None:
    assert WeightedSum({"a": Effort(), "b": Effort()}, {"b": 0.5}).weights == {"a": 1.0, "b": 0.5}


def test_a_weight_must_have_its_term() -> None:
    with pytest.raises(UnknownNameError) as caught:
        WeightedSum({"near": Effort()}, {"naer": 1.0})
    assert str(caught.value) == "unknown reward term 'naer': did you mean 'near'? available: near"


def test_the_weights_given_are_not_kept() -> None:
    weights = {"a": 1.0}
    reward = WeightedSum({"a": Effort()}, weights)
    weights["a"] = 5.0
    assert reward.weights == {"a": 1.0}


@pytest.mark.parametrize("reward", [Closeness("x", 1), Proximity("x", 1), Fraction("x", 1), Effort(), WeightedSum({})])
def test_all_are_rewards(reward: Any) -> None:
    assert isinstance(reward, Reward)


def test_an_environments_reward_can_be_recomputed_from_its_recording() -> None:
    reward = WeightedSum(
        {"near": Closeness("gaze_error", 1.0), "soft": Proximity("gaze_error", 0.3), "effort": Effort()},
        {"near": 0.7, "soft": 0.2, "effort": 0.05},
    )
    env = gym.make_vec(
        "Saccade/EyeSearch-v0", num_envs=3, vectorization_mode="vector_entry_point", autoreset_mode="disabled", observe=(),
        reward=reward, max_episode_steps=15,
    )  # fmt: skip
    episodes = rollout(env, RandomPolicy(env.single_action_space), [4, 5, 6], record=Record())
    env.close()
    for e in episodes:
        assert e.action is not None
        before, after = ({k: v[s] for k, v in e.obs.items()} for s in (slice(None, -1), slice(1, None)))
        state = {k: v[1:] for k, v in e.state.items()}
        batch = Transition(before, e.action, state, after, np.zeros(e.length, bool), [e.instruction] * e.length)
        np.testing.assert_array_equal(reward(batch), e.reward)
        for name, term in reward.terms(batch).items():
            np.testing.assert_array_equal(term, e.terms[name])
    assert len({float(e.reward.sum()) for e in episodes}) == 3
