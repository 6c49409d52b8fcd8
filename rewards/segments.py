"""Step discovery: cutting a demonstration into steps within which its features change least.

Of all ways to cut T frames into n steps the one with the least total cost is found by dynamic programming, in O(n T^2):

    C_1(e) = cost(0, e)        C_k(e) = min_s C_{k-1}(s) + cost(s, e)

It is what the recursion of Sermanet et al. 2016 (arXiv:1612.06699, algorithm 1) looks for, exactly.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError

COSTS = ("likelihood", "deviation")
# Variances below this share of a feature's whole variance count as this: a constant stretch is no infinite likelihood.
FLOOR = 1e-3


def segment(features: NDArray[Any], steps: int, shortest: int = 1, cost: str = "likelihood") -> NDArray[np.intp]:
    """Where the steps of a demonstration begin.

    "likelihood", sum_j L_j mean_d log var_jd, is the best fit of one independent Gaussian per step and feature. "deviation",
    (1/n) sum_j mean_d std_jd, is the paper's printed objective; its steps count alike however long they are, so that it
    cuts off stretches of the shortest length wherever most features change in no step.

    Args:
        features: (T, D), a row for every frame.
        steps: n >= 1.
        shortest: frames of a step at least.
        cost: "likelihood" or "deviation".

    Returns:
        (n,) first frames, rising, the first is 0.

    Raises:
        InvalidValueError: features that are not (T, D) and finite; a video in which nothing changes; too few frames.
        UnknownNameError: no such cost.
    """
    if cost not in COSTS:
        raise UnknownNameError("cost of a segmentation", cost, COSTS)
    varied = _varied(features)
    length = len(varied)
    if steps < 1 or shortest < 1 or steps * shortest > length:
        raise InvalidValueError(
            f"{steps} steps of at least {shortest} frames do not fit {length} frames: take fewer or shorter steps"
        )
    costs = _costs(varied, cost)
    best = np.where(np.arange(length + 1) >= shortest, costs[0], np.inf)
    origins = []
    for _ in range(steps - 1):
        total = best[:, None] + costs
        late = np.arange(length + 1)[None] - np.arange(length + 1)[:, None] >= shortest
        total = np.where(late, total, np.inf)
        origins.append(total.argmin(axis=0))
        best = total.min(axis=0)
    starts, end = [], length
    for origin in reversed(origins):
        end = int(origin[end])
        starts.append(end)
    return np.array([0, *reversed(starts)], np.intp)


def _varied(features: NDArray[Any]) -> NDArray[np.float64]:
    """Features that change, centred and scaled to unit variance."""
    rows = np.asarray(features, np.float64)
    if rows.ndim != 2 or not len(rows):
        raise InvalidValueError(f"features must be (frames, features), got shape {rows.shape}")
    if not np.isfinite(rows).all():
        raise InvalidValueError(f"features must be finite numbers, {np.sum(~np.isfinite(rows))} of {rows.size} are not")
    spread = rows.std(axis=0)
    moving = spread > 1e-9 * (1 + np.abs(rows).max())
    if not moving.any():
        raise InvalidValueError(f"nothing changes in {len(rows)} frames: a constant video has no steps")
    return (rows[:, moving] - rows[:, moving].mean(axis=0)) / spread[moving]


def _costs(rows: NDArray[np.float64], cost: str) -> NDArray[np.float64]:
    """Cost of every stretch [s, e), (T + 1, T + 1); infinite where it is empty."""
    length = len(rows)
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows, axis=0)])
    squares = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows**2, axis=0)])
    out = np.full((length + 1, length + 1), np.inf)
    for start in range(length):
        count = np.arange(1, length - start + 1)[:, None]
        mean = (sums[start + 1 :] - sums[start]) / count
        variance = np.maximum((squares[start + 1 :] - squares[start]) / count - mean**2, 0)
        if cost == "likelihood":
            out[start, start + 1 :] = count[:, 0] * np.log(np.maximum(variance, FLOOR)).mean(axis=1)
        else:
            out[start, start + 1 :] = np.sqrt(variance).mean(axis=1)
    return out


def labels(starts: NDArray[np.intp], length: int) -> NDArray[np.intp]:
    """Number of the step that each of `length` frames belongs to, (T,), from where steps begin, (n,)."""
    return np.searchsorted(starts, np.arange(length), side="right") - 1
