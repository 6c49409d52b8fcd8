"""How far a reward can be trusted: measures of its order, its verdicts, its steps, and what optimising it buys.

Scores, values and truths are arrays that were computed before; nothing here runs a policy. No measure is ever NaN: what has
no answer is refused, or has the value that its docstring says. SciPy's statistics are imported where they are asked
for: every command would wait a second for them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assets.errors import InvalidValueError
from rewards.transforms import finite

Floats = NDArray[np.float64]
Masks = NDArray[np.bool_]


# States (K, ...), actions (K, ...) and next states (K, ...), which never have to have happened, to rewards (K,).
TransitionReward = Callable[[NDArray[Any], NDArray[Any], NDArray[Any]], NDArray[np.floating]]


def _ranks(values: ArrayLike) -> Floats:
    """Ranks along the last axis from 1 on, of equal values their mean."""
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=-1), np.float64)


def value_order_correlation(values: ArrayLike) -> Floats:
    """Spearman correlation of values with time: 1 where they only rise, -1 where they only fall (VOC, arXiv:2411.04549).

    Args:
        values: (..., T) of successful demonstrations, T >= 2.

    Returns:
        (...) in [-1, 1]; 0 for an episode whose values are all the same.

    Raises:
        InvalidValueError: fewer than 2 steps, or values that are not finite.
    """
    ranks = _ranks(_series(values, "values"))
    return _pearson(ranks, np.broadcast_to(np.arange(ranks.shape[-1]), ranks.shape))


def kendall_tau(values: ArrayLike, progress: ArrayLike) -> Floats:
    """Kendall's tau-b of values with true progress: agreeing minus disagreeing pairs of steps, corrected for ties.

    Args:
        values: (..., T), T >= 2.
        progress: (..., T).

    Returns:
        (...) in [-1, 1]; 0 for an episode in which either is constant, since it orders nothing.

    Raises:
        InvalidValueError: shapes that differ, fewer than 2 steps, or values that are not finite.
    """
    from scipy.stats import kendalltau

    said, true = _series(values, "values"), _series(progress, "progress")
    _require_same("values and progress", said, true)
    pairs = zip(said.reshape(-1, said.shape[-1]), true.reshape(-1, said.shape[-1]), strict=True)
    taus: list[Any] = [kendalltau(a, b, variant="b")[0] for a, b in pairs]
    return np.nan_to_num(np.array(taus, np.float64)).reshape(said.shape[:-1])


def auroc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Probability that a true example scores higher than a false one, ties by half (Mann and Whitney 1947).

    Args:
        scores: (N,).
        labels: (N,) booleans, at least one true and one false.

    Raises:
        InvalidValueError: shapes that differ, scores that are not finite, or labels of one kind only.
    """
    said, true = _scored(scores, labels)
    ranks = _ranks(said)
    positive, negative = int(true.sum()), int((~true).sum())
    return float((ranks[true].sum() - positive * (positive + 1) / 2) / (positive * negative))


def auprc(scores: ArrayLike, labels: ArrayLike) -> float:
    """Average precision, sum_n (R_n - R_{n-1}) P_n over the distinct scores from the highest down; ties enter together.

    A score that knows nothing has the share of true examples.

    Args:
        scores: (N,).
        labels: (N,) booleans, at least one true and one false.

    Raises:
        InvalidValueError: shapes that differ, scores that are not finite, or labels of one kind only.
    """
    said, true = _scored(scores, labels)
    order = np.argsort(-said, kind="stable")
    level = np.flatnonzero(np.append(np.diff(said[order]) != 0, True))
    hits = np.cumsum(true[order])[level]
    return float(np.sum(np.diff(hits, prepend=0) / hits[-1] * hits / (level + 1)))


