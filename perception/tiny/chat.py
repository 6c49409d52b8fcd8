"""The tiny chat model: SmolVLM's classes (Idefics3) at a few million parameters, with a tokenizer of its own.

Everything is transformers' own, so that what runs the tiny model runs SmolVLM2 or any other chat model: a processor, a chat
template, `generate`. Only the sizes are ours, and the training.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from perception.tiny.priming import prime_numbers, prime_vision
from perception.tiny.words import train_bpe, wrap

SIDE, PATCH, SHUFFLE = 128, 8, 2
IMAGE_TOKENS = (SIDE // PATCH // SHUFFLE) ** 2
PAD, START, END = "<pad>", "<|im_start|>", "<end_of_utterance>"
FAKE, IMAGE, GLOBAL = "<fake_token_around_image>", "<image>", "<global-img>"
SPECIAL = (PAD, START, END, FAKE, IMAGE, GLOBAL)
# What every place in Qwen's JSON is wrapped in: one token each, so that an answer is little more than its numbers.
GLUE = ('[{"bbox_2d": [', '[{"point_2d": [', '], "label": "', '"}]')
TEMPLATE = (
    START + "{% for message in messages %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}" + IMAGE + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}" + END + "{% endfor %}"
)


def make_tokenizer(texts: Iterable[str], vocabulary: int = 1024) -> Any:
    """A byte-pair tokenizer trained on texts; every number of a picture's coordinates is one token if the texts have it often.

    Args:
        texts: prompts and answers.
        vocabulary: largest number of tokens.
    """
    every = " ".join(f"{k} [{k}]" for k in range(SIDE + 1))
    return read_tokenizer(train_bpe(chain(texts, [every, every]), vocabulary, SPECIAL, GLUE))


def read_tokenizer(bpe: Any) -> Any:
    """The tokenizer from its core, or from the JSON that its `backend_tokenizer.to_str()` gave."""
    return wrap(
        bpe, pad_token=PAD, bos_token=START, eos_token=END, padding_side="left",
        additional_special_tokens=[FAKE, IMAGE, END, GLOBAL],
    )  # fmt: skip


def make_processor(tokenizer: Any) -> Any:
    """Idefics3's processor for pictures of `SIDE` pixels, without splitting."""
    from transformers import Idefics3Processor
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    images = Idefics3ImageProcessorPil(
        size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}, do_image_splitting=False,
        image_mean=[0.5] * 3, image_std=[0.5] * 3,
    )  # fmt: skip
    return Idefics3Processor(images, tokenizer, image_seq_len=IMAGE_TOKENS, chat_template=TEMPLATE)


