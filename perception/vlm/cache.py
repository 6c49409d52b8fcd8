"""Answers that were given once: identical frames are looked up, not looked at.

A key is the frame's digest, the prompt and the model's id. In memory the cache holds the newest `size` answers; with a `folder`
it also keeps them on disk (SQLite, values as JSON), bounded by `disk_size`, so that a second run starts warm.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from assets.errors import InvalidValueError
from perception.vlm.base import Images

Key = tuple[bytes, str, str]

_MISSING = object()
# SQLite's application id: tells a file of answers from any other program's.
_MARK = 0x5361_4361
_FILE = "answers.sqlite"


def digest(images: Images) -> list[bytes]:
    """A digest of each frame's pixels and size, 16 bytes; how the pixels lie in memory does not matter. (N, H, W, 3) -> N."""
    head = str(images.shape[1:]).encode()
    return [hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, key=head).digest() for image in images]


class Cache:
    """Bounded, thread-safe, first in memory, then on disk.

    In memory the answers that were longest not asked for go first; on disk those that were first given.

    Args:
        size: answers in memory.
        folder: where answers are kept beyond the process; None keeps none. Several processes may share one.
        disk_size: answers on disk.

    Raises:
        InvalidValueError: a size below 1; a folder that cannot be written; a file in it that is damaged or not of answers. The
            last may also be noticed later, by `get` and `put`.
    """

    def __init__(self, size: int = 100_000, folder: str | Path | None = None, disk_size: int = 1_000_000) -> None:
        if size < 1 or disk_size < 1:
            raise InvalidValueError(f"a cache holds at least one answer, got size={size}, disk_size={disk_size}")
        self._size, self._disk_size = size, disk_size
        self._held: OrderedDict[Key, Any] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = self.misses = 0
        self._path = Path(folder or ".") / _FILE
        self._disk: sqlite3.Connection | None = None
        if folder is not None:
            self._open()

    def __len__(self) -> int:
        return len(self._held)

    @property
    def on_disk(self) -> bool:
        """Whether answers are kept beyond the process."""
        return self._disk is not None

    @property
    def hit_rate(self) -> float:
        """Share of lookups that were answered; 0 before the first."""
        return self.hits / max(1, self.hits + self.misses)

    def get(self, key: Key, default: Any = None) -> Any:
        """What was answered, or `default`.

        Raises:
            InvalidValueError: the file on disk is damaged.
        """
        with self._lock:
            value = self._held.get(key, _MISSING)
            if value is _MISSING and self._disk is not None:
                value = self._read(self._disk, key)
            if value is _MISSING:
                self.misses += 1
                return default
            self._held.move_to_end(key)
            self.hits += 1
            return value

    def put(self, key: Key, value: Any) -> None:
        """Remember an answer, in place of an earlier one to the same key.

        What is read back from disk is what JSON makes of it: a tuple comes as a list.

        Raises:
            InvalidValueError: a value for the disk that JSON cannot hold, or a file that cannot be written; nothing is kept.
        """
        with self._lock:
            if self._disk is not None:
                self._write(self._disk, key, value)
            self._keep(key, value)

    def close(self) -> None:
        """Close the file; what is in memory stays. Safe to call twice."""
        with self._lock:
            if self._disk is not None:
                self._disk.close()
                self._disk = None

    def _keep(self, key: Key, value: Any) -> None:
        self._held[key] = value
        self._held.move_to_end(key)
        while len(self._held) > self._size:
            self._held.popitem(last=False)

    def _open(self) -> None:
        with self._told():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            disk = sqlite3.connect(self._path, timeout=30, check_same_thread=False, isolation_level=None)
            try:
                _patiently(_prepare, disk)
            except BaseException:
                disk.close()
                raise
        self._disk = disk

    def _read(self, disk: sqlite3.Connection, key: Key) -> Any:
        with self._told():
            row = disk.execute("select value from answers where frame = ? and prompt = ? and model = ?", key).fetchone()
            if row is None:
                return _MISSING
            value = json.loads(row[0])
        self._keep(key, value)
        return value

    def _write(self, disk: sqlite3.Connection, key: Key, value: Any) -> None:
        try:
            text = json.dumps(value)
        except (TypeError, ValueError) as error:
            raise InvalidValueError(f"an answer kept on disk must be what JSON can hold, got {value!r} ({error})") from error
        with self._told(), disk:
            disk.execute("begin immediate")
            # An earlier answer keeps its number: numbers stay without gaps, so that the newest tells how many there are.
            disk.execute(
                "insert into answers (frame, prompt, model, value) values (?, ?, ?, ?) "
                "on conflict (frame, prompt, model) do update set value = excluded.value",
                (*key, text),
            )
            disk.execute("delete from answers where n <= (select max(n) from answers) - ?", (self._disk_size,))

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Whatever goes wrong with the file is told by its name."""
        try:
            yield
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise InvalidValueError(
                f"{self._path} cannot be used as a file of answers ({error}): move it away, or choose another folder"
            ) from error


def _prepare(disk: sqlite3.Connection) -> None:
    """Make the table in a new file; refuse a file of something else before anything is changed in it."""
    disk.execute("begin immediate")
    (mark,), (tables,) = (disk.execute(q).fetchone() for q in ("pragma application_id", "select count(*) from sqlite_master"))
    if mark != _MARK and (mark or tables):
        raise ValueError("it belongs to another program")
    disk.execute(
        "create table if not exists answers (n integer primary key, frame blob, prompt text, model text, value text, "
        "unique (frame, prompt, model))"
    )
    disk.execute(f"pragma application_id = {_MARK}")
    disk.execute("commit")
    # Written ahead and without waiting for the disk: losing the last answers in a power cut costs nothing but asking again.
    disk.execute("pragma journal_mode = wal")
    disk.execute("pragma synchronous = normal")


def _patiently(work: Callable[[sqlite3.Connection], None], disk: sqlite3.Connection, seconds: float = 30.0) -> None:
    """Do what SQLite's own timeout does not cover: turning a new file to write-ahead logging while others open it."""
    until = time.monotonic() + seconds
    while True:
        try:
            return work(disk)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > until:
                raise
            time.sleep(0.02)