def epic_distance(
    reward: TransitionReward,
    other: TransitionReward,
    state: NDArray[Any],
    action: NDArray[Any],
    next_state: NDArray[Any],
    *,
    gamma: float,
    rng: np.random.Generator,
    draws: int = 64,
) -> float:
    """Distance of two rewards that ignores potential shaping and positive scale (EPIC, arXiv:2006.13900).

        C(r)(s, a, s') = r(s, a, s') + gamma E r(s', A, S') - E r(s, A, S')         D = sqrt((1 - rho) / 2)

    rho is Pearson's correlation of C(r) with C(other) over the B transitions that are given: they are the coverage
    distribution. The expectations are means over `draws` pairs (A, S'): A is drawn from the B given actions and S' from the
    B given next states, independently and with replacement, the same pairs for every transition and for both rewards.
    Because they are shared, invariance is exact and not only expected. The definition's last term, gamma E r(S, A, S'), is
    the same number for all transitions, which a correlation does not see; it is left out.

    0 means equal up to shaping and scale, sqrt(1/2) uncorrelated, 1 opposite. A reward that is constant once shaped correlates
    0 with any other, and has distance 0 to another such.

    Args:
        reward: called with arrays of K transitions, among them such as never happened.
        other: the same.
        state: (B, ...), B >= 2.
        action: (B, ...).
        next_state: (B, ...), like the states.
        gamma: discount of the shaping to be ignored, in [0, 1].
        rng: draws the pairs.
        draws: >= 1; each costs one call of each reward with 2 B transitions.

    Raises:
        InvalidValueError: lengths that differ, settings outside their range, or rewards that are not (K,) and finite.
    """
    if not (len(state) == len(action) == len(next_state) >= 2):
        raise InvalidValueError(f"transitions must be B >= 2 of each, got {len(state)}, {len(action)} and {len(next_state)}")
    if not (0 <= gamma <= 1 and draws >= 1):
        raise InvalidValueError(f"gamma must be in [0, 1] and draws >= 1, got {gamma} and {draws}")
    drawn = action[rng.integers(len(action), size=draws)], next_state[rng.integers(len(state), size=draws)]
    a, b = (_canonical(r, (state, action, next_state), drawn, gamma) for r in (reward, other))
    if not a.any() and not b.any():
        return 0.0
    return float(np.sqrt(np.maximum(1 - _pearson(a, b), 0) / 2))


def _canonical(
    reward: TransitionReward, seen: tuple[NDArray[Any], ...], drawn: tuple[NDArray[Any], ...], gamma: float
) -> Floats:
    """C(r) of each transition less its mean, (B,); exact zeros where nothing but rounding is left."""
    state, _, next_state = seen
    both = np.concatenate([state, next_state])
    expected = np.zeros(len(both))
    for action, reached in zip(*drawn, strict=True):
        expected += _rewarded(reward, both, *(np.broadcast_to(x, (len(both), *x.shape)) for x in (action, reached)))
    expected /= len(drawn[0])
    found = _rewarded(reward, *seen)
    shaped = found + gamma * expected[len(state) :] - expected[: len(state)]
    shaped = shaped - shaped.mean()
    rounding = 64 * np.finfo(found.dtype).eps * max(np.abs(found).max(), np.abs(expected).max())
    return shaped if np.abs(shaped).max() > rounding else np.zeros(len(state))


def _rewarded(reward: TransitionReward, *transitions: NDArray[Any]) -> NDArray[Any]:
    values = finite(reward(*transitions), "a transition reward's values")
    if values.shape != transitions[0].shape[:1]:
        raise InvalidValueError(f"a transition reward must map K = {len(transitions[0])} to (K,), got {values.shape}")
    return values


def step_masks(labels: ArrayLike, steps: int) -> Masks:
    """Which frames belong to which step, (..., steps, T).

    Args:
        labels: (..., T) integers in [0, steps).
        steps: >= 1.

    Raises:
        InvalidValueError: labels that are no integers or outside [0, steps).
    """
    found = np.asarray(labels)
    if found.dtype.kind not in "iu" or not found.ndim or (found.size and not 0 <= found.min() <= found.max() < steps):
        raise InvalidValueError(f"labels must be (..., T) integers in [0, {steps}), got {found.shape} {found.dtype}")
    return found[..., None, :] == np.arange(steps)[:, None]


