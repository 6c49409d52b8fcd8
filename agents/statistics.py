"""Honest numbers: intervals for proportions and means."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assets.errors import InvalidValueError


def wilson(successes: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson score interval of a proportion (Wilson 1927); z = 1.96 is 95 %.

    Unlike the normal interval it stays in [0, 1] and does not collapse at 0 or n successes.

    Raises:
        InvalidValueError: not 0 <= successes <= n with n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise InvalidValueError(f"a proportion needs 0 <= successes <= n and n >= 1, got {successes} of {n}")
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # The bounds at 0 and n successes are exactly 0 and 1; rounding must not move them.
    low = 0.0 if successes == 0 else float(centre - half)
    high = 1.0 if successes == n else float(centre + half)
    return low, high


def bootstrap(
    values: ArrayLike, draws: int = 2000, seed: int = 0, of: Callable[..., NDArray[np.float64]] = np.mean
) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean, or of the median (`of=np.median`).

    Raises:
        InvalidValueError: no values.
    """
    data = np.asarray(values, np.float64)
    if data.size == 0:
        raise InvalidValueError("a mean needs at least one value, got none")
    rng = np.random.default_rng(seed)
    drawn = of(data[rng.integers(0, data.size, (draws, data.size))], axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def paired_difference(a: Sequence[bool], b: Sequence[bool]) -> tuple[float, float, float]:
    """Mean of a - b over paired episodes, with its bootstrap interval.

    Raises:
        InvalidValueError: different lengths.
    """
    if len(a) != len(b):
        raise InvalidValueError(f"paired outcomes need equal lengths, got {len(a)} and {len(b)}")
    difference = np.asarray(a, float) - np.asarray(b, float)
    return (float(difference.mean()), *bootstrap(difference))
