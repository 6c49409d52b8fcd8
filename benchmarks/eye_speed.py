"""How many foveal observations a second come out of a panorama, on one core: ours, and the way of EyeRobot's released code.

Beside them, steps a second of 1, 8 and 32 eyes in recordings, decoding, new episodes and all: what a training gets.

    python -m benchmarks.eye_speed             prints
    python -m benchmarks.eye_speed --publish   also writes docs/results/eye_speed.json

One observation is three crops of 64 x 64 pixels, 17.3, 62.3 and 116.1 degrees across, out of a panorama 1920 pixels wide, at a
new gaze each time; the recordings are those that ship, 960 pixels wide. The released code (github.com/kerrj/eyerobot,
`sim/spherical_video.py`) keeps the rays, turns them for every gaze, takes their angles and samples with torch's grid_sample;
that is rebuilt here as its formulas are published, in float32, since CPUs are slow in half. All run in turns in one process, on
one thread; that both ways see the same is checked first.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from agents.cli import guarded
from agents.show import table
from benchmarks import results
from benchmarks.results import Row
from envs.eye import FOVEAL_PYRAMID
from perception.sphere import Foveator, psnr, pyramid_rays

WIDTH, SIDE, SECONDS = 1920, 64, 1.0
REPLAYED, EYES = "envs:Saccade/EyeReplay-EStop-v0", (1, 8, 32)


class Released:
    """Rays turned anew for every gaze, and grid_sample.

    Args:
        rays: (L, R, R, 3), camera frame.
        picture: (W / 2, W, 3).
    """

    def __init__(self, rays: NDArray[np.float64], picture: NDArray[np.uint8]) -> None:
        right, down, ahead = np.moveaxis(rays, -1, 0)
        self._rays = torch.from_numpy(np.stack([ahead, -right, -down], axis=-1)).float()
        self._picture = torch.from_numpy(picture).movedim(-1, 0)[None].float()

    def look(self, gaze: NDArray[Any]) -> NDArray[np.uint8]:
        """What is seen at a gaze (2,), rad. (L, R, R, 3)."""
        (ca, ce), (sa, se) = np.cos(gaze), np.sin(gaze)
        turn = torch.tensor([[ca * ce, -sa, -ca * se], [sa * ce, ca, -sa * se], [se, 0, ce]], dtype=torch.float32)
        x, y, z = (self._rays @ turn.T).unbind(-1)
        # In grid_sample's units with align_corners: -1 and 1 are the middles of the outermost pixels.
        width, height = self._picture.shape[3], self._picture.shape[2]
        u = ((torch.pi - torch.atan2(y, x)) * width / (2 * torch.pi) - 0.5) * 2 / (width - 1) - 1
        v = ((torch.pi / 2 - torch.atan2(z, torch.hypot(x, y))) * height / torch.pi - 0.5) * 2 / (height - 1) - 1
        grid = torch.stack([u, v], dim=-1).flatten(0, 1)[None]
        seen = functional.grid_sample(self._picture, grid, "bilinear", "border", align_corners=True)
        return seen[0].movedim(0, -1).round().to(torch.uint8).reshape(*self._rays.shape).numpy()


def rate(look: Callable[[NDArray[Any]], Any], gazes: NDArray[Any]) -> float:
    """Calls a second, each with the next of `gazes` (K, ...), for at least `SECONDS`."""
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < SECONDS:
        look(gazes[done % len(gazes)])
        done += 1
    return done / (time.perf_counter() - began)


def measure(rounds: int) -> list[Row]:
    """Rates of both ways and of every number of eyes, in turns: medians over rounds between the slowest and the fastest."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    environments = {n: gym.make_vec(REPLAYED, n, vectorization_mode="vector_entry_point", resolution=SIDE) for n in EYES}
    ways = ("saccade", "foveal_obs_per_s"), ("released", "foveal_obs_per_s")
    work = dict(zip(ways, both(), strict=True))
    work |= {(f"saccade/{n}", "env_steps_per_s"): stepping(env) for n, env in environments.items()}
    rates: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for _ in range(rounds):
        for key, one in work.items():
            rates[key].append(one())
    for env in environments.values():
        env.close()
    return [Row(*key, float(np.median(found)), min(found), max(found), rounds) for key, found in rates.items()]


def both() -> tuple[Callable[[], float], Callable[[], float]]:
    """What measures our observations a second, and those of the released way.

    Raises:
        SystemExit: the two see different things.
    """
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (WIDTH // 16, WIDTH // 8, 3), dtype=np.uint8)
    picture = np.asarray(cv2.resize(small, (WIDTH, WIDTH // 2), interpolation=cv2.INTER_LINEAR), np.uint8)
    rays = pyramid_rays(FOVEAL_PYRAMID, SIDE)
    ours, theirs = Foveator(WIDTH, rays), Released(rays, picture)
    gazes = rng.uniform(np.radians([-110, -20]), np.radians([110, 20]), (512, 2))
    alike = min(psnr(ours.look(picture, g), theirs.look(g)) for g in gazes[:8] * [0.5, 1])  # away from the seam
    if alike < 40:
        raise SystemExit(f"the two ways see different things: {alike:.1f} dB")
    return (lambda: rate(lambda g: ours.look(picture, g), gazes)), (lambda: rate(theirs.look, gazes))


def stepping(env: gym.vector.VectorEnv[Any, Any, Any]) -> Callable[[], float]:
    """What measures steps a second, over all eyes of an environment, under random actions; episodes go on from call to call."""
    env.action_space.seed(0)
    env.reset(seed=0)
    actions = np.stack([env.action_space.sample() for _ in range(64)])
    return lambda: env.num_envs * rate(env.step, actions)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eye_speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7, help="timings of each (default: 7)")
    parser.add_argument("--publish", action="store_true", help="write docs/results/eye_speed.json")
    arguments = parser.parse_args(argv)
    rows = measure(arguments.rounds)
    shown = [(r.name, r.metric, r.value, r.low, r.high, r.n) for r in rows]
    table(("", "metric", "median", "slowest", "fastest", "rounds"), shown)
    if arguments.publish:
        results.publish("eye_speed", argv, rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
