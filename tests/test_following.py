"""Following a recording by its joints, as a pair's chunks are followed, solves the task that was recorded."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import envs
from agents.pair import AHEAD, REACH
from assets import asset
from envs.registry import NAMESPACE, REPLAYS
from perception.recording import PER_STEP, Recordings

assert envs


@pytest.mark.parametrize(("name", "folder"), REPLAYS)
def test_a_recording_can_be_followed(name: str, folder: str) -> None:
    recordings = list(Recordings(asset(f"{folder}/complete.json").parent))
    env: Any = gym.make_vec(
        f"{NAMESPACE}/{name}-v0", len(recordings), vectorization_mode="vector_entry_point", control="joint", observe=(),
        autoreset_mode="disabled",
    )  # fmt: skip
    _, info = env.reset(seed=[int(r.about["seed"]) for r in recordings])
    solved, strayed = np.zeros(len(recordings), bool), list[float]()
    for t in range(min(env.unwrapped.max_episode_steps, max(map(len, recordings)) // 2 + 20)):
        rows = [np.minimum([PER_STEP * t, PER_STEP * t + AHEAD], len(r) - 1) for r in recordings]
        now, ahead = (np.stack([r.columns["joints"][row[k]] for r, row in zip(recordings, rows, strict=True)]) for k in (0, 1))
        joints = info["state"]["joints"]
        strayed.append(float(np.abs(joints - now).max()))
        move = np.clip((ahead - joints) / (AHEAD / PER_STEP) / REACH, -1, 1)
        grip = np.stack([2 * r.columns["grip"][row[0]] - 1 for r, row in zip(recordings, rows, strict=True)])
        *_, info = env.step(np.concatenate([np.zeros((len(recordings), 2)), move, grip], axis=1).astype(np.float32))
        solved |= info["success"]
    env.close()
    assert solved.all()
    assert np.mean(strayed) < 0.02
    assert max(strayed) < 0.1
