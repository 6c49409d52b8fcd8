"""Observations as the networks take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch


@dataclass
class Seen:
    """Observations as the network takes them: leading axes (B,) or (B, T) alike on all of them.

    Attributes:
        images: (..., L, R, R, 3) bytes.
        gaze: (..., 2) rad.
        felt: (..., F) what the arm feels, normalised.
        words: (..., W) embedding of the instruction.
        tool: (..., 5) from the eye to the tool, m, along the arm's axes, and the tool's x axis, `sight.doubled`; only a hand
            that knows the eye's place reads them.
        points: (..., L, 2, 3) where what the instruction names lies in each level, `sight.points`; only some read it.
        shapes: (..., L, 2, 7) what it looks like there, `sight.shapes`; only a hand that is told of it reads it.
        close: (..., L, R, R, 2) bytes: how close pixels are to the colours that the instruction names, `sight.closeness`.
    """

    images: torch.Tensor
    gaze: torch.Tensor
    felt: torch.Tensor
    words: torch.Tensor
    tool: torch.Tensor
    points: torch.Tensor
    shapes: torch.Tensor
    close: torch.Tensor

    def flat(self) -> Seen:
        """With (B, T) made one axis."""
        return Seen(*(getattr(self, name).flatten(0, 1) for name in Seen.__annotations__))

    def unseen(self) -> Seen:
        """The same with closed eyes: grey pictures, and a gaze straight ahead."""
        nothing = {name: torch.zeros_like(getattr(self, name)) for name in ("gaze", "points", "shapes", "close")}
        return replace(self, images=torch.full_like(self.images, 128), **nothing)

    def hide(self, chosen: torch.Tensor) -> None:
        """Close the eyes in some of them, in place: of a mask over the leading axes."""
        dark = self[chosen].unseen()
        for name in Seen.__annotations__:
            getattr(self, name)[chosen] = getattr(dark, name)

    def __getitem__(self, index: Any) -> Seen:
        """Some of them."""
        return Seen(*(getattr(self, name)[index] for name in Seen.__annotations__))
