"""A learned reward that is kept up with the policy it trains, so that what the policy finds out about it stops paying.

    L = -log sigmoid(R(certified) - R(corrupted))                                            Cooper, arXiv:2508.05613

Positives are rollouts that a verifier certifies, such as a simulator's predicate of success; a corruptor makes negatives that
look alike and are wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from rewards.ensemble import check_features
from rewards.preference import PreferenceReward

Clips = NDArray[np.float32]


@dataclass(frozen=True)
class Rollouts:
    """R rollouts of T steps.

    Attributes:
        features: what the reward reads, (R, T, F).
        state: what the verifier reads, named physical quantities; name -> (R, T, ...).
    """

    features: Clips
    state: Mapping[str, NDArray[Any]] = field(default_factory=dict)


Verifier = Callable[[Rollouts], NDArray[np.bool_]]
# Certified clips (K, T, F), the others (R - K, T, F) and a generator to K clips that are wrong.
Corruptor = Callable[[Clips, Clips, np.random.Generator], Clips]


@dataclass(frozen=True)
class StopsShort:
    """As if the robot had stopped before the end: the last frames repeat the one before them.

    Args:
        share: of the clip that is lost, in (0, 1); one frame at least, and never the first.
    """

    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise InvalidValueError(f"share must be in (0, 1), got {self.share}")

    def __call__(self, certified: Clips, others: Clips, rng: np.random.Generator) -> Clips:
        """K clips that stop short; (K, T, F) -> (K, T, F)."""
        length = certified.shape[1]
        if length < 2:
            raise InvalidValueError(f"a clip of {length} frame cannot stop short: clips of 2 or more frames are needed")
        kept = int(np.clip(round(length * (1 - self.share)), 1, length - 1))
        return certified[:, np.minimum(np.arange(length), kept - 1)]


@dataclass(frozen=True)
class OtherGoal:
    """As if something else had been asked for: the features that tell the goal come from another rollout.

    A rollout of the same goal teaches nothing and does no harm.

    Args:
        columns: which features tell the goal.
    """

    columns: Sequence[int]

    def __call__(self, certified: Clips, others: Clips, rng: np.random.Generator) -> Clips:
        """K clips with the goal of another one; (K, T, F) -> (K, T, F)."""
        every = np.concatenate([certified, others])
        if len(every) < 2:
            raise InvalidValueError("another goal takes another rollout: 2 or more are needed, got 1")
        ahead = rng.integers(1, len(every), size=len(certified))
        donors = every[(np.arange(len(certified)) + ahead) % len(every)]
        wrong = certified.copy()
        wrong[..., list(self.columns)] = donors[..., list(self.columns)]
        return wrong


@dataclass(frozen=True)
class OwnFailures:
    """The policy's own rollouts that were not certified, where there are any: what it does instead of the task.

    Args:
        otherwise: makes negatives where all were certified.
    """

    otherwise: Corruptor = StopsShort()

    def __call__(self, certified: Clips, others: Clips, rng: np.random.Generator) -> Clips:
        """K of the others, drawn with replacement; (K, T, F) -> (K, T, F)."""
        if not len(others):
            return self.otherwise(certified, others, rng)
        return others[rng.integers(len(others), size=len(certified))]


@dataclass(frozen=True)
class Refreshed:
    """What an update did.

    Attributes:
        certified: rollouts that the verifier certified.
        loss: mean over the steps; NaN where nothing was certified, and nothing changed.
    """

    certified: int
    loss: float


class OnlineRewardTrainer:
    """Refreshes a reward on each batch of its policy's rollouts.

    A policy that is drawn off before the reward has turned finds no more certified rollouts to turn it with: rather take more
    steps per update than fewer.

    Args:
        model: the reward that is refreshed.
        verifier: which rollouts are certified, (R,) bool. It should rather miss a success than certify a failure.
        corruptor: makes a wrong rollout of each certified one.
        rng: of the corruptions and of the batches.
        steps: gradient steps per update.
        batch_size: pairs per member and step.
    """

    def __init__(
        self,
        model: PreferenceReward,
        verifier: Verifier,
        corruptor: Corruptor,
        rng: np.random.Generator,
        steps: int = 32,
        batch_size: int = 64,
    ) -> None:
        self.model = model
        self._verifier, self._corruptor, self._rng = verifier, corruptor, rng
        self._steps, self._batch_size = steps, batch_size

    def update(self, rollouts: Rollouts) -> Refreshed:
        """Train on this batch; where nothing is certified, the model stays as it is, bit for bit.

        Raises:
            InvalidValueError: features, certificates or corruptions that are not as said.
        """
        clips = check_features(rollouts.features, self.model.n_features, 3)
        certified = np.asarray(self._verifier(rollouts))
        if certified.dtype != np.bool_ or certified.shape != clips.shape[:1]:
            raise InvalidValueError(f"a verifier gives ({len(clips)},) bool, got {certified.shape} {certified.dtype}")
        if not certified.any():
            return Refreshed(0, float("nan"))
        right = clips[certified]
        wrong = self._corruptor(right, clips[~certified], self._rng)
        fitted = self.model.fit(
            wrong, right, np.ones(len(right)), self._rng, steps=self._steps, batch_size=self._batch_size
        )  # fmt: skip
        return Refreshed(len(right), fitted.loss)
