"""The `saccade` command: its verbs, its sentences, its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents import bench, cli, listing
from agents.config import groups
from agents.run import Run
from assets.errors import SaccadeError, UnknownNameError

ROOT = Path(__file__).resolve().parents[1]


def saccade(*arguments: str, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("saccade")), *arguments]
    environment = {**os.environ, **variables}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_names_every_verb(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(arguments) == 0
    said = capsys.readouterr().out
    assert said.startswith("usage: saccade <verb>")
    assert all(f"  saccade {verb} " in said for verb in cli.VERBS)


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([verb, "--help"]) == 0
    said = capsys.readouterr().out
    assert cli.VERBS[verb] in said or said == f"`saccade {verb}` has no settings\n"


def test_a_verbs_help_shows_its_choices(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["train", "--help"])
    said = capsys.readouterr().out
    for group, choices in groups().items():
        used = group not in ("vlm", "reward_model")  # which training does not know
        assert (f"  {group}={'|'.join(choices)}" in said) is used
    assert "checkpoint_every: 50000" in said
    cli.run(["bench", "perception", "--help"])
    said = capsys.readouterr().out
    assert said.startswith("saccade bench perception: ")
    assert f"  vlm={'|'.join(groups()['vlm'])}" in said


def test_a_verbs_help_shows_the_settings_of_a_choice(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["train", "agent=bcrl", "env=replay_estop", "agent.keep=0.25", "--help"])
    told = capsys.readouterr().out
    said = {line.split("  #")[0].strip() for line in told.splitlines()}
    assert {"id: Saccade/EyeReplay-EStop-v0", "inhibit: 0", "keep: 0.25"} <= said
    remark = next(line for line in told.splitlines() if line.strip().startswith("grip:")).split("# ")[1]
    assert remark == "weight of the gripper's error in the reward; null for 0.2 beside joint, 0 beside path and se3"
    cli.run(["train", "experiment=eyerobot_cpu", "--help"])
    of_experiment = capsys.readouterr().out
    for key, value in (("inhibit", "20"), ("half", "false"), ("seed", "0")):
        line = next(line for line in of_experiment.splitlines() if line.strip().startswith(f"{key}:"))
        assert line.split("  #")[0].strip() == f"{key}: {value}"
        # An experiment tells why it sets something; what it is, the setting's own file tells.
        assert line.split("# ")[1] == next(o for o in told.splitlines() if o.strip().startswith(f"{key}:")).split("# ")[1]
    with pytest.raises(UnknownNameError, match="'bcrk': did you mean 'bcrl'"):
        cli.run(["train", "agent=bcrk", "--help"])


def test_a_verbs_help_begins_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    cli.run(["collect", "--help"])
    title, _, example, *rest = capsys.readouterr().out.splitlines()
    assert title == f"saccade collect: {cli.VERBS['collect']}"
    assert example == "  saccade collect env=reach n=50 noise=0.2"
    assert f"{'n: 50':<36}# episodes to keep" in rest, "yaml quotes the key, for a bare n once meant no"


def test_doctor_refuses_a_word_that_it_does_not_know() -> None:
    with pytest.raises(UnknownNameError, match="'quik': did you mean 'quick'"):
        cli.run(["doctor", "quik"])


def test_an_error_is_one_sentence_and_exit_code_2() -> None:
    done = saccade("trian", "env=reach")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "saccade: unknown verb 'trian': did you mean 'train'? "
        "available: bench, collect, doctor, evaluate, fit, list, relabel, replay, train\n"
    )


def test_the_module_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "agents.cli", "evaluate", "policy=orcale"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == "saccade: unknown policy 'orcale': did you mean 'oracle'? available: oracle, random\n"
    del tmp_path


@pytest.mark.parametrize("verb", ["train", "evaluate", "replay", "collect", "fit", "relabel", "list", "bench", "doctor"])
def test_the_verbs_are_modules(verb: str) -> None:
    import importlib

    assert callable(importlib.import_module(f"agents.{'listing' if verb == 'list' else verb}").main)


def test_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["list"]) == 0
    said = capsys.readouterr().out
    assert all(row[0] in said for row in listing.environments())
    assert all(choice in said for choices in groups().values() for choice in choices)
    cli.run(["list", "agent"])
    said = capsys.readouterr().out
    assert "ppo" in said
    assert "EyeSearch" not in said
    with pytest.raises(UnknownNameError, match=r"unknown configuration group 'agnet': did you mean 'agent'\?"):
        cli.run(["list", "agnet"])


def test_doctor_is_content_with_this_machine() -> None:
    done = saccade("doctor", "quick")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all is well" in done.stderr
    for told in ("mujoco", "torch", "vendor", "84 x 84, pictures/s", "cores"):
        assert told in done.stdout, told


def test_doctor_fails_where_nothing_can_draw() -> None:
    done = saccade("doctor", "quick", MUJOCO_GL="glfw")
    assert done.returncode == 1
    assert "PROBLEM: " in done.stderr
    assert "1 problem(s)" in done.stderr


def test_a_package_of_the_same_name_is_noticed(tmp_path: Path) -> None:
    # As when another distribution that ships `rewards` comes first on the path.
    (tmp_path / "rewards").mkdir()
    (tmp_path / "rewards" / "__init__.py").write_text("")
    code = f"import sys; from agents.cli import check_packages; sys.path.insert(0, {str(tmp_path)!r}); check_packages()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert (
        f"`import rewards` finds {tmp_path / 'rewards' / '__init__.py'}, not the suite's own in {ROOT}: "
        "another package of that name shadows it"
    ) in done.stderr
    cli.check_packages()  # here, all is as it should be


def test_agents_themselves_shadowed(tmp_path: Path) -> None:
    # The one case that the suite's own code cannot meet with a sentence of its own: it is never reached.
    (tmp_path / "agents").mkdir()
    (tmp_path / "agents" / "__init__.py").write_text("")
    done = saccade("list", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert done.returncode != 0
    assert "agents" in done.stderr


def test_bench_adds_up(tmp_path: Path) -> None:
    out = tmp_path / "deep" / "bench.json"
    assert bench.main(["num_envs=2", "seconds=0.5", "env.resolution=8", f"out={out}"]) == 0
    report: dict[str, Any] = json.loads(out.read_text())
    spent = report["measured"]
    assert (report["env"], report["num_envs"]) == ("Saccade/EyeSearch-v0", 2)
    assert spent["physics_ms"] + spent["render_ms"] + spent["python_ms"] == pytest.approx(spent["step_ms"])
    assert all(spent[part] > 0 for part in ("physics_ms", "render_ms", "python_ms"))
    assert spent["env_steps_per_s"] == pytest.approx(2 * 1000 / spent["step_ms"])
    assert report["system"]["environment"]["profile"] == "fast"
    with pytest.raises(SaccadeError, match="seconds must be > 0, got 0"):
        bench.main(["seconds=0"])


def test_bench_tells_of_recordings_what_they_take(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "bench.json"
    assert bench.main(["env=replay_estop", "num_envs=2", "seconds=0.3", f"out={out}"]) == 0
    spent: dict[str, float] = json.loads(out.read_text())["measured"]
    assert set(spent) == {"decode_ms", "look_ms", "python_ms", "step_ms", "env_steps_per_s"}
    assert all(value > 0 for value in spent.values())
    assert spent["decode_ms"] + spent["look_ms"] + spent["python_ms"] == pytest.approx(spent["step_ms"])
    assert "Saccade/EyeReplay-EStop-v0, 2 simulations, profile recorded" in " ".join(capsys.readouterr().out.split())


# -- run folders -------------------------------------------------------------------------------------------------------


def test_a_run_folder_says_where_it_comes_from(tmp_path: Path) -> None:
    from agents.train import main as train

    quick = ["agent.n_steps=8", "agent.batch_size=16", "agent.n_epochs=1", "agent.device=cpu", "agent.threads=1", "num_envs=2"]
    run = train([*quick, "env.resolution=8", "steps=16", f"run={tmp_path / 'run'}"])
    assert sorted(f.name for f in run.folder.iterdir()) == [
        "checkpoints", "config.yaml", "metrics.jsonl", "system.json", "tensorboard",
    ]  # fmt: skip
    told = json.loads((run.folder / "system.json").read_text())
    assert told["versions"]["torch"]
    assert told["environment"]["profile"] == "fast"
    assert {"vendor", "renderer"} <= set(told["environment"]["gl"])
    assert run.config.steps == 16
    assert run.config.agent.n_steps == 8


def test_metrics_survive_being_cut_short(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.metrics() == []
    for step in (1, 2, 3):
        run.log({"step": step, "x": 0.5 * step})
    file = tmp_path / "metrics.jsonl"
    file.write_text(file.read_text()[:-4])
    assert [row["step"] for row in run.metrics()] == [1, 2]
    run.forget_after(1)
    assert file.read_text() == '{"step": 1, "x": 0.5}\n'
    run.log({"step": 2})
    assert [row["step"] for row in run.metrics()] == [1, 2]


def test_a_warning_is_a_sentence(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import warnings

    from agents import cli

    def warn(arguments: object) -> int:
        warnings.warn("the cup is cracked", stacklevel=1)
        return 0

    monkeypatch.setattr(cli, "run", warn)
    before = warnings.showwarning
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            with pytest.raises(SystemExit):
                cli.main()
    finally:
        warnings.showwarning = before
    assert capsys.readouterr().err == "saccade: the cup is cracked\n"
