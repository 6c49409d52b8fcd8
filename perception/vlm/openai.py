"""A chat model behind any OpenAI-compatible endpoint: vLLM, SGLang, TGI, hosted.

An image and its prompt are one request; several are under way at once. What the other side does wrong becomes a value and
then one `BackendError`, raised where neither the key nor a request that carries it is in reach: the key stays in its
environment variable, is read when a request is made and kept nowhere.
"""

from __future__ import annotations

import base64
import json
import logging
import math
import re
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ALL_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, fields, replace
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import BackendError, Detections, Images, check_images, check_texts
from perception.vlm.keys import guard, quote, read_key
from perception.vlm.parse import DIALECTS, parse, qwen_size
from perception.vlm.reply import Reply, judge, receive

TEMPLATE = 'Locate {phrase}. Answer with JSON only: [{"bbox_2d": [x1, y1, x2, y2], "label": "..."}], or [] if there is none.'

_LOG = logging.getLogger(__name__)
_REMEMBERED = 10_000


@dataclass
class Usage:
    """What a backend has used since it was made.

    Attributes:
        prompt_tokens: as the server counts them, images included; 0 where it does not say.
        completion_tokens: likewise.
        requests: requests begun, those included that reached nobody.
        retries: how many of them repeated another one.
        failures: prompts that got no answer after all retries.
        reused: failures that got the last answer to the same prompt instead.
        seconds: of all requests, each from its start to its end; those under way together add up.
        cost: in the prices' currency.
    """

    prompt_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0
    retries: int = 0
    failures: int = 0
    reused: int = 0
    seconds: float = 0.0
    cost: float = 0.0


