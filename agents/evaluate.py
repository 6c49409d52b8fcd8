"""`saccade evaluate`: success with intervals, on episodes that training never saw, the same for every policy.

saccade evaluate run=outputs/... episodes=200
saccade evaluate env=reach policy=oracle baselines=[random]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from hydra.utils import get_class
from omegaconf import DictConfig, open_dict

from agents import checkpoint
from agents.base import OraclePolicy, Policy, RandomPolicy
from agents.config import load
from agents.make import make_env, make_learner
from agents.report import report
from agents.rollout import Episode, rollout
from agents.run import Run, system, unused, write_json
from agents.shipped import with_run
from agents.show import bar, say, table
from agents.statistics import bootstrap, paired_difference, wilson
from assets.errors import InvalidValueError, UnknownNameError

SCRIPTED = ("random", "oracle")


@dataclass(frozen=True)
class Score:
    """How one policy did.

    Attributes:
        name: of the policy.
        n: episodes.
        success_rate, success_low, success_high: share that succeeded at any step, with its 95 % Wilson interval.
        success_at_end: share that was successful in the last step.
        seconds_to_success: mean simulated time until success, over the episodes that had it; None without any.
        reward, reward_low, reward_high: mean return with its bootstrap interval.
        outcomes: success of every episode, in the order of the seeds.
    """

    name: str
    n: int
    success_rate: float
    success_low: float
    success_high: float
    success_at_end: float
    seconds_to_success: float | None
    reward: float
    reward_low: float
    reward_high: float
    outcomes: tuple[bool, ...]


def score(name: str, episodes: Sequence[Episode], control_dt: float) -> Score:
    """Summarise episodes; `control_dt` in seconds."""
    outcomes = tuple(e.succeeded for e in episodes)
    returns = [float(e.reward.sum()) for e in episodes]
    times = [e.first_success * control_dt for e in episodes if e.first_success is not None]
    low, high = wilson(sum(outcomes), len(outcomes))
    reward_low, reward_high = bootstrap(returns)
    return Score(
        name=name,
        n=len(outcomes),
        success_rate=float(np.mean(outcomes)),
        success_low=low,
        success_high=high,
        success_at_end=float(np.mean([bool(e.success[-1]) for e in episodes])),
        seconds_to_success=float(np.mean(times)) if times else None,
        reward=float(np.mean(returns)),
        reward_low=reward_low,
        reward_high=reward_high,
        outcomes=outcomes,
    )


def scripted(name: str, env: VectorEnv[Any, Any, Any], seed: int) -> Policy:
    """A policy that needs no training: "random" or "oracle".

    Raises:
        UnknownNameError: neither.
    """
    if name not in SCRIPTED:
        raise UnknownNameError("policy", name, SCRIPTED)
    if name == "oracle":
        return OraclePolicy(env)
    space = env.single_action_space
    if not isinstance(space, spaces.Box):
        raise InvalidValueError(f"random actions are drawn from a Box, this environment acts in {space}")
    return RandomPolicy(space, seed)


def load_policy(run: Run, env: VectorEnv[Any, Any, Any]) -> tuple[Policy, str]:
    """The policy of a run's newest whole checkpoint, acting in `env`, and the checkpoint's name."""
    if _acting(run.config) is None:
        twin: Any = _Spaces(env, int(run.config.num_envs))
        return restored(run, run.config, twin)
    learner, at = restored(run, run.config)  # it acts elsewhere than it was trained
    learner.act_in(env)
    return learner, at


def restored(run: Run, config: DictConfig, env: VectorEnv[Any, Any, Any] | None = None) -> tuple[Any, str]:
    """A learner with the weights of a run's newest whole checkpoint, and the checkpoint's name.

    Args:
        run: whose weights it gets.
        config: of the learner, the run's own or one that differs from it.
        env: for its constructor; the configuration's own for None.
    """
    at, saved = checkpoint.load_last(run.checkpoints)
    config = config.copy()
    if "start" in config.agent:
        config.agent.start = None  # the checkpoint holds all weights, and what training began with may be gone
    learner = make_learner(config, make_env(config, int(config.num_envs), "same_step") if env is None else env)
    learner.load_policy(saved["learner"])
    return learner, at.name


def _acting(config: DictConfig) -> DictConfig | None:
    """The group `env` of where a trained policy acts, if that is elsewhere than where it was trained."""
    where = getattr(get_class(str(config.agent["_target_"])), "acting_env", None) if config.agent.get("_target_") else None
    return None if where is None else where(config)


class _Spaces:
    """The spaces of an environment, in the shape that a learner's constructor wants; it cannot be stepped.

    Args:
        env: that is acted in.
        num_envs: simulations in training.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], num_envs: int) -> None:
        self.metadata = {**env.metadata, "autoreset_mode": AutoresetMode.SAME_STEP}
        self.num_envs = num_envs
        self.single_observation_space, self.single_action_space = env.single_observation_space, env.single_action_space
        self.observation_space, self.action_space = env.observation_space, env.action_space
        self.render_mode = None
        self.spec = env.spec
        self.unwrapped = env.unwrapped


