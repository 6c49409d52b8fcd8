"""The report card of a learned reward: its figures on held-out videos, and a page that shows them.

saccade evaluate reward=learned reward.folder=outputs/rewards/door env=door_open episodes=20
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from agents.config import load
from agents.fit import learned_frames, observed_view
from agents.footage import shoot
from agents.make import make_env
from agents.report_page import page
from agents.show import say, table
from assets.errors import InvalidValueError
from rewards.card import Footage, card, is_blind


def report(config: DictConfig) -> dict[str, Any]:
    """Measure the reward of a configuration with the groups `reward`, `env` and `render`; writes a page beside the reward.

    Raises:
        InvalidValueError: the reward is none that `saccade fit` wrote.
    """
    if "folder" not in config.reward:
        raise InvalidValueError("a report is about a learned reward: take reward=learned reward.folder=<folder of saccade fit>")
    reward, view = learned_frames(config.reward.folder)
    footage = held_out(config, view)
    found = card(reward, footage, np.random.default_rng(int(config.seed)))
    place = Path(config.out or Path(config.reward.folder) / "report.html")
    place.write_text(page(Path(config.reward.folder).name, reward, footage, found))
    place.with_suffix(".json").write_text(json.dumps(found, indent=2) + "\n")
    table(("measure", "value"), [(key, f"{value:.3f}") for key, value in found.items()], str(config.reward.folder))
    if is_blind(found):
        say("this reward does as well where nothing is to be seen: it does not look")
    say(f"written: {place}")
    return found


def held_out(config: DictConfig, view: str) -> dict[str, Footage]:
    """Videos of an environment, paid by its own reward, from seeds that training never draws."""
    own = load("evaluate").reward
    plain = config.copy()
    plain.reward = own
    count = int(config.episodes)
    env = make_env(plain, min(int(config.num_envs), count), "disabled")
    try:
        return shoot(env, observed_view(env, view), range(int(config.seed), int(config.seed) + count))
    finally:
        env.close()
