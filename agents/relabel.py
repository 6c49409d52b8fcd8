"""`saccade relabel`: a dataset as it would have been paid by another reward.

saccade relabel demonstrations=<folder> reward=learned reward.folder=outputs/rewards/door out=outputs/datasets/seen-v0

Nothing is simulated: rewards are functions of what was recorded, and pictures are drawn again from the states.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from agents.config import load, require
from agents.dataset import Demonstrations, Writer, dataset_path
from agents.dataset.layout import Arrays, image_keys
from agents.dataset.pixels import render
from agents.make import build, make_env
from agents.provenance import commit, versions
from agents.rollout import Episode
from agents.show import say
from assets.errors import InvalidValueError, UnknownNameError
from rewards import store
from rewards.base import Transition, WeightedSum
from rewards.transforms import finite


def relabel(
    episodes: Iterable[Episode], reward: WeightedSum, env: VectorEnv[Any, Any, Any], views: Sequence[str] | None = None
) -> Iterator[Episode]:
    """The same episodes, paid by another reward: `reward` and `terms` are new, the rest is as it was.

    As many run side by side as the environment has simulations, step by step, so that a reward that remembers an episode says
    what it would have said there; it forgets before every one of them.

    Args:
        episodes: with actions, and with the physical quantities and vectors that the reward reads.
        reward: of named terms.
        env: that can draw them.
        views: the observed pictures that the reward looks at, drawn again where an episode has not kept them; None takes all.

    Raises:
        UnknownNameError: no such picture, or the reward reads what was not recorded.
        InvalidValueError: an episode without actions, or without snapshots where it is to be drawn; rewards not finite.
    """
    offered = image_keys(env.single_observation_space)
    wanted = offered if views is None else list(views)
    for name in wanted:
        if name not in offered:
            raise UnknownNameError("observed picture", name, offered)
    group: list[Episode] = []
    for episode in episodes:
        group.append(episode)
        if len(group) == env.num_envs:
            yield from _paid(group, reward, env, wanted)
            group = []
    if group:
        yield from _paid(group, reward, env, wanted)


def _paid(group: Sequence[Episode], reward: WeightedSum, env: VectorEnv[Any, Any, Any], views: Sequence[str]) -> list[Episode]:
    """Episodes side by side, relabelled."""
    seen = [_seen(episode, env, views) for episode in group]
    spare = env.num_envs - len(group)  # a last, smaller group fills up with copies, which are dropped
    side, shown = [*group, *[group[-1]] * spare], [*seen, *[seen[-1]] * spare]
    reward.reset(np.arange(env.num_envs))
    steps = [reward.terms(_step(side, shown, t)) for t in range(max(episode.length for episode in group))]
    out = []
    for i, episode in enumerate(group):
        terms = {name: np.array([step[name][i] for step in steps[: episode.length]], np.float32) for name in steps[0]}
        total = finite(reward.total(terms), f"the rewards of the episode of seed {episode.seed}")
        out.append(replace(episode, reward=total, terms=terms))
    return out


def _seen(episode: Episode, env: VectorEnv[Any, Any, Any], views: Sequence[str]) -> Arrays:
    """Everything observed of an episode, name -> (T + 1, ...)."""
    missing = [view for view in views if view not in episode.obs]
    return {**episode.obs, **(render(env, episode, missing) if missing else {})}


def _step(side: Sequence[Episode], seen: Sequence[Arrays], t: int) -> Transition:
    """Step t of every episode; what has ended stays at its last one."""
    at = [min(t, episode.length - 1) for episode in side]
    return Transition(
        obs={key: np.stack([one[key][k] for one, k in zip(seen, at, strict=True)]) for key in seen[0]},
        action=np.stack([_actions(e)[k] for e, k in zip(side, at, strict=True)]),
        state={key: np.stack([e.state[key][k + 1] for e, k in zip(side, at, strict=True)]) for key in side[0].state},
        next_obs={key: np.stack([one[key][k + 1] for one, k in zip(seen, at, strict=True)]) for key in seen[0]},
        terminated=np.array([e.terminated and k == e.length - 1 for e, k in zip(side, at, strict=True)]),
        instruction=[episode.instruction for episode in side],
    )


def _actions(episode: Episode) -> NDArray[np.float32]:
    if episode.action is None:
        raise InvalidValueError(f"the episode of seed {episode.seed} has no actions; record it with Record()")
    return episode.action


def described(config: DictConfig, demonstrations: Demonstrations) -> dict[str, Any]:
    """What a relabelled dataset tells of itself: by which reward, and of which dataset."""
    reward: Any = OmegaConf.to_container(config.reward, resolve=True)
    return {
        "reward": reward,
        "learned": store.about(reward["folder"]) if "folder" in reward else None,
        "commit": commit(),
        "versions": versions(),
        "of": {"path": str(demonstrations.path), **{k: v for k, v in demonstrations.about.items() if k != "format"}},
    }


def place(out: str | Path) -> tuple[str, Path]:
    """Name and folder of datasets, so that the dataset lies in `out`; its name is Minari's where Minari looks for it."""
    path, home = Path(out).absolute(), dataset_path("any-v0").parent
    root = home if path.is_relative_to(home) else path.parent
    return path.relative_to(root).as_posix(), root


def main(arguments: Sequence[str]) -> Path:
    """Relabel by overrides; returns the new dataset's folder."""
    config = load("relabel", list(arguments))
    require(config, ("demonstrations", "out"), "folder")
    if int(config.num_envs) < 1 or (config.count is not None and int(config.count) < 1):
        raise InvalidValueError(f"num_envs and count must be >= 1, got {config.num_envs} and {config.count}")
    demonstrations = Demonstrations(config.demonstrations)
    env = make_env(OmegaConf.masked_copy(config, ["env", "render"]), int(config.num_envs), "disabled")
    try:
        demonstrations.check(env)
        reward = build(config.reward) if config.reward.get("_target_") else env.unwrapped.task.reward()  # type: ignore[attr-defined]
        name, folder = place(config.out)
        count = len(demonstrations) if config.count is None else min(int(config.count), len(demonstrations))
        with Writer(env, name, folder, notes={"relabelled": described(config, demonstrations)}) as writer:
            given = (demonstrations[number] for number in range(count))
            for episode in relabel(given, reward, env, config.views):
                writer.add([episode])
    finally:
        env.close()
    say(f"written: {writer.path} ({count} episodes)")
    return writer.path
