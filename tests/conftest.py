"""What several test files share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores, and threads that wait for each other starve
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes says something about the machine, not about the law.
settings.register_profile("saccade", deadline=None)
settings.load_profile("saccade")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread: what is computed does not depend on how many there are."""
    pytest.importorskip("torch", reason="torch is not installed: pip install torch")
    from agents import device

    with device.one_thread():
        yield
