"""Labels that are not waited for: a judge works in the background while training goes on (ONI, arXiv:2410.23022)."""

from __future__ import annotations

import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import BackendError

# Keys to as many labels, finite numbers; what it gives for a key that it can make nothing of is None or NaN.
Labeller = Callable[[list[Any]], Sequence[Any] | NDArray[Any]]


class AsyncAnnotator:
    """Hands keys to a judge in a background thread, and its labels back at the next poll. Neither call waits for the judge.

    Each key is labelled once, and each label is given out once. What waits is a stack by default, so that the judge sees what
    training sees now, however slow it is. A batch at which the judge raises is put back behind everything else that waits, and
    so are keys to which it answers what is no label, until their attempts are used up.

    Args:
        judge: labels for a list of keys. It runs in the thread and must not be used elsewhere at the same time.
        batch_size: keys that it gets at once, at most.
        order: "newest" asks about what was submitted last first, "oldest" first come, first served.
        capacity: keys that wait at most; beyond it, those that wait longest are dropped, and may be submitted again.
        max_failures: after so many batches in a row without a label, the next poll raises what went wrong.
        backoff: seconds of rest after a failure, doubled with every further one in a row, 30 at most.
        attempts: how often the judge is asked about a key of which it makes nothing.

    Attributes:
        batches: calls of the judge that returned.
        failures: calls at which it raised.
        nonsense: answers that were no labels.
        unlabelled: keys that were given up after as many attempts.
        dropped: keys that did not fit in.

    Raises:
        InvalidValueError: an option outside its range.
        UnknownNameError: an unknown order.
    """

    def __init__(
        self,
        judge: Labeller,
        batch_size: int = 100,
        order: Literal["newest", "oldest"] = "newest",
        capacity: int = 10_000,
        max_failures: int = 10,
        backoff: float = 0.1,
        attempts: int = 3,
    ) -> None:
        least = min(batch_size, capacity, max_failures, attempts)
        if least < 1 or not backoff >= 0:
            raise InvalidValueError(
                "batch_size, capacity, max_failures and attempts must be >= 1 and backoff >= 0 s, got "
                f"{batch_size}, {capacity}, {max_failures}, {attempts} and {backoff}"
            )
        if order not in ("newest", "oldest"):
            raise UnknownNameError("order", order, ("newest", "oldest"))
        self._judge, self._batch_size, self._newest, self._capacity = judge, batch_size, order == "newest", capacity
        self._max_failures, self._backoff, self._attempts = max_failures, backoff, attempts
        self._waiting: OrderedDict[Hashable, None] = OrderedDict()
        self._under_way: frozenset[Hashable] = frozenset()
        self._labels: dict[Hashable, float] = {}
        self._fresh: dict[Hashable, float] = {}
        self._tried: dict[Hashable, int] = {}
        self._in_a_row, self._closed = 0, False
        self._error: BaseException | None = None
        self.batches, self.failures, self.nonsense, self.unlabelled, self.dropped = 0, 0, 0, 0, 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="annotator", daemon=True)
        self._thread.start()

    def __enter__(self) -> AsyncAnnotator:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pending(self) -> int:
        """Keys that wait or are with the judge."""
        with self._changed:
            return len(self._waiting) + len(self._under_way)

    def submit(self, keys: Iterable[Hashable]) -> None:
        """Ask for labels of keys, oldest first; those that were asked for before count once.

        Raises:
            BackendError: this is closed.
            InvalidValueError: a single text, or keys that cannot be hashed.
        """
        asked = _check_keys(keys)
        with self._changed:
            if self._closed:
                raise BackendError("this annotator was closed")
            for key in asked:
                if key in self._waiting:
                    if self._newest:
                        self._waiting.move_to_end(key)
                elif self._unknown(key):
                    self._waiting[key] = None
            self._trim()
            self._changed.notify_all()

    def poll(self, patience: float = 0.0) -> dict[Any, float]:
        """The labels that came since the last poll.

        Args:
            patience: seconds to wait for one where none came and any is on its way; 0 does not wait.

        Raises:
            BackendError: `max_failures` batches in a row gave nothing, or nothing that was ever submitted could be labelled,
                with the cause. It goes on afterwards.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._fresh or self._error or self._idle(), patience)
            error, self._error = self._error, None
            if error is not None:
                self._in_a_row = 0
                self._changed.notify_all()
                raise BackendError(f"the judge gives no labels ({self._told()}): {error}") from error
            fresh, self._fresh = self._fresh, {}
            return fresh

    def close(self, timeout: float = 5.0) -> None:
        """Stop. What the judge is doing is waited for, but for `timeout` seconds at most; poll still gives what came."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """All labels, and which were not given out yet, as arrays. Keys that wait are not kept: they will be seen again."""
        with self._changed:
            labels, fresh = dict(self._labels), set(self._fresh)
        return {**pack_labels(labels), "fresh": np.array([key in fresh for key in labels], bool)}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Add the labels that `state_dict` gave; the next poll gives out those that were not yet.

        Raises:
            InvalidValueError: arrays that are not of one length, or not what `state_dict` gives.
        """
        labels = unpack_labels(state)
        fresh = np.asarray(state.get("fresh", ()), bool)
        if len(fresh) != len(labels):
            raise InvalidValueError(f"{len(labels)} labels need as many marks in fresh, got {len(fresh)}")
        with self._changed:
            new = {key: mark for key, mark in zip(labels, fresh, strict=True) if key not in self._labels}
            self._labels |= {key: labels[key] for key in new}
            self._fresh |= {key: labels[key] for key, mark in new.items() if mark}
            for key in new:
                self._waiting.pop(key, None)

    def _unknown(self, key: Hashable) -> bool:
        return key not in self._labels and key not in self._under_way and self._tried.get(key, 0) < self._attempts

    def _told(self) -> str:
        return f"{self.batches} answers, {self.failures} failures, {self.nonsense} answers that were no labels"

    def _idle(self) -> bool:
        return self._closed or not (self._waiting or self._under_way)

    def _trim(self) -> None:
        while len(self._waiting) > self._capacity:
            self._waiting.popitem(last=False)
            self.dropped += 1

    def _run(self) -> None:
        while (batch := self._next()) is not None:
            try:
                answer = self._judge(list(batch))
                labels = _sound(batch, answer)
            except BaseException as error:  # noqa: BLE001 - a thread has nobody to raise it to; whoever polls is told
                self._failed(batch, error)
            else:
                self._take(batch, labels, answer)

    def _next(self) -> list[Hashable] | None:
        """What to ask about, once there is something and failures have been slept over; None to stop."""
        with self._changed:
            until = time.monotonic() + min(self._backoff * 2.0 ** min(self._in_a_row - 1, 30), 30.0)
            while not self._closed and self._in_a_row and time.monotonic() < until:
                self._changed.wait(until - time.monotonic())
            self._changed.wait_for(lambda: self._closed or (self._waiting and self._error is None))
            if self._closed:
                return None
            count = min(self._batch_size, len(self._waiting))
            batch = [self._waiting.popitem(last=self._newest)[0] for _ in range(count)]
            self._under_way = frozenset(batch)
            return batch

    def _failed(self, batch: list[Hashable], error: BaseException) -> None:
        with self._changed:
            self.failures += 1
            self._put_back(batch)
            self._nothing(error)

    def _take(self, batch: list[Hashable], labels: dict[Hashable, float], answer: Any) -> None:
        with self._changed:
            self.batches += 1
            new = {key: label for key, label in labels.items() if key not in self._labels}
            self._labels |= new
            self._fresh |= new
            missed = [key for key in batch if key not in labels]
            self._put_back([key for key in missed if self._again(key)])
            if labels:
                self._in_a_row = 0
                self._changed.notify_all()
            else:
                said = f"{len(batch)} keys need as many finite numbers, got {answer!r:.200}"
                self._nothing(InvalidValueError(said), at_once=not (self._labels or self._waiting))

    def _again(self, key: Hashable) -> bool:
        """Count an answer that was no label; whether the key may be asked about once more."""
        self.nonsense += 1
        self._tried[key] = self._tried.get(key, 0) + 1
        given_up = self._tried[key] >= self._attempts
        self.unlabelled += given_up
        return not given_up

    def _put_back(self, batch: list[Hashable]) -> None:
        self._under_way = frozenset()
        for key in batch:
            if key not in self._labels:
                self._waiting[key] = None
                self._waiting.move_to_end(key, last=not self._newest)
        self._trim()

    def _nothing(self, error: BaseException, at_once: bool = False) -> None:
        self._in_a_row += 1
        if at_once or self._in_a_row >= self._max_failures:
            self._error = error
        self._changed.notify_all()


