"""A run folder: everything that a result depends on, in one place that is never overwritten.

config.yaml  system.json  metrics.jsonl  resumed.jsonl  tensorboard/  checkpoints/{<step>,last}  physics_error_*.npz
"""

from __future__ import annotations

import datetime
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from agents import config as configuration
from agents.provenance import commit, machine, versions
from assets.errors import InvalidValueError


def system(environment: dict[str, Any] | None = None) -> dict[str, Any]:
    """Commit, versions, machine and, from the environment, OpenGL and render profile."""
    import torch

    return {
        "command": " ".join(sys.argv),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": versions(),
        "machine": {
            **machine(),
            "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
            "matmul_precision": torch.get_float32_matmul_precision(),
        },
        "environment": environment,
    }


def unused(file: Path) -> Path:
    """The path itself, or the first of name_2, name_3, ... where nothing is yet: what was written is never overwritten."""
    place, count = file, 1
    while place.exists():
        count += 1
        place = file.with_stem(f"{file.stem}_{count}")
    return place


def write_json(file: str | Path, value: Any) -> Path:
    """Write a JSON file, whole or not at all, with the folders that it needs."""
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_text(json.dumps(value, indent=2) + "\n")
    partial.replace(file)
    return file


class Run:
    """A run folder.

    Args:
        folder: its place.

    Attributes:
        folder, checkpoints: paths.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"

    @staticmethod
    def place(folder: str | Path | None, label: str) -> Path:
        """Where a new run goes: `folder`, or one named by date, time and `label`; nothing is made yet.

        Raises:
            InvalidValueError: the folder exists and is not empty.
        """
        now = datetime.datetime.now()
        place = Path(folder) if folder else Path("outputs") / f"{now:%Y-%m-%d}" / f"{now:%H-%M-%S}_{label}"
        place = place.absolute()
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise InvalidValueError(
                f"the run folder {place} is not empty, and nothing is overwritten: choose another run=, or resume={place}"
            )
        return place

    @classmethod
    def create(cls, config: DictConfig, folder: str | Path | None, label: str = "run") -> Run:
        """A new, empty run folder with its configuration.

        Raises:
            InvalidValueError: the folder exists and is not empty.
        """
        place = cls.place(folder, label)
        place.mkdir(parents=True, exist_ok=True)
        configuration.save(config, place / "config.yaml")
        return cls(place)

    @classmethod
    def open(cls, folder: str | Path) -> Run:
        """An existing run.

        Raises:
            InvalidValueError: not a run folder.
        """
        place = Path(folder).absolute()
        if not (place / "config.yaml").is_file():
            raise InvalidValueError(f"{place} is not a run folder: it has no config.yaml")
        return cls(place)

    @property
    def config(self) -> DictConfig:
        """The configuration that it goes on with: what it was started with, and the changes with which it was resumed."""
        config = configuration.read(self.folder / "config.yaml")
        changes = [override for row in self.resumes() for override in row["overrides"]]
        return configuration.amend(config, changes) if changes else config

    def write_json(self, name: str, value: Any) -> Path:
        """Write a JSON file into the folder, whole or not at all."""
        return write_json(self.folder / name, value)

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to metrics.jsonl."""
        with (self.folder / "metrics.jsonl").open("a") as handle:
            handle.write(json.dumps(row) + "\n")

    def note_resume(self, step: int, overrides: Sequence[str]) -> None:
        """Append to resumed.jsonl from which step, with which changes, and by what the run goes on."""
        row = {"step": step, "overrides": list(overrides), "date": system()["date"], "commit": commit()}
        with (self.folder / "resumed.jsonl").open("a") as handle:
            handle.write(json.dumps(row) + "\n")

    def resumes(self) -> list[dict[str, Any]]:
        """All rows of resumed.jsonl."""
        file = self.folder / "resumed.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

    def metrics(self) -> list[dict[str, Any]]:
        """All rows logged so far; a row that was cut short at the end is left out."""
        file = self.folder / "metrics.jsonl"
        rows = []
        for line in file.read_text().splitlines() if file.is_file() else ():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return rows

    def forget_after(self, step: int) -> None:
        """Drop metrics of steps that a resumed run will do again."""
        rows = [row for row in self.metrics() if row.get("step", 0) <= step]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        partial = self.folder / ".metrics.jsonl.partial"
        partial.write_text(text)
        partial.replace(self.folder / "metrics.jsonl")
