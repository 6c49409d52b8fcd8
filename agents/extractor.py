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
        self.patch, self.queries, self.channels = patch, queries, channels
        bound = (7 * patch**2) ** -0.5  # a patch is its pixels, their product with the named colour, their distance to it
        self.of_pixel = nn.Parameter(torch.empty(3, patch**2, channels).uniform_(-bound, bound))
        self.of_product = nn.Parameter(torch.empty(3, patch**2, channels).uniform_(-bound, bound))
        self.of_distance = nn.Linear(patch**2, channels)
        self.to_channels = nn.Linear(channels, channels)
        self.colour_sharpness = nn.Parameter(torch.tensor(np.log(COLOUR_SHARPNESS), dtype=torch.float32))
        if words:
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
        batch, levels, side, colour = len(words), len(images), self.patch, words[:, :3]
        pixels, (height, width) = self._cut(images)
        distance = (pixels - colour[:, None, :, None]).square_().mean(dim=2)  # (B, P, side^2)
        # A pixel's product with the named colour has weights of its own: they and the pixel's add up before they meet it, so
        # that one multiplication serves both.
        weights = (self.of_pixel + self.of_product * colour[:, :, None, None]).flatten(1, 2)  # (B, 3 side^2, C)
        hidden = self.of_distance(distance) + pixels.flatten(2) @ weights
        maps = self.to_channels(hidden.relu()).view(batch, levels, height * width, self.channels)
        queries = nn.functional.normalize(self.to_queries(words).view(batch, 1, self.queries, self.channels), dim=-1)
        match = SHARPNESS * _normalised_match(queries, maps)  # (B, K, Q, h w)
        peak = torch.tanh(match.amax(dim=-1) / (5 * SHARPNESS))
        queried = _positions(match, height, width, peak)
        near = distance.view(batch, levels, height, width, side, side).permute(0, 1, 2, 4, 3, 5)
        near = nn.functional.avg_pool2d(near.reshape(batch, levels, height * side, width * side), 2)  # (B, K, H / 2, W / 2)
        height, width = near.shape[-2:]
        near = near.flatten(2)[:, :, None]  # (B, K, 1, P)
        named = _positions(-self.colour_sharpness.exp() * near, height, width, near.amin(dim=-1))
        return torch.cat([queried, named], dim=1)

    def _cut(self, images: list[torch.Tensor]) -> tuple[torch.Tensor, tuple[int, int]]:
        """Patches (B, K * h * w, 3, side^2) in [-1, 1] of K images of bytes, either axis order; and their grid, (h, w)."""
        side = self.patch
        views = torch.stack([i if i.shape[1] == 3 else i.permute(0, 3, 1, 2) for i in images], dim=1)  # (B, K, 3, H, W)
        batch, levels, _, rows, columns = views.shape
        height, width = rows // side, columns // side
        views = views[..., : height * side, : width * side].reshape(batch, levels, 3, height, side, width, side)
        patches = views.permute(0, 1, 3, 5, 2, 4, 6).reshape(batch, levels * height * width, 3, side**2)
        return patches.float().mul_(2 / 255).sub_(1), (height, width)


def _normalised_match(queries: torch.Tensor, maps: torch.Tensor) -> torch.Tensor:
    """Products of queries (B, 1, Q, C) with maps (B, K, P, C) whose channels are normalised over the P positions, (B, K, Q, P).

    The normalisation is applied to the queries, which are few, and not to the maps, which are large:
    q . (x - mean) / std = (q / std) . x - (q / std) . mean.
    """
    mean = maps.mean(dim=2, keepdim=True)  # (B, K, 1, C)
    square = torch.linalg.vector_norm(maps, dim=2, keepdim=True).square() / maps.shape[2]
    scaled = queries * torch.rsqrt((square - mean.square()).clamp(min=0) + 1e-3)
    return scaled @ maps.mT - (scaled @ mean.mT)


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
