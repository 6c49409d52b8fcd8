"""Where torch computes."""

from __future__ import annotations

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
