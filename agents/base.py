"""What every agent is: something that maps batched observations to batched actions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from assets.errors import InvalidValueError

Observation = Mapping[str, NDArray[Any]]

# Steps that a push lasts, and steps from one's end to the next one's beginning, on average.
PUSHED, UNTIL_PUSH = 5, 25


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
        push: standard deviation of pushes: constants that are added to the arm's actions for `PUSHED` steps, after `UNTIL_PUSH`
            steps on average without. Noise that is drawn anew at every step shakes an arm and hardly moves it; pushes bring it
            centimetres off its way, so that there is something to recover from (DART, Laskey et al. 2017, arXiv:1703.09327).
        seed: of noise and pushes.

    Raises:
        InvalidValueError: a push where there is no arm.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], noise: float = 0.0, seed: int = 0, push: float = 0.0) -> None:
        self._env = env
        self._noise, self._push = noise, push
        self._rng = np.random.default_rng(seed)
        if push:
            parts: dict[str, slice] = env.unwrapped.action_slices  # type: ignore[attr-defined]
            if "arm" not in parts:
                raise InvalidValueError(f"push={push} is of an arm, this environment moves {sorted(parts)}")
            self._arm = parts["arm"]
            self._pushed = np.zeros((env.num_envs, self._arm.stop - self._arm.start))
            self._left = np.zeros(env.num_envs, int)  # steps that a push still lasts

    def reset(self) -> None:
        """No push goes on into new episodes."""
        if self._push:
            self._left[:] = 0

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """What the expert does in the environment's present state; `obs` is not looked at."""
        del obs
        action = self._env.unwrapped.oracle()  # type: ignore[attr-defined]
        if self._noise and not deterministic:
            action = action + self._rng.normal(0, self._noise, action.shape)
        if self._push and not deterministic:
            action = action.copy()
            action[:, self._arm] += self._pushes()
        return np.clip(action, -1, 1).astype(np.float32)

    def _pushes(self) -> NDArray[np.float64]:
        """What is added to the arm's actions in this step, (N, A)."""
        self._left = np.maximum(self._left - 1, 0)
        begins = (self._left == 0) & (self._rng.random(len(self._left)) < 1 / UNTIL_PUSH)
        drawn = self._rng.normal(0, self._push, self._pushed.shape)
        self._pushed = np.where(begins[:, None], drawn, self._pushed)
        self._left[begins] = PUSHED
        return np.where(self._left[:, None] > 0, self._pushed, 0)
