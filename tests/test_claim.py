"""Two processes never write into one folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agents.claim import claimed
from agents.collect import main as collect
from agents.train import main as train
from assets.errors import InvalidValueError

ROOT = Path(__file__).resolve().parents[1]
TAKEN = "another process is writing into"
SMALL = (
    "env=eye_search",
    "agent=ppo",
    "agent.n_steps=8",
    "agent.batch_size=8",
    "+env.observe=[]",
    "num_envs=2",
    "logger=jsonl",
)


def test_a_folder_is_held_by_one_and_free_afterwards(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "run")
    for other in ("run", "link"):  # which does not exist yet
        with claimed(tmp_path / "run"), pytest.raises(InvalidValueError, match=TAKEN), claimed(tmp_path / other):
            pass
    with claimed(tmp_path / "run"), claimed(tmp_path / "run2"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["link"]


def test_a_process_that_is_killed_lets_go(tmp_path: Path) -> None:
    told = "import sys, time, pathlib; from agents.claim import claimed\n"
    told += "with claimed(pathlib.Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", told, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InvalidValueError, match=TAKEN), claimed(tmp_path):
            pass
        other.kill()
    with claimed(tmp_path):
        pass


def test_a_run_is_trained_by_one(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with claimed(run), pytest.raises(InvalidValueError, match=TAKEN):
        train([*SMALL, "steps=16", f"run={run}"])
    assert not run.exists()
    train([*SMALL, "steps=16", f"run={run}"])
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with claimed(run), pytest.raises(InvalidValueError, match=TAKEN):
        train([f"resume={run}", "steps=32"])
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before


def test_what_another_is_collecting_is_not_taken_for_half_written(tmp_path: Path) -> None:
    half = tmp_path / "saccade/reach/oracle-v0/data"
    half.mkdir(parents=True)
    call = ["env=reach", "n=1", "num_envs=1", "max_episode_steps=4", "only_successes=false", f"folder={tmp_path}"]
    with claimed(half.parent), pytest.raises(InvalidValueError, match=TAKEN):
        collect(call)
    assert half.is_dir()
    collect(call)
    assert (half / "main_data.hdf5").is_file()
