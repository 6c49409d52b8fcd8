"""An endpoint that behaves and one that does not: what is sent, what comes back, what is counted, and where the key is not."""

from __future__ import annotations

import base64
import gc
import html
import inspect
import logging
import pickle
import re
import socket
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import cv2
import numpy as np
import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

import conf
from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm import openai, reply
from perception.vlm.base import Answerer, BackendError, Grounder, Scorer
from perception.vlm.openai import OpenAIChat, Usage
from tests.endpoint import (
    CHUNK,
    HALF,
    IMAGE,
    KEY_NAME,
    SECRET,
    Handler,
    Make,
    Server,
    Step,
    clients,
    drip,
    images,
    raw,
    say,
    serving,
    silent,
    status,
)


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as made:
        yield made


@pytest.fixture
def make(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    with clients(server, monkeypatch) as factory:
        yield factory


# -- what is sent ------------------------------------------------------------------------------------------------------


def test_a_request_is_what_the_endpoint_expects_to_the_very_pixel(server: Server, make: Make) -> None:
    picture, texts = np.random.default_rng(1).integers(0, 256, (2, 11, 17, 3), np.uint8), ["what?", "wo ist „es“?"]
    assert make(concurrency=1, max_tokens=33, temperature=0.5).answer(picture, texts) == texts
    for seen, image, text in zip(server.seen, picture, texts, strict=True):
        assert (seen.path, seen.headers["Content-Type"]) == ("/v1/chat/completions", "application/json")
        assert seen.headers["Authorization"] == f"Bearer {SECRET}"
        (message,) = seen.body.pop("messages")
        assert seen.body == {"model": "seer", "max_tokens": 33, "temperature": 0.5}
        shown, said = message["content"]
        assert (message["role"], said) == ("user", {"type": "text", "text": text})
        head, _, data = shown["image_url"]["url"].partition(",")
        assert (shown["type"], head) == ("image_url", "data:image/png;base64")
        decoded = cv2.imdecode(np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR)
        assert decoded is not None
        np.testing.assert_array_equal(decoded[..., ::-1], image)


def test_what_is_none_is_not_sent(server: Server, make: Make) -> None:
    make(max_tokens=None, temperature=None, key_env=None).answer(IMAGE, ["a"])
    assert set(server.seen[0].body) == {"model", "messages"}
    assert "Authorization" not in server.seen[0].headers


def test_it_answers_and_grounds_and_does_not_score(make: Make) -> None:
    chat = make()
    assert isinstance(chat, Answerer)
    assert isinstance(chat, Grounder)
    assert not isinstance(chat, Scorer)


def test_order_is_kept_and_no_more_are_under_way_than_allowed(server: Server, make: Make) -> None:
    server.script = [say(after=lambda prompt: 0.1 if prompt in "048" else 0.02)]
    prompts = [str(k) for k in range(12)]
    assert make(concurrency=3).answer(images(12), prompts) == prompts
    assert server.most == 3


def test_the_bound_is_the_backends_not_the_callers(server: Server, make: Make) -> None:
    server.script = [say(after=lambda _: 0.03)]
    chat = make(concurrency=2)
    with ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda k: chat.answer(images(3), [f"{k}{i}" for i in range(3)]), range(4)))
    assert answers == [[f"{k}{i}" for i in range(3)] for k in range(4)]
    assert server.most == 2
    assert chat.usage.requests == 12


# -- an endpoint that misbehaves ---------------------------------------------------------------------------------------

TRANSIENT: list[tuple[str, Step, str]] = [
    *((str(code), status(code), f"HTTP {code} .*so it is") for code in (408, 429, 500, 503)),
    ("no json", status(200, b"<html>busy</html>"), "no JSON object: <html>busy</html>"),
    ("cut json", raw(b'HTTP/1.0 200 OK\r\n\r\n{"choices": [{"mess'), 'no JSON object: {"choices": \\[{"mess'),
    ("deep json", status(200, b"[" * 100_000), r"no JSON object: \[{300}\.\.\.$"),
    ("a list", status(200, b"[]"), r"no JSON object: \[\]"),
    ("no choices", status(200, b'{"error": "overloaded"}'), 'without choices: {"error": "overloaded"}'),
    ("empty choices", status(200, b'{"choices": []}'), "without choices"),
    ("half body", raw(HALF), "RemoteProtocolError: peer closed connection"),
    ("half chunk", raw(CHUNK), "RemoteProtocolError: peer closed connection"),
    ("nothing", raw(b""), "RemoteProtocolError: Server disconnected"),
    ("garbage", raw(b"\x16\x03\x01 what\r\n\r\n"), "RemoteProtocolError"),
    ("silence", silent, "ReadTimeout: timed out"),
    ("dripping", drip, r"ReadTimeout: after \d+ bytes the answer was still not complete"),
]


