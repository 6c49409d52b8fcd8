"""One writer of a folder at a time: two trainings, or two collections, that share a folder would spoil each other's files."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from assets.errors import InvalidValueError


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold a folder, whether it exists yet or not, against this user's other processes on this machine.

    The kernel lets go of it when the process ends, however it ends: a claim is never left behind.

    Args:
        folder: what is written into; links are followed.

    Raises:
        InvalidValueError: another process holds it.
    """
    name = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:16]
    with (Path(tempfile.gettempdir()) / f"saccade-{os.getuid()}-{name}.lock").open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InvalidValueError(
                f"another process is writing into {folder}: wait until it has ended, or take another folder"
            ) from None
        yield
