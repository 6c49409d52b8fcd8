"""Stopping and going on is the same as never having stopped, to the last bit; what was cut short is seen, never trusted."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import checkpoint
from agents.make import make_env, make_learner
from agents.run import Run
from agents.train import main as train
from assets.errors import InvalidValueError, UnknownNameError

ROOT = Path(__file__).resolve().parents[1]
HALF = 512
COMMON = (
    "env=eye_search", "logger=jsonl", "num_envs=4", f"checkpoint_every={HALF}", "agent.device=cpu", "agent.threads=1", "seed=3",
    "+env.num_threads=1", "+env.max_episode_steps=20",
)  # fmt: skip
BLIND = ("+env.observe=[]",)
SEEING = ("env.resolution=8", "+env.observe=[eye_0]")
PPO = ("agent=ppo", "agent.n_steps=32", "agent.batch_size=64", "agent.n_epochs=2")
SAC = ("agent=sac", "agent.buffer_size=400", "agent.batch_size=32", "agent.policy.net_arch=[32,32]")
KINDS = {
    "ppo": (*PPO, *BLIND),
    "ppo, pixels": (*PPO, *SEEING),
    # 400 / 4 = 100 rows: the buffer has begun to overwrite itself before the interruption.
    "sac": (*SAC, *BLIND, "agent.learning_starts=64"),
    "sac, not yet learning": (*SAC, *BLIND, "agent.learning_starts=600"),
}


def assert_same(a: Any, b: Any, where: str = "") -> None:
    """Equal to the last bit, through dictionaries and lists."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{i}")
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b, err_msg=where)
    else:
        assert a == b, where


def newest(run: Run) -> dict[str, Any]:
    return checkpoint.load(run.checkpoints / "last")["learner"]


def next_actions(run: Run) -> np.ndarray:
    """What the finished run's policy would do next, drawn from its own streams, beside its mode."""
    env = make_env(run.config, 4, "same_step")
    try:
        learner = make_learner(run.config, env)
        learner.load_state(newest(run))
        obs = env.reset(seed=9)[0]
        return np.stack([learner.act(obs, deterministic=True), learner.act(obs), learner.act(obs)])
    finally:
        env.close()


def assert_alike(a: Run, b: Run) -> None:
    """Parameters, optimisers, buffers, random streams, simulations, and what is done next."""
    assert_same(newest(a), newest(b))
    np.testing.assert_array_equal(next_actions(a), next_actions(b))


def rows(run: Run) -> list[dict[str, Any]]:
    """What was logged, without the clock."""
    return [{k: v for k, v in row.items() if k not in ("seconds", "time/fps")} for row in run.metrics()]


def start(folder: Path, kind: str, steps: int) -> Run:
    return train([*COMMON, *KINDS[kind], f"steps={steps}", f"run={folder}"])


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """PPO, two halves in one go."""
    return start(tmp_path_factory.mktemp("straight") / "run", "ppo", 2 * HALF)


@pytest.fixture
def copy(straight: Run, tmp_path: Path) -> Run:
    """The same, in a folder of its own."""
    shutil.copytree(straight.folder, tmp_path / "run", symlinks=True)
    return Run.open(tmp_path / "run")


@pytest.mark.parametrize("kind", KINDS)
def test_two_halves_are_the_whole(kind: str, tmp_path: Path) -> None:
    whole = start(tmp_path / "whole", kind, 2 * HALF)
    half = start(tmp_path / "half", kind, HALF)
    assert newest(half)["steps"] == HALF
    resumed = train([f"resume={half.folder}", f"steps={2 * HALF}"])
    assert resumed.folder == half.folder
    assert newest(resumed)["steps"] == 2 * HALF
    assert_alike(whole, resumed)
    assert rows(whole) == rows(resumed)
    assert whole.resumes() == []
    (noted,) = resumed.resumes()
    assert (noted["step"], noted["overrides"]) == (HALF, [f"steps={2 * HALF}"])
    assert resumed.config.steps == 2 * HALF


def test_the_comparison_can_fail(straight: Run, tmp_path: Path) -> None:
    # Half as much training is something else, so equality above is not for want of learning.
    other = start(tmp_path / "run", "ppo", HALF)
    with pytest.raises(AssertionError):
        assert_same(newest(straight)["policy"], newest(other)["policy"])
    before = checkpoint.load(straight.checkpoints / f"{HALF:010d}")["learner"]
    assert_same(before, newest(other))


