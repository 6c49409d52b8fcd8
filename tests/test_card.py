"""Report cards: what they say of rewards whose worth is known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from rewards.card import CHANGES, Footage, blind, card, is_blind


def shot(ends: list[float], seed: int = 0) -> Footage:
    """Videos of a brightness that grows to each of some ends; done is what reaches 0.9."""
    rng, frames, progress = np.random.default_rng(seed), [], []
    for end in ends:
        truth = np.linspace(0, end, 20)
        video = np.broadcast_to((30 + 200 * truth)[:, None, None, None], (20, 8, 8, 3))
        frames.append((video + rng.uniform(0, 3, video.shape)).astype(np.uint8))
        progress.append(truth)
    return Footage(frames, progress, np.array(ends) >= 0.9)


FOOTAGE = {"expert": shot([1.0, 0.95, 1.0]), "stopped": shot([0.4, 0.6, 0.3], 1), "clumsy": shot([0.5, 1.0, 0.7], 2)}


def bright(frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The truth, as seen."""
    return frames.mean(axis=(1, 2, 3)).astype(np.float32)


def test_a_reward_that_sees_the_truth_has_the_best_card() -> None:
    found = card(bright, FOOTAGE, np.random.default_rng(0))
    for key in (
        "voc",
        "kendall_tau",
        "kendall_tau_stopped",
        "success_auroc",
        "success_auroc_max",
        "success_auprc",
        "best_of_n",
    ):
        assert found[key] == pytest.approx(1, abs=0.02), key
    assert found["epic"] < 0.05
    assert found["best_of_n_random"] == pytest.approx(4 / 9)
    assert found["best_of_n_oracle"] == 1
    assert not is_blind(found)
    assert found["light_kendall_tau"] > 0.9


def test_a_reward_that_sees_nothing_is_told_so() -> None:
    found = card(lambda frames: np.zeros(len(frames), np.float32), FOOTAGE, np.random.default_rng(0))
    assert found["kendall_tau"] == found["blind_kendall_tau"] == 0
    assert found["success_auroc"] == 0.5
    assert found["best_of_n"] == pytest.approx(found["best_of_n_random"])
    assert is_blind(found)


def test_a_clock_is_no_eye() -> None:
    found = card(lambda frames: np.arange(len(frames), dtype=np.float32), FOOTAGE, np.random.default_rng(0))
    assert found["kendall_tau"] == pytest.approx(1)  # its own videos cannot tell it from sight
    assert found["blind_kendall_tau"] == pytest.approx(1)
    assert is_blind(found)


def test_the_opposite_of_the_truth() -> None:
    found = card(lambda frames: -bright(frames), FOOTAGE, np.random.default_rng(0))
    assert found["kendall_tau"] == pytest.approx(-1, abs=0.02)
    assert found["success_auroc"] < 0.02
    assert found["epic"] > 0.98


def test_changed_videos_keep_their_form() -> None:
    video = FOOTAGE["expert"].frames[0]
    for change in (*CHANGES.values(), blind):
        changed = change(video)
        assert changed.shape == video.shape
        assert changed.dtype == np.uint8
        assert (changed != video).any()
    assert np.ptp(blind(video)) == 0


TOLD = {
    name: Footage(way.frames, way.progress, way.success, [["far", "near"] * (len(p) // 2) for p in way.progress])
    for name, way in FOOTAGE.items()
}


def test_a_reward_of_something_else_than_pictures_has_a_control_of_its_own() -> None:
    """Truths are read instead of seen, and the control reads them backwards."""
    read = {name: Footage(way.frames, way.progress, way.success, way.progress) for name, way in FOOTAGE.items()}
    found = card(lambda truth: truth.astype(np.float32), read, np.random.default_rng(0), lambda truth: -truth)
    assert found["kendall_tau"] == pytest.approx(1)
    assert found["blind_kendall_tau"] == pytest.approx(-1)
    assert not any(key.startswith(("light_", "camera_", "texture_")) for key in found)
    nothing = card(
        lambda told: np.array([word == "near" for word in told], np.float32), TOLD, np.random.default_rng(0),
        lambda told: np.zeros(len(told), np.float32),
    )  # fmt: skip
    assert nothing["blind_success_auroc"] == 0.5


def test_what_is_refused() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(InvalidValueError, match="needs a control"):
        card(bright, TOLD, rng)
    with pytest.raises(InvalidValueError, match="needs a control"):
        card(bright, FOOTAGE, rng, bright)
    with pytest.raises(InvalidValueError, match="an entry for each frame"):
        Footage(FOOTAGE["expert"].frames, FOOTAGE["expert"].progress, FOOTAGE["expert"].success, [["far"]] * 3)
    with pytest.raises(InvalidValueError, match="'expert'"):
        card(bright, {"clumsy": FOOTAGE["clumsy"]}, rng)
    with pytest.raises(InvalidValueError, match=r"\(20,\)"):
        card(lambda frames: np.zeros((len(frames), 1), np.float32), FOOTAGE, rng)
    with pytest.raises(InvalidValueError, match="finite"):
        card(lambda frames: np.full(len(frames), np.nan, np.float32), FOOTAGE, rng)
    with pytest.raises(InvalidValueError, match="as many videos as truths"):
        Footage([FOOTAGE["expert"].frames[0]], [], np.array([True]))
