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
