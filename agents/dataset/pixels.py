"""Drawing an episode's images again from its stored states."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.dataset.layout import Arrays, Env, image_keys
from agents.rollout import Episode
from assets.errors import InvalidValueError, UnknownNameError


def render(env: Env, episode: Episode, views: Sequence[str] | None = None) -> Arrays:
    """Draw an episode's observed images again, by restoring as many time steps at once as there are simulations.

    The environment is left in one of the episode's states: reset it before stepping it. Size and render profile are the
    environment's; with those of the recording the pixels are the same that the policy saw.

    Args:
        env: an environment of the same task.
        episode: with snapshots.
        views: names of observed images; None takes all.

    Returns:
        name -> (T + 1, H, W[, 3]).

    Raises:
        UnknownNameError: the environment does not observe a view.
        InvalidValueError: the episode has no snapshots.
    """
    offered = image_keys(env.single_observation_space)
    wanted = offered if views is None else list(views)
    for name in wanted:
        if name not in offered:
            raise UnknownNameError("observed image", name, offered)
    if not episode.snapshots:
        raise InvalidValueError(f"the episode of seed {episode.seed} has no snapshots to draw; record it with snapshots=True")
    if not wanted:
        return {}
    total, drawn = episode.length + 1, {name: [] for name in wanted}
    for at in range(0, total, env.num_envs):
        rows = np.minimum(np.arange(at, at + env.num_envs), total - 1)  # a last, smaller batch repeats the last row
        obs = env.unwrapped.restore({key: value[rows] for key, value in episode.snapshots.items()})  # type: ignore[attr-defined]
        for name in wanted:
            drawn[name].append(obs[name][: total - at])
    return {name: np.concatenate(parts) for name, parts in drawn.items()}
