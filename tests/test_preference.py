"""Preferences become rewards: laws of the ensemble, what is learned from how many pairs, and that training can be resumed."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import Images
from rewards.base import Learned, OfFrames
from rewards.preference import OnFrames, PreferenceReward

pytestmark = pytest.mark.usefixtures("one_thread")

Pairs = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int64]]


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def prefer(weights: Any, count: int, random: np.random.Generator, length: int = 1) -> Pairs:
    """Clips of uniform features and what somebody prefers who adds them up with these weights."""
    clips = random.random((2, count, length, len(weights))).astype(np.float32)
    a, b = (clips @ np.asarray(weights)).sum(-1)
    return clips[0], clips[1], np.where(b > a, 1, -1)


def same(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def test_preferences_between_clips_become_a_reward_of_frames() -> None:
    weights = (2.0, -1.0, 0.5)
    model = PreferenceReward(3)
    fitted = model.fit(*prefer(weights, 500, rng(), length=8), rng(1), held_out=0.2)
    assert (fitted.pairs, fitted.ties) == (400, 0)
    assert fitted.accuracy > 0.9
    frames = rng(2).random((500, 3))
    assert np.corrcoef(model(frames), frames @ np.array(weights))[0, 1] > 0.95
    assert model.accuracy(*prefer(weights, 500, rng(3), length=8)) > 0.9


@pytest.mark.parametrize("aggregate", ["sum", "mean"])
def test_a_return_is_the_sum_or_the_mean_of_rewards(aggregate: Literal["sum", "mean"]) -> None:
    model = PreferenceReward(2, aggregate=aggregate)
    clips = rng().normal(size=(5, 4, 2)).astype(np.float32)
    rewards = model(clips.reshape(-1, 2)).reshape(5, 4)
    np.testing.assert_allclose(model.returns(clips), getattr(rewards, aggregate)(axis=1), rtol=1e-5, atol=1e-6)


def test_the_first_loss_is_that_of_the_equation() -> None:
    a, b, preference = prefer((1.0, 1.0), 64, rng(), length=3)
    model = PreferenceReward(2, members=1, lr=1e-12)
    found = model.fit(a, b, preference, rng(1), steps=200, batch_size=64).loss
    apart = preference * (model.returns(b) - model.returns(a)).astype(np.float64)
    assert found == pytest.approx(np.log1p(np.exp(-apart)).mean(), abs=5e-3)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([1, 3]))
def test_members_disagree_where_there_are_several(seed: int, members: int) -> None:
    model = PreferenceReward(2, members=members, seed=seed)
    features = rng(seed).normal(size=(6, 2))
    each = model.each(features)
    assert each.shape == (members, 6)
    assert (np.abs(each) <= 1).all()
    np.testing.assert_allclose(model(features), each.mean(0), atol=1e-6)
    np.testing.assert_allclose(model.disagreement(features), each.std(0), atol=1e-6)
    assert (model.disagreement(features) > 0).all() == (members > 1)
    apart = model.pair_disagreement(features[:3, None].astype(np.float32), features[3:, None].astype(np.float32))
    expected = (1 / (1 + np.exp(each[:, :3] - each[:, 3:]))).std(0)
    np.testing.assert_allclose(apart, expected, atol=1e-6)


def test_members_agree_about_what_they_have_seen() -> None:
    model = PreferenceReward(2)
    model.fit(*prefer((1.0, 1.0), 300, rng()), rng(1))
    inside, outside = rng(2).random((300, 2)), np.array([[-3.0, 4.0], [4.0, -3.0], [3.0, -3.0]])
    assert model.disagreement(outside).mean() > 3 * model.disagreement(inside).mean()


def test_standardised_members_have_mean_zero_and_spread_one() -> None:
    model = PreferenceReward(2, output="standardised")
    a, b, preference = prefer((1.0, -3.0), 200, rng(), length=2)
    model.fit(a, b, preference, rng(1), steps=50)
    each = model.each(np.concatenate([a, b]).reshape(-1, 2))
    np.testing.assert_allclose(each.mean(1), 0, atol=1e-4)
    np.testing.assert_allclose(each.std(1), 1, atol=1e-4)


def test_probabilities_are_those_of_the_rewards_before_they_are_standardised() -> None:
    a, b = np.zeros((80, 1, 1), np.float32), np.ones((80, 1, 1), np.float32)
    preference = np.where(np.arange(80) % 4, 1, -1)
    model = PreferenceReward(1, members=2, output="standardised")
    model.fit(a, b, preference, rng(1), steps=200)
    for member in (0, 1):  # b was preferred in three of four; both members know
        apart = np.diff(model.each(np.array([[0.0], [1.0]]))[member])[0] * model.state_dict()["scale"][member]
        assert apart == pytest.approx(np.log(3), abs=0.3)
    assert model.pair_disagreement(a, b).max() < 0.05


def test_ties_are_dropped_and_counted_or_halved() -> None:
    a, b, preference = prefer((3.0, 0.0), 200, rng())
    ties = np.zeros(50, np.int64)
    same_a = np.concatenate([a, a[:50]]), np.concatenate([b, b[:50]]), np.concatenate([preference, ties])
    with_ties, without = PreferenceReward(2), PreferenceReward(2)
    fitted = with_ties.fit(*same_a, rng(1), steps=20)
    assert (fitted.pairs, fitted.ties) == (200, 50)
    without.fit(a, b, preference, rng(1), steps=20)
    assert same(with_ties.state_dict(), without.state_dict())
    halved = PreferenceReward(2, ties="half")
    assert halved.fit(*same_a, rng(1), steps=20).pairs == 250
    assert not same(halved.state_dict(), without.state_dict())


def test_halved_ties_bring_equals_together() -> None:
    a, b, preference = prefer((1.0, 0.0), 400, rng())
    tied = np.where(np.abs(a - b)[:, 0, 0] < 0.5, 0, preference)
    gaps = []
    for ties in ("drop", "half"):
        model = PreferenceReward(2, ties=ties, output="tanh")
        model.fit(a, b, tied, rng(1))
        gaps.append(np.abs(model.returns(a) - model.returns(b))[tied == 0].mean())
    assert gaps[1] < 0.9 * gaps[0]


def test_nothing_but_ties_changes_nothing() -> None:
    model = PreferenceReward(2)
    before = model.state_dict()
    a, b, preference = prefer((1.0, 0.0), 10, rng())
    fitted = model.fit(a, b, 0 * preference, rng())
    assert (fitted.pairs, fitted.ties) == (0, 10)
    assert np.isnan(fitted.loss)
    assert np.isnan(fitted.accuracy)
    assert same(model.state_dict(), before)


def test_what_a_feature_is_measured_in_does_not_matter() -> None:
    a, b, preference = prefer((1.0, -1.0), 200, rng())
    unit = np.array([1000.0, 0.01], np.float32)
    metres, other = PreferenceReward(2), PreferenceReward(2)
    metres.fit(a, b, preference, rng(1), steps=50)
    other.fit(a * unit + 5, b * unit + 5, preference, rng(1), steps=50)
    np.testing.assert_allclose(other(a[:, 0] * unit + 5), metres(a[:, 0]), atol=5e-3)


def test_a_feature_that_never_varied_is_no_trouble() -> None:
    a, b, preference = prefer((1.0, 0.0), 100, rng())
    a[..., 1] = b[..., 1] = 7
    model = PreferenceReward(2)
    assert model.fit(a, b, preference, rng(1), held_out=0.3).accuracy > 0.8
    assert np.isfinite(model(np.array([[0.5, 8.0]]))).all()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.sampled_from([-1, 0, 1]), min_size=3, max_size=3))
def test_signs_hold_everywhere(seed: int, signs: list[int]) -> None:
    model = PreferenceReward(3, signs=signs, hidden=(8, 8), seed=seed, lr=1e-2)
    random = rng(seed)
    model.fit(*prefer(random.normal(size=3), 30, random), random, steps=10)
    x = random.normal(size=(40, 3), scale=2)
    for k, sign in enumerate(signs):
        higher = x.copy()
        higher[:, k] += random.random(40)
        change = model.each(higher) - model.each(x)
        assert sign == 0 or (sign * change >= -1e-6).all()


# What somebody thinks of distance, contact, being upright, roughness, effort; the sixth does not matter.
TASTE = (-2.0, 1.0, 1.5, -0.7, -0.5, 0.0)


def test_few_pairs_are_enough_for_physical_features() -> None:
    model = PreferenceReward(6, hidden=(32,), signs=[-1, 1, 1, -1, -1, 0], output="standardised", sparsity=0.1, lr=3e-3)
    model.fit(*prefer(TASTE, 100, rng(5)), rng(6), steps=500)
    assert model.accuracy(*prefer(TASTE, 2000, rng(7))) >= 0.93
    x = rng(8).random((500, 6))
    without = x * (np.arange(6) != 5)
    assert np.abs(model(without) - model(x)).mean() < 0.01 * np.ptp(model(x))


def test_learned_signs_are_those_of_the_user() -> None:
    model = PreferenceReward(6, hidden=(32,), output="standardised", sparsity=0.03, lr=3e-3)
    model.fit(*prefer(TASTE, 200, rng(5)), rng(6), steps=400)
    x = rng(7).random((300, 6))
    for k, weight in enumerate(TASTE[:5]):
        step = 0.1 * (np.arange(6) == k)
        assert np.sign((model(x + step) - model(x)).mean()) == np.sign(weight)


def scene(state: NDArray[np.float64], size: int = 16) -> NDArray[np.uint8]:
    """A hand (red) and a thing (green), and a bar (blue) that leans: (N, 5) -> (N, size, size, 3)."""
    v, u = np.mgrid[:size, :size] / (size - 1)

    def disc(at: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.exp(-((u - at[:, 0, None, None]) ** 2 + (v - at[:, 1, None, None]) ** 2) / 0.01)

    lean = state[:, 4, None, None] * (v - 1)
    return (255 * np.stack([disc(state[:, :2]), disc(state[:, 2:4]), np.abs(u - 0.5 - lean) < 0.06], -1)).astype(np.uint8)


def physical(state: NDArray[np.float64]) -> NDArray[np.float32]:
    """Distance and lean."""
    return np.stack([np.linalg.norm(state[:, :2] - state[:, 2:4], axis=1), np.abs(state[:, 4])], -1).astype(np.float32)


class Picky(nn.Module):
    """A convolutional reward, trained on all pairs at once: what there is without physical features."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 1),
        )  # fmt: skip

    def forward(self, frames: NDArray[np.uint8]) -> torch.Tensor:
        return self.net(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)[:, 0]

    def fit(self, a: NDArray[np.uint8], b: NDArray[np.uint8], preference: NDArray[np.int64], steps: int = 250) -> None:
        adam, random = torch.optim.Adam(self.parameters(), 1e-3), rng()
        for _ in range(steps):
            i = random.integers(len(a), size=64)
            loss = nn.functional.softplus(-torch.from_numpy(preference[i]) * (self(b[i]) - self(a[i]))).mean()
            adam.zero_grad()
            loss.backward()
            adam.step()


