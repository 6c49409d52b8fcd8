"""Videos come back as they were written, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from agents.video import VideoWriter, read_video
from assets.errors import InvalidValueError


def clip(count: int = 6, height: int = 32, width: int = 48) -> list[np.ndarray]:
    """A bright square that moves over a gradient."""
    frames = []
    for k in range(count):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[..., 0] = np.linspace(0, 200, width, dtype=np.uint8)
        frame[8:20, 4 * k : 4 * k + 12] = (40, 220, 90)
        frames.append(frame)
    return frames


def write(path: Path, frames: list[np.ndarray], fps: int = 10) -> Path:
    with VideoWriter(path, fps) as video:
        for frame in frames:
            video.add(frame)
    return path


def test_a_round_trip(tmp_path: Path) -> None:
    frames = clip()
    read = read_video(write(tmp_path / "deep" / "a.mp4", frames))
    assert read.shape == (6, 32, 48, 3)
    error = np.abs(read.astype(int) - np.stack(frames).astype(int))
    assert error.mean() < 6  # H.264 halves the colours' resolution
    for k in range(6):  # each is its own frame, and not its neighbour
        distance = [np.abs(read[k].astype(int) - f.astype(int)).mean() for f in frames]
        assert int(np.argmin(distance)) == k
    assert [f.name for f in (tmp_path / "deep").iterdir()] == ["a.mp4"]


def test_the_rate_is_written(tmp_path: Path) -> None:
    with av.open(str(write(tmp_path / "a.mp4", clip(), fps=15))) as container:
        assert container.streams.video[0].average_rate == 15
        assert container.streams.video[0].codec_context.name == "h264"


@pytest.mark.parametrize("size", [(31, 47), (33, 48), (2, 2), (101, 3)])
def test_odd_sizes_lose_their_last_pixel(size: tuple[int, int], tmp_path: Path) -> None:
    read = read_video(write(tmp_path / "a.mp4", [np.full((*size, 3), 128, np.uint8)] * 2))
    assert read.shape == (2, size[0] // 2 * 2, size[1] // 2 * 2, 3)


WRONG = [
    (np.zeros((32, 48), np.uint8), r"a video frame is \(H, W, 3\) uint8, got \(32, 48\) uint8"),
    (np.zeros((32, 48, 4), np.uint8), r"got \(32, 48, 4\) uint8"),
    (np.zeros((32, 48, 3), np.float32), r"got \(32, 48, 3\) float32"),
    (np.zeros((34, 48, 3), np.uint8), r"all frames of a video have one size: the first was \(32, 48\), this is \(34, 48\)"),
]


@pytest.mark.parametrize(("frame", "sentence"), WRONG)
def test_wrong_frames_are_refused_and_leave_nothing(frame: np.ndarray, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        write(tmp_path / "a.mp4", [clip()[0], frame])
    assert list(tmp_path.iterdir()) == []


def test_a_failure_keeps_what_was_there(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", clip())
    before = path.read_bytes()
    with pytest.raises(InvalidValueError, match="all frames of a video have one size"):
        write(path, [*clip(), np.zeros((8, 8, 3), np.uint8)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_frame_is_as_it_was_when_it_was_given(tmp_path: Path) -> None:
    buffer = np.zeros((32, 48, 3), np.uint8)
    with VideoWriter(tmp_path / "a.mp4", 10) as video:
        for brightness in range(0, 200, 5):
            buffer[:] = brightness
            video.add(buffer)
    read = read_video(tmp_path / "a.mp4").mean(axis=(1, 2, 3))
    np.testing.assert_allclose(read, range(0, 200, 5), atol=4)


def test_what_cannot_be_encoded_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(av.VideoFrame, "from_ndarray", full)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path / "a.mp4", clip(40))
    assert list(tmp_path.iterdir()) == []


def test_a_video_of_nothing_is_no_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 10):
        pass
    assert list(tmp_path.iterdir()) == []


def test_impossible_rates() -> None:
    with pytest.raises(InvalidValueError, match="a video needs at least 1 frame per second, got 0"):
        VideoWriter("a.mp4", 0)


@pytest.mark.parametrize("content", [b"", b"not a video", None])
def test_what_is_no_video(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidValueError, match=r"a\.mp4 is not a video that can be read"):
        read_video(path)
