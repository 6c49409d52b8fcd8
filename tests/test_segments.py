"""Cutting demonstrations into steps."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from rewards.segments import FLOOR, labels, segment


def steps_of(seed: int, starts: tuple[int, ...], length: int, informative: float = 0.2, size: int = 200) -> NDArray[Any]:
    """Features that are noise around a mean, which in a share of them changes from step to step."""
    rng = np.random.default_rng(seed)
    means = rng.normal(size=(len(starts), size)) * (rng.random(size) < informative)
    return means[labels(np.array(starts), length)] * 3 + rng.normal(size=(length, size))


def total(features: NDArray[Any], starts: tuple[int, ...], cost: str) -> float:
    """What a segmentation costs, straight from its definition."""
    unit = (features - features.mean(axis=0)) / features.std(axis=0)
    parts = [unit[a:b] for a, b in zip(starts, (*starts[1:], len(unit)), strict=True)]
    if cost == "likelihood":
        return sum(len(p) * float(np.log(np.maximum(p.var(axis=0), FLOOR)).mean()) for p in parts)
    return sum(float(p.std(axis=0).mean()) for p in parts)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    steps=st.integers(1, 4),
    shortest=st.integers(1, 3),
    cost=st.sampled_from(["likelihood", "deviation"]),
)
def test_no_other_way_to_cut_costs_less(seed: int, steps: int, shortest: int, cost: str) -> None:
    features = np.random.default_rng(seed).normal(size=(12, 5)).cumsum(axis=0)
    found = tuple(segment(features, steps, shortest, cost).tolist())
    ways = [
        (0, *cuts)
        for cuts in combinations(range(1, 12), steps - 1)
        if all(b - a >= shortest for a, b in zip((0, *cuts), (*cuts, 12), strict=True))
    ]
    assert found in ways
    assert total(features, found, cost) == pytest.approx(min(total(features, way, cost) for way in ways))


@pytest.mark.parametrize("informative", [0.06, 0.2, 0.45])
def test_the_likelihood_finds_steps_that_few_features_tell(informative: float) -> None:
    true = (0, 40, 70)
    for seed in range(5):
        found = segment(steps_of(seed, true, 100, informative, 1000), 3, shortest=3)
        assert np.abs(found - np.array(true)).max() <= 1


def test_the_printed_objective_cuts_off_short_stretches() -> None:
    true = (0, 40, 70)
    found = segment(steps_of(0, true, 100, 0.2, 1000), 3, shortest=3, cost="deviation")
    assert sorted(np.diff([*found, 100]))[:2] == [3, 3]


def test_labels() -> None:
    assert labels(np.array([0, 2, 5]), 6).tolist() == [0, 0, 1, 1, 1, 2]


def test_what_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(UnknownNameError, match="likelihood"):
        segment(rng.normal(size=(9, 2)), 2, cost="likelyhood")
    with pytest.raises(InvalidValueError, match="do not fit 9 frames"):
        segment(rng.normal(size=(9, 2)), 4, shortest=3)
    with pytest.raises(InvalidValueError, match="constant video"):
        segment(np.ones((9, 2)), 2)
    with pytest.raises(InvalidValueError, match="finite"):
        segment(np.full((9, 2), np.nan), 2)
    with pytest.raises(InvalidValueError, match=r"\(frames, features\)"):
        segment(np.ones(9), 2)
