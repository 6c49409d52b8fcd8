"""Where torch computes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def place(device: str, threads: int = 0) -> torch.device:
    """The device; sets the number of threads.

    Args:
        device: "auto" (a GPU where there is one), "cpu", "cuda".
        threads: torch threads on the CPU; 0 leaves torch's choice.
    """
    if threads:
        torch.set_num_threads(threads)
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch on a single thread: a batch of a few gains nothing from more, and waits where other programs keep cores busy."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
