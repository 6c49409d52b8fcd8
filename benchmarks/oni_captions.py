"""Captions of Saccade/PlaceCube-v0 and a judge that reads them: what `benchmarks.reward_oni` learns from.

A caption says what a picture shows: what the gripper holds, where the cube lies, how far the hand is from it, and on the way
how far the cube is from the block. It is made from the state, in words of `perception.claims` where that has them; a test
compares it with what the task's camera sees.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from envs.task import State
from envs.tasks.arm.place import CUBE
from perception.claims import Fact
from rewards.base import Transition

# Up to how far the hand is so from the cube, m; beyond it is far.
NEARNESS = (("at", 0.03), ("close to", 0.06), ("near", 0.1))
# The way of a held cube is told to 3 cm; beyond 20 cm it is far.
TOLD, FAR = 0.03, 0.20
ASIDE, RAISED, SHUT = 0.02, 0.03, 0.7  # m, m, share of the gripper's opening
HAND, CUBE_NAME, BLOCK_NAME = "hand", "red cube", "blue block"
# No two describers begin alike: a simulation has one of them, and a judge that errs on one's words need not on another's.
OPENINGS = (
    "A picture from the front.", "A robot at a table.", "This is what the camera shows.", "An arm with two fingers is at work.",
    "One frame of a video.", "A table with two things on it.", "The scene at this moment.", "A robot handles small things.",
)  # fmt: skip
PLACES = ("on the table", "above the table", f"above the {BLOCK_NAME}", f"on the {BLOCK_NAME}")


def captions(batch: Transition) -> list[str]:
    """What pictures after N steps show, in a few sentences each."""
    return described(batch.state)


def described(state: State, who: NDArray[np.intp] | None = None) -> list[str]:
    """Captions of N states.

    Args:
        state: of N simulations, or of one at N times.
        who: describes each, (N,); everyone their own simulation by default.
    """
    cube, held = state["cube"], state["held"]
    from_, to = np.where(held[:, None], cube, state["tool"]), np.where(held[:, None], state["goal"], cube)
    away = np.linalg.norm(from_ - to, axis=1)
    near = np.where(held, np.where(away < FAR, np.round(away / TOLD), -1), np.digitize(away, [far for _, far in NEARNESS]))
    # The camera looks at the arm: what is farther along y is farther to the right in its picture.
    side = np.digitize((from_ - to)[:, 1], [-ASIDE, ASIDE])
    higher, shut = (from_ - to)[:, 2] > RAISED, state["opening"][:, 0] < SHUT
    raised = cube[:, 2] > CUBE + RAISED
    where = np.where(state["over"], np.where(cube[:, 2] - state["goal"][:, 2] < 0.015, 3, 2), raised)
    posed, who = np.where(held, higher, shut), np.arange(len(held)) if who is None else who
    told = np.stack([who % len(OPENINGS), held, near, side, posed, where], axis=1).astype(int)
    return [_sentences(*row) for row in told.tolist()]


@cache
def _sentences(who: int, held: int, near: int, side: int, posed: int, where: int) -> str:
    a, b = (CUBE_NAME, BLOCK_NAME) if held else (HAND, CUBE_NAME)
    told = [OPENINGS[who], Fact("held", (CUBE_NAME if held else "nothing",)).text]
    if held and side != 1:
        told.append(Fact("relation", (a, ("left of", "", "right of")[side], b)).text)
    if held and posed:
        told.append(f"The {a} is higher than the {b}.")
    if not held:
        told.append(f"The gripper is {'closed' if posed else 'open'}.")
    words = [word for word, _ in NEARNESS]
    told.append(f"The {a} is {_way(near) if held else (*words, 'far from')[near]} the {b}.")
    told.append(f"The {CUBE_NAME} is {PLACES[where]}.")
    return " ".join(told)


def _way(steps: int) -> str:
    return "far from" if steps < 0 else f"{round(100 * TOLD * steps)} cm from"


# -- who judges it -----------------------------------------------------------------------------------------------------


# What the words about an open hand are worth while the cube is on the table.
REACHING = {"hand is near": 1, "hand is close to": 2, "hand is at": 3}


def mark(caption: str) -> int:
    """How much of the job a caption says is done, 0 to 15."""
    if "on the blue block" in caption:
        return 14 if "holds" in caption else 15
    if "above the blue block" in caption:
        return 13
    if "holds" in caption:
        distance = re.search(r"(\d+) cm", caption)
        return 4 if "on the table" in caption else 12 - (int(distance[1]) // 3 if distance else 7)
    if "gripper is open" not in caption or "on the table" not in caption:
        return 0
    return next((worth for words, worth in REACHING.items() if words in caption), 0)


@dataclass(frozen=True)
class CaptionJudge:
    """Reads captions, and errs on a share of the questions, always on the same ones.

    Args:
        seed: of the errors.
        wrong: share of wrong answers, in [0, 1].
        latency: seconds that a batch takes.
    """

    seed: int
    wrong: float = 0.2
    latency: float = 0.0

    def label(self, asked: list[str]) -> list[float]:
        """1 for what helps to put the cube on the block, 0 for what does not."""
        time.sleep(self.latency)
        return [float((mark(caption) > 0) != self.errs((caption,))) for caption in asked]

    def prefer(self, asked: list[tuple[str, str]]) -> list[float]:
        """-1 where the first of two captions is the better one, 1 where the second is, 0 where neither; an error never is 0."""
        time.sleep(self.latency)
        return [self._prefer(a, b) for a, b in asked]

    def _prefer(self, a: str, b: str) -> float:
        better = float(np.sign(mark(b) - mark(a)))
        return (-better or (1.0 if a < b else -1.0)) if self.errs((a, b)) else better

    def errs(self, question: Sequence[str]) -> bool:
        """Whether the answer about one caption, or two in either order, is wrong."""
        mixed = hashlib.blake2b("\n".join((str(self.seed), *sorted(question))).encode(), digest_size=8).digest()
        return int.from_bytes(mixed, "little") / 2**64 < self.wrong

    def heard(self, questions: Sequence[Any]) -> dict[str, float]:
        """How many questions were answered, and which share of them wrongly."""
        wrong = [self.errs(question if isinstance(question, tuple) else (question,)) for question in questions]
        return {"labels": float(len(wrong)), "labels_wrong": float(np.mean(wrong)) if wrong else 0.0}
