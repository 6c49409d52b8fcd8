"""An instruction's vector: the same everywhere, different for different things, near for the same colour."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets import props
from perception.text import COLOURS, EMBEDDING_SIZE, embed, words

ROOT = Path(__file__).resolve().parents[1]
SENTENCES = ["find the red apple", "find the yellow e-stop button", "", "touch the ball", "open the door"]
PHRASES = {name: f"find {prop.phrase}" for name, prop in props().items()}

GOLDEN = {
    "find the red apple": ([0.796, -1.0, -1.0, 1.0], [17, 19, 27, 28, 33, 38, 43, 55, 61], [1, -1, 1, 1, -1, -1, 1, 1, 1]),
    "touch the ball": ([0.0, 0.0, 0.0, 0.0], [10, 18, 25, 28, 43, 65], [1, 1, -1, -1, -1, 1]),
}


def test_golden_values() -> None:
    # Trained policies depend on these numbers: whoever changes them breaks every checkpoint.
    for text, expected in GOLDEN.items():
        row = embed([text])[0]
        filled = np.flatnonzero(row[8:]) + 8
        np.testing.assert_allclose(row[:4], expected[0], atol=1e-6)
        assert filled.tolist() == expected[1]
        assert np.sign(row[filled]).astype(int).tolist() == expected[2]


def test_a_fresh_process_says_the_same() -> None:
    # Python's own hash of a string differs between processes; this must not.
    code = f"from perception.text import embed; import sys; sys.stdout.write(embed({SENTENCES!r}).tobytes().hex())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == embed(SENTENCES).tobytes().hex()


@given(st.lists(st.text(max_size=30), max_size=4))
def test_shape_range_and_independence(texts: list[str]) -> None:
    rows = embed(texts)
    assert rows.shape == (len(texts), EMBEDDING_SIZE)
    assert rows.dtype == np.float32
    assert (np.abs(rows) <= 1).all()
    for text, row in zip(texts, rows, strict=True):
        np.testing.assert_array_equal(embed([text])[0], row)
        length = float(np.linalg.norm(row[8:]))
        assert length == pytest.approx(1, abs=1e-5) or length == 0  # words can cancel, or be none


@given(st.lists(st.sampled_from(["red", "mug", "find", "door", "7"]), min_size=1, max_size=4))
def test_case_marks_and_articles_do_not_matter(said: list[str]) -> None:
    plain = " ".join(said)
    np.testing.assert_array_equal(embed([plain]), embed([f"The {plain.upper()}!"]))
    assert words(plain.upper()) == said


def test_a_caller_may_write_into_it() -> None:
    row = embed(["find the red apple"])
    row[:] = 0
    assert embed(["find the red apple"]).any()


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(sorted(PHRASES), 2)))
def test_every_prop_is_told_from_every_other(one: str, other: str) -> None:
    a, b = embed([PHRASES[one], PHRASES[other]])
    words_alike = a[8:] @ b[8:] / (np.linalg.norm(a[8:]) * np.linalg.norm(b[8:]))
    assert words_alike < 0.8
    if props()[one].colour != props()[other].colour:
        assert np.abs(a[:3] - b[:3]).max() > 0.1


def test_colours_are_axes() -> None:
    for name, srgb in COLOURS.items():
        row = embed([f"find the {name} thing"])[0]
        np.testing.assert_allclose(row[:3], 2 * np.array(srgb) - 1, atol=1e-6)
        assert row[3] == 1
    np.testing.assert_array_equal(embed(["find the thing"])[0, :4], 0)


def test_the_first_and_the_last_colour_are_told_apart() -> None:
    both, red, blue, again = embed(["the red and green and blue one", "red", "blue", "red or red"])
    np.testing.assert_array_equal(both[:4], red[:4])
    np.testing.assert_array_equal(both[4:8], blue[:4])
    np.testing.assert_array_equal(embed(["from blue to red"])[0, :8], np.concatenate([both[4:8], both[:4]]))
    for one in (red, again):  # one colour, however often
        np.testing.assert_array_equal(one[4:8], 0)


def test_a_colour_is_a_word_and_no_part_of_one() -> None:
    assert embed(["covered"])[0, 3] == 0
    assert embed(["red-handed"])[0, 3] == 1
