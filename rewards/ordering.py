"""Progress of a recorded video, by asking a vision-language model to put its shuffled frames in order.

Generative value learning, Ma et al. 2024 (arXiv:2411.04549). Asked about frames in their own order, a model tends to say rising
numbers, whatever it sees. So all frames are shuffled, the first one is shown beside them as the start, and the model says of
each how much of the task is done. Here the frames are numbered tiles of one picture, since backends take one picture a prompt.
It needs whole videos and a large model's answers, and so is for recordings and not for control.
"""

from __future__ import annotations

import re

import cv2
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import Answerer, BackendError, check_images, require

FALLBACKS = ("raise", "start")
# Height of the strip above a tile that holds its number, pixels.
STRIP = 16
PROMPT = (
    "The robot's task: {task}. Picture 0 is the start, where 0 % of the task is done. Pictures 1 to {count} are from one video "
    "of it and in random order. Say of each how much of the task is done in it, from 0 % to 100 %. Answer with one line for "
    'each picture and nothing else, such as "Picture 1: 40 %".'
)
_LINE = re.compile(
    r"[\s*-]*(?:picture|frame)?\s*(\d{1,4})[\s*]*:[\s*]*(\d{1,3}(?:\.\d+)?)\s*%?[\s*.]*", re.IGNORECASE | re.ASCII
)


def percentages(answer: str, count: int) -> NDArray[np.float64] | None:
    """What an answer says of pictures 1 to `count`, as shares; None where it is nonsense.

    One line a picture, a number and a percentage. What else is said, and what a model thought before (`</think>`), is passed
    over; a picture that is left out, named twice or unknown, or a number above 100, makes the whole answer worthless.

    Args:
        answer: of the model.
        count: pictures asked about.

    Returns:
        (count,) in [0, 1].
    """
    lines = [found for line in answer.rpartition("</think>")[2].splitlines() if (found := _LINE.fullmatch(line))]
    told = {int(line[1]): float(line[2]) / 100 for line in lines}
    if len(lines) != count or set(told) != set(range(1, count + 1)) or max(told.values()) > 1:
        return None
    return np.array([told[number] for number in range(1, count + 1)])


def sheet(start: NDArray[np.uint8], frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One picture of numbered tiles, row by row: the start as 0, then K frames (K, H, W, 3) from 1 on."""
    tiles = [_numbered(tile, number) for number, tile in enumerate([start, *frames])]
    columns = int(np.ceil(np.sqrt(len(tiles))))
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[at : at + columns], axis=1) for at in range(0, len(tiles), columns)]
    return np.concatenate(rows)


def _numbered(tile: NDArray[np.uint8], number: int) -> NDArray[np.uint8]:
    strip = np.full((STRIP, tile.shape[1], 3), 255, np.uint8)
    cv2.putText(strip, str(number), (2, STRIP - 4), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([strip, tile])


class Ordering:
    """Progress in every frame of a video, by a model that does not know their order. It is a `FrameReward` of whole videos.

        v_1 .. v_T = shuffle^-1(model(shuffle(o_1 .. o_T), o_1, task))

    `measures.value_order_correlation` of it says how far the model follows the video.

    Args:
        backend: a chat model.
        task: what the robot should do, such as "open the cabinet door".
        rng: shuffles the frames, anew in every round.
        at_once: frames in a question; longer videos are asked about in several, each with the start.
        rounds: how often a video is asked about, in other orders; what is said of a frame is averaged.
        fallback: what a frame is worth of which only nonsense was said in all rounds: "raise" an error, or as little as the
            "start", 0.

    Attributes:
        asked: questions.
        nonsense: answers that could not be read.
        given_up: frames that were given the fallback.

    Raises:
        InvalidValueError: a backend that does not answer, no task, or a number below 1.
        UnknownNameError: no such fallback.
    """

    def __init__(
        self, backend: Answerer, task: str, rng: np.random.Generator, at_once: int = 24, rounds: int = 1,
        fallback: str = "raise",
    ) -> None:  # fmt: skip
        if fallback not in FALLBACKS:
            raise UnknownNameError("fallback", fallback, FALLBACKS)
        if not task.strip() or at_once < 1 or rounds < 1:
            raise InvalidValueError(f"a task is a text, at_once and rounds are >= 1, got {task!r}, {at_once} and {rounds}")
        self.backend, self.task = require(backend, Answerer, "order frames"), task
        self._rng, self._at_once, self._rounds, self._fallback = rng, at_once, rounds, fallback
        self.asked = self.nonsense = self.given_up = 0
        self._last = ""

    def __call__(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Progress in each frame of one video (T, H, W, 3), in order; (T,) in [0, 1].

        Raises:
            BackendError: nothing but nonsense was said of a frame, and the fallback is "raise".
        """
        check_images(frames)
        said, times = np.zeros(len(frames)), np.zeros(len(frames))
        for _ in range(self._rounds):
            order = self._rng.permutation(len(frames))
            for part in np.array_split(order, int(np.ceil(len(order) / self._at_once))):
                if (found := self._ask(frames, part)) is not None:
                    said[part] += found
                    times[part] += 1
        self._give_up(times)
        return (said / np.maximum(times, 1)).astype(np.float32)

    def _ask(self, frames: NDArray[np.uint8], chosen: NDArray[np.intp]) -> NDArray[np.float64] | None:
        """What the model says of chosen frames, in the order in which it sees them."""
        prompt = PROMPT.format(task=self.task, count=len(chosen))
        (answer,) = self.backend.answer(sheet(frames[0], frames[chosen])[None], [prompt])
        found = percentages(answer, len(chosen))
        self.asked += 1
        self.nonsense += found is None
        self._last = answer
        return found

    def _give_up(self, times: NDArray[np.float64]) -> None:
        lost = int((times == 0).sum())
        self.given_up += lost
        if lost and self._fallback == "raise":
            raise BackendError(
                f"nothing that can be read was said of {lost} of {len(times)} frames, the last answer was {self._last[:99]!r}: "
                "take a model that can compare pictures, more rounds, or fallback='start'"
            )
