"""Transforms that make a reward harder to exploit: they bound it, compare it with others, or trust it less where it is unsure.

Every one is a pure function of numbers or frames that were recorded; none remembers anything. What a reward adds up to over
an episode is the business of `rewards.shaping`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import check_images
from rewards.base import FrameReward, Within

Frames = NDArray[np.uint8]


def finite(values: ArrayLike, name: str) -> NDArray[Any]:
    """The values as a floating array: float32 and float64 stay what they are, anything else becomes the one that holds it.

    Args:
        values: numbers of any shape.
        name: what they are called in the error.

    Raises:
        InvalidValueError: something that is no number, NaN or infinite.
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise InvalidValueError(f"{name} must be numbers, got {array.dtype}")
    array = array.astype(np.result_type(array, np.float32), copy=False)
    if wrong := int((~np.isfinite(array)).sum()):
        raise InvalidValueError(f"{name} must be finite, got {wrong} NaN or infinite of {array.size}")
    return array


def require_at_least(value: float, least: float, name: str) -> None:
    """Refuse a setting below its least value.

    Raises:
        InvalidValueError: value < least, NaN or infinite.
    """
    if not least <= value < np.inf:
        raise InvalidValueError(f"{name} must be finite and >= {least:g}, got {value}")


def scored(reward: FrameReward, frames: Frames) -> NDArray[Any]:
    """The reward of every frame, (N,).

    Raises:
        InvalidValueError: it is not (N,), or not finite.
    """
    rewards = finite(reward(frames), "a frame reward's values")
    if rewards.shape != (len(frames),):
        raise InvalidValueError(f"a frame reward must map {len(frames)} frames to ({len(frames)},), got {rewards.shape}")
    return rewards


@dataclass(frozen=True)
class Clip:
    """r' = min(r - eta, 0): a step can lose and never earn, so that making more steps cannot pay (arXiv:2410.15115, "Clip").

    It bounds any episode's return by 0 from above. It goes before `rewards.shaping.Delta` where both are used.

    Args:
        eta: what a good step earns, in the reward's unit; finite.
    """

    eta: float = 0.0

    def __post_init__(self) -> None:
        require_at_least(self.eta, -np.finfo(np.float64).max, "eta")

    def __call__(self, rewards: ArrayLike) -> NDArray[Any]:
        """Clipped rewards, the same shape and precision.

        Raises:
            InvalidValueError: rewards that are not finite.
        """
        return np.minimum(finite(rewards, "rewards") - self.eta, 0)


class PAR:
    """Preference as reward: how likely a return is to beat reference returns of the same context.

        r' = 1/M sum_m sigmoid(k (r - ref_m))                            arXiv:2502.18770

    In the terms of Bradley and Terry it is the mean probability of being preferred to a reference. It is bounded, steep near
    the references and flat far above them. It is monotone in r, so it cannot change which behaviour is best of all, and an
    exploit stays an exploit; it lowers what an exploit gains while the policy is held near its start by a KL penalty or by few
    steps. At equal KL, hard clipping at one standard deviation above the mean is no worse, and affine normalisations do nothing
    (`tests/test_transforms.py`).

    Args:
        references: context (a reset seed, an instruction) -> returns (M,) of a frozen start policy there, M >= 1.
        k: steepness, in 1 / the reward's unit; > 0.
        max_refs: how many references of a context are used at most, the first ones; >= 1.

    Raises:
        InvalidValueError: no references, values that are not finite, or settings outside their range.
    """

    def __init__(self, references: Mapping[Any, ArrayLike], k: float = 1.0, max_refs: int = 10) -> None:
        if not (0 < k < np.inf and max_refs >= 1):
            raise InvalidValueError(f"k must be > 0 and max_refs >= 1, got {k} and {max_refs}")
        kept = {context: finite(returns, f"references of {context!r}") for context, returns in references.items()}
        for context, returns in kept.items():
            if returns.ndim != 1 or not returns.size:
                raise InvalidValueError(f"references of {context!r} must be (M,) with M >= 1, got {returns.shape}")
        self._k = k
        self._row = {context: row for row, context in enumerate(kept)}
        self._count = np.array([min(len(returns), max_refs) for returns in kept.values()])
        self._returns = np.zeros((len(kept), max_refs))
        for row, returns in zip(self._returns, kept.values(), strict=True):
            row[: len(returns)] = returns[:max_refs]

    def __call__(self, rewards: ArrayLike, contexts: Sequence[Hashable]) -> NDArray[Any]:
        """Transformed rewards in [0, 1]; the ends are reached only by rounding.

        Args:
            rewards: (N, ...).
            contexts: N contexts, one for each row.

        Raises:
            UnknownNameError: a context that has no references.
            InvalidValueError: rewards that are not finite, or another number of contexts than of rows.
        """
        values = finite(rewards, "rewards")
        if values.shape[:1] != (len(contexts),):
            raise InvalidValueError(f"rewards must be (N, ...) with one context a row, got {values.shape} and {len(contexts)}")
        rows = self._rows(contexts)
        inner = (1,) * (values.ndim - 1)
        count = self._count[rows].reshape(len(rows), *inner)
        returns = self._returns[rows].reshape(len(rows), *inner, self._returns.shape[1])
        won = np.where(np.arange(returns.shape[-1]) < count[..., None], expit(self._k * (values[..., None] - returns)), 0)
        return (won.sum(axis=-1) / count).astype(values.dtype)

    def _rows(self, contexts: Sequence[Hashable]) -> NDArray[np.intp]:
        for context in contexts:
            if context not in self._row:
                raise UnknownNameError("context", context, map(str, self._row))
        return np.array([self._row[context] for context in contexts], np.intp)


