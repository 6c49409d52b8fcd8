"""Rewards from demonstrations: what they find, how far they can be trusted, and what an agent reaches with nothing else.

    python -m benchmarks.rewards --cells door/upr,door/upr_gaussian --seeds 0,1,2      makes cells
    python -m benchmarks.rewards --publish      writes docs/results/rewards.json and docs/rewards/, from all rewards' cells

A cell is a reward and a seed; what is there already is not made again.

    door/upr                    steps of 11 videos of an opening door, linear heads
    door/upr_gaussian           the same with Gaussian heads
    door/upr_other_embodiment   Gaussian heads on more and finer features, from 11 videos of a person's arm; used by the Panda
    door/goal_distance, door/progress, door/success    the other rewards that saccade fit learns
    door/similarity             how well the picture fits "The door is wide open." to the tiny dual encoder; saw no video

Videos are the expert's with a little noise, seeds 1 to 11; report cards are of seeds that nobody learned from. True steps are:
the door closed, ajar, and open by more than half, by its angle at 10 and 50 % of the goal's; nothing learned ever sees it.
`policy_success` is of PI2 after 11 iterations of 10 episodes, in 100 episodes of the trajectory that it arrived at, and
`pi2_iterations` those until one first succeeded in 90 %. It begins with one of the Panda's trajectories, demonstrated where the
cabinet stood elsewhere: of those that fail here as they are, the one that succeeds most often with PI2's exploration. The same
with the door's angle as reward is made once a seed, and the choice of the beginning once; both lie beside the cells,
`angle-<seed>.json` and `start.json`, and so do the successes after every iteration, `curve-<seed>.json`.

Cells of further rewards come from other modules of this folder; `OTHERS` names them.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from agents import collect, fit
from agents.cli import guarded
from agents.config import load
from agents.dataset import Demonstrations
from agents.fit import learned_frames, rows, video
from agents.footage import shoot
from agents.make import build, make_env
from agents.pi2 import PI2Learner
from agents.report_page import page
from agents.run import write_json
from agents.show import say, table
from benchmarks import cells, results, reward_cards
from benchmarks.cells import ARCHIVE, archive, asked_for, cell_parser, kept
from benchmarks.results import Row
from benchmarks.reward_oni import counted
from perception.vlm.tiny import TinyDual
from rewards.base import OfFrames, WeightedSum
from rewards.card import Footage, card
from rewards.measures import jaccard, random_jaccard, step_masks
from rewards.segments import labels
from rewards.similarity import GoalSimilarity
from rewards.verifiable import Fraction

MODELS = {
    "door/upr": ("reward_model=steps",),
    "door/upr_gaussian": ("reward_model=steps", "reward_model.head=gaussian"),
    "door/upr_other_embodiment": (
        "reward_model=steps",
        "reward_model.head=gaussian",
        "reward_model.encoder.side=42",
        "reward_model.count=128",
    ),
    "door/goal_distance": ("reward_model=goal_distance",),
    "door/progress": ("reward_model=progress",),
    "door/success": ("reward_model=success",),
}
SIMILAR, OPEN, SHUT = "door/similarity", "The door is wide open.", "The door is shut."
OTHERS = (
    "metaworld/upr", "metaworld/goal_distance", "metaworld/upr_drawer", "preference/tiny_vlm", "preference/scripted",
    "preference/blind", "hack/undefended", "hack/clipped", "hack/defended", "oni/retrieval", "oni/retrieval_zero",
    "oni/novelty", "oni/classifier", "oni/ranking", "oni/sparse", "oni/learner",
    *map(reward_cards.name_of, reward_cards.ROWS),
)  # fmt: skip
PANDA, PERSON = "panda", "human_arm"
VIDEOS, HELD_OUT, FIRST_EPISODE = 11, 20, 1_000_000
STEPS, EVERY, AFTER = 3, 2, 10
ITERATIONS, ROLLOUTS, LENGTH, JUDGED = 11, 10, 120, 100
GOAL = 0.9  # rad, of the door
LEARNER: dict[str, Any] = {"track": "tool"}
ENDS = 2  # figures of a reward that are printed, of its first and of its last ones


@dataclass(frozen=True)
class Bench:
    """Where everything is kept.

    Attributes:
        folder: of demonstrations, rewards and cells.
    """

    folder: Path = Path("outputs/rewards")

    def demonstrations(self, robot: str = PANDA) -> Demonstrations:
        """Of the door, collected where they are missing."""
        name = f"door_{robot}-v0"
        place = self.folder / "datasets" / name
        if not place.is_dir():
            where = [f"folder={self.folder / 'datasets'}", f"name={name}"]
            collect.main(["env=door_open", f"env.robot={robot}", f"n={VIDEOS}", "noise=0.1", "seed=1", *where])
        return Demonstrations(place)

    def reward(self, name: str) -> Path:
        """A learned reward's folder."""
        place = self.folder / name
        if not (place / "reward.json").is_file():
            shown = self.demonstrations(robot(name)).path
            fit.main(["env=door_open", f"env.robot={robot(name)}", *MODELS[name], f"demonstrations={shown}", f"out={place}"])
        return place

    def cell(self, name: str, seed: int) -> dict[str, float]:
        """Everything measured of a reward with a seed."""
        return cells.cell(self.folder, name, seed, lambda: self.measured(name, seed))

    def measured(self, name: str, seed: int) -> dict[str, float]:
        """Report card, steps, and an agent that is paid by it; writes the page of seed 0."""
        reward, view = told() if name == SIMILAR else learned_frames(self.reward(name))
        found = self.judged(name, reward, view, seed)
        if "upr" in name:
            found |= self.steps(name, view, np.random.default_rng(seed))
        by_sight = self.improved(WeightedSum({"learned": OfFrames(reward, view)}), seed, {})
        write_json(self.folder / name / f"curve-{seed}.json", {"policy_success": by_sight})
        by_angle = self.by_angle(seed)
        return found | {
            "policy_success": by_sight[-1], "pi2_iterations": reached(by_sight),
            "policy_success_joint_reward": by_angle[-1], "pi2_iterations_joint_reward": reached(by_angle),
        }  # fmt: skip

    def judged(self, name: str, reward: Any, view: str, seed: int) -> dict[str, float]:
        """The report card, of the Panda's videos."""
        films = held_out(view, seed)
        found = card(reward, films, np.random.default_rng(seed))
        if seed == 0:
            place = self.folder / name
            place.mkdir(parents=True, exist_ok=True)  # a reward that is not learned has no folder yet
            (place / "report.html").write_text(page(name, reward, films, found))
        return found

    def steps(self, name: str, view: str, rng: np.random.Generator) -> dict[str, float]:
        """How the steps that are discovered in the videos overlap with the true ones, beside ordered random ones."""
        model = build(load("fit", ["out=x", "demonstrations=x", *MODELS[name]]).reward_model)
        videos, true = [], []
        env = make_env(load("collect", ["env=door_open", f"env.robot={robot(name)}"]), HELD_OUT, "disabled")
        try:
            for episode in self.demonstrations(robot(name))[:VIDEOS]:
                chosen = rows(episode, EVERY, AFTER)
                videos.append(video(env, episode, view, chosen))
                true.append(np.digitize(episode.state["angle"][chosen] / GOAL, [0.1, 0.5]))
        finally:
            env.close()
        starts = model.fit(videos)
        pairs = [(step_masks(labels(s, len(t)), STEPS), step_masks(t, STEPS)) for s, t in zip(starts, true, strict=True)]
        found = [float(jaccard(a, b)[1]) for a, b in pairs]
        return {
            "jaccard": float(np.mean(found)),
            "jaccard_random": float(np.mean([random_jaccard(b, rng)[1] for _, b in pairs])),
        }

    def by_angle(self, seed: int) -> list[float]:
        """Successes after every iteration with the door's angle as reward."""
        paid = WeightedSum({"open": Fraction("angle", GOAL)})
        made = kept(
            self.folder / "door" / f"angle-{seed}.json",
            lambda: {"policy_success": self.improved(paid, seed, {"observe": ()})},
        )
        return list(made["policy_success"])

    def start(self) -> int:
        """The demonstration with which PI2 begins."""
        return int(kept(self.folder / "door" / "start.json", self.tried)["episode"])

    def tried(self) -> dict[str, Any]:
        """Which demonstration PI2 begins with, and how all of them do here as they are and with its exploration."""
        env = fixed(JUDGED, {"observe": ()})
        try:
            learners = [PI2Learner(env, self.demonstrations(), number, 0, **LEARNER) for number in range(VIDEOS)]
            plain, explored = ([one.try_out(e)["rollout/success_rate"] for one in learners] for e in (False, True))
        finally:
            env.close()
        hopeful = np.where(np.array(plain) < 0.5, explored, -1.0)
        return {"episode": int(np.argmax(hopeful)), "plain": plain, "explored": explored}

    def improved(self, reward: WeightedSum, seed: int, more: dict[str, Any]) -> list[float]:
        """Success of the trajectory after every iteration of PI2."""
        env, judge = fixed(ROLLOUTS, {"reward": reward, **more}), fixed(JUDGED, {"observe": ()})
        try:
            learner = PI2Learner(env, self.demonstrations(), self.start(), seed, **LEARNER)
            judged = PI2Learner(judge, None, seed=FIRST_EPISODE + seed, **LEARNER)
            success = []
            for _ in range(ITERATIONS):
                learner.advance(0)
                judged.load_policy(learner.state())
                success.append(judged.try_out(explore=False)["rollout/success_rate"])
        finally:
            env.close()
            judge.close()
        return success