def test_killed_between_checkpoints(tmp_path: Path) -> None:
    every, steps = 3072, 2 * 3072  # metrics are written every 2048 steps, so there is a row between checkpoints
    quick = ("agent=ppo", "agent.n_steps=64", "agent.batch_size=256", "agent.n_epochs=1")
    others = [setting for setting in COMMON if not setting.startswith("checkpoint_every=")]
    settings = [*others, *quick, *BLIND, f"checkpoint_every={every}", f"steps={steps}"]
    whole = train([*settings, f"run={tmp_path / 'whole'}"])
    run = Run(tmp_path / "killed")
    command = [sys.executable, "-m", "agents.cli", "train", *settings, f"run={run.folder}"]
    child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 120
        while not any(row["step"] > every for row in run.metrics()):
            assert child.poll() is None, "training ended before it could be killed"
            assert time.monotonic() < deadline, "no metrics after two minutes"
            time.sleep(0.02)
        os.kill(child.pid, signal.SIGKILL)
    finally:
        child.kill()
        assert child.wait(timeout=30) == -signal.SIGKILL
    assert newest(run)["steps"] < steps
    done = subprocess.run(
        [sys.executable, "-m", "agents.cli", "train", f"resume={run.folder}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert f"resuming {run.folder} from 0000" in done.stderr
    assert_alike(whole, run)
    assert rows(whole) == rows(run)  # what was done twice is logged once
    seconds = [row["seconds"] for row in run.metrics()]
    assert seconds == sorted(seconds)


@pytest.mark.parametrize(
    ("file", "sentence"),
    [
        (
            "arrays.safetensors",
            r"arrays\.safetensors is missing, cut short or changed: its digest is not the one in state\.json",
        ),
        ("state.json", r"state\.json is cut short or damaged"),
    ],
)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_checkpoint_is_passed_over(straight: Run, copy: Run, file: str, sentence: str, share: float) -> None:
    damaged = copy.checkpoints / f"{2 * HALF:010d}" / file
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: int(share * len(whole))])
    with pytest.warns(UserWarning, match=rf"{2 * HALF:010d}/{sentence}.*; taking the checkpoint before it"):
        train([f"resume={copy.folder}", f"steps={2 * HALF}"])
    assert_same(newest(straight), newest(copy))
    assert checkpoint.names(copy.checkpoints) == [f"{HALF:010d}", f"{2 * HALF:010d}"]
    # Nothing is lost: what was damaged has been set aside, not deleted.
    aside = copy.checkpoints / f"{2 * HALF:010d}.damaged" / file
    assert aside.read_bytes() == whole[: int(share * len(whole))]


def test_a_vanished_file_is_passed_over(copy: Run) -> None:
    (copy.checkpoints / "last" / "arrays.safetensors").unlink()
    with pytest.warns(UserWarning, match="is missing, cut short or changed"):
        assert checkpoint.load_last(copy.checkpoints)[0].name == f"{HALF:010d}"


def test_no_whole_checkpoint(copy: Run) -> None:
    for name in checkpoint.names(copy.checkpoints):
        (copy.checkpoints / name / "state.json").write_text("{")
    with (
        pytest.warns(UserWarning, match="taking the checkpoint before it"),
        pytest.raises(checkpoint.CheckpointError, match=rf"no whole checkpoint in .* \(found: {HALF:010d}, {2 * HALF:010d}\)"),
    ):
        train([f"resume={copy.folder}", "steps=9999"])


def test_a_run_folder_is_never_overwritten(copy: Run) -> None:
    before = {f: f.read_bytes() for f in copy.folder.rglob("*") if f.is_file()}
    with pytest.raises(InvalidValueError) as caught:
        train([*COMMON, *KINDS["ppo"], "steps=128", f"run={copy.folder}"])
    assert str(caught.value) == (
        f"the run folder {copy.folder} is not empty, and nothing is overwritten: choose another run=, or resume={copy.folder}"
    )
    assert {f: f.read_bytes() for f in copy.folder.rglob("*") if f.is_file()} == before


def test_nothing_left_to_do(copy: Run) -> None:
    with pytest.raises(InvalidValueError) as caught:
        train([f"resume={copy.folder}"])
    assert str(caught.value) == f"{copy.folder} has done 1024 of 1024 steps: resume it with steps=<more>"


def test_what_cannot_be_resumed(copy: Run, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"nowhere is not a run folder: it has no config.yaml"):
        train([f"resume={tmp_path / 'nowhere'}"])
    with pytest.raises(UnknownNameError, match=r"unknown override 'step': did you mean 'steps'\?"):
        train([f"resume={copy.folder}", "step=2000"])
    with pytest.raises(InvalidValueError, match=r"a run goes on with its own agent: leave out agent=sac, or start a new run"):
        train([f"resume={copy.folder}", "agent=sac", "steps=2000"])


def test_another_number_of_simulations_cannot_continue(copy: Run) -> None:
    with pytest.raises(
        InvalidValueError, match=r"the checkpoint has 4 simulations, this configuration 8: resume with num_envs=4"
    ):
        train([f"resume={copy.folder}", "num_envs=8", "steps=2000"])


def test_a_replay_buffer_of_another_size_cannot_continue(tmp_path: Path) -> None:
    run = start(tmp_path / "run", "sac", 128)
    with pytest.raises(InvalidValueError, match=r"the checkpoint's replay buffer holds 100 steps, this configuration's 200"):
        train([f"resume={run.folder}", "agent.buffer_size=800", "steps=256"])


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("steps=0", "steps must be an integer >= 1, got 0"),
        ("num_envs=-1", "num_envs must be an integer >= 1, got -1"),
        ("keep=0", "keep must be an integer >= 1, got 0"),
        ("checkpoint_every=1.5", "checkpoint_every must be an integer >= 1, got 1.5"),
        ("steps=many", "steps must be an integer >= 1, got 'many'"),
        ("seed=1000000", "seed must be an integer from 0 to 999999 (larger ones are kept for evaluation), got 1000000"),
    ],
)
def test_impossible_settings_leave_no_folder(override: str, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError) as caught:
        train([*BLIND, override, f"run={tmp_path / 'run'}"])
    assert str(caught.value) == sentence
    assert not (tmp_path / "run").exists()


def test_a_start_that_fails_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown option of EyeSearch 'distractor': did you mean 'distractors'"):
        train(["+env.distractor=3", f"run={tmp_path / 'run'}"])
    assert not (tmp_path / "run").exists()
