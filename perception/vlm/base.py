"""What a vision-language model can be asked, as protocols: few backends can do all.

Images are (N, H, W, 3) uint8 RGB. Pixels: u right, v down, (0, 0) is the centre of the top-left pixel; a box x1, y1, x2, y2
ends behind its last pixel, so that x2 - x1 is its width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, SaccadeError

Images = NDArray[np.uint8]

# A picture beyond this side is refused: nobody meant it, and a model would take minutes or all memory.
LARGEST_SIDE = 8192


class BackendError(SaccadeError):
    """A model that could not be reached, or did not answer in time; names the endpoint and the cause."""


@dataclass(frozen=True)
class Detections:
    """What was found in one image.

    Attributes:
        boxes: x1, y1, x2, y2, pixels of the original image. Shape (D, 4) float32; NaN rows where only a point was given.
        points: u, v, pixels. Shape (D, 2) float32; the box's middle where no point was given.
        labels: D texts, "" where none was given.
        scores: (D,) in [0, 1]; 1 where the model states none.
    """

    boxes: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    points: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 2), np.float32))
    labels: tuple[str, ...] = ()
    scores: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))

    def __post_init__(self) -> None:
        n = len(self.labels)
        shapes = {"boxes": (n, 4), "points": (n, 2), "scores": (n,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise InvalidValueError(f"{n} detections need {name} of shape {shape}, got {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def best(self) -> int | None:
        """Index of the highest score, the first of equals; None if nothing was found."""
        return int(self.scores.argmax()) if len(self) else None


@runtime_checkable
class Scorer(Protocol):
    """Image-text similarity."""

    def score(self, images: Images, prompts: Sequence[str]) -> NDArray[np.float32]:
        """How well each image fits each prompt, larger is better; the scale is the model's. (N, H, W, 3), P -> (N, P)."""
        ...


@runtime_checkable
class Answerer(Protocol):
    """A chat model: one prompt per image, free text back."""

    def answer(self, images: Images, prompts: Sequence[str]) -> list[str]:
        """N answers to N prompts about N images."""
        ...


@runtime_checkable
class Grounder(Protocol):
    """Text to places."""

    def ground(self, images: Images, phrases: Sequence[str]) -> list[Detections]:
        """Where what each phrase names is in its image. N images, N phrases -> N."""
        ...


@runtime_checkable
class FrozenFeatures(Protocol):
    """An image encoder that is used as it is."""

    @property
    def size(self) -> int:
        """Numbers per image."""
        ...

    def embed(self, images: Images) -> NDArray[np.float32]:
        """One vector per image, (N, size)."""
        ...


def check_images(images: Any) -> Images:
    """The images, if they are some.

    Raises:
        InvalidValueError: not an array (N, H, W, 3) of uint8, an empty batch, or too large.
    """
    if not isinstance(images, np.ndarray):
        raise InvalidValueError(f"images must be a NumPy array (N, H, W, 3) uint8, got {type(images).__name__}")
    if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
        hint = "; one image needs a leading axis: image[None]" if images.ndim == 3 else ""
        raise InvalidValueError(f"images must be (N, H, W, 3) uint8, got {images.shape} {images.dtype}{hint}")
    n, height, width, _ = images.shape
    if n == 0:
        raise InvalidValueError("an empty batch of images: there is nothing to look at")
    if min(height, width) < 1 or max(height, width) > LARGEST_SIDE:
        raise InvalidValueError(f"images must be 1 to {LARGEST_SIDE} pixels a side, got {height} x {width}")
    return images


def check_texts(texts: Any, what: str, count: int | None = None) -> list[str]:
    """The texts, if they are some.

    Args:
        texts: one text per entry.
        what: what they are called in the error, such as "prompts".
        count: how many there must be, one per image; None for any number above 0.

    Raises:
        InvalidValueError: a single string, not strings, an empty text, or another number.
    """
    if isinstance(texts, str):
        raise InvalidValueError(f"{what} must be a list of texts, got the single text {texts!r}: put it in a list")
    listed = list(texts)
    for text in listed:
        if not isinstance(text, str) or not text.strip():
            raise InvalidValueError(f"{what} must be texts that say something, got {text!r}")
    if count is not None and len(listed) != count:
        raise InvalidValueError(f"{what} must be one per image: got {len(listed)} for {count} images")
    if not listed:
        raise InvalidValueError(f"{what} must not be empty")
    return listed


def require(backend: Any, protocol: type, to: str) -> Any:
    """The backend, if it can do what is asked of it.

    Args:
        backend: the model.
        protocol: `Scorer`, `Answerer`, `Grounder` or `FrozenFeatures`.
        to: what it is needed for, such as "judge success".

    Raises:
        InvalidValueError: it cannot; the sentence says what it can.
    """
    if isinstance(backend, protocol):
        return backend
    able = [p.__name__ for p in (Scorer, Answerer, Grounder, FrozenFeatures) if isinstance(backend, p)]
    raise InvalidValueError(
        f"{type(backend).__name__} cannot {to}: that needs a {protocol.__name__}, it is {', '.join(able) or 'none of them'}"
    )
