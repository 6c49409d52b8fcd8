"""Frames of an mp4 by its header: as many as a decoder finds, wherever the header stands; what is cut short is noticed."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets import asset
from assets.errors import InvalidValueError
from perception.mp4 import frames


def video(file: Path, count: int, options: dict[str, str] | None = None) -> Path:
    with av.open(str(file), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        for k in range(count):
            frame = np.full((32, 64, 3), k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file


@pytest.mark.parametrize("count", [1, 2, 35])
@pytest.mark.parametrize("options", [{}, {"movflags": "faststart"}])
def test_as_many_as_were_written(tmp_path: Path, count: int, options: dict[str, str]) -> None:
    assert frames(video(tmp_path / "one.mp4", count, options)) == count


def test_fragments_do_not_tell(tmp_path: Path) -> None:
    assert frames(video(tmp_path / "one.mp4", 9, {"movflags": "frag_keyframe+empty_moov"})) == 0


def test_what_ships_has_what_a_decoder_finds() -> None:
    file = asset("recordings/estop/complete.json").parent / "episode_000000.mp4"
    with av.open(str(file)) as container:
        assert frames(file) == sum(1 for _ in container.decode(video=0))


def test_a_long_size_and_a_box_up_to_the_end_are_read(tmp_path: Path) -> None:
    data = video(tmp_path / "one.mp4", 5).read_bytes()
    at = data.index(b"moov") - 4
    (size,) = struct.unpack(">I", data[at : at + 4])
    inside = data[at + 8 : at + size]
    long, last = tmp_path / "long.mp4", tmp_path / "last.mp4"
    long.write_bytes(data[:at] + struct.pack(">I4sQ", 1, b"moov", size + 8) + inside)
    last.write_bytes(data[:at] + struct.pack(">I4s", 0, b"moov") + inside)
    assert (frames(long), frames(last)) == (5, 5)


def test_what_is_no_whole_mp4_is_said(tmp_path: Path) -> None:
    file = tmp_path / "one.mp4"
    for options in ({}, {"movflags": "faststart"}):
        whole = video(file, 9, options).read_bytes()
        file.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InvalidValueError, match=r"is cut short|has no 'moov'"):
            frames(file)
    for nothing in (b"", b"nothing", bytes(100)):
        file.write_bytes(nothing)
        with pytest.raises(InvalidValueError, match="no whole mp4"):
            frames(file)
    with av.open(str(file), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 44100
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(InvalidValueError, match="no track of pictures"):
        frames(file)
    with pytest.raises(FileNotFoundError):
        frames(tmp_path / "none.mp4")


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
def test_anything_else_ends_in_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.mp4"
    file.write_bytes(data)
    with pytest.raises(InvalidValueError):
        frames(file)
    file.write_bytes(struct.pack(">I4s", len(data) + 8, b"moov") + data)
    with pytest.raises(InvalidValueError):
        frames(file)
