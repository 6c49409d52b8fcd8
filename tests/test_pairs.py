"""Sifting: two questions that a judge errs on are worth more than one; and which questions are asked at all."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from rewards.pairs import choose_queries, sift_pairs


class Flipping:
    """A judge that knows how good candidates are, turns a share of its comparisons over, and errs in its scores from 1 to 10.

    Args:
        worth: of each candidate, in [0, 1].
        flips: share of comparisons that are turned over.
        spread: standard deviation of the scores' errors.
        rng: of the errors.
    """

    def __init__(self, worth: NDArray[np.float64], flips: float, spread: float, rng: np.random.Generator) -> None:
        self.worth, self.flips, self.spread, self.rng = worth, flips, spread, rng
        self.right: list[bool] = []

    def compare(self, a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.float32]:
        assert a.shape == b.shape
        assert not np.intersect1d(a, b).size
        truth = np.sign(self.worth[b] - self.worth[a])
        said = np.where(self.rng.random(len(a)) < self.flips, -truth, truth)
        self.right += (said == truth).tolist()
        return said.astype(np.float32)

    def score(self, which: NDArray[np.intp]) -> list[str]:
        noisy = 1 + 9 * self.worth[which] + self.rng.normal(scale=self.spread, size=len(which))
        return [str(n) for n in np.clip(np.round(noisy), 1, 10).astype(int)]


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
def test_sifted_pairs_are_right_where_single_comparisons_are_not(spread: float) -> None:
    rng = np.random.default_rng(0)
    right, single, kept = [], [], 0
    for _ in range(500):
        judge = Flipping(rng.random(10), 0.2, spread, rng)
        found = sift_pairs(10, judge.compare, judge.score, 5, rng)
        single += judge.right
        if found is not None:
            kept += 1
            right.append(judge.worth[found[0]] > judge.worth[found[1]])
    assert np.mean(single) <= 0.85
    assert np.mean(right) >= 0.95
    assert kept >= 450


def test_ten_is_more_than_nine() -> None:
    def compare(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.intp]:
        return np.where(a % 2 == b % 2, 0, np.where(a % 2, -1, 1))  # odd ones are better than even ones

    scores = {0: "2", 1: "9", 2: "10", 3: "10"}
    found = {
        sift_pairs(4, compare, lambda which: [scores[int(i)] for i in which], 2, np.random.default_rng(seed))
        for seed in range(20)
    }
    assert found == {(3, 0), None}  # as words, "9" would be the best; None where only ties were drawn


@given(st.integers(2, 30), st.integers(0, 10**6))
@settings(max_examples=50)
def test_a_judge_without_errors_is_believed(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    worth = rng.permutation(count).astype(float)
    judge = Flipping(worth, 0.0, 0.0, rng)
    found = sift_pairs(count, judge.compare, lambda which: worth[which], count // 2, rng)
    assert found is not None
    assert worth[found[0]] > worth[found[1]]
    assert count % 2 or (worth[found[0]], worth[found[1]]) == (count - 1, 0)


@pytest.mark.parametrize("scores", [[5, 5], [3, 5], [None, 5], [5, float("nan")], ["5", "5.0"]])
def test_what_scores_do_not_confirm_is_dropped(scores: list[Any]) -> None:
    assert sift_pairs(2, lambda a, b: -np.ones(1), lambda _: scores, 1, np.random.default_rng(0)) is None


def test_candidates_without_a_score_are_passed_over() -> None:
    scores = {0: None, 1: 4, 2: 7, 3: 1}
    found = sift_pairs(
        4, lambda a, b: np.where(a > b, -1, 1), lambda which: [scores[int(i)] for i in which], 2, np.random.default_rng(4)
    )
    assert found is not None
    assert 0 not in found


def test_ties_are_dropped() -> None:
    asked: list[int] = []
    rng = np.random.default_rng(0)
    assert sift_pairs(6, lambda a, b: np.zeros(3), lambda which: asked.extend(which) or [], 3, rng) is None
    assert not asked
    sift_pairs(6, lambda a, b: np.array([0, 1, 0]), lambda which: asked.extend(which) or [2, 1], 3, rng)
    assert len(asked) == 2


def test_the_same_seed_draws_the_same_pairs() -> None:
    def run(seed: int) -> tuple[int, int] | None:
        judge = Flipping(np.linspace(0, 1, 10), 0.3, 1.0, np.random.default_rng(7))
        return sift_pairs(10, judge.compare, judge.score, 3, np.random.default_rng(seed))

    assert run(1) == run(1)
    assert len({run(seed) for seed in range(10)}) > 1


@pytest.mark.parametrize("n_pairs", [0, 4, -1])
def test_more_pairs_than_candidates(n_pairs: int) -> None:
    with pytest.raises(InvalidValueError, match="7 candidates make 1 to 3 pairs"):
        sift_pairs(7, lambda a, b: np.ones(3), lambda _: [1] * 6, n_pairs, np.random.default_rng(0))


@pytest.mark.parametrize("said", [np.ones(2), np.full(3, 0.5), np.full(3, np.nan)])
def test_comparisons_that_are_none(said: NDArray[np.float64]) -> None:
    with pytest.raises(InvalidValueError, match="compare must give 3 of -1"):
        sift_pairs(6, lambda a, b: said, lambda _: [1] * 6, 3, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("scores", "sentence"), [([1], "2 candidates need as many scores, got 1"), (["good", 1], "scores must be numbers")]
)
def test_scores_that_are_none(scores: list[Any], sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        sift_pairs(2, lambda a, b: np.ones(1), lambda _: scores, 1, np.random.default_rng(0))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.data())
@settings(max_examples=50)
def test_queries_are_those_that_are_disagreed_about_most(values: list[float], data: st.DataObject) -> None:
    count, seed = data.draw(st.integers(0, len(values))), data.draw(st.integers(0, 100))
    apart = np.array(values)
    asked = choose_queries(apart, count, np.random.default_rng(seed))
    assert len(set(asked.tolist())) == count
    np.testing.assert_array_equal(apart[asked], np.sort(apart)[::-1][:count])


def test_queries_without_looking() -> None:
    apart = np.arange(20.0)
    drawn = np.concatenate([choose_queries(apart, 5, np.random.default_rng(s), "uniform") for s in range(400)])
    assert np.abs(np.bincount(drawn, minlength=20) / 400 - 0.25).max() < 0.1
    assert {tuple(choose_queries(np.ones(4), 2, np.random.default_rng(s)).tolist()) for s in range(100)} == {
        (i, j) for i in range(4) for j in range(4) if i != j
    }  # equals are drawn


def test_bad_queries() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidValueError, match="count must be 0 to 3"):
        choose_queries(np.ones(3), 4, rng)
    with pytest.raises(InvalidValueError, match="finite numbers"):
        choose_queries(np.array([1, np.nan]), 1, rng)
    with pytest.raises(UnknownNameError, match="did you mean 'disagreement'"):
        choose_queries(np.ones(3), 1, rng, "disagrement")  # type: ignore[arg-type]
