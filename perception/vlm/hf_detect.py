"""Open-vocabulary detectors: phrases to boxes (OWLv2, OWL-ViT, Grounding DINO, Florence-2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from assets.errors import InvalidValueError
from perception.vlm.base import BackendError, Detections, Images, check_images, check_texts
from perception.vlm.hf import Source, at_least_one, chunks, pictures, process
from perception.vlm.hf_chat import HFChat, fill

KINDS = ("owlv2", "owlvit", "grounding-dino", "mm-grounding-dino", "florence2")


class HFDetect:
    """A zero-shot detector by its name: OWL-ViT, OWLv2, Grounding DINO (also MM Grounding DINO) and Florence-2.

    The steps are those of transformers' zero-shot-object-detection pipeline, without its rounding of boxes to whole pixels and
    for many images at a time. Florence-2 is a generator: it runs as `HFChat` with its task prompt and the `florence` dialect,
    and states no scores (all are 1). It needs no torchvision, but its checkpoints for transformers' own class.
    Phrases beyond a detector's length (16 tokens for OWLv2) are cut.

    Args:
        model: a folder, or a name such as "google/owlv2-base-patch16-ensemble" or "florence-community/Florence-2-base".
        threshold: lowest score of a detection, in [0, 1]; OWLv2's are low, 0.1 is usual, Grounding DINO's 0.25.
        most: detections kept per image, the best.
        template: how a phrase is put to the model, with {phrase}; None for the phrase itself, or Florence-2's task.
        max_new_tokens: Florence-2's longest answer, tokens.
        batch_size: images at a time.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "bfloat16" or "float16".
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code that lies beside the weights may run.

    Raises:
        MissingDependencyError: a package that the model needs is not installed.
        BackendError: the model was not found, or is no such detector.
        InvalidValueError: a threshold outside [0, 1], fewer than 1 detection, or a template without {phrase}.
    """

    def __init__(
        self, model: str, threshold: float = 0.1, most: int = 16, template: str | None = None, max_new_tokens: int = 128,
        batch_size: int = 8, device: str = "auto", dtype: str = "auto",
        revision: str | None = None, trust_remote_code: bool = False,
    ) -> None:  # fmt: skip
        if not 0 <= threshold <= 1:
            raise InvalidValueError(f"threshold must be in [0, 1], got {threshold}")
        self._threshold, self._most = threshold, at_least_one("most", most)
        self._batch_size = at_least_one("batch_size", batch_size)
        source = Source(model, device, dtype, revision, trust_remote_code)
        config = source.load("AutoConfig")
        if config.model_type not in KINDS:
            raise BackendError(f"{model!r} is a {config.model_type}, and HFDetect knows {', '.join(KINDS)}")
        self._chat: HFChat | None = None
        if config.model_type == "florence2":
            self._chat = HFChat(
                model, "florence", template, max_new_tokens=max_new_tokens, batch_size=batch_size,
                device=device, dtype=dtype, revision=revision, trust_remote_code=trust_remote_code,
            )  # fmt: skip
            return
        self._template = template or "{phrase}"
        fill(self._template, "")
        self._model = source.load("AutoModelForZeroShotObjectDetection")
        self._images, self._tokenizer = source.load("AutoImageProcessor"), source.load("AutoTokenizer")
        # OWLv2 states its longest text with its text tower, Grounding DINO with itself.
        limits = (getattr(config, "max_text_len", None), getattr(config.text_config, "max_position_embeddings", None))
        self._longest = min(self._tokenizer.model_max_length, *(limit for limit in limits if limit))

    def ground(self, images: Images, phrases: Sequence[str]) -> list[Detections]:
        """Where what each phrase names is in its image, the best first. N images, N phrases -> N.

        Raises:
            InvalidValueError: not images, another number of phrases, or the processor refuses one.
        """
        check_images(images)
        asked = check_texts(phrases, "phrases", len(images))
        if self._chat is not None:
            return [_best(found, self._most) for found in self._chat.ground(images, asked)]
        found: list[Detections] = []
        for part in chunks(len(images), self._batch_size):
            found += self._detect(images[part], asked[part])
        return found

    @torch.inference_mode()
    def _detect(self, images: Images, phrases: list[str]) -> list[Detections]:
        texts = [self._text(phrase) for phrase in phrases]
        inputs = process(self._tokenizer, self._model, text=texts, padding=True, truncation=True, max_length=self._longest)
        inputs |= process(self._images, self._model, images=pictures(images))
        outputs = self._model(**inputs)
        _, height, width, _ = images.shape
        sizes = torch.tensor([[height, width]] * len(images), device=self._model.device)
        raw = self._images.post_process_object_detection(outputs, threshold=self._threshold, target_sizes=sizes)
        return [_best(_detections(r, p, width, height), self._most) for r, p in zip(raw, phrases, strict=True)]

    def _text(self, phrase: str) -> str:
        text = fill(self._template, phrase)
        # Grounding DINO was trained on lower case with a full stop behind each thing.
        return text.lower().strip().rstrip(".") + "." if "grounding-dino" in self._model.config.model_type else text


def _detections(raw: dict[str, Any], phrase: str, width: int, height: int) -> Detections:
    """Boxes cut to the image; those that lie wholly in the padding around it are left out."""
    boxes = raw["boxes"].float().cpu().numpy().clip(0, [width, height, width, height])
    inside = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    boxes = boxes[inside].astype(np.float32)
    scores = raw["scores"].float().cpu().numpy()[inside].astype(np.float32)
    return Detections(boxes, (boxes[:, :2] + boxes[:, 2:]) / 2, (phrase,) * len(boxes), scores)


def _best(found: Detections, most: int) -> Detections:
    """The best, in descending order; equals in their own."""
    order = np.argsort(-found.scores, kind="stable")[:most]
    return Detections(found.boxes[order], found.points[order], tuple(found.labels[k] for k in order), found.scores[order])
