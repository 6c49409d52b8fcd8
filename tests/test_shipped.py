"""Policies that ship: small, whole, filmed by one command, and made from a run by one."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from agents import checkpoint, shipped
from agents.evaluate import main as evaluate
from agents.export import export
from agents.replay import main as replay
from agents.run import Run
from agents.train import main as train
from assets.errors import InvalidValueError, UnknownNameError

pytestmark = pytest.mark.usefixtures("one_thread")


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@pytest.fixture
def named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    run = train(
        ["agent=bcrl", "env=replay_estop", "env.max_episode_steps=12", "env.pause=4", "env.resolution=8", "num_envs=2",
         "agent.size={width: 32, heads: 2, depth: 1, patch: 4}", "agent.minibatches=2", "agent.threads=1", "agent.wait=2",
         "steps=24", "logger=jsonl", f"run={tmp_path / 'run'}"]
    )  # fmt: skip
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "policies")
    export(run, tmp_path / "policies" / "eyerobot" / "estop")
    return run


def test_an_exported_pair_acts_as_its_run_does(named: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert shipped.names() == ["eyerobot/estop"]
    place = shipped.FOLDER / "eyerobot" / "estop"
    assert list(checkpoint.load_last(place / "checkpoints")[1]["learner"]) == ["policy"]
    assert size(place / "checkpoints") < size(named.checkpoints) / 2
    assert Run.open(place).config.env.recordings == "recordings/estop"
    before = sorted(place.rglob("*"))
    ours, theirs = (
        evaluate([w, "episodes=2", "num_envs=2", "baselines=[]"]) for w in (f"run={named.folder}", "checkpoint=eyerobot/estop")
    )
    assert ours["scores"] == theirs["scores"]
    video = replay(["checkpoint=eyerobot/estop", "episodes=1", "width=64", "height=48"])
    assert video == Path("outputs/eyerobot_estop.mp4")
    assert sorted(place.rglob("*")) == before


def test_what_is_refused(named: Run) -> None:
    with pytest.raises(UnknownNameError, match="eyerobot/estop"):
        replay(["checkpoint=eyerobot/stop"])
    with pytest.raises(InvalidValueError, match="leave one out"):
        evaluate(["checkpoint=eyerobot/estop", f"run={named.folder}"])
    with pytest.raises(InvalidValueError, match="brings its own env"):
        evaluate(["checkpoint=eyerobot/estop", "env=reach"])


def test_an_eye_that_searches_can_be_begun_with_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny = ["agent=bcrl", "env=replay_estop", "env.max_episode_steps=12", "env.pause=4", "env.resolution=8", "num_envs=2",
            "agent.size={width: 32, heads: 2, depth: 1, patch: 4}", "agent.minibatches=2", "agent.threads=1", "steps=24",
            "logger=jsonl"]  # fmt: skip
    searched = train([*tiny, "agent.reward=env", "agent.hand=false", "env.chunk=0", f"run={tmp_path / 'search'}"])
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "policies")
    export(searched, tmp_path / "policies" / "eyerobot" / "search")
    assert (shipped.names(), shipped.starts()) == ([], ["eyerobot/search"])
    begun = [
        train([*tiny, "agent.gaze=frozen", f"agent.start={start}", f"run={tmp_path / name}"])
        for name, start in (("a", "eyerobot/search"), ("b", searched.folder))
    ]
    one, other = (checkpoint.load_last(run.checkpoints)[1]["learner"]["policy"]["hand"] for run in begun)
    assert all(np.array_equal(one[key], other[key]) for key in one)
    with pytest.raises(UnknownNameError, match="did you mean 'eyerobot/search'"):
        shipped.start("eyerobot/serch")
    shutil.rmtree(searched.folder)
    assert evaluate([f"run={begun[1].folder}", "episodes=1", "num_envs=1", "baselines=[]"])["scores"]


@pytest.mark.parametrize("name", shipped.names())
def test_whatever_ships_acts(name: str) -> None:
    found = evaluate([f"checkpoint={name}", "episodes=1", "num_envs=1", "baselines=[]"])
    assert np.isfinite(found["scores"][0]["reward"])
    assert size(shipped.FOLDER / name) < 6e6
