"""Reading corpora of annotated pictures; `envs.corpus` writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception.annotation import Annotation


class Corpus:
    """Pictures with their truth.

    Args:
        folder: with corpus.json, part-0000.npz, part-0000.jsonl and so on.
        limit: read at most so many pictures; None reads all.

    Attributes:
        about: what corpus.json says: command, n, seed, held_out, side, nouns, colours.
        images: (n, H, W, 3) uint8.
        masks: which of an annotation's `seen` each pixel shows, from 1, (n, H, W) uint8; None where the corpus has none.
        nouns, colours: what the middle of each patch shows, (n, h, w) uint8 places in `about`'s lists, 0 is nothing.

    Raises:
        InvalidValueError: no corpus in the folder, or one that was cut short.
    """

    def __init__(self, folder: str | Path, limit: int | None = None) -> None:
        self.folder = Path(folder)
        if not (self.folder / "corpus.json").is_file():
            raise InvalidValueError(
                f"{self.folder} holds no whole corpus: make one with python -m envs.corpus --n 100000 --out {self.folder}"
            )
        self.about: Mapping[str, Any] = json.loads((self.folder / "corpus.json").read_text())
        wanted = min(limit or self.about["n"], self.about["n"])
        arrays: dict[str, list[NDArray[Any]]] = {"images": [], "nouns": [], "colours": [], "masks": []}
        self._told: list[bytes] = []  # JSON, which takes a tenth of the memory of what it says
        for part in range(self.about["parts"]):
            with np.load(self.folder / f"part-{part:04d}.npz") as held:
                for name in arrays:
                    if name in held:
                        arrays[name].append(held[name])
            self._told += (self.folder / f"part-{part:04d}.jsonl").read_bytes().splitlines()
            if len(self._told) >= wanted:
                break
        found = {name: np.concatenate(parts)[:wanted] for name, parts in arrays.items() if parts}
        self.images, self.nouns, self.colours = (found[name] for name in ("images", "nouns", "colours"))
        self.masks = found.get("masks")
        self._told = self._told[:wanted]

    def __len__(self) -> int:
        return len(self._told)

    def annotation(self, index: int) -> Annotation:
        """The truth of one picture."""
        return Annotation.from_json(json.loads(self._told[index]))

    @cached_property
    def names(self) -> tuple[list[str], list[str]]:
        """Nouns and colours, in the order of the patches' numbers from 1."""
        return list(self.about["nouns"]), list(self.about["colours"])