@pytest.mark.parametrize(("step", "cause"), [t[1:] for t in TRANSIENT], ids=[t[0] for t in TRANSIENT])
def test_what_may_pass_is_asked_again_but_not_for_ever(step: Step, cause: str, server: Server, make: Make) -> None:
    chat = make(timeout_s=0.3 if step in (silent, drip) else 5)
    server.script = [step, step, say("yes")]
    assert chat.answer(IMAGE, ["q"]) == ["yes"]
    assert (chat.usage.requests, chat.usage.retries, chat.usage.failures) == (3, 2, 0)
    server.script = [step]
    with pytest.raises(BackendError, match=rf"^{server.url}/chat/completions .*'seer'.* after 2 of 2 retries: .*{cause}"):
        chat.answer(IMAGE, ["q"])
    assert (chat.usage.requests, chat.usage.retries, chat.usage.failures) == (6, 4, 1)
    assert len(server.seen) == 6


FINAL = [
    (status(302, b"", Location="/v1/elsewhere"), r"HTTP 302 Found: \(nothing said\)"),
    (status(400), "HTTP 400 Bad Request: .*so it is"),
    (status(401), "key_env='SACCADE_TEST_KEY' .*HTTP 401 Unauthorized; is the key in that variable the right one"),
    (status(403), "HTTP 403 Forbidden; may that key use this model"),
    (status(404), "HTTP 404 Not Found; base_url must be what comes before /chat/completions"),
    (status(422), "HTTP 422 "),
    (status(418), "HTTP 418 "),
    (status(200, b'{"choices": [{"message": {"content": null}, "finish_reason": "length"}]}'), 'is max_tokens .*"length"'),
    (status(200, b'{"choices": [17]}'), r"no text in choices\[0\]"),
]


@pytest.mark.parametrize(("step", "cause"), FINAL, ids=[cause[:10] for _, cause in FINAL])
def test_what_will_not_pass_is_asked_once(step: Step, cause: str, server: Server, make: Make) -> None:
    server.script, chat = [step], make()
    with pytest.raises(BackendError, match=cause):
        chat.answer(IMAGE, ["q"])
    assert (chat.usage.requests, chat.usage.retries, chat.usage.failures, len(server.seen)) == (1, 0, 1, 1)


def test_nobody_listens(make: Make) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refused, and nobody else gets the port meanwhile
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        chat = make(base_url=url)
        with pytest.raises(BackendError, match=rf"{url}/chat/.*: ConnectError: .*refused; does a server listen there"):
            chat.answer(IMAGE, ["q"])
    assert (chat.usage.requests, chat.usage.retries, chat.usage.failures) == (3, 2, 1)


def test_an_endless_answer_is_not_read_to_its_end(server: Server, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reply, "_LARGEST_BODY", 1000)
    server.script = [say("x" * 2000)]
    with pytest.raises(BackendError, match="DecodingError: an answer of more than 1000 bytes"):
        make().answer(IMAGE, ["q"])


def test_what_cannot_be_printed_is_replaced(server: Server, make: Make) -> None:
    server.script = [say("a\ud800b")]
    assert make().answer(IMAGE, ["q"]) == ["a?b"]
    server.script = [status(400, b"\x1b[31mred\x00\n\xff")]
    with pytest.raises(BackendError, match=re.escape(": [31mred \N{REPLACEMENT CHARACTER}") + "$"):
        make().answer(IMAGE, ["q"])


def test_the_others_are_given_up_with_the_first(server: Server, make: Make) -> None:
    server.script, chat = [status(401)], make(concurrency=1)
    with pytest.raises(BackendError, match="HTTP 401"):
        chat.answer(images(20), ["q"] * 20)
    chat.close()  # waits for what was still under way
    assert len(server.seen) <= 2
    assert chat.usage.requests == len(server.seen)


