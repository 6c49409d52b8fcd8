"""One random stream per simulation, keyed by (seed, index).

Simulation i draws the same numbers whether it is alone or among a thousand, and whatever the others draw.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError

Limit = float | Sequence[float] | NDArray[np.float64]


def _stream(seed: int, index: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, index))))


class Draw:
    """Batched draws for n chosen simulations: row k comes from the k-th one's own stream."""

    def __init__(self, generators: Sequence[np.random.Generator]) -> None:
        self._generators = generators

    def __len__(self) -> int:
        return len(self._generators)

    def uniform(self, low: Limit, high: Limit, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
        """Uniform in [low, high). Shape (n, *shape)."""
        return np.stack([g.uniform(low, high, shape or None) for g in self._generators])

    def normal(self, scale: Limit, shape: tuple[int, ...] = ()) -> NDArray[np.float64]:
        """Gaussian with mean 0 and the given standard deviation. Shape (n, *shape)."""
        return np.stack([g.normal(0.0, scale, shape or None) for g in self._generators])

    def integers(self, low: int, high: int, shape: tuple[int, ...] = ()) -> NDArray[np.int64]:
        """Integers in [low, high). Shape (n, *shape)."""
        return np.stack([np.asarray(g.integers(low, high, shape or None)) for g in self._generators])

    def permutation(self, size: int) -> NDArray[np.int64]:
        """Independent permutations of range(size). Shape (n, size)."""
        return np.stack([g.permutation(size) for g in self._generators])


class Streams:
    """The streams of N simulations.

    Args:
        num_sims: N.
        first_index: index of the first simulation, so that a shard of a larger batch draws what the whole would.
    """

    def __init__(self, num_sims: int, first_index: int = 0) -> None:
        self._first = first_index
        entropy = int(np.random.SeedSequence().generate_state(1, np.uint32)[0])
        self.seeds: list[int] = [entropy] * num_sims
        self._generators = [_stream(entropy, first_index + i) for i in range(num_sims)]

    def seed(self, seed: int | Sequence[int | None]) -> None:
        """Restart the streams.

        One integer s keys simulation i by (s, first_index + i). A list gives each simulation a seed of its own, keyed by
        (s_i, 0), so that `seed=[7]` anywhere equals `seed=7` alone; None in a list leaves that stream running.

        Raises:
            InvalidValueError: not integers >= 0, or a list of another length.
        """
        values = list(seed) if isinstance(seed, (Sequence, np.ndarray)) else [seed]
        if isinstance(seed, (Sequence, np.ndarray)) and len(values) != len(self._generators):
            raise InvalidValueError(f"a list of seeds needs one per simulation: got {len(values)} for {len(self._generators)}")
        for value in values:
            if value is not None and (not isinstance(value, (int, np.integer)) or value < 0):
                raise InvalidValueError(f"seeds must be integers >= 0, got {value!r}")
        if isinstance(seed, (int, np.integer)):
            keys = [(int(seed), self._first + i) for i in range(len(self._generators))]
        else:
            keys = [None if s is None else (int(s), 0) for s in seed]
        for i, key in enumerate(keys):
            if key is not None:
                self.seeds[i] = key[0]
                self._generators[i] = _stream(*key)

    def of(self, ids: Iterable[int]) -> Draw:
        """Draws for the chosen simulations."""
        return Draw([self._generators[i] for i in ids])

    def state(self) -> list[dict[str, Any]]:
        """The streams' exact positions, as JSON-able dictionaries."""
        return [dict(g.bit_generator.state) for g in self._generators]

    def set_state(self, state: Sequence[dict[str, Any]]) -> None:
        """Bring back what `state` returned."""
        for generator, one in zip(self._generators, state, strict=True):
            generator.bit_generator.state = one
