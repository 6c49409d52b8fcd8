"""Training a network on a judge's labels while they arrive, and remembering what labels will be about."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from rewards.annotation import pack_keys, unpack_keys
from rewards.ensemble import Trainer, check_features
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


@dataclass(frozen=True)
class Distillation:
    """How labels become a network; defaults are those of ONI (arXiv:2410.23022).

    Args:
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

    hidden: Sequence[int] = (512, 512)
    lr: float = 1e-4
    steps: int = 32
    batch_size: int = 256
    max_labels: int = 25_000
    memory: int = 100_000
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if min(self.steps, self.batch_size, self.max_labels, self.memory) < 1:
            raise InvalidValueError(
                "steps, batch_size, max_labels and memory must be >= 1, got "
                f"{self.steps}, {self.batch_size}, {self.max_labels} and {self.memory}"
            )


class Distiller(ABC):
    """What rewards share that train a network on all labels so far whenever some arrive.

    A key's features are always the same: what the network says of it is kept until the next labels.

    Args:
        n_features: F.
        size: keys that one label is about.
        how: to train.
    """

    def __init__(self, n_features: int, size: int, how: Distillation) -> None:
        self.n_features, self.how = n_features, how
        self._seen: OrderedDict[Hashable, Features] = OrderedDict()
        self._rows, self._labels = np.zeros((0, size, n_features), np.float32), np.zeros(0, np.float32)
        self._updates = 0
        self._known: dict[Hashable, float] = {}

    def update(self, labels: Mapping[Any, float]) -> Distilled:
        """Take in labels by key, and train on all labels so far.

        Raises:
            InvalidValueError: keys or labels of another kind.
        """
        parts = {self._parts(key, label): label for key, label in labels.items()}
        known = [(part, label) for part, label in parts.items() if all(key in self._seen for key in part)]
        known = known[: max(self.how.max_labels - len(self._labels), 0)]
        if not known:
            return Distilled(0, len(labels))
        rows = np.array([[self._seen[key] for key in part] for part, _ in known])
        self._rows = np.concatenate([self._rows, rows])
        self._labels = np.concatenate([self._labels, np.array([label for _, label in known], np.float32)])
        loss = self._learn(np.random.default_rng([self.how.seed, self._updates]))
        self._updates += 1
        self._known.clear()
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
        self._known.clear()

    def _remember(self, keys: Keys, features: Features) -> Features:
        """Keep the features of keys, those that they came with first; gives them back as float32."""
        features = check_features(features, self.n_features)
        if len(keys) != len(features):
            raise InvalidValueError(f"as many keys as features are needed, got {len(keys)} and {len(features)}")
        for key, row in zip(keys, features, strict=True):
            if key not in self._seen:
                self._seen[key] = row.copy()
            self._seen.move_to_end(key)
        while len(self._seen) > self.how.memory:
            self._seen.popitem(last=False)
        return features

    def _said(self, keys: Keys, features: Features, network: Callable[[Features], NDArray[Any]]) -> NDArray[np.float32]:
        """What a network says of N keys, (N,): between two updates it is asked once about each."""
        new = {key: i for i, key in enumerate(keys) if key not in self._known}
        if len(self._known) + len(new) > self.how.memory:
            self._known.clear()
            new = {key: i for i, key in enumerate(keys)}
        if new:
            self._known.update(zip(new, network(features[list(new.values())]).tolist(), strict=True))
        return np.array([self._known[key] for key in keys], np.float32)

    @abstractmethod
    def _model(self) -> Trainer | PreferenceReward: ...

    @abstractmethod
    def _parts(self, key: Any, label: float) -> tuple[Hashable, ...]:
        """The keys that a label is about, if it is one."""

    @abstractmethod
    def _learn(self, rng: np.random.Generator) -> float:
        """Train on `_rows` and `_labels`; the mean loss."""
