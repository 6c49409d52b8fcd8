"""Which pairs to ask a judge about, and which of its answers to believe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError

# Candidates a and b, (K,) each, to (K,): -1 where a is better, +1 where b is, 0 where neither, as a Judge's verdict has it.
Compare = Callable[[NDArray[np.intp], NDArray[np.intp]], NDArray[Any]]
# Candidates (K,) to K scores; NaN or None where the judge gave none.
Score = Callable[[NDArray[np.intp]], Sequence[Any] | NDArray[Any]]


def sift_pairs(count: int, compare: Compare, score: Score, n_pairs: int, rng: np.random.Generator) -> tuple[int, int] | None:
    """One pair out of many candidates that two different questions to a judge agree about (arXiv:2503.05236).

    Candidates are paired at random and compared, the better of each pair is chosen and the other one rejected. Then all are
    scored one by one; what remains is the best of the chosen and the worst of the rejected.

    Args:
        count: candidates, such as rollouts of one start.
        compare: which of two is better; ties are left out.
        score: how good each is, as numbers or as texts of numbers, which count as numbers: "10" is more than "9".
        n_pairs: pairs that are compared; no candidate is in two.
        rng: draws the pairs.

    Returns:
        Which candidate is chosen and which rejected; None if the scores do not say that the first is better.

    Raises:
        InvalidValueError: more pairs than candidates allow, or answers that are no preferences or no numbers.
    """
    if not 1 <= n_pairs <= count // 2:
        raise InvalidValueError(f"{count} candidates make 1 to {count // 2} pairs, got {n_pairs}")
    first, second = rng.permutation(count)[: 2 * n_pairs].reshape(2, n_pairs)
    said = np.asarray(compare(first, second))
    if said.shape != first.shape or not np.isin(said, (-1, 0, 1)).all():
        raise InvalidValueError(f"compare must give {n_pairs} of -1 (first), 0 (tie) and 1 (second), got {said!r}")
    first, second, said = first[said != 0], second[said != 0], said[said != 0]
    chosen, rejected = np.where(said < 0, first, second), np.where(said < 0, second, first)
    if not len(chosen):
        return None
    scores = _numbers(score(np.concatenate([chosen, rejected])), 2 * len(chosen))
    return _extremes(chosen, rejected, scores[: len(chosen)], scores[len(chosen) :])


def choose_queries(
    disagreement: NDArray[np.floating],
    count: int,
    rng: np.random.Generator,
    method: Literal["disagreement", "uniform"] = "disagreement",
) -> NDArray[np.intp]:
    """Which candidate pairs to ask about: those that an ensemble disagrees about most, or any (arXiv:2106.05091, section 4.2).

    Args:
        disagreement: (P,) of candidate pairs, such as PreferenceReward.pair_disagreement gives.
        count: how many to ask about, at most P.
        rng: draws, and decides between equals.
        method: "disagreement" takes the largest, largest first; "uniform" draws without looking.

    Returns:
        (count,) indices, each once.

    Raises:
        InvalidValueError: a count or disagreements that are not as said.
        UnknownNameError: an unknown method.
    """
    apart = np.asarray(disagreement, np.float64)
    if apart.ndim != 1 or not np.isfinite(apart).all():
        raise InvalidValueError(
            f"disagreement must be (P,) finite numbers, got {apart.shape} with {apart[~np.isfinite(apart)]}"
        )
    if not 0 <= count <= len(apart):
        raise InvalidValueError(f"count must be 0 to {len(apart)}, the number of candidates, got {count}")
    if method not in ("disagreement", "uniform"):
        raise UnknownNameError("query method", method, ("disagreement", "uniform"))
    order = rng.permutation(len(apart))
    if method == "disagreement":
        order = order[np.argsort(-apart[order], kind="stable")]
    return order[:count]


def _numbers(scores: Sequence[Any] | NDArray[Any], count: int) -> NDArray[np.float64]:
    """The scores as numbers, NaN where there is none."""
    if len(scores) != count:
        raise InvalidValueError(f"{count} candidates need as many scores, got {len(scores)}")
    try:
        return np.array([np.nan if s is None else float(s) for s in scores])
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"scores must be numbers, or None where there is none, got {list(scores)}") from error


def _extremes(
    chosen: NDArray[np.intp], rejected: NDArray[np.intp], high: NDArray[np.float64], low: NDArray[np.float64]
) -> tuple[int, int] | None:
    """The chosen candidate of the highest and the rejected one of the lowest score, if that is lower."""
    if np.isnan(high).all() or np.isnan(low).all():
        return None
    best, worst = np.nanargmax(high), np.nanargmin(low)
    return (int(chosen[best]), int(rejected[worst])) if high[best] > low[worst] else None
