"""Changing pictures as cameras and light do, one way for each episode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from assets.errors import InvalidValueError

# Ranges of EyeRobot's colour jitter (github.com/kerrj/eyerobot): factors 1 +- of brightness, contrast and saturation. The hue,
# which it turns by up to 18 degrees, stays: instructions name colours, and orange is that far from red.
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.2, 0.1
_GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Jitter:
    """Draws changes of pictures.

    Args:
        share: of episodes whose pictures are changed, in [0, 1].
    """

    share: float

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise InvalidValueError(f"augment must be a share in [0, 1], got {self.share}")

    def draw(self, count: int, rng: torch.Generator) -> Change:
        """Changes for `count` episodes."""
        changed = torch.rand(count, generator=rng) < self.share
        spread = torch.tensor([BRIGHTNESS, CONTRAST, SATURATION])
        factors = 1 + spread * (2 * torch.rand(count, 3, generator=rng) - 1)
        blurred = changed & (torch.rand(count, generator=rng) < 0.5)
        return Change(torch.where(changed[:, None], factors, torch.ones(3)), blurred)


@dataclass
class Change:
    """One change for each of N episodes.

    Attributes:
        factors: (N, 3) of brightness, contrast and saturation.
        blurred: (N,) whether three by three pixels are averaged.
    """

    factors: torch.Tensor
    blurred: torch.Tensor

    def to(self, device: torch.device) -> Change:
        """The same on a device."""
        return Change(self.factors.to(device), self.blurred.to(device))

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Pictures of N episodes, (N, L, R, R, 3) bytes, changed."""
        if bool((self.factors == 1).all()) and not bool(self.blurred.any()):
            return images
        x = images.float()
        bright, contrast, saturation = (f[:, None, None, None, None] for f in self.factors.unbind(1))
        x = x * bright
        x = (x - x.mean(dim=(2, 3, 4), keepdim=True)) * contrast + x.mean(dim=(2, 3, 4), keepdim=True)
        grey = (x * torch.tensor(_GREY, device=x.device)).sum(dim=-1, keepdim=True)
        x = (x - grey) * saturation + grey
        if bool(self.blurred.any()):
            some = x[self.blurred]
            flat = some.flatten(0, 1).movedim(-1, 1)
            soft = functional.avg_pool2d(functional.pad(flat, (1, 1, 1, 1), mode="replicate"), 3, 1)
            x[self.blurred] = soft.movedim(1, -1).unflatten(0, some.shape[:2])
        return x.round().clamp(0, 255).to(torch.uint8)
