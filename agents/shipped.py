"""Trained policies that come with the suite, under assets/policies: configuration, weights, and how they came about.

saccade replay checkpoint=eyerobot/estop
saccade evaluate checkpoint=eyerobot/estop
saccade train experiment=eyerobot_cpu env=replay_estop agent.start=eyerobot/search
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from assets import ROOT
from assets.errors import InvalidValueError, UnknownNameError

FOLDER = ROOT / "policies"


def names() -> list[str]:
    """Names of those that act, such as "eyerobot/estop"."""
    return [name for name, hand in _found().items() if hand]


def starts() -> list[str]:
    """Names of eyes that have learned to search, for a training to begin with, such as "eyerobot/search"."""
    return [name for name, hand in _found().items() if not hand]


def _found() -> dict[str, bool]:
    """Every name, and whether there is a hand."""
    files = sorted(FOLDER.rglob("config.yaml"))
    return {file.parent.relative_to(FOLDER).as_posix(): bool(OmegaConf.load(file).agent.hand) for file in files}


def start(place: str | Path) -> Path:
    """The folder that `agent.start` means: a path, or the name of an eye that ships.

    Raises:
        UnknownNameError: neither.
    """
    if Path(place).is_dir():
        return Path(place)
    if str(place) not in starts():
        raise UnknownNameError("start, a run folder or an eye that ships,", str(place), starts())
    return FOLDER / str(place)


def history(folder: Path) -> dict[str, Any]:
    """How a policy that ships came about: "seconds" of training, its "curve", and what else `agents.export` wrote of it."""
    found: dict[str, Any] = json.loads((folder / "training.json").read_text())
    return found


def with_run(config: DictConfig) -> DictConfig:
    """A configuration whose `run` is the folder of the shipped policy that its `checkpoint` names, where it names one.

    Raises:
        UnknownNameError: there is no such policy.
        InvalidValueError: a run is named as well.
    """
    if config.checkpoint is None:
        return config
    if config.run is not None:
        raise InvalidValueError(f"run={config.run} and checkpoint={config.checkpoint} both name a policy: leave one out")
    if config.checkpoint not in names():
        raise UnknownNameError("shipped policy", str(config.checkpoint), names())
    config = config.copy()
    config.run = str(FOLDER / str(config.checkpoint))
    return config
