"""Rewards learned from which of two clips was preferred.

    P(b over a) = sigmoid(R(b) - R(a)),   R(clip) = sum_t r(x_t)          Bradley and Terry 1952; arXiv:1706.03741, eq. 1

x_t are features of one frame or state: physical quantities, or what a frozen encoder makes of a picture (`OnFrames`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import FrozenFeatures, Images, check_images, require
from rewards.base import Within
from rewards.ensemble import MLP, Trainer, check_features

Clips = NDArray[np.float32]


@dataclass(frozen=True)
class Fitted:
    """What a fit used and reached.

    Attributes:
        pairs: that were trained on.
        ties: pairs without a preference.
        loss: mean over the steps, with what `sparsity` adds; NaN where there was nothing to train on.
        accuracy: share of held-out pairs that are ordered as they were preferred; NaN where none was held out.
    """

    pairs: int
    ties: int
    loss: float
    accuracy: float


class PreferenceReward:
    """An ensemble of small networks whose mean is the reward of a frame, fitted to preferences between clips.

    Three members bounded by tanh, as RL-VLM-F (arXiv:2402.03681) and PEBBLE (arXiv:2106.05091) have them. Features are
    standardised by the mean and spread that they had in the first fit. With physical features and `signs`, few pairs are enough
    (arXiv:2402.15473).

    Args:
        n_features: F.
        members: networks, which differ by their first weights and by the pairs they draw.
        hidden: widths of their hidden layers.
        aggregate: a clip's return is the "sum" or the "mean" of its frames' rewards.
        output: "tanh" bounds every member by [-1, 1]; "standardised" leaves it unbounded, with mean 0 and spread 1 on what the
            last fit was given.
        ties: "drop" leaves pairs without a preference out, "half" trains on them as P = 1/2.
        signs: (F,) in {-1, 0, 1}; the reward never falls (+1) or never rises (-1) with that feature. None asks nothing.
        sparsity: weight of a group lasso on the inputs (arXiv:1711.07592), >= 0: features that explain no preference lose their
            influence. 0.03 to 0.1 where pairs are few.
        lr: Adam's step size.
        seed: of the first weights.
        device: "cpu" or "cuda".

    Raises:
        InvalidValueError: an option outside its range.
        UnknownNameError: an unknown aggregate, output or way with ties.
    """

    def __init__(
        self,
        n_features: int,
        members: int = 3,
        hidden: Sequence[int] = (64, 64),
        aggregate: Literal["sum", "mean"] = "sum",
        output: Literal["tanh", "standardised"] = "tanh",
        ties: Literal["drop", "half"] = "drop",
        signs: Sequence[int] | None = None,
        sparsity: float = 0.0,
        lr: float = 1e-3,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        for kind, name, choices in (
            ("aggregate", aggregate, ("sum", "mean")),
            ("output", output, ("tanh", "standardised")),
            ("way with ties", ties, ("drop", "half")),
        ):
            if name not in choices:
                raise UnknownNameError(kind, name, choices)
        if not 0 <= sparsity < np.inf:
            raise InvalidValueError(f"sparsity must be >= 0 and finite, got {sparsity}")
        self.n_features, self.aggregate, self.output, self.ties = n_features, aggregate, output, ties
        self._sparsity = sparsity
        self._net = MLP(members, n_features, hidden, seed, signs=signs)
        self._trainer = Trainer(self._net, lr, device)
        self._fits = 0
        self._offset, self._scale = np.zeros(members), np.ones(members)  # what "standardised" takes off and divides by

    def fit(
        self,
        a: Clips,
        b: Clips,
        preference: NDArray[Any],
        rng: np.random.Generator,
        steps: int = 300,
        batch_size: int = 64,
        held_out: float = 0.0,
    ) -> Fitted:
        """Go on training, by steps of Adam on the cross-entropy of P(b over a).

        Args:
            a: (P, T, F).
            b: (P, T, F).
            preference: (P,) -1 where a was preferred, +1 where b was, 0 for a tie.
            rng: draws the batches, and what is held out.
            steps: gradient steps.
            batch_size: pairs per member and step, drawn with replacement.
            held_out: share of the preferences in [0, 1) that is only used to measure accuracy.

        Raises:
            InvalidValueError: shapes, preferences or options that are not as said. Where no pair is left to train on, nothing
                changes and nothing is raised.
        """
        a, b, preference = self._checked(a, b, preference)
        if not 0 <= held_out < 1 or steps < 0 or batch_size < 1:
            raise InvalidValueError(
                f"held_out must be in [0, 1), steps >= 0 and batch_size >= 1, got {held_out}, {steps} and {batch_size}"
            )
        decided = rng.permutation(np.flatnonzero(preference))
        aside, train = np.split(decided, [round(held_out * len(decided))])
        if self.ties == "half":
            train = np.concatenate([train, np.flatnonzero(preference == 0)])
        loss = self._train(a[train], b[train], preference[train], rng, steps, batch_size) if len(train) and steps else np.nan
        accuracy = self.accuracy(a[aside], b[aside], preference[aside]) if len(aside) else np.nan
        return Fitted(len(train), len(preference) - len(decided), loss, accuracy)

    def __call__(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """The mean of the members' rewards; (N, F) -> (N,)."""
        return self.each(features).mean(0)

    def each(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Every member's reward; (N, F) -> (M, N)."""
        with torch.no_grad():
            raw = self._reward(self._trainer.tensor(check_features(features, self.n_features)))
        return ((raw.cpu().numpy() - self._offset[:, None]) / self._scale[:, None]).astype(np.float32)

    def disagreement(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """Standard deviation of the members' rewards; (N, F) -> (N,). 0 for one member."""
        return self.each(features).std(0)

    def pair_disagreement(self, a: Clips, b: Clips) -> NDArray[np.float32]:
        """Standard deviation of the members' P(b over a), which says what to ask next; (P, T, F) twice -> (P,)."""
        a, b, _ = self._checked(a, b, np.zeros(len(a)))
        apart = (self._returns_of(b) - self._returns_of(a)) * self._scale[:, None]
        return (0.5 * (1 + np.tanh(apart / 2))).std(0).astype(np.float32)

    def returns(self, clips: Clips) -> NDArray[np.float32]:
        """The reward of whole clips, by `aggregate`; (P, T, F) -> (P,)."""
        return self._returns_of(check_features(clips, self.n_features, 3)).mean(0).astype(np.float32)

    def accuracy(self, a: Clips, b: Clips, preference: NDArray[Any]) -> float:
        """Share of the pairs that are ordered as they were preferred; ties are left out.

        Raises:
            InvalidValueError: nothing but ties.
        """
        a, b, preference = self._checked(a, b, preference)
        decided = preference != 0
        if not decided.any():
            raise InvalidValueError(f"accuracy takes pairs with a preference, got {len(preference)} ties")
        apart = self._returns_of(b[decided]).mean(0) - self._returns_of(a[decided]).mean(0)
        return float((np.sign(apart) == preference[decided]).mean())

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All that training goes on from, as arrays."""
        own = {"fits": np.array(self._fits), "offset": self._offset.copy(), "scale": self._scale.copy()}
        return self._trainer.state_dict() | own

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InvalidValueError: the arrays of another network.
            UnknownNameError: an array is missing.
        """
        for name in ("fits", "offset", "scale"):
            if name not in state:
                raise UnknownNameError("array of a preference reward", name, state)
        self._trainer.load_state_dict(state)
        self._fits = int(state["fits"])
        self._offset, self._scale = np.array(state["offset"]), np.array(state["scale"])

    def _train(self, a: Clips, b: Clips, preference: Clips, rng: np.random.Generator, steps: int, batch: int) -> float:
        frames = self._trainer.tensor(np.concatenate([a, b]).reshape(-1, self.n_features))
        if not self._fits:
            self._net.standardise(frames)
        first, second, target = (self._trainer.tensor(x) for x in (a, b, (preference + 1) / 2))

        def loss() -> Tensor:
            drawn = torch.from_numpy(rng.integers(len(a), size=(self._net.members, batch)))
            apart = self._returns(second[drawn]) - self._returns(first[drawn])
            surprise = functional.binary_cross_entropy_with_logits(apart, target[drawn])
            return surprise + self._sparsity * self._net.input_norms().sum(1).mean() if self._sparsity else surprise

        reached = self._trainer.descend(loss, steps)
        self._fits += 1
        if self.output == "standardised":
            self._rescale(frames)
        return reached

    def _rescale(self, frames: Tensor) -> None:
        with torch.no_grad():
            raw = self._reward(frames).cpu().numpy().astype(np.float64)
        self._offset, spread = raw.mean(1), raw.std(1)
        self._scale = np.where(spread > 0, spread, 1.0)

    def _reward(self, x: Tensor) -> Tensor:
        raw = self._net(x)[..., 0]
        return raw.tanh() if self.output == "tanh" else raw

    def _returns(self, clips: Tensor) -> Tensor:
        """(M, B, T, F) -> (M, B), not yet standardised."""
        rewards = self._reward(clips.flatten(1, 2)).unflatten(1, clips.shape[1:3])
        return rewards.sum(-1) if self.aggregate == "sum" else rewards.mean(-1)

    def _returns_of(self, clips: Clips) -> NDArray[np.float64]:
        """(P, T, F) -> (M, P)."""
        rewards = self.each(clips.reshape(-1, self.n_features)).reshape(-1, *clips.shape[:2]).astype(np.float64)
        return rewards.sum(-1) if self.aggregate == "sum" else rewards.mean(-1)

    def _checked(self, a: Clips, b: Clips, preference: NDArray[Any]) -> tuple[Clips, Clips, Clips]:
        a, b = check_features(a, self.n_features, 3), check_features(b, self.n_features, 3)
        preference = np.asarray(preference, np.float32)
        if a.shape != b.shape or preference.shape != a.shape[:1]:
            raise InvalidValueError(
                f"a and b must be (P, T, F) of one shape and preference (P,), got {a.shape}, {b.shape} and {preference.shape}"
            )
        if not np.isin(preference, (-1, 0, 1)).all():
            raise InvalidValueError(f"a preference is -1 (a), 0 (tie) or 1 (b), got {np.unique(preference)}")
        return a, b, preference


class OnFrames(Within):
    """A reward of frames: what a frozen encoder sees in them, rewarded. (N, H, W, 3) uint8 -> (N,).

    Args:
        encoder: any backend that is a FrozenFeatures.
        reward: of such features.

    Raises:
        InvalidValueError: no encoder, or a reward of features of another size.
    """

    def __init__(self, encoder: FrozenFeatures, reward: PreferenceReward) -> None:
        super().__init__({"reward": reward})
        self.encoder, self.reward = require(encoder, FrozenFeatures, "give features of frames"), reward
        if encoder.size != reward.n_features:
            raise InvalidValueError(f"the encoder gives {encoder.size} features, the reward takes {reward.n_features}")

    def __call__(self, frames: Images) -> NDArray[np.float32]:
        """The reward of each frame, (N,)."""
        return self.reward(self.encoder.embed(check_images(frames)))
