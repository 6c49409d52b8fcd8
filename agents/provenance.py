"""Where a result comes from: commit, versions, machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = (
    "saccade", "mujoco", "gymnasium", "numpy", "torch", "stable_baselines3", "opencv-python-headless", "hydra-core",
    "safetensors", "minari",
)  # fmt: skip


def commit(root: Path = ROOT) -> str:
    """Commit of the checkout at `root`, "+dirty" appended when it differs; "unknown" outside git or before any commit.

    The results in docs do not count: writing one leaves the tree of the next one clean.
    """
    head = _output("git", "-C", str(root), "rev-parse", "HEAD")
    if head is None:
        return "unknown"
    changes = _output(
        "git", "--no-optional-locks", "-C", str(root), "status", "--porcelain", "-uno", "--", ".", ":!docs/results"
    )
    return head + ("+dirty" if changes else "")


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str | None]:
    """Installed version of each package, None where it is absent."""
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = None
    return found


def machine() -> dict[str, Any]:
    """The machine: cpu model, cores usable here, memory in GiB, gpu name or None, operating system, Python version."""
    gpus = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": _memory_gib(),
        "gpu": ", ".join(gpus.splitlines()) if gpus else None,
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cpu() -> str:
    try:
        found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        found = None
    return found.group(1).strip() if found else platform.processor() or platform.machine() or "unknown"


def _memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def _output(*command: str) -> str | None:
    """Stripped output of a command; None when it is absent, fails or hangs."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
