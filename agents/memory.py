"""What a hand learns from, step by step, and what it remembers of past rollouts.

A rollout shows a hand few demonstrations, and it fits those best that it has seen last. A memory of earlier lessons, which are
drawn as often as the new ones, makes of a training by rollouts one on all that was ever seen (dataset aggregation, Ross et al.
2011, arXiv:1011.0686).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from agents import checkpoint
from agents.experience import Rollout
from agents.seen import Seen

TOLD = "wanted", "valid"


@dataclass
class Lessons:
    """Steps that a hand learns from.

    Attributes:
        seen: (M,) what it sees and feels.
        wanted: (M, chunk, outputs) what it should say.
        valid: (M, chunk) which of it exists and is learned.
    """

    seen: Seen
    wanted: torch.Tensor
    valid: torch.Tensor

    @classmethod
    def of(cls, rollout: Rollout) -> Lessons:
        """Those steps of a rollout, one by one, in which there is anything to learn."""
        learned = rollout.valid.any(dim=-1)
        return cls(rollout.seen[learned], *(getattr(rollout, k)[learned] for k in TOLD))

    def __len__(self) -> int:
        return len(self.wanted)

    def __getitem__(self, index: torch.Tensor) -> Lessons:
        """Some of them."""
        index = index.to(self.wanted.device)
        return Lessons(self.seen[index], *(getattr(self, k)[index] for k in TOLD))

    def beside(self, others: Lessons) -> Lessons:
        """Both together."""
        seen = (torch.cat([getattr(self.seen, k), getattr(others.seen, k)]) for k in Seen.__annotations__)
        return Lessons(Seen(*seen), *(torch.cat([getattr(self, k), getattr(others, k)]) for k in TOLD))


class Memory:
    """Lessons of past rollouts, at most `size`; when there are more, some are forgotten, whichever.

    Args:
        size: lessons; 0 remembers none.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._past: Lessons | None = None

    def recall(self, new: Lessons, rng: torch.Generator) -> Lessons:
        """New lessons and those that are remembered; from then on, some of all of them."""
        if not self._size:
            return new
        known = new if self._past is None else self._past.beside(new)
        kept = torch.randperm(len(known), generator=rng)[: self._size]
        self._past = known[kept.sort().values]
        return known

    def state(self) -> dict[str, Any]:
        """For a checkpoint; empty where nothing is remembered."""
        if self._past is None:
            return {}
        past = self._past
        return {
            "seen": {k: getattr(past.seen, k) for k in Seen.__annotations__},
            **{k: getattr(past, k) for k in TOLD},
        }

    def load_state(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Bring back what `state` returned."""
        self._past = None
        if saved:
            found = checkpoint.to_tensors(saved)
            seen = Seen(**{k: v.to(device) for k, v in found["seen"].items()})
            self._past = Lessons(seen, *(found[k].to(device) for k in TOLD))
