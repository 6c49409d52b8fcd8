"""What an arm feels, and how far it moves, as numbers that a network likes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from assets.errors import InvalidValueError

# What hardly moves is not blown up beyond this many times, rad.
_LEAST = 1e-3


class Scales(nn.Module):
    """What is felt, centred and scaled, and how far joints move within a chunk; fitted once to the recordings.

    Args:
        felt: numbers that are felt: joints, opening, and what else there is.
        dof: joints.
    """

    def __init__(self, felt: int, dof: int) -> None:
        super().__init__()
        self.mean: torch.Tensor
        self.std: torch.Tensor
        self.step: torch.Tensor
        for name, value in (("mean", torch.zeros(felt)), ("std", torch.ones(felt)), ("step", torch.ones(dof))):
            self.register_buffer(name, value)

    def fit(self, joints: list[NDArray[Any]], opening: list[NDArray[Any]] | None, chunk: int) -> None:
        """Take the scales of joints and opening from recordings; what else is felt stays as it is.

        Args:
            joints: of each recording, (F, dof) rad.
            opening: of each recording, (F, 1); None where it is not felt.
            chunk: rows of the moves that a hand says; 0 for an eye alone, which needs no scale of them.

        Raises:
            InvalidValueError: no recording is long enough to tell how far joints move.
        """
        rows = [np.concatenate([j, o], axis=1) for j, o in zip(joints, opening, strict=True)] if opening else joints
        felt = np.concatenate(rows)
        count = felt.shape[1]
        self.mean[:count] = torch.from_numpy(felt.mean(axis=0))
        self.std[:count] = torch.from_numpy(np.maximum(felt.std(axis=0), _LEAST))
        if not chunk:
            return
        half = max(1, chunk // 2)
        if max(map(len, joints)) <= half:
            raise InvalidValueError(
                f"a hand that says {chunk} rows learns from recordings of more than {half} rows, the longest of these has "
                f"{max(map(len, joints))}: stills are for an eye alone (agent.hand=false)"
            )
        moved = np.concatenate([j[half:] - j[:-half] for j in joints if len(j) > half])
        self.step.copy_(torch.from_numpy(np.maximum(moved.std(axis=0), _LEAST)))

    def felt(self, x: torch.Tensor) -> torch.Tensor:
        """What is felt, for the networks."""
        return (x - self.mean) / self.std

    def angles(self, felt: torch.Tensor) -> torch.Tensor:
        """Angles of the joints (..., dof), rad, out of what the networks feel (..., felt)."""
        dof = len(self.step)
        return felt[..., :dof] * self.std[:dof] + self.mean[:dof]

    def turn(self, felt: torch.Tensor, off: torch.Tensor) -> None:
        """Let the networks feel (..., felt), in place, joints that are turned farther by `off` (..., dof), rad."""
        dof = len(self.step)
        felt[..., :dof] += off / self.std[:dof]

    def unit(self, moved: torch.Tensor) -> torch.Tensor:
        """Moves of joints (..., dof), rad, for the hand."""
        return moved / self.step

    def joints(self, said: torch.Tensor) -> torch.Tensor:
        """Moves of joints, rad, from what the hand says (..., dof + 1)."""
        return said[..., :-1] * self.step
