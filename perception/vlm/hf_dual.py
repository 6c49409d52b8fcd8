"""Dual encoders: images and texts as vectors of one space, and how well they fit (CLIP, SigLIP, SigLIP 2)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from perception.vlm.base import BackendError, Images, check_images, check_texts
from perception.vlm.hf import Source, at_least_one, chunks, pictures, process

# Texts whose vectors are remembered; a task has a handful, a sweep of prompts some hundreds.
REMEMBERED = 4096


class HFDual:
    """A CLIP or a SigLIP of any size, by transformers' AutoModel.

    Scores are the model's own logits. A SigLIP's is `cosine * exp(scale) + bias` with learned scale and bias, and its sigmoid
    (never a softmax) is the probability that the text fits the image, each text for itself. A CLIP's is `cosine * exp(scale)`
    and says only which of several texts fits best: their softmax is a distribution over the texts.

    Texts beyond the model's length (77 tokens for CLIP, 64 for SigLIP) are cut. Vectors of texts are remembered.

    Args:
        model: a folder, or a name such as "google/siglip2-base-patch16-224".
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "bfloat16" or "float16".
        batch_size: images or texts at a time.
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code that lies beside the weights may run.

    Raises:
        MissingDependencyError: transformers or Pillow is not installed.
        BackendError: the model was not found, or is no dual encoder.
    """

    def __init__(
        self, model: str, device: str = "auto", dtype: str = "auto", batch_size: int = 32,
        revision: str | None = None, trust_remote_code: bool = False,
    ) -> None:  # fmt: skip
        self._batch_size = at_least_one("batch_size", batch_size)
        source = Source(model, device, dtype, revision, trust_remote_code)
        self._model = source.load("AutoModel")
        if not all(hasattr(self._model, name) for name in ("get_image_features", "get_text_features", "logit_scale")):
            raise BackendError(f"{model!r} is a {type(self._model).__name__}, which is no dual encoder such as CLIP or SigLIP")
        processor = source.load("AutoProcessor")
        self._images, self._tokenizer = processor.image_processor, processor.tokenizer
        self._padding = self._how_to_pad()
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._size = self.embed_texts(["a"]).shape[1]

    @property
    def size(self) -> int:
        """Numbers per image and per text."""
        return self._size

    @torch.inference_mode()
    def embed(self, images: Images) -> NDArray[np.float32]:
        """One vector of length 1 per image, (N, size).

        Raises:
            InvalidValueError: not images, or the processor refuses one.
        """
        check_images(images)
        rows = []
        for part in chunks(len(images), self._batch_size):
            inputs = process(self._images, self._model, images=pictures(images[part]))
            rows.append(_unit(self._model.get_image_features(**inputs)))
        return np.concatenate(rows)

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """One vector of length 1 per text, (P, size).

        Raises:
            InvalidValueError: no texts, or an empty one.
        """
        asked = check_texts(texts, "texts")
        new = [text for text in dict.fromkeys(asked) if text not in self._known]
        found = {text: self._known[text] for text in asked if text in self._known}
        for part in chunks(len(new), self._batch_size):
            found.update(zip(new[part], self._encode(new[part]), strict=True))
        for text in dict.fromkeys(asked):
            self._known[text] = found[text]
            self._known.move_to_end(text)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return np.stack([found[text] for text in asked])

    def score(self, images: Images, prompts: Sequence[str]) -> NDArray[np.float32]:
        """The model's logit of each image with each prompt. (N, H, W, 3), P -> (N, P).

        Raises:
            InvalidValueError: not images, no prompts or an empty one.
        """
        check_images(images)
        texts = self.embed_texts(check_texts(prompts, "prompts"))
        scale = float(self._model.logit_scale.detach().float().exp())
        bias = getattr(self._model, "logit_bias", None)
        offset = 0.0 if bias is None else float(bias.detach().float())
        return (self.embed(images) @ texts.T * scale + offset).astype(np.float32)

    @torch.inference_mode()
    def _encode(self, texts: list[str]) -> NDArray[np.float32]:
        inputs = process(self._tokenizer, self._model, text=texts, truncation=True, **self._padding)
        return _unit(self._model.get_text_features(**inputs))

    def _how_to_pad(self) -> dict[str, Any]:
        config = self._model.config
        longest = min(config.text_config.max_position_embeddings, self._tokenizer.model_max_length)
        if "siglip" in config.model_type:
            # SigLIP was trained on texts padded to 64 tokens and without a mask; shorter ones give other vectors.
            return {"padding": "max_length", "max_length": min(64, longest)}
        return {"padding": True, "max_length": longest}


def _unit(output: Any) -> NDArray[np.float32]:
    """Vectors of length 1, from a tensor or from what holds it as `pooler_output`."""
    vectors = getattr(output, "pooler_output", output).float()
    return torch.nn.functional.normalize(vectors, dim=-1).cpu().numpy()
