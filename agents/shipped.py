"""Trained policies that come with the suite, under assets/policies: configuration, weights, and how they came about.

saccade replay checkpoint=eyerobot/estop
saccade evaluate checkpoint=eyerobot/estop
"""

from __future__ import annotations

from omegaconf import DictConfig

from assets import ROOT
from assets.errors import InvalidValueError, UnknownNameError

FOLDER = ROOT / "policies"


def names() -> list[str]:
    """Names of all of them, such as "eyerobot/estop"."""
    return sorted(file.parent.relative_to(FOLDER).as_posix() for file in FOLDER.rglob("config.yaml"))


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
