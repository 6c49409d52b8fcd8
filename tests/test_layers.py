"""Who may know whom, and that importing costs little and touches nothing."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["root_packages"]
MODULES = sorted(
    ".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in PACKAGES
    for f in (ROOT / package).rglob("*.py")
    if "textures" not in f.parts
)
# The module that is OpenGL, imported by the first draw alone.
DRAWS = {"envs.egl"}
# Heavy, and of no use to somebody who only lists environments or reads an error.
SIMULATORS = (
    "mujoco",
    "OpenGL",
    "torch",
    "cv2",
    "stable_baselines3",
    "hydra",
    "minari",
    "av",
    "transformers",
    "open3d",
    "httpx",
)


def python(code: str, *flags: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **variables}
    return subprocess.run(
        [sys.executable, *flags, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120
    )


def test_every_contract_is_kept() -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout
    assert "Contracts: 3 kept, 0 broken." in done.stdout


def test_a_broken_contract_is_noticed(tmp_path: Path) -> None:
    # The same contracts over a copy in which an agent reaches for an environment.
    for package in PACKAGES:
        for file in (ROOT / package).rglob("*.py"):
            copy = tmp_path / file.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(file.read_text())
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    base = tmp_path / "agents" / "base.py"
    base.write_text(base.read_text().replace("import numpy as np", "import numpy as np\n\nfrom envs.env import BatchEnv", 1))
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode != 0
    assert "agents.base -> envs.env" in done.stdout


def test_agents_name_no_environment_class() -> None:
    # The contract sees imports; this sees strings. The id's package, which Gymnasium imports, is all that agents may say.
    said = set()
    for file in (ROOT / "agents").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("envs"):
                said.add((file.name, node.value))
    assert said <= {
        ("make.py", "envs"),
        ("listing.py", "envs"),
        ("doctor.py", "envs"),
        ("cli.py", "envs"),
        ("dataset.py", "envs"),
    }


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_is_quick_and_silent(package: str) -> None:
    best = float("inf")
    for _ in range(3):  # the best of three, since other work shares the machine
        began = time.perf_counter()
        done = python(f"import {package}, sys; print(*(m for m in {SIMULATORS} if m in sys.modules))", "-W", "error")
        best = min(best, time.perf_counter() - began)
        assert (done.returncode, done.stdout, done.stderr) == (0, "\n", "")
        if best < 1:
            break
    assert best < 1, f"importing {package} took {best:.1f} s with the interpreter's own start"


def test_making_ids_known_imports_no_simulator() -> None:
    done = python("import envs, gymnasium as gym, sys; gym.spec('Saccade/EyeSearch-v0'); print('mujoco' in sys.modules)")
    assert (done.stdout, done.stderr) == ("False\n", "")


def test_no_module_touches_opengl_or_warns() -> None:
    # Every module of the suite, in one fresh process; with agents first, nothing of theirs brings in an environment.
    agents = [m for m in MODULES if m.startswith("agents")]
    others = [m for m in MODULES if not m.startswith("agents") and m not in DRAWS]
    code = f"""
import importlib, sys, warnings
warnings.simplefilter("error")
for package in ("torch", "stable_baselines3", "minari", "hydra", "tensorboard", "torch.utils.tensorboard"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # other people's, when they are imported
        importlib.import_module(package)
for name in {agents}:
    importlib.import_module(name)
    assert "envs" not in sys.modules, name + " imports environments"
for name in {others}:
    importlib.import_module(name)
print([m for m in sys.modules if m.startswith("OpenGL")])
"""
    # MuJoCo itself loads the OpenGL that MUJOCO_GL names when it is imported; told to load none, only ours would be left.
    done = python(code, MUJOCO_GL="disable")
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_is_typed(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_every_module_says_what_it_is() -> None:
    for name in MODULES:
        path = ROOT.joinpath(*name.split("."))
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        assert ast.get_docstring(ast.parse(file.read_text())), name
