"""A chat endpoint on this machine that does what a test tells it to, well or badly."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from perception.vlm.openai import OpenAIChat

KEY_NAME = "SACCADE_TEST_KEY"
# With characters that URLs and HTML escape, and fewer than 8 others in a row.
SECRET = "sk&Zq9/f<T+4wXp&L2=mN7>vB/8cR&k0Y+h"
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 5, 7, 3), np.uint8)

# Reading the certificates of a hundred backends that use none would take longer than all tests.
TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

Make = Callable[..., OpenAIChat]


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    when: float
    path: str
    headers: Message
    body: Any

    @property
    def prompt(self) -> str:
        return self.body["messages"][0]["content"][1]["text"]

    @property
    def key(self) -> str:
        return self.headers["Authorization"].removeprefix("Bearer ")


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: Seen  # the latest: one handler serves all requests of a connection

    @property
    def home(self) -> Server:
        assert isinstance(self.server, Server)
        return self.server

    def do_POST(self) -> None:
        server, body = self.home, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.seen = Seen(time.monotonic(), self.path, self.headers, body)
        with server.lock:
            server.seen.append(self.seen)
            server.busy += 1
            server.most = max(server.most, server.busy)
            step = server.script.pop(0) if len(server.script) > 1 else server.script[0]
        try:
            step(self)
        except OSError:
            pass  # the client went away, as some tests want it to
        finally:
            with server.lock:
                server.busy -= 1

    def reply(self, status: int, body: bytes, reason: str | None = None, **headers: str) -> None:
        self.send_response(status, reason)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


Step = Callable[[Handler], None]


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.lock, self.over = threading.Lock(), threading.Event()
        self.seen: list[Seen] = []
        self.busy = self.most = 0
        self.script: list[Step] = [say()]
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def gaps(self) -> list[float]:
        return [b.when - a.when for a, b in pairwise(self.seen)]


def say(text: str | None = None, usage: Any = None, after: Callable[[str], float] = lambda _: 0.0) -> Step:
    """Answers with the text, or with the prompt."""

    def step(handler: Handler) -> None:
        handler.home.over.wait(after(handler.seen.prompt))
        content = handler.seen.prompt if text is None else text
        data = {"choices": [{"message": {"role": "assistant", "content": content}}], "usage": usage}
        handler.reply(200, json.dumps(data).encode())

    return step


def seeing(known: np.ndarray) -> Step:
    """Looks at the picture, and answers with a box whose left edge is the picture's number among those known."""
    import cv2

    def step(handler: Handler) -> None:
        url = handler.seen.body["messages"][0]["content"][0]["image_url"]["url"]
        png = np.frombuffer(base64.b64decode(url.partition(",")[2]), np.uint8)
        picture = cv2.cvtColor(cv2.imdecode(png, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        number = next(k for k, image in enumerate(known) if np.array_equal(image, picture))
        say(f"({number}, 1, 20, 30)")(handler)

    return step


def status(code: int, body: bytes = b'{"error": {"message": "so it is"}}', **headers: str) -> Step:
    return lambda handler: handler.reply(code, body, **headers)


def raw(text: bytes) -> Step:
    """Writes this and nothing more, then closes."""

    def step(handler: Handler) -> None:
        handler.wfile.write(text)
        handler.close_connection = True

    return step


def silent(handler: Handler) -> None:
    handler.close_connection = True
    handler.home.over.wait(5)


def drip(handler: Handler) -> None:
    """Is never silent for long and never done."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n")
    while not handler.home.over.wait(0.03):
        handler.wfile.write(b" ")


HALF = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b'{"choices": ['
CHUNK = b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n8\r\n{"choice\r\n'


@contextmanager
def serving() -> Iterator[Server]:
    """A server that listens."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        made.over.set()
        made.shutdown()
        thread.join()


@contextmanager
def clients(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Makes clients of a server, and closes them."""
    monkeypatch.setenv(KEY_NAME, SECRET)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: TLS)
    made = []

    def factory(**settings: Any) -> OpenAIChat:
        quick = {"base_url": server.url, "model": "seer", "key_env": KEY_NAME, "retries": 2, "backoff_s": 0.001, "timeout_s": 5}
        made.append(OpenAIChat(**{**quick, **settings}))
        return made[-1]

    yield factory
    server.over.set()
    for chat in made:
        chat.close()


def images(n: int) -> np.ndarray:
    """The same small picture n times."""
    return np.repeat(IMAGE, n, axis=0)
