"""Acting by chunks: a policy predicts the next H actions at once, and overlapping predictions are averaged.

Temporal ensembling follows ACT (Zhao et al. 2023, arXiv:2304.13705, algorithm 2): the action of a step is the mean of all
predictions made for it, with weights w_i = exp(-m i), where i = 0 is the oldest prediction. A small m trusts them all alike
and moves smoothly; a large m lives by the oldest one.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError


class ChunkBuffer:
    """The predictions that still speak about the present, for N simulations.

    Args:
        chunk: actions predicted at once, H.
        execute: steps between two predictions, 1 to H; 1 looks at every observation, H acts blindly through a chunk.
        ensemble: ACT's m >= 0, per prediction; None takes the newest prediction alone.

    Raises:
        InvalidValueError: an argument is out of its range.
    """

    def __init__(self, chunk: int, execute: int = 1, ensemble: float | None = 0.01) -> None:
        if chunk < 1:
            raise InvalidValueError(f"chunk must be >= 1 action, got {chunk}")
        if not 1 <= execute <= chunk:
            raise InvalidValueError(f"execute must be between 1 and the chunk's {chunk} actions, got {execute}")
        if ensemble is not None and not 0 <= ensemble < np.inf:
            raise InvalidValueError(f"ensemble must be a finite number >= 0, or None for no averaging, got {ensemble}")
        self.chunk, self.execute, self.ensemble = chunk, execute, ensemble
        self._plans = np.zeros((0, chunk, chunk, 0), np.float32)  # (N, age, step of the chunk, A)
        self._known = np.zeros((0, chunk), bool)  # (N, age)
        self._since = np.zeros(0, np.int64)  # (N,) steps since the newest prediction

    def reset(self, sims: NDArray[np.bool_] | None = None) -> None:
        """Forget everything, or only the simulations of a mask (N,)."""
        if sims is None:
            self._known = np.zeros((0, self.chunk), bool)
        else:
            self._known[sims] = False
            self._since[sims] = self.execute

    def act(self, count: int, predict: Callable[[], NDArray[np.float32]]) -> NDArray[np.float32]:
        """The present step's actions, and one step on in time.

        Args:
            count: simulations, N.
            predict: gives chunks (N, H, A) for the present observations; called only when some simulation needs one.

        Returns:
            (N, A).

        Raises:
            InvalidValueError: N changed without a reset.
        """
        if len(self._known) == 0:
            self._known = np.zeros((count, self.chunk), bool)
            self._since = np.full(count, self.execute)
            self._plans = np.zeros((count, self.chunk, self.chunk, 0), np.float32)
        if len(self._known) != count:
            raise InvalidValueError(
                f"the chunks are of {len(self._known)} simulations, now there are {count}: call reset() before a new batch"
            )
        self._age()
        due = self._since >= self.execute
        if due.any():
            self._push(due, predict())
        self._since += 1
        return self._now()

    def _age(self) -> None:
        self._plans[:, 1:] = self._plans[:, :-1].copy()
        self._known[:, 1:] = self._known[:, :-1].copy()
        self._known[:, 0] = False

    def _push(self, due: NDArray[np.bool_], chunks: NDArray[np.float32]) -> None:
        if self._plans.shape[-1] != chunks.shape[-1]:
            self._plans = np.zeros((len(due), self.chunk, self.chunk, chunks.shape[-1]), np.float32)
        self._plans[due, 0], self._known[due, 0], self._since[due] = chunks[due], True, 0

    def _now(self) -> NDArray[np.float32]:
        ages = np.arange(self.chunk)
        said = self._plans[:, ages, ages]  # (N, age, A): what was predicted `age` steps ago about now
        if self.ensemble is None:
            return said[np.arange(len(said)), self._known.argmax(axis=1)]
        older = self._known[:, ::-1].cumsum(axis=1)[:, ::-1] - self._known  # (N, age) how many predictions are older
        weight = np.exp(-self.ensemble * older) * self._known
        weight /= weight.sum(axis=1, keepdims=True)
        return np.einsum("nk,nka->na", weight, said).astype(np.float32)
