"""What every agent is: something that maps batched observations to batched actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

Observation = Mapping[str, NDArray[Any]]


@runtime_checkable
class Policy(Protocol):
    """Batched actions from batched observations."""

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """Actions in [-1, 1] for N observations; `deterministic` takes the mode instead of a sample. Shape (N, A)."""
        ...


class RandomPolicy:
    """Uniform actions from a stream of its own: the floor of every table.

    Args:
        action_space: Box of one simulation, (A,).
        seed: of the stream.
    """

    def __init__(self, action_space: spaces.Box, seed: int = 0) -> None:
        self._space = action_space
        self._rng = np.random.default_rng(seed)

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """Uniform in the action space, whatever is seen."""
        del deterministic  # A uniform distribution has no mode.
        n = len(next(iter(obs.values())))
        return self._rng.uniform(self._space.low, self._space.high, (n, *self._space.shape)).astype(np.float32)


class OraclePolicy:
    """The task's own scripted expert, which sees the simulator's state: the ceiling of every table.

    Args:
        env: the vector environment that is being acted in; it must offer `oracle()`.
        noise: standard deviation of Gaussian noise on the actions, for demonstrations that recover from mistakes.
        seed: of the noise.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], noise: float = 0.0, seed: int = 0) -> None:
        self._env = env
        self._noise = noise
        self._rng = np.random.default_rng(seed)

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """What the expert does in the environment's present state; `obs` is not looked at."""
        del obs
        action = self._env.unwrapped.oracle()  # type: ignore[attr-defined]
        if self._noise and not deterministic:
            action = action + self._rng.normal(0, self._noise, action.shape)
        return np.clip(action, -1, 1).astype(np.float32)
