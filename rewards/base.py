"""The record that every reward reads, and how named terms add up to one.

A reward never touches the simulator: it maps a batch of transitions to numbers, so the same object runs inside an
environment, over a recording, or on arrays written by hand in a test. What was learned, or remembers an episode, says so by
having the methods of `Learned` or `Episodic`; sums and adapters pass them on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from assets.errors import UnknownNameError


@dataclass(frozen=True)
class Transition:
    """A batch of steps; the leading axis T is time, or N parallel simulations.

    Attributes:
        obs: what the agent saw before acting; name -> (T, ...).
        action: (T, A) in [-1, 1].
        state: named physical quantities after the step, SI units, world frame; name -> (T, ...).
        next_obs: what the agent saw after acting; name -> (T, ...).
        terminated: (T,) the decision process ended here (never the time limit).
        instruction: T sentences.
    """

    obs: Mapping[str, NDArray[Any]]
    action: NDArray[np.float32]
    state: Mapping[str, NDArray[Any]]
    next_obs: Mapping[str, NDArray[Any]]
    terminated: NDArray[np.bool_]
    instruction: Sequence[str]

    def quantity(self, name: str) -> NDArray[Any]:
        """State quantity `name`, (T, ...).

        Raises:
            UnknownNameError: the state has no such quantity; the sentence lists those it has.
        """
        try:
            return self.state[name]
        except KeyError:
            raise UnknownNameError("state quantity", name, self.state) from None


@runtime_checkable
class Reward(Protocol):
    """Anything that maps T transitions to (T,) float32."""

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,)."""
        ...


@runtime_checkable
class Episodic(Protocol):
    """A reward that remembers the episode: what it says of a step depends on the steps before."""

    def reset(self, ids: NDArray[np.intp]) -> None:
        """Forget the episodes of some simulations; new ones begin there."""
        ...


@runtime_checkable
class Learned(Protocol):
    """A reward with numbers that were learned or counted."""

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All of them, as arrays."""
        ...

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state_dict` returned."""
        ...


class FrameReward(Protocol):
    """What a picture is worth."""

    def __call__(self, frames: NDArray[np.uint8], /) -> NDArray[np.float32]:
        """Frames (N, H, W, 3) -> (N,)."""
        ...


class Within:
    """A reward that hands on to those within it whatever concerns memory and learning.

    Args:
        parts: name -> reward.
    """

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self._parts = dict(parts)

    def reset(self, ids: NDArray[np.intp]) -> None:
        """Forget the episodes of some simulations."""
        for part in self._parts.values():
            if isinstance(part, Episodic):
                part.reset(ids)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What was learned within, by "<name>/<key>"."""
        found = {name: part.state_dict() for name, part in self._parts.items() if isinstance(part, Learned)}
        return {f"{name}/{key}": value for name, state in found.items() for key, value in state.items()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            UnknownNameError: it is of a part that is not here, or learns nothing.
        """
        learned = {name: part for name, part in self._parts.items() if isinstance(part, Learned)}
        shares: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in learned}
        for key, value in state.items():
            name, _, rest = key.partition("/")
            if name not in shares:
                raise UnknownNameError("learned reward", name, shares)
            shares[name][rest] = value
        for name, part in learned.items():
            part.load_state_dict(shares[name])


class OfFrames(Within):
    """A reward of pictures as a reward of transitions: what the picture after the step is worth.

    Args:
        reward: of pictures.
        view: name of the observation that holds them, (T, H, W, 3) uint8.
    """

    def __init__(self, reward: FrameReward, view: str) -> None:
        super().__init__({"frames": reward})
        self.view, self._reward = view, reward

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,).

        Raises:
            UnknownNameError: no such observation.
        """
        if self.view not in batch.next_obs:
            raise UnknownNameError("observed picture", self.view, batch.next_obs)
        return self._reward(batch.next_obs[self.view])


class WeightedSum(Within):
    """r = sum_k w_k r_k over named terms; the terms stay visible so that they can be logged one by one.

    Args:
        terms: name -> reward.
        weights: name -> weight; a term without a weight counts 1.

    Raises:
        UnknownNameError: a weight names no term.
    """

    def __init__(self, terms: Mapping[str, Reward], weights: Mapping[str, float] | None = None) -> None:
        weights = dict(weights or {})
        for name in weights:
            if name not in terms:
                raise UnknownNameError("reward term", name, terms)
        super().__init__(terms)
        self._terms = dict(terms)
        self.weights = {name: float(weights.get(name, 1.0)) for name in terms}

    def terms(self, batch: Transition) -> dict[str, NDArray[np.float32]]:
        """Every term by name, unweighted; (T,) each."""
        return {name: term(batch) for name, term in self._terms.items()}

    def total(self, terms: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
        """Add up terms that were already computed. Shape (T,)."""
        parts = [np.float32(self.weights[name]) * value for name, value in terms.items()]
        return np.asarray(np.sum(parts, axis=0, dtype=np.float32))

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The weighted sum, (T,)."""
        return self.total(self.terms(batch))
