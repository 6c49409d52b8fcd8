"""Lessons of an arm that stands beside its path: what is felt is changed, and what is wanted leads back onto the path.

    q' = q + e_q + J^+ [e_x, e_y, e_z, 0, 0, 0],    moves' = moves - min(k / BACK, 1) (q' - q)    in row k

Demonstrations hardly ever stray, and a hand that knows nothing else takes no notice of where it is beside the thing (noise as
in DART, Laskey et al. 2017, arXiv:1703.09327, but without filming it). Joints that stray each for itself, e_q, tilt the tool,
and tell by that alone that the arm has strayed. A tool that stands as upright as ever, but beside its path, is to a hand on
another demonstration's path, and it stays there whatever it sees: of e_x and e_y, which do not tilt it, a hand that has only
learned from e_q keeps two thirds of what lies along its line of sight (docs/eyerobot.md). e_z is 0 unless `height` says
otherwise. The gripper is told the same, astray or not: one that waits for the arm to be back waits for ever where the arm is
never quite there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.scales import Scales
from agents.seen import Seen
from assets.errors import InvalidValueError

# Rows within which an arm that strayed is to be back on its path: a third of a second.
BACK = 10
# Share of the lessons that feel the gripper as another lesson does: demonstrators never miss, and a hand that has closed upon
# nothing must not take that for a thing held.
MISSED = 0.25


class Stray:
    """Leads half of the lessons astray, whichever; with `tool`, half of these in that way, the others in their joints.

    Args:
        env: of recordings, with the arm's `displaced`.
        scales: of what the arm feels, joints first, and of its moves.
        opening: whether the gripper's opening is felt, after the joints.
        joints: deviation of each joint, rad.
        tool: deviation of the tool along the table, forwards and to either side, m.
        height: deviation of its height in the same lessons, m.
        turn: deviation of the last joint, rad, whichever way the arm strays; None takes `joints`.

    Raises:
        InvalidValueError: a deviation is negative.
    """

    def __init__(
        self, env: Any, scales: Scales, opening: bool, joints: float, tool: float, height: float, turn: float | None
    ) -> None:
        if min(joints, tool, height, turn or 0) < 0:
            raise InvalidValueError(
                f"stray, stray_tool, stray_height and stray_turn must be >= 0, got {joints}, {tool}, {height} and {turn}"
            )
        if height and not tool:
            raise InvalidValueError(f"stray_height is of lessons in which the tool strays: it needs stray_tool, got {height}")
        self._env, self._scales, self._opening, self._tool, self._height = env, scales, opening, tool, height
        self._dof = len(scales.step)
        self._spread = torch.tensor([joints] * (self._dof - 1) + [joints if turn is None else turn])

    def __bool__(self) -> bool:
        """Whether anything strays at all."""
        return bool(self._spread.any()) or self._tool > 0

    def lead(self, seen: Seen, wanted: torch.Tensor, rng: torch.Generator) -> NDArray[np.float64]:
        """Change what is felt (B,) and what is wanted (B, chunk, dof + 1), in place.

        Returns:
            Angles (B, dof), rad, at which the arm now stands.
        """
        dof = self._dof
        off = self._off(self._joints(seen), rng).to(wanted)
        self._scales.turn(seen.felt, off)
        if self._opening:
            others = torch.randperm(len(wanted), generator=rng).to(wanted.device)
            missed = (torch.rand(len(wanted), generator=rng) < MISSED).to(wanted.device)
            seen.felt[:, dof] = torch.where(missed, seen.felt[others, dof], seen.felt[:, dof])
        back = (torch.arange(wanted.shape[1], device=wanted.device) / BACK).clamp(max=1)
        wanted[..., :dof] -= self._scales.unit(off)[:, None] * back[:, None]
        return self._joints(seen)

    def _joints(self, seen: Seen) -> NDArray[np.float64]:
        out: NDArray[np.float64] = self._scales.angles(seen.felt).double().cpu().numpy()
        return out

    def _off(self, joints: NDArray[np.float64], rng: torch.Generator) -> torch.Tensor:
        """By how much each joint strays, (B, dof) rad."""
        count = len(joints)
        strays = torch.rand(count, 1, generator=rng) < 0.5
        off = self._spread * torch.randn(count, self._dof, generator=rng) * strays
        if not self._tool:
            return off
        upright = torch.rand(count, 1, generator=rng) < 0.5
        off[:, :-1] *= ~upright
        by = np.zeros((count, 3))
        by[:, :2] = self._tool * torch.randn(count, 2, generator=rng) * (strays & upright)
        if self._height:
            by[:, 2:] = self._height * torch.randn(count, 1, generator=rng) * (strays & upright)
        return off + torch.from_numpy(self._env.displaced(joints, by) - joints).float()
