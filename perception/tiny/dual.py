"""The tiny dual encoder: SigLIP's classes at a few million parameters, with a tokenizer of its own.

Everything is transformers' own, so that what runs the tiny model runs SigLIP 2 of any size: a processor, `get_image_features`,
`get_text_features`. Only the sizes are ours, and the training.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perception.tiny.priming import prime_vision
from perception.tiny.words import train_bpe, wrap

SIDE, PATCH = 128, 16
# Longest text, in tokens; every text is filled up to it, as SigLIP has it.
LENGTH = 48
PAD, END = "<pad>", "</s>"


def make_tokenizer(texts: Iterable[str], vocabulary: int = 768) -> Any:
    """A byte-pair tokenizer trained on texts; vocabulary is the largest number of tokens."""
    return read_tokenizer(train_bpe(texts, vocabulary, (PAD, END)))


def read_tokenizer(bpe: Any) -> Any:
    """The tokenizer from its core, or from the JSON that its `backend_tokenizer.to_str()` gave."""
    return wrap(bpe, pad_token=PAD, eos_token=END, model_max_length=LENGTH, model_input_names=["input_ids"])


def make_processor(tokenizer: Any) -> Any:
    """SigLIP's processor for pictures of `SIDE` pixels."""
    from transformers import SiglipProcessor
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    return SiglipProcessor(SiglipImageProcessorPil(size={"height": SIDE, "width": SIDE}), tokenizer)


def make_model(tokenizer: Any, width: int = 192, depth: int = 2, vision_depth: int = 4, heads: int = 3, seed: int = 0) -> Any:
    """A fresh model, a pure function of its sizes and the seed."""
    import torch
    from transformers import SiglipConfig, SiglipModel

    both = {"hidden_size": width, "intermediate_size": width * 3, "num_attention_heads": heads}
    config = SiglipConfig(
        text_config={
            **both, "num_hidden_layers": depth, "vocab_size": len(tokenizer), "max_position_embeddings": LENGTH,
            "projection_size": width, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id,
            "bos_token_id": tokenizer.eos_token_id,
        },
        vision_config={**both, "num_hidden_layers": vision_depth, "image_size": SIDE, "patch_size": PATCH},
    )  # fmt: skip
    torch.manual_seed(seed)
    model = SiglipModel(config)
    prime_vision(model.vision_model)
    # As SigLIP begins (Zhai et al. 2023, section 3.1): most pairs do not fit.
    torch.nn.init.constant_(model.logit_scale, 2.3)
    torch.nn.init.constant_(model.logit_bias, -10.0)
    return model
