"""The one place where Stable-Baselines3 meets a reward that is not the environment's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv, VecEnvWrapper

from rewards.base import Episodic, Transition, WeightedSum


class VecRewardWrapper(VecEnvWrapper):
    """Pays for what is seen, in any vector environment of Stable-Baselines3.

    These environments restart by themselves, and what they then return belongs to the next episode already. So an episode's
    last step is paid for its "terminal_observation", and a reward that remembers forgets in exactly those simulations that
    ended. Each step's `infos[i]` carries "reward_terms", unweighted, and "task_reward", the environment's own.

    The suite's environments take a reward themselves (`reward=`); this is for those of others, and for a reward that changes
    while it is trained with.

    Args:
        venv: the environment.
        reward: of named terms. It sees no physical quantities, for there are none: `Transition.state` is empty.
    """

    def __init__(self, venv: VecEnv, reward: WeightedSum) -> None:
        super().__init__(venv)
        self.reward = reward
        self._last: Any = None
        self._actions = np.zeros((venv.num_envs, 0), np.float32)

    def reset(self) -> Any:
        """Start all simulations anew."""
        self._forget(np.arange(self.num_envs))
        self._last = self.venv.reset()
        return self._last

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Remember the actions, for a reward may ask for them."""
        self._actions = np.asarray(actions, np.float32).reshape(self.num_envs, -1)
        self.venv.step_async(actions)

    def step_wait(self) -> Any:
        """Step all simulations and pay for it."""
        obs, paid, done, infos = self.venv.step_wait()
        batch = self._transition(obs, done, infos)
        terms = self.reward.terms(batch)
        reward = self.reward.total(terms)
        for i, info in enumerate(infos):
            info["task_reward"] = float(paid[i])
            info["reward_terms"] = {name: float(value[i]) for name, value in terms.items()}
        self._forget(np.flatnonzero(done))
        self._last = obs
        return obs, reward, done, infos

    def _transition(self, obs: Any, done: NDArray[np.bool_], infos: list[dict[str, Any]]) -> Transition:
        after = {key: value.copy() for key, value in _named(obs).items()}
        for i in np.flatnonzero(done):
            for key, value in _named(infos[i]["terminal_observation"]).items():
                after[key][i] = value
        cut = np.array([bool(info.get("TimeLimit.truncated", False)) for info in infos])
        said = [str(info.get("instruction", "")) for info in infos]
        return Transition(_named(self._last), self._actions, {}, after, done & ~cut, said)

    def _forget(self, ids: NDArray[np.intp]) -> None:
        if isinstance(self.reward, Episodic) and len(ids):
            self.reward.reset(ids)


def _named(obs: Any) -> Mapping[str, NDArray[Any]]:
    """Observations by name; a single array is "obs"."""
    return obs if isinstance(obs, Mapping) else {"obs": obs}
