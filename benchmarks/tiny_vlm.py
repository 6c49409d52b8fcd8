"""How well the tiny models see: every figure with the picture, and with a black one in its place.

    python -m benchmarks.tiny_vlm --corpus outputs/corpus/test             prints
    python -m benchmarks.tiny_vlm --corpus outputs/corpus/test --publish   also writes docs/results/tiny_vlm.json

The corpus is held out: `python -m envs.corpus --n 3000 --seed 1 --held-out --out outputs/corpus/test`. Intervals are bootstraps
over pictures.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from perception.annotation import box_iou
from perception.corpus import Corpus
from perception.questions import KINDS, Question, ask

GROUNDING = ("box", "point")
UNSCORED = (*GROUNDING, "describe")
_ROUNDS = 1000


@dataclass(frozen=True)
class Asked:
    """A question about picture `index` of a corpus."""

    index: int
    question: Question


def questions(corpus: Corpus, seed: int = 0) -> list[Asked]:
    """One question of each kind about each picture."""
    rng = np.random.default_rng(seed)
    return [Asked(k, q) for k in range(len(corpus)) for q in ask(corpus.annotation(k), rng)]


def auroc(scores: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Probability that a true example scores higher than a false one, ties by half (Mann and Whitney 1947)."""
    ranks = rankdata(scores)
    positive, negative = int(truth.sum()), int((~truth).sum())
    return float((ranks[truth].sum() - positive * (positive + 1) / 2) / (positive * negative))


def interval(
    groups: NDArray[np.int64], figure: Callable[[NDArray[np.int64]], float], seed: int = 0, rounds: int = _ROUNDS
) -> tuple[float, float, float]:
    """A figure of all rows with its 95 % bootstrap interval over groups of rows (pictures).

    Args:
        groups: which picture each row is about.
        figure: of row numbers.
        seed: of the resampling.
        rounds: resamplings.
    """
    rng = np.random.default_rng(seed)
    rows = [np.flatnonzero(groups == g) for g in np.unique(groups)]
    drawn = [figure(np.concatenate([rows[k] for k in rng.integers(len(rows), size=len(rows))])) for _ in range(rounds)]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return figure(np.arange(len(groups))), float(low), float(high)


def majority(asked: Sequence[Asked]) -> float:
    """Share of right answers of who always gives its kind's commonest one."""
    answers: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in asked:
        answers[one.question.kind][one.question.answer] += 1
    return sum(c.most_common(1)[0][1] for c in answers.values()) / len(asked)


def right_boxes(model: Any, corpus: Corpus, asked: Sequence[Asked], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Intersection over union of each answered box with the true one; 0 where none was given."""
    found = model.parse(model.answer(images, [a.question.prompt for a in asked]), images)
    out = np.zeros(len(asked))
    for k, (one, detections) in enumerate(zip(asked, found, strict=True)):
        if len(detections):
            truth = corpus.annotation(one.index).named(one.question.name or "")
            out[k] = box_iou(detections.boxes[:1], np.array([truth.box]))[0, 0]
    return np.nan_to_num(out)


def right_points(model: Any, corpus: Corpus, asked: Sequence[Asked], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """1 where the answered point lies on the thing's mask."""
    assert corpus.masks is not None
    found = model.parse(model.answer(images, [a.question.prompt for a in asked]), images)
    out = np.zeros(len(asked))
    for k, (one, detections) in enumerate(zip(asked, found, strict=True)):
        if len(detections):
            names = [s.name for s in corpus.annotation(one.index).seen]
            u, v = np.clip(np.round(detections.points[0]), 0, np.array(corpus.images.shape[2:0:-1]) - 1).astype(int)
            out[k] = corpus.masks[one.index, v, u] == names.index(one.question.name or "") + 1
    return out


def right_answers(model: Any, asked: Sequence[Asked], images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """1 where the answer is the right one, letter by letter."""
    said = model.answer(images, [a.question.prompt for a in asked])
    return np.array([float(s.strip() == a.question.answer) for s, a in zip(said, asked, strict=True)])


def by_kind(asked: Sequence[Asked], right: NDArray[np.float64]) -> dict[str, float]:
    """Share of right answers of each kind of question."""
    kinds = np.array([a.question.kind for a in asked])
    return {kind: float(right[kinds == kind].mean()) for kind in KINDS if (kinds == kind).any()}
