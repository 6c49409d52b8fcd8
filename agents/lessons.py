"""What an update of the tiny chat model learns from: pictures, questions about them, and what their patches show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from perception.corpus import Corpus
from perception.questions import Question, ask
from perception.tiny import chat

_GRID = chat.SIDE // chat.PATCH // chat.SHUFFLE
_SCANNED = 10_000  # pictures, among which every combination that a corpus has is met many times
IGNORED = -100  # as torch's cross entropy has it
FEWEST = 4  # pictures of which one is recoloured
_NOTHING = 0.2
# Share of recoloured pictures: where something is asked, and in a silent lesson.
_RECOLOURED = (0.25, 0.75)
_ORDERS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))
_PLACE = re.compile(r'\[\{"(?:bbox_2d|point_2d)": \[([\d, ]+)\]')


@dataclass
class Lesson:
    """One update's truth.

    Attributes:
        pixels: (B, 3, H, W) in [-1, 1]; those that are asked about first, recoloured ones last.
        nouns, colours: (B, h, w) what each patch shows, 0 is nothing, -100 is not learned: what things are is learned from
            recoloured pictures alone.
        boxes: (B, h, w, 4) the box of what each patch shows, as shares of the picture; NaN where it shows nothing.
        packed: questions about the first pictures, or None in a lesson without any.
        where: (questions, IMAGE_TOKENS) the share of an asked place that lies in each of the picture's cells, row by row; zeros
            where the answer is no place.
    """

    pixels: torch.Tensor
    nouns: torch.Tensor
    colours: torch.Tensor
    boxes: torch.Tensor
    packed: chat.Packed | None
    where: torch.Tensor


class Lessons:
    """Makes lessons, each a function of (corpus, seed, number).

    Args:
        corpus: pictures with their truth.
        tokenizer: of the model.
        seed: of everything drawn.
        batch_size: pictures a lesson.
        questions: questions a picture, at most.
        weights: kind of question -> how many times as often as others it is asked.
        silent: lessons from the beginning that ask nothing.
    """

    def __init__(
        self,
        corpus: Corpus,
        tokenizer: Any,
        seed: int,
        batch_size: int,
        questions: int,
        weights: Mapping[str, float],
        silent: int,
    ) -> None:
        self._corpus, self._tokenizer, self._seed = corpus, tokenizer, seed
        self._batch_size, self._questions, self._weights, self._silent = batch_size, questions, weights, silent
        self._strange = strange(corpus)

    def make(self, number: int) -> Lesson:
        """One update's lesson."""
        rng = np.random.default_rng((self._seed, 1, number))
        chosen, silent = rng.integers(len(self._corpus), size=self._batch_size), number < self._silent
        own = self._batch_size - int(self._batch_size * _RECOLOURED[silent])
        pixels, nouns, colours = shown(self._corpus, chosen, own, rng)
        talks = [] if silent else [self._talk(int(k), rng) for k in chosen[:own]]
        where = [spread(q.answer) for talk in talks for q in talk]
        return Lesson(
            pixels,
            nouns,
            colours,
            torch.from_numpy(np.stack([self._boxes(int(k)) for k in chosen])),
            chat.Packed(self._tokenizer, [[(q.prompt, q.answer) for q in talk] for talk in talks]) if talks else None,
            torch.from_numpy(np.array(where, np.float32).reshape(len(where), _GRID**2)),
        )

    def _boxes(self, index: int) -> NDArray[np.float32]:
        nouns, colours = self._corpus.nouns[index], self._corpus.colours[index]
        names, palette = self._corpus.names
        scene, (height, width) = self._corpus.annotation(index), nouns.shape
        out = np.full((height, width, 4), np.nan, np.float32)
        v, u = np.mgrid[:height, :width] + 0.5
        for thing in scene.seen:
            x1, y1, x2, y2 = box = np.array(thing.box) / scene.width
            number = palette.index(thing.colour) + 1 if thing.colour else 0
            mine = (nouns == names.index(thing.noun) + 1) & ((colours == number) | (colours == 0))
            mine &= (u > x1 * width) & (u < x2 * width) & (v > y1 * height) & (v < y2 * height)
            out[mine] = box
        return out

    def _talk(self, index: int, rng: np.random.Generator) -> list[Question]:
        """Questions about one picture, drawn by the weights of their kinds; a kind may come again, about something else."""
        scene = self._corpus.annotation(index)
        asked = [q for _ in range(2) for q in ask(scene, rng) if not self._strange.search(q.prompt)]
        weight = np.array([self._weights[q.kind] for q in asked])
        count = min(self._questions, int((weight > 0).sum()))
        if not count:
            return []
        return [asked[k] for k in rng.choice(len(asked), count, replace=False, p=weight / weight.sum())]


def shown(corpus: Corpus, chosen: NDArray[np.int64], own: int, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """Pixels, nouns and colours of chosen pictures; all but the first `own` get their channels in another order.

    A corpus never shows some things in some colours. Who learns what things are in their own colours learns that as well: that
    what is cyan is no kettle.

    Returns:
        (B, 3, H, W) in [-1, 1]; (B, h, w) twice, `IGNORED` where it is not learned.
    """
    pixels = chat.to_pixels(corpus.images[chosen])
    nouns, colours = (torch.from_numpy(x[chosen].astype(np.int64)) for x in (corpus.nouns, corpus.colours))
    for k in range(own, len(chosen)):
        pixels[k] = pixels[k][list(_ORDERS[int(rng.integers(len(_ORDERS)))])]
    nouns[:own], colours[own:] = IGNORED, IGNORED
    return pixels, nouns, colours


def rarity(corpus: Corpus) -> torch.Tensor:
    """Weight of each noun's patches, (1 + nouns,): the rarer, the heavier, by the root; a fifth where nothing is to be seen."""
    counts = np.bincount(corpus.nouns[:_SCANNED].ravel(), minlength=len(corpus.names[0]) + 1).astype(np.float32)
    weights = np.sqrt(np.median(counts[1:]) / np.maximum(counts, 1))
    weights[0] = _NOTHING
    return torch.from_numpy(weights)


def strange(corpus: Corpus) -> re.Pattern[str]:
    """What matches the combinations of colour and noun that a corpus shows nowhere.

    To ask for them in vain would teach that they do not exist, which is false of the held-out pictures that show them.
    """
    shown = {(s.colour, s.noun) for k in range(min(_SCANNED, len(corpus))) for s in corpus.annotation(k).seen}
    nouns, colours = corpus.names
    never = [f"{c} {n}" for c in colours for n in nouns if (c, n) not in shown]
    return re.compile(r"\b(?:" + "|".join(map(re.escape, never)) + r")\b" if never else r"(?!)")


def spread(answer: str) -> NDArray[np.float32]:
    """The share of a box or of the neighbourhood of a point that lies in each cell of the picture; zeros for any other answer.

    Returns:
        (IMAGE_TOKENS,), row by row, with sum 1 or 0.
    """
    found = _PLACE.match(answer)
    if not found:
        return np.zeros(_GRID**2, np.float32)
    numbers = np.array([int(n) for n in found[1].split(",")], float)
    low, high = (numbers - 2, numbers + 2) if len(numbers) == 2 else (numbers[:2], numbers[2:])
    edges = np.arange(_GRID + 1) * (chat.SIDE / _GRID)
    over = np.clip(np.minimum(edges[1:], high[:, None]) - np.maximum(edges[:-1], low[:, None]), 0, None)
    cells = np.outer(over[1], over[0]).ravel()
    return (cells / max(cells.sum(), 1e-9)).astype(np.float32)
