"""`saccade fit`: learn a reward from demonstrations' pictures.

saccade fit reward_model=steps env=door_open demonstrations=outputs/datasets/saccade/dooropen/oracle-v0 out=outputs/rewards/door
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf

from agents.config import load, require
from agents.dataset import Demonstrations
from agents.dataset.layout import control_dt, image_keys
from agents.dataset.pixels import render
from agents.make import build, make_env
from agents.provenance import commit, versions
from agents.rollout import Episode
from agents.show import say
from assets.errors import InvalidValueError, UnknownNameError
from rewards import store
from rewards.base import OfFrames, WeightedSum


def rows(episode: Episode, every: int, after: int) -> NDArray[np.intp]:
    """Which of an episode's T + 1 states are looked at: every k-th, until some steps after its first success."""
    return np.arange(0, episode.until(after) + 1, every)


def video(env: VectorEnv[Any, Any, Any], episode: Episode, view: str, chosen: NDArray[np.intp]) -> NDArray[np.uint8]:
    """Pictures of chosen states of an episode, (len(chosen), H, W, 3); drawn again where they were not kept."""
    if view in episode.obs:
        return episode.obs[view][chosen]
    short = Episode(
        episode.seed, episode.instruction, episode.reward[: len(chosen) - 1], episode.success[: len(chosen) - 1], False, False,
        snapshots={key: value[chosen] for key, value in episode.snapshots.items()},
    )  # fmt: skip
    return render(env, short, [view])[view]


def observed_view(env: VectorEnv[Any, Any, Any], view: str | None) -> str:
    """The observed picture of that name; the first where none is asked for.

    Raises:
        UnknownNameError: the environment observes no such picture.
        InvalidValueError: it observes none at all.
    """
    offered = image_keys(env.single_observation_space)
    if not offered:
        raise InvalidValueError("a reward of pictures needs an environment that observes some")
    if view is not None and view not in offered:
        raise UnknownNameError("observed picture", view, offered)
    return view or offered[0]


def fit(config: DictConfig, episodes: Iterable[Episode], env: VectorEnv[Any, Any, Any], out: str | Path) -> Path:
    """Learn a reward from episodes with snapshots or pictures, and keep it; returns its folder.

    Args:
        config: with the group `reward_model`, `view`, `every` and `after`.
        episodes: the demonstrations.
        env: that can draw them.
        out: new folder.
    """
    reward, view = build(config.reward_model), observed_view(env, config.view)
    every, after = int(config.every), round(float(config.after) / control_dt(env))
    if every < 1 or after < 0:
        raise InvalidValueError(f"every must be >= 1 and after >= 0 seconds, got {config.every} and {config.after}")
    given = list(episodes)
    reward.fit([video(env, episode, view, rows(episode, every, after)) for episode in given])
    told = {
        "reward": OmegaConf.to_container(config.reward_model, resolve=True), "view": view, "every": every,
        "env": OmegaConf.to_container(config.env, resolve=True), "profile": env.unwrapped.describe()["profile"],  # type: ignore[attr-defined]
        "seeds": [episode.seed for episode in given], "commit": commit(), "versions": versions(),
    }  # fmt: skip
    return store.save(reward, out, told)


def learned_frames(folder: str | Path) -> tuple[Any, str]:
    """A reward of pictures that `fit` wrote, and the name of the picture it is about."""
    about = store.about(folder)
    reward = build(DictConfig(about["reward"]))
    store.fill(reward, folder)
    return reward, str(about["view"])


def learned(folder: str | Path) -> WeightedSum:
    """A learned reward, as environments take it: one term, "learned"."""
    return WeightedSum({"learned": OfFrames(*learned_frames(folder))})


def main(arguments: Sequence[str]) -> Path:
    """Fit by overrides; returns the reward's folder."""
    config = load("fit", list(arguments))
    require(config, ("demonstrations", "out"), "folder")
    demonstrations = Demonstrations(config.demonstrations)
    env = make_env(config, int(config.num_envs), "disabled")
    try:
        demonstrations.check(env)
        place = fit(config, demonstrations[: config.count], env, config.out)
    finally:
        env.close()
    say(f"written: {place}")
    return place