@dataclass(frozen=True)
class TrustWeighted:
    """Outcome plus a process reward that counts as far as its group shows that it can be trusted, and ever less in training.

        r_i = o_i + alpha exp(-step / horizon) g p_i [o_i >= floor]      arXiv:2505.17018, eqs. 1-4
        g   = 1 if m+ >= m- else exp(m+ - m-)

    m+ and m- are the mean process scores of the group's right and wrong rollouts. They are taken over all scores, before
    those below `floor` are masked: masked first, m- would be near 0 and every judge would look trustworthy. A group in which
    all are right or all are wrong says nothing about the judge, and gets no process reward.

    Args:
        alpha: weight of the process reward at step 0; >= 0. At 0 the outcomes are returned unchanged.
        horizon: training steps in which the weight falls by e; > 0.
        right: an outcome of at least this is right.
        floor: an outcome below this gets no process reward.
    """

    alpha: float = 0.3
    horizon: float = 500.0
    right: float = 0.5
    floor: float = 0.2

    def __post_init__(self) -> None:
        require_at_least(self.alpha, 0, "alpha")
        if not 0 < self.horizon < np.inf:
            raise InvalidValueError(f"horizon must be finite and > 0, got {self.horizon}")

    def weight(self, step: float) -> float:
        """What a trusted process reward counts at a training step >= 0: alpha exp(-step / horizon)."""
        require_at_least(step, 0, "step")
        return float(self.alpha * np.exp(-step / self.horizon))

    def trust(self, outcome: ArrayLike, process: ArrayLike) -> NDArray[Any]:
        """Trust g of each group, (...), in [0, 1]; 0 where all rollouts are right or all are wrong.

        Args:
            outcome: (..., G).
            process: (..., G), of any scale; [0, 1] in the paper.
        """
        outcome, process = self._group(outcome, process)
        right = outcome >= self.right
        hits, misses = right.sum(axis=-1), (~right).sum(axis=-1)
        mean_right = np.where(right, process, 0).sum(axis=-1) / np.maximum(hits, 1)
        mean_wrong = np.where(right, 0, process).sum(axis=-1) / np.maximum(misses, 1)
        return np.where((hits > 0) & (misses > 0), np.exp(np.minimum(mean_right - mean_wrong, 0)), 0)

    def __call__(self, outcome: ArrayLike, process: ArrayLike, step: float) -> NDArray[Any]:
        """Rewards of groups of rollouts that share a start, (..., G).

        Args:
            outcome: (..., G) success, or a score in [0, 1].
            process: (..., G) what a judge makes of how it was done.
            step: training steps so far, >= 0.

        Raises:
            InvalidValueError: shapes that differ, values that are not finite, or a negative step.
        """
        trust = self.weight(step) * self.trust(outcome, process)
        outcome, process = self._group(outcome, process)
        return (outcome + np.where(outcome >= self.floor, trust[..., None] * process, 0)).astype(outcome.dtype)

    @staticmethod
    def _group(outcome: ArrayLike, process: ArrayLike) -> tuple[NDArray[Any], NDArray[Any]]:
        out, how = finite(outcome, "outcome"), finite(process, "process")
        if out.shape != how.shape or not out.ndim:
            raise InvalidValueError(f"outcome and process must both be (..., G), got {out.shape} and {how.shape}")
        return out, how


