"""Initial weights from which a transformer learns to see sooner: what is near in the picture begins near in the weights.

A vision transformer has to learn that neighbouring patches belong together, which a convolution is born with (Trockman & Kolter
2023, https://arxiv.org/abs/2305.09828; Zheng et al. 2024, "Structured Initialization for Vision Transformers"). Half of the
position's code becomes sines of the place,

    p(x, y) = [sin w x, cos w x, sin w y, cos w y] over w,

and since sin w(x + d) and cos w(x + d) are a rotation of sin w x and cos w x, queries that rotate make a head attend to the
patch `d` away. The numbers among the tokens get sines of their values, so that 61 begins close to 62. Only the start differs:
the model and its classes stay what they were.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Where the heads of the layers look first, in patches (right, down); layers and heads take them in turn.
OFFSETS = (
    (-1, 0), (1, 0), (0, -1), (0, 1), (-2, 0), (2, 0), (0, -2), (0, 2), (-1, 0), (1, 0), (0, -1), (0, 1),
    (-3, 0), (3, 0), (0, -3), (0, 3), (-1, -1), (1, 1),
)  # fmt: skip
# Amplitude of the sines, against patches whose own entries are about 0.5; strength of queries and keys that look at places;
# share of the random weights that stays beneath them.
_SINES, _LOOK, _REST = 0.5, 1.5, 0.3
_OCTAVES = 12.0  # the finest wave is so many times as fine as the coarsest, whose half is the whole picture


def _waves(count: int, longest: float) -> Tensor:
    """`count` angular frequencies, the coarsest with a half wave of `longest`."""
    return torch.pi / longest * _OCTAVES ** torch.linspace(0, 1, count)


def _sines(at: Tensor, waves: Tensor) -> Tensor:
    """Sin and cos of places, in turn: (N,), (F,) -> (N, 2 F)."""
    angle = at[:, None] * waves
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


@torch.no_grad()
def prime_vision(tower: Any) -> None:
    """Let the heads of a SigLIP-like vision tower begin by looking at neighbouring patches.

    Args:
        tower: with `embeddings.position_embedding`, a square grid row by row, and `encoder.layers`.
    """
    places = tower.embeddings.position_embedding.weight
    side, width = round(len(places) ** 0.5), places.shape[1]
    waves = _waves(width // 8, side)
    line = _sines(torch.arange(side) + 0.5, waves)
    grid = torch.cat([line.repeat(side, 1), line.repeat_interleave(side, dim=0)], dim=1)
    places.normal_(0, 0.02)
    places[:, : grid.shape[1]] = _SINES * grid
    heads = tower.encoder.layers[0].self_attn.num_heads
    for number, layer in enumerate(tower.encoder.layers):
        looks = [OFFSETS[(number * heads + k) % len(OFFSETS)] for k in range(heads)]
        query, key = _looking(looks, waves, width)
        for part, wanted in ((layer.self_attn.q_proj, query), (layer.self_attn.k_proj, key)):
            part.weight.mul_(_REST).add_(wanted, alpha=_LOOK)


def _looking(looks: list[tuple[int, int]], waves: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Query and key matrices, (width, width) each, with which every head attends to its own offset."""
    query, key = torch.zeros(width, width), torch.zeros(width, width)
    size, axis = width // len(looks), 2 * len(waves)
    chosen = torch.linspace(0, len(waves) - 1, min(len(waves), size // 4)).round().long().tolist()
    for head, look in enumerate(looks):
        row = head * size
        for wave in chosen:
            for number, offset in enumerate(look):
                column, angle = number * axis + 2 * wave, waves[wave] * offset
                key[row, column] = key[row + 1, column + 1] = 1.0
                query[row, column] = query[row + 1, column + 1] = angle.cos()
                query[row, column + 1], query[row + 1, column] = angle.sin(), -angle.sin()
                row += 2
    return query, key


@torch.no_grad()
def prime_numbers(embedding: Tensor, tokens: dict[int, int], largest: int) -> None:
    """Let half of the embedding of every number begin as sines of its value.

    Args:
        embedding: (V, width), changed in place.
        tokens: token -> the number it stands for.
        largest: number that is half the coarsest wave.
    """
    width = embedding.shape[1]
    rows = torch.tensor(list(tokens), dtype=torch.long)
    values = torch.tensor(list(tokens.values()), dtype=torch.float)
    spread = embedding.std()
    embedding[rows, : width // 2] = spread * 2**0.5 * _sines(values, _waves(width // 4, largest))
