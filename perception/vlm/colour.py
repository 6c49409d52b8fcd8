"""A model without weights: how much of a named colour is seen, and where.

Every pixel is given to the nearest of twelve named colours, in CIELAB. It sees colours and nothing else, which makes it the
honest baseline of whatever claims to understand more.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception.text import COLOURS, words
from perception.vlm.base import Detections, Images, check_images, check_texts

_NAMES = list(COLOURS)
# Blobs of fewer pixels than this share of the picture are noise.
_SMALLEST = 0.0008


def _lab(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """CIELAB (D65) of (N, 3) sRGB bytes."""
    return cv2.cvtColor(np.ascontiguousarray(rgb)[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0]


class Colour:
    """A Scorer and a Grounder by colour words alone.

    Args:
        tolerance: largest distance in CIELAB from a named colour at which a pixel still counts as it.
    """

    def __init__(self, tolerance: float = 60.0) -> None:
        if not tolerance > 0:
            raise InvalidValueError(f"tolerance must be > 0, got {tolerance}")
        self._tolerance = tolerance
        grid = np.stack(np.meshgrid(*[np.arange(0, 256, 8)] * 3, indexing="ij"), axis=-1).reshape(-1, 3).astype(np.uint8) + 4
        palette = _lab(np.round(np.array(list(COLOURS.values())) * 255).astype(np.uint8))
        distance = np.linalg.norm(_lab(grid)[:, None] - palette[None], axis=2)
        nearest = np.where(distance.min(axis=1) <= tolerance, distance.argmin(axis=1), len(_NAMES))
        self._table = nearest.reshape(32, 32, 32).astype(np.uint8)  # of the five upper bits of each channel

    def name_pixels(self, images: Images) -> NDArray[np.uint8]:
        """Place in the palette of each pixel's colour, 12 for none. (N, H, W, 3) -> (N, H, W)."""
        coarse = images >> 3
        return self._table[coarse[..., 0], coarse[..., 1], coarse[..., 2]]

    def score(self, images: Images, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Share of each image in the colours that each prompt names, (N, P); 0 for a prompt that names none."""
        named = self.name_pixels(check_images(images))
        wanted = [_colours(p) for p in check_texts(prompts, "prompts")]
        shares = np.stack([(named == k).mean(axis=(1, 2)) for k in range(len(_NAMES))], axis=1)
        return np.stack([shares[:, ids].sum(axis=1) for ids in wanted], axis=1).astype(np.float32)

    def ground(self, images: Images, phrases: Sequence[str]) -> list[Detections]:
        """Blobs of the colour that each phrase names, the largest first; their scores are shares of all its pixels."""
        named = self.name_pixels(check_images(images))
        asked = check_texts(phrases, "phrases", len(images))
        return [_blobs(np.isin(pixels, _colours(phrase)), phrase) for pixels, phrase in zip(named, asked, strict=True)]


def _colours(text: str) -> list[int]:
    return [_NAMES.index(word) for word in words(text) if word in COLOURS]


def _blobs(mask: NDArray[np.bool_], phrase: str) -> Detections:
    """Connected pieces of a mask as detections."""
    count, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    order = [k for k in range(1, count) if stats[k, cv2.CC_STAT_AREA] >= _SMALLEST * mask.size]
    if not order:
        return Detections()
    order.sort(key=lambda k: -int(stats[k, cv2.CC_STAT_AREA]))
    boxes, points, areas = [], [], []
    for k in order:
        left, top, width, height, area = (int(v) for v in stats[k])
        distance = cv2.distanceTransform(np.pad(pieces == k, 1).astype(np.uint8), cv2.DIST_L2, 5)
        v, u = np.unravel_index(int(distance.argmax()), distance.shape)
        boxes.append((left, top, left + width, top + height))
        points.append((u - 1, v - 1))
        areas.append(area / int(mask.sum()))
    return Detections(
        np.array(boxes, np.float32), np.array(points, np.float32), (phrase,) * len(order), np.array(areas, np.float32)
    )
