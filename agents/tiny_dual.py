"""Training the tiny dual encoder on a corpus of annotated pictures with SigLIP's loss: each text fits a picture or not.

    L = -1/B sum_ij log sigmoid(z_ij (t x_i . y_j + b)),  z = 1 where text j is true of picture i, else -1

(Zhai et al. 2023, https://arxiv.org/abs/2303.15343, algorithm 1). Texts are every picture's caption and phrases for single
things, whose truth about every picture of the batch is known. While it is young, the vision tower also learns what its patches
show.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from agents.lessons import FEWEST, rarity, shown, strange
from agents.pretrain import Ahead, Pace, Pretraining
from assets.errors import InvalidValueError
from perception.annotation import Annotation
from perception.questions import describe
from perception.text import article
from perception.tiny import chat, dual

_FORMS = ("a {}", "the {}", "{}", "a picture of a {}", "There is a {}.")
# Cells of a corpus's grid of patches to a side of one of the tower's.
_CELLS = dual.PATCH // chat.PATCH


@dataclass
class Album:
    """One update's truth.

    Attributes:
        pixels: (B, 3, H, W) in [-1, 1], recoloured ones last.
        texts: T: captions of the B pictures, then phrases.
        fits: (B, T) 1 where a text is true, 0 where it is not, NaN where nobody can say.
        nouns, colours: (B, patches, cells) what each patch shows, 0 is nothing, -100 is not learned.
    """

    pixels: torch.Tensor
    texts: list[str]
    fits: torch.Tensor
    nouns: torch.Tensor
    colours: torch.Tensor


def truth(scenes: Sequence[Annotation], things: Sequence[tuple[str, str]]) -> NDArray[np.float32]:
    """Which scenes show which things; NaN where one is too little seen to tell. (B, T).

    Args:
        scenes: B.
        things: colour and noun; an empty colour or noun is any.
    """
    out = np.zeros((len(scenes), len(things)), np.float32)
    for row, scene in zip(out, scenes, strict=True):
        clear = {(s.colour or "", s.noun) for s in scene.seen}
        faint = {(c or "", n) for _, n, c in scene.faint}
        for k, (colour, noun) in enumerate(things):
            row[k] = _among(clear, colour, noun) or (np.nan if _among(faint, colour, noun) else 0)
    return out


def _among(found: set[tuple[str, str]], colour: str, noun: str) -> bool:
    return any(colour in ("", c) and noun in ("", n) for c, n in found)


class TinyDualLearner(Pretraining):
    """Trains the dual encoder; one step is one update of `batch_size` pictures.

    Args:
        env: not used; a learner is given one.
        corpus: folder that `python -m envs.corpus` wrote.
        seed: of the initial weights and of everything drawn.
        batch_size: pictures an update, each with its caption.
        phrases: texts about single things an update.
        dense: weight of what patches show, falling to nothing in `dense_steps` updates.
        dense_steps: see `dense`.
        width, heads: of both towers.
        depth, vision_depth: layers of the text and of the vision tower.
        pace: see `pretrain.Pace`.
    """

    def __init__(
        self, env: Any, corpus: str, seed: int = 0, batch_size: int = 96, phrases: int = 96, dense: float = 2.0,
        dense_steps: int = 10_000, width: int = 192, depth: int = 2, vision_depth: int = 4, heads: int = 3, **pace: Any,
    ) -> None:  # fmt: skip
        del env
        if phrases < 1 or batch_size < FEWEST:
            raise InvalidValueError(f"phrases must be >= 1 and batch_size >= {FEWEST}, got {phrases} and {batch_size}")
        super().__init__(corpus, seed, batch_size, Pace(**pace))
        self._phrases, self._dense, self._dense_steps = phrases, dense, dense_steps
        nouns, colours = self.corpus.names
        self._rarity = rarity(self.corpus).to(self.device)
        never = strange(self.corpus)
        pairs = [(c, n) for c in colours for n in nouns if not never.search(f"{c} {n}")]
        self._things = [*pairs, *(("", n) for n in nouns), *((c, "") for c in colours)]
        self.tokenizer = dual.make_tokenizer([*self.texts(), *(self._phrase(t, f) for t in self._things for f in _FORMS)])
        self.model = dual.make_model(self.tokenizer, width, depth, vision_depth, heads, seed).to(self.device)
        sizes = {"nouns": len(nouns) + 1, "colours": len(colours) + 1}
        self.heads = nn.ModuleDict({k: nn.Linear(width, _CELLS**2 * n) for k, n in sizes.items()}).to(self.device)
        self._albums = Ahead(self._album)
        self.begin()

    def losses(self, step: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """What update number `step` learns: name of a loss -> its value, and -> its weight."""
        weight = self._dense * max(0.0, 1 - step / max(1, self._dense_steps))
        return self._losses(self._albums[step]), {"captions": 1.0, "phrases": 1.0, "nouns": weight, "colours": weight}

    def _album(self, step: int) -> Album:
        rng = np.random.default_rng((self.seed, 1, step))
        chosen = rng.integers(len(self.corpus), size=self.batch_size)
        scenes = [self.corpus.annotation(int(k)) for k in chosen]
        captions = [q.answer if (q := describe(scene, rng)) else "There is nothing." for scene in scenes]
        things = [self._things[k] for k in rng.choice(len(self._things), min(self._phrases, len(self._things)), replace=False)]
        phrases = [self._phrase(t, _FORMS[int(rng.integers(len(_FORMS)))]) for t in things]
        own = self.batch_size - self.batch_size // 4
        pixels, nouns, colours = shown(self.corpus, chosen, own, rng)
        same = np.array([[a == b for b in captions] for a in captions], np.float32)
        fits = np.concatenate([same, truth(scenes, things)], axis=1)
        # Of a recoloured picture, only what names no colour is known.
        coloured = np.array([True] * len(captions) + [bool(colour) for colour, _ in things])
        fits[own:, coloured] = np.nan
        return Album(pixels, captions + phrases, torch.from_numpy(fits), _cells(nouns), _cells(colours))

    @staticmethod
    def _phrase(thing: tuple[str, str], form: str) -> str:
        colour, noun = thing
        return article(form.format(f"{colour} {noun or 'thing'}".strip()))

    def _losses(self, album: Album) -> dict[str, torch.Tensor]:
        ids = self.tokenizer(album.texts, padding="max_length", truncation=True, max_length=dual.LENGTH, return_tensors="pt")[
            "input_ids"
        ].to(self.device)
        with self.autocast():
            seen = self.model.vision_model(pixel_values=album.pixels.to(self.device))
            texts = self.model.get_text_features(input_ids=ids)
        unit = (functional.normalize(getattr(x, "pooler_output", x).float(), dim=-1) for x in (seen, texts))
        image, text = unit
        logits = image @ text.T * self.model.logit_scale.exp() + self.model.logit_bias
        fits, count = album.fits.to(self.device), len(album.pixels)
        known = torch.isfinite(fits)
        apart = torch.where(known, functional.binary_cross_entropy_with_logits(logits, fits.nan_to_num(), reduction="none"), 0)
        out = {"captions": apart[:, :count].sum() / count, "phrases": apart[:, count:].sum() / count}
        for name, wanted, weight in (("nouns", album.nouns, self._rarity), ("colours", album.colours, None)):
            said = self.heads[name](seen.last_hidden_state.float()).unflatten(-1, (_CELLS**2, -1))
            out[name] = functional.cross_entropy(said.flatten(0, 2), wanted.flatten().to(self.device), weight)
        return out


def _cells(grid: torch.Tensor) -> torch.Tensor:
    """(B, h, w) of a corpus's patches -> (B, patches, cells) of the tower's, both row by row."""
    b, h, w = grid.shape
    parts = grid.reshape(b, h // _CELLS, _CELLS, w // _CELLS, _CELLS)
    return parts.permute(0, 1, 3, 2, 4).reshape(b, -1, _CELLS**2)
