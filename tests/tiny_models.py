"""Tiny random models of the real classes, with tokenizers made here, saved as a hub would hold them.

Each function of `SAVE` writes a folder that transformers' Auto classes load like any other: real weights are a change of one
string. Real checkpoints differ from these in their sizes and their numbers only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from perception.tiny import chat

TEXTS = (
    "yes no a red cup a blue box the left handle",
    "Is it bright? yes no",
    "Where is the cup? Answer with its box in pixels: (x1, y1, x2, y2). (3, 4, 20, 30) (40, 10, 60, 40)",
    'Locate the cup in the image. Answer in JSON: [{"bbox_2d": [x1, y1, x2, y2], "label": "cup"}].',
)
SIDE = 32


def tokenizer(specials: Sequence[str], begin: str, end: str, *, framed: bool = False, **options: Any) -> Any:
    """Byte pairs of `TEXTS`; the first special is the padding. Framed: begin and end stand around each text."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(TEXTS, trainers.BpeTrainer(special_tokens=list(specials), initial_alphabet=alphabet))
    # Behind all others: CLIP's heirs read a text at its largest token.
    bpe.add_special_tokens([end])
    if framed:
        pair = [(mark, bpe.token_to_id(mark)) for mark in (begin, end)]
        bpe.post_processor = processors.TemplateProcessing(single=f"{begin} $A {end}", special_tokens=pair)
    return hf.PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=begin, eos_token=end, pad_token=specials[0], **options)


def text_sizes(words: Any, **more: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 2, "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id, "pad_token_id": words.pad_token_id, **more,
    }  # fmt: skip


def vision_sizes(**more: Any) -> dict[str, Any]:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    return {"image_size": SIDE, "patch_size": 8, **sizes, **more}


def image_processor(kind: str, side: int = SIDE, **options: Any) -> Any:
    square = {"height": side, "width": side}
    return getattr(hf, f"{kind}ImageProcessorPil")(**{"size": square, "crop_size": square, **options})


