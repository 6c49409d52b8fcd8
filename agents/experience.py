"""What eyes met in an episode each, and what their turns were worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from agents.base import Observation
from agents.seen import Seen


@dataclass
class Rollout:
    """One episode of every eye: (B, T) throughout.

    Attributes:
        seen: what both networks saw.
        turns, logp, values, rewards: of the eye.
        last: (B,) value of what came after the last step.
        guided: (B, T) turns of one who knows the target once it is in sight.
        wanted: (B, T, chunk, outputs) what the hand should have said.
        valid: (B, T, chunk) which of it exists and is learned.
        told: means over the episode.
        first: (B, T, turns) log-probabilities of the eye that this one began with, where it keeps to it.
    """

    seen: Seen
    turns: torch.Tensor
    logp: torch.Tensor
    values: torch.Tensor
    rewards: torch.Tensor
    last: torch.Tensor
    guided: torch.Tensor
    wanted: torch.Tensor
    valid: torch.Tensor
    told: dict[str, float]
    first: torch.Tensor | None = None


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, last: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantages (Schulman et al. 2016, arXiv:1506.02438, eq. 16) and returns, both (B, T)."""
    out, ahead, following = torch.zeros_like(rewards), torch.zeros_like(last), last
    for t in range(rewards.shape[1] - 1, -1, -1):
        ahead = rewards[:, t] + gamma * following - values[:, t] + gamma * lam * ahead
        out[:, t], following = ahead, values[:, t]
    return out, out + values


class Rows:
    """Lists over time, by name."""

    def __init__(self) -> None:
        self._lists: dict[str, list[Any]] = {}

    def add(self, **values: Any) -> None:
        """Append to the lists."""
        for name, value in values.items():
            self._lists.setdefault(name, []).append(value)

    def stacked(self) -> dict[str, Any]:
        """(B, T, ...) each."""
        out = {}
        for name, values in self._lists.items():
            if isinstance(values[0], Seen):
                out[name] = Seen(*(torch.stack([getattr(v, k) for v in values], dim=1) for k in Seen.__annotations__))
            else:
                out[name] = torch.stack(values, dim=1)
        return out


def before_restart(obs: Observation, info: Mapping[str, Any]) -> tuple[Observation, Mapping[str, Any]]:
    """What the episodes ended with, where new ones have begun already."""
    if "final_obs" not in info:
        return obs, info
    return {key: np.stack([one[key] for one in info["final_obs"]]) for key in obs}, info["final_info"]
