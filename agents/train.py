"""`saccade train`: from a configuration to a run folder, stoppable and resumable at any checkpoint.

saccade train env=eye_search agent=ppo steps=200000
saccade train resume=outputs/2026-01-31/12-00-00_eye_search_ppo steps=400000

Under torchrun the first process alone makes the folder and writes into it; all of them train.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf
from torch.utils.tensorboard import SummaryWriter

from agents import checkpoint
from agents import run as runs
from agents.claim import claimed
from agents.config import amend, load, require
from agents.make import make_env, make_learner
from agents.parallel import Group
from agents.run import Run
from agents.show import bar, say
from assets.errors import InvalidValueError


def main(arguments: Sequence[str]) -> Run:
    """Train by overrides; returns the run."""
    rest = [a for a in arguments if not a.startswith("resume=")]
    config = load("train", [a for a in arguments if a not in rest])
    if config.resume is not None:
        return resume(config.resume, rest)  # whose own configuration says which keys there are
    return train(load("train", rest))


def train(config: DictConfig) -> Run:
    """Start a run.

    Raises:
        InvalidValueError: the run folder is not empty, or another process writes into it.
    """
    group = Group.here()
    with ExitStack() as held:
        config, place = group.from_first(lambda: _begun(config, held))
        env = make_env(config, config.num_envs, "same_step", dump_folder=place)
        held.callback(env.close)
        learner = _learner(config, env, group)
        # Only now: a setting that is refused above leaves no folder behind.
        run = Run.create(config, place) if group.first else Run(place)
        if group.first:
            say(f"run folder: {run.folder}")
            run.write_json("system.json", runs.system(env.unwrapped.describe()))  # type: ignore[attr-defined]
        _loop(run, config, learner, group)
    return run


def _begun(config: DictConfig, held: ExitStack) -> tuple[DictConfig, Path]:
    """The configuration, with a seed drawn if it has none, and where its run goes, which is claimed until `held` ends."""
    if config.seed is None:
        config.seed = int(np.random.SeedSequence().generate_state(1, np.uint32)[0] % FIRST_EVALUATION_SEED)
    _validate(config)
    place = Run.place(config.run, f"{_name(config.env)}_{_name(config.agent)}")
    held.enter_context(claimed(place))
    return config, place


def _learner(config: DictConfig, env: Any, group: Group) -> Any:
    """The learner.

    Raises:
        InvalidValueError: it learns in one process, and there are several.
    """
    learner = make_learner(config, env)
    if group.world > 1 and not getattr(learner, "together", False):
        raise InvalidValueError(
            f"{type(learner).__name__} trains in one process, here are {group.world}: torchrun is for agent=bcrl, leave it out"
        )
    return learner


def resume(folder: str | Path, overrides: Sequence[str]) -> Run:
    """Go on with a run from its newest whole checkpoint, exactly as if it had not stopped.

    Args:
        folder: the run.
        overrides: changes to its configuration, such as steps=400000.

    Raises:
        InvalidValueError: not a run folder, another process writes into it, or it has done all its steps already.
        CheckpointError: no whole checkpoint.
    """
    group = Group.here()
    with ExitStack() as held:
        run, config, saved = group.from_first(lambda: _reopened(folder, overrides, held))
        env = make_env(config, config.num_envs, "same_step", dump_folder=run.folder)
        held.callback(env.close)
        learner = _learner(config, env, group)
        learner.load_state(saved)
        if group.first:
            run.forget_after(learner.steps)
            run.note_resume(learner.steps, overrides)
        _loop(run, config, learner, group)
    return run


def _reopened(folder: str | Path, overrides: Sequence[str], held: ExitStack) -> tuple[Run, DictConfig, dict[str, Any]]:
    """The run, which is claimed until `held` ends, its configuration, and the state of its learner."""
    run = Run.open(folder)
    held.enter_context(claimed(run.folder))
    config = amend(run.config, overrides)
    _validate(config)
    at, saved = checkpoint.load_last(run.checkpoints)
    if saved["learner"]["steps"] >= config.steps:
        raise InvalidValueError(
            f"{run.folder} has done {saved['learner']['steps']} of {config.steps} steps: resume it with steps=<more>"
        )
    for damaged in checkpoint.set_aside_after(at):
        say(f"set aside: {damaged}")
    say(f"resuming {run.folder} from {at.name}")
    return run, config, saved["learner"]


def _loop(run: Run, config: DictConfig, learner: Any, group: Group) -> None:
    """Advance from checkpoint to checkpoint; the first process writes them."""
    board = SummaryWriter(str(run.folder / "tensorboard")) if config.logger.tensorboard and group.first else None
    logged = run.metrics()
    began = time.time() - (logged[-1]["seconds"] if logged else 0)  # a resumed run goes on counting
    steps = int(config.steps)
    shown = bar("training", steps, learner.steps) if group.first else nullcontext(lambda done, words: None)
    try:
        with shown as progress:
            while learner.steps < steps:
                goal = min(steps, _next_checkpoint(learner.steps, int(config.checkpoint_every)))
                while learner.steps < goal:
                    metrics = learner.advance(min(_LOG_EVERY, goal - learner.steps))
                    if group.first:
                        run.log({"step": learner.steps, "seconds": round(time.time() - began, 2), **metrics})
                    _to_board(board, metrics, learner.steps)
                    progress(learner.steps, _headline(metrics))
                state = learner.state()  # of all processes
                if group.first:
                    checkpoint.save_step({"learner": state}, run.checkpoints, learner.steps, int(config.keep))
        group.wait()  # none ends before the last checkpoint is whole
    finally:
        if board is not None:
            board.close()


# Seeds from here on are kept for evaluation (conf/evaluate.yaml, conf/replay.yaml), so that nothing is tested on its training.
FIRST_EVALUATION_SEED = 1_000_000
# Environment steps between two rows of metrics; learners round it up to what they do at a time.
_LOG_EVERY = 2048


def _next_checkpoint(steps: int, every: int) -> int:
    return (steps // every + 1) * every


def _headline(metrics: dict[str, float]) -> str:
    shown = {"reward": "rollout/ep_rew_mean", "success": "rollout/success_rate", "fps": "time/fps"}
    parts = [f"{name} {metrics[key]:.2f}" for name, key in shown.items() if key in metrics]
    return "  ".join(parts)


def _to_board(board: SummaryWriter | None, metrics: dict[str, float], step: int) -> None:
    if board is not None:
        for key, value in metrics.items():
            board.add_scalar(key, value, step)


def _validate(config: DictConfig) -> None:
    require(config, sorted(OmegaConf.missing_keys(config)))
    for name in ("steps", "num_envs", "checkpoint_every", "keep"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise InvalidValueError(f"{name} must be an integer >= 1, got {config[name]!r}")
    if not isinstance(config.seed, int) or not 0 <= config.seed < FIRST_EVALUATION_SEED:
        raise InvalidValueError(
            f"seed must be an integer from 0 to {FIRST_EVALUATION_SEED - 1} (larger ones are kept for evaluation), "
            f"got {config.seed!r}"
        )


def _name(group: Any) -> str:
    """A short label for a run folder: the id's or the algorithm's."""
    if "id" in group:
        return str(group.id).split("/")[-1].rsplit("-", 1)[0].lower()
    return str(group.get("algorithm") or str(group.get("_target_")).rsplit(".", 1)[-1]).lower()
