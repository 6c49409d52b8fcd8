"""One tolerant parser for every way in which models write boxes and points.

It takes the dialect from its caller, who knows the model, and never guesses it; it never raises on a text, whatever is in it,
and it executes nothing. What cannot be read is left out. All results are pixels of the original image.

| dialect | box | point | coordinates |
|---|---|---|---|
| `qwen_absolute` | `{"bbox_2d": [x1, y1, x2, y2], "label": ..}` | `{"point_2d": [x, y]}` | pixels of the resized image |
| `qwen_relative` | the same | the same | 0 to 1000 |
| `internvl` | `<ref>label</ref><box>[[x1, y1, x2, y2]]</box>` | - | 0 to 1000 |
| `paligemma` | `<loc y1><loc x1><loc y2><loc x2> label` | - | 0 to 1023 |
| `florence` | `label<loc_x1><loc_y1><loc_x2><loc_y2>` | - | 0 to 999 |
| `molmo` | - | `<point x="12.3" y="45.6" alt="..">` | per cent |
| `moondream` | `{"x_min": .., "y_min": .., "x_max": .., "y_max": ..}` | `{"x": .., "y": ..}` | 0 to 1 |
| `tuples` | `(x1, y1, x2, y2)` | `(x, y)` | pixels of the original image |

Brackets and braces may be missing, quotes single or double or inside a label, numbers texts, labels before or after. JSON
without a key for its places, and InternVL's lists without a `<box>`, are read as `tuples` are, in the dialect's coordinates.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, zip_longest
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import Detections

Numbers = tuple[float, ...]

# More than this is no answer but a loop.
_MOST = 256
_LONGEST = 100_000
_FARTHEST = 1e7

# Repetitions below are possessive or bounded: no text makes a pattern try the same characters over and over.
_NUMBER = r"[-+]?(?>[0-9]++(?:\.[0-9]*+)?|\.[0-9]++)(?:[eE][-+]?[0-9]{1,3}+)?"
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL | re.IGNORECASE)
_TOKEN = re.compile(rf"""({_NUMBER})|([\[\]()])|[\s,;"'\\]++""")
_RUN = re.compile(rf"""(?:([\[(])["'\s]*+)?(?<![\w.])(?>({_NUMBER}(?:[\s,;"']++{_NUMBER})*+))[\s,;"']*+([\])])?""")


@dataclass(frozen=True)
class _Raw:
    """One place as it was written: a box, a point, or both."""

    box: Numbers | None = None
    point: Numbers | None = None
    label: str = ""
    score: float = 1.0

    @property
    def sane(self) -> bool:
        """Nothing is infinite or absurdly far."""
        return all(abs(x) < _FARTHEST for x in (*(self.box or ()), *(self.point or ())))


def final_answer(text: str) -> str:
    """What stands in the last <answer> tag; else the text without its <think> parts. Tags may be left open, or never opened."""
    end = max((tag.end() for tag in re.finditer("</think>", text, re.IGNORECASE)), default=0)
    said = re.split("</think>", _THOUGHT.sub("", text[:end]) + text[end:], flags=re.IGNORECASE)[-1]
    answers = re.split("<answer>", said, flags=re.IGNORECASE)
    closing = "</answer>" if len(answers) > 1 else "<think>"
    return re.split(closing, answers[-1], flags=re.IGNORECASE)[0].strip()


def parse(text: str, dialect: str, width: int, height: int, resized: tuple[int, int] | None = None) -> Detections:
    """Read boxes and points.

    Args:
        text: the model's answer.
        dialect: of `DIALECTS`.
        width: of the original image, pixels.
        height: of the original image, pixels.
        resized: width and height of the image as the model saw it; for `qwen_absolute`, and None where they are the original's.

    Returns:
        In the order of the text, at most 256: boxes with their corners in order and cut to the image, points within the
        first and last pixel; empty if there is nothing readable.

    Raises:
        UnknownNameError: no such dialect.
        InvalidValueError: a size that is not a whole number of at least 1.
    """
    if dialect not in DIALECTS:
        raise UnknownNameError("dialect", dialect, DIALECTS)
    seen = (width, height) if resized is None else tuple(resized)
    if len(seen) != 2 or not all(isinstance(s, int | np.integer) and s >= 1 for s in (width, height, *seen)):
        raise InvalidValueError(f"an image is whole pixels, at least 1 a side, got {width} x {height}, resized {resized}")
    read, span = DIALECTS[dialect]
    over = np.array(span or (seen if dialect == "qwen_absolute" else (width, height)), np.float64)
    size = np.array([width, height], np.float64)
    return _collect(read(final_answer(str(text))[:_LONGEST]), size / over, size)


