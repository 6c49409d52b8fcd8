"""Training the tiny chat model on a corpus of annotated pictures: next-token prediction of exact answers.

A picture is seen once per update and asked many questions. While it is young, the vision tower also learns what every patch
shows and how far that reaches, from the same truth; those heads are thrown away afterwards. Everything drawn is a function of
(seed, update), so that a resumed training goes on exactly.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn import functional

from agents import checkpoint
from agents.run import Run
from assets.errors import InvalidValueError, UnknownNameError
from perception.corpus import Corpus
from perception.questions import KINDS, ask
from perception.tiny import chat

# Weight of the mean distance between the boxes that patches tell of and the true ones, as a share of the picture.
_BOXES = 5.0
# Pictures whose questions the tokenizer is trained on.
_READ = 3000


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
        dense: weight of what patches show, falling to nothing in `dense_steps` updates.
        dense_steps: see `dense`.
        width, depth, heads: of both towers.
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
        dense_steps: int = 10_000,
        width: int = 192,
        depth: int = 4,
        heads: int = 6,
    ) -> None:
        del env
        for kind in weights or {}:
            if kind not in KINDS:
                raise UnknownNameError("kind of question", kind, KINDS)
        if batch_size < 1 or questions < 1:
            raise InvalidValueError(f"batch_size and questions must be >= 1, got {batch_size} and {questions}")
        if threads:
            torch.set_num_threads(threads)
        self._corpus, self._seed = Corpus(corpus), seed
        self._batch_size, self._questions = batch_size, questions
        self._weights = {kind: float((weights or {}).get(kind, 1.0)) for kind in KINDS}
        self._warmup, self._decay = warmup_steps, decay_steps
        self._dense, self._dense_steps = dense, dense_steps
        self.device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
        self.tokenizer = chat.make_tokenizer(self._texts())
        self.model = chat.make_model(self.tokenizer, width, depth, heads, seed).to(self.device)
        nouns, colours = self._corpus.names
        self._heads = nn.ModuleDict(
            {
                "nouns": nn.Linear(width, len(nouns) + 1),
                "colours": nn.Linear(width, len(colours) + 1),
                "boxes": nn.Linear(width, 4),
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

    def _batch(self, step: int) -> tuple[torch.Tensor, chat.Packed, dict[str, torch.Tensor]]:
        """Pictures, packed questions and what the patches show, for one update."""
        rng = np.random.default_rng((self._seed, 1, step))
        chosen = rng.integers(len(self._corpus), size=self._batch_size)
        talks = [self._talk(int(k), rng) for k in chosen]
        patches = {
            "nouns": torch.from_numpy(self._corpus.nouns[chosen].astype(np.int64)),
            "colours": torch.from_numpy(self._corpus.colours[chosen].astype(np.int64)),
            "boxes": torch.from_numpy(np.stack([self._boxes(int(k)) for k in chosen])),
        }
        return chat.to_pixels(self._corpus.images[chosen]), chat.Packed(self.tokenizer, talks), patches

    def _boxes(self, index: int) -> NDArray[np.float32]:
        """The box of what each patch of a picture shows, as shares of the picture; NaN where it shows nothing. (h, w, 4)."""
        nouns, colours = self._corpus.nouns[index], self._corpus.colours[index]
        names, palette = self._corpus.names
        scene, (height, width) = self._corpus.annotation(index), nouns.shape
        out = np.full((height, width, 4), np.nan, np.float32)
        v, u = np.mgrid[:height, :width] + 0.5
        for thing in scene.seen:
            x1, y1, x2, y2 = box = np.array(thing.box) / scene.width
            number = palette.index(thing.colour) + 1 if thing.colour else 0
            mine = (nouns == names.index(thing.noun) + 1) & ((colours == number) | (colours == 0))
            mine &= (u > x1 * width) & (u < x2 * width) & (v > y1 * height) & (v < y2 * height)
            out[mine] = box
        return out

    def _talk(self, index: int, rng: np.random.Generator) -> list[tuple[str, str]]:
        """Questions about one picture, drawn by the weights of their kinds; a kind may come again, about something else."""
        scene = self._corpus.annotation(index)
        asked = [q for _ in range(2) for q in ask(scene, rng)]
        if not asked:
            return [("Count the objects.", "0")]
        weight = np.array([self._weights[q.kind] for q in asked])
        count = min(self._questions, int((weight > 0).sum()))
        picked = rng.choice(len(asked), count, replace=False, p=weight / weight.sum())
        return [(asked[k].prompt, asked[k].answer) for k in picked]

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
        began, sums, right = time.perf_counter(), np.zeros(5), 0
        count, share = max(1, min(steps, 50)), 0.0
        self.model.train()
        for _ in range(count):
            share = self._set_rate()
            pixels, packed, patches = self._batch(self.steps)
            loss, parts = self._loss(pixels, packed, patches)
            for optimizer in self._optimizers:
                optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            for optimizer in self._optimizers:
                optimizer.step()
            self.steps += 1
            sums += parts
            right += 1
        answer, token, nouns, colours, boxes = sums / right
        return {
            "train/loss": float(answer), "train/token_accuracy": float(token), "train/noun_loss": float(nouns),
            "train/colour_loss": float(colours), "train/box_loss": float(boxes),
            "train/rate_share": float(share),
            "time/pictures_per_s": count * self._batch_size / (time.perf_counter() - began),
        }  # fmt: skip

    def _loss(self, pixels: torch.Tensor, packed: chat.Packed, patches: Mapping[str, torch.Tensor]) -> tuple[Any, Any]:
        packed.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            logits, wanted, seen = chat.packed_logits(self.model, pixels.to(self.device), packed)
        answer, seen = functional.cross_entropy(logits.float(), wanted), seen.float()
        shown = {
            name: functional.cross_entropy(self._heads[name](seen).flatten(0, 1), patches[name].flatten().to(self.device))
            for name in ("nouns", "colours")
        }
        boxes = patches["boxes"].flatten(0, 2).to(self.device)
        there = torch.isfinite(boxes[:, 0])
        apart = functional.l1_loss(self._heads["boxes"](seen).flatten(0, 1)[there], boxes[there]) if there.any() else answer * 0
        dense = self._dense * max(0.0, 1 - self.steps / max(1, self._dense_steps))
        accuracy = (logits.argmax(dim=1) == wanted).float().mean()
        parts = np.array([answer.item(), accuracy.item(), shown["nouns"].item(), shown["colours"].item(), apart.item()])
        return answer + dense * (shown["nouns"] + shown["colours"] + _BOXES * apart), parts

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
    model = chat.make_model(tokenizer, int(agent.width), int(agent.depth), int(agent.heads))
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
