"""Sparse pick-and-place with a judge's opinions: three designs of ONI (arXiv:2410.23022) beside the sparse reward alone.

    python -m benchmarks.reward_oni --cells oni/retrieval,oni/sparse --seeds 0,1,2,3,4

A cell is a row and a seed; what is there already is not made again.

    oni/retrieval       a table of which captions are helpful; a caption without a label is paid as if it were
    oni/retrieval_zero  the table as the paper has it: a caption without a label is worth 0
    oni/novelty         nobody is asked: every caption is paid as if it were helpful
    oni/classifier      a network that generalises from them, eta = 0.5
    oni/ranking         Bradley and Terry's scale of which of two captions is the better one
    oni/sparse          the task's reward alone: 1 in every step in which the cube is placed
    oni/learner         the learner's speed with a judge that takes 2 s for a batch, as a share of that without a judge

All but the last train the same PPO for as many steps in Saccade/PlaceCube-v0, cube and block where they stand without spread,
the hand at first 6 cm from the cube. All but `oni/sparse` add what captions are worth, less what comes again in an episode, to
the sparse reward. The judge reads captions and nothing else. It knows which words are nearer to the end, and is wrong about a
fifth of all questions, always about the same. Captions say what a picture shows, and a test compares them with what the task's
camera sees; but they are made from the state, for describing every step by a model would take a GPU.

`reached`, `lifted`, `over` and `placed` are shares of 50 episodes after training that come so far at any time, actions drawn
from the policy; `placed_greedy` is of its means. `last_stage` is 1 where `placed` is at least a half, and
`seeds_reaching_last_stage` their number. `first_placed` is the step of the first success in training, or all steps where there
was none. `labels` are the questions that were answered, `labels_wrong` how many of them wrongly, as a share. Labels come when
they come, so that a training is not repeated to the last bit. `speed_ratio` compares wall-clock times of two learners that take
the same steps, paid by the sparse reward alone, and is the lowest of three designs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray

from agents import checkpoint
from agents.cli import guarded
from agents.rollout import Record, rollout
from agents.run import write_json
from agents.sb3 import SB3Learner
from agents.show import say, table
from assets.errors import InvalidValueError
from benchmarks import cells
from benchmarks.cells import asked_for, averaged, cell_parser
from benchmarks.oni_captions import CaptionJudge, captions
from benchmarks.results import Row
from envs.env import BatchEnv
from envs.task import Task, box
from envs.tasks.arm.place import PlaceCube
from perception.text import EMBEDDING_SIZE
from rewards.annotation import AsyncAnnotator, unpack_labels
from rewards.base import Transition, WeightedSum
from rewards.captioned import CaptionReward
from rewards.distillation import Distillation
from rewards.intrinsic import ClassifierReward, IntrinsicReward, RankingReward, RetrievalReward

# The hand 6 cm from the cube, tool at (0.50, 0.08, 0.08) m, where the task begins 16 cm from it: grasping is what is hard.
NEARBY = (0.091, 0.337, 0.062, -2.372, -0.049, 2.707, 0.978)
STAGES = ("reached", "lifted", "over", "placed")
SLOW, FIRST_EPISODE = 2.0, 1_000_000

NETWORK: dict[str, Any] = {"hidden": (64, 64), "lr": 1e-3, "batch_size": 64}
DESIGNS: dict[str, Callable[[int], IntrinsicReward] | None] = {
    "oni/retrieval": lambda seed: RetrievalReward(unknown=1.0),
    "oni/retrieval_zero": lambda seed: RetrievalReward(),
    "oni/novelty": lambda seed: RetrievalReward(unknown=1.0),
    "oni/classifier": lambda seed: ClassifierReward(EMBEDDING_SIZE, eta=0.5, how=Distillation(seed=seed, **NETWORK)),
    "oni/ranking": lambda seed: RankingReward(EMBEDDING_SIZE, threshold=-0.5, how=Distillation(seed=seed, **NETWORK)),
    "oni/sparse": None,
}
UNASKED = ("oni/novelty", "oni/sparse")
TIMED = ("oni/retrieval", "oni/classifier", "oni/ranking")
ROWS = (*DESIGNS, "oni/learner")


@dataclass
class Low(PlaceCube):
    """The task for an agent that is told where everything is.

    Observation: "low" (11,): from tool to cube, 5 cm; from cube to its place and from the table's middle to the tool, dm; the
    gripper's opening; whether it holds the cube.
    """

    def state(self, physics: Any) -> dict[str, NDArray[Any]]:
        """As ever, and what the agent is told."""
        state = super().state(physics)
        way, rest = state["cube"] - state["tool"], state["goal"] - state["cube"]
        place = state["tool"] - [0.5, 0, 0.1]
        parts = 20 * way, 10 * rest, 10 * place, 4 * state["opening"] - 3, state["held"][:, None]
        state["low"] = np.concatenate(parts, axis=1)
        return state

    def proprio(self) -> dict[str, spaces.Box]:
        """What the agent is told."""
        return {"low": box(11)}


class Placed:
    """The sparse reward: 1 in every step in which the cube is placed. It keeps how far episodes came, for the report.

    Attributes:
        ended: the stage, 0 to 4, of every episode that ended.
        first: the step, summed over simulations, of the first success; None before.
    """

    def __init__(self, task: Task) -> None:
        self._task, self._stage, self._steps = task, np.zeros(0), 0
        self.ended: list[int] = []
        self.first: int | None = None

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,)."""
        done = self._task.success(batch.state)
        self._stage = (4 * batch.quantity("progress")).round().astype(int)
        self._steps += len(done)
        if self.first is None and done.any():
            self.first = self._steps
        return done.astype(np.float32)

    def reset(self, ids: NDArray[np.intp]) -> None:
        """Episodes ended in some simulations, if any had begun."""
        if len(self._stage):
            self.ended += self._stage[ids].tolist()