def policy_config(config: DictConfig) -> DictConfig:
    """The configuration with its run's environment and profile, where there is a run.

    The reward is always the task's own, whatever the run was trained on, so that returns can be compared.
    """
    if config.run is None:
        if config.policy is None:
            raise InvalidValueError(
                f"name a run (run=outputs/...) or a scripted policy (policy={' or policy='.join(SCRIPTED)})"
            )
        return config
    trained = Run.open(config.run).config
    config = config.copy()
    with open_dict(config):
        config.env, config.render = _acting(trained) or trained.env, trained.render
        config.agent = trained.agent
    return config


def refuse_beside_run(arguments: Sequence[str], *brought: str) -> None:
    """A run brings its own environment; an override of it would be without effect.

    Args:
        arguments: of the command line.
        brought: configuration groups that the run decides.

    Raises:
        InvalidValueError: there is one.
    """
    runs = [a for a in arguments if a.startswith(("run=", "checkpoint=")) and not a.endswith("=null")]
    for argument in arguments:
        group = argument.lstrip("+~").partition("=")[0].partition(".")[0]
        if runs and group in brought:
            raise InvalidValueError(f"{runs[0]} brings its own {group}: leave out {argument}")


def evaluate(config: DictConfig) -> dict[str, Any]:
    """Run every policy on the same episodes; returns what `evaluation.json` holds."""
    config = policy_config(config)
    seeds = [int(config.seed) + i for i in range(int(config.episodes))]
    env = make_env(config, min(int(config.num_envs), len(seeds)), "disabled")
    try:
        policies, source = _policies(config, env)
        control_dt = env.unwrapped.task.control_dt  # type: ignore[attr-defined]
        scores = []
        for name, (policy, deterministic) in policies.items():
            with bar(f"evaluating {name}", len(seeds)) as progress:
                done = 0

                def advance(count: int, shown: Any = progress) -> None:
                    nonlocal done
                    done += count
                    shown(done, "")

                episodes = rollout(env, policy, seeds, deterministic=deterministic, progress=advance)
            scores.append(score(name, episodes, control_dt))
        described = env.unwrapped.describe()  # type: ignore[attr-defined]
    finally:
        env.close()
    first = scores[0]
    differences = {s.name: paired_difference(first.outcomes, s.outcomes) for s in scores[1:]}
    return {
        "env": str(config.env.id),
        "checkpoint": source,
        "seeds": [seeds[0], seeds[-1]],
        "scores": [asdict(s) for s in scores],
        "differences": {name: {"mean": m, "low": low, "high": high} for name, (m, low, high) in differences.items()},
        "system": system(described),
    }


def _policies(config: DictConfig, env: VectorEnv[Any, Any, Any]) -> tuple[dict[str, tuple[Policy, bool]], str | None]:
    """Name -> (policy, deterministic), the one that is asked about first."""
    policies: dict[str, tuple[Policy, bool]] = {}
    source = None
    if config.run is not None and config.policy is None:
        policy, source = load_policy(Run.open(config.run), env)
        name = str(config.agent.get("algorithm", "policy"))
        policies[name] = (policy, True)
        if config.sampled:
            policies[f"{name} (sampled)"] = (policy, False)
    names = ([config.policy] if config.policy is not None else []) + list(config.baselines or ())
    for name in dict.fromkeys(names):
        policies[name] = (scripted(name, env, int(config.seed)), True)
    return policies, source


def show(result: dict[str, Any]) -> None:
    """Print the scores as a table."""
    rows = []
    for s in result["scores"]:
        seconds = s["seconds_to_success"]
        rows.append(
            (
                s["name"],
                f"{s['success_rate']:.1%}",
                f"{s['success_low']:.1%} to {s['success_high']:.1%}",
                f"{s['success_at_end']:.1%}",
                "-" if seconds is None else f"{seconds:.2f} s",
                f"{s['reward']:.1f}",
                s["n"],
            )
        )
    columns = ("policy", "success", "95 % interval", "at the end", "time to success", "return", "episodes")
    table(columns, rows, f"{result['env']}, seeds {result['seeds'][0]} to {result['seeds'][1]}")


def main(arguments: Sequence[str]) -> dict[str, Any]:
    """Evaluate by overrides, print a table, write JSON."""
    config = with_run(load("evaluate", list(arguments)))
    refuse_beside_run(arguments, "env", "render")
    for name in ("episodes", "num_envs"):
        if not isinstance(config[name], int) or config[name] < 1:
            raise InvalidValueError(f"{name} must be an integer >= 1, got {config[name]!r}")
    if config.reward.get("_target_") and not any(config[key] for key in ("run", "policy")):
        return report(config)
    result = evaluate(config)
    show(result)
    own = config.run and not config.checkpoint  # nothing is written beside what ships
    out = Path(config.out) if config.out else Path(config.run) / "evaluation.json" if own else None
    if out is not None:
        say(f"written: {write_json(unused(out), result)}")
    return result