def jaccard(found: Masks, true: Masks) -> tuple[Floats, Floats]:
    """Frames in both over frames in either, of each step and their mean over steps.

    Args:
        found: (..., S, T): `step_masks` of a segmentation, or step scores at least 0.5, where steps may overlap.
        true: the same shape.

    Returns:
        (..., S) and (...), in [0, 1]; a step that occurs in neither counts as found, 1.

    Raises:
        InvalidValueError: shapes that differ, or arrays that are not boolean.
    """
    _require_masks(found, true)
    _require_same("found and true", found, true)
    return _overlap(found, true)


def ordered_random_segmentation(
    length: int, steps: int, rng: np.random.Generator, draws: int | None = None
) -> NDArray[np.intp]:
    """Labels of a segmentation that knows nothing but the order of steps: every choice of cuts is equally likely.

    Args:
        length: frames, >= steps.
        steps: >= 1, each at least one frame long.
        rng: draws the cuts.
        draws: how many segmentations; None for one.

    Returns:
        (length,) or (draws, length): 0 ... 0 1 ... 1 ... steps - 1.

    Raises:
        InvalidValueError: steps that do not fit.
    """
    if not 1 <= steps <= length:
        raise InvalidValueError(f"segmentations need 1 <= steps <= length, got {steps} steps of {length} frames")
    # The smallest steps - 1 entries of a random permutation lie at a random set of places.
    order = rng.random((1 if draws is None else draws, length - 1)).argsort(axis=-1)
    begins = np.pad(order < steps - 1, ((0, 0), (1, 0)))
    labels = begins.cumsum(axis=-1, dtype=np.intp)
    return labels[0] if draws is None else labels


def random_jaccard(true: Masks, rng: np.random.Generator, draws: int = 1000) -> tuple[Floats, float]:
    """Expected `jaccard` of ordered random segmentations with one true one, by Monte Carlo; what discovery has to beat.

    Args:
        true: (S, T).
        rng: draws the segmentations.
        draws: >= 1; the standard error of the mean is below 0.5 / sqrt(draws).

    Returns:
        (S,) and the mean over steps.

    Raises:
        InvalidValueError: masks of another form, steps that do not fit, or no draws.
    """
    _require_masks(true)
    if true.ndim != 2 or draws < 1:
        raise InvalidValueError(f"true must be (S, T) and draws >= 1, got {true.shape} and {draws}")
    steps, length = true.shape
    found = step_masks(ordered_random_segmentation(length, steps, rng, draws), steps)
    per_step, mean = _overlap(found, true)
    return per_step.mean(axis=0), float(mean.mean())


def best_of_n(scores: ArrayLike, success: ArrayLike) -> dict[str, float]:
    """What choosing the best-scored of N rollouts buys (best-of-N, as in arXiv:2503.20271).

    Args:
        scores: (G, N) of N rollouts from each of G starts.
        success: (G, N) booleans.

    Returns:
        Shares of starts that succeed: "selected" by the score, where equal best scores are chosen among by lot, in
        expectation; "oracle" with any success; "random". A constant score selects exactly as well as random.

    Raises:
        InvalidValueError: shapes that differ or are not (G, N), or scores that are not finite.
    """
    said, true = _with_truth(scores, success, "scores")
    if said.ndim != 2 or not said.size:
        raise InvalidValueError(f"scores and success must be (G, N), got {said.shape}")
    best = said == said.max(axis=1, keepdims=True)
    selected = (best & true).sum(axis=1) / best.sum(axis=1)
    return {"selected": float(selected.mean()), "oracle": float(true.any(axis=1).mean()), "random": float(true.mean())}


def hacked_return_gap(proxy: ArrayLike, truth: ArrayLike) -> float:
    """How much better the optimised policy looks than it is, by ranks among the policies on the way to it.

        gap = rank(proxy_P) - rank(truth_P),    rank(x) = (mean rank of x among all P - 1) / (P - 1) in [0, 1]

    Policies are in order of optimisation, and the last one is the optimised. 0: it ranks by truth as by the proxy; 1: best of
    all by the proxy and worst by truth, a hacked reward; -1: the opposite. Any rising rescaling of either leaves it as it is.

    Args:
        proxy: (P,) mean learned return of each policy, P >= 2.
        truth: (P,) its true success or return.

    Raises:
        InvalidValueError: shapes that differ, fewer than two policies, or values that are not finite.
    """
    said, true = _series(proxy, "proxy"), _series(truth, "truth")
    _require_same("proxy and truth", said, true)
    if said.ndim != 1:
        raise InvalidValueError(f"proxy and truth must be (P,), got {said.shape}")
    return float((_ranks(said)[-1] - _ranks(true)[-1]) / (len(said) - 1))


