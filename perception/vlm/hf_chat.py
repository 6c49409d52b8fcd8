"""Chat models with eyes: any image-text-to-text model of transformers (Qwen-VL, SmolVLM2, InternVL, PaliGemma, Gemma 3 ...)."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import BackendError, Detections, Images, check_images, check_texts
from perception.vlm.hf import Source, at_least_one, chunks, first_line, need, pictures, process
from perception.vlm.parse import DIALECTS, parse

# What the models were taught to be asked for places; a model's card knows better where it says otherwise.
_QWEN = 'Locate {phrase} in the image. Answer in JSON: [{"bbox_2d": [x1, y1, x2, y2], "label": "..."}].'
TEMPLATES = {
    "qwen_absolute": _QWEN,
    "qwen_relative": _QWEN,
    "internvl": "Please provide the bounding box coordinate of the region this sentence describes: <ref>{phrase}</ref>",
    "paligemma": "detect {phrase}",
    "florence": "<OPEN_VOCABULARY_DETECTION>{phrase}",
    "molmo": "Point to {phrase}.",
    "moondream": 'Locate {phrase}. Answer in JSON: {"x_min": .., "y_min": .., "x_max": .., "y_max": ..}, each from 0 to 1.',
    "tuples": "Where is {phrase}? Answer with its box in pixels: (x1, y1, x2, y2).",
}


def fill(template: str, phrase: str) -> str:
    """The template with the phrase in it; other braces stay. InvalidValueError if it has no {phrase}."""
    if "{phrase}" not in template:
        raise InvalidValueError(f"a grounding template must contain {{phrase}}, got {template!r}")
    return template.replace("{phrase}", phrase)


class HFChat:
    """A chat model that answers about images and points at things; greedy, so that the same question has the same answer.

    Args:
        model: a folder, or a name such as "Qwen/Qwen2.5-VL-3B-Instruct".
        dialect: how the model writes places, of `parse.DIALECTS`. `qwen_absolute` are pixels of the image as the model saw it:
            its size is taken from the processor's output; it is the original's where that is cut into tiles or cropped.
        template: how a phrase is asked for, with {phrase}; None for the dialect's own.
        max_new_tokens: longest answer, tokens.
        batch_size: images at a time.
        adapters: LoRA adapters by folder or name, merged into the weights in this order.
        chat_template: a Jinja template instead of the model's own. A model with neither (PaliGemma) gets the prompt as it is.
        processor_options: further arguments of the processor's call, such as {"size": {"shortest_edge": 3136,
            "longest_edge": 501760}} to bound what a Qwen-VL spends on an image.
        device: "auto", "cpu", "cuda", "mps".
        dtype: "auto", "float32", "bfloat16" or "float16".
        revision: branch, tag or commit on the hub.
        trust_remote_code: whether code that lies beside the weights may run.

    Raises:
        MissingDependencyError: a package that the model needs is not installed.
        BackendError: the model or an adapter was not found, or is no chat model that sees.
        UnknownNameError: no such dialect.
        InvalidValueError: a template without {phrase}, or a number below 1.
    """

    def __init__(
        self, model: str, dialect: str = "tuples", template: str | None = None, max_new_tokens: int = 128, batch_size: int = 8,
        adapters: Sequence[str] = (), chat_template: str | None = None, processor_options: Mapping[str, Any] | None = None,
        device: str = "auto", dtype: str = "auto", revision: str | None = None, trust_remote_code: bool = False,
    ) -> None:  # fmt: skip
        if dialect not in DIALECTS:
            raise UnknownNameError("dialect", dialect, DIALECTS)
        self._dialect, self._template = dialect, template or TEMPLATES[dialect]
        fill(self._template, "")
        self._longest = at_least_one("max_new_tokens", max_new_tokens)
        self._batch_size, self._options = at_least_one("batch_size", batch_size), _plain(processor_options or {})
        source = Source(model, device, dtype, revision, trust_remote_code)
        need("jinja2", "jinja2", "use chat templates")
        self._processor = load_processor(source)
        own = self._processor.chat_template
        self._chat_template = chat_template or (own.get("default") if isinstance(own, dict) else own)
        self._model = _merged(source.load("AutoModelForImageTextToText"), [adapters] if isinstance(adapters, str) else adapters)
        self._prepare()

    def answer(self, images: Images, prompts: Sequence[str]) -> list[str]:
        """N answers to N prompts about N images.

        Raises:
            InvalidValueError: not images, another number of prompts, or the processor refuses one.
        """
        check_images(images)
        asked, said = check_texts(prompts, "prompts", len(images)), []
        for part in chunks(len(images), self._batch_size):
            tokens = self._say(self._inputs(images[part], asked[part]))
            said += [self._tokenizer.decode(row, skip_special_tokens=True).strip() for row in tokens]
        return said

    def ground(self, images: Images, phrases: Sequence[str]) -> list[Detections]:
        """Where what each phrase names is in its image, in the order of the answer. N images, N phrases -> N.

        Raises:
            InvalidValueError: not images, another number of phrases, or the processor refuses one.
        """
        check_images(images)
        asked = [fill(self._template, phrase) for phrase in check_texts(phrases, "phrases", len(images))]
        _, height, width, _ = images.shape
        found = []
        for part in chunks(len(images), self._batch_size):
            inputs = self._inputs(images[part], asked[part])
            for row, resized in zip(self._say(inputs), self._seen(inputs, len(asked[part])), strict=True):
                # Places are special tokens to some models: only what ends or fills an answer is taken out.
                text = self._tokenizer.decode([t for t in row if t not in self._fillers], skip_special_tokens=False)
                found.append(parse(text, self._dialect, width, height, resized))
        return found

    @torch.inference_mode()
    def yes_probability(self, images: Images, questions: Sequence[str]) -> NDArray[np.float32]:
        """How much rather the answer begins with yes than with no: a softmax over the two first tokens, (N,) in [0, 1].

        The spellings of a word ("yes", "Yes", with and without a space) count together.

        Raises:
            InvalidValueError: not images, another number of questions, or the processor refuses one.
            BackendError: the tokenizer begins both words with the same tokens.
        """
        check_images(images)
        asked = check_texts(questions, "questions", len(images))
        yes, no = self._beginnings()
        rows = []
        for part in chunks(len(images), self._batch_size):
            inputs = self._inputs(images[part], asked[part])
            made = self._model.generate(**inputs, max_new_tokens=1, output_logits=True, return_dict_in_generate=True)
            first = made.logits[0].float()
            rows.append(torch.sigmoid(first[:, yes].logsumexp(1) - first[:, no].logsumexp(1)).cpu().numpy())
        return np.concatenate(rows)

    def _prepare(self) -> None:
        """Padding where this kind of model wants it, and nothing random in what it says."""
        self._tokenizer = tokenizer = self._processor.tokenizer
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._decoder_only = not self._model.config.is_encoder_decoder
        tokenizer.padding_side = "left" if self._decoder_only else "right"
        config = copy.deepcopy(self._model.generation_config)
        config.do_sample, config.num_beams, config.max_length = False, 1, None
        config.temperature = config.top_p = config.top_k = config.min_p = config.typical_p = None
        config.pad_token_id = tokenizer.pad_token_id if config.pad_token_id is None else config.pad_token_id
        self._model.generation_config = config
        ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
        self._fillers = {*ends, config.pad_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id}

    def _inputs(self, images: Images, prompts: list[str]) -> dict[str, torch.Tensor]:
        texts = [self._rendered(prompt) for prompt in prompts]
        options: dict[str, Any] = {"padding": True, **self._options}
        begin = self._tokenizer.bos_token
        if self._chat_template and begin and texts[0].startswith(begin):
            options["add_special_tokens"] = False
        made = process(self._processor, self._model, images=[[p] for p in pictures(images)], text=texts, **options)
        made.pop("labels", None)  # PaliGemma's, for training
        return made

    def _rendered(self, prompt: str) -> str:
        if not self._chat_template:
            token = getattr(self._processor, "image_token", None)
            return f"{token}{prompt}" if token and self._decoder_only else prompt
        talk = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}]
        # The tokenizer renders what the processor would, and no video processor has a say in it.
        own = self._chat_template
        return self._tokenizer.apply_chat_template(talk, chat_template=own, add_generation_prompt=True, tokenize=False)

    @torch.inference_mode()
    def _say(self, inputs: dict[str, torch.Tensor]) -> list[list[int]]:
        """The answers' tokens."""
        tokens = self._model.generate(**inputs, max_new_tokens=self._longest, use_cache=True)
        return tokens[:, inputs["input_ids"].shape[1] if self._decoder_only else 0 :].tolist()

    def _seen(self, inputs: dict[str, torch.Tensor], count: int) -> list[tuple[int, int] | None]:
        """Width and height of each image as the model saw it, pixels; None where it saw tiles or a part of it."""
        grid, own = inputs.get("image_grid_thw"), self._processor.image_processor
        if grid is not None and isinstance(getattr(own, "patch_size", None), int):
            return [(int(across) * own.patch_size, int(down) * own.patch_size) for _, down, across in grid.tolist()]
        shape = tuple(inputs["pixel_values"].shape)
        whole = not getattr(own, "do_center_crop", False) and bool(inputs.get("pixel_attention_mask", torch.ones(1)).all())
        one_each = shape[:-3] in ((count,), (count, 1))
        return [(shape[-1], shape[-2]) if whole and one_each else None] * count

    def _beginnings(self) -> tuple[list[int], list[int]]:
        """First tokens of yes and of no in all their spellings, without those that begin both."""
        spellings = (("yes", "Yes", " yes", " Yes"), ("no", "No", " no", " No"))
        yes, no = ({self._tokenizer.encode(w, add_special_tokens=False)[0] for w in words} for words in spellings)
        if yes <= no or no <= yes:
            raise BackendError(f"the tokenizer of {self._model.config.model_type} begins yes and no with the same token")
        return sorted(yes - no), sorted(no - yes)


