"""A small network for foveal images: where in each view is what the instruction asks for?

Every view is cut into patches. A patch sees its pixels, their product with the colour that the instruction names, and their
squared distance to it; a linear layer, a rectifier and another make its features, normalised over the view, so that what is
everywhere counts for nothing. The embedding of the instruction becomes a few queries; each query's match with the patches is
a softmax over positions, whose mean position and peak are the features: a spatial softmax (Levine et al. 2016,
arXiv:1504.00702) with language-made channels. One more softmax, over the distance to the named colour itself, has nothing to
learn but its sharpness, and so is of use from the first step. It is a few thousand parameters, so that a CPU trains it.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from assets.errors import InvalidValueError

# Inverse temperature of the spatial softmax, per standard deviation of match.
SHARPNESS = 2.0
# Inverse temperature of the softmax over squared colour distances, where black to white is 4; learned from here.
COLOUR_SHARPNESS = 40.0
# Features of the instruction itself.
_GIST = 16


def image_keys(space: spaces.Dict) -> list[str]:
    """Names of the uint8 images of an observation space, in order."""
    return [key for key, box in space.spaces.items() if isinstance(box, spaces.Box) and len(box.shape) == 3]


class FovealExtractor(BaseFeaturesExtractor):
    """Features of a dictionary observation: queried positions in every image, the vectors as they are.

    Args:
        observation_space: images (H, W, 3) or (3, H, W) uint8, vectors, and "target" (D,), the instruction's embedding.
        patch: side of the square patches that an image is cut into, pixels.
        channels: features of a patch.
        queries: how many things to look for in each view.
        language: name of the embedding that makes the queries; its first three numbers are a colour in [-1, 1]
            (see `perception.text`), or zeros.
    """

    def __init__(
        self,
        observation_space: spaces.Dict,
        patch: int = 4,
        channels: int = 24,
        queries: int = 4,
        language: str = "target",
    ) -> None:
        self.images = image_keys(observation_space)
        self.vectors = [k for k in observation_space.spaces if k not in self.images and k != language]
        self.language = language if language in observation_space.spaces else None
        if self.images and self.language is None:
            raise InvalidValueError(f"images are queried by the embedding {language!r}, which the observation lacks")
        width = sum(int(np.prod(observation_space[k].shape or ())) for k in self.vectors)
        words = 0 if self.language is None else int(np.prod(observation_space[language].shape or ()))
        found = len(self.images) * (queries + 1) * 3
        super().__init__(observation_space, found + width + (_GIST if words else 0))
        self.queries, self.channels = queries, channels
        # 7: the pixel, its product with the named colour, its distance to it.
        self.patches = nn.Sequential(nn.Conv2d(7, channels, patch, stride=patch), nn.ReLU(), nn.Conv2d(channels, channels, 1))
        self.colour_sharpness = nn.Parameter(torch.tensor(np.log(COLOUR_SHARPNESS), dtype=torch.float32))
        self.to_queries = nn.Linear(words, queries * channels)
        self.to_gist = nn.Linear(words, _GIST)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features, (B, features_dim)."""
        parts = [observations[k].flatten(1).float() for k in self.vectors]
        if self.language is not None:
            words = observations[self.language].float()
            parts.append(torch.tanh(self.to_gist(words)))
            by_size: dict[tuple[int, ...], list[str]] = {}
            for key in self.images:
                by_size.setdefault(tuple(observations[key].shape[1:]), []).append(key)
            parts.extend(self._find([observations[k] for k in keys], words) for keys in by_size.values())
        return torch.cat(parts, dim=1)

    def _find(self, images: list[torch.Tensor], words: torch.Tensor) -> torch.Tensor:
        """Positions and peaks in K images of one size: of the queries, and of the named colour. (B, K * (queries + 1) * 3)."""
        views = torch.stack([self._channels_first(image) for image in images], dim=1)  # (B, K, 3, H, W)
        batch, levels = views.shape[:2]
        colour = words[:, None, :3, None, None]
        distance = (views - colour).square().mean(dim=2, keepdim=True)
        pixels = torch.cat([views, views * colour, distance], dim=2).flatten(0, 1)  # (B K, 7, H, W)
        maps = nn.functional.instance_norm(self.patches(pixels), eps=1e-3)  # (B K, C, h, w)
        height, width = maps.shape[-2:]
        maps = maps.view(batch, levels, self.channels, height * width)
        queries = nn.functional.normalize(self.to_queries(words).view(batch, self.queries, self.channels), dim=-1)
        match = SHARPNESS * torch.einsum("bqc,bkcp->bkqp", queries, maps)  # (B, K, Q, h w)
        peak = torch.tanh(match.amax(dim=-1) / (5 * SHARPNESS))
        queried = _positions(match, height, width, peak)
        near = nn.functional.avg_pool2d(distance[:, :, 0], 2)  # (B, K, H / 2, W / 2)
        height, width = near.shape[-2:]
        near = near.flatten(2)[:, :, None]  # (B, K, 1, P)
        named = _positions(-self.colour_sharpness.exp() * near, height, width, near.amin(dim=-1))
        return torch.cat([queried, named], dim=1)

    @staticmethod
    def _channels_first(images: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] from uint8 in either axis order, or from floats in [0, 1]."""
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        return 2 * (images if images.shape[1] == 3 else images.permute(0, 3, 1, 2)) - 1


def _positions(match: torch.Tensor, height: int, width: int, peak: torch.Tensor) -> torch.Tensor:
    """Mean positions (u right, v up, both in [-1, 1]) of a softmax over image positions, and how good the best one is.

    Args:
        match: (B, K, Q, height * width), larger is better.
        height: of the map.
        width: of the map.
        peak: (B, K, Q).

    Returns:
        (B, K * Q * 3).
    """
    weight = match.softmax(dim=-1)
    u = torch.linspace(-1, 1, width, device=match.device).repeat(height)
    v = torch.linspace(1, -1, height, device=match.device).repeat_interleave(width)
    return torch.stack([weight @ u, weight @ v, peak], dim=-1).flatten(1)