class UncertaintyWeighted(Within):
    """A frame reward that falls back to a prior where those who should agree on it do not.

        r' = exp(-kappa u) r + (1 - exp(-kappa u)) prior,    u = standard deviation over base and variants

    The weight is that of arXiv:2410.11236 (exp(-u) on a reward's loss). Where all agree (u = 0), and for kappa = 0, the base's
    values come back bit by bit.

    Args:
        base: the reward r.
        variants: other opinions on the same frames, at least one: heads of an ensemble, or the base on re-rendered frames
            (see `over_renderings`). Each maps frames (N, H, W, 3) to (N,), in the base's unit.
        kappa: how fast trust falls with disagreement, in 1 / the reward's unit; >= 0.
        prior: what is said where nothing is known, in the reward's unit.

    Raises:
        InvalidValueError: no variants, or settings outside their range.
    """

    def __init__(self, base: FrameReward, variants: Sequence[FrameReward], kappa: float = 1.0, prior: float = 0.0) -> None:
        if not variants:
            raise InvalidValueError("disagreement needs at least one variant beside the base, got none")
        require_at_least(kappa, 0, "kappa")
        super().__init__({"base": base, **{f"variant{i}": variant for i, variant in enumerate(variants)}})
        self._rewards = (base, *variants)
        self._kappa, self._prior = kappa, float(finite(prior, "prior"))

    @classmethod
    def over_renderings(
        cls, base: FrameReward, renderings: Sequence[Callable[[Frames], Frames]], kappa: float = 1.0, prior: float = 0.0
    ) -> UncertaintyWeighted:
        """Disagreement of one reward with itself over re-renderings that should not matter: light, blur, a shift of pixels.

        Args:
            base: the reward.
            renderings: each maps frames (N, H, W, 3) to as many frames; the base also sees the frames as they are.
            kappa: as in the class.
            prior: as in the class.
        """
        return cls(base, [lambda frames, render=render: base(render(frames)) for render in renderings], kappa, prior)

    def uncertainty(self, frames: Frames) -> NDArray[np.float64]:
        """Disagreement u about each frame, (N,), in the reward's unit."""
        return self._opinions(frames).std(axis=0)

    def __call__(self, frames: Frames) -> NDArray[np.float32]:
        """Rewards (N,) of frames (N, H, W, 3).

        Raises:
            InvalidValueError: frames of another form, or opinions that are not (N,) and finite.
        """
        opinions = self._opinions(frames)
        trust = np.exp(-self._kappa * opinions.std(axis=0))
        mixed = trust * opinions[0] + (1 - trust) * self._prior
        # Adding 0 would lose the sign of -0.
        return np.where(trust == 1, opinions[0], mixed).astype(np.float32)

    def _opinions(self, frames: Frames) -> NDArray[np.float64]:
        frames = check_images(frames)
        return np.stack([scored(reward, frames) for reward in self._rewards], dtype=np.float64)


class SegmentalClipReward(Within):
    """One number for a clip from few of its frames: one frame of each segment, weighted by how near it is to the anchor.

        R = 1/S sum_i exp(-lambda |g_i - anchor|) r(x_{g_i})            arXiv:2312.12490, segmental and attenuated reward

    The paper anchors at the clip's centre T / 2; here the default is the last frame T - 1, because manipulation shows its
    success at the end. With lambda = 0 it is the mean over the chosen frames. With the paper's 1 only the few frames next to
    the anchor count; long clips want about 1 / T.

    Args:
        frame_reward: scores single frames.
        segments: S, into how many parts of nearly equal length a clip is cut; >= 1.
        attenuation: lambda, per frame; >= 0.
        anchor: "end" or "center".

    Raises:
        InvalidValueError: settings outside their range.
        UnknownNameError: another anchor.
    """

    def __init__(
        self,
        frame_reward: FrameReward,
        segments: int = 4,
        attenuation: float = 1.0,
        anchor: Literal["end", "center"] = "end",
    ) -> None:
        if anchor not in ("end", "center"):
            raise UnknownNameError("anchor", anchor, ("end", "center"))
        require_at_least(segments, 1, "segments")
        require_at_least(attenuation, 0, "attenuation")
        super().__init__({"frames": frame_reward})
        self._reward, self._segments, self._attenuation, self._anchor = frame_reward, segments, attenuation, anchor

    def score(self, clips: Frames, rng: np.random.Generator | None = None) -> NDArray[np.float32]:
        """The reward of each clip, (...), by one call of the frame reward with S frames a clip.

        Args:
            clips: (T, H, W, 3) or (N, T, H, W, 3) with T >= S.
            rng: draws one frame of each segment, as the paper does; None takes the one nearest to the anchor.

        Raises:
            InvalidValueError: clips of another form, or shorter than S frames.
        """
        if clips.ndim not in (4, 5):
            raise InvalidValueError(f"clips must be (T, H, W, 3) or (N, T, H, W, 3), got {clips.shape}")
        batch = clips.reshape(-1, *clips.shape[-4:])
        count, length = batch.shape[:2]
        if length < self._segments:
            raise InvalidValueError(f"a clip needs a frame for each of {self._segments} segments, got {length}")
        anchor = length - 1 if self._anchor == "end" else length / 2
        chosen = self._choose(count, length, anchor, rng)
        frames = check_images(batch[np.arange(count)[:, None], chosen].reshape(-1, *clips.shape[-3:]))
        weight = np.exp(-self._attenuation * np.abs(chosen - anchor))
        scores = weight * scored(self._reward, frames).reshape(chosen.shape)
        return scores.mean(axis=-1).astype(np.float32).reshape(clips.shape[:-4])

    def _choose(self, count: int, length: int, anchor: float, rng: np.random.Generator | None) -> NDArray[np.intp]:
        edges = np.linspace(0, length, self._segments + 1).astype(np.intp)
        first, end = edges[:-1], edges[1:]
        if rng is not None:
            return rng.integers(first, end, (count, self._segments), dtype=np.intp)
        return np.tile(np.clip(anchor, first, end - 1).astype(np.intp), (count, 1))
