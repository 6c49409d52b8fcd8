"""Progress by shuffled frames: read strictly, put back in order, and worth something only if the model looks."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import BackendError
from perception.vlm.colour import Colour
from perception.vlm.tiny import TinyChat
from rewards.card import Footage, card
from rewards.measures import value_order_correlation
from rewards.ordering import STRIP, Ordering, percentages, sheet

SIDE = 12


def film(length: int) -> np.ndarray:
    """A video that grows brighter as the task is done."""
    light = np.linspace(20, 220, length).astype(np.uint8)
    return np.broadcast_to(light[:, None, None, None], (length, SIDE, SIDE, 3)).copy()


class Looking:
    """A model that reads progress from a tile's light, relative to the start; it errs and talks nonsense at given rates."""

    def __init__(self, errors: float = 0.0, nonsense: float = 0.0, seed: int = 0) -> None:
        self.errors, self.nonsense, self.rng = errors, nonsense, np.random.default_rng(seed)
        self.prompts, self.shown = list[str](), list[bytes]()

    def answer(self, images: np.ndarray, prompts: list[str]) -> list[str]:
        self.prompts += prompts
        self.shown.append(images.tobytes())
        return [self.said(image, prompt) for image, prompt in zip(images, prompts, strict=True)]

    def said(self, image: np.ndarray, prompt: str) -> str:
        if self.rng.random() < self.nonsense:
            return "The robot is at work."
        found = re.search(r"Pictures 1 to (\d+)", prompt)
        assert found is not None
        count = int(found[1])
        columns = math.ceil(math.sqrt(count + 1))
        lines = []
        for number in range(1, count + 1):
            y, x = number // columns * (SIDE + STRIP) + STRIP, number % columns * SIDE
            share = (float(image[y + SIDE // 2, x + SIDE // 2, 0]) - float(image[STRIP + SIDE // 2, SIDE // 2, 0])) / 200
            guess = self.rng.random() if self.rng.random() < self.errors else share
            lines.append(f"Picture {number}: {100 * max(guess, 0):.0f} %")
        return "\n".join(lines)


class Rising:
    """A model that does not look: the later it is asked, the more is done."""

    def answer(self, images: np.ndarray, prompts: list[str]) -> list[str]:
        count = int(re.findall(r"Pictures 1 to (\d+)", prompts[0])[0])
        return ["\n".join(f"Picture {k}: {100 * k // count} %" for k in range(1, count + 1))]


def voc(backend: object, videos: int = 20, length: int = 24, **how: object) -> float:
    """Mean value-order correlation over some videos."""
    scorer = Ordering(backend, "light the lamp", np.random.default_rng(1), **how)  # type: ignore[arg-type]
    return float(np.mean([value_order_correlation(scorer(film(length))) for _ in range(videos)]))


@settings(max_examples=30)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 2**32 - 1))
def test_who_looks_puts_every_video_in_order(length: int, at_once: int, seed: int) -> None:
    scorer = Ordering(Looking(), "light the lamp", np.random.default_rng(seed), at_once)
    found = scorer(film(length))
    assert found.shape == (length,)
    assert found.dtype == np.float32
    true = (film(length)[:, 0, 0, 0].astype(float) - 20) / 200
    np.testing.assert_allclose(found, true, atol=0.006)  # whole per cent
    assert (scorer.asked, scorer.nonsense, scorer.given_up) == (math.ceil(length / at_once), 0, 0)


def test_who_does_not_look_gains_nothing_by_saying_numbers_that_rise() -> None:
    assert abs(voc(Rising())) < 0.15


@pytest.mark.parametrize(("errors", "low", "high"), [(0.2, 0.55, 0.9), (0.3, 0.4, 0.8), (1.0, -0.15, 0.15)])
def test_errors_cost_order(errors: float, low: float, high: float) -> None:
    assert low < voc(Looking(errors)) < high


def test_more_rounds_mend_errors() -> None:
    assert voc(Looking(0.3), rounds=7) > voc(Looking(0.3)) + 0.15


def test_nonsense_is_counted_and_asked_about_again() -> None:
    scorer = Ordering(Looking(nonsense=0.25), "light the lamp", np.random.default_rng(0), at_once=6, rounds=8)
    assert value_order_correlation(scorer(film(24))) == 1
    assert scorer.asked == 32
    assert 2 < scorer.nonsense < 16
    assert scorer.given_up == 0


def test_what_is_done_where_only_nonsense_was_said() -> None:
    with pytest.raises(BackendError, match=r"of 24 of 24 frames, the last answer was 'The robot is at work\.'"):
        voc(Looking(nonsense=1.0))
    scorer = Ordering(Looking(nonsense=1.0), "light the lamp", np.random.default_rng(0), 10, 2, "start")
    assert not scorer(film(24)).any()
    assert (scorer.asked, scorer.nonsense, scorer.given_up) == (6, 6, 24)


def test_the_same_seed_asks_the_same() -> None:
    seen = [Looking(), Looking(), Looking()]
    for backend, seed in zip(seen, (3, 3, 4), strict=True):
        Ordering(backend, "light the lamp", np.random.default_rng(seed))(film(9))
    assert seen[0].shown == seen[1].shown != seen[2].shown
    assert "light the lamp" in seen[0].prompts[0]


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        ("Picture 1: 40 %\nPicture 2: 0%", [0.4, 0.0]),
        ("2: 100\n1: 12.5 %", [0.125, 1.0]),
        ("Here they are:\n\n- **Frame 1**: 40%\n- **Frame 2**: 50%\nI hope that helps.", [0.4, 0.5]),
        ("<think>Picture 1: 3 %</think>\nPicture 1: 40 %\nPicture 2: 0%", [0.4, 0.0]),
        ("Picture 1: 40 %", None),  # one is missing
        ("Picture 1: 40 %\nPicture 1: 40 %", None),
        ("Picture 1: 40 %\nPicture 2: 40 %\nPicture 2: 50 %", None),
        ("Picture 1: 40 %\nPicture 3: 40 %", None),
        ("Picture 0: 40 %\nPicture 1: 40 %", None),
        ("Picture 1: 40 %\nPicture 2: 140 %", None),
        ("Picture 1: 40 %\nPicture 2: -10 %", None),
        ("Picture 1: 40 %, Picture 2: 50 %", None),
        ("Picture 1: forty\nPicture 2: fifty", None),
        (f"Picture 1: 40 %\nPicture {'2' * 5000}: 50 %", None),
        ("", None),
    ],
)
def test_answers_are_read_strictly(answer: str, values: list[float] | None) -> None:
    found = percentages(answer, 2)
    assert (None if found is None else found.tolist()) == values


