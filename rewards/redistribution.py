"""Returns that are known only at an episode's end, spread over its steps: what each step contributed.

A network f of a step's features phi_t is fitted so that it adds up to the return R of an episode of T steps:

    RD             L = ((1/T) sum_t f(phi_t) - R / T)^2                             Efroni et al. 2021, arXiv:2008.06036
    RRD            the same, with the mean over K steps drawn at random             Ren et al. 2022, arXiv:2111.13485
    RRD unbiased   L_RRD - (1 - K/T) / K  Var_K(f)

Var_K is the sample variance over the K steps (its sum is divided by K - 1). Steps are drawn without replacement, so the mean
of K has (1 - K/T) / K of the episode's variance: RRD's expected loss is RD's plus this, a price on rewards that vary within
an episode, and that of the unbiased one is RD's. An episode of K steps or fewer is used whole, as in RD; the code released with
LaRe draws with replacement there and subtracts a negative number.

With few named factors for features (`rewards.factors`) in place of raw observations this is LaRe (arXiv:2412.11120), which has
the network and step size that are the defaults here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assets.errors import InvalidValueError, UnknownNameError
from rewards.base import Transition, Within
from rewards.ensemble import MLP, Trainer, check_features
from rewards.factors import named_quantities

METHODS = ("rd", "rrd", "rrd_unbiased")


def decomposition_loss(rewards: Tensor, drawn: Tensor, lengths: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """RRD's loss, and what the unbiased one subtracts from it; means over E episodes.

    Args:
        rewards: (E, K) f of the steps that were drawn.
        drawn: (E, K) bool; false where an episode has fewer than K steps. One at least is true in every row.
        lengths: (E,) steps of each episode, T.
        returns: (E,).

    Returns:
        Two numbers; the variance is 0 where all steps were drawn.
    """
    count = drawn.sum(1).to(rewards.dtype)
    mean = torch.where(drawn, rewards, 0).sum(1) / count
    spread = torch.where(drawn, rewards - mean[:, None], 0).square().sum(1) / (count - 1).clamp(min=1)
    return (mean - returns / lengths).square().mean(), ((1 - count / lengths) / count * spread).mean()


class ReturnDecomposition:
    """A reward of single steps, learned from the returns of whole episodes alone.

    Features are standardised by the mean and spread that they had in the first update. Returns are not: R / T should be of the
    order of 1. Only sums over episodes are known: of what adds up to the same in all of them, only the mean can be learned.

    Args:
        size: F, numbers in a step's features.
        method: "rd" reads whole episodes; "rrd" and "rrd_unbiased" a few steps of each, which long episodes need.
        k: steps that are drawn from an episode, at least 2; "rd" ignores it.
        hidden: widths of the network's layers.
        rate: Adam's step size.
        seed: of the first weights and of the steps that are drawn.
        device: "cpu" or "cuda".

    Raises:
        UnknownNameError: no such method.
        InvalidValueError: an option outside its range.
    """

    def __init__(
        self,
        size: int,
        method: Literal["rd", "rrd", "rrd_unbiased"] = "rd",
        k: int = 64,
        hidden: Sequence[int] = (256, 256, 256),
        rate: float = 3e-4,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if method not in METHODS:
            raise UnknownNameError("method of return decomposition", method, METHODS)
        if k < 2:
            raise InvalidValueError(f"k must be at least 2 steps, of which a variance can be taken, got {k}")
        self.size, self.method, self.k = size, method, k
        self._net = MLP(1, size, hidden, seed)
        self._trainer = Trainer(self._net, rate, device)
        self._draws = torch.Generator().manual_seed(seed)
        self._updates = 0

    def update(self, features: NDArray[Any], lengths: NDArray[Any], returns: NDArray[Any]) -> dict[str, float]:
        """One step of Adam on a batch of episodes.

        Args:
            features: (E, T, F); steps beyond an episode's length may hold anything.
            lengths: (E,) whole numbers in 1..T.
            returns: (E,).

        Returns:
            "loss", which was descended; "fit", the squared error of R / T; "variance", what "rrd_unbiased" subtracts of it.

        Raises:
            InvalidValueError: shapes or lengths that do not fit, or numbers that are not finite.
        """
        features, lengths, returns = self._checked(features, lengths, returns)
        if not self._updates:
            valid = np.arange(features.shape[1]) < lengths[:, None]
            self._net.standardise(self._trainer.tensor(features[valid]))
        index, drawn = self._draw(torch.from_numpy(lengths), features.shape[1])
        steps = self._trainer.tensor(np.take_along_axis(features, index.numpy()[..., None], axis=1))
        rewards = self._net(steps.flatten(0, 1))[0, :, 0].view(index.shape)
        of = self._trainer.tensor
        fit, variance = decomposition_loss(rewards, drawn.to(rewards.device), of(lengths), of(returns))
        loss = fit - variance if self.method == "rrd_unbiased" else fit
        self._updates += 1
        return {
            "loss": self._trainer.descend(lambda: loss, 1),
            "fit": float(fit.detach()),
            "variance": float(variance.detach()),
        }

    def reward(self, features: NDArray[Any]) -> NDArray[np.float32]:
        """The reward of single steps; (N, F) -> (N,).

        Raises:
            InvalidValueError: another shape, or numbers that are not finite.
        """
        with torch.no_grad():
            return self._net(self._trainer.tensor(check_features(features, self.size)))[0, :, 0].cpu().numpy()

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All that training goes on from, as arrays."""
        return {
            **self._trainer.state_dict(), "updates": np.array(self._updates), "draws": self._draws.get_state().numpy().copy(),
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InvalidValueError: the arrays of another network.
        """
        self._trainer.load_state_dict(state)
        self._updates = int(state["updates"])
        self._draws.set_state(torch.from_numpy(np.array(state["draws"])))

    def _draw(self, lengths: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        """Which steps are read, (E, K), and which of these exist, (E, K)."""
        if self.method == "rd":
            index = torch.arange(steps).expand(len(lengths), steps)
        else:
            keys = torch.rand((len(lengths), steps), generator=self._draws)
            index = torch.where(torch.arange(steps) < lengths[:, None], keys, 2).argsort(1)[:, : self.k]
        return index, torch.arange(index.shape[1]) < lengths[:, None]

    def _checked(
        self, features: NDArray[Any], lengths: NDArray[Any], returns: NDArray[Any]
    ) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.float32]]:
        features, lengths, returns = np.asarray(features, np.float32), np.asarray(lengths), np.asarray(returns, np.float32)
        shape = features.shape
        if len(shape) != 3 or shape[2] != self.size or not shape[0] or not lengths.shape == returns.shape == shape[:1]:
            raise InvalidValueError(
                f"features (E, T, {self.size}), lengths (E,) and returns (E,) of 1 or more episodes must fit, got {shape}, "
                f"{lengths.shape} and {returns.shape}"
            )
        if lengths.dtype.kind not in "iu" or not ((lengths >= 1) & (lengths <= shape[1])).all():
            raise InvalidValueError(f"lengths must be whole numbers from 1 to T = {shape[1]}, got {lengths.tolist()[:10]}")
        features = np.where((np.arange(shape[1]) < lengths[:, None])[..., None], features, np.float32(0))
        for name, values in (("features", features), ("returns", returns)):
            if not np.isfinite(values).all():
                raise InvalidValueError(f"{name} must be finite, got {values[~np.isfinite(values)][0]}")
        return features, lengths.astype(np.int64), returns


class Redistributed(Within):
    """A learned decomposition as a reward of transitions.

    Args:
        decomposition: what was learned, or is being learned.
        features: what `rewards.factors.named_quantities` gives -> (T, F), such as a `rewards.factors.Factors`.
    """

    def __init__(
        self, decomposition: ReturnDecomposition, features: Callable[[Mapping[str, NDArray[Any]]], NDArray[Any]]
    ) -> None:
        super().__init__({"decomposition": decomposition})
        self.decomposition, self.features = decomposition, features

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,)."""
        return self.decomposition.reward(self.features(named_quantities(batch)))
