"""Nobody waits for the annotator, and no label is lost, doubled or made up, whatever its judge does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import BackendError
from rewards.annotation import AsyncAnnotator, pack_labels, unpack_labels
from rewards.base import Learned

PATIENCE = 20.0


class Lengths:
    """Labels texts by their length and numbers by themselves; fails at every `crash_every`-th call. Remembers what it labelled.

    Args:
        crash_every: 0 for never.
        latency: seconds per call.
    """

    def __init__(self, crash_every: int = 0, latency: float = 0.0) -> None:
        self.crash_every, self.latency = crash_every, latency
        self.calls = 0
        self.labelled: list[list[Any]] = []

    def __call__(self, keys: list[Any]) -> list[float]:
        assert keys
        assert isinstance(keys, list)
        self.calls += 1
        time.sleep(self.latency)
        if self.crash_every and self.calls % self.crash_every == 0:
            raise ConnectionError(f"call {self.calls} was cut off")
        self.labelled.append(keys)
        return [truth(key) for key in keys]


def truth(key: Any) -> float:
    return float(len(key) if isinstance(key, (str, tuple)) else key)


class Gated:
    """A judge that starts on its first batch and then waits to be let through, batch by batch."""

    def __init__(self) -> None:
        self.inside, self.gate = threading.Semaphore(0), threading.Semaphore(0)
        self.batches: list[list[Any]] = []

    def __call__(self, keys: list[Any]) -> list[float]:
        self.batches.append(keys)
        self.inside.release()
        assert self.gate.acquire(timeout=PATIENCE)
        return [truth(key) for key in keys]


def drain(annotator: AsyncAnnotator) -> list[dict[Any, float]]:
    """Everything that comes until nothing waits any more."""
    polled, until = [], time.monotonic() + PATIENCE
    while annotator.pending:
        assert time.monotonic() < until, "it never came to an end"
        polled.append(annotator.poll(patience=1.0))
    return [*polled, annotator.poll()]


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.002)


def test_labels_come_back_by_key() -> None:
    with AsyncAnnotator(Lengths(), batch_size=2) as annotator:
        annotator.submit(["a", "bb", "ccc", "bb"])
        labels = {key: label for polled in drain(annotator) for key, label in polled.items()}
        assert labels == {"a": 1, "bb": 2, "ccc": 3}
        assert annotator.poll() == {}
        assert annotator.batches == 2


def test_nobody_waits_for_a_slow_judge() -> None:
    waits = []
    for _ in range(3):  # the machine may take the processor away in between
        with AsyncAnnotator(Lengths(latency=0.2), batch_size=50) as annotator:
            began = time.perf_counter()
            for k in range(200):
                annotator.submit(range(5 * k, 5 * k + 10))
                annotator.poll()
            waits.append(time.perf_counter() - began)
            assert annotator.pending > 0
        if waits[-1] < 0.05:
            break
    assert min(waits) < 0.05


operations = st.lists(
    st.one_of(st.lists(st.integers(0, 30), max_size=12), st.just("poll"), st.just("rest")), min_size=1, max_size=15
)


@settings(max_examples=50, deadline=None)
@given(operations, st.integers(1, 9), st.sampled_from(["newest", "oldest"]))
def test_no_label_is_lost_or_doubled_when_the_judge_crashes(what: list[Any], batch_size: int, order: Any) -> None:
    judge = Lengths(crash_every=3)
    polled, submitted = [], set()
    with AsyncAnnotator(judge, batch_size, order, max_failures=3, backoff=0.0) as annotator:
        for step in what:
            if step == "poll":
                polled.append(annotator.poll())
            elif step == "rest":
                time.sleep(0.001)
            else:
                submitted.update(step)
                annotator.submit(step)
        polled += drain(annotator)
        assert annotator.failures == judge.calls // 3
        assert annotator.dropped == annotator.nonsense == annotator.unlabelled == 0
    given_out = [key for labels in polled for key in labels]
    assert sorted(given_out) == sorted(submitted)
    assert all(labels[key] == truth(key) for labels in polled for key in labels)
    asked = [key for batch in judge.labelled for key in batch]
    assert sorted(asked) == sorted(submitted)  # none was annotated again
    assert max(map(len, judge.labelled), default=0) <= batch_size


@pytest.mark.parametrize(("order", "then"), [("newest", [[5, 4], [3, 2]]), ("oldest", [[2, 3], [4, 5]])])
def test_the_order_of_what_waits(order: Any, then: list[list[int]]) -> None:
    judge = Gated()
    with AsyncAnnotator(judge, batch_size=2, order=order) as annotator:
        annotator.submit([1])
        assert judge.inside.acquire(timeout=PATIENCE)
        annotator.submit([2, 3])
        annotator.submit([1, 4, 5, 2] if order == "oldest" else [1, 2, 3, 4, 5])
        judge.gate.release(3)
        drain(annotator)
    assert judge.batches == [[1], *then]


def test_what_is_seen_again_is_new_again() -> None:
    judge = Gated()
    with AsyncAnnotator(judge, batch_size=1) as annotator:
        annotator.submit([0])
        assert judge.inside.acquire(timeout=PATIENCE)
        annotator.submit([1, 2, 3])
        annotator.submit([1])
        judge.gate.release(4)
        drain(annotator)
    assert judge.batches == [[0], [1], [3], [2]]


@pytest.mark.parametrize("order", ["newest", "oldest"])
def test_what_does_not_fit_is_dropped_and_counted_and_may_come_again(order: Any) -> None:
    judge = Gated()
    with AsyncAnnotator(judge, batch_size=10, order=order, capacity=3) as annotator:
        annotator.submit([0])
        assert judge.inside.acquire(timeout=PATIENCE)
        annotator.submit(range(1, 6))
        assert annotator.dropped == 2
        assert annotator.pending == 4
        judge.gate.release(2)
        labels = [key for polled in drain(annotator) for key in polled]
        assert sorted(labels) == [0, 3, 4, 5]
        annotator.submit([1, 0])
        judge.gate.release()
        assert [key for polled in drain(annotator) for key in polled] == [1]


def test_a_failing_batch_comes_after_everything_else() -> None:
    calls: list[list[str]] = []

    def judge(keys: list[str]) -> list[float]:
        calls.append(keys)
        if "poison" in keys and len(calls) < 5:
            raise ValueError("cannot read this")
        return [1.0] * len(keys)

    with AsyncAnnotator(judge, batch_size=1, order="oldest", backoff=0.0) as annotator:
        annotator.submit(["poison", "a", "b"])
        drain(annotator)
    assert [keys[0] for keys in calls] == ["poison", "a", "b", "poison", "poison"]


@pytest.mark.parametrize("error", [ConnectionError("no route"), SystemExit(3)])
def test_a_judge_that_is_dead_is_told_of_with_its_cause_and_nothing_is_lost(error: BaseException) -> None:
    down = [True]

    def judge(keys: list[int]) -> list[float]:
        if down[0]:
            raise error
        return [truth(key) for key in keys]

    with AsyncAnnotator(judge, batch_size=2, max_failures=4, backoff=0.0) as annotator:
        annotator.submit(range(5))
        with pytest.raises(BackendError, match=r"the judge gives no labels \(0 answers, 4 failures") as caught:
            annotator.poll(patience=PATIENCE)
        assert caught.value.__cause__ is error
        down[0] = False
        labels = {key: label for polled in drain(annotator) for key, label in polled.items()}
        assert labels == {key: key for key in range(5)}
        assert annotator.failures >= 4


def test_it_stands_still_until_somebody_was_told() -> None:
    def judge(keys: list[int]) -> list[float]:
        raise ConnectionError("no route")

    with AsyncAnnotator(judge, max_failures=2, backoff=0.0) as annotator:
        annotator.submit([1])
        until(lambda: annotator.failures == 2)
        time.sleep(0.05)
        assert annotator.failures == 2
        with pytest.raises(BackendError):
            annotator.poll()
        until(lambda: annotator.failures == 4)


def test_failures_are_slept_over_and_closing_ends_the_sleep() -> None:
    def judge(keys: list[int]) -> list[float]:
        raise ConnectionError("no route")

    annotator = AsyncAnnotator(judge, max_failures=100, backoff=10.0)
    annotator.submit([1])
    until(lambda: annotator.failures == 1)
    time.sleep(0.05)
    assert annotator.failures == 1
    began = time.monotonic()
    annotator.close()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf"), "1", [1.0], object()])
def test_keys_with_nonsense_stay_unlabelled_and_are_counted(bad: Any) -> None:
    asked: list[int] = []

    def judge(keys: list[int]) -> list[Any]:
        asked.extend(keys)
        return [bad if key % 2 else key for key in keys]

    with AsyncAnnotator(judge, attempts=2, backoff=0.0) as annotator:
        annotator.submit(range(6))
        labels = {key: label for polled in drain(annotator) for key, label in polled.items()}
        assert labels == {0: 0, 2: 2, 4: 4}
        assert (annotator.nonsense, annotator.unlabelled) == (6, 3)
        annotator.submit(range(6))  # they are not asked about for ever
        assert annotator.pending == 0
    assert sorted(asked) == [0, 1, 1, 2, 3, 3, 4, 5, 5]


@pytest.mark.parametrize("bad", [None, [1.0], [1.0] * 7, "yes no", 3, []])
def test_a_wrong_number_of_labels_is_nonsense_altogether(bad: Any) -> None:
    answers = iter([bad, [2.0] * 3])
    with AsyncAnnotator(lambda keys: next(answers), attempts=2, backoff=0.0) as annotator:
        annotator.submit([1, 2, 3])
        labels = {key: label for polled in drain(annotator) for key, label in polled.items()}
        assert labels == {1: 2, 2: 2, 3: 2}
        assert (annotator.nonsense, annotator.unlabelled, annotator.failures) == (3, 0, 0)


def test_nothing_but_nonsense_is_told_of() -> None:
    with AsyncAnnotator(lambda keys: [None] * len(keys), backoff=0.0) as annotator:
        annotator.submit(["a", "b"])
        with pytest.raises(BackendError, match=r"3 answers, 0 failures, 6 answers that were no labels.*got \[None, None\]"):
            annotator.poll(patience=PATIENCE)


def test_a_generator_that_breaks_is_a_failure_and_no_death() -> None:
    divisors = iter([0, 4])

    def judge(keys: list[int]) -> Any:
        divisor = next(divisors)
        return (key / divisor for key in keys)

    with AsyncAnnotator(judge, backoff=0.0) as annotator:
        annotator.submit([1])
        assert annotator.poll(patience=PATIENCE) == {1: 0.25}
        assert (annotator.failures, annotator.batches) == (1, 1)


def test_arrays_and_truth_values_are_labels() -> None:
    with AsyncAnnotator(lambda keys: np.array(keys) > 1) as annotator:
        annotator.submit([1, 2])
        assert {k: v for polled in drain(annotator) for k, v in polled.items()} == {1: 0.0, 2: 1.0}


def test_training_is_resumed_with_all_labels() -> None:
    first, judge = AsyncAnnotator(Lengths()), Lengths()
    first.submit(["a", "bb"])
    got = {key: label for polled in drain(first) for key, label in polled.items()}
    first.submit(["ccc", ("d", 4, b"\x00\xff")])
    until(lambda: first.pending == 0)
    state = first.state_dict()
    first.close()
    assert got == {"a": 1, "bb": 2}
    assert all(value.dtype.kind in "biuf" for value in state.values())
    with AsyncAnnotator(judge) as second:
        assert isinstance(second, Learned)
        second.load_state_dict(state)
        second.load_state_dict(state)
        assert second.poll() == {"ccc": 3, ("d", 4, b"\x00\xff"): 3}  # nobody had got them
        second.submit(["a", "bb", "ccc", "eeee"])
        assert [key for polled in drain(second) for key in polled] == ["eeee"]
    assert judge.labelled == [["eeee"]]


def test_labels_that_were_loaded_are_not_asked_for_any_more() -> None:
    judge = Gated()
    with AsyncAnnotator(judge, batch_size=1) as annotator:
        annotator.submit([0])
        assert judge.inside.acquire(timeout=PATIENCE)
        annotator.submit([1, 2])
        annotator.load_state_dict({**pack_labels({0: 7.0, 1: 8.0}), "fresh": np.array([True, False])})
        judge.gate.release(3)
        assert {k: v for polled in drain(annotator) for k, v in polled.items()} == {0: 7, 2: 2}
    assert judge.batches == [[0], [2]]


def test_what_was_loaded_is_not_asked_for_again_though_the_judge_crashes_over_it() -> None:
    gated = Gated()

    def judge(asked: list[int]) -> list[float]:
        labels = gated(asked)
        if len(gated.batches) == 1:
            raise ConnectionError("cut off")
        return labels

    with AsyncAnnotator(judge, order="oldest", backoff=0.0) as annotator:
        annotator.submit([0, 1])
        assert gated.inside.acquire(timeout=PATIENCE)
        annotator.load_state_dict({**pack_labels({0: 7.0}), "fresh": np.array([True])})
        gated.gate.release(2)
        assert {k: v for polled in drain(annotator) for k, v in polled.items()} == {0: 7, 1: 1}
    assert gated.batches == [[0, 1], [1]]


keys = st.recursive(
    st.one_of(st.text(), st.integers(-(2**70), 2**70), st.binary()), lambda part: st.lists(part, max_size=3).map(tuple)
)


@settings(max_examples=50)
@given(st.dictionaries(keys, st.floats(allow_nan=False, allow_infinity=False)))
def test_packed_labels_come_out_unchanged(labels: dict[Any, float]) -> None:
    packed = pack_labels(labels)
    assert unpack_labels(packed) == labels
    assert list(unpack_labels(packed)) == list(labels)


def test_keys_that_cannot_be_kept() -> None:
    with pytest.raises(InvalidValueError, match=r"texts, whole numbers, bytes or tuples of these, got 0\.5"):
        pack_labels({0.5: 1.0})
    with pytest.raises(InvalidValueError, match="are the arrays 'keys' and 'labels'"):
        unpack_labels({"keys": np.zeros(2, np.uint8)})
    with pytest.raises(InvalidValueError, match="as many keys as labels are needed, got 1 and 2"):
        unpack_labels({"keys": pack_labels({"a": 1.0})["keys"], "labels": np.zeros(2)})
    with AsyncAnnotator(Lengths()) as annotator, pytest.raises(InvalidValueError, match="marks in fresh, got 0"):
        annotator.load_state_dict(pack_labels({"a": 1.0}))


def test_bad_submissions() -> None:
    annotator = AsyncAnnotator(Lengths())
    with pytest.raises(InvalidValueError, match="the single text 'pick up': put it in a list"):
        annotator.submit("pick up")
    with pytest.raises(InvalidValueError, match="keys must be hashable"):
        annotator.submit([["a"]])  # type: ignore[list-item]
    annotator.submit([1])
    drain(annotator)
    annotator.close()
    annotator.close()
    assert annotator.poll() == {}
    with pytest.raises(BackendError, match="was closed"):
        annotator.submit([2])


def test_labels_that_came_before_closing_are_still_given() -> None:
    annotator = AsyncAnnotator(Lengths())
    annotator.submit([3])
    until(lambda: annotator.pending == 0)
    annotator.close()
    assert annotator.poll() == {3: 3}


@pytest.mark.parametrize(
    "option", [{"batch_size": 0}, {"capacity": 0}, {"max_failures": 0}, {"attempts": 0}, {"backoff": -1.0}]
)
def test_options_out_of_range(option: dict[str, Any]) -> None:
    with pytest.raises(InvalidValueError, match="must be >= 1 and backoff >= 0 s"):
        AsyncAnnotator(Lengths(), **option)


def test_an_unknown_order() -> None:
    with pytest.raises(UnknownNameError, match="unknown order 'newst': did you mean 'newest'"):
        AsyncAnnotator(Lengths(), order="newst")  # type: ignore[arg-type]
