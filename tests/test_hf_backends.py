"""Hugging Face backends: the same code that runs real weights, on tiny models of the real classes.

Real weights are run where a folder or a name is given, such as
    SACCADE_HF_CHAT=/models/Qwen2.5-VL-3B-Instruct python -m pytest -m weights tests/test_hf_backends.py
"""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

pytest.importorskip("transformers", reason="transformers is not installed: pip install transformers")

import torch
import transformers as hf
from PIL import Image

import conf
from assets.errors import InvalidValueError, MissingDependencyError, UnknownNameError
from perception.vlm.base import BackendError, Detections
from perception.vlm.hf import Source
from perception.vlm.hf_chat import HFChat
from perception.vlm.hf_detect import HFDetect
from perception.vlm.hf_dual import HFDual
from perception.vlm.hf_features import HFFeatures
from perception.vlm.parse import parse
from tests import tiny_models
from tests.backends import BOXES, BRIGHT, CHAT, DARK, IMAGES, TEXTS, make, make_folders

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    return make_folders(tmp_path_factory.mktemp)


@pytest.fixture(scope="module")
def backend(folder: Callable[[str], str]) -> Callable[[str], Any]:
    return cache(lambda name: make(name, folder))


# -- chat models -------------------------------------------------------------------------------------------------------


def test_a_taught_model_says_what_it_was_taught(backend: Callable[[str], Any]) -> None:
    model, both = backend("idefics3"), np.stack([DARK, BRIGHT, DARK])
    assert model.answer(both, ["Is it bright?"] * 3) == ["no", "yes", "no"]
    dark, bright, again = model.yes_probability(both, ["Is it bright?"] * 3)
    assert dark == pytest.approx(again, abs=1e-5)
    assert dark < 0.1 < 0.9 < bright


def test_a_taught_model_points_where_it_was_taught(folder: Callable[[str], str]) -> None:
    model = HFChat(folder("idefics3"), "tuples", max_new_tokens=32)
    bright, dark = model.ground(np.stack([BRIGHT, DARK]), ["the cup"] * 2)
    np.testing.assert_array_equal(bright.boxes, [BOXES["bright"]])
    np.testing.assert_array_equal(dark.boxes, [BOXES["dark"]])