def _check_keys(keys: Iterable[Hashable]) -> list[Hashable]:
    if isinstance(keys, (str, bytes)):
        raise InvalidValueError(f"keys must be a list of keys, got the single text {keys!r}: put it in a list")
    listed = list(keys)
    try:
        for key in listed:
            hash(key)
    except TypeError as error:
        raise InvalidValueError(f"keys must be hashable, such as texts, numbers or tuples of these: {error}") from error
    return listed


def _sound(batch: list[Hashable], answer: Any) -> dict[Hashable, float]:
    """The labels in an answer that are some."""
    try:
        listed = list(answer)
    except TypeError:
        return {}
    if len(listed) != len(batch):
        return {}
    numbers = (int, float, np.integer, np.floating, np.bool_)
    return {k: float(x) for k, x in zip(batch, listed, strict=True) if isinstance(x, numbers) and np.isfinite(x)}


def pack_keys(keys: Iterable[Hashable]) -> NDArray[np.uint8]:
    """Keys as an array: JSON in bytes, (B,).

    Raises:
        InvalidValueError: a key that is no text, whole number, bytes, or tuple of these.
    """
    return np.frombuffer(json.dumps([_plain(key) for key in keys]).encode(), np.uint8).copy()


def unpack_keys(packed: NDArray[np.uint8]) -> list[Any]:
    """What `pack_keys` packed."""
    return [_key(plain) for plain in json.loads(np.asarray(packed, np.uint8).tobytes())]


