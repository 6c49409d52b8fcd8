"""Demonstrations on disk: a Minari dataset that keeps simulator states, so that pixels are drawn again when wanted.

    outputs/datasets/                        a folder of datasets, as MINARI_DATASETS_PATH names it
        saccade/reach/oracle-v0/
            data/main_data.hdf5              per episode: actions, rewards, ends, vector observations, and under infos
                                             success (T,), terms (T,), state and snapshots (T + 1, ...)
            data/metadata.json               Minari's own, and under "saccade" everything of `_describe`
            videos/<camera>/episode_000000.mp4   where asked for: T + 1 frames, H.264 in RGB, lossless
            complete.json                    written last; a folder without it is half-written

`minari.load_dataset("saccade/reach/oracle-v0")` reads the same folder. HDF5 and JSON only: nothing is ever unpickled.
Snapshot rows that are equal throughout an episode (colours, light) are stored once.
"""

from __future__ import annotations

from agents.dataset.layout import DatasetError, dataset_path, image_keys
from agents.dataset.pixels import render
from agents.dataset.read import Demonstrations
from agents.dataset.steps import Steps, learning_arrays
from agents.dataset.write import Writer, write

__all__ = [
    "DatasetError",
    "Demonstrations",
    "Steps",
    "Writer",
    "dataset_path",
    "image_keys",
    "learning_arrays",
    "render",
    "write",
]
