"""Rewards from where demonstrations end: how far a picture is from the goal, how far a task has come, whether it is done.

All three are small networks on frozen features, trained on a few demonstrations within a minute, and are `FrameReward`s in
[0, 1] with one interface: `fit(videos)`, a call, `state_dict`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from assets.errors import InvalidValueError
from rewards.ensemble import MLP, Trainer
from rewards.steps import Encoder, embedded

Video = NDArray[np.uint8]


class _OnFeatures(ABC):
    """A small network on standardised frozen features.

    Args:
        encoder: frozen; it makes vectors of pictures.
        outputs: of the network.
        hidden: width of its one hidden layer.
        updates: of training.
        rate: Adam's.
        noise: standard deviation of noise on standardised features while training, against learning them by heart.
        seed: of weights and draws.
    """

    def __init__(
        self, encoder: Encoder, outputs: int, hidden: int = 64, updates: int = 500, rate: float = 1e-3, noise: float = 0.1,
        seed: int = 0,
    ) -> None:  # fmt: skip
        if min(outputs, hidden, updates) < 1 or not rate > 0 or noise < 0:
            raise InvalidValueError(
                f"hidden and updates must be >= 1, rate > 0 and noise >= 0, got {hidden}, {updates}, {rate} and {noise}"
            )
        self.encoder, self._outputs, self._hidden = encoder, outputs, hidden
        self._updates, self._rate, self._noise, self._seed = updates, rate, noise, seed
        self._trainer: Trainer | None = None
        self._extra: dict[str, NDArray[Any]] = {}

    def fit(self, demonstrations: Sequence[Video]) -> list[float]:
        """Learn from videos (T_i, H, W, 3) of one size; returns the mean loss of every tenth of the updates.

        Raises:
            InvalidValueError: fewer than two, of different sizes, of fewer than 3 frames, constant, or with features that are
                not finite.
        """
        return self.fit_features(embedded(self.encoder, demonstrations))

    def fit_features(self, demonstrations: Sequence[NDArray[Any]]) -> list[float]:
        """Learn from features (T_i, D) instead of videos; as `fit`."""
        rows = np.concatenate(demonstrations).astype(np.float64)
        if min(map(len, demonstrations)) < 3:
            raise InvalidValueError(f"a demonstration needs at least 3 frames, got {min(map(len, demonstrations))}")
        if not np.isfinite(rows).all():
            raise InvalidValueError("features must be finite numbers: the encoder gave NaN or infinity")
        if not all(np.ptp(d, axis=0).any() for d in demonstrations):
            raise InvalidValueError(
                "nothing changes in one of the demonstrations: nothing can be learned from a constant video"
            )
        mean, spread = rows.mean(axis=0), rows.std(axis=0)
        self._extra = {"mean": mean, "scale": np.where(spread > 1e-9 * (1 + np.abs(mean)), spread, np.inf)}
        self._trainer, generator = self._fresh(), torch.Generator().manual_seed(self._seed)
        given = [self._unit(d) for d in demonstrations]
        tenths = [len(part) for part in np.array_split(np.arange(self._updates), min(10, self._updates))]
        told = [self._trainer.descend(lambda: self._loss(given, generator), count) for count in tenths]
        self._extra |= self._measured(given)
        return told

    def _fresh(self) -> Trainer:
        """A network that has learned nothing. It gets standardised features, and leaves them as they are."""
        net = MLP(1, len(self._extra["mean"]), (self._hidden,), self._seed, self._outputs)
        return Trainer(net, self._rate, "cpu")

    def _says(self, rows: torch.Tensor) -> torch.Tensor:
        """What the network makes of standardised features, (N, D) -> (N, outputs)."""
        assert self._trainer is not None
        out: torch.Tensor = self._trainer.net(rows)[0]
        return out

    def _unit(self, features: NDArray[Any]) -> torch.Tensor:
        return torch.from_numpy(((features - self._extra["mean"]) / self._extra["scale"]).astype(np.float32))

    def _noisy(self, rows: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return rows + self._noise * torch.randn(rows.shape, generator=generator)

    @abstractmethod
    def _loss(self, given: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        """What a training step goes down."""

    def _measured(self, given: list[torch.Tensor]) -> dict[str, NDArray[Any]]:
        """What else is kept once the network has learned."""
        del given
        return {}

    @abstractmethod
    def _worth(self, out: torch.Tensor) -> torch.Tensor:
        """The reward from what the network says of N pictures, (N, outputs) -> (N,)."""

    @torch.inference_mode()
    def of_features(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """The reward of feature vectors (N, D), (N,) in [0, 1].

        Raises:
            InvalidValueError: nothing was learned yet; features of another length, or not finite.
        """
        if self._trainer is None:
            raise InvalidValueError("this reward has not learned anything yet: call fit(demonstrations), or load a state")
        rows, size = np.asarray(features), len(self._extra["mean"])
        if rows.ndim != 2 or rows.shape[1] != size or not np.isfinite(rows).all():
            raise InvalidValueError(f"features must be finite, (N, {size}), got {rows.shape}")
        # In double precision, so that a picture is worth the same whatever else is in the batch.
        net = self._trainer.net
        weights = {name: value.double() for name, value in net.state_dict().items()}
        out = torch.func.functional_call(net, weights, (self._unit(rows).double(),))[0]
        return self._worth(out).clamp(0, 1).numpy().astype(np.float32)

    def __call__(self, frames: Video) -> NDArray[np.float32]:
        """The reward of pictures (N, H, W, 3), (N,) in [0, 1]."""
        return self.of_features(self.encoder.embed(frames))

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What was learned, as arrays."""
        net = {} if self._trainer is None else self._trainer.state_dict()
        return {**{key: value for key, value in net.items() if key.startswith("net.")}, **self._extra}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            InvalidValueError: it is of a network of another size.
        """
        self._extra = {key: np.asarray(value) for key, value in state.items() if not key.startswith("net.")}
        self._trainer = self._fresh()
        self._trainer.load_state_dict(state)


class GoalDistance(_OnFeatures):
    """How near a picture is to where demonstrations end, in an embedding in which distance is time: VIP (arXiv:2210.00030).

        V(o; g) = -|phi(o) - phi(g)|        loss = (1 - gamma) E[-V(o_0; g)] + log E[exp(V(o; g) + 1 - gamma V(o'; g))]

    with (o_0, o, o', g) the first frame, two that follow each other, and the last one of a stretch of a demonstration. The
    reward is 1 - |phi(o) - mean phi(g)| / d_0, where d_0 is the mean distance of the demonstrations' first frames.

    Args:
        encoder: frozen; it makes vectors of pictures.
        size: of the embedding.
        gamma: discount.
        batch: stretches in an update.
        more: further arguments of the network: hidden, updates, rate, noise, seed.
    """

    def __init__(self, encoder: Encoder, size: int = 16, gamma: float = 0.98, batch: int = 64, **more: Any) -> None:
        super().__init__(encoder, size, **more)
        if not 0 < gamma < 1 or batch < 1:
            raise InvalidValueError(f"gamma must be in (0, 1) and batch >= 1, got {gamma} and {batch}")
        self._gamma, self._batch = gamma, batch

    def _loss(self, given: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        chosen = torch.randint(len(given), (self._batch,), generator=generator).tolist()
        four = [_stretch(given[k], generator) for k in chosen]
        first, now, following, goal = (
            self._says(self._noisy(torch.stack(rows), generator)) for rows in zip(*four, strict=True)
        )

        def value(o: torch.Tensor) -> torch.Tensor:
            return -torch.linalg.vector_norm(o - goal, dim=1)

        gain = value(now) + 1 - self._gamma * value(following)
        count = torch.log(torch.tensor(float(self._batch)))
        return (1 - self._gamma) * -value(first).mean() + torch.logsumexp(gain, dim=0) - count

    @torch.inference_mode()
    def _measured(self, given: list[torch.Tensor]) -> dict[str, NDArray[Any]]:
        goal = self._says(torch.stack([rows[-1] for rows in given])).mean(dim=0)
        away = torch.linalg.vector_norm(self._says(torch.stack([rows[0] for rows in given])) - goal, dim=1).mean()
        return {"goal": goal.numpy(), "far": away.reshape(1).numpy()}

    def _worth(self, out: torch.Tensor) -> torch.Tensor:
        goal, far = (torch.from_numpy(np.asarray(self._extra[k])) for k in ("goal", "far"))
        return 1 - torch.linalg.vector_norm(out - goal, dim=1) / far.clamp(min=1e-9)


class Progress(_OnFeatures):
    """What share of a demonstration's time has passed when it looks like this, by regression.

    Args:
        encoder: frozen; it makes vectors of pictures.
        more: further arguments of the network: hidden, updates, rate, noise, seed.
    """

    def __init__(self, encoder: Encoder, **more: Any) -> None:
        super().__init__(encoder, 1, **more)

    def _loss(self, given: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        share = torch.cat([torch.linspace(0, 1, len(rows)) for rows in given])
        return functional.mse_loss(self._says(self._noisy(torch.cat(given), generator))[:, 0].sigmoid(), share)

    def _worth(self, out: torch.Tensor) -> torch.Tensor:
        return out[:, 0].sigmoid()


class SuccessClassifier(_OnFeatures):
    """The probability that a picture shows the end of a demonstration.

    Args:
        encoder: frozen; it makes vectors of pictures.
        end: share of a demonstration's frames, at its end, that count as done.
        more: further arguments of the network: hidden, updates, rate, noise, seed.
    """

    def __init__(self, encoder: Encoder, end: float = 0.15, **more: Any) -> None:
        super().__init__(encoder, 1, **more)
        if not 0 < end < 1:
            raise InvalidValueError(f"end must be a share in (0, 1), got {end}")
        self._end = end

    def _loss(self, given: list[torch.Tensor], generator: torch.Generator) -> torch.Tensor:
        done = torch.cat([(torch.arange(len(rows)) >= round((1 - self._end) * len(rows))).float() for rows in given])
        said = self._says(self._noisy(torch.cat(given), generator))[:, 0]
        balance = (1 - done).sum() / done.sum()  # both kinds weigh alike
        return functional.binary_cross_entropy_with_logits(said, done, pos_weight=balance)

    def _worth(self, out: torch.Tensor) -> torch.Tensor:
        return out[:, 0].sigmoid()


def _stretch(rows: torch.Tensor, generator: torch.Generator) -> tuple[torch.Tensor, ...]:
    """First frame, two that follow each other, and goal, of a stretch of at least 3 frames."""
    length = len(rows)
    start = int(torch.randint(0, length - 2, (), generator=generator))
    end = int(torch.randint(start + 2, length, (), generator=generator))
    now = int(torch.randint(start, end, (), generator=generator))
    return rows[start], rows[now], rows[now + 1], rows[end]
