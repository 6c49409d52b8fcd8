"""Panoramas of demonstrations: what could be seen from the eye's place, all around, drawn again from stored states.

A row for each frame, `PER_STEP` frames a control step: the state on the way is that of the same physics steps which the
demonstration took, so it is no interpolation.

Real videos come in by the same door:

    python -m agents.panoramas walk.mp4 walk.csv --instruction "put the towel into the bucket" --out outputs/recordings/real

with a 360 degree camera's equirectangular video that looks along the arm's x in its middle, and a table of joints: a header,
and a row for every frame, or rows with their "time" in seconds, between which joints are interpolated. Columns "joint1" .. are
rad; "opening" and "grip", both in [0, 1], are taken where they are. With `--more` the folder stays open for further videos.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from agents.dataset import Demonstrations
from agents.dataset.layout import control_dt
from agents.rollout import Episode
from agents.show import bar
from assets.errors import InvalidValueError
from perception.recording import RecordingError, Writer
from perception.sphere import CUBE, CubeMap

PER_STEP = 2
# What is kept of the named state, where a task tells it.
KEPT = ("joints", "tool", "tool_axes", "opening", "phase", "progress", "target_direction")
FOLDER = "panoramas"

Env = VectorEnv[Any, Any, Any]


def film(
    env: Env, demonstrations: Demonstrations, width: int = 960, folder: str | Path | None = None, *, after: float = 1.0,
    crf: int = 20, show: bool = True,
) -> Path:  # fmt: skip
    """Draw the panoramas of a dataset; goes on where an interrupted call stopped.

    Args:
        env: of the dataset's task, with an eye; best made with observe=(). As many states are drawn at once as it has
            simulations.
        demonstrations: the dataset.
        width: of the panoramas, pixels: 5760 gives 16 pixels a degree.
        folder: of the recordings; None takes "panoramas" in the dataset's own.
        after: how long an episode goes on after its first success, seconds.
        crf: of H.264.
        show: tell of the progress on standard error.

    Returns:
        The folder.

    Raises:
        InvalidValueError: the environment has no eye.
        DatasetError: the dataset is of another environment.
        RecordingError: the folder is complete already, or was begun with other settings.
    """
    demonstrations.check(env)
    cameras = env.unwrapped.cameras  # type: ignore[attr-defined]
    if "eye/front" not in cameras:
        raise InvalidValueError(f"panoramas need an environment with an eye; its cameras are {cameras}")
    dt = control_dt(env)
    place = Path(folder) if folder is not None else demonstrations.path / FOLDER
    cube = CubeMap(width, max(4, 2 * int(np.ceil(width / np.pi / 2))))
    shown = bar("panoramas", len(demonstrations)) if show else nullcontext(lambda done, words="": None)
    with Writer(place, width, PER_STEP / dt, crf) as writer, shown as progress:
        for number in range(writer.count, len(demonstrations)):
            episode = demonstrations[number]
            last = episode.length
            if episode.first_success is not None:
                last = min(last, episode.first_success + round(after / dt))
            faces, columns = _draw(env, episode, last, cube)
            writer.add(map(cube.unfold, faces), columns, episode.instruction, {"seed": episode.seed})
            progress(number + 1, "")
    return place


def _draw(env: Env, episode: Episode, steps: int, cube: CubeMap) -> tuple[Iterator[NDArray[np.uint8]], dict[str, NDArray[Any]]]:
    """The faces of every frame, (6, S, S, 3) each, and the columns of the first `steps` steps, 2 steps + 1 rows."""
    inner: Any = env.unwrapped
    columns: dict[str, NDArray[Any]] = {}
    total = PER_STEP * steps + 1
    faces = np.empty((total, len(CUBE), cube.side, cube.side, 3), np.uint8)
    assert episode.action is not None
    for part in range(PER_STEP):
        rows = np.arange(steps + (part == 0))
        for at in range(0, len(rows), env.num_envs):
            batch = np.minimum(np.arange(at, at + env.num_envs), rows[-1])  # a last, smaller batch repeats its last row
            count = min(env.num_envs, len(rows) - at)
            actions = episode.action[np.minimum(batch, steps - 1)]
            state = inner.within({k: v[batch] for k, v in episode.snapshots.items()}, actions, part / PER_STEP)
            frames = PER_STEP * batch[:count] + part
            profile = inner.describe()["profile"]
            for number, face in enumerate(CUBE):
                faces[frames, number] = inner.draw(f"eye/{face}", cube.side, cube.side, look=profile)[:count]
            found = {key: state[key] for key in KEPT if key in state}
            found["grip"] = (actions[:, -1:] + 1) / 2
            found |= {f"sight/{phrase}": direction for phrase, direction in inner.sights().items()}
            for key, values in found.items():
                column = columns.setdefault(key, np.empty((total, *values.shape[1:]), values.dtype))
                column[frames] = values[:count]
    there = {k: v for k, v in columns.items() if not (k.startswith("sight/") and np.isnan(v).all())}
    return iter(faces), there


def bring_in(video: Path, joints: Path, folder: Path, instruction: str, width: int = 960, more: bool = False) -> Path:
    """Bring a real video and its joints into a folder of recordings.

    Args:
        video: equirectangular, of any size that is twice as wide as high.
        joints: see the module's text.
        folder: new, or half-written.
        instruction: what is done in it.
        width: to which the frames are made smaller.
        more: leave the folder open for further videos.

    Returns:
        The folder.

    Raises:
        RecordingError: the video cannot be read, the folder is complete, or was begun with other settings.
        InvalidValueError: frames that are not equirectangular; a table without joints, with holes, or of another length.
    """
    count, rate, size = _probe(video)
    if size[0] != 2 * size[1]:
        raise InvalidValueError(
            f"{video} has frames of {size[0]} x {size[1]} pixels: an equirectangular video is twice as wide as high"
        )
    columns = _columns(joints, count, rate)
    writer = Writer(folder, width, rate)
    writer.add(_shrunk(video, width), columns, instruction, {"video": video.name})
    if not more:
        with writer:
            pass
    return folder


def _probe(video: Path) -> tuple[int, float, tuple[int, int]]:
    """Frames, frames per second, width and height."""
    try:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            count = stream.frames or sum(1 for _ in container.decode(stream))
            return count, float(stream.average_rate or 30), (stream.width, stream.height)
    except (av.error.FFmpegError, OSError, IndexError) as error:
        raise RecordingError(f"{video} is not a video that can be read: {error}") from error


def _shrunk(video: Path, width: int) -> Iterator[NDArray[np.uint8]]:
    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            picture = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
            same = picture.shape[1] == width
            yield (
                picture
                if same
                else np.asarray(cv2.resize(picture, (width, width // 2), interpolation=cv2.INTER_AREA), np.uint8)
            )


def _columns(table: Path, count: int, rate: float) -> dict[str, NDArray[np.float64]]:
    """Columns of a table of joints, a row for each of `count` frames."""
    with table.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    names = [n for n in (rows[0] if rows else ()) if n is not None]
    joints = sorted((n for n in names if n.startswith("joint")), key=lambda n: (len(n), n))
    if not joints:
        raise InvalidValueError(f"{table} needs columns 'joint1', 'joint2' .. in its first line, it has {names}")
    found: dict[str, NDArray[np.float64]] = {}
    for name in (*joints, *(n for n in ("time", "opening", "grip") if n in names)):
        try:
            found[name] = np.array([float(row[name]) for row in rows])
        except (TypeError, ValueError) as error:
            raise InvalidValueError(f"{table}: column {name!r} has something that is no number: {error}") from error
    when = found.pop("time", None)
    if when is not None:
        if (np.diff(when) <= 0).any():
            raise InvalidValueError(f"{table}: the column 'time' must rise")
        now = np.arange(count) / rate
        if when[0] > now[0] + 0.5 / rate or when[-1] < now[-1] - 0.5 / rate:
            raise InvalidValueError(
                f"{table} tells of {when[0]:g} to {when[-1]:g} s, the video lasts {now[-1]:g} s: it must cover all of it"
            )
        found = {name: np.interp(now, when, values) for name, values in found.items()}
    elif len(rows) != count:
        raise InvalidValueError(
            f"{table} has {len(rows)} rows, the video {count} frames: a row for every frame is needed, or a column 'time'"
        )
    arm = {"joints": np.stack([found.pop(name) for name in joints], axis=1)}
    return {**arm, **{name: values[:, None] for name, values in found.items()}}


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of `bring_in`."""
    parser = argparse.ArgumentParser(
        prog="python -m agents.panoramas",
        description="Bring a real 360 degree video and its joints into a folder of recordings.",
    )
    parser.add_argument("video", type=Path, help="equirectangular mp4")
    parser.add_argument("joints", type=Path, help="csv: joint1 .. rad, opening and grip 0 to 1, time s")
    parser.add_argument("--instruction", required=True, help="what is done in it")
    parser.add_argument("--out", type=Path, required=True, help="folder of recordings")
    parser.add_argument("--width", type=int, default=960, help="of the panoramas, pixels (default: 960)")
    parser.add_argument("--more", action="store_true", help="further videos will follow")
    arguments = parser.parse_args(argv)
    bring_in(arguments.video, arguments.joints, arguments.out, arguments.instruction, arguments.width, arguments.more)
    return 0


if __name__ == "__main__":
    sys.exit(main())