def make(name: str, config: Any, scale: float = 3) -> Any:
    """A model, the same each time, with weights that are large enough to tell pictures apart."""
    torch.manual_seed(0)
    model = getattr(hf, name)(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(scale)
    return model


def save(folder: Path, *parts: Any) -> str:
    for part in parts:
        part.save_pretrained(folder)
    return str(folder)


# -- chat models -------------------------------------------------------------------------------------------------------


def idefics3() -> tuple[Any, Any]:
    """The suite's own tiny chat model and its processor, untaught."""
    words = chat.make_tokenizer(TEXTS, 400)
    return chat.make_model(words, width=48, depth=2, heads=2), chat.make_processor(words)


def save_smolvlm(folder: Path) -> str:
    """As SmolVLM2 lies on the hub: its processor's file names no video processor."""
    model, processor = idefics3()
    own = {k: v for k, v in model.config.to_dict().items() if k not in ("model_type", "architectures")}
    longest = {"longest_edge": chat.SIDE}
    images = image_processor("SmolVLM", size=longest, max_image_size=longest, do_image_splitting=False, crop_size=None)
    save(folder, make("SmolVLMForConditionalGeneration", hf.SmolVLMConfig(**own)), processor.tokenizer, images)
    settings = {"processor_class": "SmolVLMProcessor", "image_seq_len": chat.IMAGE_TOKENS}
    (folder / "processor_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").write_text(chat.TEMPLATE)
    return str(folder)


QWEN = ("<|endoftext|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
QWEN_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for part in m['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def save_qwen(folder: Path) -> str:
    words = tokenizer(QWEN, "<|im_start|>", "<|im_end|>", framed=True)
    ids = dict(zip(QWEN, words.convert_tokens_to_ids(list(QWEN)), strict=True))
    rope = {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0}
    vision = {
        "depth": 2, "hidden_size": 32, "out_hidden_size": 32, "intermediate_size": 64, "num_heads": 2, "patch_size": 14,
        "window_size": 56, "fullatt_block_indexes": [1],
    }  # fmt: skip
    config = hf.Qwen2_5_VLConfig(
        text_config=text_sizes(words, rope_parameters=rope), vision_config=vision, image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"], vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    images = image_processor("Qwen2VL", size={"shortest_edge": 56 * 56, "longest_edge": 112 * 112}, crop_size=None)
    save(folder, make("Qwen2_5_VLForConditionalGeneration", config), words, images)
    (folder / "chat_template.jinja").write_text(QWEN_TEMPLATE)
    return str(folder)


def save_paligemma(folder: Path) -> str:
    words = tokenizer(("<pad>", "<bos>"), "<bos>", "<eos>")
    processor = hf.PaliGemmaProcessor(image_processor("Siglip", image_seq_length=16), words)
    config = hf.PaliGemmaConfig(
        text_config=text_sizes(words, model_type="gemma2", head_dim=16), projection_dim=32,
        vision_config=vision_sizes(model_type="siglip_vision_model", vision_use_head=False),
        image_token_id=processor.image_token_id,
    )  # fmt: skip
    return save(folder, make("PaliGemmaForConditionalGeneration", config, 2), processor)


def save_florence2(folder: Path) -> str:
    specials = ("<pad>", "<s>", "</s>", "<image>", *(f"<loc_{k}>" for k in range(1000)))
    words = tokenizer(specials, "<s>", "</s>", extra_special_tokens={"image_token": "<image>"})
    text = {
        "model_type": "bart", "vocab_size": len(words), "d_model": 32, "max_position_embeddings": 128,
        "decoder_start_token_id": 2, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        **{f"{part}_{name}": n for part in ("encoder", "decoder")
           for name, n in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 64))},
    }  # fmt: skip
    four = {name: [n] * 4 for name, n in (("depths", 1), ("embed_dim", 16), ("num_heads", 2), ("num_groups", 2))}
    config = hf.Florence2Config(
        text_config=text, vision_config={**four, "window_size": 2, "projection_dim": 32}, image_token_id=3
    )
    processor = hf.Florence2Processor(image_processor("CLIP", 64, image_seq_length=5), words)
    return save(folder, make("Florence2ForConditionalGeneration", config, 10), processor)


def teach(model: Any, processor: Any, lessons: Sequence[tuple[np.ndarray, str, str]]) -> None:
    """Make a chat model answer prompts about pictures: lessons of picture, prompt and answer."""
    words, images = processor.tokenizer, [[Image.fromarray(image)] for image, _, _ in lessons]
    talks = [[{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": p}]}] for _, p, _ in lessons]
    prompts = [processor.apply_chat_template(talk, add_generation_prompt=True) for talk in talks]
    full = [f"{p}{answer}{words.eos_token}" for p, (_, _, answer) in zip(prompts, lessons, strict=True)]
    inputs = processor(text=full, images=images, padding=True, return_tensors="pt")
    labels = torch.full_like(inputs["input_ids"], -100)
    for k, (_, _, answer) in enumerate(lessons):  # the padding is on the left
        count = len(words(answer, add_special_tokens=False)["input_ids"]) + 1
        labels[k, -count:] = inputs["input_ids"][k, -count:]
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, betas=(0.9, 0.95))
    for _ in range(300):
        optimizer.zero_grad()
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        optimizer.step()
        if loss.item() < 0.01:
            return
    raise AssertionError(f"the model has not learnt its lessons: loss {loss.item():.3f}")


# -- dual encoders, detectors, towers ----------------------------------------------------------------------------------


def save_clip(folder: Path) -> str:
    words = tokenizer(("<pad>", "<s>"), "<s>", "</s>", framed=True, model_max_length=20)
    text = text_sizes(words, max_position_embeddings=20)
    config = hf.CLIPConfig(text_config=text, vision_config=vision_sizes(), projection_dim=24)
    return save(folder, make("CLIPModel", config), hf.CLIPProcessor(image_processor("CLIP"), words))


def save_siglip(folder: Path) -> str:
    words = tokenizer(("<pad>", "<s>"), "<s>", "</s>", framed=True, model_max_length=20, model_input_names=["input_ids"])
    text = text_sizes(words, max_position_embeddings=20, projection_size=32)
    model = make("SiglipModel", hf.SiglipConfig(text_config=text, vision_config=vision_sizes()))
    with torch.no_grad():
        model.logit_scale.fill_(2.0)
        model.logit_bias.fill_(-3.0)
    return save(folder, model, hf.SiglipProcessor(image_processor("Siglip"), words))


def save_owlv2(folder: Path) -> str:
    words = tokenizer(("<pad>", "<s>"), "<s>", "</s>", framed=True, model_max_length=16)
    text = text_sizes(words, max_position_embeddings=16)
    config = hf.Owlv2Config(text_config=text, vision_config=vision_sizes(), projection_dim=32)
    return save(folder, make("Owlv2ForObjectDetection", config, 0.3), hf.Owlv2Processor(image_processor("Owlv2"), words))


def save_grounding_dino(folder: Path) -> str:
    # The model's code holds the numbers of these marks in BERT's vocabulary.
    marks = {0: "[PAD]", 101: "[CLS]", 102: "[SEP]", 1012: "."}
    specials = [marks.get(k, f"[unused{k}]") for k in range(1013)]
    words = tokenizer(specials, "[CLS]", "[SEP]", framed=True, model_max_length=32)
    swin = hf.SwinConfig(
        image_size=64, embed_dim=16, depths=[1] * 3, num_heads=[2] * 3, window_size=4, out_indices=[2, 3]
    )  # fmt: skip
    halves = {f"{part}_{name}": n for part in ("encoder", "decoder")
              for name, n in (("layers", 2), ("attention_heads", 2), ("ffn_dim", 32))}  # fmt: skip
    config = hf.GroundingDinoConfig(
        backbone_config=swin, text_config=hf.BertConfig(**text_sizes(words)), num_queries=10, d_model=32,
        num_feature_levels=2, max_text_len=32, **halves,
    )  # fmt: skip
    images = image_processor("GroundingDino", size={"shortest_edge": 64, "longest_edge": 96}, crop_size=None)
    return save(folder, make("GroundingDinoForObjectDetection", config, 1), hf.GroundingDinoProcessor(images, words))


def save_dinov2(folder: Path, kind: str = "Dinov2", **more: Any) -> str:
    sizes = {k: v for k, v in vision_sizes().items() if k != "intermediate_size"}
    model = make(f"{kind}Model", getattr(hf, f"{kind}Config")(**sizes, mlp_ratio=2, **more))
    return save(folder, model, image_processor("Bit"))


SAVE: dict[str, Callable[[Path], str]] = {
    "qwen2_5_vl": save_qwen,
    "smolvlm": save_smolvlm,
    "paligemma": save_paligemma,
    "florence2": save_florence2,
    "clip": save_clip,
    "siglip": save_siglip,
    "owlv2": save_owlv2,
    "grounding_dino": save_grounding_dino,
    "dinov2": save_dinov2,
    "registers": lambda folder: save_dinov2(folder, "Dinov2WithRegisters", num_register_tokens=3),
}
