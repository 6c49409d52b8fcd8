"""A backend that is asked for each picture and text once only, in batches without repetitions, and not waited for too long."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception.vlm.base import BackendError, Detections, Images, check_images, check_texts
from perception.vlm.cache import Cache, Key, digest

# What takes one text per image and gives one answer per image.
PAIRED = ("answer", "ground", "yes_probability")


class Cached:
    """Stands for a backend, and offers what that one offers.

    A batch that comes from N simulations reaches the backend as one batch of what is neither known nor asked for twice in it.
    Other attributes are the backend's own.

    Args:
        backend: a Scorer, Answerer, Grounder, Believer or FrozenFeatures.
        cache: where answers are kept, perhaps shared with other backends; None makes one in memory.
        name: what tells this model and its settings from others in the cache; None for its class's name, which is enough as
            long as nothing is kept on disk.
        deadline: seconds that a call may take; None waits. What is late still comes into the cache.

    Raises:
        InvalidValueError: a deadline that is not above 0, or no name for answers that are kept on disk.
    """

    def __init__(
        self, backend: Any, cache: Cache | None = None, name: str | None = None, deadline: float | None = None
    ) -> None:
        if deadline is not None and not deadline > 0:
            raise InvalidValueError(f"deadline must be above 0 seconds, got {deadline}")
        if cache is not None and cache.on_disk and name is None:
            raise InvalidValueError(
                "answers that are kept on disk need the name of their model, or another's would be taken for them"
            )
        self.backend, self.cache, self.deadline = backend, Cache() if cache is None else cache, deadline
        self.name = name or type(backend).__name__
        self._worker: ThreadPoolExecutor | None = None
        # Only what the backend offers: protocols are recognised by what there is.
        for method in PAIRED:
            if hasattr(backend, method):
                setattr(self, method, partial(self._paired, method))
        for method, stand_in in (("score", self._score), ("embed", self._embed)):
            if hasattr(backend, method):
                setattr(self, method, stand_in)
        if hasattr(backend, "size"):
            self.size: int = backend.size

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "backend":
            raise AttributeError(name)
        return getattr(self.backend, name)

    def close(self) -> None:
        """Wait for what is late; the cache is closed by who made it."""
        if self._worker is not None:
            self._worker.shutdown()

    def _paired(self, method: str, images: Images, texts: Sequence[str]) -> Any:
        asked = check_texts(texts, "texts", len(check_images(images)))
        call: Callable[..., Any] = getattr(self.backend, method)
        rows = self._rows(method, images, asked, lambda k: call(images[k], [asked[j] for j in k]))
        return np.array(rows, np.float32) if method == "yes_probability" else rows

    def _score(self, images: Images, prompts: Sequence[str]) -> NDArray[np.float32]:
        check_images(images)
        asked = check_texts(prompts, "prompts")
        rows = self._rows("score", images, [json.dumps(asked)] * len(images), lambda k: self.backend.score(images[k], asked))
        return np.array(rows, np.float32)

    def _embed(self, images: Images) -> NDArray[np.float32]:
        check_images(images)
        rows = self._rows("embed", images, [""] * len(images), lambda k: self.backend.embed(images[k]))
        return np.array(rows, np.float32)

    def _rows(self, method: str, images: Images, texts: list[str], ask: Callable[[list[int]], Any]) -> list[Any]:
        """An answer per image: the cache's, or what `ask` answers for those images' numbers."""
        keys: list[Key] = [(d, f"{method}:{text}", self.name) for d, text in zip(digest(images), texts, strict=True)]
        kept = {key: self.cache.get(key) for key in dict.fromkeys(keys)}
        first = {key: number for number, key in reversed(list(enumerate(keys)))}
        missing = sorted(first[key] for key, value in kept.items() if value is None)
        if missing:
            kept.update(self._in_time(partial(self._learn, method, [keys[k] for k in missing], partial(ask, missing))))
        return [_unpack(method, kept[key]) for key in keys]

    def _learn(self, method: str, keys: list[Key], ask: Callable[[], Any]) -> dict[Key, Any]:
        answers = [_pack(method, answer) for answer in ask()]
        if len(answers) != len(keys):
            raise BackendError(f"{self.name} gave {len(answers)} answers to {len(keys)} questions")
        for key, answer in zip(keys, answers, strict=True):
            self.cache.put(key, answer)
        return dict(zip(keys, answers, strict=True))

    def _in_time(self, work: Callable[[], dict[Key, Any]]) -> dict[Key, Any]:
        if self.deadline is None:
            return work()
        self._worker = self._worker or ThreadPoolExecutor(1, thread_name_prefix=self.name)
        began = time.monotonic()
        future: Future[dict[Key, Any]] = self._worker.submit(work)
        try:
            return future.result(self.deadline)
        except TimeoutError:
            if future.done():  # the backend's own timeout
                raise
            waited = time.monotonic() - began
            raise BackendError(f"{self.name} did not answer within {self.deadline} s (waited {waited:.2f} s)") from None


def _pack(method: str, answer: Any) -> Any:
    """An answer as JSON can hold it."""
    if method == "ground":
        return [answer.boxes.tolist(), answer.points.tolist(), list(answer.labels), answer.scores.tolist()]
    return answer if method == "answer" else np.asarray(answer).tolist()


def _unpack(method: str, value: Any) -> Any:
    if method != "ground":
        return value
    boxes, points, labels, scores = value
    shaped = [np.array(x, np.float32).reshape(len(labels), *size) for x, size in ((boxes, (4,)), (points, (2,)), (scores, ()))]
    return Detections(shaped[0], shaped[1], tuple(labels), shaped[2])
