"""Reward by words: how well a picture fits a sentence, less of what neither the sentence nor its opposite speaks of.

Vision-language models as zero-shot reward models, Rocamonde et al. 2023 (arXiv:2310.12921), definition 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception.vlm.base import FrozenFeatures, Images, check_images, check_texts, require


@runtime_checkable
class DualEncoder(FrozenFeatures, Protocol):
    """Pictures and texts as vectors of one space."""

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector per text, (P, size)."""
        ...


class GoalSimilarity:
    """Similarity of a picture to a goal's text, regularised by a baseline's.

        R(s) = 1 - 1/2 || alpha proj_L(s) + (1 - alpha) s - g ||^2

    s, g and b are the unit vectors of picture, goal and baseline, L is the line through b and g. With alpha = 0 it is the
    cosine of s and g; with alpha = 1 only the place along L counts, and all that pictures of the task have in common with
    neither text is left out. In closed form, with u = s - g split into its part p along L and the rest q, it is
    1 - (|p|^2 + (1 - alpha)^2 |q|^2) / 2: in [-1, 1], and no lower for a larger alpha.

    Args:
        encoder: any backend with vectors of pictures and of texts, such as TinyDual or HFDual.
        goal: what the picture should show, such as "the gripper holds the red cube".
        baseline: what it shows before anything is done, such as "the gripper is empty".
        alpha: strength of the regularisation, in [0, 1]; 0.5 to 0.9 in the paper.

    Raises:
        InvalidValueError: the backend is no dual encoder, texts that mean the same to it, or alpha outside its range.
    """

    def __init__(self, encoder: DualEncoder, goal: str, baseline: str, alpha: float = 0.5) -> None:
        if not 0 <= alpha <= 1:
            raise InvalidValueError(f"alpha must be in [0, 1], got {alpha}")
        self.encoder, self.alpha = require(encoder, DualEncoder, "tell how well a picture fits a text"), alpha
        self._goal, base = _unit(self.encoder.embed_texts(check_texts([goal, baseline], "goal and baseline")))
        line = self._goal - base
        length = np.linalg.norm(line)
        if length < 1e-6:
            raise InvalidValueError(f"goal and baseline must differ to the encoder, got {goal!r} and {baseline!r}")
        self._line = line / length

    def __call__(self, frames: Images) -> NDArray[np.float32]:
        """The reward of each picture; (N, H, W, 3) uint8 -> (N,) in [-1, 1].

        Raises:
            InvalidValueError: not pictures, or the encoder gives a vector of length 0.
        """
        apart = _unit(self.encoder.embed(check_images(frames))) - self._goal
        along = apart @ self._line
        across = np.maximum((apart**2).sum(axis=1) - along**2, 0)
        return (1 - 0.5 * (along**2 + (1 - self.alpha) ** 2 * across)).astype(np.float32)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """Vectors of length 1, (N, size)."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0)).all():
        raise InvalidValueError(f"an encoder's vectors must be finite and longer than 0, got lengths {lengths[:, 0]}")
    return vectors.astype(np.float64) / lengths
