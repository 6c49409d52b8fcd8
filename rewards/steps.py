"""Unsupervised perceptual rewards: a few demonstrations as videos become a reward that grows from step to step.

    frozen features -> steps of each demonstration (`rewards.segments`) -> the features that tell a step from the rest
                    -> a score of every step -> r(x) = sum_{i >= 2} 2^(i-1) s_i(x) / sum_{i >= 2} 2^(i-1)

After Sermanet, Xu and Levine 2016 (arXiv:1612.06699). Steps are found in whole videos; the reward looks at one picture alone,
so that it is there while a robot acts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from rewards.segments import labels, segment

HEADS = ("gaussian", "linear")
# A feature's deviation within a step counts as at least this much of its deviation over everything.
NARROWEST = 0.1
# Deviations that a feature is off at most in the Gaussian head: what stands before the camera here and stood not in the
# demonstrations, such as another arm, hides some features and must not decide alone (truncated quadratic, Black and Rangarajan
# 1996, IJCV 19).
FURTHEST = 2.0
# Strength of the linear head's ridge.
RIDGE = 1.0


class Encoder(Protocol):
    """Whatever makes vectors of pictures, see `perception.vlm.base.FrozenFeatures`."""

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Pictures (N, H, W, 3) -> (N, D)."""
        ...


def embedded(encoder: Encoder, demonstrations: Sequence[NDArray[np.uint8]]) -> list[NDArray[Any]]:
    """Features (T_i, D) of videos (T_i, H, W, 3) that a reward is learned from.

    Raises:
        InvalidValueError: fewer than two, or of different sizes.
    """
    if len(demonstrations) < 2:
        raise InvalidValueError(f"a reward is learned from at least 2 demonstrations, got {len(demonstrations)}")
    sizes = {tuple(np.shape(video)[1:]) for video in demonstrations}
    if len(sizes) > 1:
        raise InvalidValueError(f"all demonstrations must be of one size, got {sorted(sizes)}")
    return [np.asarray(encoder.embed(video)) for video in demonstrations]


