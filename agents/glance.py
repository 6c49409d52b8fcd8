"""A hand for few demonstrations: what is felt asks the pictures a few questions, and all moves are said at once.

    f = [felt, direction of the gaze, reach, beside, shapes, turns, raised]    what is known without learning, `agents.sight`
    a_q = attention(W_q f, image tokens)                q = 1 .. Q questions, one layer
    moves = mlp([f, words, a_1 .. a_Q])

The foveal robot transformer (`fort.HandNet`) tells the same from thirty joint tokens in several blocks; on a hundred
demonstrations and two cores this one learns more from each step, at a third of the cost (docs/eyerobot.md). Image tokens, and
so what is taken over from an eye that has learned to search, are the transformer's.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from agents.patches import Size
from agents.seen import Seen
from agents.sight import BESIDE, RAISED, REACH, SHAPE, TURN, ahead, beside, directions, raised, reach, turns

# Numbers that are kept of the instruction.
_GIST = 16
QUESTIONS, HIDDEN = 4, 256


class Glance(nn.Module):
    """The arm's next moves, from one step alone.

    Args:
        encoder: of the images.
        felt, words: lengths of what is felt and of the instruction's embedding.
        chunk: moves.
        outputs: numbers of each.
        size: width and heads are those of the image tokens and of the attention to them.
        height: of the eye above the table, m, if it is to know where the tool is beside the line of sight and beside what the
            instruction names; None for not.
        shapes: whether it is told what that looks like, and with `height` how the tool is turned beside it and where it is if
            that is raised, see `sight.shapes`, `turns` and `raised`.
    """

    def __init__(
        self, encoder: nn.Module, felt: int, words: int, chunk: int, outputs: int, size: Size, height: float | None = None,
        shapes: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.encoder, self.heads, self.height, self.shapes = encoder, size.heads, height, shapes
        levels: int = encoder.levels  # type: ignore[assignment]
        known, width = felt + 3, size.width
        known += 0 if height is None else REACH + BESIDE * levels
        known += SHAPE * levels if shapes else 0
        known += 2 + (TURN + RAISED) * levels if shapes and height is not None else 0
        self.questions = nn.Sequential(nn.Linear(known, 2 * width), nn.GELU(), nn.Linear(2 * width, QUESTIONS * width))
        self.answers = nn.Linear(width, 2 * width)
        self.gist = nn.Linear(words, _GIST)
        self.moves = nn.Sequential(
            nn.Linear(known + _GIST + QUESTIONS * width, HIDDEN), nn.GELU(),
            nn.Linear(HIDDEN, HIDDEN), nn.GELU(),
            nn.Linear(HIDDEN, chunk * outputs), nn.Unflatten(1, (chunk, outputs)),
        )  # fmt: skip

    def forward(self, seen: Seen) -> torch.Tensor:
        """(B, chunk, outputs) of observations (B,)."""
        known = [seen.felt, ahead(seen.gaze)]
        if self.height is not None:
            known.append(reach(seen.gaze, seen.tool[:, :3], self.height))
            known.append(beside(seen.gaze, seen.points, seen.tool[:, :3], self.height))
        if self.shapes:
            known.append(seen.shapes.flatten(1))
        if self.shapes and self.height is not None:
            where = directions(seen.gaze, seen.points)
            known.append(turns(seen.gaze, seen.shapes, where, seen.tool[:, 3:], self.height))
            known.append(raised(where, seen.tool[:, :3], self.height))
        felt, images = torch.cat(known, dim=-1), self.encoder(seen)
        asked = self._split(self.questions(felt).unflatten(-1, (QUESTIONS, -1)))
        keys, values = map(self._split, self.answers(images).chunk(2, dim=-1))
        found = functional.scaled_dot_product_attention(asked, keys, values).transpose(1, 2).flatten(1)
        moves: torch.Tensor = self.moves(torch.cat([felt, self.gist(seen.words), found], dim=-1))
        return moves

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """Heads (B, H, N, width / H) of tokens (B, N, width)."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)
