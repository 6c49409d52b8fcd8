"""Training on several processes, as torchrun starts them; on one, everything here does nothing."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn

from assets.errors import SaccadeError

T = TypeVar("T")


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
            _join()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and tells of what goes on."""
        return self.rank == 0

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes, on all of them; the others do not call `make`.

        Raises:
            SaccadeError: what `make` raised, on all of them.
        """
        if self.world == 1:
            return make()
        told: list[Any] = [None]
        if self.first:
            try:
                told = [make()]
            except SaccadeError as error:
                told = [_Refusal(error)]
        dist.broadcast_object_list(told, device=torch.device("cpu"))
        if isinstance(told[0], _Refusal):
            raise told[0].error
        return told[0]

    def gathered(self, value: T) -> list[T]:
        """Every process's value, in the order of their ranks, on all of them."""
        if self.world == 1:
            return [value]
        found: list[Any] = [None] * self.world
        dist.all_gather_object(found, value)
        return found

    def wait(self) -> None:
        """Until every process has come here."""
        self._sum(torch.zeros(1))

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


@dataclass(frozen=True)
class _Refusal:
    error: SaccadeError


def _join() -> None:
    """Join the group: on a GPU each where this machine has one for every process of it, else over the CPU."""
    own, here = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    if torch.cuda.is_available() and here <= torch.cuda.device_count():
        torch.cuda.set_device(own)  # what "cuda" means from now on
        dist.init_process_group("cpu:gloo,cuda:nccl")  # NCCL alone carries nothing that lies on the CPU
    else:
        dist.init_process_group("gloo")
