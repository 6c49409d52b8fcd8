"""One tolerant parser for every way in which models write boxes and points.

It takes the dialect from its caller, who knows the model, and never guesses it; it never raises on a text, whatever is in it,
and it executes nothing. What cannot be read is left out. All results are pixels of the original image.

| dialect | box | point | coordinates |
|---|---|---|---|
| `qwen_absolute` | `{"bbox_2d": [x1, y1, x2, y2], "label": ..}` | `{"point_2d": [x, y]}` | pixels of the resized image |
| `qwen_relative` | the same | the same | 0 to 1000 |
| `internvl` | `<box>[[x1, y1, x2, y2]]</box>` | - | 0 to 1000 |
| `paligemma` | `<loc y1><loc x1><loc y2><loc x2> label` | - | 0 to 1023 |
| `florence` | `label<loc_x1><loc_y1><loc_x2><loc_y2>` | - | 0 to 999 |
| `molmo` | - | `<point x="12.3" y="45.6" alt="..">` | per cent |
| `moondream` | `{"x_min": .., "y_min": .., "x_max": .., "y_max": ..}` | `{"x": .., "y": ..}` | 0 to 1 |
| `tuples` | `(x1, y1, x2, y2)` | `(x, y)` | pixels of the original image |
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import Detections

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_SEP = r"[\s,;]+"
# More than this is no answer but a loop.
_MOST = 256
_LONGEST = 100_000


@dataclass(frozen=True)
class _Raw:
    """Numbers as they were written: 2 of a point or 4 of a box, and a label."""

    numbers: tuple[float, ...]
    label: str = ""
    score: float = 1.0


def final_answer(text: str) -> str:
    """What stands in the last <answer> tag; else the text without its <think> parts."""
    answers = re.findall(r"<answer>(.*?)(?:</answer>|\Z)", text, re.DOTALL | re.IGNORECASE)
    if answers:
        return answers[-1].strip()
    return re.sub(r"<think>.*?(?:</think>|\Z)", "", text, flags=re.DOTALL | re.IGNORECASE).strip()


def parse(text: str, dialect: str, width: int, height: int, resized: tuple[int, int] | None = None) -> Detections:
    """Read boxes and points.

    Args:
        text: the model's answer.
        dialect: of `DIALECTS`.
        width: of the original image, pixels.
        height: of the original image, pixels.
        resized: width and height of the image as the model saw it; for `qwen_absolute`, and None where they are the original's.

    Returns:
        In the order of the text, boxes with their corners in order and cut to the image; empty if there is nothing readable.

    Raises:
        UnknownNameError: no such dialect.
        InvalidValueError: a size below 1.
    """
    if dialect not in DIALECTS:
        raise UnknownNameError("dialect", dialect, DIALECTS)
    if min(width, height, *(resized or (1, 1))) < 1:
        raise InvalidValueError(f"an image is at least 1 pixel a side, got {width} x {height}, resized {resized}")
    read, span = DIALECTS[dialect]
    over = (resized or (width, height)) if span is None else (span, span)
    if dialect == "tuples":
        over = (width, height)
    scale = np.array([width / over[0], height / over[1]])
    return _collect(read(final_answer(str(text)[:_LONGEST])), scale, np.array([width, height], np.float64))


def _collect(found: Iterable[_Raw], scale: np.ndarray, size: np.ndarray) -> Detections:
    boxes, points, labels, scores = [], [], [], []
    for raw in found:
        if len(labels) == _MOST:
            break
        if not all(math.isfinite(x) and abs(x) < 1e7 for x in raw.numbers):
            continue
        xy = np.array(raw.numbers).reshape(-1, 2) * scale
        if len(xy) == 2:
            low, high = np.clip(xy.min(axis=0), 0, size), np.clip(xy.max(axis=0), 0, size)
            boxes.append([*low, *high])
            points.append((low + high) / 2)
        else:
            boxes.append([np.nan] * 4)
            points.append(np.clip(xy[0], 0, size - 1))
        labels.append(raw.label.strip())
        scores.append(min(max(raw.score, 0.0), 1.0))
    if not labels:
        return Detections()
    return Detections(np.array(boxes, np.float32), np.array(points, np.float32), tuple(labels), np.array(scores, np.float32))


def _floats(texts: Iterable[str]) -> tuple[float, ...]:
    return tuple(float(t) for t in texts)


_LABEL = re.compile(r"""["']label["']\s*:\s*(?:"([^"]*)"|'([^']*)')""")
_KEYED = re.compile(
    rf"""["'](bbox_2d|bbox|box_2d|point_2d|point)["']\s*:\s*[\[(]+\s*((?:["']?{_NUMBER}["']?[\s,;]*){{2,4}})""", re.IGNORECASE
)
_BARE = re.compile(rf"[\[(]\s*((?:{_NUMBER}{_SEP}){{1,3}}{_NUMBER})\s*[,;]?\s*[\])]")


def _qwen(text: str) -> list[_Raw]:
    """Keyed lists, whatever the brackets around them; bare lists of 2 or 4 where there is no key."""
    found = []
    keyed = list(_KEYED.finditer(text))
    for k, match in enumerate(keyed):
        wanted = 2 if match.group(1).lower().startswith("point") else 4
        numbers = _floats(re.findall(_NUMBER, match.group(2)))
        if len(numbers) != wanted:
            continue
        end = keyed[k + 1].start() if k + 1 < len(keyed) else len(text)
        label = _LABEL.search(text, match.end(), end) or _label_before(text, keyed[k - 1].end() if k else 0, match.start())
        found.append(_Raw(numbers, next((g for g in label.groups() if g), "") if label else ""))
    return found if keyed else _tuples(text)


def _label_before(text: str, start: int, end: int) -> re.Match[str] | None:
    """A label in the same object, before its box."""
    start = max(start, text.rfind("{", start, end))
    return _LABEL.search(text, start, end)


def _tuples(text: str) -> list[_Raw]:
    numbers = [_floats(re.findall(_NUMBER, m.group(1))) for m in _BARE.finditer(text)]
    return [_Raw(n) for n in numbers if len(n) in (2, 4)]


def _internvl(text: str) -> list[_Raw]:
    found = []
    tag = re.compile(r"(?:<ref>(.*?)</ref>)?\s*<box>(.*?)(?:</box>|\Z)", re.DOTALL)
    for label, inside in tag.findall(text):
        found += [_Raw(raw.numbers, label) for raw in _tuples(re.sub(r"\[\s*\[", "[", inside).replace("]]", "]"))]
    return [raw for raw in found if len(raw.numbers) == 4]


def _paligemma(text: str) -> list[_Raw]:
    found = []
    for y1, x1, y2, x2, label in re.findall(r"<loc(\d{4})><loc(\d{4})><loc(\d{4})><loc(\d{4})>([^<;]*)", text):
        found.append(_Raw(_floats((x1, y1, x2, y2)), label))
    return found


def _florence(text: str) -> list[_Raw]:
    found = []
    for label, places in re.findall(r"([^<>]*)((?:<loc_\d{1,4}>)+)", text):
        numbers = _floats(re.findall(r"<loc_(\d{1,4})>", places))
        found += [_Raw(numbers[k : k + 4], label) for k in range(0, len(numbers) - 3, 4)]
    return found


def _molmo(text: str) -> list[_Raw]:
    found = []
    for tag, inside in re.findall(r"<(points?\b[^<>]*)>([^<]*)", text, re.IGNORECASE):
        alt = re.search(r"""alt\s*=\s*["']([^"']*)""", tag)
        label = alt.group(1) if alt else inside
        xs = dict(re.findall(rf"""\bx(\d*)\s*=\s*["']?({_NUMBER})""", tag))
        ys = dict(re.findall(rf"""\by(\d*)\s*=\s*["']?({_NUMBER})""", tag))
        found += [_Raw(_floats((xs[k], ys[k])), label) for k in xs if k in ys]
    return found


def _moondream(text: str) -> list[_Raw]:
    found = []
    for inside in re.findall(r"\{([^{}]*)\}", text):
        values = dict(re.findall(rf"""["'](x_min|y_min|x_max|y_max|x|y)["']\s*:\s*["']?({_NUMBER})""", inside))
        keys = ("x_min", "y_min", "x_max", "y_max") if "x_min" in values else ("x", "y")
        if all(k in values for k in keys):
            label = _LABEL.search(inside)
            found.append(_Raw(_floats(values[k] for k in keys), next((g for g in label.groups() if g), "") if label else ""))
    return found


# Reader, and what the coordinates run to; None is pixels.
DIALECTS: dict[str, tuple[Callable[[str], list[_Raw]], float | None]] = {
    "qwen_absolute": (_qwen, None),
    "qwen_relative": (_qwen, 1000),
    "internvl": (_internvl, 1000),
    "paligemma": (_paligemma, 1023),
    "florence": (_florence, 999),
    "molmo": (_molmo, 100),
    "moondream": (_moondream, 1),
    "tuples": (_tuples, None),
}
