"""The picture of the shipped EStop pair in docs/: six moments of the first episode that its video shows.

python docs/make_eyerobot.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import av
from PIL import Image

from agents import replay

FILE = Path(__file__).parent / "pictures" / "eyerobot_estop.png"
MOMENTS = (5, 40, 60, 80, 90, 145)  # steps
SIZE = (380, 285)


def main() -> None:
    """Write docs/pictures/eyerobot_estop.png."""
    with tempfile.TemporaryDirectory() as folder:
        video = replay.main(["checkpoint=eyerobot/estop", "episodes=1", f"out={folder}/estop.mp4"])
        with av.open(str(video)) as film:
            frames = [frame.to_image().resize(SIZE, Image.Resampling.LANCZOS) for frame in film.decode(video=0)]
    width, height = SIZE
    whole = Image.new("RGB", (3 * width, 2 * height))
    for k, moment in enumerate(MOMENTS):
        whole.paste(frames[moment], (k % 3 * width, k // 3 * height))
    whole.quantize(160, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(FILE, optimize=True)


if __name__ == "__main__":
    main()
