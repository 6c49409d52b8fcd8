"""`saccade bench`: where the time of a step goes, and how fast perception answers.

saccade bench env=reach num_envs=16
saccade bench env=replay_estop
saccade bench perception vlm=tiny num_envs=16
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from agents import bench_perception
from agents.config import load
from agents.make import make_env
from agents.run import system, write_json
from agents.show import say, table
from assets.errors import InvalidValueError


def measure(env: Any, seconds: float) -> dict[str, float]:
    """Milliseconds per vector step, split into what the environment times and everything else in Python; and steps/s.

    Simulations time physics and drawing (with read-back), recordings the decoding of videos and the look into them.
    """
    env.action_space.seed(0)
    env.reset(seed=0)
    actions = [env.action_space.sample() for _ in range(16)]
    for action in actions[:4]:
        env.step(action)
    timings: dict[str, float] = env.unwrapped.timings
    timings.update(dict.fromkeys(timings, 0.0))
    steps, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        env.step(actions[steps % len(actions)])
        steps += 1
    wall = time.perf_counter() - began
    spent = {f"{name}_ms": 1000 * value / steps for name, value in timings.items() if name != "total"}
    return {
        **spent,
        "python_ms": 1000 * wall / steps - sum(spent.values()),
        "step_ms": 1000 * wall / steps,
        "env_steps_per_s": steps * env.num_envs / wall,
    }


def main(arguments: Sequence[str]) -> int:
    """Measure by overrides, print, write JSON."""
    if arguments and arguments[0] == "perception":
        return bench_perception.main(arguments[1:])
    config = load("bench", list(arguments))
    if not config.seconds > 0:
        raise InvalidValueError(f"seconds must be > 0, got {config.seconds}")
    env = make_env(config, int(config.num_envs), "same_step")
    try:
        measured = measure(env, float(config.seconds))
        described = env.unwrapped.describe()  # type: ignore[attr-defined]
    finally:
        env.close()
    rows = [(name, f"{value:,.2f}") for name, value in measured.items()]
    table(("per vector step", ""), rows, f"{config.env.id}, {config.num_envs} simulations, profile {described['profile']}")
    report = {"env": config.env.id, "num_envs": config.num_envs, "measured": measured, "system": system(described)}
    say(f"written: {write_json(config.out, report)}")
    return 0