def calibration_curve(probability: ArrayLike, truth: ArrayLike, bins: int = 10) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """How often what is said with probability p is true, in equal bins of [0, 1].

    Args:
        probability: (N,) in [0, 1].
        truth: (N,) booleans.
        bins: >= 1.

    Returns:
        Of each bin that holds something: mean probability, share of true, count; (B,) each, B <= bins.

    Raises:
        InvalidValueError: shapes that differ, no examples, or probabilities outside [0, 1].
    """
    said, true = _with_truth(probability, truth, "probabilities")
    if said.ndim != 1 or not said.size or bins < 1 or not 0 <= said.min() <= said.max() <= 1:
        raise InvalidValueError(f"probabilities must be (N,) in [0, 1] with N >= 1 and bins >= 1, got {said.shape} and {bins}")
    place = np.minimum((said * bins).astype(np.intp), bins - 1)
    count = np.bincount(place, minlength=bins)
    held = count > 0
    mean, share = (np.bincount(place, weights=x, minlength=bins)[held] / count[held] for x in (said, true))
    return mean, share, count[held]


def expected_calibration_error(probability: ArrayLike, truth: ArrayLike, bins: int = 10) -> float:
    """ECE = sum_b n_b / N |share of true_b - mean probability_b|, in [0, 1] (arXiv:1706.04599, eq. 3).

    Args:
        probability: (N,) in [0, 1].
        truth: (N,) booleans.
        bins: >= 1.
    """
    mean, share, count = calibration_curve(probability, truth, bins)
    return float(np.average(np.abs(share - mean), weights=count))


def _overlap(found: Masks, true: Masks) -> tuple[Floats, Floats]:
    both, either = (found & true).sum(axis=-1), (found | true).sum(axis=-1)
    per_step = np.where(either > 0, both / np.maximum(either, 1), 1.0)
    return per_step, per_step.mean(axis=-1)


def _pearson(a: NDArray[Any], b: NDArray[Any]) -> Floats:
    """Correlation along the last axis; 0 where one of the two is constant."""
    a, b = (x - x.mean(axis=-1, keepdims=True) for x in (a, b))
    norm = np.sqrt(np.square(a).sum(axis=-1) * np.square(b).sum(axis=-1))
    return np.divide((a * b).sum(axis=-1), norm, out=np.zeros_like(norm), where=norm > 0)


def _series(values: ArrayLike, name: str) -> NDArray[Any]:
    array = finite(values, name)
    if not array.ndim or array.shape[-1] < 2:
        raise InvalidValueError(f"{name} must have at least 2 entries along the last axis, got {array.shape}")
    return array


def _scored(scores: ArrayLike, labels: ArrayLike) -> tuple[NDArray[Any], Masks]:
    said, true = _with_truth(scores, labels, "scores")
    if said.ndim != 1 or not (true.any() and (~true).any()):
        raise InvalidValueError(f"labels must be (N,) with a true and a false one, got {int(true.sum())} true of {true.shape}")
    return said, true


def _with_truth(values: ArrayLike, truth: ArrayLike, name: str) -> tuple[NDArray[Any], Masks]:
    said, true = finite(values, name), np.asarray(truth)
    _require_masks(true)
    _require_same(f"{name} and their truth", said, true)
    return said, true


def _require_masks(*arrays: NDArray[Any]) -> None:
    for array in arrays:
        if array.dtype != np.bool_:
            raise InvalidValueError(f"truths and masks must be booleans, got {array.dtype}")


def _require_same(names: str, a: NDArray[Any], b: NDArray[Any]) -> None:
    if a.shape != b.shape:
        raise InvalidValueError(f"{names} must have the same shape, got {a.shape} and {b.shape}")
