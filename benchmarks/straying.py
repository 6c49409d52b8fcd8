"""How far a hand looks: what it makes of a tool that stands beside its path.

    python -m benchmarks.straying --runs bcrl=outputs/eyerobot/eraser_stand/bcrl-0     what a run's hand keeps
    python -m benchmarks.straying --runs ... --publish              writes docs/results/straying.json

    kept = mean of (p(q + J^+ d u) - p(q - J^+ d u)) . u / 2 d,   d = 4 cm

where p is where the hand means to have the tool at the end of its moves, from what it sees and from the joints q. u is along
the table: "kept_along" away from the eye, "kept_across" at right angles to that. A hand that goes to what it sees keeps nothing
of where its tool stands, one that repeats what it was shown without looking keeps all. Lessons are those of one rollout of
the run's eye in its own recordings, as they are, where all moves are still to come.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from hydra.utils import get_class
from numpy.typing import NDArray

from agents.bcrl import BCRLLearner
from agents.cli import guarded
from agents.evaluate import restored
from agents.memory import Lessons
from agents.run import Run
from agents.seen import Seen
from agents.show import table
from agents.statistics import bootstrap
from assets.errors import InvalidValueError
from benchmarks import results
from benchmarks.results import Row

DISPLACED = 0.04  # m
EYES = 32
# Lessons of one minibatch.
_PART = 256


def measure(name: str, run: Run) -> list[Row]:
    """What a run's hand keeps of a tool's displacement, along the line from the eye and across it."""
    config = run.config.copy()
    if not issubclass(get_class(str(config.agent["_target_"])), BCRLLearner):
        raise InvalidValueError(f"{run.folder} is no run of agent=bcrl")
    config.num_envs = EYES
    config.agent.minibatches, config.agent.augment, config.agent.blind, config.agent.keep = 1, 0.0, 0.0, 0.0
    learner, _ = restored(run, config)
    lessons = Lessons.of(learner.rollout())
    whole = lessons[lessons.valid.all(dim=1).nonzero()[:, 0]]
    parts = torch.arange(len(whole)).split(_PART)
    found = np.concatenate([kept_by(learner, whole[part].seen) for part in parts])
    out = []
    for metric, values in zip(("kept_along", "kept_across"), found.T, strict=True):
        out.append(Row(name, metric, float(values.mean()), *bootstrap(values.tolist()), len(values), (int(config.seed),)))
    return out


@torch.no_grad()
def kept_by(learner: BCRLLearner, seen: Seen) -> NDArray[np.float64]:
    """What is kept of a displacement in each of the lessons, along and across. (B, 2)."""
    inner = learner._inner
    joints = learner.scales.angles(seen.felt).double().cpu().numpy()
    tool = inner.tool(joints)
    away = tool[:, :2] - (0 if learner._eye_at is None else learner._eye_at[:2])
    along = away / np.linalg.norm(away, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    out = []
    for direction in (along, across):
        by = DISPLACED * np.concatenate([direction, np.zeros((len(along), 1))], axis=1)
        ends = [_end(learner, seen, inner.displaced(joints, sign * by))[:, :2] for sign in (1, -1)]
        out.append(((ends[0] - ends[1]) * direction).sum(axis=1) / (2 * DISPLACED))
    return np.stack(out, axis=1)


def _end(learner: BCRLLearner, seen: Seen, joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where the hand means to have the tool at last, (B, 3) m, if the arm stood at other angles (B, dof) rad."""
    scales, there = learner.scales, seen[torch.arange(len(joints))]
    scales.turn(there.felt, torch.from_numpy(joints).float() - scales.angles(there.felt))
    there.tool[:] = learner._tool(joints)
    moved = scales.joints(learner.hand(there))[:, -1].double().numpy()
    found: NDArray[np.float64] = learner._inner.tool(joints + moved)
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.straying", description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--runs", nargs="+", required=True, metavar="NAME=FOLDER", help="runs of agent=bcrl, by the rows' names"
    )
    parser.add_argument("--publish", action="store_true", help="write docs/results/straying.json")
    arguments = parser.parse_args(argv)
    rows: list[Row] = []
    for given in arguments.runs:
        name, equals, folder = given.partition("=")
        if not equals:
            raise InvalidValueError(f"--runs needs NAME=FOLDER, got {given!r}")
        rows += measure(name, Run.open(Path(folder)))
    table(("", "metric", "value", "low", "high", "n"), [(r.name, r.metric, r.value, r.low, r.high, r.n) for r in rows])
    if arguments.publish:
        results.publish("straying", argv, rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
