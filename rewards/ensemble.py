"""Small networks that are trained together: M members in one batched product, and all that they are in arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from assets.errors import InvalidValueError


class _Linear(nn.Module):
    """y = x W + b for M members, (M, B, I) -> (M, B, O); weights are first drawn as torch.nn.Linear draws them.

    Args:
        shape: M, I, O.
        rng: of the weights.
        signs: (I, 1) in {-1, 0, 1}: the sign that weights of an input have; 0 leaves them free. None leaves all free.
    """

    signs: Tensor | None

    def __init__(self, shape: tuple[int, int, int], rng: torch.Generator, signs: Tensor | None) -> None:
        super().__init__()
        members, n_in, n_out = shape
        bound = n_in**-0.5
        if signs is not None and (signs > 0).all():
            bound /= n_in**0.5  # weights of one sign add up where others cancel
        self.weight = nn.Parameter(torch.empty(shape).uniform_(-bound, bound, generator=rng))
        self.bias = nn.Parameter(torch.empty(members, 1, n_out).uniform_(-bound, bound, generator=rng))
        self.register_buffer("signs", signs)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight
        if self.signs is not None:
            weight = torch.where(self.signs == 0, weight, self.signs * weight.abs())
        return torch.baddbmm(self.bias, x, weight)


class MLP(nn.Module):
    """M multilayer perceptrons on standardised features: (M, B, F), or (B, F) for all, -> (M, B, outputs).

    Args:
        members: M, at least 1.
        n_features: F.
        hidden: widths of the hidden layers, one at least.
        seed: of the weights.
        outputs: numbers per row.
        signs: (F,) in {-1, 0, 1}: +1 makes every output a function that never falls in that feature, -1 one that never rises, 0
            asks nothing. Weights behind it are then of one sign (Archer and Wang 1993). None asks nothing.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        members: int,
        n_features: int,
        hidden: Sequence[int],
        seed: int,
        outputs: int = 1,
        signs: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        widths = [n_features, *hidden, outputs]
        if members < 1 or min(widths) < 1 or len(widths) < 3:
            raise InvalidValueError(
                f"members, features and every one of 1 or more hidden widths must be >= 1, got {members}, {n_features} and "
                f"{tuple(hidden)}"
            )
        rng = torch.Generator().manual_seed(seed)
        rows = [None] * len(widths) if signs is None else [_signs(signs, n_features), *(torch.ones(w, 1) for w in widths[1:])]
        self.members = members
        self.layers = nn.ModuleList(
            _Linear((members, n_in, n_out), rng, row) for (n_in, n_out), row in zip(pairwise(widths), rows, strict=False)
        )
        # With weights of one sign, a piecewise linear layer could only bend one way.
        self._bend = nn.LeakyReLU() if signs is None else nn.Tanh()
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))

    def standardise(self, features: Tensor) -> None:
        """Take mean and spread of the inputs from (B, F); a feature that does not vary is only centred."""
        mean, std = features.mean(0), features.std(0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 1e-6 * (1 + mean.abs()), std, 1.0))

    def input_norms(self) -> Tensor:
        """How much weight each input has: the norm of all weights that leave it, (M, F). Their sum is a group lasso."""
        weights: Any = self.layers[0].weight
        return (weights.square().sum(2) + 1e-12).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        """The outputs, (M, B, outputs)."""
        x = ((x - self.mean) / self.std).expand(self.members, *x.shape[-2:])
        for layer in self.layers[:-1]:
            x = self._bend(layer(x))
        return self.layers[-1](x)


def _signs(signs: Sequence[int], n_features: int) -> Tensor:
    if len(signs) != n_features or any(sign not in (-1, 0, 1) for sign in signs):
        raise InvalidValueError(f"signs must be {n_features} of -1, 0 and 1, one per feature, got {list(signs)}")
    return torch.tensor(signs, dtype=torch.float32)[:, None]


class Trainer:
    """A network and its Adam (Kingma and Ba 2015, arXiv:1412.6980), so that training can be left and taken up again.

    Args:
        net: the network.
        lr: step size, > 0.
        device: "cpu" or "cuda".
    """

    def __init__(self, net: nn.Module, lr: float, device: str) -> None:
        if not lr > 0:
            raise InvalidValueError(f"lr must be > 0, got {lr}")
        self.net, self.device = net.to(device), torch.device(device)
        self._adam = torch.optim.Adam(self.net.parameters(), lr=lr)

    def tensor(self, values: NDArray[Any]) -> Tensor:
        """float32 on the network's device."""
        return torch.as_tensor(np.asarray(values, np.float32), device=self.device)

    def descend(self, loss: Callable[[], Tensor], steps: int) -> float:
        """Take steps down a loss that is asked anew at each; returns its mean over them, NaN for no steps."""
        seen = []
        for _ in range(steps):
            value = loss()
            self._adam.zero_grad()
            value.backward()
            self._adam.step()
            seen.append(value.detach())
        return float(torch.stack(seen).mean()) if seen else float("nan")

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """Weights as net.*, moments of Adam as adam.*."""
        arrays = {f"net.{name}": value.detach().cpu().numpy().copy() for name, value in self.net.state_dict().items()}
        for i, state in self._adam.state_dict()["state"].items():
            arrays |= {f"adam.{i}.{name}": value.cpu().numpy().copy() for name, value in state.items()}
        return arrays

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InvalidValueError: not the arrays of such a network.
        """
        own = {f"net.{name}": tuple(value.shape) for name, value in self.net.state_dict().items()}
        given = {name: value.shape for name, value in state.items() if name.startswith("net.")}
        if own != given:
            raise InvalidValueError(f"the network's arrays are {own}, got {given}")
        self.net.load_state_dict({name[4:]: torch.from_numpy(np.array(state[name])) for name in own})
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in state.items():
            if name.startswith("adam."):
                _, i, key = name.split(".")
                moments.setdefault(int(i), {})[key] = torch.from_numpy(np.array(value))
        self._adam.load_state_dict({"state": moments, "param_groups": self._adam.state_dict()["param_groups"]})


def check_features(features: NDArray[Any], n_features: int, axes: int = 2) -> NDArray[np.float32]:
    """The features as float32, if they are some.

    Args:
        features: (..., F).
        n_features: F.
        axes: how many axes they must have.

    Raises:
        InvalidValueError: another shape, or numbers that are not finite.
    """
    values = np.asarray(features, np.float32)
    shape = {2: "(N, F)", 3: "(P, T, F)"}[axes]
    if values.ndim != axes or values.shape[-1] != n_features:
        raise InvalidValueError(f"features must be {shape} with F = {n_features}, got {values.shape}")
    if not np.isfinite(values).all():
        raise InvalidValueError(
            f"features must be finite, got {np.count_nonzero(~np.isfinite(values))} NaN or infinite numbers"
        )
    return values
