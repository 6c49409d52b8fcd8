"""A model that knows the truth and errs as often as it is told to: for tests of judges, planners and rewards.

It is told the annotations of the pictures that it will be shown (`tell`), recognises them by their pixels, and answers
exactly, but for errors with a given rate, drawn anew for every new pair of picture and prompt and repeated for the same one, as
a model's own errors are. It is never an input to what is being tested for perception.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception import claims
from perception.annotation import Annotation, Seen
from perception.vlm.base import BackendError, Detections, Images, check_images, check_texts
from perception.vlm.cache import digest


class Scripted:
    """Scorer, Answerer, Grounder and Believer by simulator truth.

    Args:
        error_rate: share of answers that are wrong, in [0, 1].
        bias: added to the log-odds of every yes; positive says yes too often.
        certainty: log-odds of a yes where there is no error and no bias.
        latency_s: seconds that every call takes.
        seed: of the errors.
    """

    def __init__(
        self, error_rate: float = 0.0, bias: float = 0.0, certainty: float = 4.0, latency_s: float = 0.0, seed: int = 0
    ) -> None:
        if not 0 <= error_rate <= 1:
            raise InvalidValueError(f"error_rate must be in [0, 1], got {error_rate}")
        if latency_s < 0:
            raise InvalidValueError(f"latency_s must be >= 0 seconds, got {latency_s}")
        self.error_rate, self.bias, self.certainty, self.latency_s, self.seed = error_rate, bias, certainty, latency_s, seed
        self.calls = 0
        self._known: dict[bytes, Annotation] = {}

    def tell(self, images: Images, truths: Sequence[Annotation]) -> None:
        """Make pictures known.

        Raises:
            InvalidValueError: not one annotation per image.
        """
        if len(images) != len(truths):
            raise InvalidValueError(f"one annotation per image is told: got {len(truths)} for {len(images)} images")
        self._known.update(zip(digest(check_images(images)), truths, strict=True))

    def _look(self, images: Images) -> list[tuple[bytes, Annotation]]:
        self.calls += 1
        time.sleep(self.latency_s)
        keys = digest(check_images(images))
        for key in keys:
            if key not in self._known:
                raise BackendError(f"scripted: a picture that nobody told of ({len(self._known)} are known): call tell() first")
        return [(key, self._known[key]) for key in keys]

    def _errs(self, key: bytes, prompt: str) -> bool:
        """Whether this answer is an error: a pure function of picture, prompt and seed."""
        mixed = hashlib.blake2b(key + prompt.encode() + str(self.seed).encode(), digest_size=8).digest()
        return int.from_bytes(mixed, "little") / 2**64 < self.error_rate

    def yes_probability(self, images: Images, questions: Sequence[str]) -> NDArray[np.float32]:
        """Probability of "yes" to "Is this true? <claim>" or to a bare claim, (N,)."""
        asked = check_texts(questions, "questions", len(check_images(images)))
        odds = []
        for (key, truth), question in zip(self._look(images), asked, strict=True):
            true = claims.check(question.removeprefix("Is this true?"), truth) != self._errs(key, question)
            odds.append((self.certainty if true else -self.certainty) + self.bias)
        return (1 / (1 + np.exp(-np.array(odds)))).astype(np.float32)

    def answer(self, images: Images, prompts: Sequence[str]) -> list[str]:
        """Yes or no to claims, N."""
        return ["yes" if p >= 0.5 else "no" for p in self.yes_probability(images, prompts)]

    def score(self, images: Images, prompts: Sequence[str]) -> NDArray[np.float32]:
        """1 where a phrase such as "a red cube", or a claim, is true of an image, else 0; errors turn it over. (N, P)."""
        looked, asked = self._look(images), check_texts(prompts, "prompts")
        rows = [[float(_fits(prompt, truth) != self._errs(key, prompt)) for prompt in asked] for key, truth in looked]
        return np.array(rows, np.float32)

    def ground(self, images: Images, phrases: Sequence[str]) -> list[Detections]:
        """The things that each phrase names; an error names another thing, or nothing where there is none."""
        asked, found = check_texts(phrases, "phrases", len(check_images(images))), []
        for (key, truth), phrase in zip(self._look(images), asked, strict=True):
            right = [s for s in truth.seen if _names(phrase, s)]
            wrong = [s for s in truth.seen if s not in right][:1]
            found.append(_detections(wrong if self._errs(key, phrase) else right))
        return found


def _names(phrase: str, thing: Seen) -> bool:
    text = phrase.lower().removeprefix("the ").removeprefix("an ").removeprefix("a ").strip(" .")
    return text in (thing.noun, thing.phrase.removeprefix("the "))


def _fits(prompt: str, truth: Annotation) -> bool:
    if any(_names(prompt, s) for s in truth.seen):
        return True
    try:
        return claims.check(prompt, truth)
    except InvalidValueError:
        return False  # a phrase, and nothing of that name is there


def _detections(things: Sequence[Seen]) -> Detections:
    if not things:
        return Detections()
    return Detections(
        np.array([s.box for s in things], np.float32),
        np.array([s.point for s in things], np.float32),
        tuple(s.phrase.removeprefix("the ") for s in things),
        np.ones(len(things), np.float32),
    )
