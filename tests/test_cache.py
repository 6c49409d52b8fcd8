"""What was answered once is answered again: bounded, in the right order, across processes, and with damage told."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assets.errors import InvalidValueError
from perception.vlm.cache import Cache, Key, digest

ROOT = Path(__file__).resolve().parents[1]


def key(n: int) -> Key:
    return bytes([n]) * 16, f"prompt {n % 3}", "model"


PUTS = st.lists(st.tuples(st.integers(0, 9), st.integers()), max_size=40)
STEPS = st.lists(
    st.one_of(st.tuples(st.just("put"), st.integers(0, 9)), st.tuples(st.just("get"), st.integers(0, 9))), max_size=60
)


@given(size=st.integers(1, 6), steps=STEPS)
def test_it_holds_those_last_put_or_asked_for(size: int, steps: list[tuple[str, int]]) -> None:
    cache, model, hits, gets = Cache(size), OrderedDict[int, int](), 0, 0
    for time, (step, n) in enumerate(steps):
        if step == "put":
            cache.put(key(n), time)
            model[n] = time
            model.move_to_end(n)
            if len(model) > size:
                model.popitem(last=False)
        else:
            gets += 1
            hits += n in model
            assert cache.get(key(n), "unknown") == model.get(n, "unknown")
            if n in model:
                model.move_to_end(n)
        assert len(cache) == len(model) <= size
        assert (cache.hits, cache.misses) == (hits, gets - hits)
        assert cache.hit_rate == (hits / gets if gets else 0)


def test_what_was_asked_for_stays_longer() -> None:
    cache = Cache(2)
    cache.put(key(1), "a")
    cache.put(key(2), "b")
    assert cache.get(key(1)) == "a"
    cache.put(key(3), "c")
    assert [cache.get(key(n)) for n in (1, 2, 3)] == ["a", None, "c"]


def test_none_is_an_answer_too() -> None:
    cache = Cache()
    cache.put(key(1), None)
    assert cache.get(key(1), "unknown") is None
    assert cache.hits == 1


@pytest.mark.parametrize(
    "other", [(b"1" * 16, "prompt", "model"), (b"0" * 16, "Prompt", "model"), (b"0" * 16, "prompt", "model2")]
)
@pytest.mark.parametrize("on_disk", [False, True])
def test_frame_prompt_and_model_all_matter(other: Key, on_disk: bool, tmp_path: Path) -> None:
    cache = Cache(1, tmp_path if on_disk else None)
    one = (b"0" * 16, "prompt", "model")
    cache.put(one, "answer")
    assert cache.get(other) is None
    assert cache.get(one) == "answer"


@settings(max_examples=50, deadline=None)
@given(size=st.integers(1, 4), disk_size=st.integers(1, 6), puts=PUTS)
def test_the_disk_keeps_what_was_first_given_last(size: int, disk_size: int, puts: list[tuple[int, int]]) -> None:
    expected: OrderedDict[int, int] = OrderedDict()
    with TemporaryDirectory() as folder:
        cache = Cache(size, folder, disk_size)
        for n, value in puts:
            cache.put(key(n), value)
            expected[n] = value
            if len(expected) > disk_size:
                expected.popitem(last=False)
        cache.close()
        again = Cache(100, folder, disk_size)
        assert {n: v for n in range(10) if (v := again.get(key(n), "unknown")) != "unknown"} == expected
        again.close()
        with sqlite3.connect(Path(folder) / "answers.sqlite") as disk:
            assert disk.execute("select count(*) from answers").fetchone() == (len(expected),)
        disk.close()


def test_an_answer_from_the_disk_is_then_in_memory(tmp_path: Path) -> None:
    with closing(Cache(5, tmp_path)) as cache:
        cache.put(key(1), {"labels": ["mug"], "boxes": [[1.5, 2, 3, 4]]})
    cache = Cache(5, tmp_path)
    assert len(cache) == 0
    assert cache.get(key(1)) == {"labels": ["mug"], "boxes": [[1.5, 2, 3, 4]]}
    assert len(cache) == 1
    cache.close()
    cache.close()
    assert cache.get(key(1)) is not None
    assert cache.hit_rate == 1


def test_another_process_finds_it(tmp_path: Path) -> None:
    folder, answer = tmp_path / "deep" / "er", 'sûr \0 "oui"'
    with closing(Cache(folder=folder)) as cache:
        cache.put(key(7), answer)
    code = (
        "import sys; from perception.vlm.cache import Cache; cache = Cache(folder=sys.argv[1]); "
        "print(ascii(cache.get((bytes([7]) * 16, 'prompt 1', 'model')))); cache.put((b'', '', ''), 'new')"
    )
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == ascii(answer)
    with closing(Cache(folder=folder)) as cache:
        assert cache.get((b"", "", "")) == "new"


def hammer(cache: Cache, seed: int) -> int:
    """Put and get at random; each key has the one answer that belongs to it."""
    rng, gets = np.random.default_rng(seed), 0
    for n in rng.integers(0, 40, 600).tolist():
        if rng.random() < 0.5:
            cache.put(key(n), f"answer {n}")
        else:
            gets += 1
            assert cache.get(key(n)) in (None, f"answer {n}")
        assert len(cache) <= 10
    return gets


@pytest.mark.parametrize("on_disk", [False, True])
def test_two_threads_share_a_cache(on_disk: bool, tmp_path: Path) -> None:
    cache = Cache(10, tmp_path if on_disk else None, disk_size=20)
    with ThreadPoolExecutor(2) as pool:
        gets = sum(pool.map(hammer, [cache, cache], [0, 1]))
    assert cache.hits + cache.misses == gets
    assert cache.hits > 0
    assert len(cache) == 10


def test_two_caches_share_a_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        caches = list(pool.map(lambda _: Cache(10, tmp_path, disk_size=20), range(4)))
        list(pool.map(hammer, caches, range(4)))
    with sqlite3.connect(tmp_path / "answers.sqlite") as disk:
        rows = disk.execute("select frame, value from answers").fetchall()
    disk.close()
    assert len(rows) == 20
    assert all(value == f'"answer {frame[0]}"' for frame, value in rows)


def table_of_another_program(path: Path) -> None:
    with sqlite3.connect(path) as disk:
        disk.execute("create table bookmarks (name text)")
    disk.close()


def mark_of_another_program(path: Path) -> None:
    with sqlite3.connect(path) as disk:
        disk.execute("pragma application_id = 7")
    disk.close()


def answers_of_another_program(path: Path) -> None:
    with sqlite3.connect(path) as disk:
        disk.execute("create table answers (n integer primary key, frame blob, prompt text, model text, value text)")
    disk.close()


def filled(folder: Path) -> Path:
    """A file of some hundred pages."""
    cache = Cache(folder=folder)
    for n in range(200):
        cache.put(key(n), "answer " * 300)
    cache.close()
    return folder / "answers.sqlite"


@pytest.mark.parametrize(
    "make",
    [
        lambda path: path.write_bytes(b"these are no answers, and no database either\n" * 100),
        lambda path: path.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 20),
        table_of_another_program,
        mark_of_another_program,
        answers_of_another_program,
    ],
    ids=["text", "bytes", "table", "mark", "answers"],
)
def test_a_foreign_file_is_told_and_left_alone(make, tmp_path: Path) -> None:
    path = tmp_path / "answers.sqlite"
    make(path)
    before = path.read_bytes()
    with pytest.raises(
        InvalidValueError, match=r"answers\.sqlite cannot be used .*: move it away, or choose another folder"
    ) as told:
        Cache(folder=tmp_path)
    assert str(path) in str(told.value)
    assert path.read_bytes() == before


def read_all(folder: Path) -> None:
    with closing(Cache(folder=folder)) as cache:
        for n in range(200):
            cache.get(key(n))


def test_a_file_cut_short_is_told(tmp_path: Path) -> None:
    path = filled(tmp_path)
    path.write_bytes(path.read_bytes()[: 4096 * 20])
    with pytest.raises(InvalidValueError, match=f"{path} cannot be used .*malformed"):
        read_all(tmp_path)


def test_damaged_pages_are_told_when_they_are_met(tmp_path: Path) -> None:
    path = filled(tmp_path)
    whole = path.read_bytes()
    # The first page, with the name of the table, stays.
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))
    cache = Cache(folder=tmp_path)
    with pytest.raises(InvalidValueError, match=f"{path} cannot be used .*malformed"):
        cache.get(key(1))
    with pytest.raises(InvalidValueError, match=f"{path} cannot be used .*malformed"):
        cache.put(key(1), "answer")
    assert len(cache) == 0


def test_a_damaged_value_is_told(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with sqlite3.connect(path) as disk:
        disk.execute("update answers set value = 'answer'")
    disk.close()
    with pytest.raises(InvalidValueError, match=f"{path} cannot be used .*Expecting value"):
        read_all(tmp_path)


def test_a_folder_that_cannot_be_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder" / "answers.sqlite").mkdir(parents=True)
    for name in ("file", "folder"):
        with pytest.raises(InvalidValueError, match=rf"{name}/answers\.sqlite cannot be used"):
            Cache(folder=tmp_path / name)


@pytest.mark.parametrize("value", [{1, 2}, np.zeros(2), object()])
def test_what_json_cannot_hold_is_kept_in_memory_only(value: object, tmp_path: Path) -> None:
    cache = Cache(folder=tmp_path)
    cache.put(key(1), "before")
    with pytest.raises(InvalidValueError, match=r"on disk must be what JSON can hold, got .*not JSON serializable"):
        cache.put(key(1), value)
    assert cache.get(key(1)) == "before"
    in_memory = Cache()
    in_memory.put(key(1), value)
    assert in_memory.get(key(1)) is value


@pytest.mark.parametrize(("size", "disk_size"), [(0, 5), (5, 0), (-1, 5)])
def test_a_cache_for_nothing_is_told(size: int, disk_size: int) -> None:
    with pytest.raises(InvalidValueError, match=f"at least one answer, got size={size}, disk_size={disk_size}"):
        Cache(size, disk_size=disk_size)


IMAGES = arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 6), st.just(3)))


@given(IMAGES)
def test_equal_pixels_have_equal_digests_wherever_they_lie(images: np.ndarray) -> None:
    n, height, width, _ = images.shape
    large = np.full((n, 2 * height, 2 * width, 3), 99, np.uint8)
    views = [
        large[:, ::2, ::2],
        large[:, :height, width:],
        large[:, height - 1 :: -1, width - 1 :: -1],
        large[..., ::-1][:, :height, :width],
    ]
    for view in views:
        view[:] = images
        assert digest(view) == digest(images)
    assert digest(np.asfortranarray(images)) == digest(images)
    assert all(len(one) == 16 for one in digest(images))
    assert digest(images) == [digest(image[None])[0] for image in images]


@given(IMAGES, st.data())
def test_one_pixel_makes_another_digest(images: np.ndarray, data: st.DataObject) -> None:
    at = tuple(data.draw(st.integers(0, side - 1)) for side in images.shape)
    changed = images.copy()
    changed[at] ^= data.draw(st.integers(1, 255))
    assert [a != b for a, b in zip(digest(changed), digest(images), strict=True)] == [k == at[0] for k in range(len(images))]


def test_the_same_bytes_in_another_size_have_another_digest() -> None:
    pixels = np.arange(72, dtype=np.uint8)
    sizes = [(height, 24 // height, 3) for height in (1, 2, 3, 4, 6, 8, 12, 24)]
    assert len({digest(pixels.reshape(1, *size))[0] for size in sizes}) == len(sizes)
