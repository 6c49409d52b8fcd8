"""Patch tokens of what an eye sees, and where they lie in its plane.

Each level of the foveal pyramid is cut into patches, one token each. A token's place is its patch's centre in the eye's own
plane, so that the levels overlay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from agents.seen import Seen
from agents.sight import COLOURS
from assets.errors import InvalidValueError, UnknownNameError
from perception.frame import Fisheye
from perception.sphere import pyramid_rays

# Pixels of EyeRobot's sensor to one unit of place.
UNIT = 14.0
# Degrees from the middle to one unit of a patch's place.
_WIDE = 30.0


@dataclass(frozen=True)
class Size:
    """How large the network is.

    Attributes:
        width: of a token.
        heads: of attention; width / heads must be a multiple of 8.
        depth: blocks of each of both transformers.
        patch: side of a patch, pixels.
        window: steps that the eye remembers, the present one included.
        mlp: width of a block's mlp, in widths of a token.
        image_mlp: whether image tokens too pass through the blocks' mlps.
    """

    width: int = 64
    heads: int = 4
    depth: int = 2
    patch: int = 5
    window: int = 10
    mlp: int = 2
    image_mlp: bool = False

    def __post_init__(self) -> None:
        if self.width % (8 * self.heads):
            raise InvalidValueError(f"width must be a multiple of 8 heads = {8 * self.heads}, got {self.width}")
        if min(self.depth, self.patch, self.window, self.mlp) < 1:
            raise InvalidValueError(f"depth, patch, window and mlp must be >= 1, got {asdict(self)}")


# What EyeRobot trained, on patches of 16 of crops of 256 pixels; and what two cores can train.
PUBLISHED = Size(width=384, heads=12, depth=3, patch=16, window=10, mlp=4, image_mlp=True)
SMALL = Size()
SIZES = {"small": SMALL, "published": PUBLISHED}


def size_of(told: str | Mapping[str, Any]) -> Size:
    """A size by its name in `SIZES`, or by fields of `Size`.

    Raises:
        UnknownNameError, InvalidValueError: there is no such size or field, or a field breaks its rule.
    """
    if isinstance(told, str):
        if told not in SIZES:
            raise UnknownNameError("size", told, SIZES)
        return SIZES[told]
    known = [field.name for field in fields(Size)]
    for name in told:
        if name not in known:
            raise UnknownNameError("field of size", name, known)
    return Size(**told)


def places(fovs: Sequence[float], side: int, projection: str = "pinhole") -> torch.Tensor:
    """Row and column of every patch's centre in the eye's plane, in units of 14 pixels of EyeRobot's sensor. (L side^2, 2).

    The plane is the fisheye's, in which one direction has one place, whichever level shows it.

    Args:
        fovs: degrees across each level.
        side: patches to a side.
        projection: of the levels: "pinhole" or "fisheye".
    """
    camera = Fisheye()
    if projection == "pinhole":
        found = camera.project(pyramid_rays(tuple(fovs), side, projection))
        return torch.from_numpy(found[..., ::-1].reshape(-1, 2) / UNIT).float()
    out = []
    for fov in fovs:
        crop = camera.crop_for(fov)
        centre = ((torch.arange(side) + 0.5) / side - 0.5) * crop
        row, column = torch.meshgrid(centre, centre, indexing="ij")
        out.append(torch.stack([row + camera.cy, column + camera.cx], dim=-1).reshape(-1, 2))
    return torch.cat(out) / UNIT


def centre() -> torch.Tensor:
    """Place of the line of sight, (2,)."""
    camera = Fisheye()
    return torch.tensor([camera.cy, camera.cx]) / UNIT


class Patches(nn.Module):
    """Patch tokens of its own, trained with the rest: pixels, and how close they are to either colour that the instruction
    names, scaled and shifted by the instruction as a whole (FiLM, Perez et al. 2018, arXiv:1709.07871), then where the patch
    is, in its level and in the eye's plane.

    Args:
        fovs: degrees across each level.
        resolution: pixels a side of a level.
        words: length of the instruction's embedding, with its two colours where `perception.text` has them.
        size: of the network.
        projection: of the levels.
    """

    def __init__(self, fovs: Sequence[float], resolution: int, words: int, size: Size, projection: str = "pinhole") -> None:
        super().__init__()
        if resolution % size.patch:
            raise InvalidValueError(f"a level of {resolution} pixels cannot be cut into patches of {size.patch}")
        side, self.patch, self.levels = resolution // size.patch, size.patch, len(fovs)
        pixels, hidden = size.patch**2, size.width
        self.of_pixels = nn.Linear((3 + len(COLOURS)) * pixels, hidden)  # colours, then closeness
        self.of_words = nn.Linear(words, 2 * hidden)
        nn.init.zeros_(self.of_words.weight)
        nn.init.zeros_(self.of_words.bias)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.level = nn.Parameter(torch.zeros(len(fovs), 1, hidden))
        self.of_place = nn.Linear(4, hidden)
        self.places: torch.Tensor
        self.register_buffer("places", places(fovs, side, projection), persistent=False)
        grid = ((torch.arange(side) + 0.5) / side * 2 - 1).expand(side, side)
        within = torch.stack([grid.T, grid], dim=-1).reshape(-1, 2)
        plane = (self.places.unflatten(0, (len(fovs), -1)) - centre()) * (UNIT / float(Fisheye().radius(np.radians(_WIDE))))
        self.grid: torch.Tensor
        self.register_buffer("grid", torch.cat([within.expand_as(plane), plane], dim=-1), persistent=False)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Tokens of what is seen, (B,): (B, L P, width)."""
        tokens = self._of_bytes(torch.cat([self._cut(seen.images), self._cut(seen.close)], dim=-1))
        scale, shift = self.of_words(seen.words)[:, None].chunk(2, dim=-1)
        where = (self.level + self.of_place(self.grid)).flatten(0, 1)
        return self.mix(tokens * (1 + scale) + shift) + where

    def _of_bytes(self, cut: torch.Tensor) -> torch.Tensor:
        """`of_pixels` of colours in [-1, 1] and closeness in [0, 1]; its weights are scaled, for they are fewer than pixels."""
        weight, bias, colours = self.of_pixels.weight, self.of_pixels.bias, 3 * self.patch**2
        scaled = torch.cat([weight[:, :colours] * (2 / 255), weight[:, colours:] / 255], dim=1)
        return functional.linear(cut.to(weight), scaled, bias - weight[:, :colours].sum(dim=1))

    def _cut(self, images: torch.Tensor) -> torch.Tensor:
        """Patches of (B, L, R, R, C) bytes. (B, L P, patch^2 C)."""
        batch, levels, side, _, channels = images.shape
        count, patch = side // self.patch, self.patch
        cut = images.reshape(batch, levels, count, patch, count, patch, channels).permute(0, 1, 2, 4, 3, 5, 6)
        return cut.reshape(batch, levels * count**2, patch**2 * channels)


