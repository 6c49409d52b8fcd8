"""Episodes as arrays to learn from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.dataset.layout import Arrays, DatasetError, Env, image_keys, observed
from agents.dataset.pixels import render
from agents.dataset.read import Demonstrations
from agents.rollout import Episode
from assets.errors import InvalidValueError


@dataclass(frozen=True)
class Steps:
    """All steps of some episodes, one after the other.

    Attributes:
        obs: name -> (S, ...) what was seen before the action.
        action: (S, A).
        left: (S,) steps to the end of the episode, this one included.
    """

    obs: Arrays
    action: NDArray[np.float32]
    left: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.left)


def learning_arrays(episodes: Sequence[Episode], env: Env) -> Steps:
    """Everything that an imitator of `env`'s observations needs; images that were not recorded are drawn again.

    Raises:
        DatasetError: the episodes are of another environment, or there are none.
        InvalidValueError: an episode lacks actions, or a vector that the environment observes.
    """
    if len(episodes) == 0:
        raise DatasetError("there are no demonstrations to learn from: at least one episode is needed")
    if isinstance(episodes, Demonstrations):
        episodes.check(env)
    columns: dict[str, list[NDArray[Any]]] = {}
    actions, left = [], []
    for episode in episodes:
        if episode.action is None:
            raise InvalidValueError(f"the episode of seed {episode.seed} has no actions; record it with Record()")
        for key, value in _seen(episode, env).items():
            columns.setdefault(key, []).append(value[:-1])
        actions.append(episode.action)
        left.append(np.arange(episode.length, 0, -1))
    obs = {key: np.concatenate(parts) for key, parts in columns.items()}
    return Steps(obs, np.concatenate(actions).astype(np.float32), np.concatenate(left))


def _seen(episode: Episode, env: Env) -> Arrays:
    """One episode's observations under the environment's names, (T + 1, ...)."""
    space = observed(env)
    missing = [key for key in space.spaces if key not in episode.obs]
    drawn = [key for key in missing if key in image_keys(space)]
    for key in missing:
        if key not in drawn:
            raise InvalidValueError(
                f"the environment observes the vector {key!r}, which the demonstrations lack "
                f"(they have {sorted(episode.obs)}): collect them in an environment that observes it"
            )
    pixels = render(env, episode, drawn) if drawn else {}
    return {key: pixels[key] if key in pixels else episode.obs[key] for key in space.spaces}
