"""Meta-World's benchmark of rewards: everything but Meta-World itself, and that too where it is installed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.errors import InvalidValueError, UnknownNameError
from benchmarks import metaworld_worker as worker
from benchmarks import reward_metaworld
from benchmarks.peers import MARK, REQUIREMENTS, PeerError, default_venv
from benchmarks.reward_metaworld import FIRST_EPISODE, HELD_OUT, TRIED, WAYS, Bench, demonstrations, footage
from rewards.card import Footage

pytestmark = pytest.mark.usefixtures("one_thread")
PLACE = st.tuples(*[st.floats(-1, 1, allow_nan=False)] * 3).map(np.array)


class Door:
    """What the worker needs of an environment: a handle that goes where the action says."""

    def __init__(self, done: int) -> None:
        self.unwrapped, self._target_pos = self, np.array([1.0, 0, 0])
        self.done, self.steps = done, 0

    def seen(self) -> np.ndarray:
        return np.array([0, 0, 0, 1, self.steps / 100, 0, 0], float)

    def reset(self) -> tuple[np.ndarray, dict[str, Any]]:
        self.steps = 0
        return self.seen(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        assert action.dtype == np.float32
        self.steps += 1
        return self.seen(), 0.0, False, False, {"success": float(self.done <= self.steps < self.done + 3)}

    def render(self) -> np.ndarray:
        picture = np.zeros((4, 4, 3), np.uint8)
        picture[0, 0] = self.steps
        return picture


class Meddling:
    """A policy that wants to go beyond its limits, and writes into what it is given."""

    def get_action(self, obs: np.ndarray) -> np.ndarray:
        obs[:] = 99
        return np.full(4, 25.0)


def acted(way: str, steps: int = worker.LENGTH, seed: int = 0) -> np.ndarray:
    act, obs = worker.actor(way, Meddling(), np.random.default_rng(seed)), np.zeros(7)
    actions = np.array([act(obs, step) for step in range(steps)])
    assert not obs.any()
    return actions


def put(folder: Path, task: str, way: str, first: int, count: int, seed: int) -> None:
    """Videos of a door that opens, or does not: what the worker would have written."""
    rng = np.random.default_rng((first, WAYS.index(way)))
    place = folder / "datasets" / "metaworld"
    place.mkdir(parents=True, exist_ok=True)
    frames, told, opened = [], [], []
    for _ in range(count):
        far = 1.0 if way in ("expert", "clumsy") else 0.4 if way == "stopped" else 0.0
        share = np.minimum(np.linspace(0, 1, 15), far)
        video = rng.integers(0, 20, (15, 12, 12, 3))
        video[..., 1] += (share[:, None, None] * 200).astype(int)
        video[:, :6, :, 2] += (100 * (share > 0.3))[:, None, None]
        frames.append(video.astype(np.uint8))
        told.append(share)
        opened.append(far == 1)
    np.savez(
        place / f"{task}-{way}-{first}-{count}-{seed}.npz",
        frames=np.concatenate(frames), length=np.full(count, 15), progress=np.concatenate(told), success=np.array(opened),
    )  # fmt: skip


def test_ways_of_acting_differ_as_they_say() -> None:
    expert, clumsy, stopped, wild = (acted(way) for way in WAYS)
    for actions in (expert, clumsy, stopped, wild):
        assert actions.shape == (worker.LENGTH, 4)
        assert np.abs(actions).max() <= 1
    assert 0.9 < expert.mean() < 1  # the limit, but for a little noise downwards
    assert expert.mean() > clumsy.mean() > 0.5
    assert abs(wild.mean()) < 0.1
    still = (stopped == 0).all(axis=1)
    assert 1 <= np.diff(np.flatnonzero(still)).max(initial=1) == 1
    assert still[worker.LENGTH // 3 :].all()
    np.testing.assert_array_equal(acted("stopped", seed=3), acted("stopped", seed=3))


@settings(max_examples=50)
@given(PLACE, PLACE, PLACE, PLACE)
def test_progress_is_a_share(hand: np.ndarray, handle: np.ndarray, start: np.ndarray, goal: np.ndarray) -> None:
    if np.linalg.norm(start - goal) < 1e-3:
        return
    assert 0 <= worker.progress(hand, handle, start, goal) <= 1
    assert worker.progress(goal, goal, start, goal) == 1
    assert worker.progress(start, start, start, goal) == pytest.approx(0.25)
    assert worker.progress(handle, handle, start, goal) >= worker.progress(hand, handle, start, goal)


@pytest.mark.parametrize(("done", "frames"), [(20, 10), (21, 10), (worker.LENGTH, 41), (10**6, 41)])
def test_videos_end_soon_after_success(done: int, frames: int) -> None:
    video, told, succeeded = worker.episode(Door(done), lambda obs, step: np.zeros(4))
    assert video.shape == (frames, 4, 4, 3)
    assert video[:, -1, -1, 0].tolist() == list(range(0, 4 * frames, worker.EVERY))  # turned by half a turn
    assert succeeded is (done <= worker.LENGTH)
    place = video[:, -1, -1, 0] / 100
    np.testing.assert_allclose(told, 0.25 * (1 - np.tanh(place / 0.1)) + 0.75 * (1 - np.abs(1 - place)), atol=1e-9)


def test_demonstrations_are_the_first_that_succeeded() -> None:
    videos = [np.full((2, 2, 2, 3), k, np.uint8) for k in range(5)]
    shot = Footage(videos, [np.zeros(2)] * 5, np.array([True, False, True, False, True]))
    assert [int(video[0, 0, 0, 0]) for video in demonstrations(shot, 2)] == [0, 2]
    with pytest.raises(InvalidValueError, match="4 demonstrations are needed, only 3 of 5 succeeded"):
        demonstrations(shot, 4)


def test_what_the_worker_wrote_is_cut_into_its_videos(tmp_path: Path) -> None:
    frames = np.arange(5, dtype=np.uint8)[:, None, None, None].repeat(3, axis=3)
    np.savez(tmp_path / "v.npz", frames=frames, length=[2, 3], progress=np.arange(5.0), success=[True, False])
    read = footage(tmp_path / "v.npz")
    assert [video[:, 0, 0, 0].tolist() for video in read.frames] == [[0, 1], [2, 3, 4]]
    assert [part.tolist() for part in read.progress] == [[0, 1], [2, 3, 4]]
    assert read.success.tolist() == [True, False]


def test_a_cell_from_videos_and_only_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "door-open-v3", "expert", 1, TRIED, 0)
    for way in WAYS:
        put(tmp_path, "door-open-v3", way, FIRST_EPISODE, HELD_OUT, 0)
    asked = ["--cells", "metaworld/upr", "--folder", str(tmp_path), "--venv", str(tmp_path / "none")]
    assert reward_metaworld.main(asked) == 0
    place = tmp_path / "metaworld" / "upr"
    found = json.loads((place / "cell-0.json").read_text())
    assert found["kendall_tau"] > 0.7
    assert found["success_auroc"] == found["best_of_n"] == found["expert_success"] == 1
    assert found["blind_kendall_tau"] == 0
    assert (place / "report.html").read_text().count("<svg") == 8
    told = json.loads((place / "reward.json").read_text())
    assert told["env"]["id"] == "Meta-World/door-open-v3"
    (place / "cell-0.json").write_text(json.dumps({"kendall_tau": 0.5, "success_auroc": 0.25}))
    assert reward_metaworld.main(asked) == 0
    assert "metaworld/upr, seed 0: tau 0.50, success AUROC 0.25" in capsys.readouterr().err


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="metaworld/upr_drawer"):
        reward_metaworld.main(["--cells", "metaworld/urp", "--folder", str(tmp_path)])
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 'libEGL.so.1: cannot open shared object file' >&2\nexit 3\n")
    python.chmod(0o755)
    (tmp_path / "venv" / MARK).write_text(json.dumps(REQUIREMENTS))
    with pytest.raises(PeerError, match=r"status 3 \(the system library libEGL\.so\.1\)"):
        Bench(tmp_path, tmp_path / "venv").film("door-open-v3", "expert", 1, 1, 0)
    assert not list((tmp_path / "datasets").rglob("*.npz"))


def test_meta_world_itself(tmp_path: Path) -> None:
    if not (default_venv() / MARK).is_file():
        pytest.skip("Meta-World is not installed: python -m benchmarks.peers makes its environment")
    shot = Bench(tmp_path).film("drawer-open-v3", "expert", 5, 1, 0)
    (video,), (told,) = shot.frames, shot.progress
    assert video.shape == (len(told), worker.SIDE, worker.SIDE, 3)
    assert shot.success.tolist() == [True]
    assert told[0] < 0.1
    assert told[-1] > 0.85
    assert np.abs(video[-1].astype(int) - video[0]).mean() > 3
    green = (video[0].astype(int) @ [-1, 2, -1]) > 300
    assert not green.any()  # the mark at the goal
