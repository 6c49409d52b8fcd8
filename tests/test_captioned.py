"""Words that a judge finds helpful are paid, once an episode, and nobody waits for the judge."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from assets.errors import InvalidValueError
from rewards.annotation import AsyncAnnotator
from rewards.base import Episodic, Learned, Transition, WeightedSum
from rewards.captioned import CaptionReward
from rewards.distillation import Distillation
from rewards.intrinsic import ClassifierReward, RankingReward, RetrievalReward

pytestmark = pytest.mark.usefixtures("one_thread")

WORDS = ("the hand is far from the cube", "the hand is at the cube", "the cube is held")


def batch(*numbers: int) -> Transition:
    """Simulations in which these words are to be said."""
    count = len(numbers)
    state = {"word": np.array(numbers)}
    return Transition({}, np.zeros((count, 0), np.float32), state, {}, np.zeros(count, bool), [""] * count)


def captioner(transition: Transition) -> list[str]:
    return [WORDS[k] for k in transition.quantity("word")]


def label(asked: list[str]) -> list[float]:
    return [float(WORDS.index(caption) > 0) for caption in asked]


def prefer(asked: list[tuple[str, str]]) -> list[float]:
    return [float(np.sign(WORDS.index(b) - WORDS.index(a))) for a, b in asked]


def settle(reward: CaptionReward) -> None:
    """Let everything that waits be judged and learned."""
    until = time.monotonic() + 20
    while reward.annotator and reward.annotator.pending:
        assert time.monotonic() < until
        time.sleep(0.005)


def test_words_may_be_paid_before_anybody_has_judged_them() -> None:
    with AsyncAnnotator(label) as annotator:
        reward = CaptionReward(captioner, RetrievalReward(unknown=1.0), annotator, every=1)
        assert reward(batch(0, 1)).tolist() == [1, 1]
        settle(reward)
        reward(batch(0, 1))  # takes the labels in
        reward.reset(np.arange(2))
        assert reward(batch(0, 1)).tolist() == [0, 1]


def test_words_are_worth_their_label_and_less_each_time() -> None:
    with AsyncAnnotator(label) as annotator:
        reward = CaptionReward(captioner, RetrievalReward(), annotator, every=1)
        assert reward(batch(0, 1)).tolist() == [0, 0]  # nobody has said anything yet
        settle(reward)
        reward(batch(0, 0))  # takes the labels in
        reward.reset(np.arange(2))
        assert reward(batch(1, 1)).tolist() == [1, 1]
        reward.reset(np.array([1]))
        np.testing.assert_allclose(reward(batch(1, 1)), [1 / 8, 1])
        np.testing.assert_allclose(reward(batch(0, 1)), [0, 1 / 8])
        assert reward(batch(2, 2)).tolist() == [0, 0]  # new words


def test_the_annotator_is_visited_every_so_often_and_hears_each_word_once() -> None:
    asked: list[str] = []

    def judge(captions: list[str]) -> list[float]:
        asked.extend(captions)
        return label(captions)

    with AsyncAnnotator(judge) as annotator:
        reward = CaptionReward(captioner, RetrievalReward(), annotator, every=3)
        for _ in range(2):
            reward(batch(0, 1, 0))
        assert annotator.pending == 0
        assert not asked
        reward(batch(1, 2, 0))
        settle(reward)
        for _ in range(6):
            reward(batch(0, 1, 2))
        settle(reward)
    assert sorted(asked) == sorted(WORDS)


@pytest.mark.parametrize("kind", [ClassifierReward, RankingReward])
def test_networks_learn_the_words(kind: Any) -> None:
    intrinsic = kind(64, how=Distillation(hidden=(16,), lr=1e-2, batch_size=16, steps=100))
    with AsyncAnnotator(prefer if kind is RankingReward else label) as annotator:
        reward = CaptionReward(captioner, intrinsic, annotator, every=1, pairs=10, exponent=0.0)
        for _ in range(6):
            reward(batch(0, 1, 2))
            settle(reward)
        found = reward(batch(0, 1, 2))
    assert reward.told.labels > 0
    if kind is ClassifierReward:
        assert found.tolist() == [0, 1, 1]
    else:
        assert found[0] == 0
        assert found[0] < found[1] < found[2]


def test_a_ranking_is_not_asked_for_more_than_it_waits_for() -> None:
    def judge(pairs: list[tuple[str, str]]) -> list[float]:
        time.sleep(0.2)
        return prefer(pairs)

    with AsyncAnnotator(judge, batch_size=1) as annotator:
        reward = CaptionReward(captioner, RankingReward(64, how=Distillation(hidden=(4,))), annotator, every=1, pairs=1)
        for _ in range(30):
            reward(batch(0, 1, 2))
            assert annotator.pending <= 2


def test_nobody_waits_for_a_slow_judge() -> None:
    def judge(captions: list[str]) -> list[float]:
        time.sleep(0.5)
        return label(captions)

    waits = []
    for _ in range(3):  # the machine may take the processor away in between
        with AsyncAnnotator(judge) as annotator:
            reward = CaptionReward(captioner, RetrievalReward(), annotator, every=1)
            began = time.perf_counter()
            for _ in range(20):
                reward(batch(0, 1, 2))
            waits.append(time.perf_counter() - began)
            assert annotator.batches == 0
    assert min(waits) < 0.25


def test_it_is_a_term_among_others_whose_memory_and_learning_are_handed_on() -> None:
    intrinsic, other = RetrievalReward(), RetrievalReward()
    intrinsic.update({WORDS[2]: 1.0})
    total = WeightedSum({"opinion": CaptionReward(captioner, intrinsic)}, {"opinion": 0.5})
    assert isinstance(total, Episodic)
    assert isinstance(total, Learned)
    assert total(batch(2)).tolist() == [0.5]
    again = WeightedSum({"opinion": CaptionReward(captioner, other)}, {"opinion": 0.5})
    again.load_state_dict(total.state_dict())
    assert again(batch(2)).tolist() == [0.5 / 8]  # it was met once before
    again.reset(np.array([0]))
    assert again(batch(2)).tolist() == [0.5]


@pytest.mark.parametrize("option", [{"every": 0}, {"pairs": 0}])
def test_options_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match="every and pairs must be >= 1"):
        CaptionReward(captioner, RetrievalReward(), **option)
