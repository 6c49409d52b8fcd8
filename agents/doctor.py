"""`saccade doctor`: what this machine offers, what it lacks, how fast it draws. Exit code 0 if the suite can run, else 1."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from agents.cli import check_packages
from agents.provenance import versions
from agents.run import system
from agents.show import say, table
from assets.errors import SaccadeError, UnknownNameError

SIZES = (84, 224)
PROFILES = ("fast", "standard", "quality")


def main(arguments: Sequence[str]) -> int:
    """Print the report; `quick` leaves out the speeds.

    Raises:
        UnknownNameError: another word.
    """
    for word in arguments:
        if word != "quick":
            raise UnknownNameError("word", word, ["quick"])
    problems = _packages()
    _machine()
    if not problems:
        problems += _drawing(quick="quick" in arguments)
    for problem in problems:
        say(f"PROBLEM: {problem}")
    say("all is well" if not problems else f"{len(problems)} problem(s)")
    return 1 if problems else 0


def _packages() -> list[str]:
    problems = []
    found = versions()
    table(("package", "version"), [(name, version or "MISSING") for name, version in found.items()], "versions")
    problems += [
        f"{name} is not installed: pip install {name}"
        for name, version in found.items()
        if version is None and name != "saccade"
    ]
    try:
        check_packages()
    except SaccadeError as error:
        problems.append(str(error))
    return problems


def _machine() -> None:
    info = system()["machine"]
    rows = [*info.items(), *((name, os.environ.get(name, "(not set)")) for name in ("MUJOCO_GL", "MUJOCO_EGL_DEVICE_ID"))]
    table(("machine", ""), rows)


def _drawing(quick: bool) -> list[str]:
    """Which OpenGL draws, and how many pictures of the arm a second, per profile and size."""
    importlib.import_module("envs")
    rows: list[tuple[str, ...]] = []
    gl: dict[str, Any] = {}
    try:
        for profile in PROFILES[:1] if quick else PROFILES:
            speeds = []
            for size in SIZES[:1] if quick else SIZES:
                env: Any = gym.make_vec(
                    "Saccade/Reach-v0", num_envs=4, vectorization_mode="vector_entry_point", profile=profile, image_size=size
                )
                try:
                    speeds.append(f"{_fps(env.unwrapped):.0f}")
                    gl = env.unwrapped.describe()["gl"]
                finally:
                    env.close()
            rows.append((profile, *speeds))
    except SaccadeError as error:
        return [str(error)]
    table(("OpenGL", ""), list(gl.items()))
    table(("render profile", *(f"{size} x {size}, pictures/s" for size in SIZES[: len(rows[0]) - 1])), rows)
    return []


def _fps(env: Any, seconds: float = 1.0) -> float:
    """Pictures a second, the time for drawing alone."""
    env.reset(seed=0)
    still = np.zeros(env.action_space.shape, np.float32)
    drawn, drawing, began = env.draws, env.timings["render"], time.perf_counter()
    while time.perf_counter() - began < seconds:
        env.step(still)
    return (env.draws - drawn) / (env.timings["render"] - drawing)
