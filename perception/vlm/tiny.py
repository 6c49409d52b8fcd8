"""The suite's own tiny models, which ship with it: the default backends, without a network.

They know the suite's scenes and nothing else; docs/perception.md says how well.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assets.errors import InvalidValueError
from perception.vlm.base import Detections, Images
from perception.vlm.hf_chat import HFChat
from perception.vlm.hf_dual import HFDual
from perception.vlm.parse import parse

FOLDER = Path(__file__).resolve().parents[2] / "assets" / "vlm"
DIALECT, TEMPLATE = "qwen_absolute", "Give the bounding box of {phrase}."


def _weights(folder: str | Path | None, name: str) -> str:
    place = FOLDER / name if folder is None else Path(folder)
    if not (place / "config.json").is_file():
        raise InvalidValueError(f"{place} holds no tiny {name} model: it has no config.json")
    return str(place)


class TinyChat(HFChat):
    """Answerer, Grounder and Believer: a SmolVLM-class model of a few million parameters.

    Args:
        folder: where its weights lie; None is the one that ships.
        batch_size: pictures at a time.
        device: "auto", "cpu", "cuda".

    Raises:
        InvalidValueError: no weights there.
    """

    def __init__(self, folder: str | Path | None = None, batch_size: int = 64, device: str = "auto") -> None:
        place = _weights(folder, "chat")
        super().__init__(place, DIALECT, TEMPLATE, max_new_tokens=96, batch_size=batch_size, device=device, dtype="float32")

    def parse(self, answers: list[str], images: Images) -> list[Detections]:
        """Places in answers that were given about images (N, H, W, 3)."""
        _, height, width, _ = images.shape
        side: Any = self._model.config.vision_config.image_size
        return [parse(text, DIALECT, width, height, (side, side)) for text in answers]


class TinyDual(HFDual):
    """Scorer and FrozenFeatures: a SigLIP-class model of a few million parameters.

    Args:
        folder: where its weights lie; None is the one that ships.
        batch_size: pictures or texts at a time.
        device: "auto", "cpu", "cuda".

    Raises:
        InvalidValueError: no weights there.
    """

    def __init__(self, folder: str | Path | None = None, batch_size: int = 64, device: str = "auto") -> None:
        super().__init__(_weights(folder, "dual"), device, "float32", batch_size)
