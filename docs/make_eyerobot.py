"""Pictures of the shipped pairs in docs/: six moments of an episode of each, as its video shows it.

python docs/make_eyerobot.py                    all of them
python docs/make_eyerobot.py eyerobot/estop     those that are named
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

from agents import replay, shipped

FOLDER = Path(__file__).parent / "pictures"
COUNT, SIZE = 6, (380, 285)
SEED = 1_000_000  # of the first episode of all evaluations


def moments(video: Path) -> list[Image.Image]:
    """Pictures at even distances from soon after the beginning to the end."""
    with av.open(str(video)) as film:
        frames = [frame.to_image() for frame in film.decode(video=0)]
    chosen = np.linspace(0.03, 1, COUNT) * (len(frames) - 1)
    return [frames[round(k)].resize(SIZE, Image.Resampling.LANCZOS) for k in chosen]


def main(names: Sequence[str]) -> None:
    """Write docs/pictures/eyerobot_<task>.png of pairs that ship."""
    width, height = SIZE
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            told = [f"checkpoint={name}", "episodes=1", f"seed={SEED}", f"out={folder}/film.mp4"]
            video = replay.main(told)
            assert video is not None
            whole = Image.new("RGB", (3 * width, COUNT // 3 * height))
            for k, picture in enumerate(moments(video)):
                whole.paste(picture, (k % 3 * width, k // 3 * height))
        file = FOLDER / f"{name.replace('/', '_')}.png"
        whole.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE).save(file, optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:] or shipped.names())
