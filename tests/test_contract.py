"""One contract for every backend: what is promised, in what company, and what is refused."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from agents.config import groups
from assets.errors import InvalidValueError
from perception.vlm.base import Answerer, FrozenFeatures, Grounder, Scorer
from perception.vlm.judge import Believer
from perception.vlm.parse import DIALECTS, parse
from tests import endpoint
from tests.backends import BACKENDS, IMAGES, PLAIN, TEXTS, assert_same, distance, everything, make, make_folders

# Chat endpoints answer with the number of the picture, which they know by its corner.
OPENAI = "openai"
NAMES = (*PLAIN, *BACKENDS, OPENAI)
# A claim is what every backend can be asked, the scripted one too.
CLAIMS = ["There is a red mug.", "There is a green cube.", "There is a blue kettle."]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Any]]:
    folder = make_folders(tmp_path_factory.mktemp)
    with pytest.MonkeyPatch.context() as patch, endpoint.serving() as server, endpoint.clients(server, patch) as client:
        server.script = [endpoint.seeing(IMAGES)]
        yield cache(lambda name: client(dialect="tuples") if name == OPENAI else make(name, folder))


def texts_for(name: str) -> list[str]:
    return {"scripted": CLAIMS, "colour": ["the black cup", "a grey box", "the white handle"]}.get(name, TEXTS)


def test_every_backend_that_can_be_configured_is_held_to_the_contract() -> None:
    kinds = {type_.__module__.rpartition(".")[2] for type_, _ in BACKENDS.values()} | {*PLAIN, OPENAI}
    assert {name.removesuffix("_dual") if name == "tiny_dual" else name for name in groups()["vlm"]} <= kinds


@pytest.mark.parametrize("name", NAMES)
def test_a_backend_is_what_its_protocols_promise(name: str, backend: Callable[[str], Any]) -> None:
    model, batch = backend(name), everything(backend(name), IMAGES, texts_for(name))
    assert batch
    for what, rows in batch.items():
        assert len(rows) == len(IMAGES), what
        if what in ("embed", "score", "yes"):
            stacked = np.stack(rows)
            assert stacked.dtype == np.float32
            assert np.isfinite(stacked).all()
            assert stacked.shape == {"embed": (3, getattr(model, "size", 0)), "score": (3, 2), "yes": (3,)}[what]
        if what == "yes":
            assert all(0 <= row <= 1 for row in rows)
        for found in rows if what == "ground" else ():
            assert found.boxes.dtype == found.points.dtype == found.scores.dtype == np.float32
            assert np.isfinite(found.boxes).all()
            assert (found.boxes >= 0).all()
            assert (found.boxes <= [64, 48, 64, 48]).all()
            assert ((found.scores >= 0) & (found.scores <= 1)).all()


@pytest.mark.parametrize("name", NAMES)
def test_an_image_is_answered_the_same_alone_and_in_any_company(name: str, backend: Callable[[str], Any]) -> None:
    model, texts = backend(name), texts_for(name)
    batch = everything(model, IMAGES, texts)
    turned = everything(model, IMAGES[::-1], texts[::-1])
    for k in range(len(IMAGES)):
        alone = everything(model, IMAGES[k : k + 1], texts[k : k + 1])
        for what, rows in batch.items():
            assert_same(rows[k], alone[what][0])
            assert_same(rows[k], turned[what][-1 - k])
    # An order can only be kept by what tells the images apart.
    told = everything(model, IMAGES, texts[:1] * 3).values()
    assert max(distance(rows[k], rows[k - 1]) for rows in told for k in range(3)) > 1e-2


@pytest.mark.parametrize("name", NAMES)
def test_pictures_are_neither_changed_nor_needed_in_one_piece_of_memory(name: str, backend: Callable[[str], Any]) -> None:
    model, texts = backend(name), texts_for(name)
    batch = everything(model, IMAGES, texts)
    wide = np.zeros((3, 48, 128, 6), np.uint8)
    wide[:, :, ::2, ::2] = IMAGES
    before = wide.copy()
    for what, rows in everything(model, wide[:, :, ::2, ::2], texts).items():
        for one, other in zip(rows, batch[what], strict=True):
            assert_same(one, other)
    np.testing.assert_array_equal(wide, before)


def calls(model: Any) -> dict[str, Callable[[Any, Any], Any]]:
    """Everything that a backend can be asked, with pictures and texts."""
    named = {p: n for p, n in ((Scorer, "score"), (Answerer, "answer"), (Believer, "yes_probability"), (Grounder, "ground"))}
    out: dict[str, Callable[[Any, Any], Any]] = {n: getattr(model, n) for p, n in named.items() if isinstance(model, p)}
    if isinstance(model, FrozenFeatures):
        out["embed"] = lambda images, _: model.embed(images)
    return out


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_batch_of_images_is_refused(name: str, backend: Callable[[str], Any]) -> None:
    wrong = {
        "an empty batch": np.zeros((0, 8, 8, 3), np.uint8),
        r"1 to 8192 pixels a side, got 1 x 9000": np.zeros((1, 1, 9000, 3), np.uint8),
        r"got \(1, 8, 8, 3\) float32": np.zeros((1, 8, 8, 3), np.float32),
        r"got \(1, 8, 8, 4\) uint8": np.zeros((1, 8, 8, 4), np.uint8),
        r"one image needs a leading axis": np.zeros((8, 8, 3), np.uint8),
        "must be a NumPy array": Image.new("RGB", (8, 8)),
    }
    for call in calls(backend(name)).values():
        for sentence, images in wrong.items():
            with pytest.raises(InvalidValueError, match=sentence):
                call(images, CLAIMS[:1])


@pytest.mark.parametrize("name", NAMES)
def test_texts_are_a_list_that_says_something(name: str, backend: Callable[[str], Any]) -> None:
    for method, call in calls(backend(name)).items():
        if method == "embed":
            continue
        for texts, sentence in (
            ("cup", "put it in a list"), (["cup", " "], "say something"), (["cup", 3], "say something"), ([], "must"),
        ):  # fmt: skip
            with pytest.raises(InvalidValueError, match=sentence):
                call(IMAGES[: len(texts)] if isinstance(texts, list) and texts else IMAGES[:1], texts)
        if method != "score":
            with pytest.raises(InvalidValueError, match="must be one per image: got 2 for 3 images"):
                call(IMAGES, CLAIMS[:2])


def test_nothing_that_a_model_says_is_ever_executed() -> None:
    forbidden = re.compile(
        r"(?<![.\w])(eval|exec|compile|__import__)\(|literal_eval|pickle\.|yaml\.(unsafe_)?load\(|shell=True|os\.system"
    )
    for file in (Path(__file__).parents[1] / "perception").rglob("*.py"):
        found = [line for line in file.read_text().splitlines() if forbidden.search(line)]
        assert not found, (file.name, found)


@pytest.mark.parametrize(
    "said",
    [
        "__import__('os').remove('{}')",
        '[{{"bbox_2d": [1, 2, __import__("os").remove("{}"), 4]}}]',
        "(1, 2, 3, open('{}', 'w'))",
    ],
)
def test_an_answer_that_is_a_program_is_a_text(said: str, tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    witness.write_text("here")
    for dialect in DIALECTS:
        assert len(parse(said.format(witness), dialect, 64, 48)) <= 1
    assert witness.read_text() == "here"
