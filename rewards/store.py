"""Learned rewards on disk: what they are made of as JSON, what they learned as safetensors, and where they come from.

<folder>/reward.json          {"reward": {"_target_": ..., arguments}, "view": ..., and whatever is to be known of it}
<folder>/state.safetensors    `state_dict()`
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from assets.errors import InvalidValueError
from rewards.base import Learned

ABOUT, STATE = "reward.json", "state.safetensors"


def save(reward: Learned, folder: str | Path, about: Mapping[str, Any]) -> Path:
    """Write a learned reward; the description last, so that a folder with it is whole.

    Args:
        reward: what learned.
        folder: new or empty.
        about: JSON-able; "reward" says how to make it anew.

    Raises:
        InvalidValueError: the folder holds something.
    """
    place = Path(folder)
    if place.is_dir() and any(place.iterdir()):
        raise InvalidValueError(f"{place} is not empty: a learned reward is never overwritten, take another folder")
    place.mkdir(parents=True, exist_ok=True)
    save_file({key: np.ascontiguousarray(value) for key, value in reward.state_dict().items()}, str(place / STATE))
    (place / ABOUT).write_text(json.dumps(dict(about), indent=2, default=str) + "\n")
    return place


def about(folder: str | Path) -> dict[str, Any]:
    """What is known of a learned reward.

    Raises:
        InvalidValueError: there is none in the folder.
    """
    file = Path(folder) / ABOUT
    if not file.is_file():
        raise InvalidValueError(f"{folder} holds no learned reward: it has no {ABOUT}; saccade fit writes one")
    return json.loads(file.read_text())


def fill(reward: Learned, folder: str | Path) -> None:
    """Give a reward that was made anew what was learned.

    Raises:
        InvalidValueError: the numbers cannot be read, or are of another reward.
    """
    try:
        state = load_file(str(Path(folder) / STATE))
    except (OSError, SafetensorError) as error:
        raise InvalidValueError(f"{Path(folder) / STATE} cannot be read: {error}") from error
    reward.load_state_dict(state)
