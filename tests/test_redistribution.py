"""Returns are spread over steps: the correction is exact, and what a step earned is found from sums alone."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from assets.errors import InvalidValueError, UnknownNameError
from rewards.base import Learned, Reward, Transition, WeightedSum
from rewards.factors import Factors
from rewards.redistribution import METHODS, Redistributed, ReturnDecomposition, decomposition_loss

pytestmark = pytest.mark.usefixtures("one_thread")
SMALL: dict[str, Any] = {"hidden": (16,), "rate": 1e-2}


def episodes(count: int, seed: int = 0, steps: int = 9, size: int = 3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, steps + 1, count)
    features = rng.normal(size=(count, steps, size)).astype(np.float32)
    real = np.arange(steps) < lengths[:, None]
    return features, lengths, np.where(real, features.sum(-1), 0).sum(1)


def loss_of(rewards: np.ndarray, returns: np.ndarray, lengths: np.ndarray) -> tuple[float, float]:
    every = torch.ones(rewards.shape, dtype=torch.bool)
    fit, variance = decomposition_loss(torch.from_numpy(rewards), every, torch.from_numpy(lengths), torch.from_numpy(returns))
    return float(fit), float(variance)


# -- the formulas -------------------------------------------------------------------------------------------------------


@settings(max_examples=30)
@given(hnp.arrays(np.float64, 6, elements=st.floats(-10, 10)), st.floats(-50, 50), st.integers(2, 6))
def test_the_unbiased_loss_has_the_expectation_of_rd(rewards: np.ndarray, total: float, k: int) -> None:
    wanted = (rewards.mean() - total / 6) ** 2
    # Every subset of K steps is drawn with the same probability.
    subsets = rewards[np.array(list(combinations(range(6), k)))]
    fit, variance = loss_of(subsets, np.full(len(subsets), total), np.full(len(subsets), 6))
    assert fit - variance == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    # RRD itself is above RD by the variance of the mean, which K = T has none of.
    assert fit == pytest.approx(wanted + rewards.var(ddof=1) * (1 - k / 6) / k, rel=1e-9, abs=1e-9)


def test_golden_loss() -> None:
    # Mean 2 of the two drawn steps against 12 / 4 = 3; variance ((1 - 2)^2 + (3 - 2)^2) / 1 = 2, times (1 - 2/4) / 2.
    assert loss_of(np.array([[1.0, 3.0]]), np.array([12.0]), np.array([4])) == (1.0, 0.5)
    # A whole episode has no variance to subtract, and one of a single step no variance at all.
    assert loss_of(np.array([[1.0, 3.0]]), np.array([4.0]), np.array([2])) == (0.0, 0.0)
    assert loss_of(np.array([[1.0]]), np.array([3.0]), np.array([1])) == (4.0, 0.0)


def test_drawn_losses_agree_with_rd_on_average() -> None:
    features, lengths, returns = (np.repeat(x, 50, axis=0) for x in episodes(16))
    # A step size below what float32 can tell leaves the networks as they are.
    rd, rrd, unbiased = (ReturnDecomposition(3, method, k=3, hidden=(16,), rate=1e-30) for method in METHODS)
    rd.update(features, lengths, returns)
    told = rd.reward(features.reshape(-1, 3)).reshape(features.shape[:2])
    # Returns that the network nearly has, so that the draws' variance stands out.
    nearly = np.where(np.arange(9) < lengths[:, None], told + 0.05, 0).sum(1)
    exact = rd.update(features, lengths, nearly)["loss"]
    assert exact == pytest.approx(0.05**2, rel=1e-3)
    losses = np.array([unbiased.update(features, lengths, nearly)["loss"] for _ in range(60)])
    error = losses.std(ddof=1) / np.sqrt(len(losses))
    assert abs(losses.mean() - exact) < 4 * error
    # Without the correction the same draws are far off: the test can tell them apart.
    assert np.mean([rrd.update(features, lengths, nearly)["loss"] for _ in range(20)]) > exact + 20 * error


def test_steps_are_drawn_once_and_evenly() -> None:
    model = ReturnDecomposition(1, "rrd", k=4, hidden=(4,))
    lengths = torch.tensor([1, 3, 4, 9]).repeat(3000)
    index, drawn = model._draw(lengths, 9)
    assert index.shape == drawn.shape == (12000, 4)
    assert (drawn.sum(1) == lengths.clamp(max=4)).all()
    assert (index < lengths[:, None])[drawn].all()
    for row, real in zip(index[:200], drawn[:200], strict=True):
        assert len(set(row[real].tolist())) == int(real.sum())
    counts = torch.bincount(index[lengths == 9].flatten(), minlength=9) / 3000
    # 4 of 9 steps, each as often as the others: 4 standard errors.
    assert (counts - 4 / 9).abs().max() < 4 * (4 / 9 * 5 / 9 / 3000) ** 0.5


def test_short_episodes_are_used_whole() -> None:
    told = [ReturnDecomposition(3, method, k=9, **SMALL).update(*episodes(8)) for method in METHODS]
    for other in told[1:]:
        assert other["loss"] == pytest.approx(told[0]["loss"], rel=1e-5)
        assert other["variance"] == 0


@pytest.mark.parametrize("method", METHODS)
def test_what_is_beyond_the_end_does_not_count(method: Any) -> None:
    features, lengths, returns = episodes(8)
    spoilt = features.copy()
    spoilt[np.arange(9) >= lengths[:, None]] = np.nan
    a, b = (ReturnDecomposition(3, method, k=4, **SMALL) for _ in range(2))
    for _ in range(3):
        assert a.update(features, lengths, returns) == b.update(spoilt, lengths, returns)
    np.testing.assert_array_equal(a.reward(features[:, 0]), b.reward(features[:, 0]))


# -- the object ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_training_goes_on_from_a_state(method: Any) -> None:
    model = ReturnDecomposition(3, method, k=3, seed=1, **SMALL)
    for i in range(3):
        model.update(*episodes(8, seed=i))
    saved = model.state_dict()
    assert all(isinstance(value, np.ndarray) for value in saved.values())
    copy = ReturnDecomposition(3, method, k=3, seed=2, **SMALL)
    copy.load_state_dict(saved)
    for i in range(3, 6):
        assert model.update(*episodes(8, seed=i)) == copy.update(*episodes(8, seed=i))
    rows = episodes(1, seed=9)[0][0]
    assert model.reward(rows).tobytes() == copy.reward(rows).tobytes()
    assert model.reward(rows).dtype == np.float32
    # What was saved did not train on.
    copy.load_state_dict(saved)
    assert copy.reward(rows).tobytes() != model.reward(rows).tobytes()


def test_one_seed_makes_one_network() -> None:
    rows = episodes(1)[0][0]
    first, again, other = (ReturnDecomposition(3, "rrd", k=3, seed=seed, **SMALL) for seed in (0, 0, 1))
    for model in (first, again, other):
        model.update(*episodes(8))
    assert first.reward(rows).tobytes() == again.reward(rows).tobytes()
    assert first.reward(rows).tobytes() != other.reward(rows).tobytes()


def test_it_is_a_reward_of_transitions() -> None:
    model = ReturnDecomposition(2, **SMALL)
    factors = Factors({"far": "norm(gap)", "effort": "dot(action, action)"})
    reward = Redistributed(model, factors)
    assert isinstance(reward, Reward)
    assert isinstance(reward, Learned)
    gap, action = np.array([[3.0, 4.0], [0.0, 1.0]]), np.array([[1.0], [0.5]], np.float32)
    batch = Transition({}, action, {"gap": gap}, {}, np.zeros(2, bool), [""] * 2)
    np.testing.assert_array_equal(reward(batch), model.reward(np.array([[5, 1], [1, 0.25]])))
    before = WeightedSum({"learned": reward}).state_dict()
    value = reward(batch)
    model.update(*episodes(4, size=2))
    assert (reward(batch) != value).all()
    WeightedSum({"learned": reward}).load_state_dict(before)
    np.testing.assert_array_equal(reward(batch), value)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"features": np.zeros((2, 4, 5))},
            r"features \(E, T, 3\), lengths \(E,\) and returns \(E,\) of 1 or more episodes must fit",
        ),
        ({"lengths": np.array([1])}, "must fit"),
        ({"lengths": np.array(4)}, "must fit"),
        ({"features": np.zeros((0, 4, 3)), "lengths": np.zeros(0, int), "returns": np.zeros(0)}, "1 or more episodes"),
        ({"returns": np.zeros((2, 2))}, "must fit"),
        ({"lengths": np.array([0, 4])}, "lengths must be whole numbers from 1 to T = 4"),
        ({"lengths": np.array([1, 5])}, "lengths must be whole numbers from 1 to T = 4"),
        ({"lengths": np.array([1.0, 2.0])}, "lengths must be whole numbers"),
        ({"features": np.full((2, 4, 3), np.inf)}, "features must be finite, got inf"),
        ({"returns": np.array([0, np.nan])}, "returns must be finite, got nan"),
    ],
)
def test_bad_episodes_are_refused(changes: dict[str, Any], sentence: str) -> None:
    given = {"features": np.zeros((2, 4, 3)), "lengths": np.array([4, 2]), "returns": np.zeros(2), **changes}
    with pytest.raises(InvalidValueError, match=sentence):
        ReturnDecomposition(3, **SMALL).update(**given)


def test_bad_options_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'rrd_unbiased'"):
        ReturnDecomposition(3, "rrd_unbiasd")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="k must be at least 2"):
        ReturnDecomposition(3, "rrd", k=1)
    with pytest.raises(InvalidValueError, match="F = 3"):
        ReturnDecomposition(3, **SMALL).reward(np.zeros((2, 4)))
    with pytest.raises(InvalidValueError, match="finite"):
        ReturnDecomposition(3, **SMALL).reward(np.full((2, 3), np.nan))


# -- learning -----------------------------------------------------------------------------------------------------------

LATENTS = Factors({"far": "norm(s[0:3] - s[3:6])", "speed": "dot(s[6:9], s[6:9])", "effort": "norm(s[9:12])"})
WORTH = np.array([-1.0, -0.2, -0.3])


def reach(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Like a reach: 24 numbers of which 12 matter, that drift; (E, 30, 24), the true factors, and the true rewards."""
    state, goal = rng.normal(size=(count, 24)), rng.normal(size=(count, 3))
    rows = []
    for _ in range(30):
        state = 0.9 * state + 0.45 * rng.normal(size=state.shape)
        state[:, 3:6] = goal
        rows.append(state)
    states = np.stack(rows, axis=1)
    factors = LATENTS({"s": states.reshape(-1, 24)}).reshape(count, 30, 3)
    return states, factors, factors @ WORTH


