"""Videos of Meta-World (arXiv:1910.10897) beside what was true in them, made in the interpreter that holds it.

Started by `benchmarks.reward_metaworld` as `python -P metaworld_worker.py TASK WAY FIRST COUNT SEED OUT`, so it imports
nothing of the suite. It writes an npz file:

    frames      (sum T_i, SIDE, SIDE, 3) uint8, the videos one after the other
    length      (N,) T_i
    progress    (sum T_i,) in [0, 1]
    success     (N,) whether the task was done, as Meta-World says

FIRST draws 50 variants of the task, and FIRST, FIRST + 1, ... draw one of them for each video: the same for every way of
acting, and some twice. The ways are those of `agents.footage`. Progress is as in DoorOpen: a quarter for nearness of the hand
to the handle, and the rest for how far that has come to where it belongs. The camera "corner3" hangs head down, so its pictures
are turned. The green mark that Meta-World draws at the goal is left out, and so are shadows, which take most of the time. The
scripted policy pulls on beyond the goal, so videos end soon after success.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIDE, CAMERA = 84, "corner3"
LENGTH, AFTER, EVERY = 160, 16, 4  # control steps of 12.5 ms: at most, after success, and from one frame to the next
LITTLE, MUCH = 0.1, 0.8  # standard deviations of the noise on actions in [-1, 1]

Act = Callable[[NDArray[Any], int], NDArray[Any]]


def actor(way: str, policy: Any, rng: np.random.Generator) -> Act:
    """One episode's way of acting: "expert", "clumsy", "stopped" or "random"."""
    moment = int(rng.integers(0, LENGTH // 3)) if way == "stopped" else LENGTH

    def act(obs: NDArray[Any], step: int) -> NDArray[Any]:
        if way == "random":
            return rng.uniform(-1, 1, 4)
        if step >= moment:
            return np.zeros(4)
        meant = np.clip(policy.get_action(obs.copy()), -1, 1)  # it writes into what it is given
        return np.clip(meant + rng.normal(0, MUCH if way == "clumsy" else LITTLE, 4), -1, 1)

    return act


def progress(hand: NDArray[Any], handle: NDArray[Any], start: NDArray[Any], goal: NDArray[Any]) -> float:
    """How far the task has come, in [0, 1], by places in metres."""
    near = 1 - np.tanh(np.linalg.norm(hand - handle) / 0.1)
    moved = 1 - np.linalg.norm(handle - goal) / np.linalg.norm(start - goal)
    return float(0.25 * near + 0.75 * np.clip(moved, 0, 1))


def episode(env: Any, act: Act) -> tuple[NDArray[np.uint8], NDArray[np.float64], bool]:
    """Frames (T, SIDE, SIDE, 3), progress (T,) and whether the task was done."""
    obs, _ = env.reset()
    goal, start = env.unwrapped._target_pos.copy(), obs[4:7].copy()
    frames, told, done_at = [env.render()], [progress(obs[:3], obs[4:7], start, goal)], LENGTH + 1
    for step in range(1, LENGTH + 1):
        obs, _, _, _, info = env.step(act(obs, step - 1).astype(np.float32))
        if info["success"]:
            done_at = min(done_at, step)
        if step > done_at + AFTER:
            break
        if step % EVERY == 0:
            frames.append(env.render())
            told.append(progress(obs[:3], obs[4:7], start, goal))
    return np.stack(frames)[:, ::-1, ::-1], np.array(told), done_at <= LENGTH


def made(task: str, first: int) -> Any:
    """A Meta-World environment without mark and shadows."""
    gymnasium = importlib.import_module("gymnasium")
    importlib.import_module("metaworld")
    looks = {"render_mode": "rgb_array", "camera_name": CAMERA, "width": SIDE, "height": SIDE, "disable_env_checker": True}
    env = gymnasium.make("Meta-World/MT1", env_name=task, seed=first, **looks)
    env.unwrapped.model.site("goal").rgba[3] = 0
    env.unwrapped.model.vis.quality.offsamples = 0  # before the first frame: samples are allocated with the context
    scene = env.unwrapped.mujoco_renderer._get_viewer("rgb_array").scn
    scene.flags[importlib.import_module("mujoco").mjtRndFlag.mjRND_SHADOW] = 0
    return env


def main(argv: list[str]) -> None:
    """Make one file of videos."""
    task, way, first, count, seed, out = argv
    warnings.simplefilter("ignore")  # of Gymnasium, about Meta-World's own spaces and actions
    env, policies = made(task, int(first)), importlib.import_module("metaworld.policies").ENV_POLICY_MAP
    shot = []
    for start in range(int(first), int(first) + int(count)):
        env.unwrapped.seed(start)
        shot.append(episode(env, actor(way, policies[task](), np.random.default_rng((int(seed), start)))))
    env.close()
    frames, told, success = zip(*shot, strict=True)
    partial = Path(out).with_suffix(".partial.npz")
    np.savez_compressed(
        partial, frames=np.concatenate(frames), length=np.array([len(video) for video in frames]),
        progress=np.concatenate(told), success=np.array(success),
    )  # fmt: skip
    partial.replace(out)


if __name__ == "__main__":
    main(sys.argv[1:])
