"""A reward of transitions from what a judge finds helpful, while it is being judged (ONI, arXiv:2410.23022).

What was seen is put into words, the words are worth what an intrinsic reward makes of the labels so far, and what comes again
in an episode is worth less:

    r = r_int(caption) / N(caption)^exponent

New words go to the judge, which is never waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception.text import embed
from rewards.annotation import AsyncAnnotator
from rewards.base import Transition, Within
from rewards.distillation import Distilled
from rewards.intrinsic import IntrinsicReward, RankingReward
from rewards.shaping import EpisodicCountDiscount

Captioner = Callable[[Transition], Sequence[str]]


class CaptionReward(Within):
    """What captions are worth to a judge, discounted by how often they came in the episode.

    Args:
        captioner: N captions of N transitions.
        intrinsic: what labels are turned into; it reads `perception.text.embed` of the captions. A `RankingReward` is asked for
            the pairs that go to the judge, the others have captions judged one by one.
        annotator: asks the judge; None leaves the reward as it is.
        exponent: of the count.
        every: steps between two visits to the annotator.
        pairs: how many pairs a ranking has judged at once; none are added while twice as many wait.
        seed: of the pairs.

    Raises:
        InvalidValueError: an option outside its range.
    """

    def __init__(
        self,
        captioner: Captioner,
        intrinsic: IntrinsicReward,
        annotator: AsyncAnnotator | None = None,
        exponent: float = 3.0,
        every: int = 32,
        pairs: int = 50,
        seed: int = 0,
    ) -> None:
        if min(every, pairs) < 1:
            raise InvalidValueError(f"every and pairs must be >= 1, got {every} and {pairs}")
        self._count = EpisodicCountDiscount(exponent)
        super().__init__({"intrinsic": intrinsic, "count": self._count})
        self.intrinsic, self.annotator = intrinsic, annotator
        self._captioner, self._every, self._pairs = captioner, every, pairs
        self._rng = np.random.default_rng(seed)
        self._new: dict[str, None] = {}
        self._steps = 0
        self.told = Distilled(0)

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The discounted reward of each transition, (N,); row i must be of simulation i."""
        captions = list(self._captioner(batch))
        worth = self.intrinsic(captions, embed(captions))
        self._new.update(dict.fromkeys(captions))
        self._steps += 1
        if self.annotator is not None and self._steps % self._every == 0:
            self._visit(self.annotator)
        return self._count(worth, captions).astype(np.float32)

    def _visit(self, annotator: AsyncAnnotator) -> None:
        """Take the labels that came, and hand in what is to be judged."""
        labels: dict[Any, float] = annotator.poll()
        if labels:
            self.told = self.intrinsic.update(labels)
        if not isinstance(self.intrinsic, RankingReward):
            annotator.submit(self._new)
        elif annotator.pending < 2 * self._pairs:
            annotator.submit(self.intrinsic.draw_pairs(self._pairs, self._rng))
        self._new.clear()
