"""Choices become a reward: from the frozen embedding on, to what people chose, and no further than the margin asks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from rewards.base import Learned
from rewards.triplet import TripletReward

pytestmark = pytest.mark.usefixtures("one_thread")

Array = NDArray[np.float64]
SIZE = 32


def unit(x: Array) -> Array:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def mined(count: int, rng: np.random.Generator, taste: Array) -> tuple[Array, Array, Array]:
    """Goals, and of two things that fit each the one that somebody of this taste took, and the other one."""
    goal = unit(rng.normal(size=(count, SIZE)))
    x, y = (unit(goal + 0.8 * unit(rng.normal(size=(count, SIZE)))) for _ in range(2))
    takes_x = ((x - y) @ taste + 0.3 * ((x - y) * goal).sum(1) > 0)[:, None]
    return goal, np.where(takes_x, x, y), np.where(takes_x, y, x)


def ranked(goal: Array, positive: Array, negative: Array, reward: TripletReward) -> float:
    return float((reward(positive, goal) > reward(negative, goal)).mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_choices_are_learned_that_the_frozen_embedding_does_not_know(seed: int) -> None:
    rng = np.random.default_rng(seed)
    taste = unit(rng.normal(size=SIZE))
    train, test = mined(500, rng, taste), mined(1000, rng, taste)
    goal, positive, negative = test
    cosine = ((positive * goal).sum(1) > (negative * goal).sum(1)).mean()
    reward = TripletReward(SIZE, seed=seed)
    assert ranked(*test, reward) == pytest.approx(cosine, abs=2e-3)
    assert cosine <= 0.7
    reward.fit(*train, rng, steps=200)
    assert ranked(*test, reward) >= 0.85


def test_what_can_be_told_apart_is_told_apart_by_the_margin() -> None:
    rng = np.random.default_rng(0)
    goal = unit(np.tile(rng.normal(size=SIZE), (100, 1)))
    kind = unit(rng.normal(size=SIZE))
    positive, negative = (unit(goal + s * kind + 0.1 * rng.normal(size=goal.shape)) for s in (1, -1))
    reward = TripletReward(SIZE, margin=0.3)
    reward.fit(goal, positive, negative, rng, steps=200)
    assert (reward(positive, goal) - reward(negative, goal)).min() >= 0.3
    assert reward.fit(goal, positive, negative, rng, steps=5) == 0.0


def test_the_loss_is_that_of_the_equation() -> None:
    rng = np.random.default_rng(0)
    goal, positive, negative = mined(200, rng, unit(rng.normal(size=SIZE)))
    squared = [((goal - x) ** 2).sum(1) for x in (positive, negative)]
    expected = np.maximum(0, squared[0] - squared[1] + 0.3).mean()
    found = TripletReward(SIZE, lr=1e-12).fit(goal, positive, negative, rng, steps=100)
    assert found == pytest.approx(expected, abs=0.01)


def test_it_is_bounded_and_blind_to_length() -> None:
    rng = np.random.default_rng(0)
    x, goal = rng.normal(size=(50, SIZE)), rng.normal(size=SIZE)
    reward = TripletReward(SIZE)
    reward.fit(*mined(50, rng, unit(goal)), rng, steps=20)
    found = reward(x, goal)
    assert found.shape == (50,)
    assert found.dtype == np.float32
    assert ((found >= -4) & (found <= 0)).all()
    np.testing.assert_allclose(reward(3 * x, 0.2 * goal), found, atol=1e-5)
    np.testing.assert_allclose(TripletReward(SIZE)(np.stack([goal, -goal]), goal), [0, -4], atol=1e-5)


def test_training_is_resumed_exactly() -> None:
    triplets = mined(50, np.random.default_rng(0), unit(np.ones(SIZE)))
    whole, first, second = (TripletReward(SIZE, seed=seed) for seed in (0, 0, 7))
    whole.fit(*triplets, np.random.default_rng(1), steps=10)
    whole.fit(*triplets, np.random.default_rng(2), steps=10)
    first.fit(*triplets, np.random.default_rng(1), steps=10)
    assert isinstance(second, Learned)
    second.load_state_dict(first.state_dict())
    second.fit(*triplets, np.random.default_rng(2), steps=10)
    for key, value in whole.state_dict().items():
        np.testing.assert_array_equal(value, second.state_dict()[key])


ROWS = np.ones((3, 4))


@pytest.mark.parametrize(
    ("triplets", "sentence"),
    [
        ((ROWS, ROWS, ROWS[:2]), r"as many goals, positives and negatives are needed, 1 or more, got \[3, 3, 2\]"),
        ((ROWS[:0], ROWS[:0], ROWS[:0]), "1 or more"),
        ((ROWS, ROWS * np.nan, ROWS), "features must be finite"),
        ((ROWS, ROWS[:, :2], ROWS), r"features must be \(N, F\) with F = 4"),
    ],
)
def test_bad_triplets(triplets: tuple[Any, Any, Any], sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        TripletReward(4).fit(*triplets, np.random.default_rng(0))


def test_bad_options() -> None:
    with pytest.raises(InvalidValueError, match="margin must be >= 0, got -1"):
        TripletReward(4, margin=-1)
    with pytest.raises(InvalidValueError, match="the network's arrays are"):
        TripletReward(4).load_state_dict(TripletReward(5).state_dict())
