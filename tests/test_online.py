"""A reward that is kept up with its policy cannot be hacked for long; and what its negatives are made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import mannwhitneyu

from assets.errors import InvalidValueError
from rewards.online import Clips, OnlineRewardTrainer, OtherGoal, OwnFailures, Refreshed, Rollouts, StopsShort
from rewards.preference import PreferenceReward

pytestmark = pytest.mark.usefixtures("one_thread")


def same(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def clips(count: int, length: int = 6, seed: int = 0) -> Clips:
    return np.random.default_rng(seed).normal(size=(count, length, 3)).astype(np.float32)


def certify(share: float) -> Callable[[Rollouts], NDArray[np.bool_]]:
    return lambda rollouts: np.arange(len(rollouts.features)) < share * len(rollouts.features)


class Lamp:
    """Time is spent on the task, share x, or on turning a lamp into the camera: (progress, glare) over 3 steps.

    The demonstrators' lamp told better than a noisy measure of progress how far they were, so a reward learned from them likes
    glare.
    """

    def demonstrated(self, count: int, rng: np.random.Generator) -> tuple[Clips, Clips, NDArray[np.int64]]:
        done = rng.random((2, count))
        progress = done + rng.normal(scale=0.3, size=done.shape)
        a, b = (np.repeat(np.stack([p, g], -1)[:, None], 3, axis=1) for p, g in zip(progress, done, strict=True))
        return a.astype(np.float32), b.astype(np.float32), np.where(done[1] > done[0], 1, -1)

    def roll(self, share: NDArray[np.float64]) -> Rollouts:
        t = np.arange(1, 4) / 3
        features = np.stack([share[:, None] * t, 3 * (1 - share[:, None]) * t], -1)
        return Rollouts(features.astype(np.float32), {"progress": features[..., 0]})


def succeeded(rollouts: Rollouts) -> NDArray[np.bool_]:
    return rollouts.state["progress"][:, -1] > 0.7


def optimise(model: PreferenceReward, refresh: OnlineRewardTrainer | None) -> tuple[list[float], list[float], list[float]]:
    """Success, AUROC of the reward on the policy's own rollouts, and the reward, by iteration of a cross-entropy method."""
    world, rng, mean = Lamp(), np.random.default_rng(0), 0.5
    success, auroc, proxy = [], [], []
    for _ in range(8):
        share = np.clip(rng.normal(mean, 0.2, size=64), 0, 1)
        rollouts = world.roll(share)
        if refresh is not None:
            refresh.update(rollouts)
        returns, right = model.returns(rollouts.features), succeeded(rollouts)
        if right.any() and not right.all():
            better = mannwhitneyu(returns[right], returns[~right]).statistic
            auroc.append(better / (right.sum() * (~right).sum()))
        success.append(right.mean())
        proxy.append(returns.mean())
        mean = share[np.argsort(returns)[-16:]].mean()
    return success, auroc, proxy


def test_a_refreshed_reward_is_not_hacked() -> None:
    static, refreshed = (PreferenceReward(2, hidden=(32,)) for _ in range(2))
    demonstrated = Lamp().demonstrated(300, np.random.default_rng(1))
    for model in (static, refreshed):
        model.fit(*demonstrated, np.random.default_rng(2), steps=150)
        assert model.accuracy(*demonstrated) > 0.9
    hacked, _, proxy = optimise(static, None)
    trainer = OnlineRewardTrainer(refreshed, succeeded, OwnFailures(), np.random.default_rng(3), steps=50)
    success, auroc, _ = optimise(refreshed, trainer)
    assert proxy[-1] > proxy[0]
    assert hacked[-1] < hacked[0]
    assert success[-1] >= hacked[-1] + 0.2
    assert min(auroc[1:]) >= 0.9


@settings(max_examples=10)
@given(st.integers(0, 10**6))
def test_without_a_certificate_nothing_changes(seed: int) -> None:
    model = PreferenceReward(3, seed=seed)
    rng = np.random.default_rng(seed)
    trainer = OnlineRewardTrainer(model, certify(0.0), StopsShort(), rng, steps=2)
    before, stream = model.state_dict(), rng.bit_generator.state
    told = trainer.update(Rollouts(clips(5, seed=seed)))
    assert told.certified == 0
    assert np.isnan(told.loss)
    assert same(model.state_dict(), before)
    assert rng.bit_generator.state == stream
    found = OnlineRewardTrainer(model, certify(0.4), StopsShort(), rng, steps=2).update(Rollouts(clips(5, seed=seed)))
    assert isinstance(found, Refreshed)
    assert found.certified == 2
    assert not same(model.state_dict(), before)


