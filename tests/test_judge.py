"""Judges over models that err at a known rate, and the model that sees nothing but colours."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.errors import InvalidValueError
from perception.annotation import Annotation, Seen
from perception.text import COLOURS
from perception.vlm.base import Answerer, BackendError, Grounder, Scorer, check_images, check_texts, require
from perception.vlm.colour import Colour
from perception.vlm.judge import Believer, Judge
from perception.vlm.scripted import Scripted

CLAIM = "The door is wide open."


def pictures(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, 4, 4, 3), np.uint8)


def doors(n: int) -> tuple[np.ndarray, list[Annotation], np.ndarray]:
    """Pictures of doors, what they show, and whether the door is wide open."""
    wide = np.random.default_rng(1).random(n) < 0.5
    return pictures(n), [Annotation(4, 4, openings={"door": 0.9 if w else 0.2}) for w in wide], wide


def told(n: int, **how: float) -> tuple[Scripted, np.ndarray, np.ndarray]:
    images, truths, wide = doors(n)
    backend = Scripted(**how)  # pyright: ignore[reportArgumentType]
    backend.tell(images, truths)
    return backend, images, wide


def test_a_backend_that_never_errs_is_never_wrong() -> None:
    backend, images, wide = told(50)
    verdict = Judge(backend).verify([CLAIM] * 50, images)
    assert np.array_equal(verdict.value, wide)
    assert (verdict.confidence > 0.95).all()


@pytest.mark.parametrize("rate", [0.1, 0.3])
def test_errors_come_at_their_rate_and_again_for_the_same_picture(rate: float) -> None:
    backend, images, wide = told(4000, error_rate=rate)
    first = np.array(backend.answer(images, [CLAIM] * 4000))
    assert np.mean((first == "yes") != wide) == pytest.approx(rate, abs=0.025)
    assert list(first) == backend.answer(images, [CLAIM] * 4000)
    assert list(first) != backend.answer(images, ["The door is ajar."] * 4000)


def test_a_fitted_judge_means_its_confidence() -> None:
    backend, images, wide = told(4000, error_rate=0.2, bias=1.5)
    judge = Judge(backend)
    before = judge.verify([CLAIM] * 4000, images)
    assert before.confidence.mean() > 0.9  # it believes itself far too much
    judge.fit(images[:2000], [CLAIM] * 2000, wide[:2000])
    after = judge.verify([CLAIM] * 2000, images[2000:])
    right = np.mean(after.value == wide[2000:])
    assert after.confidence.mean() == pytest.approx(right, abs=0.03)


def test_clips_are_scored_and_compared_by_their_ends() -> None:
    backend, images, wide = told(40)
    clips = np.repeat(images[:, None], 3, axis=1)
    judge = Judge(backend)
    assert np.array_equal(judge.score(clips, CLAIM).value > 0.5, wide)
    verdict = judge.compare(clips[:20], clips[20:], CLAIM)
    assert np.array_equal(verdict.value, wide[20:].astype(int) - wide[:20].astype(int))
    ties = verdict.value == 0
    assert (verdict.confidence[ties] == 0.5).all()
    swapped = judge.compare(clips[20:], clips[:20], CLAIM)
    assert np.array_equal(swapped.value, -verdict.value)


def test_a_judge_over_a_scorer_and_over_words() -> None:
    class Words:
        def answer(self, images: np.ndarray, prompts: list[str]) -> list[str]:
            return [("Yes, it is.", "no", "perhaps")[k % 3] for k in range(len(prompts))]

    spoken = Judge(Words()).verify([CLAIM] * 3, pictures(3))
    assert list(spoken.value) == [1, 0, 1]
    assert spoken.confidence[2] == 0.5
    red = np.zeros((2, 8, 8, 3), np.uint8)
    red[1] = (230, 10, 10)
    p = Judge(Colour()).probability(red, ["red"] * 2)
    assert p[1] > p[0]


def test_the_scripted_model_grounds_and_scores() -> None:
    images = pictures(2)
    mug = Seen("mug", "mug", "red", (1, 1, 3, 3), (2, 2), 4, 1.0, (0, 0, 0))
    apple = Seen("apple", "apple", "green", (0, 0, 1, 1), (0, 0), 1, 1.0, (0, 0, 0))
    backend = Scripted()
    backend.tell(images, [Annotation(4, 4, (mug, apple)), Annotation(4, 4, (apple,))])
    found = backend.ground(images, ["the red mug", "the red mug"])
    assert [d.labels for d in found] == [("red mug",), ()]
    assert found[0].boxes.tolist() == [[1, 1, 3, 3]]
    assert backend.score(images, ["a green apple", "a red mug", "There is a red mug."]).tolist() == [[1, 1, 1], [1, 0, 0]]
    assert backend.calls == 2
    wrong = Scripted(error_rate=1.0)
    wrong.tell(images[:1], [Annotation(4, 4, (mug, apple))])
    assert wrong.ground(images[:1], ["the red mug"])[0].labels == ("green apple",)
    with pytest.raises(BackendError, match="a picture that nobody told of"):
        wrong.ground(images[1:], ["the red mug"])


def test_refusals() -> None:
    with pytest.raises(InvalidValueError, match=r"Colour cannot answer: that needs a Answerer, it is Scorer, Grounder"):
        require(Colour(), Answerer, "answer")
    with pytest.raises(InvalidValueError, match=r"object cannot judge: that needs a Scorer, it is none of them"):
        Judge(object())
    with pytest.raises(InvalidValueError, match=r"the question must say where the claim goes"):
        Judge(Colour(), question="Is it?")
    with pytest.raises(InvalidValueError, match=r"temperature must be > 0, got 0"):
        Judge(Colour(), temperature=0)
    with pytest.raises(InvalidValueError, match=r"takes true and false examples"):
        Judge(Colour()).fit(pictures(2), ["red"] * 2, np.array([True, True]))
    with pytest.raises(InvalidValueError, match=r"clips must be \(N, T, H, W, 3\) uint8, got \(2, 4, 4, 3\)"):
        Judge(Colour()).score(pictures(2), "red")
    with pytest.raises(InvalidValueError, match=r"error_rate must be in \[0, 1\], got 2"):
        Scripted(error_rate=2)


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([[1]], r"images must be a NumPy array .* got list"),
        (np.zeros((4, 4, 3), np.uint8), r"one image needs a leading axis: image\[None\]"),
        (np.zeros((1, 4, 4, 3), np.float32), r"uint8, got \(1, 4, 4, 3\) float32"),
        (np.zeros((0, 4, 4, 3), np.uint8), r"an empty batch of images"),
        (np.zeros((1, 9000, 1, 3), np.uint8), r"1 to 8192 pixels a side, got 9000 x 1"),
    ],
)
def test_images_are_checked(images: object, sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        check_images(images)


@pytest.mark.parametrize(
    ("texts", "sentence"),
    [
        ("red", r"prompts must be a list of texts, got the single text 'red'"),
        (["red", ""], r"prompts must be texts that say something, got ''"),
        (["red"], r"prompts must be one per image: got 1 for 2 images"),
    ],
)
def test_texts_are_checked(texts: object, sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        check_texts(texts, "prompts", 2)


def test_protocols() -> None:
    assert isinstance(Colour(), Scorer)
    assert isinstance(Colour(), Grounder)
    assert not isinstance(Colour(), Answerer)
    assert isinstance(Scripted(), Believer)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(COLOURS)), st.integers(0, 20), st.integers(0, 20), st.integers(3, 12), st.integers(0, 2**32 - 1))
def test_a_patch_of_a_named_colour_is_found(name: str, x: int, y: int, side: int, seed: int) -> None:
    other = "white" if name not in ("white", "grey") else "blue"
    image = np.full((1, 32, 32, 3), np.round(np.array(COLOURS[other]) * 255), np.uint8)
    x, y = min(x, 32 - side), min(y, 32 - side)
    noise = np.random.default_rng(seed).integers(-4, 5, (side, side, 3))
    image[0, y : y + side, x : x + side] = np.clip(np.round(np.array(COLOURS[name]) * 255) + noise, 0, 255)
    model = Colour()
    found = model.ground(image, [f"the {name} thing"])[0]
    assert found.boxes[0].tolist() == [x, y, x + side, y + side]
    assert model.score(image, [name])[0, 0] == pytest.approx(side**2 / 32**2)
    assert model.score(image, ["a mug"])[0, 0] == 0
