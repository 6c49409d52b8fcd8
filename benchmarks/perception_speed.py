"""How fast the models that ship answer, and how fast what was answered is found again.

    python -m benchmarks.perception_speed             prints
    python -m benchmarks.perception_speed --publish   also writes docs/results

Pictures are of 128 pixels a side, in batches of 64. Rates are medians over rounds that take turns, so that a busy moment of the
machine meets all of them.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agents.cli import guarded
from agents.show import table
from benchmarks import results
from benchmarks.results import Row
from perception.vlm.cache import Cache, digest
from perception.vlm.cached import Cached
from perception.vlm.tiny import FOLDER, TinyChat, TinyDual

BATCH, SIDE = 64, 128
_LOOKUPS = 20_000


def rates(work: dict[str, tuple[int, Callable[[], Any]]], rounds: int) -> dict[str, list[float]]:
    """Things per second of each kind of work, one rate a round; every kind is done once before.

    Args:
        work: name -> how many things a call does, the call.
        rounds: how often each is timed.
    """
    for _, call in work.values():
        call()
    out: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds):
        for name, (count, call) in work.items():
            began = time.perf_counter()
            call()
            out[name].append(count / (time.perf_counter() - began))
    return out


def measure(folder: Path, rounds: int, seed: int = 0) -> list[Row]:
    """Every rate as a row: the median over rounds between the fastest and the slowest."""
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (BATCH, SIDE, SIDE, 3), dtype=np.uint8)
    dual, chat = TinyDual(folder / "dual", batch_size=BATCH), TinyChat(folder / "chat", batch_size=BATCH)
    cache = Cache()
    keys = [(name, "the red mug", "tiny") for name in digest(images)]
    for key in keys:
        cache.put(key, "yes")
    remembered = Cached(dual)

    def look_up() -> None:
        for k in range(_LOOKUPS):
            cache.get(keys[k % BATCH])

    work: dict[str, tuple[int, Callable[[], Any]]] = {
        "embed_images_per_s": (BATCH, lambda: dual.embed(images)),
        "ground_images_per_s": (BATCH, lambda: chat.ground(images, ["the red mug"] * BATCH)),
        "cache_lookups_per_s": (_LOOKUPS, look_up),
        "remembered_images_per_s": (BATCH, lambda: remembered.embed(images)),  # type: ignore[attr-defined]
    }
    rows = []
    for name, found in rates(work, rounds).items():
        rows.append(Row("tiny", name, float(np.median(found)), min(found), max(found), len(found), (seed,)))
    for name, kind in (("dual", TinyDual), ("chat", TinyChat)):
        began = time.perf_counter()
        kind(folder / name)
        rows.append(Row("tiny", f"load_{name}_s", time.perf_counter() - began, None, None, 1))
    return rows


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perception_speed", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=Path, default=FOLDER, help="folder with chat and dual (default: what ships)")
    parser.add_argument("--rounds", type=int, default=7, help="timings of each (default: 7)")
    parser.add_argument("--publish", action="store_true", help="write docs/results/perception_speed.json")
    arguments = parser.parse_args(argv)
    rows = measure(arguments.models, arguments.rounds)
    table(("metric", "median", "slowest", "fastest", "rounds"), [(r.metric, r.value, r.low, r.high, r.n) for r in rows])
    if arguments.publish:
        results.publish("perception_speed", argv, rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
