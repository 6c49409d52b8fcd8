"""Training the tiny chat model on a corpus of annotated pictures: next-token prediction of exact answers.

A picture is seen once per update and asked many questions. While it is young, the model also learns what every patch shows, how
far that reaches, and in which cells of the picture an asked place lies, from the same truth; those heads are thrown away
afterwards.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from agents import checkpoint
from agents.lessons import Lesson, Lessons
from agents.run import Run
from assets.errors import InvalidValueError, UnknownNameError
from perception.corpus import Corpus
from perception.questions import KINDS, ask
from perception.tiny import chat

# Weight of the mean distance between the boxes that patches tell of and the true ones, as a share of the picture.
_BOXES = 5.0
# Pictures whose questions the tokenizer is trained on.
_READ = 3000
_SIZES = ("width", "depth", "vision_depth", "heads")


class TinyChatLearner:
    """Trains the chat model; one step is one update of `batch_size` pictures.

    Args:
        env: not used; a learner is given one.
        corpus: folder that `python -m envs.corpus` wrote.
        seed: of the initial weights and of everything drawn.
        device: "auto", "cpu" or "cuda".
        threads: torch threads on the CPU; 0 leaves torch's choice.
        batch_size: pictures an update.
        questions: questions a picture.
        weights: kind of question -> how many times as often as others it is asked; 1 where none is given.
        learning_rate: of AdamW at its highest.
        matrix_rate: of Muon (Jordan et al. 2024), which trains the towers' matrices, at its highest; 0 leaves all to AdamW.
        half: compute in bfloat16 where that is safe.
        warmup_steps: updates until then.
        decay_steps: updates until it has fallen to a hundredth, along a half cosine.
        dense: weight of what patches show and of where answers lie, falling to nothing in `dense_steps` updates.
        dense_steps: see `dense`.
        silent_steps: updates from the beginning in which nothing is asked and only the vision tower learns, which takes half as long.
        width, heads: of both towers.
        depth, vision_depth: layers of the text and of the vision tower.
    """

    def __init__(
        self,
        env: Any,
        corpus: str,
        seed: int = 0,
        device: str = "auto",
        threads: int = 0,
        batch_size: int = 32,
        questions: int = 12,
        weights: Mapping[str, float] | None = None,
        learning_rate: float = 1e-3,
        matrix_rate: float = 0.01,
        half: bool = True,
        warmup_steps: int = 200,
        decay_steps: int = 20_000,
        dense: float = 1.0,
        dense_steps: int = 20_000,
        silent_steps: int = 2500,
        width: int = 192,
        depth: int = 4,
        vision_depth: int = 6,
        heads: int = 3,
    ) -> None:
        del env
        for kind in weights or {}:
            if kind not in KINDS:
                raise UnknownNameError("kind of question", kind, KINDS)
        if batch_size < 1 or questions < 1:
            raise InvalidValueError(f"batch_size and questions must be >= 1, got {batch_size} and {questions}")
        if threads:
            torch.set_num_threads(threads)
        self._corpus, self._seed, self._batch_size = Corpus(corpus), seed, batch_size
        self._warmup, self._decay = warmup_steps, decay_steps
        self._dense, self._dense_steps = dense, dense_steps
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.tokenizer = chat.make_tokenizer(self._texts())
        wanted = {kind: float((weights or {}).get(kind, 1.0)) for kind in KINDS}
        self._lessons = Lessons(self._corpus, self.tokenizer, seed, batch_size, questions, wanted, silent_steps)
        self.model = chat.make_model(self.tokenizer, width, depth, vision_depth, heads, seed).to(self.device)
        if self.device.type == "cpu":  # where every head's products in full are faster than fused attention's backward pass
            self.model.model.vision_model.set_attn_implementation("eager")
        nouns, colours = self._corpus.names
        self._heads = nn.ModuleDict(
            {
                "nouns": nn.Linear(width, len(nouns) + 1),
                "colours": nn.Linear(width, len(colours) + 1),
                "boxes": nn.Linear(width, 4),
                "where": nn.Linear(width, width),
            }
        ).to(self.device)
        self._optimizers = _optimizers(self.model, self._heads, learning_rate, matrix_rate)
        self._rates = [group["lr"] for o in self._optimizers for group in o.param_groups]
        self._half = half
        self.steps = 0

    def _texts(self) -> list[str]:
        rng = np.random.default_rng((self._seed, 0))
        asked = [q for k in range(min(_READ, len(self._corpus))) for q in ask(self._corpus.annotation(k), rng)]
        return [text for q in asked for text in (q.prompt, q.answer)]

    def _set_rate(self) -> float:
        done = self.steps
        warm = min(1.0, (done + 1) / max(1, self._warmup))
        fall = 0.5 * (1 + np.cos(np.pi * min(1.0, done / self._decay)))
        share = warm * (0.01 + 0.99 * fall)
        groups = [group for o in self._optimizers for group in o.param_groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate * share
        return share

    def advance(self, steps: int) -> dict[str, float]:
        """Do so many updates; returns mean losses since the last call."""
        began, count, told = time.perf_counter(), max(1, min(steps, 50)), defaultdict[str, list[float]](list)
        self.model.train()
        for _ in range(count):
            share = self._set_rate()
            losses = self._losses(self._lessons[self.steps])
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)
            weights = self._dense_weights() | {"answer": 1.0}
            torch.stack([weights[name] * loss for name, loss in losses.items()]).sum().backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimizer in self._optimizers:
                optimizer.step()
            self.steps += 1
            told["train/rate_share"].append(share)
            for name, loss in losses.items():
                told[f"train/{name}_loss"].append(loss.item())
        means = {name: float(np.mean(values)) for name, values in told.items()}
        return {**means, "time/pictures_per_s": count * self._batch_size / (time.perf_counter() - began)}

    def _dense_weights(self) -> dict[str, float]:
        weight = self._dense * max(0.0, 1 - self.steps / max(1, self._dense_steps))
        return {"nouns": weight, "colours": weight, "boxes": _BOXES * weight, "where": weight}

    def _losses(self, lesson: Lesson) -> dict[str, torch.Tensor]:
        """What is learned from one lesson: name of a loss -> its value."""
        pixels, packed = lesson.pixels.to(self.device), lesson.packed
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            if packed is None:
                return self._patch_losses(self.model.model.vision_model(pixel_values=pixels).last_hidden_state, lesson)
            packed.to(self.device)
            heard = chat.hear(self.model, pixels, packed)
        answer = functional.cross_entropy(heard.logits.float(), heard.wanted)
        where = self._where_loss(heard, packed, lesson.where.to(self.device))
        return {"answer": answer, "where": where, **self._patch_losses(heard.patches, lesson)}

    def _patch_losses(self, patches: torch.Tensor, lesson: Lesson) -> dict[str, torch.Tensor]:
        told, out = patches.float(), dict[str, torch.Tensor]()
        for name, truth in (("nouns", lesson.nouns), ("colours", lesson.colours)):
            out[name] = functional.cross_entropy(self._heads[name](told).flatten(0, 1), truth.flatten().to(self.device))
        boxes = lesson.boxes.flatten(0, 2).to(self.device)
        there = torch.isfinite(boxes[:, 0])
        apart = functional.l1_loss(self._heads["boxes"](told).flatten(0, 1)[there], boxes[there], reduction="sum")
        out["boxes"] = apart / max(1, 4 * int(there.sum()))
        return out

    def _where_loss(self, heard: chat.Heard, packed: chat.Packed, where: torch.Tensor) -> torch.Tensor:
        """Whoever is about to tell a place knows in which cells of the picture it lies."""
        asked = where.sum(dim=1) > 0
        query = self._heads["where"](heard.asked[asked].float())
        places = heard.places[packed.ends[asked, 0]].float()
        scores = torch.einsum("qd,qpd->qp", query, places) / query.shape[1] ** 0.5
        return -(where[asked] * scores.log_softmax(dim=1)).sum() / max(1, int(asked.sum()))

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        return {
            "policy": self.model.state_dict(),
            "heads": self._heads.state_dict(),
            "optimizers": [o.state_dict() for o in self._optimizers],
            "steps": self.steps,
            "tokenizer": self.tokenizer.backend_tokenizer.to_str(),
        }

    def load_policy(self, saved: Mapping[str, Any]) -> None:
        """Only the model."""
        self.model.load_state_dict(checkpoint.to_tensors(saved["policy"]))

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Bring back what `state` returned.

        Raises:
            InvalidValueError: the tokenizer is another one: the corpus has changed.
        """
        if saved["tokenizer"] != self.tokenizer.backend_tokenizer.to_str():
            raise InvalidValueError(f"the corpus {self._corpus.folder} is not the one that this training began with")
        self.load_policy(saved)
        self._heads.load_state_dict(checkpoint.to_tensors(saved["heads"]))
        for optimizer, state in zip(self._optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(checkpoint.to_tensors(state))
        self.steps = int(saved["steps"])

    def act(self, obs: Any, *, deterministic: bool = False) -> Any:
        """A model that answers does not act.

        Raises:
            InvalidValueError: always.
        """
        del obs, deterministic
        raise InvalidValueError("a vision-language model does not act; evaluate it with python -m benchmarks.tiny_vlm")


def export(run: Run, folder: Path) -> str:
    """Write a run's newest model as transformers reads it, in half precision; returns the checkpoint's name.

    Raises:
        CheckpointError: no whole checkpoint.
    """
    at, saved = checkpoint.load_last(run.checkpoints)
    learned, agent = saved["learner"], run.config.agent
    tokenizer = chat.read_tokenizer(learned["tokenizer"])
    model = chat.make_model(tokenizer, *(int(agent[k]) for k in _SIZES))
    model.load_state_dict(checkpoint.to_tensors(learned["policy"]))
    model.half().save_pretrained(folder)
    chat.make_processor(tokenizer).save_pretrained(folder)
    return at.name


def _optimizers(model: Any, heads: nn.Module, rate: float, matrix_rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between layers, AdamW for embeddings, heads and everything with one axis."""
    matrices, rest = [], list(heads.parameters())
    for name, parameter in model.named_parameters():
        inner = parameter.ndim == 2 and "embed" not in name and "lm_head" not in name
        (matrices if inner and matrix_rate else rest).append(parameter)
    adam = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.98), weight_decay=0.05)
    if not matrices:
        return [adam]
    muon = torch.optim.Muon(matrices, lr=matrix_rate, weight_decay=0.05, adjust_lr_fn="original")
    return [adam, muon]
