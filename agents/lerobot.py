"""Recordings as a LeRobot dataset, format v3.0, for whoever trains with LeRobot.

    python -m agents.lerobot outputs/datasets/saccade/estop/oracle-v0/panoramas outputs/lerobot/estop

    meta/info.json, stats.json, tasks.parquet, episodes/chunk-000/file-000.parquet
    data/chunk-000/file-000.parquet
    videos/observation.images.panorama/chunk-000/file-<episode>.mp4

"observation.state" is joints (rad) and the gripper's opening, "action" the next frame's joints and what the gripper is told, in
[0, 1] both; "observation.images.panorama" is equirectangular, around the eye. The format is that of
https://huggingface.co/docs/lerobot/lerobot-dataset-v3.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.cli import guarded
from agents.run import write_json
from agents.show import say
from assets.errors import InvalidValueError
from perception.recording import Recording, Recordings
from perception.vlm.hf import need

VIDEO = "observation.images.panorama"
DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
FILM = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
# Episodes to a folder, which is also how many videos lie in one.
CHUNK = 1000
# Frames of an episode that the statistics of its pictures are taken from.
_SAMPLED = 16


def export(recordings: Recordings, folder: str | Path) -> Path:
    """Write recordings as a LeRobot dataset.

    Args:
        recordings: with "joints"; "opening" and "grip" are taken where they are.
        folder: new.

    Returns:
        The folder.

    Raises:
        InvalidValueError: the folder exists, or the rate is no whole number of frames a second.
        MissingDependencyError: pyarrow is not installed.
    """
    place = Path(folder)
    if place.exists():
        raise InvalidValueError(f"{place} exists; a dataset is never overwritten: take another folder")
    if recordings.rate != round(recordings.rate):
        raise InvalidValueError(f"LeRobot counts whole frames a second, these recordings have {recordings.rate:g}")
    need("pyarrow", "pyarrow", "write LeRobot datasets")
    fps, rows, stats, episodes, tasks, begin = round(recordings.rate), [], [], [], dict[str, int](), 0
    for number, recording in enumerate(recordings):
        task = tasks.setdefault(recording.instruction, len(tasks))
        rows.append(_frames(recording, number, begin, task, fps))
        stats.append(_stats(rows[-1], recording))
        chunk, file = divmod(number, CHUNK)
        target = place / FILM.format(video_key=VIDEO, chunk_index=chunk, file_index=file)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(recording.file, target)
        episodes.append(
            {
                "episode_index": number, "tasks": [recording.instruction], "length": len(recording),
                "data/chunk_index": 0, "data/file_index": 0,
                "dataset_from_index": begin, "dataset_to_index": begin + len(recording),
                f"videos/{VIDEO}/chunk_index": chunk, f"videos/{VIDEO}/file_index": file,
                f"videos/{VIDEO}/from_timestamp": 0.0, f"videos/{VIDEO}/to_timestamp": len(recording) / fps,
                "meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0,
                **{f"stats/{key}/{name}": value for key, found in stats[-1].items() for name, value in found.items()},
            }
        )  # fmt: skip
        begin += len(recording)
    _table(place / DATA.format(chunk_index=0, file_index=0), {k: np.concatenate([r[k] for r in rows]) for k in rows[0]})
    _table(place / EPISODES, {key: [e[key] for e in episodes] for key in episodes[0]})
    _tasks(place / "meta/tasks.parquet", tasks)
    write_json(place / "meta/stats.json", _pooled(stats))
    write_json(place / "meta/info.json", _info(recordings, rows, tasks, fps))
    return place


def _state(recording: Recording) -> tuple[NDArray[np.float32], NDArray[np.float32], list[str]]:
    """State and action of every frame, and what their numbers are called."""
    columns, dof = recording.columns, recording.columns["joints"].shape[1]
    names = [f"joint{k + 1}" for k in range(dof)]
    state, ahead = [columns["joints"]], [np.concatenate([columns["joints"][1:], columns["joints"][-1:]])]
    if "opening" in columns:
        names.append("gripper")
        state.append(columns["opening"])
        ahead.append(columns.get("grip", columns["opening"]))
    return np.concatenate(state, axis=1).astype(np.float32), np.concatenate(ahead, axis=1).astype(np.float32), names


def _frames(recording: Recording, episode: int, begin: int, task: int, fps: int) -> dict[str, NDArray[Any]]:
    state, action, _ = _state(recording)
    number = np.arange(len(recording))
    return {
        "observation.state": state, "action": action, "timestamp": (number / fps).astype(np.float32), "frame_index": number,
        "episode_index": np.full(len(number), episode), "index": begin + number, "task_index": np.full(len(number), task),
    }  # fmt: skip


def _stats(rows: Mapping[str, NDArray[Any]], recording: Recording) -> dict[str, dict[str, Any]]:
    """Least, greatest, mean and spread of every column, and of an episode's pictures, in [0, 1]."""
    found = {key: _moments(values.reshape(len(values), -1).astype(np.float64), len(values)) for key, values in rows.items()}
    film = recording.film()
    picked = np.unique(np.linspace(0, len(recording) - 1, _SAMPLED).astype(int))
    pixels = np.stack([film[int(k)][::8, ::8] for k in picked]).reshape(-1, 3) / 255
    film.close()
    moments = _moments(pixels, len(picked))
    found[VIDEO] = {key: value if key == "count" else [[[v]] for v in value] for key, value in moments.items()}
    return found


