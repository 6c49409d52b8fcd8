"""Instructions as vectors: a weight-free text embedding.

An embedding is the concatenation of two unit-scaled parts:

    e(text) = [ c, m, h / ||h|| ]          shape (EMBEDDING_SIZE,)

`c` in [-1, 1]^3 is the mean sRGB of the colour words in the text, centred on grey; `m` in {0, 1} says whether there was
one; `h` is a signed feature hash of the words (Weinberger et al. 2009, arXiv:0902.2206). Texts that name the same colour
are therefore near in the first four axes, and every word moves the rest. Frozen language encoders can replace it: anything
that maps a list of strings to (N, D) float32 will do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

EMBEDDING_SIZE = 64
_HASHED = EMBEDDING_SIZE - 4

# sRGB in [0, 1], the CSS values of the words where CSS has them (https://www.w3.org/TR/css-color-4/#named-colors).
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (1.0, 0.0, 0.0),
    "green": (0.0, 0.5, 0.0),
    "blue": (0.0, 0.0, 1.0),
    "yellow": (1.0, 1.0, 0.0),
    "orange": (1.0, 0.65, 0.0),
    "purple": (0.5, 0.0, 0.5),
    "pink": (1.0, 0.75, 0.8),
    "brown": (0.65, 0.16, 0.16),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "grey": (0.5, 0.5, 0.5),
    "cyan": (0.0, 1.0, 1.0),
}


def words(text: str) -> list[str]:
    """Lower-case words of a text, in order."""
    return re.findall(r"[a-z0-9]+", text.lower())


@lru_cache(maxsize=4096)
def _embed_one(text: str) -> bytes:
    out = np.zeros(EMBEDDING_SIZE, np.float32)
    named = [COLOURS[w] for w in words(text) if w in COLOURS]
    if named:
        out[:3] = 2 * np.mean(named, axis=0) - 1
        out[3] = 1
    for word in words(text):
        digest = hashlib.blake2b(word.encode(), digest_size=8).digest()
        slot = int.from_bytes(digest[:4], "little") % _HASHED
        out[4 + slot] += 1 if digest[4] & 1 else -1
    norm = float(np.linalg.norm(out[4:]))
    if norm > 0:
        out[4:] /= norm
    return out.tobytes()


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts, deterministic on every machine. Shape (N, EMBEDDING_SIZE), entries in [-1, 1]."""
    rows = b"".join(_embed_one(text) for text in texts)
    return np.frombuffer(rows, np.float32).reshape(len(texts), EMBEDDING_SIZE).copy()
