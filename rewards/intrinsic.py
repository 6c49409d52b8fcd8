"""What a judge's labels are worth at every step: three ways of turning them into a reward (ONI, arXiv:2410.23022).

A key names what was seen, such as a caption or a hash; its features are what a network reads of it. Labels come late, if at all
(`AsyncAnnotator`), so a reward remembers the features of the keys that it was asked about until their labels come:

    reward = intrinsic(keys, features)
    annotator.submit(keys)
    intrinsic.update(annotator.poll())
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from assets.errors import InvalidValueError, UnknownNameError
from rewards.annotation import pack_labels, unpack_labels
from rewards.distillation import Distillation, Distilled, Distiller, Features, Keys
from rewards.ensemble import MLP, Trainer, check_features
from rewards.preference import PreferenceReward


@runtime_checkable
class IntrinsicReward(Protocol):
    """A reward that is distilled from labels as they arrive."""

    def update(self, labels: Mapping[Any, float]) -> Distilled:
        """Take in labels by key."""
        ...

    def __call__(self, keys: Keys, features: Features) -> NDArray[np.float32]:
        """The reward of what N keys name, whose features are (N, F); (N,)."""
        ...


class RetrievalReward:
    """r(key) = its label, and `unknown` while it has none: a table, which generalises to nothing and forgets nothing.

    A label comes after what it is about, so that what is met seldom is paid `unknown` most of all. The highest label that a
    judge gives makes it worth trying (R-max, Brafman and Tennenholtz 2002, JMLR 3). What is never labelled is then paid for
    ever, which wants a discount for what comes again (`EpisodicCountDiscount`).

    Args:
        unknown: the reward of what has no label, a finite number; 0 is ONI's.

    Raises:
        InvalidValueError: `unknown` is not finite.
    """

    def __init__(self, unknown: float = 0.0) -> None:
        if not np.isfinite(unknown):
            raise InvalidValueError(f"unknown must be a finite number, got {unknown}")
        self.unknown = unknown
        self._table: dict[Any, float] = {}

    def update(self, labels: Mapping[Any, float]) -> Distilled:
        """Take in labels, finite numbers by key; a later one takes the place of an earlier one."""
        for key, label in labels.items():
            if not np.isfinite(label):
                raise InvalidValueError(f"labels must be finite numbers, got {label} for {key!r}")
        self._table.update(labels)
        return Distilled(len(labels))

    def __call__(self, keys: Keys, features: Features | None = None) -> NDArray[np.float32]:
        """The labels of N keys, (N,), and `unknown` where there is none; features are not looked at."""
        return np.array([self._table.get(key, self.unknown) for key in keys], np.float32)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """The table, as arrays."""
        return pack_labels(self._table)

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over the table that `state_dict` gave."""
        self._table = unpack_labels(state)


class ClassifierReward(Distiller):
    """r = 1[p > eta]: whether a network takes what was seen for helpful, so that what was never labelled is rewarded as well.

    p is fitted to labels 0 and 1 by cross-entropy. Before the first labels the reward is 0. Features are standardised by the
    mean and spread that they had in the first labels.

    Args:
        n_features: F.
        eta: threshold of p, in [0, 1]; higher makes rewards rarer.
        how: the network is trained.

    Raises:
        InvalidValueError: an option outside its range.
    """

    def __init__(self, n_features: int, eta: float = 0.5, how: Distillation | None = None) -> None:
        if not 0 <= eta <= 1:
            raise InvalidValueError(f"eta must be in [0, 1], got {eta}")
        super().__init__(n_features, 1, how or Distillation())
        self.eta = eta
        self._net = MLP(1, n_features, self.how.hidden, self.how.seed)
        self._trainer = Trainer(self._net, self.how.lr, self.how.device)

    def __call__(self, keys: Keys, features: Features) -> NDArray[np.float32]:
        """1 where what was seen is taken for helpful, else 0; N keys, (N, F) -> (N,)."""
        features = self._remember(keys, features)
        if not self._updates:
            return np.zeros(len(features), np.float32)
        return (self._said(keys, features, self.probability) > self.eta).astype(np.float32)

    def probability(self, features: Features) -> NDArray[np.float32]:
        """p, (N, F) -> (N,)."""
        with torch.no_grad():
            odds = self._net(self._trainer.tensor(check_features(features, self.n_features)))[0, :, 0]
        return odds.sigmoid().cpu().numpy()

    def _model(self) -> Trainer:
        return self._trainer

    def _parts(self, key: Any, label: float) -> tuple[Hashable, ...]:
        if label not in (0, 1):
            raise InvalidValueError(f"a classifier's labels are 0 and 1, got {label} for {key!r}")
        return (key,)

    def _learn(self, rng: np.random.Generator) -> float:
        rows, labels = self._trainer.tensor(self._rows[:, 0]), self._trainer.tensor(self._labels)
        if not self._updates:
            self._net.standardise(rows)

        def loss() -> Tensor:
            drawn = torch.from_numpy(rng.integers(len(rows), size=self.how.batch_size))
            return functional.binary_cross_entropy_with_logits(self._net(rows[drawn])[0, :, 0], labels[drawn])

        return self._trainer.descend(loss, self.how.steps)