@dataclass(eq=False)
class OpenAIChat:
    """An `Answerer` and `Grounder` over HTTP. Safe to use from many threads; a copy or pickle holds the settings alone.

    Args:
        base_url: what comes before /chat/completions, such as "http://127.0.0.1:8000/v1"; without user, password and query.
        model: as the server calls it.
        key_env: NAME of the environment variable that holds the key, in capitals; None sends none.
        dialect: of `perception.vlm.parse.DIALECTS`, in which the model writes places. With `qwen_absolute` the server must
            resize images as published for Qwen2.5-VL: to multiples of 28 pixels a side, 3136 to 12845056 in all.
        template: prompt of `ground`; {phrase} stands for what is sought.
        max_tokens: longest answer, tokens; None leaves it to the server.
        temperature: of sampling, 0 takes the likeliest token; None leaves it to the server.
        concurrency: most requests under way at once, over all callers.
        timeout_s: seconds in which an answer must be complete; a server may be silent for no longer at any stage.
        retries: how often a request is repeated that may yet succeed.
        backoff_s: seconds before the first repetition, twice as many before each further one; half to all of it, by chance.
        longest_wait_s: longest backoff, seconds; a server that asks for more (Retry-After) is given up.
        price_prompt: per million prompt tokens.
        price_completion: per million completion tokens.
        on_failure: "raise", or "last" for the last answer to the same prompt, whatever the image; raises if there is none.
        seed: of the backoff's chance.

    Raises:
        InvalidValueError: a setting out of range.
        UnknownNameError: no such dialect or on_failure.
    """

    base_url: str
    model: str
    key_env: str | None = "OPENAI_API_KEY"
    dialect: str = "qwen_relative"
    template: str = TEMPLATE
    max_tokens: int | None = 256
    temperature: float | None = 0.0
    concurrency: int = 8
    timeout_s: float = 60.0
    retries: int = 4
    backoff_s: float = 0.5
    longest_wait_s: float = 60.0
    price_prompt: float = 0.0
    price_completion: float = 0.0
    on_failure: str = "raise"
    seed: int = 0

    def __post_init__(self) -> None:
        _check(self)
        if self.key_env is not None:
            guard(self.key_env)
        self._usage, self._last = Usage(), dict[str, str]()
        self._lock, self._closed = threading.Lock(), False
        self._stops: set[threading.Event] = set()
        self._rng = np.random.default_rng(self.seed)
        self._pool = ThreadPoolExecutor(self.concurrency, thread_name_prefix="OpenAIChat")
        limits = httpx.Limits(max_connections=self.concurrency, max_keepalive_connections=self.concurrency)
        # A jar that takes cookies would keep what a server sends, the key if it echoes it.
        cookies = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
        self._client = httpx.Client(timeout=self.timeout_s, limits=limits, cookies=cookies)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, f.name) for f in fields(self))

    def __enter__(self) -> OpenAIChat:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def endpoint(self) -> str:
        """Where requests go."""
        return f"{self.base_url.rstrip('/')}/chat/completions"

    @property
    def usage(self) -> Usage:
        """What has been used so far; a copy, which later requests do not change."""
        with self._lock:
            return replace(self._usage)

    def close(self) -> None:
        """Stop retrying what is under way, which then fails, and close all connections; safe to call twice."""
        with self._lock:
            self._closed = True
            for stop in self._stops:
                stop.set()
        self._pool.shutdown()
        self._client.close()

    def answer(self, images: Images, prompts: Sequence[str]) -> list[str]:
        """N answers to N prompts about N images, in their order.

        Args:
            images: (N, H, W, 3) uint8 RGB; sent as PNG, every pixel as it is.
            prompts: one per image.

        Raises:
            BackendError: a prompt got no answer and nothing stands in for it; the others are given up.
            InvalidValueError: unfit images or prompts; no key where there must be one; the backend is closed.
        """
        images = check_images(images)
        texts = check_texts(prompts, "prompts", len(images))
        stop = threading.Event()
        with self._lock:
            if self._closed:
                raise InvalidValueError(f"this OpenAIChat of {self.endpoint} is closed: make a new one to ask again")
            self._stops.add(stop)
            each = zip(images, texts, self._rng.spawn(len(texts)), strict=True)
            asked = [self._pool.submit(self._ask, image, text, rng, stop) for image, text, rng in each]
        try:
            return self._collect(texts, asked)
        finally:
            stop.set()
            with self._lock:
                self._stops.discard(stop)
            _LOG.info("%s: asked %d prompts; so far %s", self.endpoint, len(texts), self.usage)

    def ground(self, images: Images, phrases: Sequence[str]) -> list[Detections]:
        """Where what each phrase names is in its image, pixels of the images given. N images, N phrases -> N.

        Raises:
            BackendError: as of `answer`. An answer that names no place is nothing found, not an error.
            InvalidValueError: as of `answer`.
        """
        images = check_images(images)
        texts = check_texts(phrases, "phrases", len(images))
        answers = self.answer(images, [self.template.replace("{phrase}", text) for text in texts])
        height, width = images.shape[1:3]
        resized = qwen_size(width, height) if self.dialect == "qwen_absolute" else None
        return [parse(answer, self.dialect, width, height, resized) for answer in answers]

    def _collect(self, prompts: list[str], asked: list[Future[str]]) -> list[str]:
        last = self.on_failure == "last"
        done, _ = wait(asked, return_when=ALL_COMPLETED if last else FIRST_EXCEPTION)
        errors = [future.exception() if future in done else None for future in asked]
        for error in errors:
            if error is not None and not (last and isinstance(error, BackendError)):
                raise error
        each = list(zip(prompts, asked, errors, strict=True))
        if last:
            self._remember({prompt: future.result() for prompt, future, error in each if error is None})
        return [future.result() if error is None else self._last_answer(prompt, error) for prompt, future, error in each]

    def _remember(self, answers: dict[str, str]) -> None:
        with self._lock:
            for prompt, answer in answers.items():
                self._last.pop(prompt, None)
                self._last[prompt] = answer
                if len(self._last) > _REMEMBERED:
                    del self._last[next(iter(self._last))]

    def _last_answer(self, prompt: str, error: BaseException) -> str:
        with self._lock:
            answer = self._last.get(prompt)
            self._usage.reused += answer is not None
        if answer is None:
            raise BackendError(f"{error}; there is no earlier answer to this prompt for on_failure='last'")
        _LOG.warning("%s; the last answer to the same prompt stands in", error)
        return answer

    def _ask(self, image: NDArray[np.uint8], prompt: str, rng: np.random.Generator, stop: threading.Event) -> str:
        body, reply, attempt = self._body(image, prompt), Reply(problem="nothing was asked"), 0
        for attempt in range(self.retries + 1):
            if stop.is_set():
                raise BackendError(f"{self.endpoint} is not waited for any longer: {reply.problem}")
            reply = self._send(body, attempt)
            if reply.text is not None:
                return reply.text
            if not reply.again or attempt == self.retries:
                break
            backoff = min(self.backoff_s * 2.0 ** min(attempt, 60), self.longest_wait_s)
            stop.wait(reply.delay + backoff * rng.uniform(0.5, 1))
        with self._lock:
            self._usage.failures += 1
        told = f"gave no answer of model {self.model!r} with key_env={self.key_env!r} after {attempt} of {self.retries} retries"
        raise BackendError(f"{self.endpoint} {told}: {reply.problem}")

    def _body(self, image: NDArray[np.uint8], prompt: str) -> bytes:
        _, png = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        url = "data:image/png;base64," + base64.b64encode(png.tobytes()).decode()
        content = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": prompt}]
        body = {"model": self.model, "messages": [{"role": "user", "content": content}]}
        limits = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        return json.dumps({**body, **{k: v for k, v in limits.items() if v is not None}}).encode()

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "Accept-Encoding": "identity"}
        return headers if self.key_env is None else {**headers, "Authorization": f"Bearer {read_key(self.key_env)}"}

    def _send(self, body: bytes, attempt: int) -> Reply:
        """One request. What the other side does is returned, since their exceptions hold the request, and that the key."""
        headers, began = self._headers(), time.monotonic()
        status, retry_after, content, problem = 0, None, b"", ""
        try:
            with self._client.stream("POST", self.endpoint, content=body, headers=headers) as response:
                content = receive(response, began + self.timeout_s)
                status, retry_after = response.status_code, response.headers.get("retry-after")
        except (httpx.HTTPError, OSError, ValueError) as error:
            hint = "; does a server listen there?" if isinstance(error, httpx.ConnectError) else ""
            problem = f"{type(error).__name__}: {quote(str(error).encode())}{hint}"
        reply = Reply(problem=problem, again=True) if problem else judge(status, retry_after, content, self.longest_wait_s)
        (prompt, completion), used = reply.tokens, self._usage
        with self._lock:
            used.requests += 1
            used.retries += attempt > 0
            used.prompt_tokens += prompt
            used.completion_tokens += completion
            used.seconds += time.monotonic() - began
            used.cost += (prompt * self.price_prompt + completion * self.price_completion) / 1e6
        return reply


