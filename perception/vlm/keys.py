"""Keys of endpoints: read from the environment when a request is made, and never repeated by what is logged or raised."""

from __future__ import annotations

import html
import logging
import os
import re
from urllib.parse import unquote

from assets.errors import InvalidValueError

# Loggers of the HTTP library that repeat what a server says: its reason phrase and its headers.
_THEIRS = ("httpx", "httpcore.connection", "httpcore.http11", "httpcore.proxy", "httpcore.socks")
# Environment variables that hold a key of some backend of this process.
_NAMES: set[str] = set()
_WITHHELD = "(withheld: it repeats part of a key)"


def guard(name: str) -> None:
    """From now on, keep the value of an environment variable out of quotations and of the HTTP library's logs."""
    _NAMES.add(name)
    for logger in _THEIRS:
        logging.getLogger(logger).addFilter(_blank)


def read_key(name: str) -> str:
    """The key in an environment variable.

    Raises:
        InvalidValueError: there is none, or one that no header can carry.
    """
    # Refused here, since the HTTP library's own sentence about an illegal header repeats it.
    if not re.fullmatch(r"[!-~]+", os.environ.get(name, "").strip()):
        what = "holds blanks, line breaks or other than ASCII" if os.environ.get(name, "").strip() else "is not set or empty"
        raise InvalidValueError(f"the environment variable {name} must hold the key but {what}; key_env=None sends no key")
    return os.environ[name].strip()


def quote(said: bytes) -> str:
    """The beginning of what a server said, on one line and fit for a terminal, or nothing of it where a key is in it."""
    text = said[:20_000].decode(errors="replace")
    if _leaks(text):
        return _WITHHELD
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line[:300] + "..." * (len(line) > 300) or "(nothing said)"


def _leaks(text: str) -> bool:
    """Whether any 8 characters in a row of a key stand in the text, escaped, wrapped or with other capitals if need be."""
    said = (_fold(text), _fold(_unescape(text)))
    for name in _NAMES:
        value = os.environ.get(name, "")
        for key, there in zip((_fold(value), _fold(_unescape(value))), said, strict=True):
            width = min(8, len(key))
            if width and any(key[k : k + width] in there for k in range(len(key) - width + 1)):
                return True
    return False


def _fold(text: str) -> str:
    return "".join(text.split()).casefold()


def _unescape(text: str) -> str:
    text = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text).replace("\\", "")
    return html.unescape(unquote(text))


def _blank(record: logging.LogRecord) -> bool:
    """A logging filter that blanks what repeats a key and keeps everything else."""
    if _leaks(record.getMessage()):
        record.msg, record.args = _WITHHELD, ()
    return True