class StepReward:
    """How far a task has come by what its steps look like, in [0, 1]. It is a `FrameReward`.

    A feature is normalised over all frames of all demonstrations. Features of step i are the `count` ones with the largest

        z = alpha |mu+ - mu-| - (sigma+ + sigma-)          "+" frames of the step in all demonstrations, "-" all others

    The "gaussian" head scores by -(1/n) sum_d min(((x_d - mu_d+) / sigma_d+)^2, 2^2), so that what hides a few features does
    not decide; the "linear" one by logistic regression on the same features. Scores are shifted and scaled so that frames of
    the step have 1 on average and all others 0, and clipped to [0, 1]. As printed, the paper's score lacks the minus sign and
    the square of sigma, and it has no bound.

    Args:
        encoder: frozen; it makes vectors of pictures.
        steps: into which every demonstration is cut, >= 2; they come in one order in all of them.
        count: features of each step.
        alpha: how much a difference counts beside the deviations.
        head: "gaussian" or "linear".
        cost: of the segmentation, see `rewards.segments.segment`.
        shortest: frames of a step at least.

    Raises:
        InvalidValueError: a number out of range.
        UnknownNameError: no such head.
    """

    def __init__(
        self, encoder: Encoder, steps: int = 3, count: int = 32, alpha: float = 5.0, head: str = "gaussian",
        cost: str = "likelihood", shortest: int = 3,
    ) -> None:  # fmt: skip
        if head not in HEADS:
            raise UnknownNameError("head", head, HEADS)
        if steps < 2 or count < 1 or not alpha > 0:
            raise InvalidValueError(f"steps must be >= 2, count >= 1 and alpha > 0, got {steps}, {count} and {alpha}")
        self.encoder, self.steps, self.head = encoder, steps, head
        self._count, self._alpha, self._cost, self._shortest = count, alpha, cost, shortest
        self._learned: dict[str, NDArray[Any]] = {}

    def fit(self, demonstrations: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.intp]]:
        """Learn from videos (T_i, H, W, 3) of one size, of any lengths.

        Returns:
            Where the steps of each begin, (steps,) frames.

        Raises:
            InvalidValueError: fewer than two, of different sizes, too short, constant, or with features that are not finite.
        """
        return self.fit_features(embedded(self.encoder, demonstrations))

    def fit_features(self, demonstrations: Sequence[NDArray[Any]]) -> list[NDArray[np.intp]]:
        """Learn from features (T_i, D) instead of videos; as `fit`."""
        starts = [segment(rows, self.steps, self._shortest, self._cost) for rows in demonstrations]
        rows = np.concatenate(demonstrations).astype(np.float64)
        step = np.concatenate([labels(s, len(d)) for s, d in zip(starts, demonstrations, strict=True)])
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        scale = np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, np.inf)  # what never changes tells nothing
        unit = (rows - mean) / scale
        learned = {"mean": mean, "scale": scale}
        found = [self._fit_step(unit, step == number) for number in range(self.steps)]
        self._learned = learned | {key: np.stack([one[key] for one in found]) for key in found[0]}
        return starts

    def _fit_step(self, unit: NDArray[np.float64], here: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Features and head of one step."""
        inside, outside = unit[here], unit[~here]
        centre, narrow = inside.mean(axis=0), inside.std(axis=0)
        z = self._alpha * np.abs(centre - outside.mean(axis=0)) - (narrow + outside.std(axis=0))
        chosen = np.argsort(-z, kind="stable")[: self._count]
        if self.head == "gaussian":
            part = {"weight": 1 / np.maximum(narrow[chosen], NARROWEST) ** 2, "offset": centre[chosen]}
        else:
            part = _logistic(unit[:, chosen], here)
        raw = self._raw(unit[:, chosen], part["weight"], part["offset"])
        low, high = raw[~here].mean(), raw[here].mean()
        return {**part, "chosen": chosen, "range": np.array([low, max(high, low + 1e-9)])}

    def _raw(self, x: NDArray[np.float64], weight: NDArray[np.float64], offset: NDArray[np.float64]) -> NDArray[np.float64]:
        if self.head == "gaussian":
            return -np.minimum(weight * (x - offset) ** 2, FURTHEST**2).mean(axis=1)
        return x @ weight + offset[0]

    def scores_of(self, features: NDArray[Any]) -> NDArray[np.float64]:
        """How much each of N feature vectors (N, D) is like each step, (N, steps) in [0, 1].

        Raises:
            InvalidValueError: nothing was learned yet; features of another length, or not finite.
        """
        if not self._learned:
            raise InvalidValueError("this reward has not learned anything yet: call fit(demonstrations), or load a state")
        known, rows = self._learned, np.asarray(features, np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(known["mean"]):
            raise InvalidValueError(f"features must be (N, {len(known['mean'])}), got {rows.shape}")
        if not np.isfinite(rows).all():
            raise InvalidValueError("features must be finite numbers: the encoder gave NaN or infinity")
        out = np.empty((len(rows), self.steps))
        for step in range(self.steps):
            chosen = known["chosen"][step]
            unit = (rows[:, chosen] - known["mean"][chosen]) / known["scale"][chosen]
            low, high = known["range"][step]
            out[:, step] = (self._raw(unit, known["weight"][step], known["offset"][step]) - low) / (high - low)
        return np.clip(out, 0, 1)

    def step_scores(self, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
        """How much each of N pictures (N, H, W, 3) is like each step, (N, steps) in [0, 1]."""
        return self.scores_of(self.encoder.embed(frames))

    def of_features(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """The reward of feature vectors (N, D), (N,) in [0, 1]."""
        weight = 2.0 ** np.arange(1, self.steps)
        return (self.scores_of(features)[:, 1:] @ weight / weight.sum()).astype(np.float32)

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The reward of pictures (N, H, W, 3), (N,) in [0, 1]."""
        return self.of_features(self.encoder.embed(frames))

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What was learned, as arrays."""
        return dict(self._learned)

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            InvalidValueError: of a reward with another number of steps or another head.
        """
        wanted = (self.steps, (1 if self.head == "linear" else state["chosen"].shape[1]))
        if state["offset"].shape != wanted:
            raise InvalidValueError(
                f"the state has heads of shape {state['offset'].shape}, a {self.head} reward of {self.steps} steps {wanted}"
            )
        self._learned = {key: np.asarray(value) for key, value in state.items()}


def _logistic(x: NDArray[np.float64], here: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Ridge logistic regression by Newton's method, both kinds weighing alike; "weight" (D,), "offset" (1,)."""
    rows = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    share = np.where(here, 0.5 / here.sum(), 0.5 / (~here).sum()) * len(x)
    ridge = RIDGE * np.diag([*np.ones(x.shape[1]), 1e-6])
    w = np.zeros(rows.shape[1])
    for _ in range(30):
        p = 1 / (1 + np.exp(-np.clip(rows @ w, -30, 30)))
        gradient = rows.T @ (share * (p - here)) + ridge @ w
        step = np.linalg.solve((rows * (share * p * (1 - p))[:, None]).T @ rows + ridge, gradient)
        w -= step
        if np.abs(step).max() < 1e-9:
            break
    return {"weight": w[:-1], "offset": w[-1:]}
