"""Training on several processes, as torchrun starts them; on one, everything here does nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn


@dataclass(frozen=True)
class Group:
    """The processes that train together.

    Attributes:
        rank, world: this one's number, and how many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def here(cls) -> Group:
        """The group that torchrun's environment tells of; joins it if nobody has yet."""
        if int(os.environ.get("WORLD_SIZE", "1")) < 2:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        return cls(dist.get_rank(), dist.get_world_size())

    def _sum(self, x: torch.Tensor) -> torch.Tensor:
        if self.world > 1:
            dist.all_reduce(x)
        return x

    def mean(self, value: float) -> float:
        """Mean over the processes."""
        return float(self._sum(torch.tensor(value, dtype=torch.float64))) / self.world

    def moments(self, x: torch.Tensor) -> tuple[float, float]:
        """Mean and standard deviation of all entries of all processes."""
        wide = x.detach().double().cpu()
        count, total, square = self._sum(
            torch.stack([torch.tensor(float(wide.numel())), wide.sum(), wide.square().sum()])
        ).tolist()
        mean = total / count
        return mean, max(square / count - mean**2, 0.0) ** 0.5

    def average_gradients(self, net: nn.Module) -> None:
        """Give every process the mean of all processes' gradients."""
        if self.world == 1:
            return
        for parameter in net.parameters():
            if parameter.grad is not None:
                dist.all_reduce(parameter.grad)
                parameter.grad /= self.world
