"""Similarity to a goal's text: the paper's formula, its ends, its bounds, and what it refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from agents.config import load
from agents.make import make_env
from assets.errors import InvalidValueError
from perception.vlm.colour import Colour
from perception.vlm.tiny import TinyDual
from rewards.similarity import GoalSimilarity

FRAMES = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
laws = settings(max_examples=50, deadline=None)


class Table:
    """Vectors that are looked up: of pictures by their first pixel, of texts by the text."""

    def __init__(self, pictures: Any, texts: dict[str, Any]) -> None:
        self.pictures, self.texts = np.array(pictures, np.float32), texts

    @property
    def size(self) -> int:
        return self.pictures.shape[1]

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return self.pictures[images[:, 0, 0, 0]]

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        return np.array([self.texts[text] for text in texts], np.float32)


def reward(pictures: Any, goal: Any, baseline: Any, alpha: float) -> GoalSimilarity:
    return GoalSimilarity(Table(pictures, {"goal": goal, "base": baseline}), "goal", "base", alpha)


def unit(vectors: Any) -> NDArray[np.float64]:
    values = np.asarray(vectors, np.float64)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


def drawn(seed: int, size: int = 5) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(4, size)), rng.normal(size=size), rng.normal(size=size)


def test_exact_numbers() -> None:
    # g = x, b = y: the line falls at 45 degrees; z is off it, with foot (1/2, 1/2, 0).
    pictures = [[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]]
    assert reward(pictures, [1, 0, 0], [0, 1, 0], 0.0)(FRAMES) == pytest.approx([1, 0, 0, -1], abs=1e-6)
    assert reward(pictures, [1, 0, 0], [0, 1, 0], 1.0)(FRAMES) == pytest.approx([1, 0, 0.75, 0], abs=1e-6)
    assert reward(pictures, [1, 0, 0], [0, 1, 0], 0.5)(FRAMES) == pytest.approx([1, 0, 1 - (0.5 + 0.375) / 2, -0.25], abs=1e-6)


@laws
@given(seed=st.integers(0, 10_000), alpha=st.floats(0, 1))
def test_it_is_the_papers_formula(seed: int, alpha: float) -> None:
    pictures, goal, baseline = drawn(seed)
    s, g, b = unit(pictures), unit(goal), unit(baseline)
    line = unit(g - b)
    projected = b + ((s - b) @ line)[:, None] * line
    expected = 1 - 0.5 * ((alpha * projected + (1 - alpha) * s - g) ** 2).sum(axis=1)
    assert reward(pictures, goal, baseline, alpha)(FRAMES) == pytest.approx(expected, abs=1e-5)


@laws
@given(seed=st.integers(0, 10_000))
def test_without_regularisation_it_is_the_cosine_and_the_baseline_says_nothing(seed: int) -> None:
    pictures, goal, baseline = drawn(seed)
    found = reward(pictures, goal, baseline, 0.0)(FRAMES)
    assert found == pytest.approx(unit(pictures) @ unit(goal), abs=1e-5)
    assert found == pytest.approx(reward(pictures, goal, -baseline, 0.0)(FRAMES), abs=1e-5)


@laws
@given(seed=st.integers(0, 10_000), alpha=st.floats(0, 1), more=st.floats(0, 1))
def test_it_is_bounded_rises_with_alpha_and_is_largest_at_the_goal(seed: int, alpha: float, more: float) -> None:
    pictures, goal, baseline = drawn(seed)
    pictures[0] = goal
    low = reward(pictures, goal, baseline, alpha)(FRAMES)
    high = reward(pictures, goal, baseline, alpha + more * (1 - alpha))(FRAMES)
    assert low[0] == pytest.approx(1, abs=1e-5)
    assert (low >= -1 - 1e-5).all()
    assert (high <= 1 + 1e-5).all()
    assert (high >= low - 1e-5).all()


@laws
@given(angle=st.floats(-np.pi, np.pi))
def test_full_projection_does_not_see_what_neither_text_speaks_of(angle: float) -> None:
    # All at the same place along the line from y to x, on a circle of unit vectors around it.
    pictures = [[0.5**0.5 * np.cos(angle), 0.5**0.5 * np.cos(angle), np.sin(angle)]]
    assert reward(pictures, [1, 0, 0], [0, 1, 0], 1.0)(FRAMES[:1]) == pytest.approx([0.75], abs=1e-6)
    assert reward(pictures, [1, 0, 0], [0, 1, 0], 0.0)(FRAMES[:1]) == pytest.approx([0.5**0.5 * np.cos(angle)], abs=1e-6)


def test_lengths_of_vectors_do_not_count() -> None:
    pictures, goal, baseline = drawn(0)
    expected = reward(pictures, goal, baseline, 0.7)(FRAMES)
    assert reward(3 * pictures, 5 * goal, 0.1 * baseline, 0.7)(FRAMES) == pytest.approx(expected, abs=1e-5)


def test_the_tiny_dual_encoder_prefers_the_named_colour() -> None:
    painted = np.full((2, 64, 64, 3), 200, np.uint8)
    painted[0, 20:44, 20:44], painted[1, 20:44, 20:44] = (220, 20, 20), (20, 20, 220)
    encoder = TinyDual(device="cpu")
    red = GoalSimilarity(encoder, "the red cube", "the blue cube", 0.9)(painted)
    blue = GoalSimilarity(encoder, "the blue cube", "the red cube", 0.9)(painted)
    assert red[0] > red[1] + 0.01
    assert blue[1] > blue[0] + 0.01


def test_an_environment_is_paid_by_what_its_camera_shows() -> None:
    env = make_env(load("train", ["env=reach", "reward=similarity", "+env.num_threads=1"]), 2, "disabled")
    try:
        env.reset(seed=0)
        obs, paid, *_, info = env.step(env.unwrapped.oracle())
    finally:
        env.close()
    seen = GoalSimilarity(TinyDual(), "The gripper holds the green cube.", "The gripper is empty.", 0.5)(obs["front"])
    assert paid == pytest.approx(seen, abs=1e-5)
    assert info["reward_terms"]["similarity"] == pytest.approx(seen, abs=1e-5)


def test_what_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"alpha must be in \[0, 1\], got 1.5"):
        reward([[1, 0]], [1, 0], [0, 1], 1.5)
    with pytest.raises(InvalidValueError, match="goal and baseline must differ to the encoder"):
        reward([[1, 0]], [1, 0], [2, 0], 0.5)
    with pytest.raises(InvalidValueError, match="Colour cannot tell how well a picture fits a text"):
        GoalSimilarity(Colour(), "a", "b")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="finite and longer than 0"):
        reward([[0, 0]], [1, 0], [0, 1], 0.5)(FRAMES[:1])
    with pytest.raises(InvalidValueError, match="texts that say something"):
        GoalSimilarity(Table([[1, 0]], {}), " ", "b")
