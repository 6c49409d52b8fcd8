"""Three rewards out of late labels: what each makes of keys it never had a label for, of wrong labels, and of its own past."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import kendalltau

from assets.errors import InvalidValueError, UnknownNameError
from perception.text import embed
from rewards.annotation import AsyncAnnotator
from rewards.base import Learned
from rewards.distillation import Distillation
from rewards.intrinsic import ClassifierReward, IntrinsicReward, RankingReward, RetrievalReward

pytestmark = pytest.mark.usefixtures("one_thread")

Array = NDArray[np.float32]
FAST = Distillation(hidden=(32,), lr=3e-3, batch_size=64)


def same(a: dict[str, NDArray[Any]], b: dict[str, NDArray[Any]]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


def cloud(count: int, size: int = 4, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(count, size)).astype(np.float32)


def tau(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.asarray(kendalltau(a, b))[0])


def feed(reward: Any, features: Array, labels: dict[Any, float], arrivals: int) -> list[float]:
    """Show everything, then let labels arrive in so many parts; the losses."""
    reward(range(len(features)), features)
    items, losses = list(labels.items()), []
    for part in np.array_split(np.arange(len(items)), arrivals):
        losses.append(reward.update(dict(items[i] for i in part)).loss)
    return losses


@pytest.mark.parametrize(
    "reward", [RetrievalReward(), ClassifierReward(4, how=FAST), RankingReward(4, how=FAST)], ids=lambda r: type(r).__name__
)
def test_the_three_are_of_one_kind_and_pay_nothing_before_labels(reward: Any) -> None:
    assert isinstance(reward, IntrinsicReward)
    assert isinstance(reward, Learned)
    found = reward(["a", 2, ("c", b"d")], cloud(3))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [0, 0, 0])
    told = reward.update({})
    assert (told.labels, told.unused) == (0, 0)
    np.testing.assert_array_equal(reward(["a", 2, ("c", b"d")], cloud(3)), [0, 0, 0])


@given(st.dictionaries(st.text(max_size=3), st.sampled_from([0.0, 1.0, -2.5])), st.lists(st.text(max_size=3)))
@settings(max_examples=50)
def test_retrieval_is_a_table_with_nothing_for_the_unseen(labels: dict[str, float], asked: list[str]) -> None:
    reward, other = RetrievalReward(), RetrievalReward()
    assert reward.update(labels).labels == len(labels)
    found = reward(asked, np.zeros((len(asked), 2), np.float32))
    assert found.dtype == np.float32
    assert found.tolist() == [labels.get(key, 0.0) for key in asked]
    other.load_state_dict(reward.state_dict())
    np.testing.assert_array_equal(other(asked), found)


@given(st.dictionaries(st.text(max_size=3), st.sampled_from([0.0, 1.0, -2.5])), st.lists(st.text(max_size=3)))
@settings(max_examples=50)
def test_retrieval_may_pay_for_the_unseen_until_its_label_comes(labels: dict[str, float], asked: list[str]) -> None:
    reward = RetrievalReward(unknown=1.0)
    assert reward(asked).tolist() == [1.0] * len(asked)
    reward.update(labels)
    assert reward(asked).tolist() == [labels.get(key, 1.0) for key in asked]
    for unknown in (float("nan"), float("inf")):
        with pytest.raises(InvalidValueError, match=f"unknown must be a finite number, got {unknown}"):
            RetrievalReward(unknown)


def test_retrieval_takes_the_later_label_and_no_nonsense() -> None:
    reward = RetrievalReward()
    reward.update({"a": 1.0, "b": 1.0})
    reward.update({"a": 0.0})
    assert reward(["a", "b", "c"]).tolist() == [0, 1, 0]
    with pytest.raises(InvalidValueError, match="labels must be finite numbers, got nan for 'c'"):
        reward.update({"c": float("nan")})
    assert reward(["c"]).tolist() == [0]


SEEN = (
    "the gripper {verb} the {colour} {noun}",
    "{verb} {colour} {noun}",
    "a robot {verb} a {colour} {noun} on the table",
    "one can see that the hand {verb} the {colour} {noun}",
    "it {verb} some {colour} {noun} near the door",
    "the camera shows how it {verb} this {colour} {noun}",
)
HELD_OUT = "in this picture an arm {verb} the {colour} {noun}"
WORDS = (("grasps", "lifts", "leaves", "drops"), ("red", "green", "blue", "black"), ("cube", "ball", "cup"))


def captions(template: str) -> dict[str, float]:
    """Captions of a template, and whether they help to pick up what is red or blue."""
    found = {}
    for verb, colour, noun in itertools.product(*WORDS):
        helpful = verb in ("grasps", "lifts") and colour in ("red", "blue")
        found[template.format(verb=verb, colour=colour, noun=noun)] = float(helpful)
    return found


def test_a_classifier_knows_captions_of_a_template_it_never_had_labels_for() -> None:
    reward = ClassifierReward(64, how=FAST)
    for template in SEEN:
        labels = captions(template)
        reward(list(labels), embed(list(labels)))
        told = reward.update(labels)
        assert (told.labels, told.unused) == (48, 0)
    new = captions(HELD_OUT)
    found = reward(list(new), embed(list(new)))
    assert set(found.tolist()) == {0.0, 1.0}
    right = found == np.array(list(new.values()))
    assert right.mean() >= 0.9
    assert right[found == 0].mean() >= 0.8
    assert right[found == 1].mean() >= 0.8


def test_a_classifier_learns_with_the_settings_of_the_paper() -> None:
    features = cloud(1500, 8)
    truth = (features[:, 0] * features[:, 1] > 0).astype(float)
    reward = ClassifierReward(8)
    losses = feed(reward, features[:1000], dict(enumerate(truth[:1000])), 5)
    assert losses[-1] < losses[0]
    assert (reward(range(1000, 1500), features[1000:]) == truth[1000:]).mean() >= 0.9


@pytest.mark.parametrize("eta", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_the_threshold_is_on_the_probability(eta: float) -> None:
    features = cloud(200)
    reward = ClassifierReward(4, eta=eta, how=FAST)
    feed(reward, features, {k: float(f[0] > 0) for k, f in enumerate(features)}, 1)
    p = reward.probability(features)
    assert ((p > 0) & (p < 1)).all()
    np.testing.assert_array_equal(reward(range(200), features), p > eta)


def compared(worth: Array, pairs: NDArray[np.intp], flips: float, rng: np.random.Generator) -> dict[tuple[int, int], float]:
    """-1, 0 or +1 for each pair by hidden worth, near ones are ties, and a share turned over."""
    apart = worth[pairs[:, 1]] - worth[pairs[:, 0]]
    said = np.where(np.abs(apart) < 0.05, 0, np.sign(apart)) * np.where(rng.random(len(pairs)) < flips, -1, 1)
    return {(int(a), int(b)): float(s) for (a, b), s in zip(pairs, said, strict=True)}


@pytest.mark.parametrize("seed", [0, 1])
def test_ranking_finds_a_hidden_scale_though_a_fifth_of_the_labels_is_wrong(seed: int) -> None:
    rng = np.random.default_rng(seed)
    features = cloud(300, 6, seed)
    worth = features @ rng.normal(size=6).astype(np.float32)
    pairs = rng.permutation(200)[rng.integers(200, size=(1000, 2))]
    labels = compared(worth, pairs[pairs[:, 0] != pairs[:, 1]], 0.2, rng)
    assert 0.15 < np.mean([s * (worth[b] - worth[a]) < 0 for (a, b), s in labels.items()]) < 0.25
    reward = RankingReward(6, threshold=-np.inf, how=replace(FAST, lr=1e-3))
    feed(reward, features[:200], labels, 8)
    assert tau(reward(range(300), features), worth) >= 0.8
    assert tau(reward.normalised(features[200:]), worth[200:]) >= 0.8  # never seen in a pair


def test_ranking_learns_with_the_settings_of_the_paper() -> None:
    rng = np.random.default_rng(0)
    features = cloud(200, 4)
    labels = compared(features[:, 0], rng.integers(200, size=(600, 2)), 0.0, rng)
    reward = RankingReward(4)
    feed(reward, features, labels, 3)
    found = reward(range(200), features)
    assert (found >= -0.5).all()
    assert (found == 0).any()
    assert tau(found[found != 0], features[found != 0, 0]) >= 0.8


def test_ranking_is_normalised_by_what_it_was_asked_and_cut_off_below() -> None:
    features = cloud(400)
    labels = {(i, i + 1): float(np.sign(features[i + 1, 0] - features[i, 0])) for i in range(0, 200, 2)}
    free, cut = RankingReward(4, threshold=-np.inf, how=FAST), RankingReward(4, how=FAST)
    for reward in (free, cut):
        feed(reward, features[:200], labels, 1)
    parts = [(range(i, i + 100), features[i : i + 100]) for i in range(0, 400, 100)]
    for keys, rows in parts:
        cut(keys, rows)
        free(keys, rows)
    whole = free.normalised(features)
    assert whole.mean() == pytest.approx(0, abs=1e-4)
    assert whole.std() == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(cut.normalised(features), np.where(whole >= -0.5, whole, 0))
    assert 0.1 < (whole < -0.5).mean() < 0.5  # something was cut off
    before = free.state_dict()
    free.normalised(features + 1)
    assert same(free.state_dict(), before)  # an evaluation does not count
    free(range(400), features + 1)
    assert not np.array_equal(free.state_dict()["moments"], before["moments"])


def test_one_key_alone_is_worth_nothing() -> None:
    reward = RankingReward(4, how=FAST)
    feed(reward, cloud(2), {(0, 1): 1.0}, 1)
    assert reward([0], cloud(1)).tolist() == [0.0]
    assert reward([], np.zeros((0, 4), np.float32)).shape == (0,)


def test_ties_pull_together() -> None:
    features = np.eye(2, dtype=np.float32)
    gaps = []
    for share in (0, 30):
        reward = RankingReward(2, threshold=-np.inf, how=Distillation((16,), lr=1e-2, batch_size=32, steps=200))
        many = np.repeat(features, 60, axis=0)
        labels = {(i, 60 + i): 1.0 for i in range(30)} | {(30 + i, 90 + i): 0.0 for i in range(share)}
        feed(reward, many, labels, 1)
        raw = reward._scale.each(features)[0] * reward._scale._scale
        gaps.append(raw[1] - raw[0])
    assert gaps[0] > 2 * gaps[1] > 0
    assert gaps[1] == pytest.approx(np.log(3), abs=0.3)  # half of P = 1 and half of P = 1/2 make P = 3/4


def test_pairs_are_drawn_of_what_was_seen() -> None:
    reward = RankingReward(4, how=FAST)
    assert reward.draw_pairs(5, np.random.default_rng(0)) == []
    reward(["a", "b", "c"], cloud(3))
    pairs = reward.draw_pairs(200, np.random.default_rng(0))
    assert set(pairs) == set(itertools.permutations("abc", 2))
    assert pairs == reward.draw_pairs(200, np.random.default_rng(0))


def test_labels_of_what_was_never_seen_are_counted() -> None:
    classifier, ranking = ClassifierReward(4, how=FAST), RankingReward(4, how=FAST)
    classifier(["a", "b"], cloud(2))
    ranking(["a", "b"], cloud(2))
    told = classifier.update({"a": 1.0, "z": 0.0})
    assert (told.labels, told.unused) == (1, 1)
    assert np.isfinite(told.loss)
    told = ranking.update({("a", "z"): 1.0})
    assert (told.labels, told.unused) == (0, 1)
    assert np.isnan(told.loss)


def test_what_was_not_seen_for_longest_is_forgotten() -> None:
    reward = ClassifierReward(4, how=replace(FAST, memory=2))
    reward(["a", "b"], cloud(2))
    reward(["a"], cloud(1))
    reward(["c"], cloud(1, seed=1))
    assert reward.update({"b": 1.0}).unused == 1
    assert reward.update({"a": 1.0, "c": 0.0}).labels == 2


def test_features_are_those_that_a_key_came_with_and_not_the_callers_array() -> None:
    features = cloud(1)
    reward = ClassifierReward(4, how=FAST)
    reward(["a"], features)
    first = features.copy()
    features[:] = 99
    reward(["a"], features)
    reward.update({"a": 1.0})
    np.testing.assert_array_equal(reward.state_dict()["rows"][0], first)


def test_the_network_is_asked_once_about_a_key_until_labels_come(monkeypatch: pytest.MonkeyPatch) -> None:
    features, reward = cloud(8), ClassifierReward(4, how=replace(FAST, memory=8))
    feed(reward, features, {k: float(k % 2) for k in range(8)}, 1)
    asked: list[int] = []
    network = reward.probability
    monkeypatch.setattr(reward, "probability", lambda rows: asked.append(len(rows)) or network(rows))
    first = reward([0, 1, 1, 2], features[[0, 1, 1, 2]])
    np.testing.assert_array_equal(first, reward([0, 1, 1, 2], features[[0, 1, 1, 2]]))
    np.testing.assert_array_equal(first, network(features[[0, 1, 1, 2]]) > 0.5)
    reward([2, 3], features[[2, 3]])
    assert asked == [3, 1]
    reward.update({0: 1.0})
    reward(range(8), features)
    reward([99], cloud(1, seed=1))  # one more than is remembered
    reward([0], features[:1])
    assert asked == [3, 1, 8, 1, 1]


def test_training_ends_with_so_many_labels() -> None:
    reward = ClassifierReward(4, how=replace(FAST, max_labels=5))
    reward(range(8), cloud(8))
    told = reward.update(dict.fromkeys(range(7), 1.0))
    assert (told.labels, told.unused) == (5, 2)
    before = reward.state_dict()
    told = reward.update({7: 1.0})
    assert (told.labels, told.unused) == (0, 1)
    assert same(reward.state_dict(), before)


@pytest.mark.parametrize("kind", [ClassifierReward, RankingReward])
def test_training_is_resumed_exactly(kind: Any) -> None:
    features = cloud(40)

    def labels(which: range) -> dict[Any, float]:
        if kind is ClassifierReward:
            return {k: float(features[k, 0] > 0) for k in which}
        return {(k, k + 1): float(np.sign(features[k + 1, 0] - features[k, 0])) for k in which}

    whole, first, second = (
        kind(4, how=replace(FAST, seed=3)),
        kind(4, how=replace(FAST, seed=3)),
        kind(4, how=replace(FAST, seed=3)),
    )
    for reward in (whole, first):
        reward(range(40), features)
        reward.update(labels(range(15)))
        reward(range(40), features)
    second.load_state_dict(first.state_dict())
    assert same(first.state_dict(), second.state_dict())
    for reward in (whole, second):
        reward.update(labels(range(15, 39)))  # their features were remembered over the break
        reward(range(10), features[:10])
    assert same(whole.state_dict(), second.state_dict())
    assert all(value.dtype.kind in "biuf" for value in whole.state_dict().values())


@pytest.mark.parametrize("kind", [ClassifierReward, RankingReward])
def test_a_state_that_is_not_complete_is_refused(kind: Any) -> None:
    state = kind(4, how=FAST).state_dict()
    with pytest.raises(InvalidValueError, match=r"labels are about \(., 5\) numbers, got \(., 4\)"):
        kind(5, how=FAST).load_state_dict(state)
    with pytest.raises(InvalidValueError, match="the network's arrays are"):
        kind(4, how=Distillation(hidden=(31,))).load_state_dict(state)
    for name in ("rows", "seen_keys", "updates") + (("moments",) if kind is RankingReward else ()):
        with pytest.raises(UnknownNameError, match=name):
            kind(4, how=FAST).load_state_dict({key: value for key, value in state.items() if key != name})


def test_a_ranking_is_no_classifier() -> None:
    with pytest.raises(InvalidValueError, match=r"labels are about \(1, 4\) numbers, got \(2, 4\)"):
        ClassifierReward(4, how=FAST).load_state_dict(RankingReward(4, how=FAST).state_dict())


def test_a_state_with_more_labels_than_are_learned_from_is_kept_as_it_is() -> None:
    many, few = ClassifierReward(4, how=FAST), ClassifierReward(4, how=replace(FAST, max_labels=2))
    many(range(6), cloud(6))
    many.update(dict.fromkeys(range(4), 1.0))
    few.load_state_dict(many.state_dict())
    assert few.update({4: 1.0, 5: 0.0}).unused == 2
    assert same(few.state_dict(), many.state_dict())


class Sceptic:
    """Helpful is what is right of zero; comparisons by the first number. It says what it was asked about."""

    def __init__(self, features: Array) -> None:
        self.features = features

    def label(self, keys: list[int]) -> list[float]:
        return [float(self.features[key, 0] > 0) for key in keys]

    def prefer(self, pairs: list[tuple[int, int]]) -> list[float]:
        return [float(np.sign(self.features[b, 0] - self.features[a, 0])) for a, b in pairs]


def test_with_an_annotator_in_the_background() -> None:
    features, rng = cloud(300), np.random.default_rng(0)
    sceptic, classifier, ranking = Sceptic(features), ClassifierReward(4, how=FAST), RankingReward(4, how=FAST)
    with AsyncAnnotator(sceptic.label, 20) as labels, AsyncAnnotator(sceptic.prefer, 20) as preferences:
        for step in range(10):
            keys = range(20 * step, 20 * step + 20)
            classifier(keys, features[keys])
            ranking(keys, features[keys])
            labels.submit(keys)
            preferences.submit(ranking.draw_pairs(20, rng))
            assert classifier.update(labels.poll(patience=5.0)).unused == 0
            assert ranking.update(preferences.poll(patience=5.0)).unused == 0
        for annotator, reward in ((labels, classifier), (preferences, ranking)):
            while annotator.pending:
                reward.update(annotator.poll(patience=5.0))
            reward.update(annotator.poll())
    unseen = range(200, 300)
    assert (classifier(unseen, features[unseen]) == (features[unseen, 0] > 0)).mean() >= 0.85
    assert tau(ranking.normalised(features[unseen]), features[unseen, 0]) > 0.5


@pytest.mark.parametrize("kind", [ClassifierReward, RankingReward])
def test_bad_calls(kind: Any) -> None:
    reward = kind(4, how=FAST)
    with pytest.raises(InvalidValueError, match="as many keys as features are needed, got 2 and 3"):
        reward(["a", "b"], cloud(3))
    with pytest.raises(InvalidValueError, match=r"features must be \(N, F\) with F = 4"):
        reward(["a"], cloud(1, 5))
    with pytest.raises(InvalidValueError, match="features must be finite"):
        reward(["a"], np.full((1, 4), np.nan))


def test_bad_labels() -> None:
    classifier, ranking = ClassifierReward(4, how=FAST), RankingReward(4, how=FAST)
    for label in (0.5, float("nan"), -1):
        with pytest.raises(InvalidValueError, match=f"a classifier's labels are 0 and 1, got {label} for 'a'"):
            classifier.update({"a": label})
    for key, label in (("a", 1.0), (("a", "b", "c"), 1.0), (("a", "b"), 0.5), (("a", "b"), float("nan"))):
        with pytest.raises(InvalidValueError, match="a ranking's labels are -1"):
            ranking.update({key: label})


@pytest.mark.parametrize(
    ("kind", "option", "sentence"),
    [
        (ClassifierReward, {"eta": 1.5}, "eta must be in"),
        (RankingReward, {"threshold": float("nan")}, "threshold must be a number"),
        (ClassifierReward, {"how": Distillation(lr=-1.0)}, "lr must be > 0"),
        (RankingReward, {"how": Distillation(hidden=())}, "hidden widths"),
    ],
)
def test_options_out_of_range(kind: Any, option: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        kind(4, **option)


@pytest.mark.parametrize("option", ["steps", "batch_size", "max_labels", "memory"])
def test_distillation_counts_from_one(option: str) -> None:
    with pytest.raises(InvalidValueError, match=r"steps, batch_size, max_labels and memory must be >= 1, got .*0"):
        replace(FAST, **{option: 0})
