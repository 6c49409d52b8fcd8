"""What a judge's labels are worth at every step: three ways of turning them into a reward (ONI, arXiv:2410.23022).

A key names what was seen, such as a caption or a hash; its features are what a network reads of it. Labels come late, if at all
(`AsyncAnnotator`), so a reward remembers the features of the keys that it was asked about until their labels come:

    reward = intrinsic(keys, features)
    annotator.submit(keys)
    intrinsic.update(annotator.poll())
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from assets.errors import InvalidValueError, UnknownNameError
from rewards.annotation import pack_keys, pack_labels, unpack_keys, unpack_labels
from rewards.ensemble import MLP, Trainer, check_features
from rewards.preference import PreferenceReward

Keys = Sequence[Hashable]
Features = NDArray[np.float32]


@dataclass(frozen=True)
class Distilled:
    """What an update took in.

    Attributes:
        labels: that it learned from.
        unused: labels of keys whose features are not known (any more), or beyond the number that is learned from.
        loss: mean over the gradient steps; NaN where there were none.
    """

    labels: int
    unused: int = 0
    loss: float = float("nan")


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
    """r(key) = its label, and 0 while it has none: a table, which generalises to nothing and forgets nothing."""

    def __init__(self) -> None:
        self._table: dict[Any, float] = {}

    def update(self, labels: Mapping[Any, float]) -> Distilled:
        """Take in labels, finite numbers by key; a later one takes the place of an earlier one."""
        for key, label in labels.items():
            if not np.isfinite(label):
                raise InvalidValueError(f"labels must be finite numbers, got {label} for {key!r}")
        self._table.update(labels)
        return Distilled(len(labels))

    def __call__(self, keys: Keys, features: Features | None = None) -> NDArray[np.float32]:
        """The labels of N keys, (N,); features are not looked at."""
        return np.array([self._table.get(key, 0.0) for key in keys], np.float32)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """The table, as arrays."""
        return pack_labels(self._table)

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over the table that `state_dict` gave."""
        self._table = unpack_labels(state)


class _Learner(ABC):
    """What rewards share that train a network on all labels so far whenever some arrive.

    Args:
        n_features: F.
        size: keys that one label is about.
        steps: gradient steps per arrival.
        batch_size: labels per step, drawn with replacement.
        max_labels: training ends with so many.
        memory: keys whose features are remembered until a label comes; those not seen for longest are forgotten.
        seed: of the batches.
    """

    def __init__(
        self, n_features: int, size: int, steps: int, batch_size: int, max_labels: int, memory: int, seed: int
    ) -> None:
        if min(steps, batch_size, max_labels, memory) < 1:
            raise InvalidValueError(
                f"steps, batch_size, max_labels and memory must be >= 1, got {steps}, {batch_size}, {max_labels} and {memory}"
            )
        self.n_features, self._steps, self._batch_size = n_features, steps, batch_size
        self._max_labels, self._memory, self._seed = max_labels, memory, seed
        self._seen: OrderedDict[Hashable, Features] = OrderedDict()
        self._rows, self._labels = np.zeros((0, size, n_features), np.float32), np.zeros(0, np.float32)
        self._updates = 0

    def update(self, labels: Mapping[Any, float]) -> Distilled:
        """Take in labels by key, and train on all labels so far.

        Raises:
            InvalidValueError: keys or labels of another kind.
        """
        parts = {self._parts(key, label): label for key, label in labels.items()}
        known = [(part, label) for part, label in parts.items() if all(key in self._seen for key in part)]
        known = known[: max(self._max_labels - len(self._labels), 0)]
        if not known:
            return Distilled(0, len(labels))
        rows = np.array([[self._seen[key] for key in part] for part, _ in known])
        self._rows = np.concatenate([self._rows, rows])
        self._labels = np.concatenate([self._labels, np.array([label for _, label in known], np.float32)])
        loss = self._learn(np.random.default_rng([self._seed, self._updates]))
        self._updates += 1
        return Distilled(len(known), len(labels) - len(known), loss)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All that training goes on from, as arrays: the network, the labels, and what waits for labels."""
        seen = np.array(list(self._seen.values()), np.float32).reshape(-1, self.n_features)
        return {
            **self._model().state_dict(), "rows": self._rows.copy(), "labels": self._labels.copy(), "seen": seen,
            "seen_keys": pack_keys(self._seen), "updates": np.array(self._updates),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InvalidValueError: the arrays of another network, or of another kind of labels.
            UnknownNameError: an array is missing.
        """
        for name in ("rows", "labels", "seen", "seen_keys", "updates"):
            if name not in state:
                raise UnknownNameError("array of an intrinsic reward", name, state)
        if state["rows"].shape[1:] != self._rows.shape[1:]:
            raise InvalidValueError(f"labels are about {self._rows.shape[1:]} numbers, got {state['rows'].shape[1:]}")
        self._model().load_state_dict(state)
        self._rows, self._labels = np.array(state["rows"]), np.array(state["labels"])
        self._seen = OrderedDict(zip(unpack_keys(state["seen_keys"]), np.array(state["seen"]), strict=True))
        self._updates = int(state["updates"])

    def _remember(self, keys: Keys, features: Features) -> Features:
        """Keep the features of keys, those that they came with first; gives them back as float32."""
        features = check_features(features, self.n_features)
        if len(keys) != len(features):
            raise InvalidValueError(f"as many keys as features are needed, got {len(keys)} and {len(features)}")
        for key, row in zip(keys, features, strict=True):
            if key not in self._seen:
                self._seen[key] = row.copy()
            self._seen.move_to_end(key)
        while len(self._seen) > self._memory:
            self._seen.popitem(last=False)
        return features

    @abstractmethod
    def _model(self) -> Trainer | PreferenceReward: ...

    @abstractmethod
    def _parts(self, key: Any, label: float) -> tuple[Hashable, ...]:
        """The keys that a label is about, if it is one."""

    @abstractmethod
    def _learn(self, rng: np.random.Generator) -> float:
        """Train on `_rows` and `_labels`; the mean loss."""


