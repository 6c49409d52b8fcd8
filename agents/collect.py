"""`saccade collect`: roll the expert, or any other policy, over seeds, keep what succeeded, write a dataset.

saccade collect env=reach n=50 noise=0.2
saccade collect env=reach n=50 policy=teleop:Gamepad num_envs=1
saccade collect env=towel_bucket n=100 panoramas=960

Repeating a command that was interrupted brings it to its end: what is half-written is collected anew, from the same seeds, and
panoramas go on after the last whole episode.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from contextlib import closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gymnasium.vector import VectorEnv
from omegaconf import DictConfig

from agents.base import OraclePolicy, Policy
from agents.claim import claimed
from agents.config import load
from agents.dataset import DatasetError, Demonstrations, Writer, dataset_path
from agents.dataset.layout import MARKER
from agents.make import make_env, make_policy
from agents.panoramas import FOLDER, film
from agents.rollout import Episode, Record, rollout
from agents.show import bar, say
from assets.errors import InvalidValueError
from perception.recording import MARKER as RECORDED

# Of the oracle's actions, where nothing else is asked for.
NOISE = 0.2


@dataclass(frozen=True)
class Collected:
    """What a collection gave.

    Attributes:
        path: the dataset's folder.
        kept, failed: episodes written, and episodes left out because they did not succeed.
        tried: seeds used, from `first_seed` on without a gap; evaluation must use others.
        first_seed: of them.
        steps: written.
        seconds: wall time.
    """

    path: Path
    kept: int
    failed: int
    tried: int
    first_seed: int
    steps: int
    seconds: float

    def __str__(self) -> str:
        left_out = f", {self.failed} failed and were left out" if self.failed else ""
        seeds = f"seeds {self.first_seed} to {self.first_seed + self.tried - 1}"
        return f"{self.kept} episodes, {self.steps} steps in {self.path} ({seeds}{left_out}; {self.seconds:.1f} s)"


def collect(
    env: VectorEnv[Any, Any, Any],
    policy: Policy | None,
    n: int,
    seed: int,
    folder: str | Path | None,
    name: str,
    *,
    noise: float = 0.0,
    push: float = 0.0,
    only_successes: bool = True,
    max_tries: int | None = None,
    video: bool = False,
    show: bool = True,
) -> Collected:
    """Write a dataset of exactly `n` episodes, over the seeds seed, seed + 1, ...

    Environments made with observe=() are fastest: pixels are drawn again from the dataset when they are wanted.

    Args:
        env: made with autoreset_mode="disabled" and a time limit; as many episodes run at a time as it has simulations.
        policy: who acts; None takes the task's oracle with `noise`.
        n: episodes to keep.
        seed: of the first episode, and of the oracle's noise.
        folder: of all datasets; None takes MINARI_DATASETS_PATH, else outputs/datasets.
        name: of this dataset, such as "saccade/reach/oracle-v0".
        noise: standard deviation of Gaussian noise on the oracle's actions, in units of the action (0 to about 0.5): a little
            makes demonstrations that recover from mistakes, much makes them fail. The noisy actions are what is stored.
        push: standard deviation of pushes that the oracle's arm gets, in units of the action, see `agents.base.OraclePolicy`:
            0.3 is 4.5 cm in each direction (five steps of 3 cm), less what the expert does against it.
        only_successes: leave out episodes that were not successful at any step; their number is reported.
        max_tries: seeds to use at most; None takes 10 n + 100.
        video: also store the observed images as lossless video.
        show: tell of the progress on standard error.

    Raises:
        DatasetError: the dataset exists, or `max_tries` seeds gave fewer than `n` successes.
        InvalidValueError: n < 1, noise or push < 0 or beside a policy, or max_tries < n.
    """
    most = 10 * n + 100 if max_tries is None else max_tries
    _check(policy, n, {"noise": noise, "push": push}, most)
    began = time.perf_counter()
    actor = OraclePolicy(env, noise, seed, push) if policy is None else policy
    kept = tried = steps = 0
    who = {"policy": _called(policy), "noise": noise, "push": push, "only_successes": only_successes}
    shown = bar("demonstrations", n) if show else nullcontext(lambda done, words: None)
    with Writer(env, name, folder, video=video) as writer, shown as progress:
        while kept < n:
            if tried >= most:
                raise DatasetError(_too_few(writer.path, kept, tried, n))
            seeds = range(seed + tried, seed + min(tried + env.num_envs, most))
            episodes = rollout(env, actor, seeds, deterministic=noise == push == 0, record=Record())
            chosen, used = _choose(episodes, n - kept, only_successes)
            writer.add(chosen)
            kept, tried, steps = kept + len(chosen), tried + used, steps + sum(e.length for e in chosen)
            progress(kept, f"{tried - kept} failed")
        report = Collected(writer.path, kept, tried - kept, tried, seed, steps, time.perf_counter() - began)
        writer.notes = {**who, **{k: v for k, v in asdict(report).items() if k not in ("path", "seconds")}}
    return report


def _check(policy: Policy | None, n: int, spreads: dict[str, float], most: int) -> None:
    if n < 1:
        raise InvalidValueError(f"n must be >= 1 episode, got {n}")
    for name, value in spreads.items():
        if not value >= 0:
            raise InvalidValueError(f"{name} must be a standard deviation >= 0, got {value}")
        if value and policy is not None:
            raise InvalidValueError(f"{name}={value} is the oracle's: give policy=None, or a policy that is noisy by itself")
    if most < n:
        raise InvalidValueError(f"max_tries must be at least the {n} episodes to keep, got {most}")


def _called(policy: Policy | None) -> str:
    """How the notes name who acted: the oracle, or a policy's module and class."""
    return OraclePolicy.__name__ if policy is None else f"{type(policy).__module__}:{type(policy).__qualname__}"


