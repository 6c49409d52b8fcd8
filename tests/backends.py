"""Every backend on models small enough for a test, made of the classes that run the large ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from perception.annotation import Annotation
from perception.tiny import chat, dual
from perception.vlm.base import Answerer, Detections, FrozenFeatures, Grounder, Scorer
from perception.vlm.cached import Cached
from perception.vlm.colour import Colour
from perception.vlm.hf_chat import TEMPLATES, HFChat, fill
from perception.vlm.hf_detect import HFDetect
from perception.vlm.hf_dual import HFDual
from perception.vlm.hf_features import HFFeatures
from perception.vlm.judge import Believer
from perception.vlm.scripted import Scripted
from perception.vlm.tiny import TinyChat, TinyDual
from tests import tiny_models

BRIGHT, DARK = np.full((48, 64, 3), 230, np.uint8), np.full((48, 64, 3), 20, np.uint8)
# Of plain pictures a detector's scores would be equal, and their order anyone's.
IMAGES = np.stack([np.random.default_rng(k).integers(60 * k, 130 + 60 * k, (48, 64, 3), dtype=np.uint8) for k in range(3)])
TEXTS = ["cup", "a red cup and a box", "the left handle"]
BOXES = {"bright": (3, 4, 20, 30), "dark": (40, 10, 60, 40)}


def save_taught(folder: Path) -> str:
    """The suite's tiny chat model, which knows bright from dark and a place in either."""
    model, processor = tiny_models.idefics3()
    where = fill(TEMPLATES["tuples"], "the cup")
    lessons = [(BRIGHT, "Is it bright?", "yes"), (DARK, "Is it bright?", "no")]
    lessons += [(image, where, str(box)) for image, box in zip((BRIGHT, DARK), BOXES.values(), strict=True)]
    tiny_models.teach(model, processor, lessons)
    return tiny_models.save(folder, model, processor)


def save_tiny_chat(folder: Path) -> str:
    """The suite's own chat model before any training."""
    words = chat.make_tokenizer([*TEXTS, "Give the bounding box of it. yes no"], 400)
    model = chat.make_model(words, 48, 1, 1, 2)
    model.save_pretrained(folder)
    chat.make_processor(words).save_pretrained(folder)
    return str(folder)


def save_tiny_dual(folder: Path) -> str:
    """The suite's own dual encoder before any training."""
    words = dual.make_tokenizer(TEXTS, 300)
    model = dual.make_model(words, 48, 1, 1, 2)
    model.save_pretrained(folder)
    dual.make_processor(words).save_pretrained(folder)
    return str(folder)


SAVE: dict[str, Callable[[Path], str]] = {
    **tiny_models.SAVE, "taught": save_taught, "tiny": save_tiny_chat, "tiny_dual": save_tiny_dual,
}  # fmt: skip


def make_folders(new: Callable[[str], Path]) -> Callable[[str], str]:
    """Folders of weights by name, each written once; `new` makes an empty one."""
    made: dict[str, str] = {}

    def find(name: str) -> str:
        if name not in made:
            made[name] = SAVE.get(name, save_taught)(new(name))
        return made[name]

    return find


class Pair(Cached):
    """A dual encoder whose answers are remembered."""

    def __init__(self, folder: str, **settings: Any) -> None:
        super().__init__(HFDual(folder, **settings))


# name, backend, settings: batches of 2, so that 3 images make two of them
CHAT = {"batch_size": 2, "max_new_tokens": 10}
BACKENDS: dict[str, tuple[type, dict[str, Any]]] = {
    "idefics3": (HFChat, CHAT),
    "qwen2_5_vl": (HFChat, {**CHAT, "dialect": "qwen_absolute"}),
    "paligemma": (HFChat, {**CHAT, "dialect": "paligemma"}),
    "florence2": (HFDetect, CHAT),
    "clip": (HFDual, {"batch_size": 2}),
    "siglip": (HFDual, {"batch_size": 2}),
    "owlv2": (HFDetect, {"batch_size": 2, "threshold": 0.0}),
    "grounding_dino": (HFDetect, {"batch_size": 2, "threshold": 0.0}),
    "dinov2": (HFFeatures, {"batch_size": 2}),
    "registers": (HFFeatures, {"batch_size": 2, "pool": "mean"}),
    "tiny": (TinyChat, {"batch_size": 2}),
    "tiny_dual": (TinyDual, {"batch_size": 2}),
    "cached_clip": (Pair, {"batch_size": 2}),
}


def scripted() -> Scripted:
    """Knows the test's pictures: nothing is on them."""
    made = Scripted(error_rate=0.5)
    _, height, width, _ = IMAGES.shape
    made.tell(IMAGES, [Annotation(width, height)] * len(IMAGES))
    return made


# What needs no weights.
PLAIN: dict[str, Callable[[], Any]] = {"colour": Colour, "scripted": scripted}


def make(name: str, folder: Callable[[str], str]) -> Any:
    """A backend by name."""
    if name in PLAIN:
        return PLAIN[name]()
    kind, settings = BACKENDS[name]
    more = settings if name in ("tiny", "tiny_dual") else {"device": "cpu", **settings}
    return kind(folder(name.removeprefix("cached_")), **more)


def everything(model: Any, images: np.ndarray, texts: list[str]) -> dict[str, list[Any]]:
    """What a backend says to all that it can be asked, one entry per image."""
    said: dict[str, list[Any]] = {}
    if isinstance(model, FrozenFeatures):
        said["embed"] = list(model.embed(images))
    if isinstance(model, Scorer):
        said["score"] = list(model.score(images, ["a red cup", "yes"]))
    if isinstance(model, Answerer):
        said["answer"] = model.answer(images, texts)
    if isinstance(model, Believer):
        said["yes"] = list(model.yes_probability(images, texts))
    if isinstance(model, Grounder):
        said["ground"] = model.ground(images, texts)
    return said


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, Detections):
        assert a.labels == b.labels
        for part in ("boxes", "points", "scores"):
            np.testing.assert_allclose(getattr(a, part), getattr(b, part), atol=2e-3)
    elif isinstance(a, str):
        assert a == b
    else:
        np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-4)


def distance(a: Any, b: Any) -> float:
    if isinstance(a, Detections):
        same = len(a) == len(b) and np.allclose(a.boxes, b.boxes, atol=1e-3)
        return 0.0 if same else 1.0
    return float(a != b) if isinstance(a, str) else float(np.abs(a - b).max())
