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

from agents.cli import guarded
from agents.dataset import Demonstrations
from agents.dataset.layout import control_dt
from agents.rollout import Episode
from agents.show import bar
from assets.errors import InvalidValueError
from perception.recording import PER_STEP, RecordingError, Writer, check_finite
from perception.sphere import CUBE, CubeMap

# What is kept of the named state, where a task tells it.
KEPT = ("joints", "tool", "tool_axes", "opening", "phase", "progress", "target_direction")
FOLDER = "panoramas"

Env = VectorEnv[Any, Any, Any]


def film(
    env: Env, demonstrations: Demonstrations, width: int = 960, folder: str | Path | None = None, *, stills: int = 0,
    twos: bool = False, after: float = 1.0, crf: int = 20, show: bool = True,
) -> Path:  # fmt: skip
    """Draw the panoramas of a dataset; goes on where an interrupted call stopped.

    Args:
        env: of the dataset's task, with an eye; best made with observe=(). As many states are drawn at once as it has
            simulations. Pictures of the task's `cameras` are kept as columns "camera/<name>".
        demonstrations: the dataset.
        width: of the panoramas, pixels: 5760 gives 16 pixels a degree.
        folder: of the recordings; None takes "panoramas" in the dataset's own.
        stills: keep a picture of every so-manieth control step alone, for visual search, in which the world stands still;
            played, they would go too fast. 0 for all frames.
        twos: draw at control steps alone and show each picture in two frames, as animators do: half of the pictures. An episode
            of `envs/replay.py` then begins at a control step, and an eye that turns once a step sees no difference.
        after: how long an episode goes on after its first success, seconds.
        crf: of H.264.
        show: tell of the progress on standard error.

    Returns:
        The folder.

    Raises:
        InvalidValueError: the environment has no eye, stills < 0, or stills on twos.
        DatasetError: the dataset is of another environment.
        RecordingError: the folder is complete already, or was begun with other settings.
    """
    demonstrations.check(env)
    cameras = env.unwrapped.cameras  # type: ignore[attr-defined]
    if "eye/front" not in cameras:
        raise InvalidValueError(f"panoramas need an environment with an eye; its cameras are {cameras}")
    if stills < 0:
        raise InvalidValueError(f"stills must be >= 0 control steps, got {stills}")
    if stills and twos:
        raise InvalidValueError(
            f"stills are pictures of control steps alone: take twos or stills, got twos and stills={stills}"
        )
    dt, about = control_dt(env), {key: value for key, value in {"stills": stills, "twos": twos}.items() if value}
    place = Path(folder) if folder is not None else demonstrations.path / FOLDER
    cube = CubeMap(width, max(4, 2 * int(np.ceil(width / np.pi / 2))))
    shown = bar("panoramas", len(demonstrations)) if show else nullcontext(lambda done, words="": None)
    with Writer(place, width, PER_STEP / dt, crf, about) as writer, shown as progress:
        for number in range(writer.count, len(demonstrations)):
            episode = demonstrations[number]
            drawing = _Drawing(env, episode, episode.until(round(after / dt)), cube, stills, twos)
            writer.add(drawing.frames(), drawing.columns, episode.instruction, {"seed": episode.seed})
            progress(number + 1, "")
    return place


