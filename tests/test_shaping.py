"""Shaped rewards add up to what they should: no more for long episodes, circles or repetitions, and the same best actions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from safetensors.numpy import load, save

from assets.errors import InvalidValueError
from rewards.base import Episodic, Learned
from rewards.shaping import Delta, EpisodicCountDiscount, PotentialShaping
from rewards.transforms import Clip

few = settings(max_examples=50, deadline=None)
SHAPES = st.tuples(st.integers(1, 3), st.integers(1, 10))
WHOLE = hnp.arrays(np.float64, SHAPES, elements=st.integers(-1000, 1000))
GAMMAS = st.floats(0, 1)
NAN = float("nan")


def returns_to_go(rewards: np.ndarray, done: np.ndarray, gamma: float) -> np.ndarray:
    """G_k = r_k + gamma G_{k+1} within episodes, (..., T)."""
    out, after = np.zeros_like(rewards), np.zeros(rewards.shape[:-1])
    for k in reversed(range(rewards.shape[-1])):
        after = rewards[..., k] + gamma * np.where(done[..., k], 0, after)
        out[..., k] = after
    return out


def ends(shape: tuple[int, ...], seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random(shape) < 0.3


# -- Delta -------------------------------------------------------------------------------------------------------------


@few
@given(WHOLE, st.integers(0, 99), st.sampled_from([0.0, 0.5, 1.0]))
def test_the_return_to_go_is_exactly_the_reward(rewards: np.ndarray, seed: int, gamma: float) -> None:
    # Whole numbers and powers of two: every sum is exact.
    done = ends(rewards.shape, seed)
    np.testing.assert_array_equal(returns_to_go(Delta(gamma)(rewards, done), done, gamma), rewards)


@few
@given(WHOLE, st.integers(0, 99), GAMMAS)
def test_the_return_is_bounded_by_the_reward_for_any_discount(rewards: np.ndarray, seed: int, gamma: float) -> None:
    done = ends(rewards.shape, seed)
    to_go = returns_to_go(Delta(gamma)(rewards, done), done, gamma)
    np.testing.assert_allclose(to_go, rewards, atol=1e-9)
    assert (np.abs(to_go) <= np.abs(rewards).max() + 1e-9).all()


def test_the_papers_last_two_steps() -> None:
    shaped = Delta(1.0, drop_last=True)(np.array([0.3, 0.9, 0.5, 0.7]), np.array([False, False, False, True]))
    np.testing.assert_allclose(shaped, [0.3 - 0.9, 0.9 - 0.5, 0.5, 0])


@few
@given(WHOLE, st.integers(0, 99))
def test_the_papers_sums_telescope(rewards: np.ndarray, seed: int) -> None:
    done = ends(rewards.shape, seed)
    done[..., -1] = True
    to_go = returns_to_go(Delta(1.0, drop_last=True)(rewards, done), done, 1.0)
    np.testing.assert_array_equal(to_go, np.where(done, 0, rewards))


def test_a_tap_pays_once_however_often() -> None:
    taps = np.ones(50)
    for length in (1, 10, 50):
        done = np.arange(length) == length - 1
        assert returns_to_go(Delta(0.99)(taps[:length], done), done, 0.99)[0] == pytest.approx(1)
        assert returns_to_go(Delta(1.0)(Clip(0.5)(taps[:length]), done), done, 1.0)[0] == 0


def test_the_discount_belongs_inside() -> None:
    # The same reward at every step: with the paper's differences a discounting learner is paid more for ending early.
    def paid(inside: float, length: int) -> float:
        rewards, done = np.full(length, 2.0), np.arange(length) == length - 1
        return float(returns_to_go(Delta(inside)(rewards, done), done, 0.9)[0])

    assert paid(1.0, length=3) > 1.5 * paid(1.0, length=9)
    assert paid(0.9, length=3) == pytest.approx(2)
    assert paid(0.9, length=9) == pytest.approx(2)


@few
@given(WHOLE, st.integers(0, 99), GAMMAS, st.sampled_from([np.float32, np.float64]))
def test_delta_by_rows_and_at_zero(rewards: np.ndarray, seed: int, gamma: float, precision: Any) -> None:
    rewards, done = rewards.astype(precision), ends(rewards.shape, seed)
    before = rewards.copy()
    shaped = Delta(gamma)(rewards, done)
    assert shaped.dtype == precision
    np.testing.assert_array_equal(shaped, [Delta(gamma)(r, d) for r, d in zip(rewards, done, strict=True)])
    np.testing.assert_array_equal(Delta(0.0)(rewards, done), rewards)
    np.testing.assert_array_equal(rewards, before)


# -- PotentialShaping --------------------------------------------------------------------------------------------------

STATES, ACTIONS = 5, 3  # state 0 is terminal


def optimal_values(transition: np.ndarray, reward: np.ndarray, gamma: float) -> np.ndarray:
    """Q* (S, A) by value iteration; the value of the terminal state 0 is 0."""
    q = np.zeros((STATES, ACTIONS))
    for _ in range(300):
        value = np.where(np.arange(STATES) == 0, 0, q.max(axis=1))
        q = (transition * (reward + gamma * value)).sum(axis=2)
    return q


@few
@given(
    weights=hnp.arrays(np.int64, (STATES, ACTIONS, STATES), elements=st.integers(0, 5)),
    reward=hnp.arrays(np.float64, (STATES, ACTIONS, STATES), elements=st.integers(-5, 5)),
    potential=hnp.arrays(np.float64, STATES, elements=st.floats(-50, 50)),
    gamma=st.sampled_from([0.0, 0.5, 0.9]),
)
def test_shaping_leaves_the_optimal_actions_as_they_are(
    weights: np.ndarray, reward: np.ndarray, potential: np.ndarray, gamma: float
) -> None:
    transition = (weights + (weights.sum(axis=2, keepdims=True) == 0)) / np.maximum(weights.sum(axis=2, keepdims=True), 1)
    transition /= transition.sum(axis=2, keepdims=True)
    shape = (STATES, ACTIONS, STATES)
    before, after = np.broadcast_to(potential[:, None, None], shape), np.broadcast_to(potential, shape)
    bonus = PotentialShaping(gamma)(before, after, np.broadcast_to(np.arange(STATES) == 0, shape))
    plain, shaped = optimal_values(transition, reward, gamma)[1:], optimal_values(transition, reward + bonus, gamma)[1:]
    np.testing.assert_allclose(shaped, plain - potential[1:, None], atol=1e-8)
    behind, shaped_behind = (q.max(axis=1, keepdims=True) - q for q in (plain, shaped))
    assume(not ((behind > 1e-8) & (behind < 1e-5)).any())  # no near tie, in which rounding would decide
    np.testing.assert_array_equal(shaped_behind < 1e-6, behind < 1e-6)


def test_a_potential_that_terminal_states_keep_changes_what_is_best() -> None:
    # Two ways to end: the good one pays 1, the bad one has the higher potential.
    paid, after, over = np.array([1.0, 0.0]), np.array([0.0, 10.0]), np.ones(2, bool)
    shaping = PotentialShaping(0.9)
    assert (paid + shaping(np.zeros(2), after, over)).argmax() == 0
    assert (paid + shaping(np.zeros(2), after, ~over)).argmax() == 1


@few
@given(hnp.arrays(np.float64, st.integers(2, 12), elements=st.floats(-100, 100)), GAMMAS, st.booleans())
def test_shaping_telescopes(potential: np.ndarray, gamma: float, terminal: bool) -> None:
    ended = np.zeros(len(potential) - 1, bool)
    ended[-1] = terminal
    bonus = PotentialShaping(gamma)(potential[:-1], potential[1:], ended)
    left = 0 if terminal else gamma ** len(bonus) * potential[-1]
    assert np.sum(gamma ** np.arange(len(bonus)) * bonus) == pytest.approx(left - potential[0], abs=1e-8)


@few
@given(st.integers(1, 20), st.integers(0, 99))
def test_circles_earn_nothing_and_no_potential_is_neutral(length: int, seed: int) -> None:
    way = np.random.default_rng(seed).integers(-8, 8, length)
    circle = np.append(way, way[0]).astype(float)
    never = np.zeros(length, bool)
    assert PotentialShaping(1.0)(circle[:-1], circle[1:], never).sum() == 0
    rewards = circle[:-1].astype(np.float32)
    flat = np.zeros(length, np.float32)
    np.testing.assert_array_equal(rewards + PotentialShaping(0.9)(flat, flat, never), rewards)


# -- EpisodicCountDiscount ---------------------------------------------------------------------------------------------


def test_a_key_counts_less_each_time_in_its_own_simulation() -> None:
    discount = EpisodicCountDiscount()
    ones = np.ones(2)
    np.testing.assert_allclose(discount(ones, ["a door", "a door"]), [1, 1])
    np.testing.assert_allclose(discount(ones, ["a door", "a cup"]), [1 / 8, 1])
    np.testing.assert_allclose(discount(ones, ["a cup", "a door"]), [1, 1 / 8])
    np.testing.assert_allclose(discount(ones, ["a door", "a door"]), [1 / 27, 1 / 27])


@few
@given(st.floats(0.01, 100), st.integers(1, 400))
def test_toggling_earns_less_than_a_fifth_more(reward: float, times: int) -> None:
    discount = EpisodicCountDiscount()
    total = sum(float(discount([r], [key])[0]) for _ in range(times) for r, key in ((reward, "open"), (0.0, "closed")))
    assert reward <= total < 1.21 * reward


@few
@given(hnp.arrays(np.float32, (6, 3), elements=st.floats(-1e6, 1e6, width=32)), st.floats(0, 5))
def test_counting_bounds_and_is_neutral_at_zero(rewards: np.ndarray, exponent: float) -> None:
    counting, neutral = EpisodicCountDiscount(exponent), EpisodicCountDiscount(0)
    for n, row in enumerate(rewards, 1):
        np.testing.assert_allclose(counting(row, ["a"] * 3), row / float(n) ** exponent, rtol=1e-5)
        assert neutral(row, ["a"] * 3).tobytes() == row.tobytes()


def test_an_episode_that_begins_has_met_nothing() -> None:
    discount = EpisodicCountDiscount()
    for _ in range(2):
        discount(np.ones(3), ["a"] * 3)
    discount.reset(np.array([0, 2]))
    np.testing.assert_allclose(discount(np.ones(3), ["a"] * 3), [1, 1 / 27, 1])


def test_counts_are_arrays_that_can_be_kept() -> None:
    discount = EpisodicCountDiscount()
    assert isinstance(discount, Episodic)
    assert isinstance(discount, Learned)
    for keys in (["a", "ü"], ["b", "ü"]):
        discount(np.ones(2), keys)
    kept = load(save(discount.state_dict()))
    restored = EpisodicCountDiscount()
    restored(np.ones(2), ["b", "b"])
    restored.load_state_dict(kept)
    for keys in (["a", "ü"], ["c", "b"]):
        np.testing.assert_array_equal(restored(np.ones(2), keys), discount(np.ones(2), keys))
    empty = EpisodicCountDiscount()
    empty.load_state_dict(EpisodicCountDiscount().state_dict())
    np.testing.assert_array_equal(empty([1.0], ["a"]), [1])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Delta(1.1), "gamma must be in"),
        (lambda: Delta(NAN), "gamma must be in"),
        (lambda: Delta(1.0)([NAN], [True]), "rewards must be finite"),
        (lambda: Delta(1.0)([1.0], [1]), "done must be booleans of shape"),
        (lambda: Delta(1.0)([1.0, 2.0], [True]), "done must be booleans of shape"),
        (lambda: Delta(1.0)([], np.zeros(0, bool)), "at least one step"),
        (lambda: PotentialShaping(-0.1), "gamma must be in"),
        (lambda: PotentialShaping(1.0)([1.0], [1.0, 2.0], [True]), "before and after must have the same shape"),
        (lambda: PotentialShaping(1.0)([1.0], [NAN], [True]), "after must be finite"),
        (lambda: PotentialShaping(1.0)([1.0], [1.0], [0.0]), "terminated must be booleans"),
        (lambda: EpisodicCountDiscount(-1), "exponent must be finite and >= 0"),
        (lambda: EpisodicCountDiscount()([1.0], ["a", "b"]), "one key each"),
        (lambda: EpisodicCountDiscount()([NAN], ["a"]), "rewards must be finite"),
        (lambda: EpisodicCountDiscount()([1.0], [3]), "a key must be text, got 3"),  # type: ignore[list-item]
    ],
)
def test_refusals(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        build()
