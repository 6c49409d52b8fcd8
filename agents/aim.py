"""Where the tool will be when the gripper is next told something else: what a hand that fetches and brings aims at.

Demonstrations tell it by themselves, for a gripper closes around a thing and opens where that belongs (keyframes as in C2F-ARM,
James et al. 2022, arXiv:2106.12534, and PerAct, Shridhar et al. 2022, arXiv:2209.05451). A network of its own reads it off
what `agents.sight` knows, and the hand is told what is missing: its moves say little about distance, and learn it badly. Joints
are kept from it: in a demonstration an arm that comes to rest is where it should be, and a hand that knows it aims where it is.

    a = (gaze's azimuth, A, B) + U mlp(f),        L = mean |a - a*| / U,        U = 0.1 rad or m
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from agents.fort import Seen
from agents.sight import BEARING, LEVEL, SHAPE, ahead, bearings, directions, graded

# Numbers of an aim, and of what is missing of it.
PLACE, MISSING = 3, 9
HIDDEN = 128
# Level distance from the eye and height above it, m, where nothing is known yet; and the unit of what is learned, m or rad.
_AWAY, _ABOVE, _UNIT = 0.5, -0.15, 0.1
_ALIKE = 0.1  # openings that differ by less are one


class Aim(nn.Module):
    """Where the tool will be: azimuth, rad, level distance and height, m, from the eye along the arm's axes.

    Args:
        felt: length of what is felt.
        dof: how much of it, from its beginning, are joints.
        levels: of the pyramid.
    """

    def __init__(self, felt: int, dof: int, levels: int) -> None:
        super().__init__()
        self.dof = dof
        known = felt - dof + 3 + (SHAPE + BEARING + 2 * 3) * levels
        self.net = nn.Sequential(
            nn.Linear(known, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, HIDDEN), nn.GELU(), nn.Linear(HIDDEN, PLACE)
        )
        nn.init.zeros_(self.net[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.net[-1].bias)  # type: ignore[arg-type]

    def forward(self, seen: Seen) -> torch.Tensor:
        """(B, 3) of observations (B,)."""
        where = directions(seen.gaze, seen.points)
        fall = (-where[..., 1]).clamp(min=LEVEL)
        beside = (where[..., 0] - seen.gaze[:, :1, None]) / _UNIT
        known = [
            seen.felt[:, self.dof :], ahead(seen.gaze), seen.shapes.flatten(1), bearings(seen.points), beside.flatten(1),
            fall.flatten(1) / _UNIT, (1 / fall.tan()).flatten(1),
        ]  # fmt: skip
        found: torch.Tensor = self.net(torch.cat(known, dim=-1))
        least = torch.stack([seen.gaze[:, 0], *(seen.gaze.new_full((len(found),), v) for v in (_AWAY, _ABOVE))], dim=-1)
        return least + _UNIT * found

    def miss(self, seen: Seen, wanted: torch.Tensor) -> torch.Tensor:
        """Mean error in units of 0.1 rad and m, over those of `wanted`, (B, 3) m from the eye, that are finite; 0 for none."""
        known = wanted.isfinite().all(dim=-1)
        if not known.any():
            return wanted.new_zeros(())
        return (self(seen)[known] - level(wanted[known])).abs().mean() / _UNIT


def keyframes(tool: NDArray[np.float64], grip: NDArray[Any]) -> NDArray[np.float64]:
    """Where the tool will be when the gripper is next told something else, (F, 3); NaN after the last time.

    Args:
        tool: (F, 3) its path, m.
        grip: (F,) what the gripper is told, from 0, shut, to 1, open. Told to shut means below the middle of what is ever told.
    """
    low, high = float(grip.min()), float(grip.max())
    out = np.full(tool.shape, np.nan)
    if high - low < _ALIKE:
        return out
    shut = grip < (low + high) / 2
    begin = 0
    for change in np.flatnonzero(shut[1:] != shut[:-1]) + 1:
        out[begin:change] = tool[change]
        begin = change
    return out


def level(place: torch.Tensor) -> torch.Tensor:
    """Azimuth, level distance and height (..., 3) of a place (..., 3) from the eye, m."""
    x, y, z = place.unbind(-1)
    return torch.stack([torch.atan2(y, x), torch.hypot(x, y), z], dim=-1)


def missing(tool: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    """Where the tool, (B, 3) m from the eye, is beside its aim, `sight.graded`. (B, 9)."""
    return graded(level(tool) - aim)