def says(model: HFChat, text: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Make the model say a text, and return what it was given."""
    words, given = model._processor.tokenizer, []
    answer = torch.tensor(words(text, add_special_tokens=False)["input_ids"] + [words.eos_token_id])

    def generate(**inputs: Any) -> torch.Tensor:
        given.append(inputs)
        heard = inputs["input_ids"] if model._decoder_only else torch.full((len(inputs["input_ids"]), 1), words.eos_token_id)
        return torch.cat([heard, answer.expand(len(heard), -1)], dim=1)

    monkeypatch.setattr(model._model, "generate", generate)
    return given


def test_absolute_places_are_of_the_image_that_the_model_saw(
    backend: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = backend("qwen2_5_vl")
    given = says(model, '[{"bbox_2d": [28, 28, 56, 84], "label": "cup"}]', monkeypatch)
    wide, large = np.zeros((2, 60, 60, 3), np.uint8), np.zeros((1, 400, 200, 3), np.uint8)
    found = model.ground(wide, ["cup"] * 2)
    assert given[0]["image_grid_thw"].tolist() == [[1, 4, 4]] * 2  # 56 pixels in patches of 14
    for row in found:
        np.testing.assert_allclose(row.boxes, [[30, 30, 60, 60]])
    (tall,) = model.ground(large, ["cup"])
    _, down, across = given[1]["image_grid_thw"][0].tolist()
    assert (across * 14, down * 14) == (56, 140)  # at most 112 x 112 pixels in all
    np.testing.assert_allclose(tall.boxes, [[100, 80, 200, 240]])


def test_absolute_places_are_of_the_resized_image_where_it_is_one_picture(
    folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = HFChat(folder("idefics3"), "qwen_absolute")
    says(model, "[64, 32, 128, 128]", monkeypatch)  # of 128 x 128
    np.testing.assert_allclose(model.ground(IMAGES[:1], ["cup"])[0].boxes, [[32, 12, 64, 48]])


def test_a_template_that_begins_a_text_begins_it_once(backend: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = backend("qwen2_5_vl")
    given = says(model, "yes", monkeypatch)
    assert model.answer(IMAGES[:1], ["Is it bright?"]) == ["yes"]
    heard = model._processor.tokenizer.decode(given[0]["input_ids"][0])
    assert heard.startswith("<|im_start|>user\n<|vision_start|><|image_pad|>")
    assert heard.endswith("<|vision_end|>Is it bright?<|im_end|>\n<|im_start|>assistant\n")


def test_a_bound_on_pixels_reaches_the_processor(folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    settings = OmegaConf.create({"size": {"shortest_edge": 28 * 28, "longest_edge": 28 * 28}})
    model = HFChat(folder("qwen2_5_vl"), "qwen_absolute", processor_options=settings)
    given = says(model, "nothing", monkeypatch)
    assert [len(found) for found in model.ground(IMAGES[:1], ["cup"])] == [0]
    assert given[0]["image_grid_thw"].tolist() == [[1, 2, 2]]


@pytest.mark.parametrize(
    ("name", "text"),
    [("paligemma", "<loc0256><loc0128><loc0512><loc1023> cup"), ("florence2", "cup<loc_125><loc_250><loc_999><loc_500>")],
)
def test_places_that_are_tokens_are_read(
    name: str, text: str, backend: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = backend(name)
    chat = model._chat if isinstance(model, HFDetect) else model
    given, read = says(chat, text, monkeypatch), []
    monkeypatch.setattr("perception.vlm.hf_chat.parse", lambda said, *more: read.append(said) or parse(said, *more))
    for found in model.ground(IMAGES[:2], ["red cup", "box"]):
        assert found.labels == ("cup",)
        np.testing.assert_allclose(found.boxes, [[8, 12, 64, 24]], atol=0.1)
    prompts = chat._processor.tokenizer.batch_decode(given[0]["input_ids"], skip_special_tokens=True)
    wanted = {"paligemma": "detect red cup", "florence2": "Locate red cup in the image."}[name]
    assert wanted in prompts[0]
    assert "labels" not in given[0]
    assert [said.replace(" ", "") for said in read] == [text.replace(" ", "")] * 2  # and not what ends it


def test_smolvlm_runs_without_what_is_for_video(folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    # On the hub its processor is of images, texts and video; video needs torchvision, and the class needs num2words.
    from transformers.models.smolvlm import processing_smolvlm

    monkeypatch.setattr(processing_smolvlm, "num2words", None)
    with pytest.raises(MissingDependencyError, match="something must be installed: Package `num2words` is required"):
        HFChat(folder("smolvlm"))
    monkeypatch.setattr(processing_smolvlm, "num2words", str)
    model = HFChat(folder("smolvlm"), **CHAT)
    alone = [model.yes_probability(IMAGES[k : k + 1], TEXTS[k : k + 1])[0] for k in range(3)]
    np.testing.assert_allclose(model.yes_probability(IMAGES, TEXTS), alone, atol=1e-4)
    assert len(model.answer(IMAGES, TEXTS)) == 3


@pytest.mark.parametrize("name", ["idefics3", "qwen2_5_vl"])
def test_a_prompt_without_the_models_mark_for_a_picture_is_refused(name: str, folder: Callable[[str], str]) -> None:
    model = HFChat(folder(name), chat_template="{{ messages[0]['content'][1]['text'] }}")
    with pytest.raises(InvalidValueError, match=r"refuses an input: .* Found total 0 <.*> tokens and 3 images"):
        model.answer(IMAGES, TEXTS)


def test_a_prompt_with_the_models_own_marks_is_refused(backend: Callable[[str], Any]) -> None:
    with pytest.raises(InvalidValueError, match=r"Qwen2_5_VLProcessor refuses an input: .*image_pad"):
        backend("qwen2_5_vl").answer(IMAGES[:1], ["what is <|image_pad|>?"])
    with pytest.raises(InvalidValueError, match="refuses an input: absolute aspect ratio must be smaller than 200"):
        backend("qwen2_5_vl").answer(np.zeros((1, 2, 600, 3), np.uint8), ["what is it?"])


def test_adapters_need_peft_and_say_so(folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingDependencyError, match="to use LoRA adapters, peft must be installed: pip install peft"):
        HFChat(folder("idefics3"), adapters=["somewhere"])


def test_adapters_are_merged(folder: Callable[[str], str], tmp_path: Path) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install peft")
    whole = hf.AutoModelForImageTextToText.from_pretrained(folder("idefics3"))
    adapter = peft.get_peft_model(whole, peft.LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    adapter.save_pretrained(tmp_path / "adapter")
    plain, other = (HFChat(folder("idefics3"), adapters=a) for a in ([], [str(tmp_path / "adapter")]))
    moved = np.abs(plain.yes_probability(IMAGES, TEXTS) - other.yes_probability(IMAGES, TEXTS))
    assert moved.max() > 1e-3
    with pytest.raises(BackendError, match="there is no such folder"):
        HFChat(folder("idefics3"), adapters=str(tmp_path / "none"))


# -- dual encoders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_scores_are_the_models_own_logits(name: str, folder: Callable[[str], str], backend: Callable[[str], Any]) -> None:
    processor, model = hf.AutoProcessor.from_pretrained(folder(name)), hf.AutoModel.from_pretrained(folder(name)).eval()
    padding = {"clip": True, "siglip": "max_length"}[name]
    inputs = processor(text=TEXTS, images=list(map(Image.fromarray, IMAGES)), padding=padding, return_tensors="pt")
    with torch.inference_mode():
        outputs = model(**inputs)
    scores = backend(name).score(IMAGES, TEXTS)
    np.testing.assert_allclose(scores, outputs.logits_per_image.numpy(), atol=1e-4)
    np.testing.assert_allclose(backend(name).embed(IMAGES), outputs.image_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(backend(name).embed_texts(TEXTS), outputs.text_embeds.numpy(), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(backend(name).embed(IMAGES), axis=1), 1, atol=1e-5)


def test_a_text_is_encoded_once(folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = HFDual(folder("siglip")), []
    encode = model._encode
    monkeypatch.setattr(model, "_encode", lambda texts: asked.extend(texts) or encode(texts))
    first = model.score(IMAGES, ["cup", "box", "cup"])
    np.testing.assert_array_equal(first[:, 0], first[:, 2])
    np.testing.assert_allclose(model.score(IMAGES, ["box", "handle"])[:, 0], first[:, 1], atol=1e-5)
    assert asked == ["cup", "box", "handle"]
    monkeypatch.setattr("perception.vlm.hf_dual.REMEMBERED", 1)
    model.embed_texts(["cup", "box"])
    model.embed_texts(["cup"])
    assert asked == ["cup", "box", "handle", "cup"]  # the older of two had to go


# -- detectors and towers ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["owlv2", "grounding_dino"])
def test_detections_are_the_pipelines(name: str, folder: Callable[[str], str], backend: Callable[[str], Any]) -> None:
    pipeline = hf.pipeline("zero-shot-object-detection", model=folder(name), device="cpu")
    phrase = {"owlv2": "a red cup", "grounding_dino": "a red cup."}[name]
    theirs = pipeline(Image.fromarray(IMAGES[2]), candidate_labels=[phrase], threshold=0.0)
    (ours,) = backend(name).ground(IMAGES[2:], ["a red cup"])
    assert len(ours) > 3
    for box, score in zip(ours.boxes, ours.scores, strict=True):
        same = min(theirs, key=lambda row: abs(row["score"] - score))
        assert same["score"] == pytest.approx(score, abs=1e-5)
        whole_pixels = np.clip([*same["box"].values()], 0, [64, 48, 64, 48])
        assert np.abs(box - whole_pixels).max() < 1.01
    assert set(ours.labels) == {"a red cup"}
    assert (np.diff(ours.scores) <= 0).all()


def test_thresholds_and_numbers_bound_what_is_found(folder: Callable[[str], str], backend: Callable[[str], Any]) -> None:
    (all_of_them,) = backend("owlv2").ground(IMAGES[2:], ["cup"])
    middle = float(np.median(all_of_them.scores))
    (few,) = HFDetect(folder("owlv2"), threshold=middle).ground(IMAGES[2:], ["cup"])
    assert 0 < len(few) < len(all_of_them)
    assert (few.scores > middle).all()
    (best,) = HFDetect(folder("owlv2"), threshold=0.0, most=1).ground(IMAGES[2:], ["cup"])
    np.testing.assert_allclose(best.boxes, all_of_them.boxes[:1], atol=1e-4)


@pytest.mark.parametrize(("name", "special"), [("dinov2", 1), ("registers", 4)])
def test_pools_are_the_class_token_and_the_patches_alone(name: str, special: int, folder: Callable[[str], str]) -> None:
    processor, tower = hf.AutoImageProcessor.from_pretrained(folder(name)), hf.AutoModel.from_pretrained(folder(name)).eval()
    with torch.inference_mode():
        states = tower(**processor(list(map(Image.fromarray, IMAGES)), return_tensors="pt")).last_hidden_state.numpy()
    assert states.shape[1] == special + 16
    cls, mean = (HFFeatures(folder(name), pool).embed(IMAGES) for pool in ("cls", "mean"))
    np.testing.assert_allclose(cls, states[:, 0], atol=1e-4)
    np.testing.assert_allclose(mean, states[:, special:].mean(axis=1), atol=1e-4)
    assert np.abs(mean - states.mean(axis=1)).max() > 1e-3


def test_a_dual_encoders_tower_gives_features(folder: Callable[[str], str]) -> None:
    assert HFFeatures(folder("siglip"), "mean").embed(IMAGES).shape == (3, 32)
    with pytest.raises(InvalidValueError, match="has no class token: pool must be mean, got cls"):
        HFFeatures(folder("siglip"), "cls")


# -- sentences ---------------------------------------------------------------------------------------------------------

KINDS = {"hf_chat": HFChat, "hf_dual": HFDual, "hf_detect": HFDetect, "hf_features": HFFeatures}


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_folder_that_is_not_there_is_told(kind: Any, tmp_path: Path) -> None:
    with pytest.raises(BackendError, match=r"^could not load '.*nowhere': there is no such folder$"):
        kind(str(tmp_path / "nowhere"))
    with pytest.raises(BackendError, match=r"^could not load '.*' as Auto\w+: [^\n]{10,300}$"):
        kind(str(tmp_path))


@pytest.mark.parametrize("kind", KINDS.values())
def test_a_name_that_cannot_be_fetched_is_told(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(BackendError, match=r"^could not load 'nobody/nothing' as Auto\w+: [^\n]{10,300}$"):
        kind("nobody/nothing")


def test_a_folder_is_never_looked_for_on_the_hub(folder: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}
    monkeypatch.setattr(hf.AutoConfig, "from_pretrained", lambda name, **options: asked.update(options))
    Source(folder("dinov2"), revision="main").load("AutoConfig")
    assert asked == {"local_files_only": True, "trust_remote_code": False}
    Source("some/name", revision="v2").load("AutoConfig")
    assert asked == {"local_files_only": False, "trust_remote_code": False, "revision": "v2"}


@pytest.mark.parametrize("kind", KINDS.values())
def test_transformers_is_asked_for_by_name(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingDependencyError, match="transformers must be installed: pip install transformers"):
        kind("some/name")


@pytest.mark.parametrize(
    ("kind", "name", "sentence"),
    [
        (HFChat, "dinov2", "comes with a .*, which does not take images and texts"),
        (HFChat, "clip", "as AutoModelForImageTextToText: Unrecognized configuration class"),
        (HFDual, "dinov2", "is a Dinov2Model, which is no dual encoder"),
        (HFDetect, "clip", "is a clip, and HFDetect knows owlv2, "),
        (HFFeatures, "florence2", "which is no vision tower|as AutoImageProcessor|as AutoModel"),
    ],
)
def test_a_model_of_another_kind_is_told(kind: Any, name: str, sentence: str, folder: Callable[[str], str]) -> None:
    with pytest.raises(BackendError, match=sentence):
        kind(folder(name))


def test_weights_that_are_broken_are_told(tmp_path: Path) -> None:
    tiny_models.save_dinov2(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(BackendError, match="as AutoModel: "):
        HFFeatures(str(tmp_path))


SETTINGS = [
    (HFChat, {"dialect": "qwen"}, UnknownNameError, "unknown dialect 'qwen': available: florence, internvl, "),
    (HFChat, {"template": "Where is it?"}, InvalidValueError, r"must contain \{phrase\}, got 'Where is it\?'"),
    (HFChat, {"max_new_tokens": 0}, InvalidValueError, "max_new_tokens must be >= 1, got 0"),
    (HFChat, {"dtype": "float23"}, UnknownNameError, "unknown dtype 'float23': did you mean 'float32'"),
    (HFDual, {"batch_size": 0}, InvalidValueError, "batch_size must be >= 1, got 0"),
    (HFDual, {"device": "gpu"}, InvalidValueError, r"device 'gpu' cannot be used here \(.*\); auto takes what there is"),
    (HFDetect, {"threshold": 1.5}, InvalidValueError, r"threshold must be in \[0, 1\], got 1.5"),
    (HFDetect, {"most": 0}, InvalidValueError, "most must be >= 1, got 0"),
    (HFFeatures, {"pool": "max"}, UnknownNameError, "unknown pool 'max': .*available: cls, mean"),
]


@pytest.mark.parametrize(("kind", "settings", "error", "sentence"), SETTINGS, ids=[str(s[1]) for s in SETTINGS])
def test_wrong_settings_are_told_before_anything_is_loaded(
    kind: Any, settings: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        kind("some/name", **settings)


def test_on_a_cpu_numbers_have_32_bits_unless_told(folder: Callable[[str], str], tmp_path: Path) -> None:
    hf.AutoModel.from_pretrained(folder("dinov2")).to(torch.bfloat16).save_pretrained(tmp_path)
    assert Source(str(tmp_path), "cpu").load("AutoModel").dtype == torch.float32
    half = HFFeatures(folder("dinov2"), device="cpu", dtype="bfloat16").embed(IMAGES)
    whole = HFFeatures(folder("dinov2"), device="cpu").embed(IMAGES)
    assert half.dtype == np.float32
    assert 0 < np.abs(half - whole).max() < 0.1 * np.abs(whole).max()


@pytest.mark.parametrize("name", KINDS)
def test_every_setting_is_in_the_yaml(name: str) -> None:
    said = yaml.safe_load((Path(conf.__path__[0]) / "vlm" / f"{name}.yaml").read_text())
    assert said.pop("_target_") == f"perception.vlm.{name}.{KINDS[name].__name__}"
    settings = inspect.signature(KINDS[name]).parameters
    assert set(said) == set(settings)
    defaults = {k: v for k, v in said.items() if k not in ("model", "dialect", "adapters", "processor_options")}
    assert defaults == {k: settings[k].default for k in defaults}


# -- real weights ------------------------------------------------------------------------------------------------------


def real(kind: Any, variable: str, **settings: Any) -> Any:
    model = os.environ.get(variable)
    if not model:
        pytest.skip(f"no weights here: set {variable} to a folder or a name on the Hugging Face hub")
    return kind(model, **settings)


def disc(left: int, colour: tuple[int, int, int]) -> np.ndarray:
    """A disc of 100 pixels across on grey, 400 x 300."""
    v, u = np.mgrid[:300, :400]
    image = np.full((300, 400, 3), 200, np.uint8)
    image[(u - left - 50) ** 2 + (v - 150) ** 2 < 50**2] = colour
    return image


DISCS = np.stack([disc(40, (220, 20, 20)), disc(260, (20, 20, 220))])
PHRASES = ["the red circle", "the blue circle"]


def overlaps(found: list[Detections]) -> list[float]:
    """Intersection over union of each best box with its disc."""
    shares = []
    for one, left in zip(found, (40, 260), strict=True):
        x1, y1, x2, y2 = one.boxes[one.best or 0]
        common = max(0, min(x2, left + 100) - max(x1, left)) * max(0, min(y2, 200) - max(y1, 100))
        shares.append(common / ((x2 - x1) * (y2 - y1) + 100**2 - common))
    return shares


@pytest.mark.weights
def test_a_real_chat_model_sees_and_points() -> None:
    model = real(HFChat, "SACCADE_HF_CHAT", dialect=os.environ.get("SACCADE_HF_CHAT_DIALECT", "qwen_absolute"))
    colours = model.answer(DISCS, ["Which colour has the circle? Answer in one word."] * 2)
    assert "red" in colours[0].lower()
    assert "blue" in colours[1].lower()
    red, blue = model.yes_probability(DISCS, ["Is the circle red? Answer yes or no."] * 2)
    assert blue < 0.5 < red
    assert min(overlaps(model.ground(DISCS, PHRASES))) > 0.5


@pytest.mark.weights
def test_a_real_dual_encoder_tells_colours_apart() -> None:
    scores = real(HFDual, "SACCADE_HF_DUAL").score(DISCS, ["a red circle", "a blue circle"])
    assert scores.argmax(axis=1).tolist() == [0, 1]


@pytest.mark.weights
def test_a_real_detector_finds_discs() -> None:
    assert min(overlaps(real(HFDetect, "SACCADE_HF_DETECT").ground(DISCS, PHRASES))) > 0.5


@pytest.mark.weights
def test_a_real_tower_finds_like_alike() -> None:
    model = real(HFFeatures, "SACCADE_HF_FEATURES", pool="mean")
    red, moved, blue = model.embed(np.stack([DISCS[0], disc(60, (220, 20, 20)), DISCS[1]]))
    assert np.linalg.norm(red - moved) < np.linalg.norm(red - blue)
