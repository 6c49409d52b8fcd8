"""A reward learned from choices that nobody was asked for: what was used, and what was passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from assets.errors import InvalidValueError
from rewards.ensemble import MLP, Trainer, check_features


class TripletReward:
    """r(x, g) = -|| g - v(x) ||^2 in [-4, 0]: how near what is seen is to a goal in an embedding that is fitted to choices.

        L = max(0, ||g - v+||^2 - ||g - v-||^2 + margin),   v(x) = (x + f(x)) / ||x + f(x)||          arXiv:2402.09872

    f is a small network that is 0 before the first fit, so that the start is the cosine similarity of a frozen encoder. Choices
    need not be asked for: what was used again is positive, what was passed over negative.

    Args:
        n_features: F, the size of a frozen encoder's embedding, such as CLIP's.
        margin: >= 0.
        hidden: widths of the hidden layers of f.
        lr: Adam's step size.
        seed: of the first weights.
        device: "cpu" or "cuda".

    Raises:
        InvalidValueError: an option outside its range.
    """

    def __init__(
        self,
        n_features: int,
        margin: float = 0.3,
        hidden: Sequence[int] = (64,),
        lr: float = 1e-3,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        if not margin >= 0:
            raise InvalidValueError(f"margin must be >= 0, got {margin}")
        self.n_features, self.margin = n_features, margin
        self._net = MLP(1, n_features, hidden, seed, outputs=n_features)
        last: Any = self._net.layers[-1]
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self._trainer = Trainer(self._net, lr, device)

    def fit(
        self,
        goal: NDArray[Any],
        positive: NDArray[Any],
        negative: NDArray[Any],
        rng: np.random.Generator,
        steps: int = 300,
        batch_size: int = 64,
    ) -> float:
        """Go on training; returns the mean loss over the steps.

        Args:
            goal: (P, F) embeddings of what was asked for, a text or a picture.
            positive: (P, F) what was chosen for it.
            negative: (P, F) what was passed over.
            rng: draws the batches.
            steps: gradient steps.
            batch_size: triplets per step, drawn with replacement.

        Raises:
            InvalidValueError: no triplets, shapes that differ, or numbers that are not finite.
        """
        triplets = [self._trainer.tensor(check_features(x, self.n_features)) for x in (goal, positive, negative)]
        if len({len(x) for x in triplets}) > 1 or not len(goal):
            raise InvalidValueError(
                f"as many goals, positives and negatives are needed, 1 or more, got {[len(x) for x in triplets]}"
            )

        def loss() -> Tensor:
            drawn = torch.from_numpy(rng.integers(len(goal), size=batch_size))
            g, chosen, passed = (x[drawn] for x in triplets)
            return functional.relu(self._near(passed, g) - self._near(chosen, g) + self.margin).mean()

        return self._trainer.descend(loss, steps)

    def __call__(self, features: NDArray[Any], goal: NDArray[Any]) -> NDArray[np.float32]:
        """The reward of each row, (N, F) -> (N,); `goal` is (F,), or (N, F)."""
        seen = check_features(features, self.n_features)
        wanted = check_features(np.broadcast_to(goal, seen.shape), self.n_features)
        with torch.no_grad():
            return self._near(self._trainer.tensor(seen), self._trainer.tensor(wanted)).cpu().numpy()

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All that training goes on from, as arrays."""
        return self._trainer.state_dict()

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InvalidValueError: the arrays of another network.
        """
        self._trainer.load_state_dict(state)

    def _near(self, x: Tensor, goal: Tensor) -> Tensor:
        x = functional.normalize(x, dim=-1)
        v = functional.normalize(x + self._net(x)[0], dim=-1)
        return -(functional.normalize(goal, dim=-1) - v).square().sum(-1)