def _collect(found: Iterable[_Raw], scale: NDArray[np.float64], size: NDArray[np.float64]) -> Detections:
    kept = list(islice((raw for raw in found if raw.sane), _MOST))
    if not kept:
        return Detections()
    nan = float("nan")
    corners = np.array([raw.box or (nan,) * 4 for raw in kept]).reshape(-1, 2, 2) * scale
    corners = np.clip(np.sort(corners, axis=1), 0, size)
    points = np.array([raw.point or (nan,) * 2 for raw in kept]) * scale
    points = np.clip(np.where(np.isnan(points), corners.mean(axis=1), points), 0, size - 1)
    # Half a surrogate pair cannot be printed or written to a file.
    labels = tuple(raw.label.strip().encode("utf-8", "replace").decode() for raw in kept)
    scores = np.clip([raw.score for raw in kept], 0, 1)
    return Detections(corners.reshape(-1, 4).astype(np.float32), points.astype(np.float32), labels, scores.astype(np.float32))


def _rows(text: str, at: int = 0) -> tuple[list[Numbers], int]:
    """Numbers from here on, parted by brackets, and where they end: at the first thing that belongs in no list."""
    rows: list[list[float]] = [[]]
    while token := _TOKEN.match(text, at):
        at = token.end()
        if token[1]:
            rows[-1].append(float(token[1]))
        elif token[2]:
            rows.append([])
    return [tuple(row) for row in rows if row], at


def _of_length(rows: list[Numbers], wanted: int) -> list[Numbers]:
    """The rows that are whole; else all as one, as for a box of two corners."""
    flat = tuple(x for row in rows for x in row)
    return [row for row in rows if len(row) == wanted] or ([flat] if len(flat) == wanted else [])


def _tuples(text: str) -> Iterator[_Raw]:
    """Four numbers with a bracket at either end, two with both (else it may be half a box); or nothing but numbers."""
    for run in _RUN.finditer(text):
        numbers = tuple(float(x) for x in re.findall(_NUMBER, run[2]))
        brackets = bool(run[1]) + bool(run[3])
        alone = not brackets and run.span() == (0, len(text))
        if len(numbers) == 4 and (brackets or alone):
            yield _Raw(box=numbers)
        elif len(numbers) == 2 and (brackets == 2 or alone):
            yield _Raw(point=numbers)


_CORNERS = ("x_min", "y_min", "x_max", "y_max")
_KEYS = {"bbox_2d": "box", "bbox": "box", "box_2d": "box", "box": "box", "point_2d": "point", "point": "point"}
_KEYS |= {key: key for key in (*_CORNERS, "x", "y", "label", "score")} | {"confidence": "score"}
_EVENT = re.compile(rf"""[{{}}]|(?<!\w)({"|".join(_KEYS)})(?!\w)["'\\]*+\s*+[:=]\s*+""", re.IGNORECASE)
# A quote ends a text only where something of the syntax follows: else it stands inside a label.
_END = r"""(?=\s{0,20}+,?\s{0,20}+(?:["'{}\[\]\\]|/?>|\Z|\w{1,20}+["']?\s{0,9}+[:=]))"""
_STRING = re.compile(rf"""(\\?["'])((?:\\.|[^\\]){{0,300}}?)\1{_END}|["']?([^"',{{}}\[\]\n]{{0,300}})""", re.DOTALL)


def _label(text: str, at: int) -> tuple[str, int]:
    """The text that begins here, and where it ends; to the next separator where its closing quote is missing."""
    match = _STRING.match(text, at)
    assert match is not None  # its second branch fits everything
    if match[1] is None:
        return ("" if match[3].strip() in ("null", "None") else match[3]), match.end()
    try:
        return str(json.loads(f'"{match[2]}"', strict=False)), match.end()
    except ValueError:
        return re.sub(r"""\\(["'\\])""", r"\1", match[2]), match.end()


def _objects(text: str) -> Iterator[dict[str, Any]]:
    """The known fields of each object. It ends at a brace, or where a key comes again: braces may be missing."""
    held: dict[str, Any] = {}
    at = 0
    while event := _EVENT.search(text, at):
        at, key = event.end(), _KEYS.get((event[1] or "").lower())
        if held and (key is None or key in held):
            yield held
            held = {}
        if key is not None:
            held[key], at = _label(text, at) if key == "label" else _rows(text, at)
    yield held


