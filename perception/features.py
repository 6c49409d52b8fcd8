"""Frozen features that need no weights, where in the picture something is kept: for a camera that stands still."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from assets.errors import InvalidValueError
from perception.vlm.base import Images, check_images


class Thumbnail:
    """Colours of a picture shrunk by averaging: FrozenFeatures.

    Args:
        side: pixels a side of what it is shrunk to.

    Raises:
        InvalidValueError: side < 1.
    """

    def __init__(self, side: int = 21) -> None:
        if side < 1:
            raise InvalidValueError(f"side must be >= 1 pixel, got {side}")
        self._side = side

    @property
    def size(self) -> int:
        """Numbers per image."""
        return 3 * self._side**2

    def embed(self, images: Images) -> NDArray[np.float32]:
        """(N, H, W, 3) -> (N, size), each in [0, 1]."""
        square = (self._side, self._side)
        small = [cv2.resize(image, square, interpolation=cv2.INTER_AREA) for image in check_images(images)]
        return (np.stack(small).reshape(len(small), -1) / np.float32(255)).astype(np.float32)


class RandomConv:
    """Activations of a convolutional network that nobody trained: FrozenFeatures.

    Three layers of 3 x 3 with ReLU and He's initialisation, each halving the picture. That such features keep what is needed
    to learn from is known since Saxe et al. 2011 (ICML, "On random weights and unsupervised feature learning"); Sermanet et
    al. (arXiv:1612.06699) used the first layers of a trained network.

    Args:
        seed: of the weights.
        side: pixels to which pictures are shrunk first.
        channels: of the three layers.
        batch_size: images at a time.

    Raises:
        InvalidValueError: side < 8.
    """

    def __init__(
        self, seed: int = 0, side: int = 84, channels: tuple[int, int, int] = (32, 32, 64), batch_size: int = 64
    ) -> None:
        if side < 8:
            raise InvalidValueError(f"side must be >= 8 pixels, got {side}")
        generator = torch.Generator().manual_seed(seed)
        widths = zip((3, *channels[:2]), channels, strict=True)
        self._weights = [torch.randn(b, a, 3, 3, generator=generator) * (2 / (9 * a)) ** 0.5 for a, b in widths]
        self._side, self._batch_size = side, batch_size

    @property
    def size(self) -> int:
        """Numbers per image."""
        side = self._side
        for _ in self._weights:
            side = (side + 1) // 2
        return int(self._weights[-1].shape[0]) * side**2

    @torch.inference_mode()
    def embed(self, images: Images) -> NDArray[np.float32]:
        """(N, H, W, 3) -> (N, size), each >= 0."""
        check_images(images)
        parts = [self._activations(images[k : k + self._batch_size]) for k in range(0, len(images), self._batch_size)]
        return np.concatenate(parts)

    def _activations(self, images: Images) -> NDArray[np.float32]:
        square = (self._side, self._side)
        same = images.shape[1:3] == square
        small = images if same else np.stack([cv2.resize(i, square, interpolation=cv2.INTER_AREA) for i in images])
        x = torch.from_numpy(np.ascontiguousarray(small)).permute(0, 3, 1, 2).float() / 127.5 - 1
        for weight in self._weights:
            x = torch.relu(functional.conv2d(x, weight, stride=2, padding=1))
        return x.flatten(1).numpy()
