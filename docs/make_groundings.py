"""The picture of docs/perception.md: what the tiny chat model says where things are, right or wrong.

    python docs/make_groundings.py            the first twelve pictures of a held-out corpus in which something can be asked for
    python docs/make_groundings.py --models outputs/models

Writes docs/pictures/groundings.png: green is the answer, white the truth, above them what was asked.
"""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from envs import corpus as writing
from perception.annotation import box_iou
from perception.corpus import Corpus
from perception.questions import Question, ask
from perception.vlm.tiny import FOLDER, TinyChat

FILE = Path(__file__).parent / "pictures" / "groundings.png"
SCALE, COLUMNS, ROWS, BAR = 2, 4, 3, 22
DARK, LIGHT, GREEN, RED = (28, 30, 34), (232, 234, 237), (96, 208, 128), (255, 112, 96)


def questions(corpus: Corpus, count: int) -> list[tuple[int, Question]]:
    """Numbers of the first pictures with a thing that can be asked for, and the question."""
    rng, found = np.random.default_rng(0), list[tuple[int, Question]]()
    for k in range(len(corpus)):
        found += [(k, q) for q in ask(corpus.annotation(k), rng, ["box"])]
    return found[:count]


def tile(picture: NDArray[np.uint8], asked: str, truth: Sequence[float], answer: Sequence[float] | None) -> NDArray[np.uint8]:
    """One picture with both boxes, below what was asked."""
    large = cv2.resize(picture, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)
    image = Image.fromarray(np.pad(np.asarray(large, np.uint8), ((BAR, 0), (0, 0), (0, 0))))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(13)
    draw.rectangle((0, 0, image.width, BAR - 1), fill=DARK)
    right = answer is not None and box_iou(np.array([answer]), np.array([truth]))[0, 0] >= 0.5
    draw.text((6, BAR - 6), asked, GREEN if right else RED, font, anchor="ls")
    for box, colour, width in ((truth, LIGHT, 1), (answer, GREEN if right else RED, 2)):
        if box is not None:
            x1, y1, x2, y2 = (SCALE * v for v in box)
            draw.rectangle((x1, y1 + BAR, x2, y2 + BAR), outline=colour, width=width)
    return np.asarray(image)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, default=FOLDER, help="folder with chat (default: what ships)")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        writing.main(["--n", "64", "--seed", "7", "--held-out", "--out", f"{folder}/held"])
        corpus = Corpus(f"{folder}/held")
    asked = questions(corpus, COLUMNS * ROWS)
    images = corpus.images[[k for k, _ in asked]]
    model = TinyChat(arguments.models / "chat")
    found = model.parse(model.answer(images, [q.prompt for _, q in asked]), images)
    tiles = []
    for (k, question), detections in zip(asked, found, strict=True):
        phrase = re.search(r"the [^.?]+", question.prompt)
        truth = corpus.annotation(k).named(question.name or "").box
        answer = detections.boxes[0].tolist() if len(detections) else None
        tiles.append(tile(corpus.images[k], phrase[0] if phrase else question.prompt, truth, answer))
    rows = [np.hstack(tiles[r * COLUMNS : (r + 1) * COLUMNS]) for r in range(ROWS)]
    Image.fromarray(np.vstack(rows)).quantize(256, kmeans=3).save(FILE, optimize=True)
    print(f"{FILE.name}  {FILE.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
