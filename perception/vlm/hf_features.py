"""Pooled features of a frozen vision tower."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import BackendError, Images, check_images
from perception.vlm.hf import Source, at_least_one, chunks, pictures, process

POOLS = ("cls", "mean")


class HFFeatures:
    """Features of any vision tower that transformers' AutoModel loads: DINOv2, DINOv3, ViT, the towers of CLIP and SigLIP.

    The features are the last layer's, as they are: not normalised.

    Args:
        model: a folder, or a name such as "facebook/dinov2-small".
        pool: "cls" for the class token, "mean" for the mean of the patches, without class and register tokens.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "bfloat16" or "float16".
        batch_size: images at a time.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code that lies beside the weights may run.

    Raises:
        MissingDependencyError: transformers or Pillow is not installed.
        BackendError: the model was not found, or is no vision tower.
        UnknownNameError: no such pool.
        InvalidValueError: "cls" of a model without a class token.
    """

    def __init__(
        self, model: str, pool: str = "cls", device: str = "auto", dtype: str = "auto", batch_size: int = 32,
        revision: str | None = None, trust_remote_code: bool = False,
    ) -> None:  # fmt: skip
        if pool not in POOLS:
            raise UnknownNameError("pool", pool, POOLS)
        self._pool, self._batch_size = pool, at_least_one("batch_size", batch_size)
        source = Source(model, device, dtype, revision, trust_remote_code)
        loaded = source.load("AutoModel")
        self._processor = source.load("AutoImageProcessor")
        # A dual encoder holds its image tower beside the text tower.
        self._tower = getattr(loaded, "vision_model", loaded)
        if getattr(self._tower, "main_input_name", "") != "pixel_values":
            raise BackendError(f"{model!r} is a {type(loaded).__name__}, which is no vision tower")
        self._size = self.embed(np.zeros((1, 64, 64, 3), np.uint8)).shape[1]

    @property
    def size(self) -> int:
        """Numbers per image."""
        return self._size

    @torch.inference_mode()
    def embed(self, images: Images) -> NDArray[np.float32]:
        """One vector per image, (N, size).

        Raises:
            InvalidValueError: not images, or the processor refuses one.
        """
        check_images(images)
        rows = []
        for part in chunks(len(images), self._batch_size):
            pixels = process(self._processor, self._tower, images=pictures(images[part]))["pixel_values"]
            if pixels.ndim != 4:
                raise BackendError(f"{type(self._tower).__name__} takes patches instead of pictures: use HFDual for it")
            rows.append(self._pooled(self._tower(pixel_values=pixels).last_hidden_state, pixels).float().cpu().numpy())
        return np.concatenate(rows)

    def _pooled(self, states: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
        special = 0 if states.ndim == 4 else self._special(states.shape[1], pixels.shape[2], pixels.shape[3])
        if self._pool == "mean":
            return states.mean(dim=(2, 3)) if states.ndim == 4 else states[:, special:].mean(dim=1)
        if special == 0:
            raise InvalidValueError(f"{type(self._tower).__name__} has no class token: pool must be mean, got cls")
        return states[:, 0]

    def _special(self, tokens: int, height: int, width: int) -> int:
        """Class and register tokens, which stand before the patches."""
        patch = getattr(self._tower.config, "patch_size", None)
        if patch is None:  # DINOv3's ConvNeXt: a class token, then what it calls patches
            return 1
        down, across = (patch, patch) if isinstance(patch, int) else patch
        return max(0, tokens - (height // down) * (width // across))
