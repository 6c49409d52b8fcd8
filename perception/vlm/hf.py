"""How every transformers backend finds its model, loads it and hands it pictures.

A model is a name on the Hugging Face hub or a folder. Importing this module loads neither transformers nor a model.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from assets.errors import InvalidValueError, MissingDependencyError, UnknownNameError
from perception.vlm.base import BackendError, Images

DTYPES = ("auto", "float32", "bfloat16", "float16")


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