@dataclass(frozen=True)
class Training:
    """How long and how wide; the same for all rows.

    Attributes:
        steps: environment steps, summed over simulations.
        sims: simulations in one batch.
        length: time limit of an episode, control steps.
        opinion: weight of the judge's opinion beside the sparse reward.
        episodes: after training.
        piece: steps between two points of a curve.
        rounds, round: comparisons of speed, and the steps of each.
    """

    steps: int = 80_000
    sims: int = 32
    length: int = 24
    opinion: float = 0.2
    episodes: int = 50
    piece: int = 4000
    rounds: int = 11
    round: int = 2048

    def env(self, sims: int, reward: WeightedSum | None = None, observe: tuple[str, ...] = ()) -> Any:
        """The task, cube and block where they always stand; drawn where something is observed."""
        mode = "same_step" if reward else "disabled"
        told = {"observe": observe, "num_threads": 1, "max_episode_steps": self.length, "reward": reward}
        return BatchEnv(Low(spread=0.0, posture=NEARBY), sims, autoreset_mode=mode, **told)

    def learner(self, reward: WeightedSum, seed: int) -> SB3Learner:
        """PPO, paid by a reward."""
        return SB3Learner(
            self.env(self.sims, reward), "ppo", seed=seed, device="cpu", threads=1, learning_rate=1.5e-3, n_steps=32,
            batch_size=256, n_epochs=10, gamma=0.95, gae_lambda=0.95, target_kl=0.05,
            policy={"net_arch": [64, 64], "log_std_init": -0.5},
        )  # fmt: skip

    def trained(self, name: str, seed: int) -> tuple[dict[str, float], dict[str, list[float]], IntrinsicReward | None]:
        """Figures and curve of one training, and what its design has learned by then."""
        sparse = Placed(Low())
        judge = CaptionJudge(seed)
        with asked(name, judge) as annotator:
            design = designed(name, seed)
            learner = self.learner(paid(design, seed, sparse, annotator, self.opinion), seed)
            try:
                curve = self.curve(learner, sparse)
                found = self.judged(learner, seed)
            finally:
                learner.model.get_env().close()
        told = judge.heard(list(unpack_labels(annotator.state_dict()))) if annotator else {}
        return found | {"first_placed": float(sparse.first or learner.steps)} | told, curve, design

    def curve(self, learner: SB3Learner, sparse: Placed) -> dict[str, Any]:
        """Train; the shares of episodes that came to each stage, piece by piece."""
        rows: dict[str, list[float]] = {"steps": [], **{stage: [] for stage in STAGES}}
        for until in range(self.piece, self.steps + 1, self.piece):
            before = len(sparse.ended)
            learner.advance(until - learner.steps)
            rows["steps"].append(learner.steps)
            for stage, share in shares(sparse.ended[before:]).items():
                rows[stage].append(share)
        return rows

    def judged(self, learner: SB3Learner, seed: int) -> dict[str, float]:
        """How far episodes come after training, by drawn actions and by the policy's means."""
        env = self.env(self.episodes)
        seeds = range(FIRST_EPISODE + 1000 * seed, FIRST_EPISODE + 1000 * seed + self.episodes)
        try:
            tried = [rollout(env, learner, seeds, deterministic=mode, record=Record(False)) for mode in (False, True)]
        finally:
            env.close()
        drawn, greedy = (shares([round(4 * e.state["progress"][-1]) for e in episodes]) for episodes in tried)
        return drawn | {"placed_greedy": greedy["placed"], "last_stage": float(drawn["placed"] >= 0.5)}

    def speeds(self, seed: int) -> dict[str, float]:
        """Steps per second with a judge that sleeps, as a share of those without any, of every design and the least of them."""
        found = {f"speed_ratio_{name.removeprefix('oni/')}": self.ratio(name, seed) for name in TIMED}
        return {"speed_ratio": min(found.values()), **found}

    def ratio(self, name: str, seed: int) -> float:
        """The median over rounds, in which a learner with a judge and one without go on in turns, step for step the same.

        Both describe every step, and one also asks, learns from the answers and says what captions are worth; but neither is
        paid by it, for who is paid by something else does something else, which takes the simulator another time.
        """
        with asked(name, CaptionJudge(seed, latency=SLOW), batch_size=5) as annotator:
            learners = [self.learner(paid(designed(name, seed), seed, Placed(Low()), a, 0.0), seed) for a in (None, annotator)]
            try:
                rounds = [in_turn(learners, self.round, number % 2) for number in range(self.rounds + 1)]
            finally:
                for learner in learners:
                    learner.model.get_env().close()
            if not annotator or not annotator.batches:
                raise InvalidValueError(f"no judge was heard in {self.rounds} rounds of {self.round} steps: take more")
        alone, judged = np.array(rounds[1:]).T  # the first warms up
        return float(np.median(judged / alone))