def correlation(count: int, factored: bool, method: Any = "rd", updates: int = 500) -> float:
    """Of learned with true rewards, step by step, on episodes that were not trained on."""
    rng = np.random.default_rng(0)
    states, factors, rewards = reach(count, rng)
    lengths = rng.integers(15, 31, count)
    returns = np.where(np.arange(30) < lengths[:, None], rewards, 0).sum(1)
    features = factors if factored else states
    model = ReturnDecomposition(features.shape[-1], method, k=12, hidden=(64, 64), rate=3e-3)
    for _ in range(updates):
        some = rng.integers(count, size=32)
        model.update(features[some], lengths[some], returns[some])
    states, factors, rewards = reach(40, np.random.default_rng(1))
    told = model.reward((factors if factored else states).reshape(-1, features.shape[-1]))
    return float(np.corrcoef(told, rewards.ravel())[0, 1])


def test_factors_tell_what_each_step_earned() -> None:
    few, many, raw = correlation(20, True), correlation(200, True), correlation(200, False)
    assert many >= 0.95
    assert many > few
    assert many > raw + 0.1


@pytest.mark.parametrize("method", ["rrd", "rrd_unbiased"])
def test_some_steps_of_each_episode_are_enough(method: Any) -> None:
    assert correlation(200, True, method) >= 0.95