class RankingReward(Distiller):
    """A scale that explains which of two things a judge liked better, in standard deviations, and 0 below a threshold.

        z = (r - mean) / std,   reward = z if z >= threshold else 0

    r is fitted by the cross-entropy of P(b over a) = sigmoid(r(b) - r(a)), ties as P = 1/2. The mean and the standard deviation
    are those of everything that the reward was asked about since the first labels. Before them the reward is 0.

    Args:
        n_features: F.
        threshold: in standard deviations.
        how: the network is trained.

    Raises:
        InvalidValueError: an option outside its range.
    """

    def __init__(self, n_features: int, threshold: float = -0.5, how: Distillation | None = None) -> None:
        if np.isnan(threshold):
            raise InvalidValueError(f"threshold must be a number, got {threshold}")
        super().__init__(n_features, 2, how or Distillation())
        self.threshold = threshold
        self._scale = PreferenceReward(
            n_features,
            members=1,
            hidden=self.how.hidden,
            output="standardised",
            ties="half",
            lr=self.how.lr,
            seed=self.how.seed,
            device=self.how.device,
        )
        self._moments = np.zeros(3)  # how many, their mean, and the sum of their squared distances from it

    def __call__(self, keys: Keys, features: Features) -> NDArray[np.float32]:
        """The reward of what was seen, which then counts for mean and standard deviation; N keys, (N, F) -> (N,)."""
        features = self._remember(keys, features)
        if not self._updates or not len(features):
            return np.zeros(len(features), np.float32)
        worth = self._said(keys, features, self._scale)
        self._count(worth.astype(np.float64))
        return self._cut(worth)

    def normalised(self, features: Features) -> NDArray[np.float32]:
        """The reward without counting it, as an evaluation wants it; (N, F) -> (N,)."""
        return self._cut(self._scale(features))

    def draw_pairs(self, count: int, rng: np.random.Generator) -> list[tuple[Hashable, Hashable]]:
        """Pairs of different keys that were seen, to be asked about; none where fewer than two were."""
        seen = list(self._seen)
        if len(seen) < 2:
            return []
        first = rng.integers(len(seen), size=count)
        second = (first + rng.integers(1, len(seen), size=count)) % len(seen)
        return [(seen[i], seen[j]) for i, j in zip(first, second, strict=True)]

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All that training goes on from, as arrays: the network, the labels, what waits for labels, mean and deviation."""
        return {**super().state_dict(), "moments": self._moments.copy()}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InvalidValueError: the arrays of another network.
            UnknownNameError: an array is missing.
        """
        if "moments" not in state:
            raise UnknownNameError("array of an intrinsic reward", "moments", state)
        super().load_state_dict(state)
        self._moments = np.array(state["moments"])

    def _cut(self, worth: NDArray[np.float32]) -> NDArray[np.float32]:
        """In standard deviations, and 0 below the threshold."""
        count, mean, squares = self._moments
        std = np.sqrt(squares / max(count, 1))
        z = (worth - mean) / (std if std > 0 else 1.0)
        return np.where(z >= self.threshold, z, 0).astype(np.float32)

    def _count(self, values: NDArray[np.float64]) -> None:
        """Join the moments of new values to those so far (Chan, Golub and LeVeque 1983)."""
        count, mean, squares = self._moments
        total, apart = count + len(values), values.mean() - mean
        squares += values.var() * len(values) + apart**2 * count * len(values) / total
        self._moments = np.array([total, mean + apart * len(values) / total, squares])

    def _model(self) -> PreferenceReward:
        return self._scale

    def _parts(self, key: Any, label: float) -> tuple[Hashable, ...]:
        if not isinstance(key, tuple) or len(key) != 2 or label not in (-1, 0, 1):
            raise InvalidValueError(
                f"a ranking's labels are -1 (first), 0 (tie) and 1 (second) of pairs of keys, got {label} for {key!r}"
            )
        return key

    def _learn(self, rng: np.random.Generator) -> float:
        a, b = self._rows[:, :1], self._rows[:, 1:]
        return self._scale.fit(a, b, self._labels, rng, steps=self.how.steps, batch_size=self.how.batch_size).loss
