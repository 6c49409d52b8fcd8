"""Rewards from demonstrations: what they find, how far they can be trusted, and what an agent reaches with nothing else.

    python -m benchmarks.rewards --cells door/upr,door/upr_gaussian --seeds 0      makes cells
    python -m benchmarks.rewards --publish                    writes docs/results/rewards.json and docs/rewards/, from all cells

A cell is a reward and a seed; what is there already is not made again.

    door/upr               steps of 11 videos of an opening door, linear heads
    door/upr_gaussian      the same with Gaussian heads
    door/goal_distance, door/progress, door/success    the other rewards that saccade fit learns

Videos are the expert's with a little noise, seeds 1 to 11; report cards are of seeds that nobody learned from. True steps are:
the door closed, ajar, and open by more than half, by its angle at 10 and 50 % of the goal's; nothing learned ever sees it.
`policy_success` is of PI2 after 11 iterations of 10 episodes, in 100 episodes of the trajectory that it arrived at. It begins
with the one of the videos' trajectories that, with PI2's exploration, succeeds most nearly in a tenth of the episodes where the
cabinet now stands.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents import collect, fit
from agents.config import load
from agents.dataset import Demonstrations
from agents.fit import learned_frames, rows, video
from agents.footage import shoot
from agents.make import build, make_env
from agents.pi2 import PI2Learner
from agents.report_page import page
from agents.show import say, table
from assets.errors import InvalidValueError
from benchmarks import results
from benchmarks.results import Row, chosen, kept
from rewards.base import OfFrames, WeightedSum
from rewards.card import card
from rewards.measures import jaccard, random_jaccard, step_masks
from rewards.segments import labels
from rewards.verifiable import Fraction

MODELS = {
    "door/upr": ("reward_model=steps",),
    "door/upr_gaussian": ("reward_model=steps", "reward_model.head=gaussian"),
    "door/goal_distance": ("reward_model=goal_distance",),
    "door/progress": ("reward_model=progress",),
    "door/success": ("reward_model=success",),
}
VIDEOS, HELD_OUT, FIRST_EPISODE = 11, 20, 1_000_000
STEPS, EVERY, AFTER = 3, 2, 10
ITERATIONS, ROLLOUTS, LENGTH, JUDGED = 11, 10, 120, 100
GOAL = 0.9  # rad, of the door
EXPLORATION: dict[str, Any] = {"noise": 0.15, "smooth": 0.9}


@dataclass(frozen=True)
class Bench:
    """Where everything is kept.

    Attributes:
        folder: of demonstrations, rewards and cells.
    """

    folder: Path = Path("outputs/rewards")

    def demonstrations(self) -> Demonstrations:
        """Of the door, collected where they are missing."""
        place = self.folder / "datasets" / "door-v0"
        if not place.is_dir():
            collect.main(
                ["env=door_open", f"n={VIDEOS}", "noise=0.1", "seed=1", f"folder={self.folder / 'datasets'}", "name=door-v0"]
            )
        return Demonstrations(place)

    def reward(self, name: str) -> Path:
        """A learned reward's folder."""
        place = self.folder / name
        if not (place / "reward.json").is_file():
            fit.main(["env=door_open", *MODELS[name], f"demonstrations={self.demonstrations().path}", f"out={place}"])
        return place

    def cell(self, name: str, seed: int) -> dict[str, float]:
        """Everything measured of a reward with a seed."""
        return kept(self.folder / name / f"cell-{seed}.json", lambda: self.measured(name, seed))

    def measured(self, name: str, seed: int) -> dict[str, float]:
        """Report card, steps, and an agent that is paid by it; writes the page of seed 0."""
        reward, view = learned_frames(self.reward(name))
        env = make_env(load("collect", ["env=door_open"]), HELD_OUT, "disabled")
        try:
            first = FIRST_EPISODE + 1000 * seed
            footage = shoot(env, view, range(first, first + HELD_OUT), EVERY, seed)
            found = card(reward, footage, np.random.default_rng(seed))
            if seed == 0:
                (self.folder / name / "report.html").write_text(page(name, reward, footage, found))
            found |= self.steps(env, view, np.random.default_rng(seed)) if "upr" in name else {}
        finally:
            env.close()
        return found | self.agent(WeightedSum({"learned": OfFrames(reward, view)}), seed)

    def steps(self, env: Any, view: str, rng: np.random.Generator) -> dict[str, float]:
        """How discovered steps overlap with the true ones, beside ordered random ones."""
        model = build(load("fit", ["out=x", "demonstrations=x", "reward_model=steps"]).reward_model)
        videos, true = [], []
        for episode in self.demonstrations()[:VIDEOS]:
            chosen = rows(episode, EVERY, AFTER)
            videos.append(video(env, episode, view, chosen))
            true.append(np.digitize(episode.state["angle"][chosen] / GOAL, [0.1, 0.5]))
        starts = model.fit(videos)
        pairs = [(step_masks(labels(s, len(t)), STEPS), step_masks(t, STEPS)) for s, t in zip(starts, true, strict=True)]
        found = [float(jaccard(a, b)[1]) for a, b in pairs]
        return {
            "jaccard": float(np.mean(found)),
            "jaccard_random": float(np.mean([random_jaccard(b, rng)[1] for _, b in pairs])),
        }

    def agent(self, reward: WeightedSum, seed: int) -> dict[str, float]:
        """What PI2 reaches with a reward, and with the door's angle."""
        start = self.start()
        by_sight, iterations = self.improved(reward, start, seed, {})
        by_angle, truth = self.improved(WeightedSum({"open": Fraction("angle", GOAL)}), start, seed, {"observe": ()})
        return {
            "policy_success": by_sight, "pi2_iterations": iterations,
            "policy_success_joint_reward": by_angle, "pi2_iterations_joint_reward": truth,
        }  # fmt: skip

    def start(self) -> int:
        """The demonstration with which PI2 begins."""
        demonstrations = self.demonstrations()
        env = fixed(40, {"observe": ()})
        try:
            learners = [PI2Learner(env, demonstrations, number, 0, **EXPLORATION) for number in range(VIDEOS)]
            rates = [learner.try_out()["rollout/success_rate"] for learner in learners]
        finally:
            env.close()
        return int(np.argmin(np.abs(np.array(rates) - 0.1)))

    def improved(self, reward: WeightedSum, start: int, seed: int, more: dict[str, Any]) -> tuple[float, float]:
        """Success of the last trajectory, and iterations until one first reached 90 %; one more than there are if never."""
        env, judge = fixed(ROLLOUTS, {"reward": reward, **more}), fixed(JUDGED, {"observe": ()})
        try:
            learner = PI2Learner(env, self.demonstrations(), start, seed, **EXPLORATION)
            judged = PI2Learner(judge, None, seed=FIRST_EPISODE + seed)
            success = []
            for _ in range(ITERATIONS):
                learner.advance(0)
                judged.load_policy(learner.state())
                success.append(judged.try_out(explore=False)["rollout/success_rate"])
        finally:
            env.close()
            judge.close()
        reached = [number for number, rate in enumerate(success, start=1) if rate >= 0.9]
        return success[-1], float(reached[0] if reached else ITERATIONS + 1)