def test_it_learns_to_prefer_the_certified() -> None:
    model = PreferenceReward(3)
    trainer = OnlineRewardTrainer(model, certify(0.5), OwnFailures(), np.random.default_rng(0), steps=50)
    data = clips(40)
    data[:20] += np.array([0.5, 0, 0], np.float32)
    assert trainer.update(Rollouts(data)).loss > trainer.update(Rollouts(data)).loss
    returns = model.returns(data)
    assert returns[:20].mean() > returns[20:].mean() + 1


@settings(max_examples=30)
@given(st.integers(2, 12), st.floats(0.01, 0.99))
def test_stopping_short_repeats_what_was_before(length: int, share: float) -> None:
    certified = clips(3, length)
    wrong = StopsShort(share)(certified, certified[:0], np.random.default_rng(0))
    lost = int((wrong != certified).any(axis=(0, 2)).sum())
    assert 1 <= lost <= length - 1
    assert abs(lost - share * length) <= 1
    np.testing.assert_array_equal(wrong[:, : length - lost], certified[:, : length - lost])
    np.testing.assert_array_equal(wrong[:, length - lost :], np.repeat(certified[:, [length - lost - 1]], lost, axis=1))


@settings(max_examples=30)
@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 10**6))
def test_another_goal_is_that_of_another_rollout(right: int, others: int, seed: int) -> None:
    every = clips(right + others, seed=seed)
    if len(every) < 2:
        with pytest.raises(InvalidValueError, match="2 or more are needed"):
            OtherGoal([2])(every[:right], every[right:], np.random.default_rng(seed))
        return
    before = every.copy()
    wrong = OtherGoal([2])(every[:right], every[right:], np.random.default_rng(seed))
    np.testing.assert_array_equal(every, before)
    np.testing.assert_array_equal(wrong[..., :2], every[:right, :, :2])
    for i, clip in enumerate(wrong):
        donors = [j for j in range(len(every)) if np.array_equal(every[j, :, 2], clip[:, 2])]
        assert len(donors) == 1
        assert donors[0] != i


def test_own_failures_are_drawn_where_there_are_any() -> None:
    data, rng = clips(10), np.random.default_rng(0)
    wrong = OwnFailures()(data[:4], data[4:], rng)
    assert wrong.shape == (4, 6, 3)
    assert all(any(np.array_equal(w, other) for other in data[4:]) for w in wrong)
    np.testing.assert_array_equal(
        OwnFailures(StopsShort(0.3))(data, data[:0], rng), StopsShort(0.3)(data, data[:0], rng)
    )  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan")])
def test_a_share_is_between_nothing_and_all(share: float) -> None:
    with pytest.raises(InvalidValueError, match="share must be in"):
        StopsShort(share)


def test_bad_updates() -> None:
    rng = np.random.default_rng(0)

    def trainer(verifier: Any, corruptor: Any = StopsShort()) -> OnlineRewardTrainer:  # noqa: B008 - it is frozen
        return OnlineRewardTrainer(PreferenceReward(3), verifier, corruptor, rng)

    with pytest.raises(InvalidValueError, match=r"a verifier gives \(4,\) bool, got \(4,\) float64"):
        trainer(lambda _: np.ones(4)).update(Rollouts(clips(4)))
    with pytest.raises(InvalidValueError, match=r"a verifier gives \(4,\) bool, got \(3,\) bool"):
        trainer(lambda _: np.ones(3, bool)).update(Rollouts(clips(4)))
    with pytest.raises(InvalidValueError, match="features must be finite"):
        trainer(certify(1)).update(Rollouts(clips(4) * np.nan))
    with pytest.raises(InvalidValueError, match="of one shape"):
        trainer(certify(1), lambda right, others, rng: right[:1]).update(Rollouts(clips(4)))
    with pytest.raises(InvalidValueError, match="cannot stop short"):
        trainer(certify(1)).update(Rollouts(clips(4, length=1)))
