"""Reach by preferences: what judges are shown and say, what is paid, and a whole cell in small."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from benchmarks import reward_preference
from benchmarks.reward_preference import (
    GOAL,
    Answers,
    Scripted,
    Sight,
    Size,
    drawn,
    ensemble,
    features,
    main,
    measured,
    nearer,
    paired,
    past,
    pay_anew,
    reach,
)
from perception.vlm.judge import Judge
from rewards.transforms import finite

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = Size(rounds=2, moments=4, pairs=8, steps=32, fit_steps=20)


def moments(distances: Sequence[float]) -> dict[str, NDArray[Any]]:
    """The tool above the ball by so much, m."""
    ball = np.tile(np.array([[0.45, 0.0, 0.2]], np.float32), (len(distances), 1))
    return {"ball": ball, "tool": ball + np.array([[0, 0, d] for d in distances], np.float32)}


class Green:
    """Believes a claim about holding by how many green pixels there are in a picture."""

    def yes_probability(self, images: NDArray[np.uint8], questions: Sequence[str]) -> NDArray[np.float32]:
        red, green, _ = np.moveaxis(images.astype(int), -1, 0)
        share = (green > red + 40).mean(axis=(1, 2))
        return np.where([GOAL in question for question in questions], 0.1 + share, 0.9 - share).astype(np.float32)


def test_the_scripted_judge_errs_as_often_as_it_is_told() -> None:
    told = moments(np.linspace(0.01, 0.4, 50).tolist())
    a, b = paired(50, 4000, np.random.default_rng(0))
    true = nearer(told, a, b)
    assert (Scripted(0.0, 0)(told, a, b) == true).all()
    assert (Scripted(0.25, 0)(told, a, b) != true).mean() == pytest.approx(0.25, abs=0.03)
    assert true[np.argmax(a < b)] == -1  # the first of them is nearer, for distances rise


def test_pairs_are_of_different_moments() -> None:
    a, b = paired(3, 500, np.random.default_rng(0))
    assert (a != b).all()
    assert {*a.tolist(), *b.tolist()} == {0, 1, 2}
    assert len(np.unique(drawn(moments(np.arange(9) / 10), 9, np.random.default_rng(0))["tool"], axis=0)) == 9


def test_answers_are_counted_and_ties_are_no_answers() -> None:
    told, answers = moments([0.1, 0.2, 0.3]), Answers()
    a, b = np.array([0, 1, 2, 0]), np.array([1, 2, 0, 2])
    answers.ask(lambda *_: np.array([-1, 1, 0, 0], np.float32), told, a, b)
    answers.ask(lambda *_: np.array([-1, -1, 1, -1], np.float32), told, a, b)
    assert answers.measures() == {"judged_pairs": 8, "judge_accuracy": pytest.approx(5 / 6), "ties": 0.25}
    first, second, said = answers.pairs()
    silent = Answers()
    silent.ask(lambda *_: np.zeros(4, np.float32), told, a, b)
    assert silent.measures() == {"judged_pairs": 4, "judge_accuracy": 0.5, "ties": 1.0}
    assert first.shape == second.shape == (8, 1, 3)
    assert (first[0, 0] == features(told)[0]).all()
    assert said.tolist() == [-1, 1, 0, 0, -1, -1, 1, -1]


def test_an_ensemble_learns_nearness_from_a_judge_who_errs() -> None:
    rng = np.random.default_rng(0)
    ball = np.zeros((2000, 3), np.float32)
    told = {"ball": ball, "tool": rng.uniform(-0.3, 0.3, (2000, 3)).astype(np.float32)}
    answers, model = Answers(), ensemble(0)
    answers.ask(Scripted(0.25, 1), told, *paired(2000, 1200, rng))
    model.fit(*answers.pairs(), rng, steps=200)
    liked = model(features(told))
    distance = np.linalg.norm(told["tool"], axis=1)
    assert distance[liked.argmax()] < 0.05
    assert np.corrcoef(liked, -distance)[0, 1] > 0.8


def test_a_judge_sees_pictures_and_the_blind_one_grey() -> None:
    env = reach(4, "disabled")
    obs, _ = env.reset(seed=0)
    env.close()
    a, b = np.array([0, 1, 2]), np.array([1, 2, 3])
    for blind in (False, True):
        sight = Sight(Judge(Green()), 4, blind)
        try:
            left, right = sight.pictures(obs)
            said = sight(obs, a, b)
        finally:
            sight.close()
        assert left.shape == right.shape == (4, 128, 128, 3)
        assert blind == bool((left == 128).all())
        assert blind == bool((said == 0).all())
        if not blind:
            assert (left != right).any()
            assert ((left[..., 1].astype(int) - left[..., 0]) > 40).any()  # the ball


class Buffer:
    """As much of a replay buffer as is read."""

    def __init__(self) -> None:
        self.buffer_size, self.full, self.pos = 5, False, 2
        rows = moments(np.linspace(0, 0.9, 10).tolist())
        self.next_observations = {key: value.reshape(5, 2, 3) for key, value in rows.items()}
        self.rewards = np.full((5, 2), 7.0, np.float32)


def test_the_past_is_paid_anew_as_far_as_it_is_filled() -> None:
    buffer, model = Buffer(), ensemble(0)
    assert past(buffer)["tool"].shape == (4, 3)
    pay_anew(buffer, model)
    expected = model(features(moments(np.linspace(0, 0.9, 10).tolist())))
    assert buffer.rewards[:2].ravel() == pytest.approx(expected[:4])
    assert (buffer.rewards[2:] == 7).all()


def test_a_cell_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_preference, "JUDGED", 4)
    found = measured(tmp_path, "preference/scripted", 0, SMALL)
    assert found["judged_pairs"] == 16
    assert finite(list(found.values()), "cell").size == 8
    for name in ("preference/scripted", "preference/oracle"):
        assert len(json.loads((tmp_path / name / "curve-0.json").read_text())["curve"]) == 2


def test_what_is_there_is_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "preference" / "blind"
    place.mkdir(parents=True)
    (place / "cell-3.json").write_text(json.dumps({"policy_success_ever": 0.25}))
    assert main(["--cells", "preference/blind", "--seeds", "3", "--folder", str(tmp_path)]) == 0
    assert 'preference/blind, seed 3: {"policy_success_ever": 0.25}' in capsys.readouterr().err
    with pytest.raises(UnknownNameError, match="preference/blind"):
        main(["--cells", "preference/blnd", "--folder", str(tmp_path)])


def test_reach_can_be_told_and_seen_from_its_corners() -> None:
    env = reach(2, "disabled", cameras=["left"], observe=None, image_size=16)
    obs, info = env.reset(seed=0)
    assert set(obs) == {"left", "joints", "joint_velocity", "tool", "ball", "target"}
    assert obs["left"].shape == (2, 16, 16, 3)
    assert obs["ball"] == pytest.approx(info["state"]["ball"], abs=1e-6)
    env.close()
    with pytest.raises(InvalidValueError, match=r"with eye=true the eye is observed: cameras must be empty, got \['left'\]"):
        reach(1, "disabled", eye=True, cameras=["left"])