class FrozenPatches(nn.Module):
    """Patch tokens of a frozen vision transformer of Hugging Face, such as DINOv2 or DINOv3, through a trained linear layer.

    Args:
        fovs, resolution, size, projection: as for `Patches`; its patches have the transformer's own size.
        source: folder or name of the weights.
    """

    def __init__(self, fovs: Sequence[float], resolution: int, size: Size, source: str, projection: str = "pinhole") -> None:
        super().__init__()
        from perception.vlm.hf import Source

        loaded = Source(source).load("AutoModel")
        tower = getattr(loaded, "vision_model", loaded)
        self._frozen = [tower]  # in a list: it is no part of what is trained or stored
        config = tower.config
        side = resolution // int(config.patch_size)
        if side < 1:
            raise InvalidValueError(f"{source!r} has patches of {config.patch_size} pixels, a level has {resolution}")
        self.out = nn.Linear(int(config.hidden_size), size.width)
        self.places: torch.Tensor
        self.register_buffer("places", places(fovs, side, projection), persistent=False)
        self._count, self.levels = side**2, len(fovs)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Tokens of what is seen, (B,), whatever the instruction: (B, L P, width)."""
        images = seen.images
        mean, std = (torch.tensor(v, device=images.device) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        pixels = ((images.flatten(0, 1).float() / 255 - mean) / std).movedim(-1, 1)
        with torch.no_grad():
            hidden = self._frozen[0].to(images.device)(pixels).last_hidden_state[:, -self._count :]
        return self.out(hidden).unflatten(0, images.shape[:2]).flatten(1, 2)
