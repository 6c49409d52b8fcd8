"""What is installed is what was written: the wheel holds every asset and works away from the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = [pattern.rstrip("*") for pattern in PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]]
DATA = {".py", ".yaml", ".xml", ".png", ".json", ".typed", ".md", ".safetensors", ".jinja", ".jsonl", ".npz", ".mp4"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that the checkout stays as it is."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--disable-pip-version-check",
        "-w",
        str(out),
        ".",
    ]
    done = subprocess.run([sys.executable, "-m", *command], cwd=source, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Unpacked as an installer would, far from the checkout."""
    place = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def elsewhere(installed: Path, code: str) -> str:
    """Run in a fresh process that finds the suite in `installed` and nowhere else."""
    # -P: the working folder is not searched. The checkout's own (editable) installation is moved out of the way.
    ahead = f"import sys; sys.meta_path = [f for f in sys.meta_path if 'editable' not in repr(f).lower()]\nsys.path.remove({str(ROOT)!r}) if {str(ROOT)!r} in sys.path else None\n"  # noqa: E501
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", ahead + code],
        cwd=installed.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_small_and_says_its_version(wheel: Path) -> None:
    assert wheel.stat().st_size < 50e6
    assert wheel.name == f"{PROJECT['project']['name']}-{PROJECT['project']['version']}-py3-none-any.whl"


def test_it_holds_every_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
    written = {
        str(file.relative_to(ROOT))
        for name in PACKAGES
        for file in (ROOT / name).rglob("*")
        if file.is_file() and file.suffix in DATA and "__pycache__" not in file.parts
    }
    assert written - packed == set()
    assert packed - written == set()
    for ending in (".yaml", ".xml", ".png", ".typed"):
        assert any(name.endswith(ending) for name in packed), ending


def test_every_file_has_a_known_ending() -> None:
    # So that the comparison above overlooks nothing.
    found = {f.suffix for name in PACKAGES for f in (ROOT / name).rglob("*") if f.is_file() and "__pycache__" not in f.parts}
    assert found <= DATA


def test_it_carries_its_licence_and_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        (entry,) = [n for n in names if n.endswith("entry_points.txt")]
        assert "saccade = agents.cli:main" in archive.read(entry).decode()
        assert any(n.endswith("LICENSE") for n in names)


def test_every_environment_is_made_and_drawn_away_from_the_checkout(installed: Path) -> None:
    said = elsewhere(
        installed,
        """
import gymnasium as gym, assets, envs
from envs.registry import ids
for name in ids():
    env = gym.make(name, image_size=8)
    obs, info = env.reset(seed=0)
    assert obs in env.observation_space
    env.step(env.action_space.sample())
    env.close()
print(assets.__file__, *ids(), sep="\\n")
""",
    )
    place, *ids = said.split()
    assert Path(place).is_relative_to(installed)
    assert "Saccade/EyeSearch-v0" in ids


def test_the_verbs_work_away_from_the_checkout(installed: Path) -> None:
    said = elsewhere(
        installed,
        """
from agents.cli import run
from agents.config import groups, load, verbs
for verb in verbs():
    load(verb)
for group, choices in groups().items():
    for choice in choices if group in load("train") else ():
        load("train", [f"{group}={choice}"])
assert run(["list"]) == 0
assert run(["train", "--help"]) == 0
import conf
print(conf.__file__)
""",
    )
    assert "Saccade/EyeSearch-v0" in said
    assert "agent=bc|bc_flow|bcrl|pi2|ppo|sac" in said
    assert Path(said.split()[-1]).is_relative_to(installed)