@settings(max_examples=50)
@given(st.text(max_size=300), st.integers(1, 5))
def test_no_text_breaks_the_reader(text: str, count: int) -> None:
    found = percentages(text, count)
    assert found is None or (found.shape == (count,) and (found >= 0).all() and (found <= 1).all())


def test_the_sheet_shows_every_frame_once() -> None:
    video = film(6)
    whole = sheet(video[0], video[1:])
    assert whole.shape == (2 * (SIDE + STRIP), 3 * SIDE, 3)
    tiles = whole.reshape(2, SIDE + STRIP, 3, SIDE, 3).swapaxes(1, 2).reshape(6, SIDE + STRIP, SIDE, 3)
    np.testing.assert_array_equal(tiles[:, STRIP:], video)
    assert (tiles[:, :STRIP].min(axis=(1, 2, 3)) < 128).all()  # a number above each


def test_it_has_a_report_card() -> None:
    footage = {
        "expert": Footage([film(12)] * 2, [np.linspace(0, 1, 12)] * 2, np.array([True, True])),
        "random": Footage([film(12)[:1].repeat(12, axis=0)] * 2, [np.zeros(12)] * 2, np.array([False, False])),
    }
    found = card(Ordering(Looking(), "light the lamp", np.random.default_rng(0)), footage, np.random.default_rng(0))
    assert found["voc"] == found["success_auroc"] == 1
    assert found["blind_kendall_tau"] == 0


def test_the_shipped_model_never_learned_to_say_percentages_and_is_refused() -> None:
    with pytest.raises(BackendError, match="nothing that can be read was said of 3 of 3 frames"):
        Ordering(TinyChat(device="cpu"), "open the door", np.random.default_rng(0))(film(3))


def test_what_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="Colour cannot order frames"):
        Ordering(Colour(), "open", np.random.default_rng(0))  # type: ignore[arg-type]
    with pytest.raises(UnknownNameError, match="raise, start"):
        Ordering(Looking(), "open", np.random.default_rng(0), fallback="stat")
    for task, at_once, rounds in ((" ", 4, 1), ("open", 0, 1), ("open", 4, 0)):
        with pytest.raises(InvalidValueError, match="at_once and rounds are >= 1"):
            Ordering(Looking(), task, np.random.default_rng(0), at_once, rounds)
    with pytest.raises(InvalidValueError, match="an empty batch"):
        Ordering(Looking(), "open", np.random.default_rng(0))(film(1)[:0])
