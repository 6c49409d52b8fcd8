"""Facts about a picture, the sentences that state them, and an exact check of such sentences.

A caption is a few sentences, a sentence states one fact, and `check` reads sentences back: a closed grammar, so that it decides
exactly and executes nothing. `corrupt` changes one word group of a true caption so that it becomes false, and says which.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from assets.errors import InvalidValueError, UnknownNameError
from perception.annotation import APART, NEARER, OPENNESS, Annotation, Seen
from perception.text import COLOURS, article

Rng = np.random.Generator

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
RELATIONS = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}
ERRORS = ("object", "attribute", "count", "relation", "state")


@dataclass(frozen=True)
class Fact:
    """A checkable statement.

    Attributes:
        kind: "exists", "count", "relation", "state" or "held".
        words: its parts: (colour, noun); (number, colour); (phrase, relation, phrase); (name, state); (phrase or "nothing",).
    """

    kind: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The sentence that states it."""
        if self.kind == "exists":
            colour, noun = self.words
            return article(f"There is a {colour} {noun}.")
        if self.kind == "count":
            number, colour = self.words
            return f"There {'is' if number == 'one' else 'are'} {number} {colour} thing{'' if number == 'one' else 's'}."
        if self.kind == "relation":
            return f"The {self.words[0]} is {self.words[1]} the {self.words[2]}."
        if self.kind == "state":
            return f"The {self.words[0]} is {self.words[1]}."
        return "The gripper is empty." if self.words[0] == "nothing" else f"The gripper holds the {self.words[0]}."


@dataclass(frozen=True)
class Corruption:
    """A caption with one error in it.

    Attributes:
        text: the false caption.
        span: where the changed words are, text[span[0]:span[1]].
        error: of `ERRORS`.
    """

    text: str
    span: tuple[int, int]
    error: str


def _by_phrase(scene: Annotation, phrase: str) -> list[Seen]:
    return [s for s in scene.seen if s.phrase.removeprefix("the ") == phrase]


def _clear(scene: Annotation) -> list[Seen]:
    """Things that one phrase means alone."""
    return [s for s in scene.seen if s.colour and scene.unique(s.noun, s.colour)]


def _name(thing: Seen) -> str:
    return thing.phrase.removeprefix("the ")


def _openness(share: float) -> str | None:
    return next((told for told, low, high in OPENNESS if low <= share <= high), None)


def facts(scene: Annotation) -> list[Fact]:
    """Everything that the grammar can say of a picture and that is true beyond dispute."""
    clear = _clear(scene)
    told = [Fact("exists", (s.colour or "", s.noun)) for s in clear]
    if not scene.faint:
        counts = Counter(s.colour for s in scene.seen if s.colour)
        told += [Fact("count", (NUMBERS[n], colour)) for colour, n in counts.items()]
    for a in clear:
        for b in clear:
            if b.centre[0] - a.centre[0] > APART * scene.width:
                told += [Fact("relation", (_name(a), "left of", _name(b))), Fact("relation", (_name(b), "right of", _name(a)))]
            if b.depth - a.depth > NEARER:
                told += [
                    Fact("relation", (_name(a), "in front of", _name(b))),
                    Fact("relation", (_name(b), "behind", _name(a))),
                ]
    names = {s.name: _name(s) for s in clear}
    told += [Fact("relation", (names[a], how, names[b])) for a, how, b in scene.supports if a in names and b in names]
    told += [Fact("state", (name, word)) for name, share in scene.openings.items() if (word := _openness(share))]
    if scene.gripper and (scene.held is None or scene.held in names):
        told.append(Fact("held", ("nothing" if scene.held is None else names[scene.held],)))
    return told


def holds(fact: Fact, scene: Annotation) -> bool:
    """Whether a fact is true of a picture."""
    return _CHECKS[fact.kind](fact.words, scene)


def _exists(words: Sequence[str], scene: Annotation) -> bool:
    colour, noun = words
    return any((s.noun, s.colour) == (noun, colour) for s in scene.seen)


def _count(words: Sequence[str], scene: Annotation) -> bool:
    number, colour = words
    return number in NUMBERS and sum(s.colour == colour for s in scene.seen) == NUMBERS.index(number)


def _related(words: Sequence[str], scene: Annotation) -> bool:
    first, how, second = words
    for a in _by_phrase(scene, first):
        for b in _by_phrase(scene, second):
            ahead = {"left of": b.centre[0] - a.centre[0], "right of": a.centre[0] - b.centre[0],
                     "in front of": b.depth - a.depth, "behind": a.depth - b.depth}.get(how)  # fmt: skip
            if (a.name, how, b.name) in scene.supports if ahead is None else ahead > 0:
                return True
    return False


def _state(words: Sequence[str], scene: Annotation) -> bool:
    name, word = words
    return name in scene.openings and _openness(scene.openings[name]) == word


def _held(words: Sequence[str], scene: Annotation) -> bool:
    if words[0] == "nothing":
        return scene.gripper and scene.held is None
    return any(s.name == scene.held for s in _by_phrase(scene, words[0]))


_CHECKS: dict[str, Callable[[Sequence[str], Annotation], bool]] = {
    "exists": _exists,
    "count": _count,
    "relation": _related,
    "state": _state,
    "held": _held,
}

