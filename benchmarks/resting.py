"""What a searching eye comes to rest on, told what the task is: the thing itself, another one of its colour, or nothing.

    python -m benchmarks.resting                                    the eye that ships, in all five panoramic tasks
    python -m benchmarks.resting --episodes 192 --publish           also writes docs/results/resting.json

The eye acts greedily for four seconds in the task itself, and the arm stands still. It rests on what is nearest to its gaze
then, within 10 degrees. "found" is the share of episodes in which that is what the task begins with, "same_colour" in which it
is another thing of that colour; "found_beside" and "found_alone" are "found" among episodes with and without such another
thing. A task all of whose things differ in colour has neither "same_colour" nor "found_beside".
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents import shipped
from agents.cli import guarded
from agents.config import load
from agents.evaluate import restored
from agents.gaze import ON_TARGET
from agents.make import make_env
from agents.run import Run
from agents.show import table
from agents.statistics import wilson
from assets.errors import InvalidValueError
from benchmarks import results
from benchmarks.cells import chosen
from benchmarks.eyerobot import FIRST_EPISODE, TASKS
from benchmarks.results import Row
from envs.eye import angle_between
from perception.text import COLOURS, words

SECONDS = 4.0
EYE = "eyerobot/search"
# Simulations of a batch.
BATCH = 96


def measure(task: str, eye: str, episodes: int) -> list[Row]:
    """What a shipped eye rests on in a task."""
    found, beside, alike = (np.concatenate(parts) for parts in zip(*batches(task, eye, episodes), strict=True))
    shares = {"found": found, "found_alone": found[~beside]}
    if beside.any():
        shares |= {"found_beside": found[beside], "same_colour": alike}
    out = []
    for metric, outcomes in shares.items():
        low, high = wilson(int(outcomes.sum()), len(outcomes))
        out.append(Row(task, metric, float(outcomes.mean()), low, high, len(outcomes), (0,)))
    return out


def batches(task: str, eye: str, episodes: int) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Of episodes, in batches: whether the eye rests on the thing, whether another has its colour, whether it rests on that."""
    run = Run.open(shipped.start(eye))
    config = run.config.copy()
    config.num_envs, config.agent.minibatches = 1, 1
    acting = load("evaluate", [f"env={task}", "policy=oracle", "env.control=joint"])
    for key in ("resolution", "fovs", "projection"):
        acting.env[key] = config.env[key]
    learner, _ = restored(run, config)
    out = []
    for first in range(0, episodes, BATCH):
        count = min(BATCH, episodes - first)
        env = make_env(acting, count, "disabled")
        try:
            out.append(rested(env, learner, FIRST_EPISODE + first))
        finally:
            env.close()
    return out


def rested(env: Any, eye: Any, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """See `batches`; episodes begin with `seed`, one for each simulation."""
    count, inner = env.num_envs, env.unwrapped
    obs, info = env.reset(seed=[seed + i for i in range(count)])
    action = np.zeros((count, env.single_action_space.shape[0]), np.float32)
    action[:, -1] = 1  # the gripper stays open
    eye.reset()
    for _ in range(round(SECONDS / inner.task.control_dt)):
        action[:, :2] = eye.act(obs, deterministic=True)
        obs, _, _, _, info = env.step(action)
    sights, target = inner.sights(), info["state"]["target_direction"]
    phrases = list(sights)
    apart = np.stack([angle_between(obs["gaze"], at) for at in sights.values()], axis=1)  # NaN of what is not there
    wanted = np.stack([angle_between(target, at) for at in sights.values()], axis=1)
    there = np.isfinite(apart)
    rows, thing, nearest = np.arange(count), np.nanargmin(wanted, axis=1), np.nanargmin(apart, axis=1)
    resting = apart[rows, nearest] < ON_TARGET
    named = np.array([colour_of(phrase) for phrase in phrases])
    alike = (named == named[thing, None]) & (named[thing, None] != "") & (np.arange(len(phrases)) != thing[:, None])
    return resting & (nearest == thing), (alike & there).any(axis=1), resting & alike[rows, nearest]


def colour_of(phrase: str) -> str:
    """The colour that a phrase names first; "" where it names none."""
    return next((word for word in words(phrase) if word in COLOURS), "")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.resting", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--eye", default=EYE, help=f"an eye that ships (default: {EYE})")
    parser.add_argument("--tasks", default=",".join(TASKS), help=f"with commas (default: {','.join(TASKS)})")
    parser.add_argument("--episodes", type=int, default=96, help="of each task (default: 96)")
    parser.add_argument("--publish", action="store_true", help="write docs/results/resting.json")
    arguments = parser.parse_args(argv)
    if arguments.episodes < 1:
        raise InvalidValueError(f"--episodes must be >= 1, got {arguments.episodes}")
    tasks = chosen(arguments.tasks, TASKS, "task")
    rows = [row for task in tasks for row in measure(task, arguments.eye, arguments.episodes)]
    table(("", "metric", "value", "low", "high", "n"), [(r.name, r.metric, r.value, r.low, r.high, r.n) for r in rows])
    if arguments.publish:
        results.publish("resting", argv, rows)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
