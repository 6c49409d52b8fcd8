"""Training the tiny chat model on a corpus of annotated pictures: next-token prediction of exact answers.

A picture is seen once per update and asked many questions. While it is young, the model also learns what every patch shows, how
far that reaches, and in which cells of the picture an asked place lies, from the same truth; those heads are thrown away
afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from agents.lessons import FEWEST, Lesson, Lessons, rarity
from agents.pretrain import Ahead, Pace, Pretraining
from assets.errors import InvalidValueError, UnknownNameError
from perception.questions import KINDS
from perception.tiny import chat

# Weight of the mean distance between the boxes that patches tell of and the true ones, as a share of the picture.
_BOXES = 5.0


class TinyChatLearner(Pretraining):
    """Trains the chat model; one step is one update of `batch_size` pictures.

    Args:
        env: not used; a learner is given one.
        corpus: folder that `python -m envs.corpus` wrote.
        seed: of the initial weights and of everything drawn.
        batch_size: pictures an update.
        questions: questions a picture.
        weights: kind of question -> how many times as often as others it is asked; 1 where none is given.
        dense: weight of what patches show and of where answers lie, falling to nothing in `dense_steps` updates.
        dense_steps: see `dense`.
        silent_steps: updates from the beginning in which nothing is asked and only the vision tower learns, at half the cost.
        width, heads: of both towers.
        depth, vision_depth: layers of the text and of the vision tower.
        pace: see `pretrain.Pace`.
    """

    def __init__(
        self, env: Any, corpus: str, seed: int = 0, batch_size: int = 32, questions: int = 10,
        weights: Mapping[str, float] | None = None, dense: float = 1.0, dense_steps: int = 10_000, silent_steps: int = 3000,
        width: int = 192, depth: int = 4, vision_depth: int = 6, heads: int = 3, **pace: Any,
    ) -> None:  # fmt: skip
        del env
        for kind in weights or {}:
            if kind not in KINDS:
                raise UnknownNameError("kind of question", kind, KINDS)
        if questions < 1 or batch_size < FEWEST:
            raise InvalidValueError(f"questions must be >= 1 and batch_size >= {FEWEST}, got {questions} and {batch_size}")
        super().__init__(corpus, seed, batch_size, Pace(**pace))
        self._dense, self._dense_steps = dense, dense_steps
        self.tokenizer = chat.make_tokenizer(self.texts())
        wanted = {kind: float((weights or {}).get(kind, 1.0)) for kind in KINDS}
        lessons = Lessons(self.corpus, self.tokenizer, seed, batch_size, questions, wanted, silent_steps)
        self._lessons = Ahead(lessons.make)
        self.model = chat.make_model(self.tokenizer, width, depth, vision_depth, heads, seed).to(self.device)
        if self.device.type == "cpu":  # where every head's products in full are faster than fused attention's backward pass
            self.model.model.vision_model.set_attn_implementation("eager")
        nouns, colours = self.corpus.names
        self._rarity = rarity(self.corpus).to(self.device)
        sizes = {"nouns": len(nouns) + 1, "colours": len(colours) + 1, "boxes": 4, "where": width}
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in sizes.items()}).to(self.device)
        self.begin()

    def losses(self, step: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
        """What update number `step` learns: name of a loss -> its value, and -> its weight."""
        weight = self._dense * max(0.0, 1 - step / max(1, self._dense_steps))
        weights = {"answer": 1.0, "nouns": weight, "colours": weight, "boxes": _BOXES * weight, "where": weight}
        return self._losses(self._lessons[step]), weights

    def _losses(self, lesson: Lesson) -> dict[str, torch.Tensor]:
        pixels, packed = lesson.pixels.to(self.device), lesson.packed
        with self.autocast():
            if packed is None:
                return self._patch_losses(self.model.model.vision_model(pixel_values=pixels).last_hidden_state, lesson)
            packed.to(self.device)
            heard = chat.hear(self.model, pixels, packed)
        answer = functional.cross_entropy(heard.logits.float(), heard.wanted)
        where = self._where_loss(heard, packed, lesson.where.to(self.device))
        return {"answer": answer, "where": where, **self._patch_losses(heard.patches, lesson)}

    def _patch_losses(self, patches: torch.Tensor, lesson: Lesson) -> dict[str, torch.Tensor]:
        told, out = patches.float(), dict[str, torch.Tensor]()
        for name, truth, weight in (("nouns", lesson.nouns, self._rarity), ("colours", lesson.colours, None)):
            said = self.heads[name](told).flatten(0, 1)
            out[name] = functional.cross_entropy(said, truth.flatten().to(self.device), weight)
        boxes = lesson.boxes.flatten(0, 2).to(self.device)
        there = torch.isfinite(boxes[:, 0])
        apart = functional.l1_loss(self.heads["boxes"](told).flatten(0, 1)[there], boxes[there], reduction="sum")
        out["boxes"] = apart / max(1, 4 * int(there.sum()))
        return out

    def _where_loss(self, heard: chat.Heard, packed: chat.Packed, where: torch.Tensor) -> torch.Tensor:
        """Whoever is about to tell a place knows in which cells of the picture it lies."""
        asked = where.sum(dim=1) > 0
        query = self.heads["where"](heard.asked[asked].float())
        places = heard.places[packed.ends[asked, 0]].float()
        scores = torch.einsum("qd,qpd->qp", query, places) / query.shape[1] ** 0.5
        return -(where[asked] * scores.log_softmax(dim=1)).sum() / max(1, int(asked.sum()))
