"""LeRobot datasets: every number arrives, and LeRobot's own reader finds it, where there is one.

SACCADE_LEROBOT=/path/to/python -m pytest tests/test_lerobot.py      a Python that can import lerobot; `make lerobot` makes one
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from agents.lerobot import DATA, EPISODES, FILM, VIDEO, export, main
from assets import asset
from assets.errors import InvalidValueError
from perception.recording import Recordings

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'saccade[lerobot]'")
import pyarrow.parquet as pq

# Prints one JSON line: what LeRobot's own reader tells of a frame, whose picture is (3, H, W) in [0, 1].
READER = """
import importlib.metadata, json, sys
from lerobot.datasets.lerobot_dataset import LeRobotDataset
found = LeRobotDataset("local/test", root=sys.argv[1], video_backend="pyav")
row = found[int(sys.argv[2])]
picture = row["observation.images.panorama"]
print(json.dumps({
    "version": importlib.metadata.version("lerobot"), "frames": len(found), "episodes": found.num_episodes, "fps": found.fps,
    "task": row["task"], "state": row["observation.state"].tolist(), "action": row["action"].tolist(),
    "episode": int(row["episode_index"]), "shape": list(picture.shape),
    "thumbnail": (255 * picture[:, 20::40, 20::40]).round().int().tolist(),
}))
"""


def shipped() -> Recordings:
    return Recordings(asset("recordings/eraser_stand/complete.json").parent)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lerobot") / "set"
    assert main([str(shipped().folder), str(place)]) == 0
    return place


def test_every_frame_arrives(folder: Path) -> None:
    table = pq.read_table(folder / DATA.format(chunk_index=0, file_index=0)).to_pydict()
    recordings = list(shipped())
    lengths = [len(r) for r in recordings]
    assert table["index"] == list(range(sum(lengths)))
    assert table["frame_index"] == [k for n in lengths for k in range(n)]
    np.testing.assert_allclose(table["timestamp"], np.array(table["frame_index"]) / 30, atol=1e-6)
    state = np.array(table["observation.state"])
    for number, recording in enumerate(recordings):
        mine = np.array(table["episode_index"]) == number
        np.testing.assert_allclose(state[mine, :7], recording.columns["joints"], atol=1e-6)
        action = np.array(table["action"])[mine]
        np.testing.assert_allclose(action[:-1, :7], recording.columns["joints"][1:], atol=1e-6)
        np.testing.assert_allclose(action[:, 7:], recording.columns["grip"], atol=1e-6)


def test_episodes_and_videos(folder: Path) -> None:
    rows = pq.read_table(folder / EPISODES).to_pylist()
    for row, recording in zip(rows, shipped(), strict=True):
        assert row["length"] == row["dataset_to_index"] - row["dataset_from_index"] == len(recording)
        assert row["tasks"] == [recording.instruction]
        where = {"chunk_index": row[f"videos/{VIDEO}/chunk_index"], "file_index": row[f"videos/{VIDEO}/file_index"]}
        assert (folder / FILM.format(video_key=VIDEO, **where)).read_bytes() == recording.file.read_bytes()
    tasks = pq.read_table(folder / "meta/tasks.parquet").to_pydict()
    assert tasks["__index_level_0__"] == ["put the pink eraser into the black stand"]


def test_statistics_are_those_of_all_frames(folder: Path) -> None:
    found = json.loads((folder / "meta/stats.json").read_text())["observation.state"]
    every = np.concatenate([np.concatenate([r.columns["joints"], r.columns["opening"]], axis=1) for r in shipped()])
    np.testing.assert_allclose(found["mean"], every.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(found["std"], every.std(axis=0), atol=1e-6)
    np.testing.assert_allclose(found["min"], every.min(axis=0), atol=1e-6)
    assert found["count"] == [len(every)]
    info = json.loads((folder / "meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_frames"]) == ("v3.0", 30, len(every))


def test_nothing_is_overwritten(folder: Path) -> None:
    with pytest.raises(InvalidValueError, match="never overwritten"):
        export(shipped(), folder)


@pytest.mark.skipif("SACCADE_LEROBOT" not in os.environ, reason="needs a Python with lerobot: name it in SACCADE_LEROBOT")
def test_lerobot_reads_it(folder: Path) -> None:
    one, two = shipped()
    number = 300 - len(one)  # the frame of the second recording that is number 300 of all
    command = [os.environ["SACCADE_LEROBOT"], "-c", READER, str(folder), "300"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"}, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert (found["frames"], found["episodes"], found["fps"]) == (len(one) + len(two), 2, 30)
    assert (found["task"], found["episode"]) == (two.instruction, 1)
    assert found["state"][:7] == pytest.approx(two.columns["joints"][number].tolist(), abs=1e-6)
    assert found["action"][:7] == pytest.approx(two.columns["joints"][number + 1].tolist(), abs=1e-6)
    film = two.film()
    own = film[number]
    film.close()
    assert found["shape"] == [3, *own.shape[:2]]
    seen = np.moveaxis(np.array(found["thumbnail"]), 0, -1)
    assert np.abs(seen - own[20::40, 20::40].astype(int)).max() <= 3  # decoders round colours differently