class _Drawing:
    """The frames of an episode, drawn as they are asked for, as many states at once as there are simulations.

    Args:
        env, episode, cube: as for `film`.
        steps: control steps that are drawn, of which come `PER_STEP` steps + 1 frames.
        stills, twos: as for `film`.

    Attributes:
        columns: a row for every frame; filled while the frames are drawn.
    """

    def __init__(self, env: Env, episode: Episode, steps: int, cube: CubeMap, stills: int, twos: bool) -> None:
        self._env: Any = env.unwrapped
        self._episode, self._steps, self._cube, self._twos = episode, steps, cube, twos
        self._drawn: dict[str, NDArray[np.uint8]] = {}
        self._profile = self._env.describe()["profile"]
        self._faces = [f"eye/{face}" for face in CUBE]
        beside = self._env.task.views(None) if self._env.task.cameras else ()
        self._beside = {view.camera: view.name for view in beside}
        self._sizes = {view.camera: (view.width, view.height) for view in beside}
        self._sizes |= dict.fromkeys(self._faces, (cube.side, cube.side))
        self._rows, self._parts = np.arange(0, steps + 1, stills or 1), 1 if stills else PER_STEP
        total = self._total = self._parts * (len(self._rows) - 1) + 1
        # What is absent in the first frame is absent for good.
        first, _ = self._at(np.zeros(env.num_envs, int), 0)
        rows = {k: v[0] for k, v in first.items() if not np.isnan(v[0]).any()}
        self.columns = {key: np.empty((total, *row.shape), row.dtype) for key, row in rows.items()}

    def _at(self, rows: NDArray[np.intp], part: int) -> tuple[dict[str, NDArray[Any]], NDArray[np.uint8]]:
        """Bring the simulations to a part of stored steps (N,); what is kept of them, (N, ...), and faces (N, 6, S, S, 3)."""
        assert self._episode.action is not None
        actions = self._episode.action[np.minimum(rows, self._steps - 1)]
        state = self._env.within({k: v[rows] for k, v in self._episode.snapshots.items()}, actions, part / PER_STEP)
        found = {key: state[key] for key in KEPT if key in state}
        found["grip"] = (actions[:, -1:] + 1) / 2
        if part == 0 or not self._twos:
            self._drawn = self._env.draw_all(self._sizes, self._profile)
        found |= {f"camera/{name}": self._drawn[camera] for camera, name in self._beside.items()}
        found |= {f"sight/{phrase}": direction for phrase, direction in self._env.sights().items()}
        found |= {f"visible/{phrase}": seen[:, None] for phrase, seen in self._env.visible().items()}
        return found, np.stack([self._drawn[face] for face in self._faces], axis=1)

    def frames(self) -> Iterator[NDArray[np.uint8]]:
        """Panoramas in order."""
        count, side, parts = self._env.num_envs, self._cube.side, self._parts
        for first in range(0, len(self._rows), count):
            numbers = np.arange(first, first + count)
            rows = self._rows[np.minimum(numbers, len(self._rows) - 1)]  # a last, smaller batch repeats its last row
            faces = np.empty((count, parts, len(CUBE), side, side, 3), np.uint8)
            for part in range(parts):
                found, faces[:, part] = self._at(rows, part)
                for sim, frame in enumerate(parts * numbers + part):
                    if frame < self._total:
                        for key, column in self.columns.items():
                            column[frame] = found[key][sim]
            yield from map(self._cube.unfold, faces.reshape(-1, *faces.shape[2:])[: self._total - parts * first])


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
        RecordingError: the video or the table cannot be read, the folder is complete, or was begun with other settings.
        InvalidValueError: frames that are not equirectangular; a table without joints, with holes or numbers that are not
            finite, or of another length.
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
        writer.complete()
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
    try:
        with table.open(newline="") as handle:
            rows = list(csv.DictReader(handle))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RecordingError(f"{table} is not a table that can be read: {error}") from error
    names = [n for n in (rows[0] if rows else ()) if n is not None]
    joints = sorted((n for n in names if n.startswith("joint")), key=lambda n: (len(n), n))
    if not joints:
        raise InvalidValueError(f"{table} needs columns 'joint1', 'joint2' .. in its first line, it has {names}")
    if joints != (counted := [f"joint{k + 1}" for k in range(len(joints))]):
        raise InvalidValueError(f"{table} has columns {joints}: joints are counted from 1 without a gap, {counted}")
    found: dict[str, NDArray[np.float64]] = {}
    for name in (*joints, *(n for n in ("time", "opening", "grip") if n in names)):
        try:
            found[name] = np.array([float(row[name]) for row in rows])
        except (TypeError, ValueError) as error:
            raise InvalidValueError(f"{table}: column {name!r} has something that is no number: {error}") from error
        check_finite(found[name], f"{table}: column {name!r}")
        _check_unit(found[name], name, table)
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


# No joint turns farther, rad, and hardly one of an arm in degrees stays within it.
_FARTHEST = 4 * np.pi


def _check_unit(values: NDArray[np.float64], name: str, table: Path) -> None:
    """Joints are radians, openings shares of the gripper's."""
    low, high = float(values.min()), float(values.max())
    if name.startswith("joint") and max(-low, high) > _FARTHEST:
        raise InvalidValueError(f"{table}: column {name!r} goes from {low:g} to {high:g}: joints are in rad, not in degrees")
    if name in ("opening", "grip") and not 0 <= low <= high <= 1:
        raise InvalidValueError(f"{table}: column {name!r} goes from {low:g} to {high:g}: 0 is shut and 1 is open")


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
    sys.exit(guarded(main))
