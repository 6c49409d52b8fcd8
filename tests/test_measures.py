"""Measures against brute force, published or worked-out numbers, and the invariances that they promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise, product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import spearmanr

from assets.errors import InvalidValueError
from rewards import measures
from rewards.measures import TransitionReward
from rewards.shaping import PotentialShaping

few = settings(max_examples=50, deadline=None)
SERIES = hnp.arrays(np.float64, st.tuples(st.integers(1, 3), st.integers(2, 9)), elements=st.integers(-4, 4))
NAN = float("nan")


def labelled(n: int = 30) -> st.SearchStrategy[tuple[np.ndarray, np.ndarray]]:
    """Scores with ties, and labels of both kinds."""
    scores = hnp.arrays(np.float64, n, elements=st.integers(0, 5))
    labels = hnp.arrays(np.bool_, n).filter(lambda x: 0 < x.sum() < n)
    return st.tuples(scores, labels)


# -- order -------------------------------------------------------------------------------------------------------------


@few
@given(SERIES)
def test_value_order_correlation_is_spearmans(values: np.ndarray) -> None:
    found = measures.value_order_correlation(values)
    assert found.shape == values.shape[:1]
    for row, one in zip(values, found, strict=True):
        expected = 0.0 if np.ptp(row) == 0 else float(spearmanr(row, np.arange(len(row)))[0])
        assert one == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(measures.value_order_correlation(-values), -found, atol=1e-12)
    np.testing.assert_allclose(measures.value_order_correlation(np.exp(values)), found, atol=1e-12)


def tau_b(a: np.ndarray, b: np.ndarray) -> float:
    """Its definition, pair by pair."""
    pairs = [(np.sign(a[i] - a[j]), np.sign(b[i] - b[j])) for i in range(len(a)) for j in range(i)]
    untied = math.prod(sum(bool(pair[side]) for pair in pairs) for side in (0, 1))
    return float(sum(x * y for x, y in pairs) / math.sqrt(untied)) if untied else 0.0


@few
@given(SERIES, st.integers(0, 99))
def test_kendalls_tau_is_its_definition(values: np.ndarray, seed: int) -> None:
    progress = np.random.default_rng(seed).integers(0, 4, values.shape)
    found = measures.kendall_tau(values, progress)
    np.testing.assert_allclose(found, [tau_b(v, p) for v, p in zip(values, progress, strict=True)], atol=1e-12)
    np.testing.assert_allclose(measures.kendall_tau(progress, values), found, atol=1e-12)


def test_orders_that_are_known() -> None:
    rising = np.arange(5.0)
    for measure in (measures.value_order_correlation, lambda v: measures.kendall_tau(v, rising)):
        assert measure(rising**3) == pytest.approx(1)
        assert measure(-rising) == pytest.approx(-1)
        assert measure(np.full(5, 0.1)) == 0  # constant: says nothing, and is not NaN
    assert measures.kendall_tau(rising, np.zeros(5)) == 0
    assert measures.value_order_correlation([1.0, 3, 2, 5, 4]) == pytest.approx(0.8)  # 1 - 6 * 4 / (5 * 24)


# -- verdicts ----------------------------------------------------------------------------------------------------------


@few
@given(labelled())
def test_auroc_is_the_share_of_pairs_in_order(case: tuple[np.ndarray, np.ndarray]) -> None:
    scores, labels = case
    pairs = [(p > n) + 0.5 * (p == n) for p, n in product(scores[labels], scores[~labels])]
    assert measures.auroc(scores, labels) == pytest.approx(np.mean(pairs))
    assert measures.auroc(-scores, labels) == pytest.approx(1 - np.mean(pairs))
    assert measures.auroc(np.exp(scores), labels) == pytest.approx(np.mean(pairs))


@few
@given(labelled(), st.permutations(range(30)))
def test_auprc_is_the_sum_over_thresholds(case: tuple[np.ndarray, np.ndarray], order: list[int]) -> None:
    scores, labels = case
    area, recall = 0.0, 0.0
    for threshold in sorted(set(scores.tolist()), reverse=True):
        chosen = scores >= threshold
        now = (chosen & labels).sum() / labels.sum()
        area += (now - recall) * (chosen & labels).sum() / chosen.sum()
        recall = now
    assert measures.auprc(scores, labels) == pytest.approx(area)
    assert measures.auprc(scores[order], labels[order]) == pytest.approx(area)
    assert measures.auprc(np.zeros(30), labels) == pytest.approx(labels.mean())
    assert measures.auprc(labels.astype(float), labels) == 1


def test_auprc_of_a_worked_example() -> None:
    # Hits at ranks 1 and 3 of 4: (1/1 + 2/3) / 2.
    assert measures.auprc([0.9, 0.7, 0.5, 0.1], np.array([True, False, True, False])) == pytest.approx(5 / 6)


# -- EPIC --------------------------------------------------------------------------------------------------------------

STATES, ACTIONS = 6, 3
GRID = tuple(x.reshape(-1) for x in np.meshgrid(*map(np.arange, (STATES, ACTIONS, STATES)), indexing="ij"))
TABLES = hnp.arrays(np.float64, (STATES, ACTIONS, STATES), elements=st.integers(-9, 9))
POTENTIALS = hnp.arrays(np.float64, STATES, elements=st.floats(-50, 50))
NOTHING = np.zeros((STATES, ACTIONS, STATES))


def tabular(table: np.ndarray) -> TransitionReward:
    return lambda state, action, next_state: table[state, action, next_state]


def epic(a: np.ndarray, b: np.ndarray, gamma: float = 0.9, draws: int = 64, over: tuple[Any, ...] = GRID) -> float:
    rng = np.random.default_rng(0)
    return measures.epic_distance(tabular(a), tabular(b), *over, gamma=gamma, rng=rng, draws=draws)


def potential_of(potential: np.ndarray, gamma: float) -> np.ndarray:
    shape = (STATES, ACTIONS, STATES)
    before, after = np.broadcast_to(potential[:, None, None], shape), np.broadcast_to(potential, shape)
    return PotentialShaping(gamma)(before, after, np.zeros(shape, bool))


def varied(table: np.ndarray) -> np.ndarray:
    """A table that no potential explains: it depends on the action."""
    return table + 20.0 * np.arange(ACTIONS)[:, None] ** 2


@few
@given(TABLES, POTENTIALS, st.floats(0.01, 100), st.sampled_from([0.0, 0.9, 1.0]))
def test_epic_ignores_shaping_and_scale(table: np.ndarray, potential: np.ndarray, scale: float, gamma: float) -> None:
    table = varied(table)
    alike = scale * table + potential_of(potential, gamma)
    assert epic(table, table, gamma) == pytest.approx(0, abs=1e-6)
    assert epic(table, alike, gamma) == pytest.approx(0, abs=1e-5)
    assert epic(table, -alike, gamma) == pytest.approx(1, abs=1e-6)


@few
@given(TABLES, TABLES, TABLES)
def test_epic_is_a_pseudometric(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    a, b, c = map(varied, (a, b, c))
    ab, bc, ac = epic(a, b), epic(b, c), epic(a, c)
    assert 0 <= ab <= 1
    assert ab == pytest.approx(epic(b, a), abs=1e-7)
    assert ac <= ab + bc + 1e-7


def test_epic_is_its_definition_when_all_pairs_are_drawn() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, STATES, ACTIONS, STATES))

    def canonical(table: np.ndarray) -> np.ndarray:
        mean = table.mean(axis=(1, 2))
        return table + 0.9 * mean - mean[:, None, None] - 0.9 * table.mean()

    rho = np.corrcoef(canonical(a).ravel(), canonical(b).ravel())[0, 1]
    assert epic(a, b, draws=4000) == pytest.approx(math.sqrt((1 - rho) / 2), abs=0.01)


def test_epic_sees_what_a_plain_correlation_does_not() -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(STATES, ACTIONS, STATES))
    disguised = table + potential_of(100 * rng.normal(size=STATES), 0.9)
    assert np.corrcoef(table.ravel(), disguised.ravel())[0, 1] < 0.2
    assert epic(table, disguised) < 1e-6
    assert 0.6 < epic(table, rng.normal(size=table.shape)) < 0.8
    assert epic(table, disguised, gamma=0.5) > 0.1  # another discount is another shaping


@pytest.mark.parametrize("precision", [np.float32, np.float64])
def test_a_reward_that_is_nothing_but_shaping_correlates_with_none(precision: Any) -> None:
    rng = np.random.default_rng(0)
    table = rng.normal(size=(STATES, ACTIONS, STATES)).astype(precision)
    nothing = potential_of(rng.normal(size=STATES), 0.9).astype(precision)
    assert epic(table, nothing) == pytest.approx(math.sqrt(0.5))
    assert epic(nothing, np.ones_like(table)) == 0


# -- steps -------------------------------------------------------------------------------------------------------------


def test_jaccard_of_a_shifted_cut() -> None:
    found, true = (measures.step_masks(labels, 2) for labels in ([0, 1, 1, 1], [0, 0, 1, 1]))
    per_step, mean = measures.jaccard(found, true)
    np.testing.assert_allclose(per_step, [1 / 2, 2 / 3])
    assert mean == pytest.approx(7 / 12)


@few
@given(hnp.arrays(np.int64, (3, 12), elements=st.integers(0, 3)), hnp.arrays(np.int64, (3, 12), elements=st.integers(0, 3)))
def test_jaccard_by_sets(found: np.ndarray, true: np.ndarray) -> None:
    per_step, mean = measures.jaccard(measures.step_masks(found, 4), measures.step_masks(true, 4))
    for row, step in product(range(3), range(4)):
        a, b = (set(np.flatnonzero(labels[row] == step)) for labels in (found, true))
        assert per_step[row, step] == pytest.approx(len(a & b) / len(a | b) if a | b else 1)
    np.testing.assert_allclose(mean, per_step.mean(axis=1))
    assert (measures.jaccard(*[measures.step_masks(true, 4)] * 2)[0] == 1).all()


@few
@given(st.integers(1, 6), st.integers(0, 20), st.integers(0, 99))
def test_random_segmentations_are_in_order_and_complete(steps: int, extra: int, seed: int) -> None:
    length = steps + extra
    labels = measures.ordered_random_segmentation(length, steps, np.random.default_rng(seed), draws=7)
    assert labels.shape == (7, length)
    assert (labels[:, 0] == 0).all()
    assert (labels[:, -1] == steps - 1).all()
    assert np.isin(np.diff(labels), (0, 1)).all()
    one, same = (measures.ordered_random_segmentation(length, steps, np.random.default_rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(one, same)


def test_every_choice_of_cuts_is_equally_likely() -> None:
    labels = measures.ordered_random_segmentation(5, 3, np.random.default_rng(0), draws=6000)
    _, count = np.unique(labels, axis=0, return_counts=True)
    assert len(count) == math.comb(4, 2)
    np.testing.assert_allclose(count / 6000, 1 / 6, atol=0.02)


def test_the_expected_jaccard_of_chance() -> None:
    # Three equally likely cuts of four frames, worked out by hand: (7/12 + 1 + 7/12) / 3.
    true = measures.step_masks([0, 0, 1, 1], 2)
    per_step, mean = measures.random_jaccard(true, np.random.default_rng(0), draws=5000)
    assert mean == pytest.approx(13 / 18, abs=0.02)
    np.testing.assert_allclose(per_step, 13 / 18, atol=0.02)
    # More frames to be wrong in, less by chance.
    longer = measures.step_masks(np.repeat(np.arange(3), 20), 3)
    assert 0.3 < measures.random_jaccard(longer, np.random.default_rng(0))[1] < mean


# -- choosing ----------------------------------------------------------------------------------------------------------


def test_the_best_of_n() -> None:
    success = np.array([[True, False, False], [False, True, True], [False, False, False]])
    scores = np.array([[0.9, 0.1, 0.2], [0.9, 0.1, 0.2], [0.5, 0.5, 0.5]])
    assert measures.best_of_n(scores, success) == pytest.approx({"selected": 1 / 3, "oracle": 2 / 3, "random": 1 / 3})


@few
@given(hnp.arrays(np.bool_, (5, 4)), hnp.arrays(np.float64, (5, 4), elements=st.integers(0, 3)), st.permutations(range(4)))
def test_selection_lies_below_the_oracle(success: np.ndarray, scores: np.ndarray, order: list[int]) -> None:
    found = measures.best_of_n(scores, success)
    assert 0 <= found["selected"] <= found["oracle"]
    assert measures.best_of_n(success.astype(float), success)["selected"] == pytest.approx(found["oracle"])
    assert measures.best_of_n(np.zeros((5, 4)), success)["selected"] == pytest.approx(found["random"])
    assert measures.best_of_n(scores[:, order], success[:, order]) == pytest.approx(found)


@pytest.mark.parametrize(
    ("proxy", "truth", "gap"),
    [
        ([1, 2, 3, 4], [0.1, 0.2, 0.3, 0.4], 0),
        ([1, 2, 3, 4], [0.4, 0.3, 0.2, 0.1], 1),
        ([4, 3, 2, 1], [0.1, 0.2, 0.3, 0.4], -1),
        ([1, 2, 3, 4], [0.5, 0.9, 0.1, 0.5], 0.5),  # tied 2nd and 3rd of four: (2.5 - 1) / 3
    ],
)
def test_the_gap_of_a_hacked_return(proxy: list[float], truth: list[float], gap: float) -> None:
    assert measures.hacked_return_gap(proxy, truth) == pytest.approx(gap)


@few
@given(hnp.arrays(np.float64, (2, 6), elements=st.integers(-5, 5)))
def test_the_gap_is_about_ranks(pair: np.ndarray) -> None:
    gap = measures.hacked_return_gap(*pair)
    assert -1 <= gap <= 1
    assert measures.hacked_return_gap(np.exp(pair[0]), 7 * pair[1] - 3) == pytest.approx(gap)
    assert measures.hacked_return_gap(pair[1], pair[0]) == pytest.approx(-gap)


# -- calibration -------------------------------------------------------------------------------------------------------


def test_a_calibration_worked_out_by_hand() -> None:
    probability = [0.0, 0.1, 0.6, 0.9, 1.0, 1.0]
    truth = np.array([False, True, True, True, True, False])
    mean, share, count = measures.calibration_curve(probability, truth, bins=4)
    np.testing.assert_allclose(mean, [0.05, 0.6, 2.9 / 3])
    np.testing.assert_allclose(share, [0.5, 1, 2 / 3])
    np.testing.assert_array_equal(count, [2, 1, 3])
    assert measures.expected_calibration_error(probability, truth, 4) == pytest.approx((2 * 0.45 + 0.4 + 3 * 0.3) / 6)


@few
@given(hnp.arrays(np.float64, 20, elements=st.floats(0, 1)), hnp.arrays(np.bool_, 20), st.integers(1, 12))
def test_calibration_bounds(probability: np.ndarray, truth: np.ndarray, bins: int) -> None:
    mean, share, count = measures.calibration_curve(probability, truth, bins)
    assert (count > 0).all()
    assert count.sum() == 20
    assert all(a <= b for a, b in pairwise(mean))
    assert np.average(share, weights=count) == pytest.approx(truth.mean())
    assert 0 <= measures.expected_calibration_error(probability, truth, bins) <= 1
    assert measures.expected_calibration_error(truth.astype(float), truth, bins) == 0
    assert measures.expected_calibration_error(1.0 - truth, truth, bins + 1) == 1


def test_honest_probabilities_are_calibrated_and_overconfident_ones_are_not() -> None:
    rng = np.random.default_rng(0)
    probability = rng.random(20_000)
    truth = rng.random(20_000) < probability
    assert measures.expected_calibration_error(probability, truth) < 0.02
    assert measures.expected_calibration_error(np.where(probability > 0.5, 0.99, 0.01), truth) > 0.2


# -- what is refused ---------------------------------------------------------------------------------------------------

MIXED = np.array([True, False])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: measures.value_order_correlation([1.0]), "values must have at least 2 entries"),
        (lambda: measures.value_order_correlation([1.0, NAN]), "values must be finite, got 1 NaN"),
        (lambda: measures.kendall_tau([1.0, 2.0], [1.0, 2.0, 3.0]), "same shape, got"),
        (lambda: measures.auroc([1.0, 2.0], [True, True]), "a true and a false one, got 2 true"),
        (lambda: measures.auroc([1.0, NAN], MIXED), "scores must be finite"),
        (lambda: measures.auprc([1.0, 2.0], [0.0, 1.0]), "must be booleans, got float64"),
        (lambda: measures.auprc([1.0, 2.0, 3.0], MIXED), "same shape"),
        (lambda: epic(NOTHING, NOTHING, gamma=2), "gamma must be in"),
        (lambda: epic(NOTHING, NOTHING, draws=0), "draws >= 1"),
        (lambda: epic(NOTHING + NAN, NOTHING), "must be finite"),
        (lambda: epic(NOTHING, np.zeros((STATES, ACTIONS, STATES, 2))), "must map K"),
        (lambda: epic(NOTHING, NOTHING, over=(GRID[0], GRID[1][:3], GRID[2])), "B >= 2 of each, got 108, 3 and 108"),
        (lambda: measures.step_masks([0, 2], 2), "integers in"),
        (lambda: measures.step_masks([0.0, 1.0], 2), "integers in"),
        (lambda: measures.jaccard(np.ones((2, 3)), np.ones((2, 3))), "must be booleans"),  # type: ignore[arg-type]
        (lambda: measures.jaccard(np.ones((2, 3), bool), np.ones((2, 4), bool)), "same shape"),
        (lambda: measures.ordered_random_segmentation(2, 3, np.random.default_rng(0)), "3 steps of 2 frames"),
        (lambda: measures.random_jaccard(np.ones((1, 4), bool), np.random.default_rng(0), draws=0), "draws >= 1"),
        (lambda: measures.best_of_n([0.5, 0.5], MIXED), "must be"),
        (lambda: measures.hacked_return_gap([1.0], [1.0]), "at least 2"),
        (lambda: measures.hacked_return_gap([[1.0, 2.0]], [[1.0, 2.0]]), "must be"),
        (lambda: measures.calibration_curve([0.5, 1.5], MIXED), "in \\[0, 1\\]"),
        (lambda: measures.calibration_curve([0.5, 0.5], MIXED, bins=0), "bins >= 1"),
        (lambda: measures.calibration_curve([], np.zeros(0, bool)), "N >= 1"),
    ],
)
def test_refusals(call: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        call()
