"""Recordings: panoramas of demonstrations with what the arm did, a row for every frame.

    <folder>/episode_000000.mp4   equirectangular frames, H.264
    <folder>/episode_000000.npz   columns, (F, ...) each: "joints" rad and whatever else was recorded
    <folder>/episodes.jsonl       a line for each episode that is whole
    <folder>/complete.json        rate, width, count; written last: a folder without it is half-written

Real videos come in by the same door: `Writer.add` takes any frames and columns of the same length.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import av.error
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from numpy.typing import NDArray

from assets.errors import InvalidValueError, SaccadeError
from perception import mp4
from perception.sphere import check_picture

FORMAT = 1
# Frames of a control step: 30 a second where an eye acts 15 times.
PER_STEP = 2
MARKER, LINES = "complete.json", "episodes.jsonl"
# Frames from one that can be read by itself to the next: seeking reads at most so many in vain.
_GROUP = 30
# Axes of a column of pictures: (F, H, W, 3).
_PICTURES = 4

Columns = dict[str, NDArray[Any]]


class RecordingError(SaccadeError):
    """Recordings that are missing, half-written, damaged or of another format."""


class Stored(Mapping[str, NDArray[Any]]):
    """Columns of a stored episode. Pictures, which are large, are read when they are first asked for.

    Args:
        file: of numpy's, with an array (F, ...) for each column.

    Raises:
        RecordingError: not such a file.
    """

    def __init__(self, file: Path, frames: int) -> None:
        self._file = file
        try:
            with np.load(file, allow_pickle=False) as stored:
                columns = {key: stored[key] for key in stored.files}
        except (OSError, ValueError) as error:
            raise RecordingError(f"{file} cannot be read: {error}") from error
        _check_lengths(columns, frames, str(file), RecordingError)
        self._read = {key: None if value.ndim == _PICTURES else value for key, value in columns.items()}

    def __getitem__(self, name: str) -> NDArray[Any]:
        found = self._read[name]
        if found is None:
            with np.load(self._file, allow_pickle=False) as stored:
                found = self._read[name] = stored[name]
        return found

    def __contains__(self, name: object) -> bool:
        return name in self._read  # without reading it

    def __iter__(self) -> Iterator[str]:
        return iter(self._read)

    def __len__(self) -> int:
        return len(self._read)


@dataclass(frozen=True)
class Recording:
    """One demonstration of F frames.

    Attributes:
        file: its panoramas.
        columns: name -> (F, ...), SI units; always "joints" (F, dof), rad.
        instruction: what was to be done.
        width: of the panoramas, pixels; they are half as high.
        about: whatever else is known of it, such as its seed.
    """

    file: Path
    columns: Mapping[str, NDArray[Any]]
    instruction: str
    width: int
    about: Mapping[str, Any]

    def __len__(self) -> int:
        return len(self.columns["joints"])

    def film(self) -> Film:
        """A reader of its panoramas."""
        return Film(self.file, self.width, len(self))


class Film:
    """Frames of a video by number; going on from one to the next is fast.

    Args:
        file: H.264 or whatever else ffmpeg reads.
        width: that its frames must have; they must be half as high.
        count: frames that it must have.

    Raises:
        RecordingError: not a video, or of another size or length.
    """

    def __init__(self, file: Path, width: int, count: int) -> None:
        self._file, self._count = file, count
        try:
            self._container = av.open(str(file))
        except (av.error.FFmpegError, OSError) as error:
            raise RecordingError(f"{file} is not a video that can be read: {error}") from error
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "NONE"  # a frame must not wait for those that follow it
        size = self._stream.width, self._stream.height
        if size != (width, width // 2):
            raise RecordingError(f"{file} has frames of {size[0]} x {size[1]} pixels, {width} x {width // 2} were expected")
        if self._stream.frames not in (0, count):
            raise RecordingError(f"{file} has {self._stream.frames} frames, its columns {count}: frames are missing")
        if self._stream.average_rate is None or self._stream.time_base is None:
            raise RecordingError(f"{file} does not tell how many frames a second it has")
        self._rate, self._tick = self._stream.average_rate, self._stream.time_base
        self._frames: Any = self._container.decode(self._stream)
        # One for all frames: what it sets up for a size takes longer than a frame.
        self._to_rgb = VideoReformatter()
        self._at, self._last = -1, np.empty((0, 0, 3), np.uint8)

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> NDArray[np.uint8]:
        """Frame `number`, (W / 2, W, 3); valid until the next one is asked for.

        Raises:
            IndexError: no such frame.
            RecordingError: the video ends early or is damaged.
        """
        if not 0 <= number < self._count:
            raise IndexError(f"{self._file} has frames 0 to {self._count - 1}, got {number}")
        if number == self._at:
            return self._last
        try:
            if number < self._at or number > self._at + _GROUP:
                self._seek(number)
            frame = next(self._frames)
            while self._number(frame) < number:
                frame = next(self._frames)
        except StopIteration as error:
            raise RecordingError(f"{self._file} ends before frame {number}; {self._count} were expected") from error
        except av.error.FFmpegError as error:
            raise RecordingError(f"{self._file} is damaged near frame {number}: {error}") from error
        picture = self._to_rgb.reformat(frame, format="rgb24", interpolation=Interpolation.BILINEAR)
        self._at, self._last = number, np.asarray(picture.to_ndarray(), np.uint8)
        return self._last

    def _number(self, frame: Any) -> int:
        return round(float(frame.pts * self._tick * self._rate))

    def _seek(self, number: int) -> None:
        self._container.seek(round(number / (self._rate * self._tick)), stream=self._stream)
        self._frames = self._container.decode(self._stream)

    def close(self) -> None:
        """Close the file."""
        self._container.close()


class Recordings(Sequence[Recording]):
    """A folder of recordings that a `Writer` completed.

    Attributes:
        folder, width, rate: path; pixels; frames per second.

    Raises:
        RecordingError: not recordings, half-written, or of another format; a video that is not there, or has not as many frames
            as it should, by its header; where an episode is asked for, columns that differ in length.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self._about = _marker(self.folder)
        self.width, self.rate = int(self._about["width"]), float(self._about["rate"])
        self._lines = _lines(self.folder)
        if len(self._lines) != self._about["episodes"]:
            raise RecordingError(
                f"{self.folder / LINES} tells of {len(self._lines)} episodes, {MARKER} of {self._about['episodes']}"
            )
        for number, line in enumerate(self._lines):
            _check_film(self.folder / f"{_name(number)}.mp4", int(line["frames"]))
        self._read: dict[int, Recording] = {}

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: Any) -> Any:
        """Recording `index`; a slice gives a list."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        if number not in self._read:
            self._read[number] = self._open(number)
        return self._read[number]

    def _open(self, number: int) -> Recording:
        line, file = self._lines[number], self.folder / _name(number)
        columns = Stored(file.with_suffix(".npz"), int(line["frames"]))
        return Recording(file.with_suffix(".mp4"), columns, str(line["instruction"]), self.width, line)


class Writer:
    """Writes recordings one by one; goes on where an interrupted one stopped.

    Args:
        folder: new, or half-written with the same width and rate.
        width: of the panoramas, pixels.
        rate: frames per second.
        crf: of H.264, 0 to 51; 18 is visually lossless.
        about: JSON-able remarks on all episodes, which must be the same whenever it goes on.

    Attributes:
        count: episodes that are whole.

    Raises:
        RecordingError: the folder is complete already, or was begun with other settings.
        InvalidValueError: a number out of range.
    """

    def __init__(
        self, folder: str | Path, width: int, rate: float, crf: int = 20, about: Mapping[str, Any] | None = None
    ) -> None:
        if width < 4 or width % 4:
            raise InvalidValueError(f"a panorama's width must be a multiple of 4, for H.264 wants even sides; got {width}")
        if not rate > 0:
            raise InvalidValueError(f"rate must be > 0 frames per second, got {rate}")
        self.folder, self._width, self._rate, self._crf = Path(folder), width, float(rate), crf
        if (self.folder / MARKER).is_file():
            raise RecordingError(f"{self.folder} has complete recordings, which are never overwritten: take another folder")
        self.folder.mkdir(parents=True, exist_ok=True)
        self._settings = {"width": width, "rate": self._rate, **dict(about or {})}
        done = _lines(self.folder)
        for line in done:
            if begun := {key: line.get(key) for key, value in self._settings.items() if line.get(key) != value}:
                raise RecordingError(
                    f"{self.folder} was begun with {begun}, not { {key: self._settings[key] for key in begun} }: go on with "
                    "those, or take another folder"
                )
        if done:  # without a line that was cut short
            (self.folder / LINES).write_text("".join(json.dumps(line) + "\n" for line in done))
        self.count = len(done)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.complete()

    def complete(self) -> None:
        """Say that nothing follows.

        Raises:
            RecordingError: there is no episode.
        """
        if not self.count:
            raise RecordingError(f"no episode was added to {self.folder}: recordings need at least one")
        self._write(MARKER, {"format": FORMAT, **self._settings, "episodes": self.count})

    def add(
        self,
        frames: Iterable[NDArray[np.uint8]],
        columns: Mapping[str, NDArray[Any]],
        instruction: str,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Append an episode.

        Args:
            frames: F panoramas, (W / 2, W, 3).
            columns: name -> (F, ...); "joints" (F, dof), rad, is needed.
            instruction: what is to be done.
            about: JSON-able remarks, such as a seed.

        Raises:
            InvalidValueError: no joints, or some that are not finite; columns and frames differ in length; a frame that is not
                equirectangular.
        """
        if "joints" not in columns or columns["joints"].ndim != 2:
            raise InvalidValueError(f"a recording needs the column 'joints' (F, dof), got {sorted(columns)}")
        length = len(columns["joints"])
        name = _name(self.count)
        _check_lengths(columns, length, name, InvalidValueError)
        partial = self.folder / f".{name}.partial.mp4"
        written = self._film(partial, frames)
        try:  # only now, for columns may be filled while the frames are drawn
            if written != length:
                raise InvalidValueError(f"{name}: {written} frames, but {length} rows of joints: they must be as many")
            check_finite(columns["joints"], f"{name}: column 'joints'")
        except InvalidValueError:
            partial.unlink()
            raise
        arrays: dict[str, Any] = dict(columns)
        np.savez_compressed(self.folder / f"{name}.npz", **arrays)
        partial.replace(self.folder / f"{name}.mp4")
        line = {"frames": length, **self._settings, "instruction": instruction, **dict(about or {})}
        with (self.folder / LINES).open("a") as handle:
            handle.write(json.dumps(line) + "\n")
        self.count += 1

    def _film(self, file: Path, frames: Iterable[NDArray[np.uint8]]) -> int:
        count = 0
        with av.open(str(file), "w") as container:
            options = {"crf": str(self._crf), "preset": "veryfast", "tune": "fastdecode", "g": str(_GROUP), "bf": "0"}
            stream = container.add_stream("libx264", rate=Fraction(self._rate).limit_denominator(1001), options=options)
            stream.width, stream.height, stream.pix_fmt = self._width, self._width // 2, "yuv420p"
            for frame in frames:
                check_picture(frame, f"frame {count}")
                if frame.shape[1] != self._width:
                    raise InvalidValueError(f"frame {count} is {frame.shape[1]} pixels wide, not {self._width}")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
                count += 1
            if count:
                container.mux(stream.encode())
        return count

    def _write(self, name: str, value: Mapping[str, Any]) -> None:
        partial = self.folder / f".{name}.partial"
        partial.write_text(json.dumps(value, indent=2) + "\n")
        partial.replace(self.folder / name)


