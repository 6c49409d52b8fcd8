"""`saccade list`: everything that has a name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Sequence
from typing import Any

import gymnasium as gym

from agents.config import groups
from agents.show import table
from assets.errors import UnknownNameError


def main(arguments: Sequence[str]) -> int:
    """Print the environments and the choices of every configuration group, or of those named.

    Raises:
        UnknownNameError: a group that does not exist.
    """
    found = groups()
    for name in arguments:
        if name not in found:
            raise UnknownNameError("configuration group", name, found)
    if not arguments or "env" in arguments:
        table(("id", "what to do", "time limit"), environments(), "environments")
    chosen = {name: choices for name, choices in found.items() if not arguments or name in arguments}
    table(("group", "choices"), [(name, ", ".join(choices)) for name, choices in chosen.items()], "configuration groups")
    return 0


def environments() -> list[tuple[Any, ...]]:
    """Id, task and options, and time limit (control steps) of every environment of the suite."""
    importlib.import_module("envs")  # by name: agents know no environment, they ask Gymnasium's registry
    rows = []
    for name, spec in sorted(gym.registry.items()):
        if name.startswith("Saccade/"):
            options = ", ".join(f"{k}={v}" for k, v in spec.kwargs.items() if k != "task")
            summary = _summary(spec.kwargs.get("task") or str(spec.vector_entry_point))
            limit = spec.max_episode_steps or _default(str(spec.vector_entry_point), "max_episode_steps")
            rows.append((name, f"{summary} ({options})" if options else summary, limit))
    return rows


def _default(path: str, name: str) -> Any:
    """What an argument of a class is where nobody gives it."""
    module, _, kind = path.partition(":")
    return inspect.signature(getattr(importlib.import_module(module), kind)).parameters[name].default


def _summary(task: str) -> str:
    """First line of a class's docstring."""
    module, _, kind = task.partition(":")
    doc = getattr(importlib.import_module(module), kind).__doc__ or ""
    return doc.strip().splitlines()[0]
