"""Report cards of rewards that a judge taught."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

from benchmarks import reward_cards, rewards
from benchmarks.oni_captions import described
from benchmarks.reward_oni import Training, designed
from benchmarks.reward_preference import Size

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", ["oni/retrieval", "oni/ranking", "preference/scripted"])
def test_a_card_and_its_page(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_cards, "EPISODES", 4)
    monkeypatch.setattr(reward_cards, "Training", lambda: Training(steps=512, sims=8, length=24, episodes=3, piece=256))
    monkeypatch.setattr(reward_cards, "Size", lambda: Size(rounds=1, moments=4, pairs=8, steps=32, fit_steps=20))
    found = reward_cards.measured(argparse.Namespace(folder=tmp_path), name, 0)
    assert {"voc", "kendall_tau", "success_auroc", "blind_kendall_tau", "epic", "best_of_n"} <= found.keys()
    assert all(np.isfinite(value) for value in found.values())
    text = (tmp_path / name / "card" / "report.html").read_text()
    assert f"<title>{name}: report card</title>" in text
    assert text.count("<img") == 8  # two videos of each of four ways of acting


def test_a_video_has_one_describer_and_a_batch_one_each() -> None:
    zeros, no = np.zeros((3, 3)), np.zeros(3, bool)
    state = {"cube": zeros, "held": no, "tool": zeros, "goal": zeros + 0.1, "opening": zeros[:, :1], "over": no}
    assert len(set(described(state))) == 3
    assert len(set(reward_cards.told(state, 1))) == 1
    assert reward_cards.told(state, 1)[0] == described(state)[1]


def test_captions_that_say_nothing_are_all_worth_the_same() -> None:
    design = designed("oni/ranking", 0)
    assert design is not None
    assert np.ptp(reward_cards.worth_of_nothing(design, ["a", "b", "c"])) == 0


def test_every_card_is_published() -> None:
    assert {reward_cards.name_of(name) for name in reward_cards.ROWS} <= set(rewards.OTHERS)