@lru_cache(maxsize=1)
def held_out(view: str, seed: int) -> dict[str, Footage]:
    """Videos that no reward learned from; all rewards are judged by the same."""
    env = make_env(load("collect", ["env=door_open"]), HELD_OUT, "disabled")
    try:
        first = FIRST_EPISODE + 1000 * seed
        return shoot(env, view, range(first, first + HELD_OUT), EVERY, seed)
    finally:
        env.close()


def told() -> tuple[GoalSimilarity, str]:
    """The reward that is told in words what is wanted, and the picture it is about."""
    return GoalSimilarity(TinyDual(), OPEN, SHUT), "cabinet"


def robot(name: str) -> str:
    """Who is seen in the videos that a reward is learned from."""
    return PERSON if name.endswith("other_embodiment") else PANDA


def reached(success: Sequence[float]) -> float:
    """Iterations until 90 % success; one more than there are if never."""
    return float(next((number for number, rate in enumerate(success, start=1) if rate >= 0.9), len(success) + 1))


def fixed(count: int, more: dict[str, Any]) -> Any:
    """The door where it always stands."""
    return make_env(load("collect", ["env=door_open", "env.spread=0"]), count, "same_step", max_episode_steps=LENGTH, **more)


def gathered(folder: Path) -> list[Row]:
    """Rows of every cell under a folder, and how many seeds of what is counted so.

    Raises:
        InvalidValueError: there is none.
    """
    rows = cells.averaged(folder, (*MODELS, SIMILAR, *OTHERS), "python -m benchmarks.rewards --cells door/upr")
    return [*rows, *counted(rows)]


