"""Instructions as vectors: a weight-free text embedding.

An embedding is the concatenation of unit-scaled parts:

    e(text) = [ c, m, c', m', h / ||h|| ]          shape (EMBEDDING_SIZE,)

`c` in [-1, 1]^3 is the sRGB of the first colour word in the text, centred on grey; `c'` that of the last one, where it is
another: what is taken, and where it goes. `m` and `m'` in {0, 1} say whether there was one. `h` is a signed feature hash of the
words (Weinberger et al. 2009, arXiv:0902.2206) with three slots a word, articles left out. Texts that name the same colour are
therefore near in the first axes, and every word moves the rest. Frozen language encoders can replace it: anything that maps a
list of strings to (N, D) float32 will do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

EMBEDDING_SIZE = 68
# Where the two colours stand in it.
FIRST_COLOUR, LAST_COLOUR = slice(0, 3), slice(4, 7)
_BEFORE = 8
_HASHED = EMBEDDING_SIZE - _BEFORE
_SLOTS = 3
_ARTICLES = frozenset({"a", "an", "the"})

# sRGB in [0, 1]: what people call by these names, from the xkcd colour survey (https://xkcd.com/color/rgb.txt, CC0).
COLOURS: dict[str, tuple[float, float, float]] = {
    "red": (0.898, 0.0, 0.0),
    "green": (0.082, 0.690, 0.102),
    "blue": (0.012, 0.263, 0.875),
    "yellow": (1.0, 1.0, 0.078),
    "orange": (0.976, 0.451, 0.024),
    "purple": (0.494, 0.118, 0.612),
    "pink": (1.0, 0.506, 0.753),
    "brown": (0.396, 0.216, 0.0),
    "white": (1.0, 1.0, 1.0),
    "black": (0.0, 0.0, 0.0),
    "grey": (0.573, 0.584, 0.569),
    "cyan": (0.0, 1.0, 1.0),
}


def words(text: str) -> list[str]:
    """Lower-case words of a text, in order."""
    return re.findall(r"[a-z0-9]+", text.lower())


@lru_cache(maxsize=4096)
def _embed_one(text: str) -> bytes:
    out = np.zeros(EMBEDDING_SIZE, np.float32)
    named = [COLOURS[w] for w in words(text) if w in COLOURS]
    distinct = list(dict.fromkeys(named[:1] + named[-1:]))
    for colour, where in zip(distinct, (FIRST_COLOUR, LAST_COLOUR), strict=False):
        out[where], out[where.stop] = 2 * np.array(colour) - 1, 1
    for word in words(text):
        if word in _ARTICLES:
            continue
        digest = hashlib.blake2b(word.encode(), digest_size=3 * _SLOTS).digest()
        for k in range(0, 3 * _SLOTS, 3):
            slot = int.from_bytes(digest[k : k + 2], "little") % _HASHED
            out[_BEFORE + slot] += 1 if digest[k + 2] & 1 else -1
    norm = float(np.linalg.norm(out[_BEFORE:]))
    if norm > 0:
        out[_BEFORE:] /= norm
    return out.tobytes()


def embed(texts: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts, deterministic on every machine. Shape (N, EMBEDDING_SIZE), entries in [-1, 1]."""
    return np.frombuffer(_embed_all(tuple(texts)), np.float32).reshape(len(texts), EMBEDDING_SIZE).copy()


@lru_cache(maxsize=16)
def _embed_all(texts: tuple[str, ...]) -> bytes:
    """What a batch of simulations is told changes when an episode ends, not at every step."""
    return b"".join(map(_embed_one, texts))


def noun_phrase(instruction: str) -> str:
    """What an instruction is about: "find the purple mug" -> "the purple mug"; the whole text where no article begins it."""
    found = re.search(r"\b(?:the|a|an)\b.*", instruction, re.DOTALL | re.IGNORECASE)
    return (found[0] if found else instruction).strip().rstrip(".!?")


def article(phrase: str) -> str:
    """A phrase with its indefinite articles as they should be: "a orange mug" -> "an orange mug"."""
    parts = phrase.split()
    return " ".join("an" if w == "a" and after[0] in "aeiou" else w for w, after in zip(parts, [*parts[1:], "."], strict=True))
