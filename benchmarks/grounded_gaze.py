"""EyeSearch by words: the eye turns to where a backend says that the instructed thing is; no learning, no simulator truth.

    python -m benchmarks.grounded_gaze --episodes 200             prints
    python -m benchmarks.grounded_gaze --episodes 200 --publish   also writes docs/results

Compared are the tiny chat model, the weight-free `colour` backend, the tiny model with black pictures (which only searches) and
uniformly random turns, all in the same episodes with three distractors. Success is the task's: 0.5 s on end within 5 degrees.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray

from agents.base import RandomPolicy
from agents.cli import guarded
from agents.servo import GazeServo
from agents.show import say, table
from agents.statistics import wilson
from benchmarks import results
from benchmarks.results import Row
from envs.perceive import VectorPerceive
from perception.vlm.base import Detections
from perception.vlm.cached import Cached
from perception.vlm.colour import Colour
from perception.vlm.tiny import FOLDER, TinyChat

FOV, SIDE, BATCH = 62.3, 128, 40


class Blind:
    """A backend behind a black picture."""

    def __init__(self, backend: Any) -> None:
        self._backend = backend

    def ground(self, images: NDArray[np.uint8], phrases: list[str]) -> list[Detections]:
        """What the backend says about black pictures."""
        return self._backend.ground(np.zeros_like(images), phrases)


def successes(backend: Any, policy: Any, episodes: int, seed: int) -> int:
    """How many episodes, seeded seed, seed + 1 .. and so on, succeed."""
    won = 0
    for first in range(0, episodes, BATCH):
        count = min(BATCH, episodes - first)
        env = VectorPerceive(
            gym.make_vec(
                "envs:Saccade/EyeSearch-v0", num_envs=count, vectorization_mode="vector_entry_point", autoreset_mode="disabled",
                resolution=SIDE, fovs=[FOV],
            ),
            backend,
        )  # fmt: skip
        obs, _ = env.reset(seed=[seed + first + k for k in range(count)])
        done, over = np.zeros(count, bool), False
        while not over:
            obs, _, _, truncated, info = env.step(policy.act(obs))
            done |= info["success"]
            over = bool(truncated.all())
        env.close()
        won += int(done.sum())
    return won


def measure(chat: Any, episodes: int, seed: int = 0) -> list[Row]:
    """Success rates with Wilson intervals."""
    servo, random = GazeServo(FOV), RandomPolicy(gym.spaces.Box(-1, 1, (2,), np.float32), seed)
    rows = []
    compared = {
        "tiny": (chat, servo), "colour": (Colour(), servo), "tiny, black pictures": (Blind(chat), servo),
        "random": (Colour(), random),
    }  # fmt: skip
    for name, (backend, policy) in compared.items():
        won = successes(Cached(backend, name=name), policy, episodes, seed)
        low, high = wilson(won, episodes)
        rows.append(Row(name, "success", won / episodes, low, high, episodes, (seed,)))
        say(f"{name}: {won} of {episodes}")
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grounded_gaze", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, default=FOLDER, help="folder with chat (default: what ships)")
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0, help="of the first episode")
    parser.add_argument("--publish", action="store_true", help="write docs/results/grounded_gaze.json")
    arguments = parser.parse_args(argv)
    rows = measure(TinyChat(arguments.models / "chat"), arguments.episodes, arguments.seed)
    table(("", "success", "low", "high", "episodes"), [(r.name, r.value, r.low, r.high, r.n) for r in rows])
    if arguments.publish:
        results.publish("grounded_gaze", argv, rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