# -- waiting -----------------------------------------------------------------------------------------------------------


def test_retry_after_is_honoured_as_a_number_and_as_a_date(server: Server, make: Make) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)
    server.script = [status(429, Retry_After="0.4"), status(503, Retry_After=date), say("yes")]
    began = datetime.now(UTC)
    assert make().answer(IMAGE, ["q"]) == ["yes"]
    assert server.gaps()[0] >= 0.4
    assert (datetime.now(UTC) - began).total_seconds() > 0.95  # the date is cut to whole seconds


@pytest.mark.parametrize("wait", ["61", "tomorrow"])
def test_nobody_waits_for_a_day(wait: str, server: Server, make: Make) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
    server.script, began = [status(429, Retry_After=date if wait == "tomorrow" else wait)], time.monotonic()
    with pytest.raises(BackendError, match=r"asks to wait (61|86[34]\d\d) s, which is more than longest_wait_s=60"):
        make().answer(IMAGE, ["q"])
    assert len(server.seen) == 1
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("nonsense", ["soon", "-3", "nan", "inf", "1e9", "Mon, 99 Foo 2026 99:99:99 GMT", "9" * 400])
def test_an_unreadable_retry_after_is_none(nonsense: str, server: Server, make: Make) -> None:
    server.script = [status(429, Retry_After=nonsense), say("yes")]
    assert make().answer(IMAGE, ["q"]) == ["yes"]


