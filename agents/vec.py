"""The one bridge from Gymnasium's vector environments to Stable-Baselines3: no subprocesses, no copies of simulations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray
from stable_baselines3.common.vec_env.base_vec_env import VecEnv

from assets.errors import InvalidValueError


class SB3VecEnv(VecEnv):
    """A Gymnasium vector environment as Stable-Baselines3 wants it.

    Each step's `infos[i]` carries what SB3 reads: at the end of an episode "terminal_observation", "TimeLimit.truncated",
    "is_success" and "episode" {r, l}. The whole batched info of the last step is kept in `last_info`.

    Args:
        env: made with autoreset_mode="same_step"; it may have an image axis order of (H, W, C).
    """

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        mode = env.metadata.get("autoreset_mode")
        if mode is not AutoresetMode.SAME_STEP:
            raise InvalidValueError(f"Stable-Baselines3 needs autoreset_mode='same_step', the environment has {mode}")
        self.env = env
        self.last_info: dict[str, Any] = {}
        self._actions: NDArray[np.float32] | None = None
        self._returns = np.zeros(env.num_envs)
        self._lengths = np.zeros(env.num_envs, np.int64)
        self.render_mode = env.render_mode
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> Any:
        """Start all simulations, with the seed given to `seed` if there was one.

        An environment that can is asked to spread them over the episode: in step, all would search at once, then all hold.
        """
        seed = self._seeds[0] if self._seeds and self._seeds[0] is not None else None
        obs, self.last_info = self.env.reset(seed=seed)
        stagger = getattr(self.env.unwrapped, "stagger", None)
        if stagger is not None:
            stagger()
        self._reset_seeds()
        self._returns[:] = 0
        self._lengths[:] = 0
        return obs

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Remember the actions."""
        self._actions = actions

    def step_wait(self) -> tuple[Any, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Step all simulations."""
        assert self._actions is not None
        obs, rewards, terminated, truncated, info = self.env.step(self._actions)
        self.last_info = info
        done = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(done):
            infos[i] = {
                "terminal_observation": info["final_obs"][i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "is_success": bool(info["final_info"]["is_success"][i]),
                "episode": {"r": float(self._returns[i]), "l": int(self._lengths[i]), "t": 0.0},
            }
        self._returns[done] = 0
        self._lengths[done] = 0
        return obs, rewards.astype(np.float32), done, infos

    def checkpoint(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Arrays and a JSON-able rest, for an exact resume."""
        arrays, rest = self.env.unwrapped.checkpoint()  # type: ignore[attr-defined]
        return {**arrays, "returns": self._returns.copy(), "lengths": self._lengths.copy()}, rest

    def resume(self, arrays: dict[str, NDArray[Any]], rest: dict[str, Any]) -> Any:
        """Bring back what `checkpoint` returned; returns the observation to go on from."""
        arrays = dict(arrays)
        self._returns[:] = arrays.pop("returns")
        self._lengths[:] = arrays.pop("lengths")
        return self.env.unwrapped.resume(arrays, rest)  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close the environment."""
        self.env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The batch's attribute, once per simulation asked for."""
        return [getattr(self.env, attr_name)] * len(list(self._get_indices(indices)))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Set an attribute of the whole batch."""
        if indices is not None:
            raise InvalidValueError("all simulations share their attributes: set_attr takes no indices here")
        setattr(self.env, attr_name, value)

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        """Call a method of the batch; its result, once per simulation asked for."""
        result = getattr(self.env, method_name)(*args, **kwargs)
        return [result] * len(list(self._get_indices(indices)))

    def env_is_wrapped(self, wrapper_class: type[Any], indices: Any = None) -> list[bool]:
        """Never: simulations are not wrapped one by one."""
        return [False] * len(list(self._get_indices(indices)))

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """A frame of each simulation."""
        return [np.asarray(frame) for frame in self.env.render() or ()]