def test_fifty_pairs_of_features_are_worth_a_thousand_pairs_of_pictures() -> None:
    random = rng(3)

    def draw(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
        a, b = (random.random((count, 5)) - np.array([0, 0, 0, 0, 0.5]) for _ in range(2))
        worth = [-2 * physical(x)[:, 0] - physical(x)[:, 1] for x in (a, b)]
        return a, b, np.where(worth[1] > worth[0], 1, -1)

    a, b, preference = draw(1000)
    test_a, test_b, test_preference = draw(1000)
    features = PreferenceReward(2, hidden=(32,), signs=[-1, -1], output="standardised", lr=3e-3)
    features.fit(physical(a[:50])[:, None], physical(b[:50])[:, None], preference[:50], rng(), steps=300)
    by_features = features.accuracy(physical(test_a)[:, None], physical(test_b)[:, None], test_preference)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pictures = Picky()
    pictures.fit(scene(a), scene(b), preference)
    with torch.no_grad():
        said = torch.sign(pictures(scene(test_b)) - pictures(scene(test_a))).numpy()
    by_pictures = (said == test_preference).mean()
    assert by_pictures > 0.7  # it is no straw man
    assert by_features >= by_pictures
    assert by_features > 0.93


def test_training_is_resumed_exactly() -> None:
    pairs = prefer((1.0, -1.0, 0.0), 100, rng())
    whole, first, second = (PreferenceReward(3, output="standardised", seed=seed) for seed in (0, 0, 5))
    whole.fit(*pairs, rng(1), steps=20)
    whole.fit(*pairs, rng(2), steps=20)
    first.fit(*pairs, rng(1), steps=20)
    second.load_state_dict(first.state_dict())
    assert same(first.state_dict(), second.state_dict())
    second.fit(*pairs, rng(2), steps=20)
    assert same(whole.state_dict(), second.state_dict())
    assert all(value.dtype.kind in "if" for value in whole.state_dict().values())


def test_a_state_is_a_copy() -> None:
    model = PreferenceReward(2)
    state = model.state_dict()
    before = {key: value.copy() for key, value in state.items()}
    model.fit(*prefer((1.0, 0.0), 20, rng()), rng(), steps=3)
    assert same(state, before)


def test_same_seeds_same_bytes() -> None:
    states = []
    for seed in (1, 1, 2):
        model = PreferenceReward(2, seed=seed)
        model.fit(*prefer((1.0, 0.0), 50, rng()), rng(4), steps=10, held_out=0.1)
        states.append(model.state_dict())
    assert same(states[0], states[1])
    assert not same(states[0], states[2])


class Pooled:
    """A frozen encoder: mean colours of the four quarters of a picture, 12 numbers."""

    size = 12

    def embed(self, images: Images) -> NDArray[np.float32]:
        n, height, width, _ = images.shape
        assert images.dtype == np.uint8
        quarters = images.reshape(n, 2, height // 2, 2, width // 2, 3).mean((2, 4)) / 255
        return quarters.reshape(n, 12).astype(np.float32)


def test_pictures_are_rewarded_through_a_frozen_encoder() -> None:
    encoder, random = Pooled(), rng()
    frames = random.integers(0, 256, (2, 300, 8, 8, 3), dtype=np.uint8)
    frames[:, :, :4, :4, 0] = random.integers(0, 256, (2, 300, 1, 1))
    red = frames[:, :, :4, :4, 0].mean((2, 3))
    reward = OnFrames(encoder, PreferenceReward(12, sparsity=0.05))
    a, b = (encoder.embed(x)[:, None] for x in frames)
    reward.reward.fit(a, b, np.where(red[1] > red[0], 1, -1), rng(1))
    found = reward(frames[0])
    assert found.shape == (300,)
    assert found.dtype == np.float32
    assert np.corrcoef(found, red[0])[0, 1] > 0.9
    whole = OfFrames(reward, "camera")
    other = OnFrames(encoder, PreferenceReward(12, seed=9))
    assert isinstance(whole, Learned)
    OfFrames(other, "camera").load_state_dict(whole.state_dict())
    np.testing.assert_array_equal(other(frames[0]), found)


def test_an_encoder_must_fit_its_reward() -> None:
    with pytest.raises(InvalidValueError, match="the encoder gives 12 features, the reward takes 3"):
        OnFrames(Pooled(), PreferenceReward(3))
    with pytest.raises(InvalidValueError, match="cannot give features of frames"):
        OnFrames(object(), PreferenceReward(3))  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match="images must be"):
        OnFrames(Pooled(), PreferenceReward(12))(np.zeros((2, 8, 8, 3)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"members": 0}, "members, features and every one"),
        ({"hidden": ()}, "members, features and every one"),
        ({"hidden": (8, 0)}, "members, features and every one"),
        ({"signs": [1, 1]}, "signs must be 3 of -1, 0 and 1"),
        ({"signs": [1, 2, 0]}, "signs must be 3 of -1, 0 and 1"),
        ({"sparsity": -0.1}, "sparsity must be >= 0"),
        ({"lr": 0.0}, "lr must be > 0"),
        ({"lr": float("nan")}, "lr must be > 0"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        PreferenceReward(3, **options)


@pytest.mark.parametrize(
    ("option", "name"), [("aggregate", "aggregate"), ("output", "output"), ("ties", "way with ties")]
)  # fmt: skip
def test_unknown_names(option: str, name: str) -> None:
    with pytest.raises(UnknownNameError, match=f"unknown {name} 'max'"):
        PreferenceReward(3, **{option: "max"})  # type: ignore[arg-type]


CLIP = np.zeros((4, 2, 3), np.float32)


@pytest.mark.parametrize(
    ("a", "b", "preference", "more", "sentence"),
    [
        (CLIP, CLIP[:3], np.ones(4), {}, "of one shape"),
        (CLIP, CLIP, np.ones(3), {}, "of one shape"),
        (CLIP, CLIP, 0.5 * np.ones(4), {}, "a preference is -1"),
        (CLIP, CLIP, np.full(4, np.nan), {}, "a preference is -1"),
        (CLIP + np.nan, CLIP, np.ones(4), {}, "features must be finite, got 24 NaN"),
        (CLIP, CLIP + np.inf, np.ones(4), {}, "features must be finite"),
        (CLIP[..., :2], CLIP[..., :2], np.ones(4), {}, r"features must be \(P, T, F\) with F = 3"),
        (CLIP[0], CLIP[0], np.ones(2), {}, r"features must be \(P, T, F\)"),
        (CLIP, CLIP, np.ones(4), {"held_out": 1.0}, "held_out must be in"),
        (CLIP, CLIP, np.ones(4), {"steps": -1}, "steps >= 0"),
        (CLIP, CLIP, np.ones(4), {"batch_size": 0}, "batch_size >= 1"),
    ],
)
def test_bad_pairs(a: Any, b: Any, preference: Any, more: dict[str, Any], sentence: str) -> None:
    model = PreferenceReward(3)
    before = model.state_dict()
    with pytest.raises(InvalidValueError, match=sentence):
        model.fit(a, b, preference, rng(), **more)
    assert same(model.state_dict(), before)


def test_bad_questions() -> None:
    model = PreferenceReward(3)
    with pytest.raises(InvalidValueError, match=r"features must be \(N, F\) with F = 3, got \(4, 2\)"):
        model(np.zeros((4, 2)))
    with pytest.raises(InvalidValueError, match="features must be finite"):
        model.disagreement(np.full((1, 3), np.nan))
    with pytest.raises(InvalidValueError, match="got 4 ties"):
        model.accuracy(CLIP, CLIP, np.zeros(4))


def test_the_state_of_another_network_is_refused() -> None:
    state = PreferenceReward(3, members=2).state_dict()
    with pytest.raises(InvalidValueError, match="the network's arrays are"):
        PreferenceReward(3).load_state_dict(state)
    del state["fits"]
    with pytest.raises(UnknownNameError, match="fits"):
        PreferenceReward(3, members=2).load_state_dict(state)
