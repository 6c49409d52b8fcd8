"""Perception that is not waited for: the newest answer about each simulation, with its age, while the next is being found."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from assets.errors import InvalidValueError
from perception.vlm.base import BackendError, Images, check_images, check_texts


@dataclass(frozen=True)
class Known:
    """What is known about one simulation.

    Attributes:
        value: the newest answer; None if there is none, or none that is young enough.
        age: seconds since the picture that it is about was handed in; infinite where value is None.
    """

    value: Any
    age: float


class Live:
    """Asks a backend in the background; whoever asks gets the newest answer that is young enough, at once.

    While the backend is busy, newer pictures of a simulation take the place of those that wait; everything that waits, whoever
    asked, becomes one batch. An answer belongs to the text that was asked: for another text it does not count. Which answer
    comes depends on the machine's speed: for what must be repeatable, use the observation wrapper, which counts control steps.

    Args:
        ask: answers to (N, H, W, 3) images and N texts, such as a backend's `ground`.
        staleness: seconds after which an answer is too old to be given.
        patience: seconds to wait where nothing young enough is known; 0 does not wait.
        clock: seconds; for tests.

    Raises:
        InvalidValueError: a staleness that is not above 0, or a patience below 0.
    """

    def __init__(
        self,
        ask: Callable[[Images, list[str]], Sequence[Any]],
        staleness: float = 1.0,
        patience: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not staleness > 0 or patience < 0:
            raise InvalidValueError(f"staleness must be above 0 s and patience not below, got {staleness} and {patience}")
        self._ask, self._staleness, self._patience, self._clock = ask, staleness, patience, clock
        self._waiting: dict[Hashable, tuple[Any, str, float]] = {}
        self._known: dict[Hashable, tuple[Any, str, float]] = {}
        self._forgotten = set[Hashable]()
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._closed = False
        self.batches, self.answered, self.replaced = 0, 0, 0
        self._thread = threading.Thread(target=self._run, name="live perception", daemon=True)
        self._thread.start()

    def look(self, images: Images, texts: Sequence[str], ids: Sequence[Hashable] | None = None) -> list[Known]:
        """Hand in what is seen now, and get what is known. N images, N texts -> N.

        Args:
            images: (N, H, W, 3).
            texts: N.
            ids: which simulation each is of; None numbers them.

        Raises:
            BackendError: the backend failed since the last call, or this is closed.
            InvalidValueError: no images, or another number of texts or ids.
        """
        asked = check_texts(texts, "texts", len(check_images(images)))
        who = list(range(len(images))) if ids is None else list(ids)
        if len(who) != len(asked) or len(set(who)) != len(who):
            raise InvalidValueError(f"{len(asked)} images need as many different ids, got {who}")
        with self._changed:
            self._raise_what_failed()
            now = self._clock()
            for one, image, text in zip(who, images, asked, strict=True):
                self.replaced += one in self._waiting
                self._waiting[one] = (image.copy(), text, now)
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: (
                    self._error is not None or all(self._of(w, t).value is not None for w, t in zip(who, asked, strict=True))
                ),
                self._patience,
            )
            self._raise_what_failed()
            return [self._of(w, t) for w, t in zip(who, asked, strict=True)]

    def forget(self, ids: Sequence[Hashable]) -> None:
        """Drop what is known and asked about simulations whose episode ended."""
        with self._changed:
            self._forgotten.update(ids)  # what is under way is not about the next episode
            for one in ids:
                self._known.pop(one, None)
                self._waiting.pop(one, None)

    def close(self) -> None:
        """Stop; what is under way is waited for. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _of(self, one: Hashable, text: str) -> Known:
        value, about, then = self._known.get(one, (None, text, -np.inf))
        age = self._clock() - then
        return Known(value, age) if about == text and age <= self._staleness else Known(None, np.inf)

    def _raise_what_failed(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise BackendError(f"perception in the background failed: {error}") from error
        if self._closed:
            raise BackendError("this live perception was closed")

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if self._closed:
                    return
                batch, self._waiting = self._waiting, {}
                self._forgotten.clear()
            self._answer(batch)

    def _answer(self, batch: dict[Hashable, tuple[Any, str, float]]) -> None:
        # Pictures of one size make a batch.
        shapes: dict[tuple[int, ...], list[Hashable]] = {}
        for one, (image, _, _) in batch.items():
            shapes.setdefault(image.shape, []).append(one)
        for who in shapes.values():
            try:
                answers = self._ask(np.stack([batch[w][0] for w in who]), [batch[w][1] for w in who])
            except Exception as error:  # noqa: BLE001 - a thread has nobody to raise it to; whoever looks next is told
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            with self._changed:
                self.batches += 1
                self.answered += len(who)
                for w, answer in zip(who, answers, strict=True):
                    if w not in self._forgotten:
                        self._known[w] = (answer, *batch[w][1:])
                self._changed.notify_all()
