"""The demo: train a gaze agent on pixels, evaluate it beside random and oracle gaze, film it.

    python -m benchmarks.gaze_demo                     what `make demo` runs
    python -m benchmarks.gaze_demo --publish           also writes docs/results/gaze_demo.json

A finished run in the folder is evaluated and filmed again without training; an interrupted one is resumed.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents import checkpoint, evaluate, replay, train
from agents.cli import guarded
from agents.run import Run
from agents.show import say
from benchmarks import results
from benchmarks.results import Row

EXPERIMENT = "gaze_demo"
FIRST_SEED, EPISODES = 1_000_000, 200


def trained(folder: Path, seed: int) -> Run:
    """The demo's run: new, resumed, or already there."""
    if not (folder / "config.yaml").is_file():
        return train.main([f"experiment={EXPERIMENT}", f"seed={seed}", f"run={folder}"])
    run = Run.open(folder)
    done = int(checkpoint.names(run.checkpoints)[-1]) if checkpoint.names(run.checkpoints) else 0
    if done >= run.config.steps:
        say(f"already trained: {folder} (delete it to train again)")
        return run
    if done == 0:
        say(f"{folder} holds a run that never reached a checkpoint: starting again")
        shutil.rmtree(folder)
        return trained(folder, seed)
    return train.main([f"resume={folder}"])


def rows(result: dict[str, Any]) -> list[Row]:
    """Success rates with Wilson intervals, and times, as rows."""
    seeds = tuple(result["seeds"])
    found = []
    for score in result["scores"]:
        name, n = score["name"].replace(" (sampled)", "/sampled"), score["n"]
        found.append(Row(name, "success_rate", score["success_rate"], score["success_low"], score["success_high"], n, seeds))
        if score["seconds_to_success"] is not None:
            found.append(Row(name, "seconds_to_success", score["seconds_to_success"], None, None, 1, seeds))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Train, evaluate, film, report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gaze_demo", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, default=Path("outputs/demo"), help="run folder (default: outputs/demo)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--publish", action="store_true", help="write docs/results/gaze_demo.json")
    arguments = parser.parse_args(argv)
    run = trained(arguments.run, arguments.seed)
    minutes = run.metrics()[-1]["seconds"] / 60
    say(f"trained for {minutes:.1f} minutes")
    for made in ("evaluation.json", "replay.mp4"):  # by an earlier call, of the same run on the same seeds
        (run.folder / made).unlink(missing_ok=True)
    result = evaluate.main([f"run={run.folder}", f"episodes={EPISODES}", f"seed={FIRST_SEED}", "sampled=true"])
    video = replay.main([f"run={run.folder}", "episodes=4", f"seed={FIRST_SEED}"])
    command = results.command_line("benchmarks.gaze_demo", argv)
    measured = [*rows(result), Row("ppo", "training_minutes", minutes, None, None, 1, (arguments.seed,))]
    folder = results.FOLDER if arguments.publish else run.folder
    written = results.write("gaze_demo", command, measured, folder=folder)
    found = {"run": run.folder, "video": video, "results": written, "next": f"saccade replay {run.folder} camera=top"}
    print("\n".join(f"{name:<9} {value}" for name, value in found.items()))
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
