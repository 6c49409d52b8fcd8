"""Rewards from demonstrations in a world that is not the suite's: Meta-World's doors and drawers (arXiv:1910.10897).

    python -m benchmarks.reward_metaworld --seeds 0,1,2

    metaworld/upr              steps of 11 videos of an opening door, linear heads: door-open-v3
    metaworld/upr_drawer       the same of an opening drawer: drawer-open-v3
    metaworld/goal_distance    the door again, by an embedding in which distance is time

Meta-World lives in the peers' environment (`benchmarks.peers`), which is made where it is missing. There its scripted policies
are filmed; `benchmarks.metaworld_worker` says how. What is learned and measured is the suite's own and only sees the videos: a
reward is learned once, from the first 11 of the expert's videos that succeeded. Report cards are as in `benchmarks.rewards`, of
20 videos of each way of acting by seed, from variants that nobody learned from. `expert_success` is the share of the expert's
in which the task was done; the others are measured with them.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf

from agents.cli import guarded
from agents.config import load
from agents.fit import learned_frames
from agents.make import build
from agents.provenance import commit, versions
from agents.report_page import page
from agents.show import say
from assets.errors import InvalidValueError
from benchmarks import cells
from benchmarks.cells import asked_for, cell_parser
from benchmarks.peers import PeerError, default_venv, ensure_venv, missing_library
from rewards import store
from rewards.card import EXPERT, Footage, card

ROWS = {
    "metaworld/upr": ("door-open-v3", "steps"),
    "metaworld/upr_drawer": ("drawer-open-v3", "steps"),
    "metaworld/goal_distance": ("door-open-v3", "goal_distance"),
}
WAYS = (EXPERT, "clumsy", "stopped", "random")
VIDEOS, TRIED, HELD_OUT, FIRST_EPISODE = 11, 20, 20, 1_000_000


def footage(file: Path) -> Footage:
    """Videos that the worker wrote."""
    with np.load(file) as held:
        cuts = np.cumsum(held["length"])[:-1]
        return Footage(np.split(held["frames"], cuts), np.split(held["progress"], cuts), held["success"])


def demonstrations(shot: Footage, count: int = VIDEOS) -> list[np.ndarray]:
    """The first videos that succeeded.

    Raises:
        InvalidValueError: there are fewer.
    """
    found = [video for video, done in zip(shot.frames, shot.success, strict=True) if done]
    if len(found) < count:
        raise InvalidValueError(f"{count} demonstrations are needed, only {len(found)} of {len(shot.frames)} succeeded")
    return found[:count]


@dataclass(frozen=True)
class Bench:
    """Where everything is kept.

    Attributes:
        folder: of videos, rewards and cells.
        venv: the peers' environment.
    """

    folder: Path = Path("outputs/rewards")
    venv: Path | None = None

    def film(self, task: str, way: str, first: int, count: int, seed: int) -> Footage:
        """Videos of a way of acting, made where they are missing.

        Raises:
            PeerError: Meta-World could not be installed, or draws nothing here.
        """
        file = self.folder / "datasets" / "metaworld" / f"{task}-{way}-{first}-{count}-{seed}.npz"
        if not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            python, script = ensure_venv(self.venv or default_venv()), Path(__file__).with_name("metaworld_worker.py")
            command = [str(python), "-P", str(script), task, way, str(first), str(count), str(seed), str(file)]
            surroundings = {"MUJOCO_GL": "egl", **os.environ, "PYTHONPATH": ""}
            done = subprocess.run(command, env=surroundings, capture_output=True, text=True, check=False)
            if done.returncode:
                hint = f" (the system library {found})" if (found := missing_library(done.stderr)) else ""
                raise PeerError(f"Meta-World ended with status {done.returncode}{hint}:\n{done.stderr[-2000:]}")
        return footage(file)

    def reward(self, name: str) -> Path:
        """A learned reward's folder."""
        place = self.folder / name
        if not (place / store.ABOUT).is_file():
            task, model = ROWS[name]
            config = load("fit", ["out=x", "demonstrations=x", f"reward_model={model}"]).reward_model
            reward = build(config)
            reward.fit(demonstrations(self.film(task, EXPERT, 1, TRIED, 0)))
            told = {
                "reward": OmegaConf.to_container(config, resolve=True),
                "view": "corner3",
                "env": {"id": f"Meta-World/{task}"},
            }
            store.save(reward, place, {**told, "commit": commit(), "versions": versions()})
        return place

    def cell(self, name: str, seed: int) -> dict[str, float]:
        """Everything measured of a reward with a seed."""
        return cells.cell(self.folder, name, seed, lambda: self.measured(name, seed))

    def measured(self, name: str, seed: int) -> dict[str, float]:
        """The report card; writes the page of seed 0."""
        reward, _ = learned_frames(self.reward(name))
        task, first = ROWS[name][0], FIRST_EPISODE + 1000 * seed
        shot = {way: self.film(task, way, first, HELD_OUT, seed) for way in WAYS}
        found = card(reward, shot, np.random.default_rng(seed)) | {"expert_success": float(shot[EXPERT].success.mean())}
        if seed == 0:
            (self.folder / name / "report.html").write_text(page(name, reward, shot, found))
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = cell_parser("benchmarks.reward_metaworld", __doc__, ",".join(ROWS))
    parser.add_argument("--venv", type=Path, default=None, help="the peers' environment, made when missing")
    arguments = parser.parse_args(argv)
    bench = Bench(arguments.folder, arguments.venv)
    for name, seed in asked_for(arguments, ROWS):
        found = bench.cell(name, seed)
        say(f"{name}, seed {seed}: tau {found['kendall_tau']:.2f}, success AUROC {found['success_auroc']:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
