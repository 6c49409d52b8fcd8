"""The learning curves in docs/, from what was kept of the trainings whose results ship.

python docs/make_curves.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from agents import shipped

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "docs" / "pictures"
Panels = list[tuple[str, str, float]]  # metric, title, factor
PAIR: Panels = [
    ("rollout/on_target", "steps that look at the target", 1), ("rollout/reward", "reward: what seeing adds, cm of path", 100),
    ("train/hand_loss", "hand's L1 loss", 1),
]  # fmt: skip
SEARCH: Panels = [
    ("rollout/success_rate", "searches that succeed, turns drawn", 1),
    ("rollout/gaze_error_deg", "angle to what is asked for, deg", 1),
]  # fmt: skip
CHAT: Panels = [
    ("train/answer_loss", "loss of answers, nats a token", 1), ("train/where_loss", "loss of where answers lie", 1),
]  # fmt: skip
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 420, 260, 52, 14, 34, 36
INK, GREY, BLUE = (40, 44, 50), (215, 219, 224), (30, 110, 190)


def panel(steps: np.ndarray, values: np.ndarray, title: str) -> Image.Image:
    """One curve over steps, from zero upwards."""
    picture = Image.new("RGB", (2 * WIDTH, 2 * HEIGHT), "white")  # drawn twice as large, then smoothed
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(24)
    high = float(values.max()) * 1.08
    unit = 10 ** np.floor(np.log10(high))
    tick = next(t for t in np.array([0.1, 0.2, 0.5, 1, 2]) * unit if high / t <= 6)

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / steps[-1]
        return 2 * across, 2 * (HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * y / high)

    for y in np.arange(0, high, tick):
        draw.line([place(0, y), place(steps[-1], y)], GREY, 2)
        draw.text((2 * LEFT - 10, place(0, y)[1]), f"{y:.6g}", INK, font, anchor="rm")
    for x in (0, steps[-1] / 2, steps[-1]):
        draw.text((place(x, 0)[0], 2 * (HEIGHT - BOTTOM) + 10), f"{x:,.0f}", INK, font, anchor="mt" if x < steps[-1] else "rt")
    draw.text((2 * LEFT, 18), title, INK, font)
    draw.line([place(x, y) for x, y in zip(steps, values, strict=True)], BLUE, 5, joint="curve")
    return picture.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)


def curve(rows: list[dict[str, Any]], metric: str, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values of a metric, where it was logged."""
    found = [(row["step"], factor * row[metric]) for row in rows if metric in row]
    return np.array([s for s, _ in found]), np.array([v for _, v in found])


def curves() -> dict[str, tuple[Path, Panels]]:
    """Picture -> the training, and its panels."""
    folder = ROOT / "assets/policies"
    shown = {"eyerobot/search": SEARCH, **dict.fromkeys(shipped.names(), PAIR)}
    own = {f"{name.replace('/', '_')}_curve": (folder / name / "training.json", panels) for name, panels in shown.items()}
    return {"tiny_chat_curve": (ROOT / "assets/vlm/chat/training.json", CHAT), **own}


def main() -> None:
    """Write the pictures."""
    for name, (file, panels) in curves().items():
        rows = json.loads(file.read_text())["curve"]
        whole = Image.new("RGB", (WIDTH * len(panels), HEIGHT), "white")
        for k, (metric, title, factor) in enumerate(panels):
            whole.paste(panel(*curve(rows, metric, factor), title), (k * WIDTH, 0))
        whole.quantize(64).save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
