"""How well the tiny models see: every figure with the picture, and answers with a black one in its place too.

    python -m benchmarks.tiny_vlm --corpus outputs/corpus/test             prints
    python -m benchmarks.tiny_vlm --corpus outputs/corpus/test --publish   also writes docs/results

The corpus is held out: `python -m envs.corpus --n 3000 --seed 1 --held-out --out outputs/corpus/test`. Intervals are bootstraps
over pictures; of the dual encoder over groups of captions and over things.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open
from scipy.stats import rankdata

from agents.cli import guarded
from agents.show import table
from agents.tiny_dual import truth
from assets.errors import InvalidValueError
from benchmarks import results
from benchmarks.results import Row
from perception.annotation import box_iou
from perception.corpus import Corpus
from perception.questions import KINDS, Question, ask, describe
from perception.text import article
from perception.vlm.tiny import FOLDER, TinyChat, TinyDual

GROUNDING = ("box", "point")
UNSCORED = (*GROUNDING, "describe")
_ROUNDS = 1000
CAPTIONS = 100
_GROUPS = 50  # of captions
_FEWEST = 5  # pictures that must show a thing for it to be counted


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


def measure(model: TinyChat, corpus: Corpus, seed: int = 0) -> tuple[list[Row], dict[str, float]]:
    """Every figure of a chat model as rows, and the share of right answers by kind of question."""
    asked = questions(corpus, seed)

    def of(*kinds: str) -> tuple[list[Asked], NDArray[np.uint8], NDArray[np.int64]]:
        chosen = [a for a in asked if a.question.kind in kinds]
        index = np.array([a.index for a in chosen])
        return chosen, corpus.images[index], index

    rows = []

    def add(metric: str, groups: NDArray[np.int64], figure: Callable[[NDArray[np.int64]], float]) -> None:
        rows.append(Row("tiny", metric, *interval(groups, figure, seed), len(groups), (seed,)))

    boxes, images, where = of("box")
    overlap = right_boxes(model, corpus, boxes, images)
    add("grounding_acc50", where, lambda k: float((overlap[k] >= 0.5).mean()))
    points, images, where = of("point")
    hit = right_points(model, corpus, points, images)
    add("point_in_mask", where, lambda k: float(hit[k].mean()))
    answers, images, where = of(*(kind for kind in KINDS if kind not in UNSCORED))
    right, blind = right_answers(model, answers, images), right_answers(model, answers, np.zeros_like(images))
    add("qa_accuracy", where, lambda k: float(right[k].mean()))
    add("qa_accuracy_blind", where, lambda k: float(blind[k].mean()))
    rows.append(Row("tiny", "qa_majority", majority(answers), None, None, 1, (seed,)))
    done, images, where = of("success")
    belief = model.yes_probability(images, [a.question.prompt for a in done])
    truth = np.array([a.question.answer == "yes" for a in done])
    add("success_auroc", where, lambda k: auroc(belief[k], truth[k]))
    return rows, by_kind(answers, right)


def measure_dual(model: TinyDual, corpus: Corpus, seed: int = 0) -> list[Row]:
    """Retrieval among a hundred captions, and whether the view that shows a thing scores higher than one that does not."""
    rng = np.random.default_rng(seed)
    captions = [q.answer if (q := describe(corpus.annotation(k), rng)) else "" for k in range(len(corpus))]
    images = model.embed(corpus.images)
    groups, hits = [], []
    for group in range(_GROUPS):
        order = rng.permutation(len(corpus))
        _, first = np.unique([captions[k] for k in order], return_index=True)
        chosen = [int(order[k]) for k in rng.permutation(first) if captions[order[k]]][:CAPTIONS]
        if len(chosen) < CAPTIONS:
            raise InvalidValueError(f"{corpus.folder} has {len(chosen)} different captions, retrieval takes {CAPTIONS}")
        scores = images[chosen] @ model.embed_texts([captions[k] for k in chosen]).T
        hits += list(scores.argmax(axis=1) == np.arange(CAPTIONS))
        groups += [group] * CAPTIONS
    right, where = np.array(hits, float), np.array(groups)
    rows = [Row("tiny", "retrieval_r1_100", *interval(where, lambda k: float(right[k].mean()), seed), len(right), (seed,))]
    shares = presence(model, corpus)
    each = np.arange(len(shares))
    return [
        *rows,
        Row("tiny", "presence_auroc", *interval(each, lambda k: float(shares[k].mean()), seed), len(shares), (seed,)),
    ]


def presence(model: TinyDual, corpus: Corpus) -> NDArray[np.float64]:
    """For each combination of colour and thing: how often a picture that shows it scores higher than one that does not."""
    nouns, colours = corpus.names
    things = [(colour, noun) for noun in nouns for colour in colours]
    fits = truth([corpus.annotation(k) for k in range(len(corpus))], things)
    scores = model.score(corpus.images, [article(f"a {colour} {noun}") for colour, noun in things])
    out = []
    for k in range(len(things)):
        known = np.isfinite(fits[:, k])
        shown = fits[known, k] == 1
        if _FEWEST <= shown.sum() < known.sum():
            out.append(auroc(scores[known, k], shown))
    return np.array(out)


def weights_mb(folder: Path) -> float:
    """Size of all weights under a folder, 10^6 bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*.safetensors")) / 1e6


def parameters_m(folder: Path) -> float:
    """Numbers in all weights under a folder, 10^6."""
    total = 0
    for file in folder.rglob("*.safetensors"):
        with safe_open(file, "numpy") as weights:
            total += sum(int(np.prod(weights.get_slice(name).get_shape())) for name in weights.keys())  # noqa: SIM118
    return total / 1e6


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tiny_vlm", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, default=FOLDER, help="folder with chat and dual (default: what ships)")
    parser.add_argument("--corpus", type=Path, required=True, help="a held-out corpus")
    parser.add_argument("--limit", type=int, default=None, help="pictures (default: all)")
    parser.add_argument("--publish", action="store_true", help="write docs/results/tiny_vlm.json")
    arguments = parser.parse_args(argv)
    corpus = Corpus(arguments.corpus, arguments.limit)
    if corpus.masks is None or not corpus.about["held_out"]:
        raise InvalidValueError(f"{arguments.corpus} is not held out: make one with python -m envs.corpus --held-out")
    rows, kinds = measure(TinyChat(arguments.models / "chat"), corpus)
    rows += measure_dual(TinyDual(arguments.models / "dual"), corpus)
    rows.append(Row("tiny", "weights_mb", weights_mb(arguments.models), None, None, 1))
    for part in ("chat", "dual"):
        rows.append(Row("tiny", f"{part}_parameters_m", parameters_m(arguments.models / part), None, None, 1))
    rows += [Row("tiny", f"qa_{kind}", share, None, None, 1, (0,)) for kind, share in kinds.items()]
    table(("metric", "value", "low", "high", "n"), [(r.metric, r.value, r.low, r.high, r.n) for r in rows])
    if arguments.publish:
        results.publish("tiny_vlm", argv, rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