def in_turn(learners: Sequence[SB3Learner], steps: int, first: int) -> list[float]:
    """Steps per second of two learners, who draw the same random numbers; `first` is the one who begins, 0 or 1."""
    random, speeds = checkpoint.random_state(), [0.0, 0.0]
    for number in (first, 1 - first):
        checkpoint.set_random_state(random)
        speeds[number] = learners[number].advance(steps)["time/fps"]
    return speeds


def asked(name: str, judge: CaptionJudge, **options: Any) -> AbstractContextManager[AsyncAnnotator | None]:
    """An annotator that asks a judge what a design wants to know; None where nobody is asked."""
    if name in UNASKED:
        return nullcontext()
    return AsyncAnnotator(judge.prefer if name == "oni/ranking" else judge.label, **options)


def designed(name: str, seed: int) -> IntrinsicReward | None:
    """A row's way of turning labels into rewards, untaught; None for the sparse reward alone."""
    design = DESIGNS[name]
    return design(seed) if design else None


def paid(
    design: IntrinsicReward | None, seed: int, sparse: Placed, annotator: AsyncAnnotator | None, weight: float
) -> WeightedSum:
    """The sparse reward, and beside it what a design makes of opinions."""
    if design is None:
        return WeightedSum({"placed": sparse})
    opinion = CaptionReward(captions, design, annotator, seed=seed)
    return WeightedSum({"placed": sparse, "opinion": opinion}, {"opinion": weight})


def shares(stages: Sequence[int]) -> dict[str, float]:
    """Shares of episodes that came to each stage; 0 where there are none."""
    reached = np.array(stages)
    return {stage: float(np.mean(reached >= k)) if len(reached) else 0.0 for k, stage in enumerate(STAGES, start=1)}


# -- cells -------------------------------------------------------------------------------------------------------------


def cell(folder: Path, name: str, seed: int, training: Training) -> dict[str, float]:
    """All figures of a row and a seed; made where they are missing."""

    def make() -> dict[str, float]:
        if name == "oni/learner":
            return training.speeds(seed)
        found, curve, _ = training.trained(name, seed)
        write_json(folder / name / f"curve-{seed}.json", curve)
        return found

    return cells.cell(folder, name, seed, make)


def counted(rows: Sequence[Row]) -> list[Row]:
    """How many seeds came to the last stage, and of how many, for rows that say so."""
    out = []
    for row in rows:
        if row.metric == "last_stage":
            for metric, count in (("seeds_reaching_last_stage", float(round(row.value * row.n))), ("seeds", float(row.n))):
                out.append(Row(row.name, metric, count, count, count, row.n, row.seeds))
    return out


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    arguments = cell_parser("benchmarks.reward_oni", __doc__).parse_args(argv)
    torch.set_num_threads(1)
    for name, seed in asked_for(arguments, ROWS):
        found = cell(arguments.folder, name, seed, Training())
        say(f"{name}, seed {seed}: {', '.join(f'{key} {value:.2f}' for key, value in found.items())}")
    rows = averaged(arguments.folder, ROWS, "python -m benchmarks.reward_oni --cells oni/sparse")
    rows += counted(rows)
    table(("", "metric", "value", "low", "high"), [(r.name, r.metric, r.value, r.low, r.high) for r in rows])
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
