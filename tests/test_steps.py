"""Rewards from a few demonstrations: steps, features, heads, and what they say of new videos."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau

from assets.errors import InvalidValueError, UnknownNameError
from rewards.segments import labels
from rewards.steps import StepReward

SIDE, STEPS = 12, 3


@dataclass
class Pixels:
    """Every pixel a feature."""

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images.reshape(len(images), -1).astype(np.float32)


def video(seed: int, length: int = 60, stops: int = STEPS) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
    """A square that lies in one corner after another, on noise; and which corner it is in. It stops after `stops` of them."""
    rng = np.random.default_rng(seed)
    cuts = np.array([0, *np.sort(rng.choice(np.arange(12, 48, 6), 2, replace=False))])
    step = np.minimum(labels(cuts, length), stops - 1)
    frames = rng.integers(0, 90, (length, SIDE, SIDE, 3)).astype(np.uint8)
    for t, number in enumerate(step):
        row, column = divmod(int(number), 2)
        frames[t, 6 * row + 1 : 6 * row + 5, 6 * column + 1 : 6 * column + 5, 0] += 120
    return frames, step


@pytest.fixture(scope="module", params=["gaussian", "linear"])
def reward(request: pytest.FixtureRequest) -> StepReward:
    found = StepReward(Pixels(), STEPS, count=16, head=request.param)  # as many pixels as the square has
    starts = found.fit([video(seed, 50 + 3 * seed)[0] for seed in range(5)])
    for seed, begins in enumerate(starts):
        true = video(seed, 50 + 3 * seed)[1]
        assert (labels(begins, len(true)) == true).mean() > 0.95
    return found


def test_a_new_video_is_worth_more_the_further_it_comes(reward: StepReward) -> None:
    taus = []
    for seed in range(100, 110):
        frames, step = video(seed)
        worth = reward(frames)
        assert worth.shape == (60,)
        assert worth.dtype == np.float32
        assert worth.min() >= 0
        assert worth.max() <= 1
        taus.append(kendalltau(worth, step).statistic)
    assert np.mean(taus) > 0.6  # ties within a step keep it from 1


def test_steps_are_told_apart(reward: StepReward) -> None:
    frames, step = video(200)
    scores = reward.scores_of(Pixels().embed(frames))
    assert (scores.argmax(axis=1) == step).mean() > 0.95
    assert ((scores > 0.5).argmax(axis=1) == step).mean() > 0.9


def test_what_hides_a_part_does_not_decide() -> None:
    reward = StepReward(Pixels(), STEPS, count=16, head="gaussian")
    reward.fit([video(seed, 50 + 3 * seed)[0] for seed in range(5)])
    frames, step = video(600)
    frames[:, 1:3] = frames[:, 7:9] = 255  # half of every square, wherever it is
    found = reward(frames)
    assert kendalltau(found, step).statistic > 0.7
    assert found[step == STEPS - 1].mean() > 0.2
    assert found[step == 0].mean() < 0.05  # what hides it is like no step


def test_a_task_left_undone_is_worth_less(reward: StepReward) -> None:
    ends = [np.mean([reward(video(seed, stops=k)[0])[-5:].mean() for seed in range(300, 305)]) for k in (1, 2, 3)]
    assert ends[0] < 0.2 * ends[2]
    assert ends[1] < 0.6 * ends[2]  # a step is worth twice the one before


def test_it_is_causal_and_pure(reward: StepReward) -> None:
    frames, _ = video(400)
    whole = reward(frames)
    np.testing.assert_array_equal(whole[:20], reward(frames[:20]))
    np.testing.assert_array_equal(whole[::-1], reward(frames[::-1]))


def test_state_comes_back(reward: StepReward) -> None:
    other = StepReward(Pixels(), STEPS, count=16, head=reward.head)
    other.load_state_dict(reward.state_dict())
    frames, _ = video(500)
    np.testing.assert_array_equal(other(frames), reward(frames))
    with pytest.raises(InvalidValueError, match="2 steps"):
        StepReward(Pixels(), 2, head=reward.head).load_state_dict(reward.state_dict())


def test_features_are_those_that_tell_a_step() -> None:
    rng = np.random.default_rng(0)
    rows: list[NDArray[Any]] = []
    for _ in range(4):
        step = np.repeat([0, 1], 20)
        told = rng.normal(size=(40, 100))
        told[:, 7] += 9 * step
        told[:, 50] -= 9 * step
        told[:, 99] = 5.0  # never changes
        rows.append(told)
    reward = StepReward(Pixels(), steps=2, count=2)
    reward.fit_features(rows)
    assert {tuple(sorted(c)) for c in reward.state_dict()["chosen"].tolist()} == {(7, 50)}


def test_what_is_refused() -> None:
    reward = StepReward(Pixels(), STEPS)
    with pytest.raises(InvalidValueError, match="at least 2 demonstrations"):
        reward.fit([video(0)[0]])
    with pytest.raises(InvalidValueError, match="one size"):
        reward.fit([video(0)[0], video(1)[0][:, :6]])
    with pytest.raises(InvalidValueError, match="constant video"):
        reward.fit([video(0)[0], np.zeros_like(video(1)[0])])
    with pytest.raises(InvalidValueError, match="not learned"):
        reward(video(0)[0])
    with pytest.raises(UnknownNameError, match="gaussian"):
        StepReward(Pixels(), head="gauss")
    with pytest.raises(InvalidValueError, match="steps must be >= 2"):
        StepReward(Pixels(), 1)
    reward.fit_features([np.random.default_rng(i).normal(size=(30, 4)) for i in range(2)])
    with pytest.raises(InvalidValueError, match="finite"):
        reward.of_features(np.full((1, 4), np.nan))
    with pytest.raises(InvalidValueError, match=r"\(N, 4\)"):
        reward.of_features(np.zeros((1, 5)))