def _json(text: str) -> list[_Raw]:
    """Keyed places, whatever the braces around them; bare lists where no place has a key."""
    found: list[_Raw] = []
    keyed = False
    for held in _objects(text):
        label, score = held.pop("label", ""), held.pop("score", [])
        keyed |= any(held.values())
        one = {key: rows[0][:1] for key, rows in held.items() if rows}
        boxes = _of_length(held.get("box", []) or [one.get(key, ()) for key in _CORNERS], 4)
        points = _of_length(held.get("point", []) or [one.get("x", ()), one.get("y", ())], 2)
        found += [_Raw(*place, label, score[0][0] if score else 1.0) for place in zip_longest(boxes, points)]
    return found if keyed else list(_tuples(text))


_TAG = re.compile(r"<[^<>]*+(?:>|\Z)")
_REF = re.compile(r"<ref>([^<]*+)", re.IGNORECASE)
_BOX = re.compile(r"<box>([^<]*+)", re.IGNORECASE)
_LOCS = re.compile(r"((?:<loc_?[0-9]{1,4}(?:>|(?=<))\s*+)++)")


def _fours(places: str) -> list[Numbers]:
    numbers = [float(x) for x in re.findall("[0-9]+", places)]
    return [tuple(numbers[k : k + 4]) for k in range(0, len(numbers) - 3, 4)]


def _internvl(text: str) -> Iterator[_Raw]:
    parts = _BOX.split(text)
    if len(parts) == 1:
        yield from (raw for raw in _tuples(text) if raw.box)
    refs = [_REF.findall(part) for part in parts[::2]]
    before, after = [(r or [""])[-1] for r in refs[:-1]], [(r or [""])[0] for r in refs[1:]]
    for inside, label in zip(parts[1::2], before if refs[0] else after, strict=True):
        for box in _of_length(_rows(inside)[0], 4):
            yield _Raw(box, label=label)


def _paligemma(text: str) -> Iterator[_Raw]:
    parts = _LOCS.split(text)
    before = [_TAG.sub("", part.rpartition(";")[2]).strip() for part in parts[:-1:2]]
    after = [_TAG.sub("", part.partition(";")[0]).strip() for part in parts[2::2]]
    for places, label in zip(parts[1::2], after if any(after) else before, strict=True):
        for y1, x1, y2, x2 in _fours(places):
            yield _Raw((x1, y1, x2, y2), label=label)


def _florence(text: str) -> Iterator[_Raw]:
    parts = _LOCS.split(text)
    labels = [_TAG.sub("", part).strip() for part in parts[::2]]
    for places, label in zip(parts[1::2], labels[:-1] if labels[0] else labels[1:], strict=True):
        for box in _fours(places):
            yield _Raw(box, label=label)


_POINT = re.compile(r"<(points?\b[^<]*+)", re.IGNORECASE)
_AXIS = re.compile(rf"""(?<!\w)([xy])([0-9]{{0,4}}+)\s*+=\s*+["']?\s*+({_NUMBER})""", re.IGNORECASE)
_ALT = re.compile(r"(?<!\w)alt\s*+=\s*+", re.IGNORECASE)


def _molmo(text: str) -> Iterator[_Raw]:
    for tag in _POINT.findall(text):
        alt = _ALT.search(tag)
        label = _label(tag, alt.end())[0] if alt else tag.partition(">")[2]
        axes: dict[str, dict[str, float]] = {"x": {}, "y": {}}
        for axis, number, value in _AXIS.findall(tag):
            axes[axis.lower()].setdefault(number, float(value))
        yield from (_Raw(point=(x, axes["y"][n]), label=label) for n, x in axes["x"].items() if n in axes["y"])


# Reader, and what the coordinates run to; None is pixels.
DIALECTS: dict[str, tuple[Callable[[str], Iterable[_Raw]], float | None]] = {
    "qwen_absolute": (_json, None),
    "qwen_relative": (_json, 1000),
    "internvl": (_internvl, 1000),
    "paligemma": (_paligemma, 1023),
    "florence": (_florence, 999),
    "molmo": (_molmo, 100),
    "moondream": (_json, 1),
    "tuples": (_tuples, None),
}


def qwen_size(width: int, height: int) -> tuple[int, int]:
    """Width and height at which Qwen2-VL and Qwen2.5-VL see an image (Wang et al. 2024, arXiv:2409.12191)."""
    unit, fewest, most = 28, 3136, 12_845_056
    sides = [round(side / unit) * unit for side in (width, height)]
    if sides[0] * sides[1] > most:
        sides = [max(unit, math.floor(side / math.sqrt(width * height / most) / unit) * unit) for side in (width, height)]
    elif sides[0] * sides[1] < fewest:
        sides = [math.ceil(side * math.sqrt(fewest / (width * height)) / unit) * unit for side in (width, height)]
    return sides[0], sides[1]
