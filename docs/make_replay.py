"""The picture of EyeReplay in docs/: a panorama with the borders of the eye's levels, and the levels beside it.

python docs/make_replay.py
"""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import numpy as np
from PIL import Image

import envs

FILE = Path(__file__).parent / "pictures" / "eye_replay.png"


def main() -> None:
    """Write docs/pictures/eye_replay.png."""
    assert envs
    env = gym.make("Saccade/EyeReplay-EraserStand-v0", render_mode="rgb_array", pause=0)
    obs, _ = env.reset(seed=2, options={"episode": 1, "frame": 30})
    for _ in range(12):
        obs, *_ = env.step(env.unwrapped.oracle())  # type: ignore[attr-defined]
    around = np.asarray(env.render())
    side = around.shape[0] // 3
    levels = [np.asarray(Image.fromarray(obs[f"eye_{k}"]).resize((side, side), Image.Resampling.NEAREST)) for k in range(3)]
    gap = np.full((around.shape[0], 8, 3), 255, np.uint8)
    whole = Image.fromarray(np.concatenate([around, gap, np.concatenate(levels)], axis=1))
    small = whole.resize((whole.width * 2 // 3, whole.height * 2 // 3), Image.Resampling.LANCZOS)
    small.quantize(256, kmeans=3).save(FILE, optimize=True)


if __name__ == "__main__":
    main()