def fixed(count: int, more: dict[str, Any]) -> Any:
    """The door where it always stands."""
    return make_env(load("collect", ["env=door_open", "env.spread=0"]), count, "same_step", max_episode_steps=LENGTH, **more)


def gathered(folder: Path) -> list[Row]:
    """Rows of every cell under a folder: means over seeds, from the lowest to the highest.

    Raises:
        InvalidValueError: there is none.
    """
    out: list[Row] = []
    for name in MODELS:
        files = sorted((folder / name).glob("cell-*.json"), key=lambda f: int(f.stem.split("-")[1]))
        seeds = tuple(int(f.stem.split("-")[1]) for f in files)
        cells = [json.loads(f.read_text()) for f in files]
        for key in cells[0] if cells else ():
            values: NDArray[np.float64] = np.array([cell[key] for cell in cells])
            out.append(Row(name, key, float(values.mean()), float(values.min()), float(values.max()), len(values), seeds))
    if not out:
        raise InvalidValueError(f"{folder} has no cells yet: run python -m benchmarks.rewards --cells door/upr first")
    return out


def publish(folder: Path, argv: Sequence[str] | None, rows: list[Row]) -> None:
    """Write the results, and beside the documentation the page of every reward."""
    place = results.FOLDER.parent / "rewards"
    for name in dict.fromkeys(row.name for row in rows):
        if (folder / name / "report.html").is_file():
            place.mkdir(exist_ok=True)
            (place / f"{name.replace('/', '_')}.html").write_text((folder / name / "report.html").read_text())
    say(f"written: {results.write('rewards', results.command_line('benchmarks.rewards', argv), rows)}")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rewards", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cells", default="", help=f"with commas: {', '.join(MODELS)}")
    parser.add_argument("--seeds", default="0", help="with commas")
    parser.add_argument("--folder", type=Path, default=Bench.folder)
    parser.add_argument("--publish", action="store_true", help="write docs/results/rewards.json and docs/rewards/")
    arguments = parser.parse_args(argv)
    bench = Bench(arguments.folder)
    for name in chosen(arguments.cells, MODELS, "cell"):
        for seed in map(int, arguments.seeds.split(",")):
            found = bench.cell(name, seed)
            say(f"{name}, seed {seed}: tau {found['kendall_tau']:.2f}, policy {found['policy_success']:.0%}")
    rows = gathered(arguments.folder)
    shown = [r for r in rows if r.metric in ("voc", "kendall_tau", "success_auroc", "jaccard", "policy_success")]
    table(("", "metric", "value", "low", "high"), [(r.name, r.metric, r.value, r.low, r.high) for r in shown])
    if arguments.publish:
        publish(arguments.folder, argv, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