_COLOUR = "|".join(COLOURS)
_HOW = "|".join([*RELATIONS, "in", "on"])
_STATES = "|".join(told for told, _, _ in OPENNESS)
_GRAMMAR = (
    ("exists", re.compile(rf"there is an? ({_COLOUR}) (.+)")),
    ("count", re.compile(rf"there (?:is|are) ({'|'.join(NUMBERS)}) ({_COLOUR}) things?")),
    ("held", re.compile(r"the gripper holds the (.+)")),
    ("held", re.compile(r"the gripper is (empty)")),
    ("state", re.compile(rf"the (.+) is ({_STATES})")),
    ("relation", re.compile(rf"the (.+?) is ({_HOW}) the (.+)")),
)


def parse(sentence: str) -> Fact:
    """The fact that a sentence states.

    Raises:
        InvalidValueError: the sentence is not one of the grammar's.
    """
    text = sentence.strip().rstrip(".").lower()
    for kind, pattern in _GRAMMAR:
        if match := pattern.fullmatch(text):
            words = match.groups()
            return Fact(kind, ("nothing",) if words == ("empty",) and kind == "held" else words)
    raise InvalidValueError(
        f"{sentence!r} states no fact that can be checked; such as {Fact('state', ('door', 'ajar')).text!r}"
    )


def check(text: str, scene: Annotation) -> bool:
    """Whether every sentence of a text is true of a picture.

    Raises:
        InvalidValueError: a sentence is not one of the grammar's, or there is none.
    """
    sentences = [s for s in re.split(r"(?<=\.)\s+", text.strip()) if s]
    if not sentences:
        raise InvalidValueError("an empty text claims nothing that could be checked")
    return all(holds(parse(s), scene) for s in sentences)


def caption(scene: Annotation, rng: Rng, sentences: int = 3) -> list[Fact]:
    """Some true facts, what there is before how it stands; fewer where there is less to say."""
    told = facts(scene)
    chosen = [told[k] for k in rng.permutation(len(told))[:sentences]]
    return sorted(chosen, key=lambda fact: list(_CHECKS).index(fact.kind))


def write(told: Sequence[Fact]) -> str:
    """The caption that states these facts."""
    return " ".join(fact.text for fact in told)


def _wrong(fact: Fact, scene: Annotation, error: str) -> list[tuple[Fact, str]]:
    """False variants of a fact, each with the words that were changed."""
    nouns = sorted({s.noun for s in scene.seen} | {"mug", "kettle", "cube", "apple", "bucket"})
    if error == "object" and fact.kind == "exists":
        return [(Fact("exists", (fact.words[0], noun)), noun) for noun in nouns]
    if error == "attribute" and fact.kind == "exists":
        return [(Fact("exists", (colour, fact.words[1])), colour) for colour in COLOURS]
    if error == "count" and fact.kind == "count":
        n = NUMBERS.index(fact.words[0])
        return [
            (Fact("count", (NUMBERS[m], fact.words[1])), NUMBERS[m]) for m in (n - 1, n + 1, n + 2) if 0 <= m < len(NUMBERS)
        ]
    if error == "relation" and fact.kind == "relation":
        a, how, b = fact.words
        return [(Fact("relation", (a, other, b)), other) for other in (*RELATIONS, "in", "on") if other != how]
    if error == "state" and fact.kind == "state":
        return [(Fact("state", (fact.words[0], told)), told) for told, _, _ in OPENNESS]
    if error == "state" and fact.kind == "held":
        others = ["nothing", *(_name(s) for s in _clear(scene))]
        return [(Fact("held", (other,)), "is empty" if other == "nothing" else f"holds the {other}") for other in others]
    return []


def _before(fact: Fact, error: str) -> int:
    """Where in a fact's sentence the words that an error changes can begin."""
    if fact.kind == "exists":
        return len("There is a") + (len(fact.words[0]) if error == "object" else 0)
    if fact.kind == "count":
        return len("There ")
    return len("The gripper" if fact.kind == "held" else f"The {fact.words[0]} is")


def corrupt(told: Sequence[Fact], scene: Annotation, rng: Rng, error: str) -> Corruption | None:
    """Make one fact of a caption false; None where the caption has none that can carry such an error.

    Args:
        told: the facts of a true caption.
        scene: that it is true of.
        rng: which fact, which error.
        error: of `ERRORS`.

    Raises:
        UnknownNameError: no such error.
    """
    if error not in ERRORS:
        raise UnknownNameError("error", error, ERRORS)
    faint = {(noun, colour) for _, noun, colour in scene.faint}
    for k in rng.permutation(len(told)):
        variants = [
            (wrong, words)
            for wrong, words in _wrong(told[k], scene, error)
            if not holds(wrong, scene) and not (wrong.kind == "exists" and wrong.words[::-1] in faint)
        ]
        if variants:
            wrong, words = variants[int(rng.integers(len(variants)))]
            before = write(told[:k]) + (" " if k else "")
            start = len(before) + wrong.text.index(words, _before(wrong, error))
            text = write([*told[:k], wrong, *told[k + 1 :]])
            return Corruption(text, (start, start + len(words)), error)
    return None