class ClassifierReward(_Learner):
    """r = 1[p > eta]: whether a network takes what was seen for helpful, so that what was never labelled is rewarded as well.

    p is fitted to labels 0 and 1 by cross-entropy. Before the first labels the reward is 0. Features are standardised by the
    mean and spread that they had in the first labels.

    Args:
        n_features: F.
        eta: threshold of p, in [0, 1]; higher makes rewards rarer.
        hidden: widths of the hidden layers.
        lr: Adam's step size.
        steps: gradient steps whenever labels arrive.
        batch_size: labels per step, drawn with replacement.
        max_labels: training ends with so many.
        memory: keys whose features are remembered until a label comes; those not seen for longest are forgotten.
        seed: of the first weights and of the batches.
        device: "cpu" or "cuda".

    Raises:
        InvalidValueError: an option outside its range.
    """

    def __init__(
        self,
        n_features: int,
        eta: float = 0.5,
        hidden: Sequence[int] = (512, 512),
        lr: float = 1e-4,
        steps: int = 32,
        batch_size: int = 256,
        max_labels: int = 25_000,
        memory: int = 100_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if not 0 <= eta <= 1:
            raise InvalidValueError(f"eta must be in [0, 1], got {eta}")
        super().__init__(n_features, 1, steps, batch_size, max_labels, memory, seed)
        self.eta = eta
        self._net = MLP(1, n_features, hidden, seed)
        self._trainer = Trainer(self._net, lr, device)

    def __call__(self, keys: Keys, features: Features) -> NDArray[np.float32]:
        """1 where what was seen is taken for helpful, else 0; N keys, (N, F) -> (N,)."""
        features = self._remember(keys, features)
        if not self._updates:
            return np.zeros(len(features), np.float32)
        return (self.probability(features) > self.eta).astype(np.float32)

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
            drawn = torch.from_numpy(rng.integers(len(rows), size=self._batch_size))
            return functional.binary_cross_entropy_with_logits(self._net(rows[drawn])[0, :, 0], labels[drawn])

        return self._trainer.descend(loss, self._steps)


class RankingReward(_Learner):
    """A scale that explains which of two things a judge liked better, in standard deviations, and 0 below a threshold.

        z = (r - mean) / std,   reward = z if z >= threshold else 0

    r is fitted by the cross-entropy of P(b over a) = sigmoid(r(b) - r(a)), ties as P = 1/2. The mean and the standard deviation
    are those of everything that the reward was asked about since the first labels. Before them the reward is 0.

    Args:
        n_features: F.
        threshold: in standard deviations.
        hidden: widths of the hidden layers.
        lr: Adam's step size.
        steps: gradient steps whenever labels arrive.
        batch_size: labels per step, drawn with replacement.
        max_labels: training ends with so many.
        memory: keys whose features are remembered until a label comes; those not seen for longest are forgotten.
        seed: of the first weights and of the batches.
        device: "cpu" or "cuda".

    Raises:
        InvalidValueError: an option outside its range.
    """

    def __init__(
        self,
        n_features: int,
        threshold: float = -0.5,
        hidden: Sequence[int] = (512, 512),
        lr: float = 1e-4,
        steps: int = 32,
        batch_size: int = 256,
        max_labels: int = 25_000,
        memory: int = 100_000,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if np.isnan(threshold):
            raise InvalidValueError(f"threshold must be a number, got {threshold}")
        super().__init__(n_features, 2, steps, batch_size, max_labels, memory, seed)
        self.threshold = threshold
        self._scale = PreferenceReward(
            n_features, members=1, hidden=hidden, output="standardised", ties="half", lr=lr, seed=seed, device=device
        )
        self._moments = np.zeros(3)  # how many, their mean, and the sum of their squared distances from it

    def __call__(self, keys: Keys, features: Features) -> NDArray[np.float32]:
        """The reward of what was seen, which then counts for mean and standard deviation; N keys, (N, F) -> (N,)."""
        features = self._remember(keys, features)
        if not self._updates or not len(features):
            return np.zeros(len(features), np.float32)
        self._count(self._scale(features).astype(np.float64))
        return self.normalised(features)

    def normalised(self, features: Features) -> NDArray[np.float32]:
        """The reward without counting it, as an evaluation wants it; (N, F) -> (N,)."""
        count, mean, squares = self._moments
        std = np.sqrt(squares / max(count, 1))
        z = (self._scale(features) - mean) / (std if std > 0 else 1.0)
        return np.where(z >= self.threshold, z, 0).astype(np.float32)

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
        return self._scale.fit(a, b, self._labels, rng, steps=self._steps, batch_size=self._batch_size).loss
