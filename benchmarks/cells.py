"""Cells: what one training, or one trial, of a benchmark reached, kept as data.

A cell is made where it is missing and never again, so that an interrupted benchmark goes on where it stopped, and seeds can be
added on another day. Cells of what is published lie in docs/results/cells, beside the figures made from them, each with
where it comes from, "made".
"""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from agents.run import write_json
from assets.errors import InvalidValueError, UnknownNameError
from benchmarks.results import FOLDER, Row, here

CELLS = Path("outputs/rewards")
ARCHIVE = FOLDER / "cells"
ORIGIN = "made"


def kept(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What a JSON file holds; it is made where it is missing."""
    if not file.is_file():
        write_json(file, make())
    return json.loads(file.read_text())


def stamped(file: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The same, of a cell: what it holds but for its origin, which is written into the file."""
    found = kept(file, lambda: {**make(), ORIGIN: here()})
    return {key: value for key, value in found.items() if key != ORIGIN}


def cell(folder: Path, name: str, seed: int, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The figures of a name and a seed, metric -> number, at `folder`/<name>/cell-<seed>.json; made where they are missing."""
    return stamped(folder / name / f"cell-{seed}.json", make)


def archive(folder: Path, place: Path) -> None:
    """Copy the cells and curves under a folder to where published ones lie; those of the same name give way."""
    for pattern in ("cell-*.json", "curve-*.json"):
        for file in sorted(folder.rglob(pattern)):
            target = place / file.relative_to(folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def cell_parser(module: str, text: str | None, default: str = "") -> argparse.ArgumentParser:
    """A command line that asks for cells.

    Args:
        module: that it calls.
        text: the module's docstring, of which the first line is shown.
        default: cells that are made where none is named.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=(text or "").splitlines()[0])
    parser.add_argument("--cells", default=default, help=f"names with commas{', all by default' if default else ''}")
    parser.add_argument("--seeds", default="0", help="with commas")
    parser.add_argument("--folder", type=Path, default=CELLS, help="of the cells")
    return parser


def asked_for(arguments: argparse.Namespace, known: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Names and seeds of the cells that such a command line asks for, seed by seed.

    Raises:
        UnknownNameError: a name that is not known.
    """
    names = chosen(arguments.cells, known, "cell")
    return ((name, int(seed)) for seed in arguments.seeds.split(",") for name in names)


def averaged(folder: Path, names: Iterable[str], command: str) -> list[Row]:
    """Rows of the cells `folder`/<name>/cell-<seed>.json: means over seeds, from the lowest to the highest.

    Args:
        folder: of cells, each metric -> number.
        names: in the order of the rows; one without cells has none.
        command: that makes cells, for the error.

    Raises:
        InvalidValueError: there is no cell at all.
    """
    out: list[Row] = []
    for name in names:
        cells = {int(f.stem.removeprefix("cell-")): json.loads(f.read_text()) for f in (folder / name).glob("cell-*.json")}
        for key in dict.fromkeys(key for seed in sorted(cells) for key in cells[seed] if key != ORIGIN):
            seeds = tuple(seed for seed in sorted(cells) if key in cells[seed])
            values = [float(cells[seed][key]) for seed in seeds]
            out.append(Row(name, key, sum(values) / len(values), min(values), max(values), len(values), seeds))
    if not out:
        raise InvalidValueError(f"{folder} has no cells yet: run {command} first")
    return out


def chosen(text: str, known: Iterable[str], kind: str) -> list[str]:
    """Names given with commas.

    Raises:
        UnknownNameError: one that is not known.
    """
    names = text.split(",") if text else []
    for name in names:
        if name not in known:
            raise UnknownNameError(kind, name, known)
    return names
