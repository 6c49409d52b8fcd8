"""Transforms bound, compare and doubt a reward as their equations say, and leave it alone where they should."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.optimize import brentq
from scipy.stats import spearmanr

from assets.errors import InvalidValueError, UnknownNameError
from rewards.measures import auroc
from rewards.transforms import PAR, Clip, SegmentalClipReward, TrustWeighted, UncertaintyWeighted

few = settings(max_examples=50, deadline=None)
REWARDS = hnp.arrays(np.float64, st.integers(1, 8), elements=st.floats(-100, 100))
NAN = float("nan")


class Brightness:
    """The mean of the first channel, in [0, 1]; keeps count of the calls and frames it was asked about."""

    def __init__(self) -> None:
        self.calls, self.frames = 0, 0

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        assert frames.ndim == 4
        assert frames.dtype == np.uint8
        self.calls, self.frames = self.calls + 1, self.frames + len(frames)
        return (frames[..., 0].mean(axis=(1, 2)) / 255).astype(np.float32)


def flat(levels: Any) -> np.ndarray:
    """Frames (..., 4, 4, 3) of one grey level each."""
    return np.broadcast_to(np.asarray(levels, np.uint8)[..., None, None, None], (*np.shape(levels), 4, 4, 3)).copy()


# -- Clip --------------------------------------------------------------------------------------------------------------


@few
@given(REWARDS, st.floats(-5, 5))
def test_a_clipped_reward_never_pays_and_keeps_the_order(rewards: np.ndarray, eta: float) -> None:
    clipped = Clip(eta)(rewards)
    assert (clipped <= 0).all()
    assert (np.diff(Clip(eta)(np.sort(rewards))) >= 0).all()
    np.testing.assert_array_equal(clipped, [min(r - eta, 0) for r in rewards])


@few
@given(REWARDS)
def test_what_is_never_above_the_threshold_is_not_clipped(rewards: np.ndarray) -> None:
    for precision in (np.float32, np.float64):
        below = -np.abs(rewards).astype(precision)
        clipped = Clip()(below)
        assert clipped.dtype == precision
        np.testing.assert_array_equal(clipped, below)


# -- PAR ---------------------------------------------------------------------------------------------------------------


def test_par_is_the_mean_probability_of_winning() -> None:
    par = PAR({"a": [0.0], "b": [0.0, math.log(3)]})
    # sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2, sigmoid(-ln 3) = 1/4.
    np.testing.assert_allclose(par([math.log(3), 0.0, math.log(3)], ["a", "b", "b"]), [0.75, (0.5 + 0.25) / 2, 0.625])
    np.testing.assert_allclose(PAR({"a": [1.0]}, k=2.0)([1.0 + math.log(3) / 2], ["a"]), 0.75)


@few
@given(REWARDS, hnp.arrays(np.float64, st.integers(1, 12), elements=st.floats(-20, 20)), st.floats(-50, 50))
def test_par_is_bounded_monotone_and_centred(rewards: np.ndarray, references: np.ndarray, shift: float) -> None:
    rewards = np.sort(rewards)
    shaped = PAR({0: references})(rewards, [0] * len(rewards))
    assert ((shaped >= 0) & (shaped <= 1)).all()
    assert (np.diff(shaped) >= -1e-15).all()
    moved = PAR({0: references + shift})(rewards + shift, [0] * len(rewards))
    np.testing.assert_allclose(moved, shaped, atol=1e-9)


@few
@given(hnp.arrays(np.int8, st.integers(2, 8), elements=st.integers(-9, 9)))
def test_par_cannot_change_which_is_best(rewards: np.ndarray) -> None:
    shaped = PAR({0: [-1.0, 0.0, 2.0]})(rewards, [0] * len(rewards))
    np.testing.assert_array_equal(np.flatnonzero(shaped == shaped.max()), np.flatnonzero(rewards == rewards.max()))


def test_contexts_do_not_mix() -> None:
    rng = np.random.default_rng(0)
    references = {f"seed {i}": rng.normal(size=i + 1) for i in range(4)}
    rewards = rng.normal(size=(6, 5)).astype(np.float32)
    contexts = [f"seed {i}" for i in (3, 0, 1, 1, 2, 0)]
    whole = PAR(references)(rewards, contexts)
    assert whole.dtype == np.float32
    alone = [PAR({c: references[c]})(r[None], [c])[0] for r, c in zip(rewards, contexts, strict=True)]
    np.testing.assert_allclose(whole, alone, rtol=1e-6)
    np.testing.assert_allclose(whole[0, 0], np.mean(1 / (1 + np.exp(references["seed 3"] - rewards[0, 0]))), rtol=1e-6)


def test_no_rewards_are_no_rewards() -> None:
    assert PAR({"a": [0.0, 1.0]})(np.zeros((0, 3)), []).shape == (0, 3)


def test_only_the_first_references_are_used() -> None:
    rewards, many = [0.3], np.arange(20.0)
    assert PAR({0: many}, max_refs=3)(rewards, [0]) == PAR({0: many[:3]})(rewards, [0])
    assert PAR({0: many}, max_refs=3)(rewards, [0]) != PAR({0: many[:4]})(rewards, [0])


def gold_at(kl: float, shaped: np.ndarray, gold: np.ndarray) -> float:
    """True value of the exact optimum of E[shaped] - beta KL(pi | uniform), with beta such that the KL is this."""

    def tilted(strength: float) -> np.ndarray:
        p = np.exp(strength * (shaped - shaped.max()))
        return p / p.sum()

    def excess(strength: float) -> float:
        p = tilted(strength)
        return float(np.sum(p * np.log(np.maximum(p, 1e-300) * len(p)))) - kl

    strength = brentq(excess, 0, 1e4)
    assert isinstance(strength, float)
    return float(tilted(strength) @ gold)


def behaviours() -> tuple[np.ndarray, np.ndarray]:
    """True value and proxy of 20,000 behaviours; 0.2 % are exploits, worth -3, that the proxy takes for +8."""
    rng = np.random.default_rng(0)
    gold = rng.normal(size=20_000)
    proxy = gold.copy()
    exploits = rng.permutation(len(gold))[:40]
    gold[exploits], proxy[exploits] = -3, 8
    return gold, proxy


@pytest.mark.parametrize("kl", [0.5, 1.0])
def test_at_equal_kl_par_gains_what_the_raw_proxy_loses(kl: float) -> None:
    gold, proxy = behaviours()
    sampled = [np.random.default_rng(seed).choice(proxy, 10, replace=False) for seed in range(10)]
    par = [gold_at(kl, PAR({0: references})(proxy, [0] * len(proxy)), gold) for references in sampled]
    raw = gold_at(kl, proxy, gold)
    hard = gold_at(kl, np.clip(proxy, proxy.mean() - proxy.std(), proxy.mean() + proxy.std()), gold)
    affine = gold_at(kl, (proxy - proxy.min()) / np.ptp(proxy), gold)
    assert min(par) > raw + 0.5
    assert raw + 0.5 < np.mean(par) <= hard < np.mean(par) + 0.2  # a plain clip is no worse
    assert affine == pytest.approx(raw, abs=1e-6)


def test_without_a_budget_par_is_hacked_as_well() -> None:
    gold, proxy = behaviours()
    shaped = PAR({0: [0.0]})(proxy, [0] * len(proxy))
    assert gold[shaped.argmax()] == -3


def test_an_unknown_context_names_those_there_are() -> None:
    with pytest.raises(UnknownNameError, match="unknown context 'seed 3': did you mean 'seed 2'"):
        PAR({"seed 1": [0.0], "seed 2": [0.0]})([1.0], ["seed 3"])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PAR({"a": []}), "references of 'a' must be"),
        (lambda: PAR({"a": [0.0, NAN]}), "references of 'a' must be finite"),
        (lambda: PAR({"a": [0.0]}, k=0), "k must be > 0"),
        (lambda: PAR({"a": [0.0]}, max_refs=0), "max_refs >= 1"),
        (lambda: PAR({"a": [0.0]})([NAN], ["a"]), "rewards must be finite, got 1 NaN or infinite of 1"),
        (lambda: PAR({"a": [0.0]})([1.0], ["a", "a"]), "one context a row"),
        (lambda: Clip(NAN), "eta must be finite"),
        (lambda: Clip()([math.inf]), "rewards must be finite"),
        (lambda: Clip()(["1"]), "rewards must be numbers"),
    ],
)
def test_par_and_clip_refuse(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        build()


# -- TrustWeighted -----------------------------------------------------------------------------------------------------

MIXED = [1.0, 1.0, 0.0, 0.0]


def test_a_judge_that_prefers_the_right_ones_is_trusted() -> None:
    np.testing.assert_allclose(TrustWeighted()(MIXED, [0.8, 0.6, 0.2, 0.4], step=0), [1.24, 1.18, 0, 0])


def test_trust_is_taken_before_the_wrong_ones_are_masked() -> None:
    weighted = TrustWeighted()
    process = [0.2, 0.4, 0.8, 0.6]
    trust = math.exp(0.3 - 0.7)
    assert weighted.trust(MIXED, process) == pytest.approx(trust)
    np.testing.assert_allclose(weighted(MIXED, process, 0), [1 + 0.06 * trust, 1 + 0.12 * trust, 0, 0])
    assert weighted.trust(MIXED, np.where(np.array(MIXED) >= 0.2, process, 0)) == 1  # what masking first would say


@pytest.mark.parametrize("outcome", [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.4, 0.3, 0.2], [1.0]])
def test_groups_that_agree_get_no_process_reward(outcome: list[float]) -> None:
    np.testing.assert_array_equal(TrustWeighted()(outcome, np.full(len(outcome), 0.9), 0), outcome)


def test_the_weight_anneals() -> None:
    weighted = TrustWeighted(alpha=0.3, horizon=500)
    assert weighted.weight(0) == 0.3
    assert weighted.weight(500) == pytest.approx(0.3 / math.e)
    assert weighted.weight(2500) < 0.01 * 0.3
    np.testing.assert_allclose(weighted(MIXED, [0.8, 0.6, 0.2, 0.4], 500)[0], 1 + 0.24 / math.e)


SCORES = hnp.arrays(np.float64, (5, 6), elements=st.floats(0, 1))


@few
@given(SCORES, SCORES, st.floats(0, 3000))
def test_trust_weighting_is_bounded_by_group_and_neutral_at_zero(outcome: np.ndarray, process: np.ndarray, step: float) -> None:
    weighted = TrustWeighted()
    rewards = weighted(outcome, process, step)
    assert ((rewards >= outcome) & (rewards <= outcome + weighted.weight(step))).all()
    np.testing.assert_array_equal(rewards, [weighted(o, p, step) for o, p in zip(outcome, process, strict=True)])
    assert TrustWeighted(alpha=0)(outcome, process, step).tobytes() == (outcome + 0.0).tobytes()
    success = outcome >= 0.5
    flags = weighted(success.astype(float), process, step)
    assert (flags[success] >= 1).all()  # no judge lifts a failure above a success
    assert (flags[~success] == 0).all()


@few
@given(SCORES, st.floats(0, 1))
def test_a_judge_that_turns_against_the_truth_is_trusted_less(process: np.ndarray, more: float) -> None:
    outcome = np.broadcast_to([1.0, 1, 1, 0, 0, 0], process.shape)
    worse = process + more * (1 - outcome)
    weighted = TrustWeighted()
    assert (weighted.trust(outcome, worse) <= weighted.trust(outcome, process)).all()
    assert ((weighted.trust(outcome, worse) > 0) & (weighted.trust(outcome, worse) <= 1)).all()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TrustWeighted(alpha=-1), "alpha must be finite and >= 0"),
        (lambda: TrustWeighted(horizon=0), "horizon must be finite and > 0"),
        (lambda: TrustWeighted()([1.0], [1.0, 0.0], 0), "must both be"),
        (lambda: TrustWeighted()([1.0], [NAN], 0), "process must be finite"),
        (lambda: TrustWeighted()([1.0], [1.0], -1), "step must be finite and >= 0"),
    ],
)
def test_trust_weighting_refuses(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        build()


# -- UncertaintyWeighted -----------------------------------------------------------------------------------------------


def constant(values: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda frames: np.broadcast_to(np.asarray(values, np.float32), (len(frames),)).copy()


FLOATS = hnp.arrays(np.float32, 5, elements=st.floats(-1e6, 1e6, width=32))


@few
@given(FLOATS, FLOATS, st.floats(0.1, 5), st.floats(-10, 10), st.integers(1, 9))
def test_agreement_and_no_doubt_leave_rewards_bit_identical(
    values: np.ndarray, others: np.ndarray, kappa: float, prior: float, heads: int
) -> None:
    frames = flat(np.arange(5))
    agreed = UncertaintyWeighted(constant(values), [constant(values)] * heads, kappa, prior)
    assert agreed(frames).tobytes() == values.tobytes()
    np.testing.assert_array_equal(agreed.uncertainty(frames), 0)
    undoubting = UncertaintyWeighted(constant(values), [constant(others)], 0, prior)
    assert undoubting(frames).tobytes() == values.tobytes()


@few
@given(FLOATS, FLOATS, st.floats(0, 5), st.floats(-10, 10))
def test_a_doubted_reward_lies_between_itself_and_the_prior(
    values: np.ndarray, others: np.ndarray, kappa: float, prior: float
) -> None:
    frames = flat(np.arange(5))
    doubted, more = (UncertaintyWeighted(constant(values), [constant(others)], k, prior)(frames) for k in (kappa, kappa + 1))
    slack = 1e-5 * (1 + np.abs(values))
    assert (doubted >= np.minimum(values, prior) - slack).all()
    assert (doubted <= np.maximum(values, prior) + slack).all()
    assert (np.abs(more - prior) <= np.abs(doubted - prior) + slack).all()


def test_doubt_is_the_equation() -> None:
    doubted = UncertaintyWeighted(constant(4.0), [constant(2.0)], kappa=0.5, prior=-1.0)
    np.testing.assert_allclose(doubted.uncertainty(flat([0, 1])), 1.0)  # half the difference of two
    np.testing.assert_allclose(doubted(flat([0, 1])), math.exp(-0.5) * 4 - (1 - math.exp(-0.5)), rtol=1e-6)


def hacked(frames: np.ndarray) -> np.ndarray:
    """Brightness, but a white top-left pixel adds 5: a hole in a learned reward."""
    return (Brightness()(frames) + 5 * (frames[:, 0, 0, 0] == 255)).astype(np.float32)


def test_doubt_finds_exploited_frames_and_mends_the_return() -> None:
    rng = np.random.default_rng(0)
    episodes, length = 60, 10
    level = np.repeat(rng.integers(40, 200, episodes), length)
    frames = np.clip(flat(level) + rng.integers(-20, 20, (episodes * length, 4, 4, 3)), 0, 254).astype(np.uint8)
    truth = Brightness()(frames)
    exploited = rng.random(len(frames)) < 0.2
    frames[exploited, 0, 0] = 255
    doubted = UncertaintyWeighted.over_renderings(
        hacked, [lambda frames: np.roll(frames, 1, axis=2), lambda frames: frames[:, ::-1].copy()], kappa=2.0, prior=0.4
    )
    assert auroc(doubted.uncertainty(frames), exploited) > 0.8
    returns = [r.reshape(episodes, length).sum(axis=1) for r in (truth, hacked(frames), doubted(frames))]
    before, after = (np.corrcoef(returns[0], r)[0, 1] for r in returns[1:])
    assert after > before + 0.2


class Counted:
    """A reward with one learned number and a memory."""

    def __init__(self, scale: float) -> None:
        self.scale, self.forgotten = scale, np.zeros(0, np.intp)

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        return np.full(len(frames), self.scale, np.float32)

    def reset(self, ids: np.ndarray) -> None:
        self.forgotten = ids

    def state_dict(self) -> dict[str, np.ndarray]:
        return {"scale": np.array(self.scale)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self.scale = float(state["scale"])


def test_what_is_learned_within_is_kept() -> None:
    def made(a: float, b: float) -> tuple[Counted, UncertaintyWeighted, SegmentalClipReward]:
        base = Counted(a)
        doubted = UncertaintyWeighted(base, [Counted(b)])
        return base, doubted, SegmentalClipReward(doubted)

    _, doubted, clip = made(1.0, 2.0)
    other, restored, _ = made(5.0, 9.0)
    restored.load_state_dict(doubted.state_dict())
    np.testing.assert_array_equal(restored(flat([0])), doubted(flat([0])))
    assert len(clip.state_dict()) == 2
    restored.reset(np.array([3]))
    np.testing.assert_array_equal(other.forgotten, [3])


# -- SegmentalClipReward -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("anchor", "at", "chosen"), [("end", 15, [3, 7, 11, 15]), ("center", 8, [3, 7, 8, 12])])
def test_a_clip_is_its_segments_weighted_towards_the_anchor(anchor: Any, at: int, chosen: list[int]) -> None:
    seen = []

    def level(frames: np.ndarray) -> np.ndarray:
        seen.append(frames[:, 0, 0, 0].tolist())
        return frames[:, 0, 0, 0].astype(np.float32)

    score = SegmentalClipReward(level, segments=4, attenuation=0.3, anchor=anchor).score(flat(np.arange(16)))
    assert seen == [chosen]
    assert score.shape == ()
    assert score == pytest.approx(np.mean([math.exp(-0.3 * abs(g - at)) * g for g in chosen]), rel=1e-6)


def test_clips_cost_as_many_frames_as_segments_in_one_call() -> None:
    clips = np.random.default_rng(0).integers(0, 256, (5, 20, 4, 4, 3), np.uint8)
    counted = Brightness()
    scores = SegmentalClipReward(counted, segments=3, attenuation=0.1).score(clips)
    assert (counted.calls, counted.frames) == (1, 15)
    assert scores.shape == (5,)
    alone = [SegmentalClipReward(Brightness(), segments=3, attenuation=0.1).score(clip) for clip in clips]
    np.testing.assert_array_equal(scores, alone)


@few
@given(st.integers(1, 6), st.integers(0, 14), st.integers(0, 100))
def test_frames_are_drawn_one_from_each_segment(segments: int, extra: int, seed: int) -> None:
    length = segments + extra
    drawn = []

    def level(frames: np.ndarray) -> np.ndarray:
        drawn.append(frames[:, 0, 0, 0].astype(int))
        return np.ones(len(frames), np.float32)

    reward = SegmentalClipReward(level, segments, attenuation=0.5)
    clips = np.stack([flat(np.arange(length))] * 2)
    first, second, third = (reward.score(clips, np.random.default_rng(s)) for s in (seed, seed, seed + 1))
    edges = np.linspace(0, length, segments + 1).astype(int)
    places = np.stack(drawn).reshape(3, 2, segments)
    assert ((places >= edges[:-1]) & (places < edges[1:])).all()
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(third, np.exp(-0.5 * (length - 1 - places[2])).mean(axis=-1), rtol=1e-6)


@few
@given(hnp.arrays(np.uint8, st.integers(1, 9)))
def test_all_frames_and_no_attenuation_are_the_mean(levels: np.ndarray) -> None:
    score = SegmentalClipReward(Brightness(), len(levels), attenuation=0).score(flat(levels))
    assert score == pytest.approx(levels.mean() / 255, abs=1e-6)


def test_few_frames_rank_rollouts_as_all_frames_do() -> None:
    rng = np.random.default_rng(0)
    ends = rng.uniform(50, 250, (50, 1))
    clips = flat(np.clip(ends * np.linspace(0, 1, 64) ** rng.uniform(0.5, 2, (50, 1)) + rng.normal(0, 10, (50, 64)), 0, 255))
    counted = Brightness()
    few_frames = SegmentalClipReward(counted, segments=8, attenuation=0).score(clips)
    dense = Brightness()(clips.reshape(-1, 4, 4, 3)).reshape(50, 64).mean(axis=1)
    assert counted.frames == 50 * 8
    assert spearmanr(few_frames, dense)[0] >= 0.9


def test_the_end_counts_most() -> None:
    success, undone = flat([0, 0, 0, 0, 0, 0, 0, 255]), flat([255, 255, 255, 255, 255, 255, 255, 0])
    assert SegmentalClipReward(Brightness()).score(success) > SegmentalClipReward(Brightness()).score(undone)
    center = SegmentalClipReward(Brightness(), anchor="center")
    assert center.score(success) < center.score(undone)


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: SegmentalClipReward(Brightness(), anchor="centre"), UnknownNameError, "did you mean 'center'"),  # type: ignore[arg-type]
        (lambda: SegmentalClipReward(Brightness(), segments=0), InvalidValueError, "segments must be"),
        (lambda: SegmentalClipReward(Brightness(), attenuation=-1), InvalidValueError, "attenuation must be"),
        (lambda: SegmentalClipReward(Brightness()).score(flat([0, 1, 2])), InvalidValueError, "each of 4 segments, got 3"),
        (lambda: SegmentalClipReward(Brightness()).score(flat([0])[0]), InvalidValueError, "clips must be"),
        (lambda: SegmentalClipReward(constant(NAN)).score(flat(range(4))), InvalidValueError, "must be finite"),
        (lambda: SegmentalClipReward(lambda frames: np.ones(1)).score(flat(range(4))), InvalidValueError, "must map 4 frames"),
        (lambda: UncertaintyWeighted(Brightness(), []), InvalidValueError, "at least one variant"),
        (lambda: UncertaintyWeighted(Brightness(), [Brightness()], kappa=-1), InvalidValueError, "kappa must be"),
        (lambda: UncertaintyWeighted(Brightness(), [Brightness()], prior=NAN), InvalidValueError, "prior must be finite"),
        (lambda: UncertaintyWeighted(Brightness(), [Brightness()])(flat(0)), InvalidValueError, "needs a leading axis"),
    ],
)
def test_frame_transforms_refuse(build: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        build()
