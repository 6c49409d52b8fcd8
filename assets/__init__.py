"""Robots, eyes, arenas, props and textures of the suite: MJCF drawn in primitives.

Everything is in metres, kilograms, radians and newtons, z up, quaternions as wxyz. Where each file comes from is told
in ``SOURCES.md``. This package imports nothing of the suite and nothing beyond the standard library.
"""

from __future__ import annotations

import difflib
import functools
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from .errors import SaccadeError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["AssetNotFoundError", "Prop", "asset", "props"]

ROOT = Path(__file__).resolve().parent


class AssetNotFoundError(SaccadeError, FileNotFoundError):
    """No such file in the library: the sentence names the value, the near miss and the files beside it."""


@dataclass(frozen=True, slots=True)
class Prop:
    """What a task needs to know about a prop without compiling it.

    Frame: the root of the prop's MJCF, on the support plane in the middle of the footprint, z up, in the resting pose.
    """

    name: str
    """Stem of the file below ``props/``."""
    noun: str
    """Common noun, for a sentence."""
    colour: str
    """One of red, green, blue, yellow, orange, purple, pink, brown, white, black, grey, cyan."""
    phrase: str
    """Noun phrase that names this prop and no other."""
    size_m: tuple[float, float, float]
    """Full extents of the axis-aligned bounding box in m, in the root's frame."""
    mass_kg: float
    """Total mass in kg."""
    grasp_width_m: float | None
    """Width in m between the pads of a gripper that comes from above onto the root's axis and closes along its y;
    None where an opening of 0.08 m does not take the prop."""
    height_m: float
    """Top of the bounding box above the support plane in m."""


def _below(folder: Path) -> list[str]:
    """Names in a folder of the library, caches left out."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith(("_", ".")))


def asset(path: str) -> Path:
    """Absolute path of a file of the library, such as ``asset("robots/panda.xml")``.

    Raises ``AssetNotFoundError`` where there is no such file, or where the path leaves the library.
    """
    found = (ROOT / path).resolve()
    if found.is_file() and found.is_relative_to(ROOT):
        return found
    folder = found.parent if found.parent.is_dir() and found.parent.is_relative_to(ROOT) else ROOT
    known = [p.relative_to(ROOT).as_posix() for p in ROOT.glob("*/*") if not p.name.startswith(("_", "."))]
    close = difflib.get_close_matches(path, known, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    where = "the library" if folder == ROOT else f"{folder.relative_to(ROOT).as_posix()}/"
    raise AssetNotFoundError(f"unknown asset {path!r}: {hint}available in {where}: {', '.join(_below(folder))}")


@functools.cache
def _props() -> Mapping[str, Prop]:
    import json  # only tasks that talk about props pay for it

    rows = json.loads((ROOT / "props" / "props.json").read_text(encoding="utf-8"))
    return MappingProxyType({row["name"]: Prop(**{**row, "size_m": tuple(row["size_m"])}) for row in rows})


def props() -> dict[str, Prop]:
    """Every prop by name, in the order of ``props/props.json``; the dict is the caller's own."""
    return dict(_props())
