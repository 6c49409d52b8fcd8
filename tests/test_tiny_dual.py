"""The tiny dual encoder: what is true of which picture, that it learns and resumes exactly, and that transformers loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agents import checkpoint, train
from agents.export import export
from agents.run import Run
from agents.tiny_dual import TinyDualLearner, article, truth
from assets.errors import InvalidValueError
from envs import corpus as writing
from perception.annotation import Annotation
from perception.corpus import Corpus
from perception.tiny import dual
from perception.vlm.base import FrozenFeatures, Scorer
from perception.vlm.hf_dual import HFDual
from perception.vlm.tiny import TinyDual

SMALL = {"width": 64, "depth": 1, "vision_depth": 1, "heads": 2, "batch_size": 8, "phrases": 16, "threads": 1, "half": False}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "small"
    writing.main(["--n", "128", "--out", str(out)])
    return out


def learner(folder: Path, **more: object) -> TinyDualLearner:
    return TinyDualLearner(None, str(folder), **{**SMALL, **more})  # pyright: ignore[reportArgumentType]


def test_what_is_true_of_a_picture_is_what_its_annotation_shows(folder: Path) -> None:
    corpus = Corpus(folder)
    scenes = [corpus.annotation(k) for k in range(64)]
    things = [("red", "mug"), ("", "mug"), ("red", "")]
    for row, scene in zip(truth(scenes, things), scenes, strict=True):
        seen = [(s.colour, s.noun) for s in scene.seen]
        assert (row[0] == 1) == (("red", "mug") in seen)
        assert (row[1] == 1) == ("mug" in [n for _, n in seen])
        assert (row[2] == 1) == ("red" in [c for c, _ in seen])
    hidden = Annotation(8, 8, faint=(("x", "mug", "red"),))
    assert np.isnan(truth([hidden], things)).all()
    assert not truth([hidden], [("blue", "mug"), ("blue", "")]).any()


def test_what_patches_show_lies_where_the_tower_looks(folder: Path) -> None:
    made = learner(folder)
    album = made._album(0)
    rng = np.random.default_rng((0, 1, 0))
    grid = made.corpus.nouns[rng.integers(len(made.corpus), size=8)].astype(int)
    grid[:6] = -100  # learned from the recoloured ones alone
    assert album.nouns.shape == (8, 64, 4)
    for patch, (row, column) in ((0, (0, 0)), (9, (1, 1)), (23, (2, 7))):
        cells = grid[:, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].reshape(8, 4)
        np.testing.assert_array_equal(album.nouns[:, patch], cells)
    assert album.fits.shape == (8, 8 + 16)
    assert torch.all(album.fits[:6, :8].diagonal() == 1)
    assert torch.isnan(album.fits[6:, :8]).all()
    assert torch.isfinite(album.fits[6:, 8:]).any()
    assert len(album.texts) == 24


def test_nothing_is_said_about_combinations_that_the_corpus_never_shows(folder: Path) -> None:
    made = learner(folder)
    shown = {(s.colour, s.noun) for k in range(len(made.corpus)) for s in made.corpus.annotation(k).seen}
    assert {(c, n) for c, n in made._things if c and n} <= shown
    assert article("a orange cube") == "an orange cube"
    assert article("There is a red apple.") == "There is a red apple."


def test_it_learns_and_resumes_exactly(folder: Path, tmp_path: Path) -> None:
    whole = learner(folder, warmup_steps=2)
    first = whole.advance(6)
    checkpoint.save_step({"learner": whole.state()}, tmp_path, 6, 1)
    last = whole.advance(6)
    assert all(last[f"train/{name}_loss"] < first[f"train/{name}_loss"] for name in ("captions", "phrases", "nouns", "colours"))
    again = learner(folder, warmup_steps=2)
    again.load_state(checkpoint.load_last(tmp_path)[1]["learner"])
    assert again.advance(6)["train/captions_loss"] == last["train/captions_loss"]
    for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_run_is_exported_and_scores_as_it_was_trained(folder: Path, tmp_path: Path) -> None:
    settings = [f"agent.{key}={value}" for key, value in SMALL.items()]
    arguments = ["agent=tiny_dual", f"agent.corpus={folder}", *settings, "num_envs=1", "env.resolution=8", "logger=jsonl"]
    run = train.main([*arguments, "steps=3", "checkpoint_every=2", "seed=1", f"run={tmp_path / 'run'}"])
    assert export(Run.open(run.folder), tmp_path / "model").endswith("3")
    backend = TinyDual(tmp_path / "model", batch_size=2)
    assert isinstance(backend, Scorer)
    assert isinstance(backend, FrozenFeatures)
    assert isinstance(backend, HFDual)
    assert backend.size == 64
    corpus = Corpus(folder, limit=5)
    made = learner(folder, seed=1)
    made.load_policy(checkpoint.load_last(run.checkpoints)[1]["learner"])
    texts = ["a red mug", "a blue thing"]
    ids = made.tokenizer(texts, padding="max_length", truncation=True, max_length=dual.LENGTH, return_tensors="pt")["input_ids"]
    pixels = torch.from_numpy(corpus.images).permute(0, 3, 1, 2) / 127.5 - 1
    with torch.no_grad():
        wanted = made.model.eval()(input_ids=ids, pixel_values=pixels).logits_per_image
    np.testing.assert_allclose(backend.score(corpus.images, texts), wanted, atol=0.1)  # in half precision


def test_its_benchmark_counts_what_is_right(tmp_path: Path) -> None:
    from benchmarks import tiny_vlm
    from perception.questions import describe

    folder = tmp_path / "held"
    writing.main(["--n", "160", "--held-out", "--out", str(folder)])
    corpus = Corpus(folder)
    rng = np.random.default_rng(0)
    captions = [q.answer if (q := describe(corpus.annotation(k), rng)) else "" for k in range(len(corpus))]
    numbers = {text: k for k, text in enumerate(dict.fromkeys(captions))}
    nouns, colours = corpus.names
    things = [article(f"a {c} {n}") for n in nouns for c in colours]
    fits = np.nan_to_num(truth([corpus.annotation(k) for k in range(len(corpus))], [(c, n) for n in nouns for c in colours]))

    class Knowing:
        """Knows captions and things, or, if blind, nothing."""

        def __init__(self, blind: bool) -> None:
            self.share = 0.0 if blind else 1.0

        def embed(self, images: np.ndarray) -> np.ndarray:
            return np.eye(len(numbers))[[numbers[c] for c in captions]] * self.share

        def embed_texts(self, texts: list[str]) -> np.ndarray:
            return np.eye(len(numbers))[[numbers[t] for t in texts]]

        def score(self, images: np.ndarray, texts: list[str]) -> np.ndarray:
            assert texts == things
            return fits * self.share

    seen = {row.metric: row for row in tiny_vlm.measure_dual(Knowing(False), corpus)}  # pyright: ignore[reportArgumentType]
    assert seen["retrieval_r1_100"].value == seen["presence_auroc"].value == 1
    assert seen["retrieval_r1_100"].n == 5000
    blind = {row.metric: row.value for row in tiny_vlm.measure_dual(Knowing(True), corpus)}  # pyright: ignore[reportArgumentType]
    assert blind["retrieval_r1_100"] == pytest.approx(0.01)
    assert blind["presence_auroc"] == 0.5
    with pytest.raises(InvalidValueError, match="different captions, retrieval takes 100"):
        tiny_vlm.measure_dual(Knowing(False), Corpus(folder, limit=60))  # pyright: ignore[reportArgumentType]
    seen_folder = tmp_path / "seen"
    writing.main(["--n", "64", "--out", str(seen_folder)])
    with pytest.raises(InvalidValueError, match="is not held out"):
        tiny_vlm.main(["--corpus", str(seen_folder)])


def test_only_what_learns_from_pictures_is_exported(tmp_path: Path) -> None:
    run = train.main(
        [
            "agent=ppo",
            "env.resolution=8",
            "num_envs=2",
            "steps=32",
            "logger=jsonl",
            "agent.n_steps=8",
            "agent.batch_size=16",
            f"run={tmp_path / 'run'}",
        ]
    )
    with pytest.raises(InvalidValueError, match=r"what can be exported is trained by \['agents.tiny_dual"):
        export(run, tmp_path / "model")


def test_refusals(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="phrases must be >= 1 and batch_size >= 4, got 0 and 8"):
        learner(folder, phrases=0)
    with pytest.raises(InvalidValueError, match=r"holds no tiny dual model: it has no config\.json"):
        TinyDual(tmp_path)
    with pytest.raises(InvalidValueError, match="does not act; measure it with"):
        learner(folder).act({})
