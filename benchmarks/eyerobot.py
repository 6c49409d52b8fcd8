"""EyeRobot in MuJoCo: trains pairs of eye and hand beside their baselines, and lets all act in the same episodes.

    python -m benchmarks.eyerobot --tasks estop --searchers bcrl --policies bcrl,random_gaze --seeds 0    makes cells
    python -m benchmarks.eyerobot --publish                     writes docs/results/eyerobot.json from all that are there

A cell is a task, a policy and a seed: an entry for every episode, in docs/results/cells/eyerobot. What is there already is not
made again: an interrupted call goes on when it is repeated, and seeds can be added on another machine.
Everyone learns from the same demonstrations, as many steps, with networks of one size:

    bcrl           eye by BC-RL from visual search on, hand by imitation
    guided         the same, and the eye also imitates where the demonstrator looked
    uniform, guided_uniform    both with one level of 116 degrees, of as many pixels as the pyramid has
    no_rl, no_avp  the eye stays as visual search left it; BC-RL from nothing
    once           the eye as visual search left it looks around before the arm moves, then it rests: inspect once
    random_gaze, fixed_gaze, oracle_gaze    the hand alone, under another's gaze; the oracle's reads the simulator
    exo, wrist, wrist_exo    the hand alone, from cameras of 80 x 80 pixels that do not look around
    static         the same from that of three cameras around the table with which the hand has learned best

Success, progress and errors are of the task, in closed loop, greedily; "sampled" draws the eye's turns, which makes no
difference where the eye does not choose them. Search is learned once for all tasks, in stills of demonstrations of all of them,
and measured in stills of demonstrations that training never saw: success is to fixate what is asked for within 5 degrees for
half a second. Pairs of all seeds begin with the search of seed 0; --searchers and --seeds train others, to tell how searches
differ.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from agents import checkpoint, collect, evaluate, gaze, shipped, train
from agents.base import OraclePolicy
from agents.claim import claimed
from agents.cli import guarded
from agents.config import load
from agents.make import make_env
from agents.pair import CHOSEN
from agents.panoramas import FOLDER
from agents.rollout import Episode, Record, rollout
from agents.run import Run
from agents.show import say, table
from agents.statistics import bootstrap, wilson
from assets.errors import InvalidValueError
from benchmarks import results
from benchmarks.cells import ARCHIVE, chosen, stamped
from benchmarks.results import Row
from perception.recording import MARKER

TASKS = ("estop", "eraser_stand", "towel_bucket", "brush_handoff", "screwdriver_reorient")
# Seeds of the first demonstration for pairs, of those in whose stills search is learned and measured, and of the first episode
# in closed loop.
FIRST, FIRST_EPISODE = {"pairs": 1, "search": 100_000, "held": 500_000}, 1_000_000
STILLS = 10  # control steps between two of them
AROUND = ("front", "side", "top")
CAMERAS = (*AROUND, "arm/wrist")
LONGEST = 4  # phases of a task
ONE_LEVEL = ("env.fovs=[116.1]", "env.resolution=72")  # 5184 pixels; three levels of 40 x 40 have 4800


@dataclass(frozen=True)
class Policy:
    """How a policy differs from `bcrl`.

    Attributes:
        overrides: of its training.
        search: the visual search that it begins with: "pyramid", "uniform" or "" for none.
    """

    overrides: tuple[str, ...] = ()
    search: str = "pyramid"


# The eye moves on purpose, from the first step on: neither the hand's first errors nor the divergence hold it back.
GUIDED = ("agent.imitate=1.0", "agent.eye_rate=0.001", "agent.minibatches=16", "agent.target_kl=1.0", "agent.eye_from=0")
POLICIES = {
    "bcrl": Policy(),
    "guided": Policy(GUIDED),
    "uniform": Policy(ONE_LEVEL, "uniform"),
    "guided_uniform": Policy((*GUIDED, *ONE_LEVEL), "uniform"),
    "no_rl": Policy(("agent.gaze=frozen",)),
    "once": Policy(("agent.gaze=once",)),
    "no_avp": Policy(search=""),
    "random_gaze": Policy(("agent.gaze=random",)),
    "fixed_gaze": Policy(("agent.gaze=fixed",)),
    "oracle_gaze": Policy(("agent.gaze=oracle",)),
    "exo": Policy(("agent.gaze=fixed", "env.cameras=[front]"), ""),
    "wrist": Policy(("agent.gaze=fixed", "env.cameras=[arm/wrist]"), ""),
    "wrist_exo": Policy(("agent.gaze=fixed", "env.cameras=[front,arm/wrist]"), ""),
    "static": Policy(("agent.gaze=fixed",), ""),  # and the best camera, of which exo's is one
}
SEARCHES: dict[str, tuple[str, ...]] = {"pyramid": (), "uniform": ONE_LEVEL}
SHIPPED = {"pyramid": "eyerobot/search", "uniform": "eyerobot/search_uniform"}
# What training never showed: options of the environment, and starts that are forced upon every episode.
SHIFTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "distractors": ({"distractors": 4}, {}),
    "light": ({"randomise_light": True}, {}),
    "spatial": ({}, {"radius": 0.71}),  # m; things were 0.45 to 0.68 away
    "gaze": ({}, {"gaze": np.radians([-125.0, 25.0])}),  # it began within 90 degrees to either side, 15 up and down
    "moved": ({"perturb": True}, {}),  # the goal slides away once the thing is lifted
}


@dataclass(frozen=True)
class Bench:
    """Where everything is kept, and how much of it is made.

    Attributes:
        folder: of datasets and runs.
        cells: folder of the cells.
        demonstrations, searched, held_out: of each task, for pairs, for search and to measure it.
        episodes: of each cell.
        overrides: further ones for all trainings.
    """

    folder: Path = Path("outputs/eyerobot")
    cells: Path = ARCHIVE / "eyerobot"
    demonstrations: int = 100
    searched: int = 240
    held_out: int = 32
    episodes: int = 96
    overrides: tuple[str, ...] = ()

    def recordings(self, task: str, use: str = "pairs") -> Path:
        """Panoramas of a task's demonstrations, or stills of them for "search" and "held", collected where they are missing."""
        name = f"eyerobot/{task.replace('_', '')}{'' if use == 'pairs' else f'-{use}'}-v0"
        place = self.folder / "datasets" / name / FOLDER
        if not (place / MARKER).is_file():
            count = {"pairs": self.demonstrations, "search": self.searched, "held": self.held_out}[use]
            own = [f"env.cameras=[{','.join(CAMERAS)}]", "twos=true"] if use == "pairs" else [f"stills={STILLS}"]
            collect.main(
                [f"env={task}", f"n={count}", f"seed={FIRST[use]}", "noise=0.05", "panoramas=960", f"name={name}",
                 f"folder={self.folder / 'datasets'}", *own]
            )  # fmt: skip
        return place

    def trained(self, name: str, seed: int, arguments: Sequence[str]) -> Run:
        """A finished run: new, resumed, or already there."""
        place = self.folder / name
        if not checkpoint.names(place / "checkpoints"):
            if (place / "config.yaml").is_file():
                with claimed(place):
                    say(f"{place} holds a run that never reached a checkpoint: starting again")
                    shutil.rmtree(place)
            return train.main([*arguments, f"seed={seed}", "logger=jsonl", f"run={place}", *self.overrides])
        run = Run.open(place)
        done = int(checkpoint.names(run.checkpoints)[-1]) >= run.config.steps
        return run if done else train.main([f"resume={place}"])

    def searcher(self, kind: str, seed: int) -> Run:
        """An eye that has learned visual search; those of seed 0 ship."""
        ready = shipped.FOLDER / SHIPPED[kind]
        if seed == 0 and not self.overrides and ready.is_dir() and not (self.folder / f"search/{kind}-{seed}").is_dir():
            return Run.open(ready)
        where = ",".join(str(self.recordings(task, "search")) for task in TASKS)
        arguments = ["experiment=eyerobot_search", f"env.recordings=[{where}]"]
        return self.trained(f"search/{kind}-{seed}", seed, [*arguments, *SEARCHES[kind]])

    def pair(self, task: str, name: str, seed: int) -> Run:
        """A trained policy."""
        policy = POLICIES[name]
        arguments = ["experiment=eyerobot_cpu", f"env=replay_{task}", f"env.recordings={self.recordings(task)}"]
        if policy.search:
            arguments.append(f"agent.start={self.searcher(policy.search, 0).folder}")
        arguments += policy.overrides
        if name != "static":
            return self.trained(f"{task}/{name}-{seed}", seed, arguments)
        others = [c for c in AROUND if f"env.cameras=[{c}]" not in POLICIES["exo"].overrides]
        runs = [self.trained(f"{task}/static-{c}-{seed}", seed, [*arguments, f"env.cameras=[{c}]"]) for c in others]
        return max(self.pair(task, "exo", seed), *runs, key=_reward_at_last)

    def cell(self, task: str, name: str, seed: int) -> dict[str, Any]:
        """What a policy reached in closed loop, a number for every episode."""
        return stamped(self.cells / task / f"{name}-{seed}.json", lambda: self.acted(self.pair(task, name, seed)))

    def shifted(self, task: str, name: str, seed: int, shift: str) -> dict[str, Any]:
        """What a policy reaches where something is as training never showed it."""
        if shift == "moved" and task == "estop":
            raise InvalidValueError("the e-stop moves in every episode: shift 'moved' is for tasks whose goal stands still")
        options, start = SHIFTS[shift]
        file = self.cells / task / shift / f"{name}-{seed}.json"
        return stamped(file, lambda: self.acted(self.pair(task, name, seed), start, **options))

    def acted(self, run: Run, start: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
        """Let a trained pair act in its task: greedily and with drawn turns, or greedily alone where something is shifted.

        Args:
            run: its training.
            start: what a shift forces upon every episode; None for no shift.
            more: further arguments of the environment.
        """
        config = evaluate.policy_config(load("evaluate", [f"run={run.folder}"]))
        env = make_env(config, min(32, self.episodes), "disabled", **more)
        try:
            policy, source = evaluate.load_policy(run, env)
            dt = env.unwrapped.task.control_dt  # type: ignore[attr-defined]
            seeds = range(FIRST_EPISODE, FIRST_EPISODE + self.episodes)
            draws = start is None and run.config.agent.gaze in CHOSEN
            greedy, *sampled = (
                rollout(env, policy, seeds, deterministic=d, record=Record(snapshots=False), options=start)
                for d in ((True, False) if draws else (True,))
            )
        finally:
            env.close()
        found = {**effort(run), "checkpoint": source, **measured(greedy, dt)}
        return found if start is not None else {**found, "sampled": [e.succeeded for e in (sampled[0] if draws else greedy)]}

    def search_cell(self, name: str, seed: int) -> dict[str, Any]:
        """What an eye finds in panoramas that nobody learned from: a number for every search."""
        return stamped(self.cells / "search" / f"{name}-{seed}.json", lambda: self.look(name, seed))

    def look(self, name: str, seed: int) -> dict[str, Any]:
        """Let an eye search: a trained one ("bcrl" and "uniform", before BC-RL), a random walk or the oracle."""
        run = self.searcher("uniform" if name == "uniform" else "pyramid", seed)
        config = run.config.copy()
        if name == "random_gaze":
            config.agent.gaze = "random"
        config.env.recordings = [str(self.recordings(task, "held")) for task in TASKS]
        config.env.target, config.env.max_episode_steps = "any", 130
        learner, _ = evaluate.restored(run, config)
        config.env.actions = "box"
        env = make_env(config, min(32, self.episodes), "disabled")
        actor = OraclePolicy(env) if name == "oracle_gaze" else learner
        seeds, dt = range(FIRST_EPISODE, FIRST_EPISODE + self.episodes), env.unwrapped.control_dt  # type: ignore[attr-defined]
        found: dict[str, Any] = {}
        for key, greedy in (("success", True), ("sampled", False)):
            episodes = rollout(env, actor, seeds, deterministic=greedy, record=Record(snapshots=False))
            found[key] = [e.succeeded for e in episodes]
            if greedy:
                found["seconds_to_fixate"] = [number(gaze.seconds_to_fixate(e.state["gaze_error"], dt)) for e in episodes]
        env.close()
        return {**(effort(run) if actor is learner and name != "random_gaze" else {}), **found}


def _reward_at_last(run: Run) -> float:
    """The reward of the last five rollouts of a training: how near the hand's predicted paths come."""
    return float(np.mean([row["rollout/reward"] for row in run.metrics()[-5:]]))


def effort(run: Run) -> dict[str, Any]:
    """What a training took, minutes and steps of all eyes, and the settings that decided what it learned."""
    env, agent, steps = run.config.env, run.config.agent, int(checkpoint.names(run.checkpoints)[-1])
    plain = {"env": OmegaConf.to_container(env, resolve=True), "agent": OmegaConf.to_container(agent, resolve=True)}
    settings = {
        f"{part}.{key}": value for part, values in plain.items() if isinstance(values, dict)
        for key, value in values.items() if key not in ("recordings", "start", "threads", "device")
    }  # fmt: skip
    rows = run.metrics() or [shipped.history(run.folder)]  # those that ship keep no row of every rollout
    return {"minutes": rows[-1]["seconds"] / 60, "steps": steps, "settings": {**settings, "steps": steps}}


def number(value: float) -> float | None:
    """A finite number; None for what never happened."""
    return float(value) if np.isfinite(value) else None


def measured(episodes: Sequence[Episode], dt: float) -> dict[str, Any]:
    """Outcomes of episodes in closed loop: lists with an entry for each, None for what never happened."""
    out: dict[str, list[Any]] = {}
    for episode in episodes:
        state = episode.state
        error, target = state["gaze_error"], state["target_direction"]
        spread, quiet = gaze.stability(state["gaze"], dt)
        by_phase = gaze.on_target(error, state["phase"])
        found = {
            "success": episode.succeeded,
            "progress": float(state["progress"].max()),
            "final_error_cm": 100 * float(state["to_goal" if "to_goal" in state else "distance"][-1]),
            "seconds_to_fixate": number(gaze.seconds_to_fixate(error, dt)),
            "on_target": float(np.mean(error < gaze.ON_TARGET)),
            **{f"on_target_phase_{p}": by_phase.get(p) for p in range(LONGEST)},
            "gaze_speed_sd_deg_s": spread,
            "quiet_steps": quiet,
            "switch_lag_s": number(gaze.switch_lag(error, target, dt)),
            "tracking_error_deg": number(gaze.tracking_error(error, target, dt)),
            "gaze_leads_hand_s": number(gaze.gaze_leads_hand(error, state["tool"], state["distance"], dt)),
        }
        for key, value in found.items():
            out.setdefault(key, []).append(value)
    return out


def share_row(name: str, metric: str, outcomes: Sequence[bool], seeds: tuple[int, ...]) -> Row:
    """A share of episodes with its Wilson interval."""
    low, high = wilson(sum(outcomes), len(outcomes))
    return Row(name, metric, float(np.mean(outcomes)), low, high, len(outcomes), seeds)


def rows(name: str, cells: Sequence[dict[str, Any]], seeds: tuple[int, ...]) -> list[Row]:
    """Rows of the cells of a name, one for each seed, all their episodes together; means with bootstrap intervals.

    Of what not every episode has, such as a time to fixate, the mean is over those that have it; "fixated" is their share.
    """
    pooled = {k: [v for c in cells for v in c[k]] for k, values in cells[0].items() if isinstance(values, list)}
    out = [share_row(name, "success_rate", pooled.pop("success"), seeds)]
    if "sampled" in pooled:
        out.append(share_row(name, "success_rate_sampled", pooled.pop("sampled"), seeds))
    out.append(share_row(name, "fixated", [v is not None for v in pooled["seconds_to_fixate"]], seeds))
    for metric, values in pooled.items():
        there = [v for v in values if v is not None]
        if there:
            out.append(Row(name, metric, float(np.mean(there)), *bootstrap(there), len(there), seeds))
        if metric == "final_error_cm":  # a lost eye decides the mean, and nothing else the median
            middle = float(np.median(there)), *bootstrap(there, of=np.median)
            out.append(Row(name, "final_error_cm_median", *middle, len(there), seeds))
    minutes = [c["minutes"] for c in cells if "minutes" in c]
    if minutes:
        spread = (min(minutes), max(minutes)) if len(minutes) > 1 else (None, None)
        out.append(Row(name, "training_minutes", float(np.mean(minutes)), *spread, len(minutes), seeds))
    return out


SEARCHERS = ("bcrl", "uniform", "random_gaze", "oracle_gaze")


def gathered(folder: Path) -> list[Row]:
    """Rows of every cell under a folder.

    Raises:
        InvalidValueError: there is none.
    """
    out: list[Row] = []
    for name in SEARCHERS:
        out += _pooled(f"search/{name}", folder / "search", name)
    for task in TASKS:
        for name in POLICIES:
            out += _pooled(f"{task}/{name}", folder / task, name)
            for shift in SHIFTS:
                out += _pooled(f"{task}/{name}/{shift}", folder / task / shift, name)
                out += _dropped(f"{task}/{name}/{shift}", folder / task, shift, name)
    if not out:
        raise InvalidValueError(f"{folder} has no cells yet: run python -m benchmarks.eyerobot --tasks ... first")
    return out


def _dropped(label: str, folder: Path, shift: str, name: str) -> list[Row]:
    """How much less often a policy succeeds with a shift than in the same episodes without it; no row where there are none."""
    pairs = {int(f.stem.rsplit("-", 1)[1]): (folder / f.name, f) for f in sorted((folder / shift).glob(f"{name}-*.json"))}
    kept = {seed: [json.loads(f.read_text())["success"] for f in both] for seed, both in pairs.items() if both[0].is_file()}
    drops = [float(a) - float(b) for plain, moved in kept.values() for a, b in zip(plain, moved, strict=True)]
    if not drops:
        return []
    return [Row(label, "success_drop", float(np.mean(drops)), *bootstrap(drops), len(drops), tuple(sorted(kept)))]


def _pooled(label: str, folder: Path, name: str) -> list[Row]:
    """Rows of the cells of a policy in a folder, all seeds together; none where there are none.

    Raises:
        InvalidValueError: two of them were trained with different settings.
    """
    files = {int(f.stem.rsplit("-", 1)[1]): f for f in sorted(folder.glob(f"{name}-*.json"))}
    cells = {seed: json.loads(files[seed].read_text()) for seed in sorted(files)}
    first: dict[str, Any] = next(iter(cells.values()), {}).get("settings", {})
    for seed, one in cells.items():
        for key, value in one.get("settings", {}).items():
            if key in first and first[key] != value and key != "env.cameras":  # "static" may find another one best
                raise InvalidValueError(
                    f"cells of {label} differ: seed {seed} was trained with {key}={value}, another with {first[key]}; "
                    "delete those that no longer count"
                )
    return rows(label, list(cells.values()), tuple(cells)) if cells else []


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.eyerobot", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", default="", help=f"with commas: {', '.join(TASKS)}")
    parser.add_argument("--policies", default="", help=f"with commas: {', '.join(POLICIES)}")
    parser.add_argument("--searchers", default="", help=f"whose search is measured: {', '.join(SEARCHERS)}")
    parser.add_argument("--shifts", default="", help=f"what is as training never showed it: {', '.join(SHIFTS)}")
    parser.add_argument("--seeds", default="0", help="of the trainings, with commas")
    parser.add_argument("--episodes", type=int, default=96, help="of each cell")
    parser.add_argument("--demonstrations", type=int, default=100, help="of each task")
    parser.add_argument("--searched", type=int, default=Bench.searched, help="demonstrations of each task to learn search from")
    parser.add_argument("--held-out", type=int, default=Bench.held_out, help="demonstrations of each task to measure it in")
    parser.add_argument("--folder", type=Path, default=Bench.folder, help="of datasets and runs")
    parser.add_argument("--cells", type=Path, default=Bench.cells, help="where cells are kept")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of all trainings")
    parser.add_argument("--publish", action="store_true", help="write docs/results/eyerobot.json")
    arguments = parser.parse_args(argv)
    bench = Bench(
        arguments.folder, arguments.cells, arguments.demonstrations, arguments.searched, arguments.held_out,
        arguments.episodes, tuple(arguments.set),
    )  # fmt: skip
    seeds = [int(seed) for seed in arguments.seeds.split(",")]
    for seed in seeds:
        for name in chosen(arguments.searchers, SEARCHERS, "searcher"):
            say(f"search/{name}, seed {seed}: {np.mean(bench.search_cell(name, seed)['success']):.1%} found")
    for task in chosen(arguments.tasks, TASKS, "task"):
        for seed in seeds:
            for name in chosen(arguments.policies, POLICIES, "policy"):
                say(f"{task}/{name}, seed {seed}: {np.mean(bench.cell(task, name, seed)['success']):.1%} succeeded")
                for shift in chosen(arguments.shifts, SHIFTS, "shift"):
                    bench.shifted(task, name, seed, shift)
    found = gathered(arguments.cells)
    shown = [r for r in found if r.metric in ("success_rate", "seconds_to_fixate", "final_error_cm")]
    table(("", "metric", "value", "low", "high", "n"), [(r.name, r.metric, r.value, r.low, r.high, r.n) for r in shown])
    if arguments.publish:
        results.publish("eyerobot", argv, found)
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