def _moments(values: NDArray[np.float64], count: int) -> dict[str, Any]:
    return {
        "min": values.min(axis=0).tolist(), "max": values.max(axis=0).tolist(), "mean": values.mean(axis=0).tolist(),
        "std": values.std(axis=0).tolist(), "count": [count],
    }  # fmt: skip


def _pooled(parts: list[dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Statistics of all episodes together, from those of each."""
    groups = {key: {name: [p[key][name] for p in parts] for name in found} for key, found in parts[0].items()}
    out = {}
    for key, found in groups.items():
        weight = np.array(found["count"], float).ravel()
        mean, std = np.array(found["mean"]), np.array(found["std"])
        share = (weight / weight.sum()).reshape(-1, *[1] * (mean.ndim - 1))
        middle = (share * mean).sum(axis=0)
        spread = np.sqrt(np.maximum((share * (std**2 + mean**2)).sum(axis=0) - middle**2, 0))
        out[key] = {
            "min": np.array(found["min"]).min(axis=0).tolist(), "max": np.array(found["max"]).max(axis=0).tolist(),
            "mean": middle.tolist(), "std": spread.tolist(), "count": [int(weight.sum())],
        }  # fmt: skip
    return out


def _info(recordings: Recordings, rows: list[dict[str, NDArray[Any]]], tasks: Mapping[str, int], fps: int) -> dict[str, Any]:
    _, _, names = _state(recordings[0])
    vector = {"dtype": "float32", "shape": [len(names)], "names": names}
    numbers = {
        k: {"dtype": "int64", "shape": [1], "names": None} for k in ("frame_index", "episode_index", "index", "task_index")
    }
    height, width = recordings.width // 2, recordings.width
    video = {
        "dtype": "video", "shape": [height, width, 3], "names": ["height", "width", "channels"],
        "info": {
            "video.height": height, "video.width": width, "video.codec": "h264", "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False, "video.fps": fps, "video.channels": 3, "has_audio": False,
        },
    }  # fmt: skip
    return {
        "codebase_version": "v3.0", "robot_type": "saccade", "total_episodes": len(rows),
        "total_frames": sum(len(r["index"]) for r in rows), "total_tasks": len(tasks), "chunks_size": CHUNK,
        "data_files_size_in_mb": 100, "video_files_size_in_mb": 200, "fps": fps, "splits": {"train": f"0:{len(rows)}"},
        "data_path": DATA, "video_path": FILM,
        "features": {
            "observation.state": vector, "action": vector, VIDEO: video,
            "timestamp": {"dtype": "float32", "shape": [1], "names": None}, **numbers,
        },
    }  # fmt: skip


def _table(file: Path, columns: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and values.ndim == 2:
            arrays[name] = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])
        else:
            arrays[name] = pa.array(values)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), file)


def _tasks(file: Path, tasks: Mapping[str, int]) -> None:
    """The tasks' numbers, their texts as pandas' index."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"task_index": pa.array(list(tasks.values())), "__index_level_0__": pa.array(list(tasks))})
    about = {
        "index_columns": ["__index_level_0__"], "column_indexes": [],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None},
            {
                "name": None, "field_name": "__index_level_0__", "pandas_type": "unicode", "numpy_type": "object",
                "metadata": None,
            },
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__}, "pandas_version": "2.2.0",
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({b"pandas": json.dumps(about).encode()}), file)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `export`."""
    parser = argparse.ArgumentParser(
        prog="python -m agents.lerobot", description="Write recordings as a LeRobot dataset, v3.0."
    )
    parser.add_argument("recordings", type=Path, help="folder of recordings")
    parser.add_argument("out", type=Path, help="a new folder")
    arguments = parser.parse_args(argv)
    say(f"written: {export(Recordings(arguments.recordings), arguments.out)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
