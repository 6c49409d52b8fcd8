"""Judging on top of the protocols: is a claim true, how far is a task done, which of two is better; each with a confidence.

A confidence c in [0.5, 1] is the judge's probability of being right. It is 0.5 where the model sees no difference. Scores of
scorers are no probabilities until `temperature` (Guo et al. 2017, arXiv:1706.04599) was fitted to labelled examples with `fit`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception.vlm.base import Answerer, Images, Scorer, check_images, check_texts, require


@runtime_checkable
class Believer(Protocol):
    """A model that can say how much it believes a yes."""

    def yes_probability(self, images: Images, questions: Sequence[str]) -> NDArray[np.float32]:
        """Probability of "yes" against "no", (N,)."""
        ...


@dataclass(frozen=True)
class Verdict:
    """N judgements.

    Attributes:
        value: what was judged: truth in {0, 1}, a score in [0, 1], or -1, 0, +1 for a preference of a, neither, b. (N,)
        confidence: (N,) in [0.5, 1].
    """

    value: NDArray[np.float32]
    confidence: NDArray[np.float32]


class Judge:
    """Judges pictures and clips with any backend that is a Believer, an Answerer or a Scorer, in that order of preference.

    Args:
        backend: the model.
        question: how a claim is put to it; {claim} is replaced.
        temperature: of the log-odds, fitted by `fit`.
        bias: added to the log-odds before, fitted by `fit`.
        tie: preferences whose confidence is below this are ties.
    """

    def __init__(
        self,
        backend: Any,
        question: str = "Is this true? {claim}",
        temperature: float = 1.0,
        bias: float = 0.0,
        tie: float = 0.55,
    ) -> None:
        if "{claim}" not in question:
            raise InvalidValueError(
                f"the question must say where the claim goes, as in 'Is this true? {{claim}}', got {question!r}"
            )
        if not temperature > 0:
            raise InvalidValueError(f"temperature must be > 0, got {temperature}")
        if not 0.5 <= tie <= 1:
            raise InvalidValueError(f"tie must be a confidence from 0.5 to 1, got {tie}")
        if not isinstance(backend, (Believer, Answerer)):
            require(backend, Scorer, "judge")
        self.backend, self.question = backend, question
        self.temperature, self.bias, self.tie = temperature, bias, tie

    def log_odds(self, images: Images, claims: Sequence[str]) -> NDArray[np.float64]:
        """The model's own log-odds that each claim is true of its image, before `bias` and `temperature`. (N,)."""
        images = check_images(images)
        asked = [self.question.replace("{claim}", claim) for claim in check_texts(claims, "claims", len(images))]
        if isinstance(self.backend, Believer):
            p = np.clip(self.backend.yes_probability(images, asked).astype(np.float64), 1e-6, 1 - 1e-6)
            return np.log(p) - np.log1p(-p)
        if isinstance(self.backend, Answerer):
            return np.array([_said(answer) for answer in self.backend.answer(images, asked)])
        unique = list(dict.fromkeys(claims))
        scores = self.backend.score(images, unique)
        return scores[np.arange(len(images)), [unique.index(c) for c in claims]].astype(np.float64)

    def probability(self, images: Images, claims: Sequence[str]) -> NDArray[np.float32]:
        """Probability that each claim is true of its image, (N,)."""
        return _sigmoid((self.log_odds(images, claims) + self.bias) / self.temperature)

    def verify(self, claims: Sequence[str], images: Images) -> Verdict:
        """Whether each claim is true of its image."""
        p = self.probability(images, claims)
        return Verdict((p >= 0.5).astype(np.float32), np.maximum(p, 1 - p))

    def score(self, clips: NDArray[np.uint8], goal: str) -> Verdict:
        """How sure it is that each clip reaches the goal, by its last frame. Shape (N, T, H, W, 3).

        Raises:
            InvalidValueError: not clips.
        """
        if clips.ndim != 5:
            raise InvalidValueError(f"clips must be (N, T, H, W, 3) uint8, got {clips.shape}")
        p = self.probability(clips[:, -1], [goal] * len(clips))
        return Verdict(p, np.maximum(p, 1 - p))

    def compare(self, a: NDArray[np.uint8], b: NDArray[np.uint8], goal: str) -> Verdict:
        """Which of two clips (N, T, H, W, 3) reaches the goal better: -1 is a, +1 is b, 0 a tie.

        P(b better) = sigmoid(log-odds of b - log-odds of a), as Bradley and Terry (1952) have it.
        """
        if a.shape != b.shape or a.ndim != 5:
            raise InvalidValueError(f"two clips of one shape (N, T, H, W, 3) are compared, got {a.shape} and {b.shape}")
        both = self.log_odds(np.concatenate([a[:, -1], b[:, -1]]), [goal] * (2 * len(a)))
        p = _sigmoid((both[len(a) :] - both[: len(a)]) / self.temperature)
        confidence = np.maximum(p, 1 - p)
        return Verdict(np.where(confidence < self.tie, 0, np.where(p > 0.5, 1, -1)).astype(np.float32), confidence)

    def fit(self, images: Images, claims: Sequence[str], truth: NDArray[np.bool_], steps: int = 100) -> float:
        """Fit `bias` and `temperature` to labelled examples by Newton's method; returns the mean log-loss afterwards.

        Args:
            images: (N, H, W, 3).
            claims: N.
            truth: (N,), of both kinds.
            steps: iterations at most.

        Raises:
            InvalidValueError: only true or only false examples.
        """
        wanted = np.asarray(truth, np.float64)
        if len(np.unique(wanted)) < 2:
            raise InvalidValueError("to fit a judge takes true and false examples, got one kind only")
        x = np.stack([self.log_odds(images, claims), np.ones(len(wanted))], axis=1)
        # Slope and offset, from nothing, where Newton's steps do not overshoot; a ridge keeps them finite where the kinds do
        # not overlap.
        weights = np.zeros(2)
        for _ in range(steps):
            p = _sigmoid(x @ weights).astype(np.float64)
            gradient = x.T @ (p - wanted) + 1e-2 * (weights - [1, 0])
            curvature = (x * (p * (1 - p))[:, None]).T @ x + 1e-2 * np.eye(2)
            step = np.linalg.solve(curvature, gradient)
            weights -= step
            if np.abs(step).max() < 1e-9:
                break
        slope = max(weights[0], 1e-6)
        self.temperature, self.bias = float(1 / slope), float(weights[1] / slope)
        p = np.clip(self.probability(images, claims), 1e-7, 1 - 1e-7)
        return float(-np.mean(np.where(wanted > 0, np.log(p), np.log(1 - p))))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float32]:
    return (0.5 * (1 + np.tanh(x / 2))).astype(np.float32)


def _said(answer: str) -> float:
    """Log-odds of a plain yes or no: nearly sure; 0 where it is neither."""
    text = answer.strip().lower()
    return 4.0 if text.startswith(("yes", "true")) else -4.0 if text.startswith(("no", "false")) else 0.0