def pack_labels(labels: Mapping[Any, float]) -> dict[str, NDArray[Any]]:
    """Labels by key as arrays: "keys" as `pack_keys` has them, "labels" (K,) float64.

    Raises:
        InvalidValueError: a key that cannot be kept.
    """
    return {"keys": pack_keys(labels), "labels": np.array(list(labels.values()), np.float64)}


def unpack_labels(arrays: Mapping[str, NDArray[Any]]) -> dict[Any, float]:
    """What `pack_labels` packed.

    Raises:
        InvalidValueError: no such arrays, or not as many keys as labels.
    """
    if not {"keys", "labels"} <= set(arrays):
        raise InvalidValueError(f"packed labels are the arrays 'keys' and 'labels', got {sorted(arrays)}")
    keys = unpack_keys(arrays["keys"])
    if len(keys) != len(arrays["labels"]):
        raise InvalidValueError(f"as many keys as labels are needed, got {len(keys)} and {len(arrays['labels'])}")
    return dict(zip(keys, np.asarray(arrays["labels"], np.float64).tolist(), strict=True))


def _plain(key: Any) -> Any:
    """A key as JSON has it: a tuple as a list, bytes as an object."""
    if isinstance(key, tuple):
        return [_plain(part) for part in key]
    if isinstance(key, bytes):
        return {"hex": key.hex()}
    if isinstance(key, (int, np.integer)):
        return int(key)
    if isinstance(key, str):
        return str(key)
    raise InvalidValueError(f"keys that are kept must be texts, whole numbers, bytes or tuples of these, got {key!r}")


def _key(plain: Any) -> Any:
    if isinstance(plain, list):
        return tuple(_key(part) for part in plain)
    return bytes.fromhex(plain["hex"]) if isinstance(plain, dict) else plain
