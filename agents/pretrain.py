"""What training any model of ours on a corpus of annotated pictures shares: its pace, its optimisers, its checkpoints."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import nn

from agents import checkpoint
from agents.device import place
from assets.errors import InvalidValueError
from perception.corpus import Corpus
from perception.questions import ask

T = TypeVar("T")

# Pictures whose texts a tokenizer is trained on.
_READ = 3000
# Updates between two reports.
_REPORT = 50


@dataclass(frozen=True)
class Pace:
    """How fast, on what, and in which precision is learned.

    Attributes:
        learning_rate: of AdamW at its highest.
        matrix_rate: of Muon (Jordan et al. 2024), which trains the towers' matrices, at its highest; 0 leaves all to AdamW.
        warmup_steps: updates until then.
        decay_steps: updates until it has fallen to a hundredth, along a half cosine.
        half: compute in bfloat16 where that is safe.
        device: "auto", "cpu" or "cuda".
        threads: torch threads on the CPU; 0 leaves torch's choice.
    """

    learning_rate: float = 1e-3
    matrix_rate: float = 0.01
    warmup_steps: int = 100
    decay_steps: int = 10_000
    half: bool = True
    device: str = "auto"
    threads: int = 0

    def share(self, done: int) -> float:
        """Share of the highest rate after so many updates."""
        warm = min(1.0, (done + 1) / max(1, self.warmup_steps))
        fall = 0.5 * (1 + np.cos(np.pi * min(1.0, done / self.decay_steps)))
        return warm * (0.01 + 0.99 * float(fall))

    def place(self) -> torch.device:
        """The device; sets the number of threads."""
        return place(self.device, self.threads)


class Ahead(Generic[T]):
    """What is made by number, the next one in the background.

    Args:
        make: a function of the number alone, so that a resumed training goes on exactly.
    """

    def __init__(self, make: Callable[[int], T]) -> None:
        self._make, self._worker = make, ThreadPoolExecutor(1)
        self._next: dict[int, Future[T]] = {}

    def __getitem__(self, number: int) -> T:
        """One of them; the following one is begun."""
        found = self._next.pop(number, None)
        self._next = {number + 1: self._worker.submit(self._make, number + 1)}
        return found.result() if found else self._make(number)


class Pretraining(ABC):
    """A learner of pictures; one step is one update of `batch_size` of them.

    Who derives from it makes `model`, `heads` and `tokenizer`, calls `begin`, and says in `losses` what an update learns.

    Args:
        corpus: folder that `python -m envs.corpus` wrote.
        seed: of the initial weights and of everything drawn.
        batch_size: pictures an update.
        pace: see `Pace`.
    """

    model: Any
    heads: nn.ModuleDict
    tokenizer: Any

    def __init__(self, corpus: str, seed: int, batch_size: int, pace: Pace) -> None:
        if batch_size < 1:
            raise InvalidValueError(f"batch_size must be >= 1, got {batch_size}")
        self.corpus, self.seed, self.batch_size, self.pace = Corpus(corpus), seed, batch_size, pace
        self.device, self.steps = pace.place(), 0

    @abstractmethod
    def losses(self, step: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """What update number `step` learns: name of a loss -> its value, and -> its weight."""

    def begin(self) -> None:
        """Make the optimisers of `model` and `heads`."""
        self._optimizers = _optimizers(self.model, self.heads, self.pace)
        self._rates = [group["lr"] for group in self._groups()]
        # As it was made: a tokenizer in use also tells how it filled up its last texts.
        self._words: str = self.tokenizer.backend_tokenizer.to_str()

    def _groups(self) -> list[dict[str, Any]]:
        # Asked for anew each time: an optimiser that loads its state makes new ones.
        return [group for o in self._optimizers for group in o.param_groups]

    def autocast(self) -> torch.autocast:
        """Lower precision where it is safe."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.pace.half)

    def texts(self) -> list[str]:
        """Questions and answers about the first pictures, for a tokenizer to learn from."""
        rng = np.random.default_rng((self.seed, 0))
        asked = [q for k in range(min(_READ, len(self.corpus))) for q in ask(self.corpus.annotation(k), rng)]
        return [text for q in asked for text in (q.prompt, q.answer)]

    def advance(self, steps: int) -> dict[str, float]:
        """Do so many updates; returns mean losses since the last call."""
        began, count, told = time.perf_counter(), max(1, min(steps, _REPORT)), defaultdict[str, list[float]](list)
        self.model.train()
        for _ in range(count):
            share = self.pace.share(self.steps)
            for group, rate in zip(self._groups(), self._rates, strict=True):
                group["lr"] = rate * share
            told["train/rate_share"].append(share)
            for name, value in self._update().items():
                told[f"train/{name}_loss"].append(value)
            self.steps += 1
        means = {name: float(np.mean(values)) for name, values in told.items()}
        return {**means, "time/pictures_per_s": count * self.batch_size / (time.perf_counter() - began)}

    def _update(self) -> dict[str, float]:
        losses, weights = self.losses(self.steps)
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)
        torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            "policy": self.model.state_dict(),
            "heads": self.heads.state_dict(),
            "optimizers": [o.state_dict() for o in self._optimizers],
            "steps": self.steps,
            "tokenizer": self._words,
        }

    def load_policy(self, saved: Mapping[str, Any]) -> None:
        """Only the model."""
        self.model.load_state_dict(checkpoint.to_tensors(saved["policy"]))

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Bring back what `state` returned.

        Raises:
            InvalidValueError: the tokenizer is another one: the corpus has changed.
        """
        if saved["tokenizer"] != self._words:
            raise InvalidValueError(f"the corpus {self.corpus.folder} is not the one that this training began with")
        self.load_policy(saved)
        self.heads.load_state_dict(checkpoint.to_tensors(saved["heads"]))
        for optimizer, state in zip(self._optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(checkpoint.to_tensors(state))
        self.steps = int(saved["steps"])

    def act(self, obs: Any, *, deterministic: bool = False) -> Any:
        """A model of pictures and words does not act.

        Raises:
            InvalidValueError: always.
        """
        del obs, deterministic
        raise InvalidValueError("a vision-language model does not act; measure it with python -m benchmarks.tiny_vlm")


def _optimizers(model: Any, heads: nn.Module, pace: Pace) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between layers, AdamW for embeddings, heads and everything with one axis."""
    matrices, rest = [], list(heads.parameters())
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if inner and pace.matrix_rate else rest).append(parameter)
    adam = torch.optim.AdamW(rest, lr=pace.learning_rate, betas=(0.9, 0.98), weight_decay=0.05)
    if not matrices:
        return [adam]
    return [adam, torch.optim.Muon(matrices, lr=pace.matrix_rate, weight_decay=0.05, adjust_lr_fn="original")]
