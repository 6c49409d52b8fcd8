"""Behaviour cloning with action chunks: from what the demonstrator saw to the actions it took next.

Observations go through the same foveal network as the RL agents'; a head turns its features into the next H actions. Two
heads: a plain regression ("mse"), which averages where demonstrators disagree, and a flow ("flow"), which can take sides
(rectified flow: Lipman et al. 2023, arXiv:2210.02747, with the straight paths of their section 4.1). How chunks become
actions is in `agents.chunk`. The history is one observation.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from torch import nn

from agents import checkpoint
from agents.base import Observation
from agents.chunk import ChunkBuffer
from agents.dataset import Demonstrations, Steps, learning_arrays
from agents.device import place
from agents.extractor import FovealExtractor
from agents.rollout import Episode
from assets.errors import InvalidValueError, UnknownNameError

# A vector's entry that hardly moves in the demonstrations is not blown up beyond this many times.
_LEAST_STD = 1e-3


def _mlp(width: int, hidden: Sequence[int], out: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for size in hidden:
        layers += [nn.Linear(width, size), nn.ReLU()]
        width = size
    return nn.Sequential(*layers, nn.Linear(width, out))


class MSEHead(nn.Module):
    """Regression of a flattened chunk; the mean of what demonstrators do."""

    def __init__(self, features: int, size: int, hidden: Sequence[int], euler_steps: int) -> None:
        super().__init__()
        del euler_steps  # A regression answers at once.
        self.net = _mlp(features, hidden, size)

    def error(self, features: torch.Tensor, chunk: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Squared error of every entry, (B, H A)."""
        del generator  # Nothing is drawn.
        return (self.net(features) - chunk) ** 2

    def sample(self, features: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """The predicted chunk, (B, H A)."""
        del start  # Nothing is drawn.
        return self.net(features)


class FlowHead(nn.Module):
    """A velocity field that carries noise x_0 ~ N(0, 1) at t = 0 in straight lines to chunks x_1 at t = 1."""

    def __init__(self, features: int, size: int, hidden: Sequence[int], euler_steps: int) -> None:
        super().__init__()
        self.net = _mlp(features + size + 1, hidden, size)
        self.euler_steps = euler_steps

    def _velocity(self, features: torch.Tensor, x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return self.net(torch.cat([features, x, 2 * t - 1], dim=1))

    def error(self, features: torch.Tensor, chunk: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Flow matching, arXiv:2210.02747 eq. 23 with sigma_min = 0: |v(x_t, t) - (x_1 - x_0)|^2, (B, H A)."""
        # Drawn on the CPU, where the generator lives, so that every device sees the same numbers.
        noise = torch.randn(chunk.shape, generator=generator).to(chunk.device)
        t = torch.rand((len(chunk), 1), generator=generator).to(chunk.device)
        x = (1 - t) * noise + t * chunk
        return (self._velocity(features, x, t) - (chunk - noise)) ** 2

    def sample(self, features: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
        """Follow the field from `start` (B, H A) in equal Euler steps."""
        x = start
        for k in range(self.euler_steps):
            t = torch.full((len(x), 1), k / self.euler_steps, device=x.device)
            x = x + self._velocity(features, x, t) / self.euler_steps
        return x


HEADS: dict[str, type[MSEHead] | type[FlowHead]] = {"mse": MSEHead, "flow": FlowHead}


class ChunkNetwork(nn.Module):
    """Normalised observations, the foveal extractor, a head.

    Vectors are normalised by the demonstrations' mean and standard deviation, which are buffers and so part of every
    checkpoint. Images and the instruction's embedding stay as they are: both are bounded, and most entries of an embedding
    never vary in a dataset.

    Args:
        space: of one observation.
        actions, chunk: A and H.
        head: "mse" or "flow".
        hidden: widths of the head's layers.
        euler_steps: of the flow.
        extractor: arguments of `FovealExtractor`.
    """

    def __init__(
        self,
        space: spaces.Dict,
        actions: int,
        chunk: int,
        head: str,
        hidden: Sequence[int],
        euler_steps: int,
        extractor: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.extractor = FovealExtractor(space, **extractor)
        self.chunk, self.actions = chunk, actions
        for key in self.extractor.vectors:
            self.register_buffer(f"mean_{key}", torch.zeros(space[key].shape or ()))
            self.register_buffer(f"std_{key}", torch.ones(space[key].shape or ()))
        self.fitted: torch.Tensor
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool))
        self.head = HEADS[head](self.extractor.features_dim, chunk * actions, hidden, euler_steps)

    def fit(self, obs: Mapping[str, torch.Tensor]) -> None:
        """Take mean and standard deviation from observations (S, ...), the first time only."""
        if self.fitted:
            return
        for key in self.extractor.vectors:
            value = obs[key].double()
            self.get_buffer(f"mean_{key}").copy_(value.mean(dim=0))
            spread = value.std(dim=0, correction=0)
            self.get_buffer(f"std_{key}").copy_(torch.where(spread < _LEAST_STD, 1.0, spread))
        self.fitted.fill_(True)

    def features(self, obs: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Features of B observations, (B, F)."""
        ready = dict(obs)
        for key in self.extractor.vectors:
            ready[key] = (obs[key].float() - self.get_buffer(f"mean_{key}")) / self.get_buffer(f"std_{key}")
        return self.extractor(ready)

    def loss(
        self, obs: Mapping[str, torch.Tensor], chunk: torch.Tensor, real: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Mean error over the actions that exist; `chunk` (B, H, A), `real` (B, H) bool, false beyond an episode's end."""
        error = self.head.error(self.features(obs), chunk.flatten(1), generator).view_as(chunk)
        mask = real[..., None].expand_as(error)
        return (error * mask).sum() / mask.sum()

    def forward(self, obs: Mapping[str, torch.Tensor], start: torch.Tensor) -> torch.Tensor:
        """Chunks from noise `start` (B, H, A). Shape (B, H, A)."""
        return self.head.sample(self.features(obs), start.flatten(1)).view_as(start)


class BCLearner:
    """Clones demonstrations in pieces that can be stopped and resumed anywhere between them.

    The same face as `agents.sb3.SB3Learner`. One step is one gradient update. The dataset is opened on the first `advance`, so
    that acting never needs it, and images are then drawn from its snapshots with `env`, at its sizes and profile, which leaves
    `env` to be reset; `env` is never stepped here.

    Args:
        env: vector environment whose observations the policy will see.
        demonstrations: dataset, its folder, or episodes in memory; None if it will only act, after `load_policy`.
        seed: of the initial weights, the batches and the flow's noise.
        device: "auto", "cpu", "cuda".
        threads: torch threads on the CPU; 0 leaves torch's choice.
        head: "mse", or "flow" where demonstrators solve the same situation in different ways.
        chunk: actions predicted at once, H.
        execute: steps between two predictions while acting, 1 to H.
        ensemble: ACT's m for averaging overlapping predictions, see `agents.chunk`; None takes the newest.
        batch_size: steps per update.
        learning_rate: Adam's.
        hidden: widths of the head's layers.
        euler_steps: of the flow head while acting; more follow curved paths better and cost a pass each.
        extractor: arguments of `FovealExtractor`.

    Raises:
        UnknownNameError: no such head.
        InvalidValueError: an argument is out of its range.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        demonstrations: Sequence[Episode] | str | Path | None,
        seed: int = 0,
        device: str = "auto",
        threads: int = 0,
        head: str = "mse",
        chunk: int = 8,
        execute: int = 1,
        ensemble: float | None = 0.01,
        batch_size: int = 64,
        learning_rate: float = 1e-3,
        hidden: Sequence[int] = (256, 256),
        euler_steps: int = 5,
        extractor: Mapping[str, Any] | None = None,
    ) -> None:
        if head not in HEADS:
            raise UnknownNameError("head", head, HEADS)
        for name, value in (("batch_size", batch_size), ("euler_steps", euler_steps)):
            if value < 1:
                raise InvalidValueError(f"{name} must be >= 1, got {value}")
        self._buffer = ChunkBuffer(chunk, execute, ensemble)
        self._env, self._batch_size = env, batch_size
        self._demonstrations = demonstrations
        self._config = {"head": head, "chunk": chunk, "hidden": list(hidden)}
        self.device = place(device, threads)
        space, actions = env.single_observation_space, env.single_action_space
        assert isinstance(space, spaces.Dict)
        assert isinstance(actions, spaces.Box)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            net = ChunkNetwork(space, actions.shape[0], chunk, head, hidden, euler_steps, extractor or {})
        self.network = net.to(self.device)
        self._keys = list(space.spaces)
        self._optimizer = torch.optim.Adam(net.parameters(), lr=learning_rate)
        self._batches = torch.Generator().manual_seed(seed)
        self._noise = torch.Generator().manual_seed(seed + 1)
        self._data: _Data | None = None
        self._expected: str | None = None
        self._updates = 0

    @property
    def steps(self) -> int:
        """Gradient updates so far."""
        return self._updates

    def advance(self, steps: int) -> dict[str, float]:
        """Make `steps` more updates; returns their mean loss and their speed.

        Raises:
            InvalidValueError: there are no demonstrations, or not those that the checkpoint was trained on.
            DatasetError: the folder is no dataset, or one of another environment.
        """
        data, began = self._prepare(), time.perf_counter()
        self.network.train()
        total = 0.0
        for _ in range(steps):
            obs, chunk, real = data.draw(self._batch_size, self.network.chunk, self._batches)
            loss = self.network.loss(obs, chunk, real, self._batches)
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            total += float(loss.detach())
            self._updates += 1
        speed = steps / (time.perf_counter() - began)
        return {"train/loss": total / max(steps, 1), "train/n_updates": float(self._updates), "time/updates_per_s": speed}

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """Actions for N observations, (N, A) in [-1, 1]; `deterministic` starts the flow from zero instead of noise."""
        count = len(next(iter(obs.values())))
        actions = self._buffer.act(count, lambda: self._predict(obs, count, deterministic))
        return np.clip(actions, -1, 1).astype(np.float32)

    def _predict(self, obs: Observation, count: int, deterministic: bool) -> NDArray[np.float32]:
        shape = (count, self.network.chunk, self.network.actions)
        start = torch.zeros(shape) if deterministic else torch.randn(shape, generator=self._noise)
        seen = {key: torch.from_numpy(np.ascontiguousarray(obs[key])).to(self.device) for key in self._keys}
        self.network.eval()
        with torch.no_grad():
            return self.network(seen, start.to(self.device)).cpu().numpy()

    def reset(self, sims: NDArray[np.bool_] | None = None) -> None:
        """Forget the chunks under way, of all simulations or of those in a mask (N,); call it before new episodes."""
        self._buffer.reset(sims)

    def _prepare(self) -> _Data:
        if self._data is None:
            if self._demonstrations is None:
                raise InvalidValueError("this learner was made with demonstrations=None: it can act, but not learn")
            given = self._demonstrations
            episodes = Demonstrations(given) if isinstance(given, (str, Path)) else given
            data = _Data(learning_arrays(episodes, self._env), self.device)
            self.network.fit(data.obs)
            self._data = data
        if self._expected not in (None, self._data.digest):
            raise InvalidValueError(
                f"the checkpoint was trained on demonstrations with digest {self._expected}, "
                f"these have {self._data.digest}: resume with the same dataset"
            )
        return self._data

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, except the demonstrations."""
        return {
            "config": dict(self._config),
            # Copies: a state that is kept in memory must not train on.
            "policy": deepcopy(self.network.state_dict()),
            "optimizer": deepcopy(self._optimizer.state_dict()),
            "batches": self._batches.get_state(),
            "noise": self._noise.get_state(),
            "demonstrations": self._data.digest if self._data else self._expected,
            "steps": self.steps,
        }

    def load_policy(self, saved: Mapping[str, Any]) -> None:
        """Only what acting needs, from a checkpoint's tree.

        Raises:
            InvalidValueError: the checkpoint has another head, chunk or width.
        """
        for key, value in self._config.items():
            if saved["config"][key] != value:
                raise InvalidValueError(
                    f"the checkpoint has {key}={saved['config'][key]!r}, this learner {value!r}: make them alike"
                )
        self.network.load_state_dict(checkpoint.to_tensors(saved["policy"]))
        self.reset()

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Bring back what `state` returned; training continues as if it had never stopped."""
        self.load_policy(saved)
        self._optimizer.load_state_dict(checkpoint.to_tensors(saved["optimizer"]))
        self._batches.set_state(torch.as_tensor(saved["batches"]))
        self._noise.set_state(torch.as_tensor(saved["noise"]))
        self._expected = saved["demonstrations"]
        self._updates = int(saved["steps"])


class _Data:
    """Demonstrated steps on the learner's device, and batches of them."""

    def __init__(self, steps: Steps, device: torch.device) -> None:
        self.obs = {key: torch.from_numpy(value).to(device) for key, value in steps.obs.items()}
        self.action = torch.from_numpy(steps.action).to(device)
        self.left = torch.from_numpy(steps.left).to(device)
        self.digest = hashlib.sha256(np.ascontiguousarray(steps.action).tobytes()).hexdigest()[:16]

    def draw(
        self, size: int, chunk: int, generator: torch.Generator
    ) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
        """Observations (B, ...), the chunks that followed (B, H, A), and which of their actions exist (B, H)."""
        rows = torch.randint(0, len(self.left), (size,), generator=generator).to(self.left.device)
        ahead = torch.arange(chunk, device=self.left.device)
        real = ahead < self.left[rows, None]
        index = torch.where(real, rows[:, None] + ahead, rows[:, None])
        return {key: value[rows] for key, value in self.obs.items()}, self.action[index], real
