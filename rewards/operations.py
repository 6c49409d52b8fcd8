"""What the operators and functions of `rewards.expressions` do to arrays.

A value has the shape (N,), one number per row, or (N, ...), a vector of components per row; a literal number has (). Nothing
here makes a value with more entries than the largest that came in.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError

Array = NDArray[np.float64]


def index_text(index: int | tuple[int | None, int | None]) -> str:
    """What stands between the brackets of an index or a slice, such as "-1" or "0:3"."""
    return str(index) if isinstance(index, int) else ":".join("" if end is None else str(end) for end in index)


def _aligned(operate: Callable[..., NDArray[Any]]) -> Callable[..., Array]:
    """Entry by entry; one number per row goes with every component of a vector, vectors must have the same shape."""

    def apply(*values: Array) -> Array:
        shapes = {value.shape[1:] for value in values} - {()}
        if len(shapes) > 1:
            raise InvalidValueError(f"takes vectors of one shape, got {sorted(shapes)}")
        deepest = max(value.ndim for value in values)
        return operate(*(v.reshape(v.shape + (1,) * (deepest - v.ndim)) for v in values)).astype(np.float64)

    return apply


def _of_row(operate: Callable[..., Array]) -> Callable[..., Array]:
    """Reduces the components of every row to one number."""

    def apply(*values: Array) -> Array:
        if len({value.shape for value in values}) > 1 or values[0].ndim < 2:
            got = ", ".join(str(value.shape[1:]) for value in values)
            raise InvalidValueError(f"takes vectors, alike in shape, not one number per row; got components {got}")
        return operate(*values, axis=tuple(range(1, values[0].ndim)))

    return apply


def _extreme(pair: np.ufunc) -> Callable[..., Array]:
    across, within = _aligned(lambda *values: reduce(pair, values)), _of_row(pair.reduce)
    return lambda *values: across(*values) if len(values) > 1 else within(*values)


def _component(value: Array, index: int) -> Array:
    if value.ndim < 2:
        raise InvalidValueError("is one number per row, there is no component to take")
    if not -value.shape[1] <= index < value.shape[1]:
        raise InvalidValueError(f"has {value.shape[1]} components, there is no [{index}]")
    return value[:, index]


def _components(value: Array, ends: tuple[int | None, int | None]) -> Array:
    size = value.shape[1] if value.ndim > 1 else 0
    start, stop = (0 if ends[0] is None else ends[0]), (size if ends[1] is None else ends[1])
    start, stop = (end + size if end < 0 else end for end in (start, stop))
    if not 0 <= start < stop <= size:
        raise InvalidValueError(f"has {size} components, there is no [{index_text(ends)}]")
    return value[:, start:stop]


class Function(NamedTuple):
    """A function of the language: how it is written, what it gives, with how many arguments."""

    usage: str
    meaning: str
    least: int
    most: int
    apply: Callable[..., Array]


FUNCTIONS: dict[str, Function] = {
    "abs": Function("abs(x)", "absolute value", 1, 1, _aligned(np.abs)),
    "sqrt": Function("sqrt(x)", "square root, x >= 0", 1, 1, _aligned(np.sqrt)),
    "exp": Function("exp(x)", "exponential", 1, 1, _aligned(np.exp)),
    "log": Function("log(x)", "natural logarithm, x > 0", 1, 1, _aligned(np.log)),
    "tanh": Function("tanh(x)", "hyperbolic tangent", 1, 1, _aligned(np.tanh)),
    "clip": Function("clip(x, low, high)", "x, kept from low to high", 3, 3, _aligned(np.clip)),
    "min": Function(
        "min(x) or min(a, b, ...)", "smallest component of x, or the smaller one entry by entry", 1, 16, _extreme(np.minimum)
    ),
    "max": Function(
        "max(x) or max(a, b, ...)", "largest component of x, or the larger one entry by entry", 1, 16, _extreme(np.maximum)
    ),
    "norm": Function("norm(x)", "length of a vector", 1, 1, _of_row(lambda x, axis: np.sqrt(np.square(x).sum(axis)))),
    "dot": Function("dot(a, b)", "scalar product of two vectors", 2, 2, _of_row(lambda a, b, axis: (a * b).sum(axis))),
    "where": Function("where(c, a, b)", "a where c is not 0, else b", 3, 3, _aligned(lambda c, a, b: np.where(c != 0, a, b))),
    "mean": Function("mean(x)", "mean of the components of x", 1, 1, _of_row(np.mean)),
}


def _raised(base: Array, exponent: float) -> Array:
    """IEEE 754's pow in every row: with one exponent for all, numpy takes the square root of minus infinity for a half."""
    rows = np.atleast_1d(base)
    return np.power(rows, np.full(rows.shape, exponent)).reshape(np.shape(base))


OPERATIONS: dict[str, Callable[..., Array]] = {
    "item": _component,
    "slice": _components,
    "neg": _aligned(np.negative),
    "not": _aligned(np.logical_not),
    "or": _aligned(np.logical_or),
    "and": _aligned(np.logical_and),
    "<": _aligned(np.less),
    "<=": _aligned(np.less_equal),
    ">": _aligned(np.greater),
    ">=": _aligned(np.greater_equal),
    "==": _aligned(np.equal),
    "!=": _aligned(np.not_equal),
    "+": _aligned(np.add),
    "-": _aligned(np.subtract),
    "*": _aligned(np.multiply),
    "/": _aligned(np.divide),
    "**": _raised,
    **{name: function.apply for name, function in FUNCTIONS.items()},
}