def _name(number: int) -> str:
    return f"episode_{number:06d}"


def _marker(folder: Path) -> dict[str, Any]:
    if not (folder / MARKER).is_file():
        if (folder / LINES).is_file() or list(folder.glob(".episode_*.partial.mp4")):
            raise RecordingError(f"{folder} is half-written: it has no {MARKER}; run the command that began it once more")
        raise RecordingError(f"{folder} has no recordings: it has no {MARKER}")
    about = json.loads((folder / MARKER).read_text())
    if about.get("format") != FORMAT:
        raise RecordingError(f"{folder} has recordings of format {about.get('format')}, this version reads format {FORMAT}")
    return about


def _lines(folder: Path) -> list[dict[str, Any]]:
    """What is known of every whole episode; a line that was cut short is left out, for its episode is written anew."""
    file, lines = folder / LINES, []
    for text in file.read_text().splitlines(keepends=True) if file.is_file() else ():
        if text.endswith("\n"):
            lines.append(json.loads(text))
    return lines


def _check_lengths(columns: Mapping[str, NDArray[Any]], frames: int, name: str, error: type[SaccadeError]) -> None:
    for key, values in columns.items():
        if len(values) != frames:
            raise error(f"{name}: column {key!r} has {len(values)} rows for {frames} frames: a row for every frame is needed")


def check_finite(values: NDArray[Any], what: str) -> None:
    """Refuse a column (F, ...) with NaN or infinity.

    Raises:
        InvalidValueError: there is one; the sentence begins with `what` and names the first such row.
    """
    wrong = np.argwhere(~np.isfinite(values))
    if len(wrong):
        first = tuple(wrong[0])
        raise InvalidValueError(f"{what} has {values[first]} in row {first[0]}: finite numbers are needed in every row")


def _check_film(file: Path, count: int) -> None:
    try:
        found = mp4.frames(file)
    except FileNotFoundError as error:
        raise RecordingError(f"{file} is missing: every episode needs its video") from error
    except (OSError, InvalidValueError) as error:
        raise RecordingError(f"{file} is not a video that can be read: {error}") from error
    if found not in (0, count):
        raise RecordingError(f"{file} has {found} frames, its columns {count}: frames are missing or too many")
