"""The tiny chat model: packed training sees what generation sees, it learns, it resumes exactly, and transformers loads it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agents import checkpoint, train
from agents.export import export
from agents.run import Run
from agents.tiny_vlm import TinyChatLearner
from assets.errors import InvalidValueError, UnknownNameError
from envs import corpus as writing
from perception.questions import KINDS
from perception.tiny import chat
from perception.vlm.base import Answerer, Grounder
from perception.vlm.judge import Believer
from perception.vlm.tiny import TinyChat

SMALL = {
    "width": 64,
    "depth": 1,
    "vision_depth": 2,
    "heads": 2,
    "silent_steps": 1,
    "batch_size": 4,
    "questions": 4,
    "threads": 1,
    "half": False,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("corpus") / "small"
    writing.main(["--n", "128", "--out", str(out)])
    return out


def learner(folder: Path, **more: object) -> TinyChatLearner:
    return TinyChatLearner(None, str(folder), **{**SMALL, **more})  # pyright: ignore[reportArgumentType]


def test_a_packed_question_is_answered_as_if_it_were_alone(folder: Path) -> None:
    made = learner(folder, width=64, depth=2)
    processor = chat.make_processor(made.tokenizer)
    images = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), np.uint8)
    talks = [[("Count the objects.", "3"), ("Box the mug.", "no")], [("Is there a red cube?", "yes")]]
    made.model.eval()
    with torch.no_grad():
        packed = chat.Packed(made.tokenizer, talks)
        logits, wanted, *_ = chat.hear(made.model, chat.to_pixels(images), packed)
        row = 0
        for image, talk in zip(images, talks, strict=True):
            for prompt, answer in talk:
                said = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
                text = made.tokenizer.apply_chat_template(said, chat_template=chat.TEMPLATE, tokenize=False) + answer
                inputs = processor(images=[[image]], text=[text], return_tensors="pt")
                alone = made.model(**inputs).logits[0]
                count = len(made.tokenizer(answer, add_special_tokens=False)["input_ids"])
                torch.testing.assert_close(alone[-count - 1 :], logits[row : row + count + 1], atol=2e-4, rtol=1e-3)
                assert made.tokenizer.decode(wanted[row : row + count]) == answer
                row += count + 1
    assert row == len(logits)


def test_it_learns_and_resumes_exactly(folder: Path, tmp_path: Path) -> None:
    whole = learner(folder, learning_rate=3e-3, warmup_steps=2)
    first = whole.advance(4)
    checkpoint.save_step({"learner": whole.state()}, tmp_path, 4, 1)
    last = whole.advance(4)
    assert all(last[f"train/{name}_loss"] < first[f"train/{name}_loss"] for name in ("answer", "nouns", "boxes"))
    again = learner(folder, learning_rate=3e-3, warmup_steps=2)
    again.load_state(checkpoint.load_last(tmp_path)[1]["learner"])
    assert again.steps == 4
    assert again.advance(4)["train/answer_loss"] == last["train/answer_loss"]
    for a, b in zip(whole.model.state_dict().values(), again.model.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_run_is_exported_and_loaded_by_transformers(folder: Path, tmp_path: Path) -> None:
    settings = [f"agent.{key}={value}" for key, value in SMALL.items()]
    arguments = ["agent=tiny_vlm", f"agent.corpus={folder}", *settings, "num_envs=1", "env.resolution=8", "logger=jsonl"]
    run = train.main([*arguments, "steps=3", "checkpoint_every=2", "seed=1", f"run={tmp_path / 'run'}"])
    assert run.metrics()[-1]["step"] == 3
    name = export(Run.open(run.folder), tmp_path / "model")
    assert name.endswith("3")
    assert sum(f.stat().st_size for f in (tmp_path / "model").glob("*.safetensors")) < 5e6
    model = TinyChat(tmp_path / "model", batch_size=2)
    assert isinstance(model, Answerer)
    assert isinstance(model, Grounder)
    assert isinstance(model, Believer)
    images = np.random.default_rng(1).integers(0, 256, (3, 128, 128, 3), np.uint8)
    model._longest = 4
    assert len(model.answer(images, ["Count the objects."] * 3)) == 3
    assert len(model.ground(images, ["the mug"] * 3)) == 3
    p = model.yes_probability(images, ["Is there a red cube?"] * 3)
    assert p.shape == (3,)
    assert ((p > 0) & (p < 1)).all()
    found = model.parse(['[{"bbox_2d": [0, 64, 64, 128], "label": "mug"}]'], np.zeros((1, 256, 512, 3), np.uint8))
    assert found[0].boxes.tolist() == [[0, 128, 256, 256]]
    _, saved = checkpoint.load_last(run.checkpoints)
    assert saved["learner"]["steps"] == 3


def test_a_picture_about_which_nothing_can_be_asked_is_only_seen(folder: Path) -> None:
    made = learner(folder)
    packed = chat.Packed(made.tokenizer, [[], [("Is there a red cube?", "yes")]])
    pixels = torch.zeros(2, 3, 128, 128)
    heard = chat.hear(made.model, pixels, packed)
    assert len(heard.asked) == 1
    assert heard.patches.shape == (2, 256, 64)
    nobody = chat.hear(made.model, pixels, chat.Packed(made.tokenizer, [[], []]))
    assert nobody.logits.shape[0] == nobody.asked.shape[0] == 0


def test_refusals(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown kind of question 'boxes': did you mean 'box'"):
        learner(folder, weights={"boxes": 2.0})
    with pytest.raises(InvalidValueError, match="questions must be >= 1 and batch_size >= 4, got 4 and 3"):
        learner(folder, batch_size=3)
    with pytest.raises(InvalidValueError, match="holds no whole corpus"):
        learner(tmp_path)
    with pytest.raises(InvalidValueError, match=r"holds no tiny chat model: it has no config\.json"):
        TinyChat(tmp_path)
    made = learner(folder)
    with pytest.raises(InvalidValueError, match="does not act; measure it with"):
        made.act({})
    saved = made.state()
    with pytest.raises(InvalidValueError, match="is not the one that this training began with"):
        made.load_state({**saved, "tokenizer": "{}"})


def test_numbers_of_a_picture_are_single_tokens(folder: Path) -> None:
    made = learner(folder)
    assert set(KINDS) >= {"box", "point"}
    for text in (", {}", "[{}"):
        parted = [n for n in range(129) if len(made.tokenizer(text.format(n), add_special_tokens=False)["input_ids"]) != 2]
        assert not parted, text


def test_its_benchmark_counts_what_is_right(tmp_path: Path) -> None:
    from benchmarks.tiny_vlm import auroc, interval, majority, measure, questions
    from perception.corpus import Corpus
    from perception.vlm.parse import parse

    folder = tmp_path / "held"
    writing.main(["--n", "40", "--held-out", "--out", str(folder)])
    corpus = Corpus(folder)
    asked = questions(corpus)

    class Perfect:
        """Knows the answers to pictures that are not black."""

        known = {(corpus.images[a.index].tobytes(), a.question.prompt): a.question.answer for a in asked}  # noqa: RUF012

        def answer(self, images: np.ndarray, prompts: list[str]) -> list[str]:
            return [self.known.get((i.tobytes(), p), "no") for i, p in zip(images, prompts, strict=True)]

        def parse(self, answers: list[str], images: np.ndarray) -> list[object]:
            return [parse(text, "qwen_absolute", 128, 128) for text in answers]

        def yes_probability(self, images: np.ndarray, prompts: list[str]) -> np.ndarray:
            return np.array([float(a == "yes") for a in self.answer(images, prompts)], np.float32)

    rows, kinds = measure(Perfect(), corpus)  # pyright: ignore[reportArgumentType]
    found = {row.metric: row.value for row in rows}
    for metric in ("grounding_acc50", "point_in_mask", "qa_accuracy", "success_auroc"):
        assert found[metric] == 1, metric
    assert found["qa_accuracy_blind"] < found["qa_majority"] + 0.05
    assert set(kinds.values()) == {1.0}
    assert 0 < majority(asked) < 1
    assert auroc(np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, False, True, True])) == 0.875
    value, low, high = interval(np.repeat(np.arange(20), 2), lambda k: float((k % 4 < 2).mean()))
    assert value == 0.5
    assert 0.2 < low < 0.5 < high < 0.8