def make_model(tokenizer: Any, width: int = 192, depth: int = 4, vision_depth: int = 6, heads: int = 3, seed: int = 0) -> Any:
    """A fresh model, a pure function of its sizes and the seed."""
    from transformers import Idefics3Config, Idefics3ForConditionalGeneration, LlamaConfig

    text = LlamaConfig(
        hidden_size=width, intermediate_size=width * 8 // 3 // 16 * 16, num_hidden_layers=depth, num_attention_heads=heads,
        num_key_value_heads=heads, vocab_size=len(tokenizer), max_position_embeddings=512, tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id, bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    config = Idefics3Config(
        text_config=text.to_dict(),
        vision_config={
            "hidden_size": width, "intermediate_size": width * 3, "num_hidden_layers": vision_depth,
            "num_attention_heads": heads, "image_size": SIDE, "patch_size": PATCH,
        },
        scale_factor=SHUFFLE, image_token_id=tokenizer.convert_tokens_to_ids(IMAGE), tie_word_embeddings=True,
    )  # fmt: skip
    config.pad_token_id = tokenizer.pad_token_id
    torch.manual_seed(seed)
    model = Idefics3ForConditionalGeneration(config)
    prime_vision(model.model.vision_model)
    said = {token: text.lstrip("Ġ") for text, token in tokenizer.get_vocab().items()}
    prime_numbers(model.get_input_embeddings().weight, {t: int(n) for t, n in said.items() if n.isdecimal()}, SIDE)
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    return model


def to_pixels(images: NDArray[np.uint8]) -> torch.Tensor:
    """What the processor makes of pictures of the right size: (N, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


class Packed:
    """Many questions about each of B pictures, a sequence a picture: it is seen once, and no question sees another.

    Attributes:
        input_ids: (B, L), the picture's placeholder first.
        mask: (B, 1, L, L) bool: a token sees the picture and what stands before it in its own question.
        positions: (B, L): every question begins where the picture ends.
        labels: (B, L) the token that follows, -100 where it is not the answer's.
        ends: (questions, 2): the picture and the position at which the answer to each begins to be said.
    """

    def __init__(self, tokenizer: Any, talks: Sequence[Sequence[tuple[str, str]]]) -> None:
        ids = tokenizer.convert_tokens_to_ids
        head = [ids(START), ids(FAKE), ids(GLOBAL), *[ids(IMAGE)] * IMAGE_TOKENS, ids(FAKE)]
        end, flat = ids(END), [text for talk in talks for pair in talk for text in pair]
        encoded = iter(tokenizer(flat, add_special_tokens=False)["input_ids"] if flat else [])
        rows, ends = [], []
        for number, talk in enumerate(talks):
            tokens, blocks, places, labels = list(head), [0] * len(head), list(range(len(head))), [-100] * len(head)
            for k in range(len(talk)):
                prompt, answer = next(encoded), next(encoded)
                block = [*prompt, end, *answer]
                ends.append((number, len(tokens) + len(prompt)))
                tokens += block
                blocks += [k + 1] * len(block)
                places += range(len(head), len(head) + len(block))
                labels += [-100] * len(prompt) + [*answer, end]
            rows.append((tokens, blocks, places, labels))
        length = max(len(r[0]) for r in rows)
        fill = (ids(PAD), -1, 0, -100)
        padded = [np.array([[*row[c], *[fill[c]] * (length - len(row[c]))] for row in rows], np.int64) for c in range(4)]
        self.input_ids, blocks_, self.positions, self.labels = map(torch.from_numpy, padded)
        same = blocks_[:, :, None] == blocks_[:, None, :]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        self.mask = ((same | (blocks_[:, None, :] == 0)) & causal)[:, None]
        self.ends = torch.tensor(ends, dtype=torch.long).reshape(-1, 2)

    def to(self, device: torch.device) -> None:
        """Move everything to a device."""
        self.input_ids, self.positions, self.labels, self.mask, self.ends = (
            x.to(device) for x in (self.input_ids, self.positions, self.labels, self.mask, self.ends)
        )


class Heard(NamedTuple):
    """What a model makes of packed questions.

    Attributes:
        logits: (T, V) where a token of an answer is to be said.
        wanted: (T,) those tokens.
        patches: (B, patches, width), the vision tower's last states.
        places: (asked about, `IMAGE_TOKENS`, width), the text tower's last states at the picture, row by row.
        asked: (questions, width), the same where each answer begins.
    """

    logits: torch.Tensor
    wanted: torch.Tensor
    patches: torch.Tensor
    places: torch.Tensor
    asked: torch.Tensor


def hear(model: Any, pixels: torch.Tensor, packed: Packed) -> Heard:
    """Run a model over pictures and the questions about the first of them."""
    inner = model.model
    seen = inner.vision_model(pixel_values=pixels).last_hidden_state
    image = inner.connector(seen[: len(packed.input_ids)])
    embeds = inner.text_model.get_input_embeddings()(packed.input_ids)
    where = packed.input_ids == model.config.image_token_id
    embeds = embeds.masked_scatter(where.unsqueeze(-1), image.to(embeds.dtype))
    hidden = inner.text_model(
        inputs_embeds=embeds, attention_mask=packed.mask, position_ids=packed.positions, use_cache=False
    ).last_hidden_state
    said = packed.labels >= 0
    first = 3  # places of the picture follow START, FAKE and GLOBAL
    places, asked = hidden[:, first : first + IMAGE_TOKENS], hidden[packed.ends[:, 0], packed.ends[:, 1]]
    return Heard(model.lm_head(hidden[said]), packed.labels[said], seen, places, asked)