def waits(chat: OpenAIChat, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What a backend waits before each repetition; nobody really waits."""
    noted, real = [], threading.Event.wait

    def note(event: threading.Event, timeout: float | None = None) -> bool:
        if timeout is None or not threading.current_thread().name.startswith("OpenAIChat"):
            return real(event, timeout)
        noted.append(timeout)
        return False

    with monkeypatch.context() as patch:
        patch.setattr(threading.Event, "wait", note)
        with pytest.raises(BackendError):
            chat.answer(IMAGE, ["q"])
    return noted


def test_backoff_doubles_to_its_bound_by_seeded_chance(server: Server, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    server.script = [status(500)]
    first, second, other = (
        waits(make(retries=6, backoff_s=0.5, longest_wait_s=6, seed=seed), monkeypatch) for seed in (3, 3, 4)
    )
    bounds = np.array([0.5, 1, 2, 4, 6, 6])
    assert (first >= bounds / 2).all()
    assert (first <= bounds).all()
    assert first == second
    assert first != other


# -- counting ----------------------------------------------------------------------------------------------------------


def test_usage_adds_up(server: Server, make: Make) -> None:
    server.script = [say(usage={"prompt_tokens": 1000, "completion_tokens": 10}, after=lambda _: 0.01)]
    chat = make(price_prompt=2.0, price_completion=50.0)
    before = chat.usage
    chat.answer(images(30), ["q"] * 30)
    used = chat.usage
    assert (used.prompt_tokens, used.completion_tokens, used.requests, used.retries, used.failures) == (30_000, 300, 30, 0, 0)
    assert used.cost == pytest.approx(30 * (1000 * 2 + 10 * 50) / 1e6)
    assert used.seconds > 30 * 0.01
    assert before == Usage()


@pytest.mark.parametrize("odd", [None, [], "many", {"prompt_tokens": None, "completion_tokens": True}, {"prompt_tokens": -1}])
def test_odd_counts_are_none(odd: Any, server: Server, make: Make) -> None:
    server.script, chat = [say("yes", odd)], make()
    assert chat.answer(IMAGE, ["q"]) == ["yes"]
    assert (chat.usage.prompt_tokens, chat.usage.completion_tokens) == (0, 0)


def test_a_failure_may_get_the_last_answer(server: Server, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    chat = make(on_failure="last", concurrency=1)
    server.script = [say("old"), say("new"), say("other"), status(500)]
    assert [chat.answer(IMAGE, [prompt]) for prompt in ("p", "p", "q")] == [["old"], ["new"], ["other"]]
    assert chat.answer(images(3), ["p", "q", "p"]) == ["new", "other", "new"]
    assert (chat.usage.failures, chat.usage.reused) == (3, 3)
    stood_in = [r.getMessage() for r in caplog.records if "the last answer to the same prompt stands in" in r.getMessage()]
    assert len(stood_in) == 3
    assert "HTTP 500" in stood_in[0]
    with pytest.raises(BackendError, match=r"HTTP 500 .*there is no earlier answer to this prompt for on_failure='last'"):
        chat.answer(IMAGE, ["never asked"])
    assert (chat.usage.failures, chat.usage.reused) == (4, 3)


def test_the_last_answer_may_be_of_the_same_batch(server: Server, make: Make) -> None:
    server.script = [status(400), say("one"), say("two")]
    assert make(on_failure="last", concurrency=1).answer(images(3), ["p"] * 3) == ["two", "one", "two"]


def test_by_default_a_failure_raises_whatever_was_answered(server: Server, make: Make) -> None:
    chat = make()
    assert chat.answer(IMAGE, ["p"]) == ["p"]
    server.script = [status(500)]
    with pytest.raises(BackendError):
        chat.answer(IMAGE, ["p"])
    assert chat.usage.reused == 0


def test_last_answers_are_bounded(server: Server, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai, "_REMEMBERED", 2)
    chat = make(on_failure="last")
    for prompt in ("a", "b", "a", "c"):
        chat.answer(IMAGE, [prompt])
    server.script = [status(400)]
    assert chat.answer(images(2), ["a", "c"]) == ["a", "c"]
    with pytest.raises(BackendError, match="no earlier answer"):
        chat.answer(IMAGE, ["b"])


# -- places ------------------------------------------------------------------------------------------------------------

PLACES = [
    ("qwen_relative", '[{"bbox_2d": [250, 500, 500, 1000], "label": "cup"}]', (100, 200), [50, 50, 100, 100]),
    ("tuples", "it is at (50, 50, 100, 100)", (100, 200), [50, 50, 100, 100]),
    # Models of this kind see another size than was sent: 64 x 64 as 56 x 56, 30 x 30 as 56 x 56, 8192 x 1700 as 7840 x 1624.
    ("qwen_absolute", '[{"bbox_2d": [0, 14, 28, 56]}]', (64, 64), [0, 16, 32, 64]),
    ("qwen_absolute", '[{"bbox_2d": [0, 14, 28, 56]}]', (30, 30), [0, 7.5, 15, 30]),
    ("qwen_absolute", '[{"bbox_2d": [784, 0, 7840, 812]}]', (1700, 8192), [819.2, 0, 8192, 850]),
]


@pytest.mark.parametrize(("dialect", "said", "size", "box"), PLACES)
def test_places_are_pixels_of_the_images_given(
    dialect: str, said: str, size: tuple[int, int], box: list[float], server: Server, make: Make
) -> None:
    server.script = [say(said)]
    chat = make(dialect=dialect, template="Show me {phrase} as {JSON}: {phrase}!", timeout_s=30)
    (found,) = chat.ground(np.zeros((1, *size, 3), np.uint8), ["the {red} cup"])
    np.testing.assert_allclose(found.boxes, [box], rtol=1e-6)
    assert server.seen[0].prompt == "Show me the {red} cup as {JSON}: the {red} cup!"


def test_each_phrase_is_sought_in_its_image_and_nothing_may_be_found(server: Server, make: Make) -> None:
    chat = make(dialect="tuples", template="{phrase}")
    found = chat.ground(images(3), ["(1, 2, 3, 4)", "nothing", "(2, 3, 4, 5)"])
    assert [d.boxes.tolist() for d in found] == [[[1, 2, 3, 4]], [], [[2, 3, 4, 5]]]


# -- the key -----------------------------------------------------------------------------------------------------------


def escaped(key: str) -> str:
    return "".join(f"\\u{ord(c):04X}" for c in key)


FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "JSON": escaped,
    "URL": lambda key: quote(key, safe=""),
    "HTML": html.escape,
    "upper case": str.upper,
    "its beginning": lambda key: key[:12],
    "its end": lambda key: key[-12:],
    "wrapped": lambda key: "\n".join(re.findall(".{1,5}", key)),
}


def echo(code: int, form: Callable[[str], str], frame: str = "you sent: Authorization: Bearer {}") -> Step:
    return lambda handler: handler.reply(code, frame.replace("{}", form(handler.seen.key)).encode())


def header(name: str) -> Step:
    return lambda handler: handler.reply(500, b"look at the headers", **{name: handler.seen.key})


def reason(handler: Handler) -> None:
    handler.reply(500, b"look at the reason", reason=handler.seen.key)


def status_line(handler: Handler) -> None:
    raw(f"HTTP?{handler.seen.key}\r\n\r\n".encode())(handler)


NULL = '{"choices": [{"message": {"content": null}}], "said": "{}"}'
ECHOES = {
    **{f"{code}": echo(code, str) for code in (302, 400, 401, 403, 404, 429, 500)},
    **{f"401 {name}": echo(401, form) for name, form in FORMS.items()},
    "no JSON": echo(200, str),
    "no choices": echo(200, str, '{"error": {"message": "{}"}}'),
    "null": echo(200, escaped, NULL),
    "far in": echo(400, str, "." * 290 + "{}"),
    "reason phrase": reason,
    "status line": status_line,
    **{name: header(name) for name in ("Retry_After", "X_Echo", "Set_Cookie", "Location")},
}


def told(error: BaseException | None) -> str:
    """All that can be read from an error: itself, what it came from, and every local variable on its way."""
    if error is None:
        return ""
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    own = [str(error), repr(error), repr(error.args), repr(vars(error)), *lines]
    return "\n".join([*own, told(error.__cause__), told(error.__context__)])


def shows_key(text: str) -> list[str]:
    """The parts of 9 characters of the key, in any of its forms, that stand in a text."""
    parts = {form(SECRET) for form in FORMS.values()}
    windows = {part[k : k + 9] for part in parts for k in range(len(part) - 8)}
    # The beginning of nine escapes is no part of a key: the whole of three is asked for.
    whole = {w for w in windows if "\\" not in w} | {escaped(SECRET)[k : k + 18] for k in range(0, 150, 6)}
    return sorted(w for w in whole if w in text or w in "".join(text.split()))


@pytest.mark.parametrize("step", ECHOES.values(), ids=ECHOES)
def test_a_server_that_echoes_the_key_does_not_get_it_into_errors_or_logs(
    step: Step, server: Server, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server.script, chat = [step], make(on_failure="raise")
    with pytest.raises(BackendError, match=re.escape(server.url)) as caught:
        chat.answer(IMAGE, ["q"])
    assert server.seen[0].key == SECRET
    assert shows_key(told(caught.value)) == []
    records = "\n".join(f"{r.getMessage()} {vars(r)}" for r in caplog.records)
    assert "send_request_headers.started" in records
    assert shows_key(records + caplog.text) == []
    assert shows_key(repr(chat) + str(chat) + repr(vars(chat)) + repr(chat.usage)) == []


def test_the_search_for_the_key_finds_it() -> None:
    for form in FORMS.values():
        assert shows_key(f"so {form(SECRET)} it is")

    def fail(hidden: str) -> None:
        raise ValueError(len(hidden))

    with pytest.raises(ValueError, match=str(len(SECRET))) as caught:
        fail(SECRET)
    assert shows_key(told(caught.value))


@pytest.mark.parametrize("step", [status(401), raw(HALF), silent])
def test_an_error_carries_no_request(step: Step, server: Server, make: Make) -> None:
    server.script = [step]
    with pytest.raises(BackendError) as caught:
        make(timeout_s=0.1 if step is silent else 5).answer(IMAGE, ["q"])
    assert (caught.value.__cause__, caught.value.__context__) == (None, None)
    assert shows_key(told(caught.value)) == []


def test_a_log_is_blanked_only_where_it_repeats_the_key(server: Server, make: Make, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server.script = [reason, say("yes")]
    make().answer(IMAGE, ["q"])
    blanked, whole = (r.getMessage() for r in caplog.records if r.name == "httpx")
    assert blanked == "(withheld: it repeats part of a key)"
    assert whole == f'HTTP Request: POST {server.url}/chat/completions "HTTP/1.1 200 OK"'


def test_nothing_that_a_backend_holds_is_the_key(server: Server, make: Make) -> None:
    server.script, chat = [header("Set_Cookie"), say("yes")], make(on_failure="last")
    assert chat.answer(IMAGE, ["q"]) == ["yes"]
    assert "Cookie" not in server.seen[1].headers
    known, left = {id(chat)}, [chat]
    texts: list[str] = []
    while left:
        thing = left.pop()
        if isinstance(thing, str | bytes | bytearray):
            texts.append(thing if isinstance(thing, str) else bytes(thing).decode("latin-1"))
        for other in gc.get_referents(thing):
            # Through those the whole process is reached, and in it the environment.
            outside = isinstance(other, types.ModuleType | types.FunctionType | type | types.FrameType | threading.Thread)
            if id(other) not in known and not outside:
                known.add(id(other))
                left.append(other)
    assert server.url in texts
    assert shows_key("\n".join(texts)) == []


def test_a_pickle_has_settings_and_no_key(server: Server, make: Make) -> None:
    chat = make(dialect="tuples", concurrency=3)
    chat.answer(IMAGE, ["q"])
    stored = pickle.dumps(chat)
    assert KEY_NAME.encode() in stored
    assert shows_key(stored.decode("latin-1")) == []
    with pickle.loads(stored) as again:
        assert {f.name: getattr(again, f.name) for f in fields(chat)} == {f.name: getattr(chat, f.name) for f in fields(chat)}
        assert again.usage == Usage()
        assert again.answer(IMAGE, ["r"]) == ["r"]
    assert server.seen[-1].key == SECRET


def test_the_key_is_read_when_it_is_needed(server: Server, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_NAME)
    chat = make()
    for value in ("first", "second\n"):
        monkeypatch.setenv(KEY_NAME, value)
        chat.answer(IMAGE, ["q"])
    assert [seen.key for seen in server.seen] == ["first", "second"]


BAD_KEYS = {None: "is not set or empty", " \n": "is not set or empty"} | {
    bad: "holds blanks, line breaks or other than ASCII" for bad in (SECRET + "\nX: y", f"{SECRET} {SECRET}", SECRET + "é")
}


@pytest.mark.parametrize("on_failure", ["raise", "last"])
@pytest.mark.parametrize("number", range(len(BAD_KEYS)))
def test_a_variable_without_a_key_is_named(
    number: int, on_failure: str, server: Server, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    chat = make(on_failure=on_failure)
    assert chat.answer(IMAGE, ["q"]) == ["q"]
    monkeypatch.delenv(KEY_NAME)
    if list(BAD_KEYS)[number] is not None:
        monkeypatch.setenv(KEY_NAME, str(list(BAD_KEYS)[number]))
    sentence = f"the environment variable {KEY_NAME} must hold the key but {list(BAD_KEYS.values())[number]}; key_env=None"
    with pytest.raises(InvalidValueError, match=sentence) as caught:
        chat.answer(images(2), ["q", "q"])
    assert shows_key(told(caught.value)) == []
    assert len(server.seen) == 1


# -- settings ----------------------------------------------------------------------------------------------------------

BAD = [
    ({"base_url": "127.0.0.1:8000"}, "base_url must be http:// or https://, a host and a path"),
    ({"base_url": "ftp://x/v1"}, "base_url must be http:// or https://"),
    ({"base_url": "http:///v1"}, "base_url must be http:// or https://"),
    ({"base_url": "http://x:99999/v1"}, "base_url must be http:// or https://"),
    ({"base_url": "http://[::1/v1"}, "base_url must be http:// or https://"),
    ({"base_url": "http://a b/v1"}, "base_url must be http:// or https://"),
    ({"base_url": None}, "base_url must be http:// or https://"),
    ({"model": " "}, "model must be a name that the server knows, got ' '"),
    ({"key_env": ""}, "key_env must be the NAME of an environment variable, in capitals"),
    ({"dialect": "qwen_relativ"}, "unknown dialect 'qwen_relativ': did you mean 'qwen_relative'"),
    ({"template": "find it"}, "template must say where the phrase goes, as {phrase}, got 'find it'"),
    ({"max_tokens": 0}, "max_tokens must be a whole number >= 1, got 0"),
    ({"temperature": -0.1}, "temperature must be a number >= 0, got -0.1"),
    ({"concurrency": 0}, "concurrency must be a whole number >= 1, got 0"),
    ({"concurrency": 1.5}, "concurrency must be a whole number >= 1, got 1.5"),
    ({"concurrency": None}, "concurrency must be a whole number >= 1, got None"),
    ({"timeout_s": 0}, "timeout_s must be a number >= 0.001, got 0"),
    ({"timeout_s": float("inf")}, "timeout_s must be a number >= 0.001, got inf"),
    ({"retries": -1}, "retries must be a whole number >= 0, got -1"),
    ({"retries": True}, "retries must be a whole number >= 0, got True"),
    ({"backoff_s": float("nan")}, "backoff_s must be a number >= 0, got nan"),
    ({"longest_wait_s": "60"}, "longest_wait_s must be a number >= 0, got '60'"),
    ({"price_prompt": -1}, "price_prompt must be a number >= 0, got -1"),
    ({"on_failure": "lst"}, "unknown on_failure 'lst': did you mean 'last'? available: last, raise"),
]


@pytest.mark.parametrize(("settings", "sentence"), BAD, ids=[str(s) for s, _ in BAD])
def test_wrong_settings(settings: dict[str, Any], sentence: str) -> None:
    with pytest.raises((InvalidValueError, UnknownNameError)) as caught:
        OpenAIChat(**{"base_url": "http://x/v1", "model": "m", **settings})
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    "settings",
    [
        {"key_env": SECRET},
        {"key_env": "gsk_Zq9fT4wXpL2mN7vB8cRk0Yh"},
        {"base_url": f"http://user:{SECRET}@host/v1"},
        {"base_url": f"http://host/v1?api_key={SECRET}"},
        {"base_url": f"http://host:{SECRET}/v1"},
    ],
    ids=["key_env", "hosted", "password", "query", "port"],
)
def test_a_key_in_the_wrong_place_is_not_repeated(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match="not shown") as caught:
        OpenAIChat(**{"base_url": "http://x/v1", "model": "m", **settings})
    said = f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert shows_key(said.replace("gsk_Zq9fT4wXpL2mN7vB8cRk0Yh", SECRET)) == []


def test_unfit_images_and_prompts_are_refused_before_anything_is_sent(server: Server, make: Make) -> None:
    chat = make()
    with pytest.raises(InvalidValueError, match="one image needs a leading axis"):
        chat.answer(IMAGE[0], ["q"])
    with pytest.raises(InvalidValueError, match="prompts must be one per image: got 1 for 2 images"):
        chat.answer(images(2), ["q"])
    with pytest.raises(InvalidValueError, match="phrases must be a list of texts, got the single text 'cup'"):
        chat.ground(IMAGE, "cup")
    assert server.seen == []


def test_a_closed_backend_is_closed(server: Server, make: Make) -> None:
    with make() as chat:
        assert chat.answer(IMAGE, ["q"]) == ["q"]
    chat.close()
    with pytest.raises(InvalidValueError, match=rf"this OpenAIChat of {server.url}/chat/completions is closed: make a new one"):
        chat.answer(IMAGE, ["q"])
    assert chat.usage.requests == 1


def test_closing_ends_a_wait(server: Server, make: Make) -> None:
    server.script, chat, began = [status(500, Retry_After="50")], make(concurrency=1), time.monotonic()
    with ThreadPoolExecutor(1) as caller:
        asked = caller.submit(chat.answer, images(3), ["q"] * 3)
        while not chat.usage.requests:
            time.sleep(0.005)
        chat.close()
        with pytest.raises(BackendError, match="is not waited for any longer: HTTP 500"):
            asked.result()
    assert time.monotonic() - began < 10
    assert chat.usage.requests == len(server.seen) == 1


def test_the_yaml_makes_it_and_names_every_setting() -> None:
    file = Path(conf.__path__[0]) / "vlm" / "openai.yaml"
    said = yaml.safe_load(file.read_text())
    parameters = inspect.signature(OpenAIChat).parameters
    assert said.pop("_target_") == "perception.vlm.openai.OpenAIChat"
    assert list(said) == list(parameters)
    local = ("base_url", "model", "key_env")  # a server of one's own, which must not be sent a hosted one's key
    assert {k: v for k, v in said.items() if k not in local} == {k: p.default for k, p in parameters.items() if k not in local}
    assert parameters["key_env"].default == "OPENAI_API_KEY"
    with instantiate(OmegaConf.load(file), _convert_="all") as chat:
        assert chat.endpoint == "http://127.0.0.1:8000/v1/chat/completions"
