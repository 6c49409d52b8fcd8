"""What a chat endpoint's reply comes to: a text; or what was wrong with it, and whether to ask again."""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from perception.vlm.keys import quote

_LARGEST_BODY = 2**24
_TRANSIENT = (408, 409, 425, 429)
_HINTS = {
    401: "; is the key in that variable the right one?",
    403: "; may that key use this model?",
    404: "; base_url must be what comes before /chat/completions, and model one of those that base_url/models lists",
}


@dataclass(frozen=True)
class Reply:
    """A text; or what was wrong, whether to ask again, and how many seconds the server wants to be left alone."""

    text: str | None = None
    problem: str = ""
    again: bool = False
    delay: float = 0.0
    tokens: tuple[int, int] = (0, 0)


def receive(response: httpx.Response, deadline: float) -> bytes:
    """The body, within its bounds.

    Args:
        response: being streamed.
        deadline: of `time.monotonic`, seconds.

    Raises:
        httpx.DecodingError: it is too large.
        httpx.ReadTimeout: it is late.
    """
    parts, size = [], 0
    for part in response.iter_bytes():
        parts.append(part)
        size += len(part)
        if size > _LARGEST_BODY:
            raise httpx.DecodingError(f"an answer of more than {_LARGEST_BODY} bytes")
        if time.monotonic() > deadline:
            raise httpx.ReadTimeout(f"after {size} bytes the answer was still not complete")
    return b"".join(parts)


def judge(status: int, retry_after: str | None, content: bytes, longest_wait_s: float) -> Reply:
    """What a response with this status, Retry-After header and body comes to."""
    if status == HTTPStatus.OK:
        return _read(content)
    delay, known = _seconds(retry_after), {s.value: s.phrase for s in HTTPStatus}
    problem = f"HTTP {status} {known.get(status, '')}{_HINTS.get(status, '')}: {quote(content)}"
    if delay > longest_wait_s:
        return Reply(problem=f"{problem}; it asks to wait {delay:.0f} s, which is more than longest_wait_s={longest_wait_s:g}")
    return Reply(problem=problem, again=status in _TRANSIENT or status >= 500, delay=delay)


def _seconds(retry_after: str | None) -> float:
    """Retry-After as seconds from now; 0 if it says nothing readable. It is a number or a date (RFC 9110, 10.2.3)."""
    if retry_after is None:
        return 0.0
    if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", retry_after.strip()):
        return float(retry_after)
    try:
        date = parsedate_to_datetime(retry_after)
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, IndexError, OverflowError):
        return 0.0


def _read(content: bytes) -> Reply:
    """The text of a chat completion; a cut-off or empty one may come whole the next time, one without text will not."""
    try:
        data = json.loads(content)
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        return Reply(problem=f"its answer is no JSON object: {quote(content)}", again=True)
    usage, choices = data.get("usage"), data.get("choices")
    counts = [usage.get(k) if isinstance(usage, dict) else 0 for k in ("prompt_tokens", "completion_tokens")]
    prompt, completion = (n if type(n) is int and 0 <= n < 2**40 else 0 for n in counts)
    if not isinstance(choices, list) or not choices:
        problem = f"its answer is JSON without choices: {quote(content)}"
        return Reply(problem=problem, again=True, tokens=(prompt, completion))
    message = choices[0].get("message") if isinstance(choices[0], dict) else None
    text = message.get("content") if isinstance(message, dict) else None
    if not isinstance(text, str):
        problem = f"its answer has no text in choices[0].message.content (is max_tokens large enough?): {quote(content)}"
        return Reply(problem=problem, tokens=(prompt, completion))
    # A lone surrogate, which JSON may carry, could be neither printed nor stored.
    return Reply(text=text.encode(errors="replace").decode(), tokens=(prompt, completion))