def short(rows: Sequence[Row]) -> list[tuple[str, int, str]]:
    """A line for every reward: its name, the number of seeds, and the first and the last figures."""
    lines = []
    for name in dict.fromkeys(row.name for row in rows):
        own = [row for row in rows if row.name == name]
        shown = own if len(own) <= 2 * ENDS else own[:ENDS] + own[-ENDS:]
        lines.append((name, max(row.n for row in own), ", ".join(f"{row.metric} {row.value:.3g}" for row in shown)))
    return lines


def publish(folder: Path, argv: Sequence[str] | None, place: Path = ARCHIVE / "rewards") -> None:
    """Write the cells, the results of all published ones beside rows that have none, and the page of every reward."""
    archive(folder, place)
    rows = gathered(place)
    say(f"written: {results.write('rewards', results.command_line('benchmarks.rewards', argv), rows, keep=True)}")
    pages = results.FOLDER.parent / "rewards"
    pages.mkdir(exist_ok=True)
    for name in dict.fromkeys(row.name for row in rows):
        report = folder / name / "report.html"
        if report.is_file():
            (pages / f"{name.removesuffix('/card').replace('/', '_')}.html").write_text(report.read_text())


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = cell_parser("benchmarks.rewards", __doc__)
    parser.add_argument("--publish", action="store_true", help="write docs/results/rewards.json and docs/rewards/")
    arguments = parser.parse_args(argv)
    bench = Bench(arguments.folder)
    for name, seed in asked_for(arguments, (*MODELS, SIMILAR)):
        found = bench.cell(name, seed)
        say(f"{name}, seed {seed}: tau {found['kendall_tau']:.2f}, policy {found['policy_success']:.0%}")
    rows = gathered(arguments.folder)
    table(("reward", "seeds", "figures"), short(rows))
    if arguments.publish:
        publish(arguments.folder, argv)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
