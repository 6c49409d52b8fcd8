"""A small network for foveal images: where in each view is what the instruction asks for?

Convolutions turn every view into a map of features; the embedding of the instruction becomes a few queries; each query's
match with the map is a softmax over positions, whose mean position and peak are the features. That is a spatial softmax
(Levine et al. 2016, arXiv:1504.00702) with language-made channels. It is a few thousand parameters, so that a CPU trains it.
"""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from assets.errors import InvalidValueError


# Inverse temperature of the spatial softmax .
SHARPNESS = 2.0


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
        language: name of the embedding that makes the queries.
    """

    def __init__(
        self, observation_space: spaces.Dict, patch: int = 4, channels: int = 24, queries: int = 4, language: str = "target"
    ) -> None:
        self.images = image_keys(observation_space)
        self.vectors = [k for k in observation_space.spaces if k not in self.images and k != language]
        self.language = language if language in observation_space.spaces else None
        if self.images and self.language is None:
            raise InvalidValueError(f"images are queried by the embedding {language!r}, which the observation lacks")
        width = sum(int(np.prod(observation_space[k].shape or ())) for k in self.vectors)
        super().__init__(observation_space, len(self.images) * queries * 3 + width + (0 if self.language is None else 16))
        self.queries, self.channels = queries, channels
        size = 0 if self.language is None else int(np.prod(observation_space[language].shape or ()))
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, channels, patch, stride=patch), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )
        self.to_queries = nn.Linear(size, queries * channels)
        self.to_gist = nn.Linear(size, 16)

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        """Features, (B, features_dim)."""
        parts = [observations[k].flatten(1).float() for k in self.vectors]
        if self.language is not None:
            words = observations[self.language].float()
            parts.append(torch.tanh(self.to_gist(words)))
            if self.images:
                parts.append(self._find(observations, words))
        return torch.cat(parts, dim=1)

    def _find(self, observations: dict[str, torch.Tensor], words: torch.Tensor) -> torch.Tensor:
        views = torch.stack([self._channels_first(observations[k]) for k in self.images], dim=1)  # (B, K, 3, H, W)
        batch, levels = views.shape[:2]
        flat = (views.flatten(0, 1) - 0.5).contiguous(memory_format=torch.channels_last)
        maps = self.convolutions(flat)  # (B K, C, h, w)
        height, width = maps.shape[-2:]
        # Subtract what is everywhere: a small object in a wide view stands out by many standard deviations.
        maps = nn.functional.instance_norm(maps, eps=1e-3).reshape(batch, levels, self.channels, height * width)
        queries = nn.functional.normalize(self.to_queries(words).view(batch, self.queries, self.channels), dim=-1)
        match = SHARPNESS * torch.einsum("bqc,bkcp->bkqp", queries, maps)  # (B, K, Q, h w)
        weight = match.softmax(dim=-1)
        u = torch.linspace(-1, 1, width, device=maps.device).repeat(height)
        v = torch.linspace(1, -1, height, device=maps.device).repeat_interleave(width)
        where = torch.stack([weight @ u, weight @ v], dim=-1)  # (B, K, Q, 2)
        peak = torch.tanh(match.amax(dim=-1, keepdim=True) / (5 * SHARPNESS))
        return torch.cat([where, peak], dim=-1).flatten(1)

    @staticmethod
    def _channels_first(images: torch.Tensor) -> torch.Tensor:
        images = images.float() / 255 if images.dtype == torch.uint8 else images
        return images if images.shape[1] == 3 else images.permute(0, 3, 1, 2)
