"""The benchmark of eye and hand: cells are made once, and what is published is what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents import shipped
from agents.config import load
from agents.make import make_env
from agents.rollout import Episode
from agents.run import Run
from assets import asset
from assets.errors import InvalidValueError, UnknownNameError
from benchmarks import eyerobot
from benchmarks.eyerobot import Bench, gathered, measured, rows

pytestmark = pytest.mark.usefixtures("one_thread")
TINY = [
    "steps=24", "num_envs=2", "env.max_episode_steps=12", "env.resolution=8", "agent.minibatches=2",
    "agent.size.patch=4", "agent.decay_steps=0", "agent.wait=2",
]  # fmt: skip


def test_a_cell_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task in eyerobot.TASKS:
        for kind in ("", "-search", "-held"):
            place = tmp_path / "datasets" / "eyerobot" / f"{task.replace('_', '')}{kind}-v0"
            place.mkdir(parents=True)
            (place / "panoramas").symlink_to(asset(f"recordings/{task}/complete.json").parent)
    call = ["--tasks", "estop", "--searchers", "bcrl,random_gaze,oracle_gaze", "--policies", "no_rl", "--episodes", "2"]
    call += ["--shifts", "gaze,spatial"]
    cells = tmp_path / "cells"
    call += ["--folder", str(tmp_path), "--cells", str(cells)]
    assert eyerobot.main([*call, "--set", *TINY]) == 0
    cell = cells / "estop" / "no_rl-0.json"
    found = json.loads(cell.read_text())
    assert all(len(v) == 2 for v in found.values() if isinstance(v, list))
    assert all(0 <= p <= 1 for p in found["progress"])
    assert "sampled" in found
    assert "sampled" not in json.loads((cells / "estop" / "gaze" / "no_rl-0.json").read_text())
    assert (found["settings"]["agent.gaze"], found["settings"]["steps"]) == ("frozen", found["steps"])
    oracle = json.loads((cells / "search" / "oracle_gaze-0.json").read_text())
    assert oracle["success"] == [True, True]
    assert max(oracle["seconds_to_fixate"]) < 1.5
    made = cell.stat().st_mtime_ns
    eyerobot.main(call)
    assert cell.stat().st_mtime_ns == made
    names = {(r.name, r.metric) for r in gathered(cells)}
    assert {("estop/no_rl/gaze", "success_rate"), ("estop/no_rl/spatial", "progress")} <= names
    assert {("estop/no_rl", "final_error_cm"), ("search/oracle_gaze", "success_rate"), ("estop/no_rl", "progress")} <= names
    assert "estop/no_rl, seed 0" in capsys.readouterr().err
    other = {**found, "settings": {**found["settings"], "agent.blind": 0.5}}
    (cells / "estop" / "no_rl-1.json").write_text(json.dumps(other))
    with pytest.raises(InvalidValueError, match=r"seed 1 was trained with agent\.blind=0\.5"):
        gathered(cells)


def test_the_searches_of_the_first_seed_ship(tmp_path: Path) -> None:
    for kind, name in eyerobot.SHIPPED.items():
        run = Bench(tmp_path).searcher(kind, 0)
        assert run.folder == shipped.FOLDER / name
        found = eyerobot.effort(run)
        assert 1 < found["minutes"] < 600
        assert found["steps"] == shipped.history(run.folder)["updates"] == found["settings"]["steps"]


def test_the_best_static_camera_is_that_with_which_the_hand_has_learned_best(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = {"exo-3": -0.3, "static-side-3": -0.1, "static-top-3": -0.2}
    asked: dict[str, list[str]] = {}

    def trained(_: Bench, name: str, seed: int, arguments: list[str]) -> Run:
        run = Run(tmp_path / name)
        run.folder.mkdir(parents=True)
        for step in range(7):  # what came before the last five does not count
            run.log({"step": step, "rollout/reward": last[run.folder.name] if step > 1 else -seed * last[run.folder.name] * 9})
        asked[run.folder.name] = arguments
        return run

    monkeypatch.setattr(Bench, "trained", trained)
    monkeypatch.setattr(Bench, "recordings", lambda self, task: tmp_path / task)
    assert Bench(tmp_path).pair("estop", "static", 3).folder == tmp_path / "estop/static-side-3"
    assert {name: given[-1] for name, given in asked.items()} == {
        "exo-3": "env.cameras=[front]", "static-side-3": "env.cameras=[side]", "static-top-3": "env.cameras=[top]",
    }  # fmt: skip
    assert all("agent.gaze=fixed" in given for given in asked.values())


def test_rows_pool_the_episodes_of_all_seeds() -> None:
    cell = {"success": [True, False], "sampled": [True, True], "seconds_to_fixate": [1.0, None], "minutes": 3.0, "steps": 5}
    other = {**cell, "success": [True, True], "minutes": 5.0}
    found = {r.metric: r for r in rows("x", [cell, other], (0, 1))}
    assert (found["success_rate"].value, found["success_rate"].n, found["success_rate"].seeds) == (0.75, 4, (0, 1))
    assert (found["seconds_to_fixate"].value, found["seconds_to_fixate"].n, found["fixated"].value) == (1.0, 2, 0.5)
    assert (found["training_minutes"].low, found["training_minutes"].high) == (3.0, 5.0)


def test_one_lost_eye_decides_the_mean_error_and_not_the_median() -> None:
    cell = {"success": [True] * 9, "sampled": [True] * 9, "seconds_to_fixate": [1.0] * 9, "final_error_cm": [1.0] * 8 + [91.0]}
    found = {r.metric: r for r in rows("x", [cell], (0,))}
    assert found["final_error_cm"].value == 11.0
    middle = found["final_error_cm_median"]
    assert (middle.low, middle.value, middle.high) == (1.0, 1.0, 1.0)


def test_what_never_happened_is_told_as_nothing() -> None:
    away, steps = np.full(11, 0.5), 10
    state = {
        "gaze_error": away, "target_direction": np.zeros((11, 2)), "gaze": np.zeros((11, 2)), "tool": np.zeros((11, 3)),
        "distance": np.full(11, 0.2), "phase": np.repeat([0, 2], [4, 7]), "progress": np.linspace(0, 0.5, 11),
    }  # fmt: skip
    found = measured([Episode(0, "", np.zeros(steps, np.float32), np.zeros(steps, bool), False, False, state=state)], 1 / 15)
    assert found["seconds_to_fixate"] == found["gaze_leads_hand_s"] == [None]
    assert found["final_error_cm"] == [20.0]
    assert (found["progress"], found["on_target"], found["quiet_steps"]) == ([0.5], [0.0], [1.0])
    assert [found[f"on_target_phase_{p}"] for p in range(4)] == [[0.0], [None], [0.0], [None]]


def test_a_shift_is_compared_with_the_same_episodes_without_it(tmp_path: Path) -> None:
    cell = {"success": [True, True, False, True], "sampled": [True] * 4, "seconds_to_fixate": [None] * 4}
    for place, success in (("estop", cell["success"]), ("estop/light", [True, False, False, False])):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        (tmp_path / place / "bcrl-2.json").write_text(json.dumps({**cell, "success": success}))
    (row,) = [r for r in gathered(tmp_path) if r.metric == "success_drop"]
    assert (row.name, row.value, row.n, row.seeds) == ("estop/bcrl/light", 0.5, 4, (2,))


@pytest.mark.parametrize("shift", sorted(eyerobot.SHIFTS))
def test_every_task_has_every_shift(shift: str) -> None:
    options, start = eyerobot.SHIFTS[shift]
    for task in eyerobot.TASKS:
        if (task, shift) == ("estop", "moved"):
            continue
        env = make_env(load("evaluate", [f"env={task}", "policy=oracle"]), 1, "disabled", observe=(), **options)
        try:
            obs, _ = env.reset(seed=[0], options=start)
            if "gaze" in start:
                np.testing.assert_allclose(obs["gaze"][0, :2], start["gaze"], atol=1e-3)
            env.step(np.zeros(env.action_space.shape, np.float32))
        finally:
            env.close()


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="estop"):
        eyerobot.main(["--tasks", "stop", "--cells", str(tmp_path)])
    with pytest.raises(InvalidValueError, match="moves in every episode"):
        Bench(tmp_path, tmp_path).shifted("estop", "bcrl", 0, "moved")
    with pytest.raises(InvalidValueError, match="no cells yet"):
        eyerobot.main(["--cells", str(tmp_path)])
