"""Recordings: what goes in comes out, in any order; what is broken is refused, what is half-written goes on."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception.recording import LINES, MARKER, Film, RecordingError, Recordings, Stored, Writer

WIDTH, COUNT = 64, 75


def frames(count: int = COUNT, width: int = WIDTH) -> Iterator[NDArray[np.uint8]]:
    """Each frame is told by its brightness."""
    for k in range(count):
        yield np.full((width // 2, width, 3), 20 + 2 * k, np.uint8)


def joints(count: int = COUNT) -> NDArray[np.float64]:
    return np.arange(count)[:, None] * np.ones(6)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recordings")
    with Writer(folder, WIDTH, 30) as writer:
        writer.add(frames(), {"joints": joints(), "phase": np.arange(COUNT)}, "do it", {"seed": 7})
        writer.add(frames(10), {"joints": joints(10)}, "do that")
    return folder


def test_what_goes_in_comes_out(whole: Path) -> None:
    found = Recordings(whole)
    assert (len(found), found.rate, found.width) == (2, 30, WIDTH)
    one = found[0]
    assert (len(one), one.instruction, one.about["seed"]) == (COUNT, "do it", 7)
    np.testing.assert_array_equal(one.columns["joints"], joints())
    assert [r.instruction for r in found] == ["do it", "do that"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=12))
def test_frames_come_in_any_order(whole: Path, order: list[int]) -> None:
    film = Recordings(whole)[0].film()
    for k in order:
        assert abs(int(film[k].mean()) - (20 + 2 * k)) <= 1
    film.close()


def test_lengths_must_agree(tmp_path: Path) -> None:
    writer = Writer(tmp_path, WIDTH, 30)
    with pytest.raises(InvalidValueError, match="10 frames, but 9 rows"):
        writer.add(frames(10), {"joints": joints(9)}, "x")
    with pytest.raises(InvalidValueError, match=r"'phase' has 8 rows for 10 frames"):
        writer.add(frames(10), {"joints": joints(10), "phase": np.zeros(8)}, "x")
    with pytest.raises(InvalidValueError, match="needs the column 'joints'"):
        writer.add(frames(10), {"phase": np.zeros(10)}, "x")
    assert writer.count == 0


def test_pictures_must_be_twice_as_wide_as_high(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="twice as wide"):
        Writer(tmp_path, WIDTH, 30).add([np.zeros((WIDTH, WIDTH, 3), np.uint8)], {"joints": joints(1)}, "x")
    with pytest.raises(InvalidValueError, match="pixels wide"):
        Writer(tmp_path, WIDTH, 30).add([np.zeros((64, 128, 3), np.uint8)], {"joints": joints(1)}, "x")


def test_a_half_written_folder_is_refused_and_goes_on(tmp_path: Path) -> None:
    Writer(tmp_path, WIDTH, 30).add(frames(10), {"joints": joints(10)}, "first")  # never completed
    with pytest.raises(RecordingError, match="half-written"):
        Recordings(tmp_path)
    with (tmp_path / LINES).open("a") as handle:
        handle.write('{"frames": 3')  # cut short
    with pytest.raises(RecordingError, match=r"begun with \{.width.: 64\}, not \{.width.: 128\}"):
        Writer(tmp_path, 128, 30)
    with Writer(tmp_path, WIDTH, 30) as writer:
        assert writer.count == 1
        writer.add(frames(12), {"joints": joints(12)}, "second")
    found = Recordings(tmp_path)
    assert [r.instruction for r in found] == ["first", "second"]
    assert len(found[1]) == 12
    with pytest.raises(RecordingError, match="never overwritten"):
        Writer(tmp_path, WIDTH, 30)


def test_missing_frames_are_noticed(whole: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(whole, tmp_path / "broken")
    first, second = broken / "episode_000000.mp4", broken / "episode_000001.mp4"
    shutil.copy(second, first)
    with pytest.raises(RecordingError, match=r"episode_000000\.mp4 has 10 frames, its columns 75: frames are missing"):
        Recordings(broken)
    shutil.copy(whole / first.name, first)
    second.write_bytes(b"nothing")
    with pytest.raises(RecordingError, match=r"episode_000001\.mp4 is not a video that can be read: .* no whole mp4"):
        Recordings(broken)
    second.unlink()
    with pytest.raises(RecordingError, match=r"episode_000001\.mp4 is missing: every episode needs its video"):
        Recordings(broken)
    first.write_bytes((whole / first.name).read_bytes()[:2000])
    with pytest.raises(RecordingError, match=r"episode_000000\.mp4 is not a video that can be read: .* cut short"):
        Recordings(broken)


def test_a_film_says_what_is_wrong_with_it(whole: Path, tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="75 frames, its columns 74: frames are missing"):
        Film(whole / "episode_000000.mp4", WIDTH, COUNT - 1)
    with pytest.raises(RecordingError, match="frames of 64 x 32 pixels, 128 x 64 were expected"):
        Film(whole / "episode_000000.mp4", 128, COUNT)
    (tmp_path / "none.mp4").write_bytes(b"nothing")
    with pytest.raises(RecordingError, match="not a video"):
        Film(tmp_path / "none.mp4", WIDTH, COUNT)


def test_a_video_that_ends_early_is_noticed(whole: Path, tmp_path: Path) -> None:
    short = tmp_path / "short.mkv"  # whose header does not tell of how many frames there are
    with av.open(str(whole / "episode_000001.mp4")) as source, av.open(str(short), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    film = Film(short, WIDTH, COUNT)
    assert film[9].shape == (WIDTH // 2, WIDTH, 3)
    with pytest.raises(RecordingError, match=r"short\.mkv ends before frame 10; 75 were expected"):
        film[10]
    with pytest.raises(IndexError, match="frames 0 to 74, got 75"):
        film[COUNT]
    film.close()


def test_joints_must_be_finite(tmp_path: Path) -> None:
    writer = Writer(tmp_path, WIDTH, 30)
    for wrong in (np.nan, np.inf):
        broken = joints(10)
        broken[7, 2] = wrong
        with pytest.raises(InvalidValueError, match=rf"'joints' has {wrong} in row 7: finite numbers are needed"):
            writer.add(frames(10), {"joints": broken}, "x")
    assert writer.count == 0
    assert not list(tmp_path.iterdir())
    writer.add(frames(10), {"joints": joints(10), "target_direction": np.full((10, 2), np.nan)}, "x")  # there is none
    assert writer.count == 1


def test_hundreds_of_videos_are_looked_at_in_no_time(whole: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(whole, tmp_path / "many")
    line = (folder / LINES).read_text().splitlines(keepends=True)[1]
    for k in range(2, 400):
        (folder / f"episode_{k:06d}.mp4").symlink_to(folder / "episode_000001.mp4")
    with (folder / LINES).open("a") as handle:
        handle.write(line * 398)
    about = json.loads((folder / MARKER).read_text())
    (folder / MARKER).write_text(json.dumps({**about, "episodes": 400}))
    began = time.process_time()
    assert len(Recordings(folder)) == 400
    assert time.process_time() - began < 0.5


def test_columns_of_another_length_are_noticed(whole: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(whole, tmp_path / "broken")
    np.savez(broken / "episode_000000.npz", joints=joints(COUNT - 1))
    with pytest.raises(RecordingError, match="74 rows for 75 frames"):
        Recordings(broken)[0]


def test_what_is_no_recording_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no recordings"):
        Recordings(tmp_path)
    (tmp_path / MARKER).write_text('{"format": 99}')
    with pytest.raises(RecordingError, match="format 99"):
        Recordings(tmp_path)
    with pytest.raises(RecordingError, match="at least one"), Writer(tmp_path / "new", WIDTH, 30):
        pass


def test_pictures_stay_on_the_disk_until_then(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "one.npz", joints=np.zeros((3, 2)), **{"camera/front": np.zeros((3, 2, 2, 3), np.uint8)})
    stored = Stored(tmp_path / "one.npz", 3)
    (tmp_path / "one.npz").unlink()
    assert stored["joints"].shape == (3, 2)
    assert "camera/front" in stored
    with pytest.raises(FileNotFoundError):
        stored["camera/front"]
    np.savez_compressed(tmp_path / "one.npz", **{"camera/front": np.ones((3, 2, 2, 3), np.uint8)})
    assert stored["camera/front"].all()
    assert set(stored) == {"joints", "camera/front"}
