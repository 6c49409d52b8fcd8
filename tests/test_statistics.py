"""Intervals hold what they promise, at the edges too."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.statistics import bootstrap, paired_difference, wilson
from assets.errors import InvalidValueError

COUNTS = st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))

# Newcombe 1998 (Statistics in Medicine 17:857-872), table I, method 3: the score interval without continuity correction.
NEWCOMBE = [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)]


@pytest.mark.parametrize(("successes", "n", "low", "high"), NEWCOMBE)
def test_published_wilson_intervals(successes: int, n: int, low: float, high: float) -> None:
    np.testing.assert_allclose(wilson(successes, n), (low, high), atol=5e-5)


@given(COUNTS)
def test_wilson_holds_the_proportion_and_stays_inside(counts: tuple[int, int]) -> None:
    k, n = counts
    low, high = wilson(k, n)
    assert 0 <= low <= k / n <= high <= 1
    assert low < high
    # The defining equation: each bound is z standard errors of its own from the proportion.
    for bound in (low, high):
        if 0 < bound < 1:
            assert abs(k / n - bound) == pytest.approx(1.96 * np.sqrt(bound * (1 - bound) / n), rel=1e-9)


@given(COUNTS)
def test_wilson_mirrors_and_narrows(counts: tuple[int, int]) -> None:
    k, n = counts
    low, high = wilson(k, n)
    np.testing.assert_allclose(wilson(n - k, n), (1 - high, 1 - low), atol=1e-12)
    more = wilson(4 * k, 4 * n)
    assert more[1] - more[0] < high - low


@pytest.mark.parametrize("p", [0.05, 0.3, 0.5, 0.8])
def test_wilson_covers_as_often_as_it_says(p: float) -> None:
    # Exactly, over the binomial distribution of n = 100.
    n, q = 100, np.ones(1)
    for _ in range(n):
        q = np.convolve(q, [1 - p, p])
    covered = sum(q[k] for k in range(n + 1) if wilson(k, n)[0] <= p <= wilson(k, n)[1])
    assert 0.93 <= covered <= 0.98


@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_refuses(k: int, n: int) -> None:
    with pytest.raises(InvalidValueError, match=rf"a proportion needs 0 <= successes <= n and n >= 1, got {k} of {n}"):
        wilson(k, n)


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_a_bootstrap_lies_within_the_data(values: list[float]) -> None:
    low, high = bootstrap(values, draws=200)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert bootstrap(values, draws=200) == (low, high)


def test_a_bootstrap_agrees_with_the_normal_interval_of_many() -> None:
    values = np.random.default_rng(0).normal(3, 2, 400)
    half = 1.96 * values.std() / 20
    np.testing.assert_allclose(bootstrap(values), (values.mean() - half, values.mean() + half), atol=0.03)


def test_a_bootstrap_covers() -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(200):
        low, high = bootstrap(rng.exponential(1, 50), draws=400)
        hits += low <= 1 <= high
    assert 0.88 <= hits / 200 <= 0.99


def test_a_bootstrap_of_nothing() -> None:
    with pytest.raises(InvalidValueError, match="a mean needs at least one value, got none"):
        bootstrap([])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_a_paired_difference_is_antisymmetric(pairs: list[tuple[bool, bool]]) -> None:
    a, b = [p[0] for p in pairs], [p[1] for p in pairs]
    mean, low, high = paired_difference(a, b)
    assert mean == pytest.approx(np.mean(a) - np.mean(b))
    assert low <= mean + 1e-9
    assert mean <= high + 1e-9
    assert paired_difference(b, a)[0] == pytest.approx(-mean)
    assert paired_difference(a, a) == (0, 0, 0)


def test_pairing_needs_pairs() -> None:
    with pytest.raises(InvalidValueError, match="paired outcomes need equal lengths, got 1 and 2"):
        paired_difference([True], [True, False])
