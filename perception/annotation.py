"""What is to be seen in a picture, exactly: boxes, masks, points, states and relations of named things.

An annotation is filled from simulator truth (`envs.oracle`) or written by hand in a test. Questions, facts and captions are
made from it (`perception.questions`, `perception.claims`), so that their answers are exact. It is ground truth, for training
data, tests and metrics, never an input to what is being tested.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError

HOLDING = ("on", "in")

# Between what is called so and what is not there is a gap, where nobody is asked, so that nobody can argue.
# How far apart, as a share of the picture's width, two things must be to be left and right of each other.
APART = 0.06
# How much nearer one of two must be to be the nearer one, metres.
NEARER = 0.10
# Shares of the way that are called so.
OPENNESS = (("shut", 0.0, 0.03), ("ajar", 0.1, 0.3), ("half open", 0.42, 0.62), ("wide open", 0.8, 1.0))


@dataclass(frozen=True)
class Seen:
    """A thing that can be seen.

    Attributes:
        name: unique in the picture.
        noun: what it is, such as "mug".
        colour: its colour's name, or None where it has none worth naming.
        box: x1, y1, x2, y2 in pixels, x2 and y2 behind the last one. Top left is (0, 0).
        point: a pixel deep inside its mask (pole of inaccessibility), u, v.
        area: visible pixels.
        depth: distance of its centre along the viewing axis, metres.
        position: its centre, world frame, metres.
        cut: its box touches the border of the picture.
    """

    name: str
    noun: str
    colour: str | None
    box: tuple[float, float, float, float]
    point: tuple[float, float]
    area: int
    depth: float
    position: tuple[float, float, float]
    cut: bool = False

    @property
    def phrase(self) -> str:
        """Such as "the purple mug"."""
        return f"the {self.colour} {self.noun}" if self.colour else f"the {self.noun}"

    @property
    def centre(self) -> tuple[float, float]:
        """Of the box, pixels."""
        return (self.box[0] + self.box[2]) / 2, (self.box[1] + self.box[3]) / 2


@dataclass(frozen=True)
class Annotation:
    """One picture's truth.

    Attributes:
        width, height: of the picture, pixels.
        seen: what is clearly visible.
        faint: names and nouns of what is visible, but so little that nobody should be asked about it; (name, noun, colour).
        openings: name of what opens -> how far it is open, 0 shut to 1 wide.
        held: name of what a gripper holds, or None.
        gripper: whether a gripper is visible.
        supports: (thing, "on" or "in", thing), names.
        gaze: name of the thing in the middle of the picture, for a camera that is an eye; None where there is none.
        is_eye: the camera is an eye's.
    """

    width: int
    height: int
    seen: tuple[Seen, ...] = ()
    faint: tuple[tuple[str, str, str | None], ...] = ()
    openings: Mapping[str, float] = field(default_factory=dict)
    held: str | None = None
    gripper: bool = False
    supports: tuple[tuple[str, str, str], ...] = ()
    gaze: str | None = None
    is_eye: bool = False

    def __post_init__(self) -> None:
        names = [s.name for s in self.seen] + [name for name, _, _ in self.faint]
        if len(set(names)) != len(names):
            raise InvalidValueError(f"names in an annotation are unique, got {names}")
        for _, how, _ in self.supports:
            if how not in HOLDING:
                raise UnknownNameError("way of holding", how, HOLDING)

    def named(self, name: str) -> Seen:
        """What is clearly visible under a name.

        Raises:
            UnknownNameError: nothing is.
        """
        for thing in self.seen:
            if thing.name == name:
                return thing
        raise UnknownNameError("visible thing", name, [s.name for s in self.seen])

    @property
    def nouns(self) -> list[str]:
        """Of everything visible, the faint as well."""
        return [s.noun for s in self.seen] + [noun for _, noun, _ in self.faint]

    def unique(self, noun: str, colour: str | None = None) -> bool:
        """Whether exactly one visible thing, the faint counted as well, is called so."""
        everything = [(s.noun, s.colour) for s in self.seen] + [(n, c) for _, n, c in self.faint]
        return sum(n == noun and (colour is None or c == colour) for n, c in everything) == 1

    def to_json(self) -> dict[str, Any]:
        """Plain values; `from_json` brings it back."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Annotation:
        """What `to_json` returned."""
        rows: list[dict[str, Any]] = [{k: _tuple(v) for k, v in one.items()} for one in values["seen"]]
        seen = tuple(Seen(**row) for row in rows)
        rest = {k: v for k, v in values.items() if k not in ("seen", "faint", "supports")}
        pairs = {k: tuple(tuple(one) for one in values[k]) for k in ("faint", "supports")}
        return cls(seen=seen, **pairs, **rest)


def _tuple(value: Any) -> Any:
    """JSON has no tuples."""
    return tuple(value) if isinstance(value, list) else value


def box_iou(a: NDArray[np.floating[Any]], b: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Intersection over union of boxes x1, y1, x2, y2; 0 where a box is empty. Shapes (N, 4), (M, 4) -> (N, M)."""
    a, b = np.asarray(a, np.float64).reshape(-1, 4), np.asarray(b, np.float64).reshape(-1, 4)
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), axis=-1)
    area_a, area_b = (np.prod(np.clip(x[:, 2:] - x[:, :2], 0, None), axis=-1) for x in (a, b))
    either = area_a[:, None] + area_b[None] - both
    return np.where(either > 0, both / np.where(either > 0, either, 1), 0.0)


def phrases(things: Sequence[Seen]) -> str:
    """An enumeration: "the red cube, the green apple and the mug"."""
    told = [t.phrase for t in things]
    return told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}" if told else "nothing"
