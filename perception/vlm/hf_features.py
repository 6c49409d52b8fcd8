"""Pooled features of a frozen vision tower, and how every transformers backend finds and loads its model.

A model is a name on the Hugging Face hub or a folder. Importing this module loads neither transformers nor a model.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError

from assets.errors import InvalidValueError, MissingDependencyError, UnknownNameError
from perception.vlm.base import BackendError, Images, check_images

DTYPES = ("auto", "float32", "bfloat16", "float16")
POOLS = ("cls", "mean")


def need(module: str, package: str, to: str) -> Any:
    """An optional module.

    Args:
        module: its name in Python.
        package: its name for pip.
        to: what it is needed for, such as "run Hugging Face models".

    Raises:
        MissingDependencyError: it is not installed; names the package.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingDependencyError(f"to {to}, {package} must be installed: pip install {package}") from error


def pick_device(name: str) -> torch.device:
    """The device of that name; "auto" is the first of cuda, mps and cpu that this machine has.

    Raises:
        InvalidValueError: no such device, or not on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InvalidValueError(
            f"device {name!r} cannot be used here ({first_line(error)}); auto takes what there is"
        ) from error
    return device


def first_line(error: BaseException) -> str:
    """What an error says in its first line, at most 300 letters; its type if it says nothing."""
    said = str(error).strip().splitlines()
    return said[0].strip().rstrip(".:")[:300] if said else type(error).__name__


@dataclass(frozen=True)
class Source:
    """Where a model is found and what it runs on.

    Attributes:
        model: a folder, or a name on the Hugging Face hub such as "facebook/dinov2-small".
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        dtype: of `DTYPES`; "auto" is the checkpoint's own on an accelerator and float32 on a CPU, where the others are slow.
        revision: branch, tag or commit on the hub; None for its default.
        trust_remote_code: whether code that lies beside the weights may run. Off: what needs it is refused.
    """

    model: str
    device: str = "auto"
    dtype: str = "auto"
    revision: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise UnknownNameError("dtype", self.dtype, DTYPES)
        pick_device(self.device)

    @property
    def place(self) -> torch.device:
        """The device itself."""
        return pick_device(self.device)

    def load(self, kind: str, load: Callable[..., Any] | None = None) -> Any:
        """What transformers finds for the model.

        Args:
            kind: an Auto class of transformers, such as "AutoProcessor"; models come in evaluation mode, on the device.
            load: used instead of the Auto class's `from_pretrained`.

        Raises:
            MissingDependencyError: transformers, or a package that this model needs, is not installed.
            BackendError: the model was not found or is of another kind; names it and the cause.
        """
        transformers = need("transformers", "transformers", "run Hugging Face models")
        name, here = self.where()
        options: dict[str, Any] = {"local_files_only": here, "trust_remote_code": self.trust_remote_code}
        if self.revision is not None and not here:
            options["revision"] = self.revision
        weights = kind.startswith("AutoModel")
        if weights:
            on_cpu = self.dtype == "auto" and self.place.type == "cpu"
            options["dtype"] = "float32" if on_cpu else self.dtype
        try:
            loaded = (load or getattr(transformers, kind).from_pretrained)(name, **options)
        except ImportError as error:
            raise MissingDependencyError(f"to load {self.model!r}, something must be installed: {first_line(error)}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
            raise BackendError(f"could not load {self.model!r} as {kind}: {first_line(error)}") from error
        return loaded.to(self.place).eval() if weights else loaded

    def where(self) -> tuple[str, bool]:
        """The name for transformers, and whether it is a folder here.

        Raises:
            BackendError: it can only be a folder, and there is none.
        """
        path = Path(self.model).expanduser()
        if path.exists():
            return str(path), True
        if self.model.startswith((".", "/", "~")) or self.model.count("/") > 1 or "\\" in self.model:
            raise BackendError(f"could not load {self.model!r}: there is no such folder")
        return self.model, False


def pictures(images: Images) -> list[Any]:
    """The images as Pillow's, which no processor mistakes for channels first.

    Raises:
        MissingDependencyError: Pillow is not installed.
    """
    pillow = need("PIL.Image", "pillow", "run Hugging Face models")
    return [pillow.fromarray(image) for image in images]


def process(processor: Any, like: Any, **inputs: Any) -> Any:
    """A processor's or tokenizer's tensors, on a model's device and in its dtype.

    Raises:
        InvalidValueError: it refuses an input; says why.
    """
    try:
        made = processor(return_tensors="pt", **inputs)
    except (ValueError, IndexError, ZeroDivisionError) as error:
        raise InvalidValueError(f"{type(processor).__name__} refuses an input: {first_line(error)}") from error
    tensors = {k: v for k, v in made.items() if isinstance(v, torch.Tensor)}
    return {k: v.to(like.device, like.dtype if v.is_floating_point() else None) for k, v in tensors.items()}


def chunks(count: int, size: int) -> Iterator[slice]:
    """Slices of at most `size` that cover `count`."""
    return (slice(k, min(k + size, count)) for k in range(0, count, size))


def at_least_one(name: str, value: int) -> int:
    """The value of a setting, if it is 1 or more; InvalidValueError otherwise."""
    if value < 1:
        raise InvalidValueError(f"{name} must be >= 1, got {value}")
    return value


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
