"""How many frames an mp4 has, by its header alone: no decoder is set up, so that hundreds are looked at in no time.

An mp4 is made of boxes, each with a size and four letters (ISO/IEC 14496-12): "mdat" has the frames, "moov" tells of them, and
"trak/mdia/minf/stbl/stsz" in it has a size for each of a track's frames.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from assets.errors import InvalidValueError

# Of a box's size and letters, bytes; where its size stands as eight further bytes.
_SHORT, _LONG = 8, 16


def frames(file: Path) -> int:
    """Frames of the first track of pictures; 0 where the header does not tell, as in a file of fragments.

    Args:
        file: an mp4.

    Raises:
        OSError: it cannot be read.
        InvalidValueError: it is no mp4, is cut short, or has no pictures.
    """
    with file.open("rb") as handle:
        size = os.fstat(handle.fileno()).st_size
        header = None
        for kind, begin, end in _top(handle, size):
            if end > size:
                raise InvalidValueError(f"{file} is cut short: its {kind!r} ends at byte {end}, the file at {size}")
            if kind == "moov":
                handle.seek(begin)
                header = handle.read(end - begin)
    if header is None:
        raise InvalidValueError(f"{file} is no whole mp4: it has no 'moov', which tells of its frames and is written last")
    for kind, track in _boxes(header):
        if kind == "trak" and _find(track, "mdia", "hdlr")[8:12] == b"vide":
            sizes = _find(track, "mdia", "minf", "stbl", "stsz")
            return struct.unpack(">I", sizes[8:12])[0] if len(sizes) >= 12 else 0
    raise InvalidValueError(f"{file} has no track of pictures")


def _top(handle: BinaryIO, size: int) -> Iterator[tuple[str, int, int]]:
    """Letters of the outermost boxes, and where their contents begin and end, bytes; nothing but headers is read."""
    at = 0
    while at + _SHORT <= size:
        handle.seek(at)
        kind, before, length = _head(handle.read(_LONG), size - at)
        yield kind, at + before, at + length
        at += length


def _boxes(data: bytes) -> Iterator[tuple[str, bytes]]:
    """Letters and contents of the boxes side by side in `data`."""
    at = 0
    while at + _SHORT <= len(data):
        kind, before, length = _head(data[at : at + _LONG], len(data) - at)
        yield kind, data[at + before : at + length]
        at += length


def _head(head: bytes, rest: int) -> tuple[str, int, int]:
    """A box's letters, and the lengths of its head and of all of it, bytes; `rest` is what is left from its first byte on."""
    length, letters = struct.unpack(">I4s", head[:_SHORT])
    before = _SHORT
    if length == 1 and len(head) == _LONG:
        before, (length,) = _LONG, struct.unpack(">Q", head[_SHORT:])
    elif length == 0:  # up to the end
        length = rest
    return letters.decode("latin-1"), before, max(length, before)


def _find(data: bytes, *way: str) -> bytes:
    """Contents of the box that letters lead to, one in the other; b"" where there is none."""
    for letters in way:
        data = next((inside for kind, inside in _boxes(data) if kind == letters), b"")
    return data
