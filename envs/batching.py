"""Habits of Gymnasium's vector environments: masks in infos, ways to start anew, one simulation out of a batch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from assets.errors import InvalidValueError, SaccadeError, UnknownNameError


class NotResetError(SaccadeError, gym.error.ResetNeeded):
    """`step` or `render` before the first `reset`."""


class ClosedError(SaccadeError, gym.error.ClosedEnvironmentError):
    """Use after `close`."""


def squeeze(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Take the only simulation out of batched observations or infos, and drop the masks."""
    out: dict[str, Any] = {}
    for key, value in tree.items():
        if key.startswith("_") and key[1:] in tree:
            continue
        if isinstance(value, Mapping):
            out[key] = squeeze(value)
        else:
            first = value[0]
            # Arrays are copied, so that what was returned once is never touched again.
            out[key] = first.copy() if isinstance(first, np.ndarray) else first.item() if hasattr(first, "item") else first
    return out


def reset_mode(mode: str | AutoresetMode) -> AutoresetMode:
    """A way to start anew, by its name.

    Raises:
        UnknownNameError: no such way.
    """
    if isinstance(mode, AutoresetMode):
        return mode
    names = {m.name.lower(): m for m in AutoresetMode}
    if str(mode).lower() not in names:
        raise UnknownNameError("autoreset mode", mode, names)
    return names[str(mode).lower()]


def masked(info: dict[str, Any], who: NDArray[np.bool_]) -> dict[str, Any]:
    """Add Gymnasium's masks "_key" (N,) bool, which say who has the key; they share one array."""
    return info | {f"_{key}": who for key in info}


def unmasked(info: Mapping[str, Any]) -> dict[str, Any]:
    """The same without Gymnasium's masks."""
    return {key: value for key, value in info.items() if not key.startswith("_")}


def remasked(info: Mapping[str, Any], who: NDArray[np.bool_]) -> dict[str, Any]:
    """The same info, with only these simulations having it."""
    said = unmasked(info).items()
    return masked({key: remasked(v, who) if isinstance(v, Mapping) else v for key, v in said}, who)


def checked_mask(mask: Any, num_envs: int) -> NDArray[np.bool_]:
    """Which simulations are meant.

    Raises:
        InvalidValueError: not (N,) bool.
    """
    array = np.asarray(mask)
    if array.shape != (num_envs,) or array.dtype != bool:
        raise InvalidValueError(f"reset_mask must be ({num_envs},) bool, got {array.shape} {array.dtype}")
    return array


def final_rows(obs: Mapping[str, NDArray[Any]], done: NDArray[np.bool_]) -> NDArray[np.object_]:
    """What the simulations of a mask (N,) observe, a dictionary each, for "final_obs"; None for the others. (N,)."""
    final = np.full(len(done), None, object)
    for i in np.flatnonzero(done):
        final[i] = {key: value[i].copy() for key, value in obs.items()}
    return final


def refuse_batches(name: str, arguments: Mapping[str, Any]) -> None:
    """Make sure that nobody asks a single environment for what only a batch has.

    Raises:
        InvalidValueError: somebody does.
    """
    if "autoreset_mode" in arguments or "num_envs" in arguments:
        raise InvalidValueError(f"{name} has one simulation and never resets itself; use gymnasium.make_vec for more")


class Single(gym.Env[dict[str, NDArray[Any]], Any]):
    """A batch of one with the leading axis squeezed off.

    Args:
        batch: vector environment with one simulation that does not reset itself.
    """

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.render_mode = batch.render_mode
        self.metadata = {k: v for k, v in batch.metadata.items() if k != "autoreset_mode"}
        self.observation_space, self.action_space = batch.single_observation_space, batch.single_action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """Start a new episode; `options` may set any named part of the start."""
        super().reset(seed=seed)
        obs, info = self.batch.reset(seed=seed, options=options)
        return squeeze(obs), squeeze(info)

    def step(self, action: Any) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """Advance by one control step.

        Raises:
            InvalidValueError: an action that the batch refuses, or of another shape.
        """
        array = np.asarray(action)
        if array.shape != self.action_space.shape:
            raise InvalidValueError(f"the action has shape {array.shape}, this environment needs {self.action_space.shape}")
        obs, reward, terminated, truncated, info = self.batch.step(array[None])
        return squeeze(obs), float(reward[0]), bool(terminated[0]), bool(truncated[0]), squeeze(info)

    def render(self) -> Any:
        """The frame of `render_mode`."""
        frames = self.batch.render()
        return None if frames is None else frames[0]

    def close(self) -> None:
        """Free everything; safe to call twice."""
        self.batch.close()

    def oracle(self) -> Any:
        """The scripted expert's action in the present state."""
        return self.batch.oracle()[0]