def _choose(episodes: list[Episode], room: int, only_successes: bool) -> tuple[list[Episode], int]:
    """The first `room` episodes worth keeping, and how many were looked at to find them."""
    chosen: list[Episode] = []
    for used, episode in enumerate(episodes, start=1):
        if episode.succeeded or not only_successes:
            chosen.append(episode)
        if len(chosen) == room:
            return chosen, used
    return chosen, len(episodes)


def _too_few(path: Path, kept: int, tried: int, n: int) -> str:
    rest = f"; {path} is left half-written" if kept else ""
    return (
        f"only {kept} of {tried} episodes succeeded, {n} were asked for: lower the noise, take a better policy, "
        f"raise max_tries, or keep failures with only_successes=False{rest}"
    )


def _made_before(config: DictConfig, path: Path) -> bool:
    """Whether this very dataset is there already, and only its panoramas are missing.

    Raises:
        DatasetError: another dataset is there; a dataset is never overwritten.
    """
    if config.panoramas is None or not (path / MARKER).is_file() or (path / FOLDER / RECORDED).is_file():
        return False
    notes = Demonstrations(path).about["notes"]
    who = OraclePolicy.__name__ if config.policy is None else str(config.policy)
    asked = {"policy": who, "kept": config.n, "first_seed": config.seed, **_spreads(config)}
    for key, value in asked.items():
        if notes.get(key, 0) != value:
            raise DatasetError(f"{path} was collected with {key}={notes.get(key)}, not {value}: take another name for this one")
    say(f"{path} is complete; its panoramas go on")
    return True


def _spreads(config: DictConfig) -> dict[str, float]:
    """Noise and pushes of the oracle's actions; a policy's are as they are.

    Raises:
        InvalidValueError: either of them beside a policy.
    """
    if config.policy is None:
        return {"noise": NOISE if config.noise is None else float(config.noise), "push": float(config.push)}
    for name in ("noise", "push"):
        if config[name]:
            raise InvalidValueError(f"{name}={config[name]} is the oracle's: leave it out beside policy={config.policy}")
    return {"noise": 0.0, "push": 0.0}


def _name(config: DictConfig) -> str:
    """Name of the dataset: the one that was given, or environment and who acts."""
    short = str(config.env.id).split("/")[-1].rsplit("-", 1)[0].lower()
    who = "oracle" if config.policy is None else str(config.policy).rpartition(":")[2].lower()
    return config.name or f"saccade/{short}/{who}-v0"


def _environment(config: DictConfig) -> VectorEnv[Any, Any, Any]:
    # The oracle looks at no pictures, so that they are only drawn where a video of them is wanted: pixels are re-rendered
    # from the states.
    observed: dict[str, Any] = {} if config.video or config.policy is not None else {"observe": ()}
    limit: dict[str, Any] = {} if config.max_episode_steps is None else {"max_episode_steps": int(config.max_episode_steps)}
    return make_env(config, min(int(config.num_envs), max(int(config.n), 1)), "disabled", **observed, **limit)


def main(arguments: Sequence[str]) -> Path:
    """Collect by overrides, print what was kept; returns the dataset's folder."""
    config = load("collect", list(arguments))
    name, spreads = _name(config), _spreads(config)
    env = _environment(config)
    path = dataset_path(name, config.folder)
    with closing(env), claimed(path):
        if not _made_before(config, path):
            _clear_half(path)
            done = collect(
                env,
                None if config.policy is None else make_policy(str(config.policy), env),
                int(config.n),
                int(config.seed),
                config.folder,
                name,
                noise=spreads["noise"],
                push=spreads["push"],
                only_successes=bool(config.only_successes),
                video=bool(config.video),
            )
            say(str(done))
        if config.panoramas is not None:
            stills, twos = int(config.stills), bool(config.twos)
            say(f"written: {film(env, Demonstrations(path), int(config.panoramas), stills=stills, twos=twos)}")
    return path


def _clear_half(path: Path) -> None:
    """Delete what an interrupted collection left, and nothing else."""
    if (
        path.is_dir()
        and not (path / MARKER).exists()
        and {p.name for p in path.iterdir()} <= {"data", "videos", f".{MARKER}.partial"}
    ):
        say(f"{path} is half-written: it is collected anew")
        shutil.rmtree(path)
