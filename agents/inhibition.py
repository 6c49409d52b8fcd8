"""Inhibition of return: a greedy eye does not go straight back to where it has just looked.

    a_t = argmax_a pi(a | o_t)   without turns of 5 degrees and more that lead within 0.5 degrees of a gaze of the last K steps

Attention that has left a place is slow to come back to it (Posner and Cohen 1984; in models of visual attention since Itti,
Koch and Niebur 1998, doi:10.1109/34.730558). An eye that takes its likeliest turn needs it more than one that draws its turns:
where two views each make the other one likely, it would go to and fro between them without end. Small turns are free: they keep
a thing in the fovea.
"""

from __future__ import annotations

import torch

# Within which gazes are the same, and from which on a turn is a jump, rad.
_SAME, _JUMP = 0.0087, 0.087


class Inhibition:
    """What greedy eyes may not go back to.

    Args:
        turns: (A, 2) azimuth and elevation that each action turns, rad.
        limits: (2,) of the gaze to either side, rad.
        steps: K, how long a gaze is not gone back to; 0 inhibits nothing.
        count: B, of eyes.
    """

    def __init__(self, turns: torch.Tensor, limits: torch.Tensor, steps: int, count: int) -> None:
        self._limits = limits.float()
        self._turns, self._jumps = turns.float(), turns.norm(dim=1) >= _JUMP
        self._left = torch.full((count, steps, 2), torch.nan, device=turns.device)

    def likeliest(self, logits: torch.Tensor, gaze: torch.Tensor) -> torch.Tensor:
        """The likeliest turns that do not jump to where was just looked, (B,); the eyes are taken to make them.

        Args:
            logits: (B, A).
            gaze: (B, 2) where the eyes look now, rad.
        """
        if not self._left.shape[1]:
            return logits.argmax(dim=-1)
        leads = (gaze[:, None] + self._turns).clamp(-self._limits, self._limits)
        apart = (leads[:, :, None] - self._left[:, None]).norm(dim=-1)  # NaN where there was none yet
        back = (apart < _SAME).any(dim=-1) & self._jumps
        self._left = torch.cat([gaze[:, None], self._left[:, :-1]], dim=1)
        return logits.masked_fill(back, -torch.inf).argmax(dim=-1)

    def forget(self, sims: torch.Tensor) -> None:
        """Begin anew for eyes of a mask (B,)."""
        self._left[sims] = torch.nan