def _check(chat: OpenAIChat) -> None:
    lows = {"concurrency": 1, "retries": 0, "seed": 0, "max_tokens": 1}
    lows |= {"timeout_s": 1e-3, "backoff_s": 0, "longest_wait_s": 0, "price_prompt": 0, "price_completion": 0, "temperature": 0}
    for name, low in lows.items():
        value, whole = getattr(chat, name), name in ("concurrency", "retries", "seed", "max_tokens")
        if value is None and name in ("max_tokens", "temperature"):
            continue
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float) or not low <= value < math.inf:
            raise InvalidValueError(f"{name} must be a {'whole ' if whole else ''}number >= {low}, got {value!r}")
    for kind, value, known in (("dialect", chat.dialect, DIALECTS), ("on_failure", chat.on_failure, ("raise", "last"))):
        if value not in known:
            raise UnknownNameError(kind, value, known)
    if not isinstance(chat.model, str) or not chat.model.strip():
        raise InvalidValueError(f"model must be a name that the server knows, got {chat.model!r}")
    if not isinstance(chat.template, str) or "{phrase}" not in chat.template:
        raise InvalidValueError(f"template must say where the phrase goes, as {{phrase}}, got {chat.template!r}")
    # Both are where a key is put by mistake, and so neither is repeated.
    if not _is_plain_url(chat.base_url):
        raise InvalidValueError(
            "base_url must be http:// or https://, a host and a path, such as 'http://127.0.0.1:8000/v1', without user, "
            "password, query and blanks; what was given is not shown, since it may hold a key: name its variable in key_env"
        )
    if chat.key_env is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", str(chat.key_env)):
        raise InvalidValueError(
            "key_env must be the NAME of an environment variable, in capitals, such as 'OPENAI_API_KEY', or None for no key; "
            "what was given is not shown, since it may be the key itself"
        )


def _is_plain_url(url: Any) -> bool:
    try:
        parts = urlsplit(url)
        port = parts.port
    except (ValueError, AttributeError, TypeError):
        return False
    plain = isinstance(url, str) and re.fullmatch(r"[!-~]+", url) and not set(url) & set("@?#\\")
    return bool(plain) and parts.scheme in ("http", "https") and bool(parts.hostname) and port != 0