def _plain(value: Any) -> Any:
    """Dicts and lists where a configuration has its own kinds of them."""
    if isinstance(value, Mapping):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, Sequence) and not isinstance(value, str) else value


def load_processor(source: Source) -> Any:
    """The processor of a chat model; without torchvision, what is only for video is left out of it.

    Raises:
        MissingDependencyError: a package that it needs is not installed.
        BackendError: it was not found, or has no eyes.
    """
    config, utils = source.load("AutoConfig"), need("transformers.utils", "transformers", "run Hugging Face models")
    kinds = need("transformers.models.auto.processing_auto", "transformers", "run Hugging Face models").PROCESSOR_MAPPING
    load = None
    if not utils.is_torchvision_available() and type(config) in kinds:
        load = _without_video(kinds[type(config)]).from_pretrained
    processor = source.load("AutoProcessor", load)
    if not all(hasattr(processor, part) for part in ("image_processor", "tokenizer")):
        raise BackendError(f"{source.model!r} comes with a {type(processor).__name__}, which does not take images and texts")
    return processor


def _without_video(kind: Any) -> Any:
    """The same processor, which neither asks for a video processor nor loads one."""
    videos = dict.fromkeys(name for name in kind.get_attributes() if "video" in name)
    if not videos:
        return kind
    parts = [name for name in kind.get_attributes() if name not in videos]

    class ImagesOnly(kind):
        get_attributes = classmethod(lambda cls: list(parts))

        @classmethod
        def from_args_and_dict(cls, args: Any, processor_dict: dict[str, Any], **more: Any) -> Any:
            return super().from_args_and_dict(args, {**processor_dict, **videos}, **more)

    ImagesOnly.__name__ = kind.__name__  # transformers looks some things up by it
    return ImagesOnly


def _merged(model: Any, adapters: Sequence[str]) -> Any:
    """The model with LoRA adapters in its weights."""
    for adapter in adapters:
        peft = need("peft", "peft", "use LoRA adapters")
        name, here = Source(adapter).where()
        try:
            model = peft.PeftModel.from_pretrained(model, name, local_files_only=here).merge_and_unload()
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise BackendError(f"could not load the adapter {adapter!r}: {first_line(error)}") from error
    return model.eval()
