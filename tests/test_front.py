"""What stands before a backend: nothing is asked twice, nobody waits for ever, and the newest answer is had at once."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception.vlm.base import Answerer, BackendError, Detections, FrozenFeatures, Grounder, Scorer
from perception.vlm.cache import Cache
from perception.vlm.cached import Cached
from perception.vlm.judge import Believer, Judge
from perception.vlm.live import Live

Images = NDArray[np.uint8]


def pictures(*values: int) -> Images:
    return np.stack([np.full((4, 6, 3), v, np.uint8) for v in values])


class Bright:
    """Answers from the mean brightness, and writes down how large its batches were."""

    size = 2

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.gate = threading.Event()
        self.gate.set()

    def _see(self, images: Images) -> NDArray[np.float32]:
        self.batches.append(len(images))
        assert self.gate.wait(10)
        return images.mean(axis=(1, 2, 3), dtype=np.float32)

    def answer(self, images: Images, prompts: list[str]) -> list[str]:
        return [f"{prompt} {value:.0f}" for prompt, value in zip(prompts, self._see(images), strict=True)]

    def yes_probability(self, images: Images, questions: list[str]) -> NDArray[np.float32]:
        assert len(questions) == len(images)
        return self._see(images) / 255

    def score(self, images: Images, prompts: list[str]) -> NDArray[np.float32]:
        return self._see(images)[:, None] * np.arange(1, len(prompts) + 1, dtype=np.float32)

    def embed(self, images: Images) -> NDArray[np.float32]:
        return np.repeat(self._see(images)[:, None], 2, axis=1)

    def ground(self, images: Images, phrases: list[str]) -> list[Detections]:
        found = []
        for value, phrase in zip(self._see(images), phrases, strict=True):
            row = np.array([[value, 0, value + 1, 1]], np.float32)
            found.append(Detections(row, row[:, :2], (phrase,), np.array([0.5], np.float32)) if value else Detections())
        return found


def test_it_offers_what_its_backend_offers() -> None:
    whole = Cached(Bright())
    for protocol in (Scorer, Answerer, Grounder, FrozenFeatures, Believer):
        assert isinstance(whole, protocol), protocol
    assert whole.size == 2
    assert whole.batches == []

    class Colours:
        def score(self, images: Images, prompts: list[str]) -> NDArray[np.float32]:
            return np.zeros((len(images), len(prompts)), np.float32)

    part = Cached(Colours())
    assert isinstance(part, Scorer)
    assert not any(isinstance(part, protocol) for protocol in (Answerer, Grounder, FrozenFeatures, Believer))


def test_every_answer_is_the_backends_own_and_is_asked_for_once() -> None:
    backend, plain = Bright(), Bright()
    cached = Cached(backend)
    images = pictures(0, 7, 7, 9)
    asked = ["a", "b", "b", "b"]
    for _ in range(2):
        assert cached.answer(images, asked) == plain.answer(images, asked)
        np.testing.assert_array_equal(cached.score(images, ["x", "y"]), plain.score(images, ["x", "y"]))
        np.testing.assert_array_equal(cached.embed(images), plain.embed(images))
        np.testing.assert_array_equal(cached.yes_probability(images, asked), plain.yes_probability(images, asked))
        for mine, own in zip(cached.ground(images, asked), plain.ground(images, asked), strict=True):
            assert mine.labels == own.labels
            for name in ("boxes", "points", "scores"):
                np.testing.assert_array_equal(getattr(mine, name), getattr(own, name))
    assert backend.batches == [3] * 5
    assert cached.cache.hits == 5 * 3
    assert cached.cache.misses == 5 * 3
    assert cached.answer(pictures(7), ["a"]) == ["a 7"]  # another text about a known picture
    assert backend.batches[-1] == 1


def test_models_and_kinds_of_question_do_not_mix() -> None:
    cache = Cache()
    one, other = Cached(Bright(), cache, "one"), Cached(Bright(), cache, "other")
    images = pictures(3)
    one.answer(images, ["a"])
    assert one.yes_probability(images, ["a"])[0] == np.float32(3 / 255)
    assert other.backend.batches == []
    other.answer(images, ["a"])
    assert other.backend.batches == [1]


def test_a_judge_works_with_it() -> None:
    verdict = Judge(Cached(Bright())).verify(["the mug is red"] * 3, pictures(0, 255, 255))
    assert verdict.value.tolist() == [0, 1, 1]


def test_answers_on_disk_outlive_the_process_and_need_a_name(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="need the name of their model"):
        Cached(Bright(), Cache(folder=tmp_path))
    first = Cached(Bright(), Cache(folder=tmp_path), "bright")
    boxes = first.ground(pictures(5, 0), ["a", "a"])
    first.cache.close()
    again = Cached(Bright(), Cache(folder=tmp_path), "bright")
    found = again.ground(pictures(5, 0), ["a", "a"])
    assert again.backend.batches == []
    np.testing.assert_array_equal(found[0].boxes, boxes[0].boxes)
    assert len(found[1]) == 0
    again.cache.close()


def test_a_deadline_is_kept_and_the_late_answer_is_not_lost() -> None:
    backend = Bright()
    cached = Cached(backend, deadline=0.1, name="slow")
    backend.gate.clear()
    with pytest.raises(BackendError, match=r"slow did not answer within 0\.1 s"):
        cached.answer(pictures(1), ["a"])
    backend.gate.set()
    cached.close()
    assert cached.answer(pictures(1), ["a"]) == ["a 1"]
    assert backend.batches == [1]
    with pytest.raises(InvalidValueError, match="deadline must be above 0 seconds, got 0"):
        Cached(backend, deadline=0)


def test_a_backend_that_swallows_a_question_is_found_out() -> None:
    class Forgetful(Bright):
        def answer(self, images: Images, prompts: list[str]) -> list[str]:
            return super().answer(images, prompts)[1:]

    with pytest.raises(BackendError, match="Forgetful gave 1 answers to 2 questions"):
        Cached(Forgetful()).answer(pictures(1, 2), ["a", "a"])


@pytest.mark.parametrize("method", ["answer", "ground", "yes_probability", "score", "embed"])
def test_wrong_input_is_refused_before_the_backend_sees_it(method: str) -> None:
    backend = Bright()
    call = getattr(Cached(backend), method)
    more = () if method == "embed" else (["a"],)
    for wrong in (np.zeros((0, 4, 4, 3), np.uint8), np.zeros((1, 4, 4, 3)), "picture", np.zeros((1, 9000, 4, 3), np.uint8)):
        with pytest.raises(InvalidValueError):
            call(wrong, *more)
    assert backend.batches == []


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def until(true: object) -> None:
    end = time.monotonic() + 10
    while not true():  # pyright: ignore[reportCallIssue]
        assert time.monotonic() < end
        time.sleep(0.001)


def test_the_newest_young_answer_is_given_with_its_age() -> None:
    backend, clock = Bright(), Clock()
    live = Live(backend.answer, staleness=1.0, clock=clock)
    assert [k.value for k in live.look(pictures(1, 2), ["a", "b"])] == [None, None]
    until(lambda: live.answered == 2)
    backend.gate.clear()
    clock.now = 0.5
    assert [(k.value, k.age) for k in live.look(pictures(3, 4), ["a", "b"])] == [("a 1", 0.5), ("b 2", 0.5)]
    until(lambda: len(backend.batches) == 2)
    clock.now = 0.9
    assert live.look(pictures(5), ["other"], [0])[0].value is None  # another text than the known answer's
    clock.now = 1.6
    assert [k.value for k in live.look(pictures(6, 7), ["a", "b"])] == [None, None]  # too old by now
    assert live.replaced == 1
    backend.gate.set()
    until(lambda: live.answered == 6)
    assert backend.batches == [2, 2, 2]  # the two that waited, whoever asked, were one batch; the replaced one was not asked
    clock.now = 1.7
    assert [k.value for k in live.look(pictures(6, 7), ["a", "b"])] == ["a 6", "b 7"]
    live.close()
    live.close()
    with pytest.raises(BackendError, match="was closed"):
        live.look(pictures(1), ["a"])


def test_who_asks_can_wait_for_the_first_answer() -> None:
    live = Live(Bright().answer, patience=10)
    assert live.look(pictures(1), ["a"])[0].value == "a 1"
    live.close()


def test_the_next_episode_hears_nothing_of_the_last() -> None:
    backend = Bright()
    live = Live(backend.answer, staleness=100)
    backend.gate.clear()
    live.look(pictures(1, 2), ["a", "a"])
    until(lambda: backend.batches == [2])
    live.forget([0])
    backend.gate.set()
    until(lambda: live.answered == 2)
    assert [k.value for k in live.look(pictures(3, 4), ["a", "a"])] == [None, "a 2"]
    live.close()


def test_pictures_of_several_sizes_and_many_askers_share_the_backend() -> None:
    live = Live(Bright().answer, staleness=100, patience=10)
    out: dict[int, str] = {}

    def ask(k: int) -> None:
        image = np.full((1, 4 + k % 2, 4, 3), k, np.uint8)
        out[k] = live.look(image, ["a"], [k])[0].value

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert out == {k: f"a {k}" for k in range(12)}
    assert live.batches <= 12
    live.close()


def test_a_failure_reaches_whoever_looks_next_and_is_told_once() -> None:
    class Broken(Bright):
        def answer(self, images: Images, prompts: list[str]) -> list[str]:
            if images[0, 0, 0, 0] == 13:
                raise BackendError("http://nowhere refused")
            return super().answer(images, prompts)

    live = Live(Broken().answer, patience=10)
    with pytest.raises(BackendError, match="in the background failed: http://nowhere refused"):
        live.look(pictures(13), ["a"])
    assert live.look(pictures(1), ["a"])[0].value == "a 1"
    live.close()
    for wrong in ({"staleness": 0.0}, {"patience": -1.0}):
        with pytest.raises(InvalidValueError, match="staleness must be above 0 s and patience not below"):
            Live(Bright().answer, **wrong)
    other = Live(Bright().answer)
    with pytest.raises(InvalidValueError, match="as many different ids"):
        other.look(pictures(1, 2), ["a", "b"], [0, 0])
    other.close()
