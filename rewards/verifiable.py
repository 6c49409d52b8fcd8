"""Rewards computed from named physical quantities: the ones a simulator can verify.

They are the yardstick that learned rewards are measured against.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from rewards.base import Transition


def _require_positive(value: float, name: str) -> None:
    if not value > 0:
        raise InvalidValueError(f"{name} must be > 0, got {value}")


@dataclass(frozen=True)
class Closeness:
    """r = clip(1 - x / scale, 0, 1): 1 where the quantity is 0, falling linearly to 0 at `scale`.

    EyeRobot's visual-search reward is this with the gaze error and scale = 50 degrees (arXiv:2506.10968).

    Args:
        quantity: name of a non-negative state quantity, (T,).
        scale: where the reward reaches 0, in the quantity's unit.
    """

    quantity: str
    scale: float

    def __post_init__(self) -> None:
        _require_positive(self.scale, "scale")

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,)."""
        return np.clip(1 - batch.quantity(self.quantity) / self.scale, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Proximity:
    """r = 1 - tanh(x / scale): smooth, never quite 0, so that there is a gradient from afar.

    Args:
        quantity: name of a non-negative state quantity, (T,).
        scale: where the reward has fallen to 0.24, in the quantity's unit.
    """

    quantity: str
    scale: float

    def __post_init__(self) -> None:
        _require_positive(self.scale, "scale")

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,)."""
        return (1 - np.tanh(batch.quantity(self.quantity) / self.scale)).astype(np.float32)


@dataclass(frozen=True)
class Fraction:
    """r = clip(x / full, 0, 1): progress of a quantity that should grow, such as a door's opening angle.

    Args:
        quantity: name of a state quantity, (T,).
        full: the value that counts as done, in the quantity's unit.
    """

    quantity: str
    full: float

    def __post_init__(self) -> None:
        _require_positive(self.full, "full")

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,)."""
        return np.clip(batch.quantity(self.quantity) / self.full, 0, 1).astype(np.float32)


@dataclass(frozen=True)
class Descent:
    """r = clip(-x / scale, -1, 1): pays for a rate of change that is negative, such as an error that shrinks.

    Summed over time it is the potential difference between start and end (Ng et al. 1999), so it says at once whether a
    step was a good one and cannot be collected by going in circles.

    Args:
        quantity: name of a state quantity that is a rate, (T,).
        scale: the speed that earns 1, in the quantity's unit.
    """

    quantity: str
    scale: float

    def __post_init__(self) -> None:
        _require_positive(self.scale, "scale")

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,)."""
        return np.clip(-batch.quantity(self.quantity) / self.scale, -1, 1).astype(np.float32)


@dataclass(frozen=True)
class Effort:
    """r = -mean_a action_a^2, (T,): a small price on moving."""

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,)."""
        return (-np.mean(np.square(batch.action), axis=-1)).astype(np.float32)
