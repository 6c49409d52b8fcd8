"""Shaping: what rewards add up to over an episode, so that no episode earns by being long or by going in circles.

Time is the last axis, (..., T). An episode ends where `done` is true, and at the end of the array.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assets.errors import InvalidValueError
from rewards.transforms import finite, require_at_least

Mask = NDArray[np.bool_]


def _require_discount(gamma: float) -> None:
    if not 0 <= gamma <= 1:
        raise InvalidValueError(f"gamma must be in [0, 1], got {gamma}")


def _mask(values: ArrayLike, shape: tuple[int, ...], name: str) -> Mask:
    mask = np.asarray(values)
    if mask.dtype != np.bool_ or mask.shape != shape:
        raise InvalidValueError(f"{name} must be booleans of shape {shape}, got {mask.shape} {mask.dtype}")
    return mask


@dataclass(frozen=True)
class Delta:
    """r'_k = r_k - gamma r_{k+1} inside an episode, and the last step keeps its own (arXiv:2410.15115, "Delta").

    The discounted return-to-go of step k is then exactly r_k: bounded as the reward is, however long the episode. The gamma
    must be the learner's. The paper has no discount; with a discounting learner its differences would pay for early drops.

    Args:
        gamma: the learner's discount, in [0, 1]; at 0 rewards are returned unchanged.
        drop_last: the paper's form, in which the last step is the answer and is scored elsewhere: it gets 0, and the step
            before it keeps its own.
    """

    gamma: float
    drop_last: bool = False

    def __post_init__(self) -> None:
        _require_discount(self.gamma)

    def __call__(self, rewards: ArrayLike, done: ArrayLike) -> NDArray[Any]:
        """Shaped rewards, the same shape and precision.

        Args:
            rewards: (..., T), T >= 1.
            done: (..., T), the last steps of episodes.

        Raises:
            InvalidValueError: shapes that differ, or rewards that are not finite.
        """
        values = finite(rewards, "rewards")
        if not (values.ndim and values.size):
            raise InvalidValueError(f"rewards must be (..., T) with at least one step, got {values.shape}")
        last = _mask(done, values.shape, "done").copy()
        last[..., -1] = True
        if self.drop_last:
            values = np.where(last, values.dtype.type(0), values)
        following = np.where(last, values.dtype.type(0), np.roll(values, -1, axis=-1))
        return values - self.gamma * following


@dataclass(frozen=True)
class PotentialShaping:
    """F(s, s') = gamma phi(s') - phi(s): a bonus for progress that leaves the optimal policies as they are.

    Ng, Harada and Russell 1999 (ICML), theorem 1. It holds for any phi, learned ones too, if gamma is the learner's and if
    phi of a terminal state counts as 0: otherwise the potential in which an episode happens to end would be paid out.

    Args:
        gamma: the learner's discount, in [0, 1].
    """

    gamma: float

    def __post_init__(self) -> None:
        _require_discount(self.gamma)

    def __call__(self, before: ArrayLike, after: ArrayLike, terminated: ArrayLike) -> NDArray[Any]:
        """F of each step, to be added to its reward; the shape of `before`.

        Args:
            before: phi(s), any shape.
            after: phi(s') of the state that the step led to; where an environment resets itself, of its final observation
                and not of the next episode's first.
            terminated: the decision process ended with this step; never the time limit.

        Raises:
            InvalidValueError: shapes that differ, or potentials that are not finite.
        """
        here, there = finite(before, "before"), finite(after, "after")
        if here.shape != there.shape:
            raise InvalidValueError(f"before and after must have the same shape, got {here.shape} and {there.shape}")
        ended = _mask(terminated, here.shape, "terminated")
        return self.gamma * np.where(ended, there.dtype.type(0), there) - here


class EpisodicCountDiscount:
    """r' = r / N(key)^exponent, where N counts how often this simulation met the key in this episode.

    With exponent 3 a key that is toggled for ever earns less than 1.21 times its one-time reward, since the sum of 1 / n^3 is
    1.2021 (arXiv:2410.23022). It remembers; call `reset` for the simulations in which an episode begins.

    Args:
        exponent: >= 0; at 0 rewards are returned unchanged.

    Raises:
        InvalidValueError: a negative exponent.
    """

    def __init__(self, exponent: float = 3.0) -> None:
        require_at_least(exponent, 0, "exponent")
        self._exponent = exponent
        # By simulation and a hash of the key, so that the state is plain integers.
        self._counts: Counter[tuple[int, int]] = Counter()

    def __call__(self, rewards: ArrayLike, keys: Sequence[str]) -> NDArray[Any]:
        """Discounted rewards, the same shape and precision; the keys are counted whatever the reward is.

        Args:
            rewards: (N,), row i of simulation i.
            keys: N names of what was met: captions, or hashes of frames.

        Raises:
            InvalidValueError: another number of keys than of rewards, keys that are not text, or rewards that are not finite.
        """
        values = finite(rewards, "rewards")
        if values.shape != (len(keys),):
            raise InvalidValueError(f"rewards must be (N,) with one key each, got {values.shape} and {len(keys)} keys")
        met = [(row, _digest(key)) for row, key in enumerate(keys)]
        self._counts.update(met)
        times = np.array([self._counts[key] for key in met], values.dtype)
        return values / times**self._exponent

    def reset(self, ids: NDArray[np.intp]) -> None:
        """Forget what these simulations met: an episode begins there.

        Args:
            ids: (K,) simulations.
        """
        begun = set(np.asarray(ids).tolist())
        self._counts = Counter({key: count for key, count in self._counts.items() if key[0] not in begun})

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Simulation, hash of the key and count, (K,) int64 each."""
        rows = np.array([(*key, count) for key, count in self._counts.items()], np.int64).reshape(-1, 3)
        return dict(zip(("simulation", "key", "count"), rows.T.copy(), strict=True))

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from a state that `state_dict` gave."""
        columns = (state[name].tolist() for name in ("simulation", "key", "count"))
        self._counts = Counter({(row, key): count for row, key, count in zip(*columns, strict=True)})


def _digest(key: str) -> int:
    if not isinstance(key, str):
        raise InvalidValueError(f"a key must be text, got {key!r}")
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest(), "little", signed=True)
