"""Questions with exact answers, made from annotations.

Each kind is a function (annotation, generator) -> Question or None where the picture has nothing to ask. Yes and no, left and
right, and the order of two things are drawn evenly, so that who does not look cannot do better than the kind's commonest
answer. Thresholds keep away from what people would argue about: things side by side have no nearer one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from assets.errors import UnknownNameError
from perception.annotation import APART, NEARER, OPENNESS, Annotation, Seen, phrases
from perception.claims import ERRORS, corrupt, write
from perception.claims import caption as true_facts
from perception.text import COLOURS, article

Rng = np.random.Generator

# How much larger one of two must look, ratio of their areas.
LARGER = 1.7
_YES_NO = ("no", "yes")


@dataclass(frozen=True)
class Question:
    """A question about a picture.

    Attributes:
        kind: of `KINDS`.
        prompt: as a person would ask.
        answer: the whole and only right answer.
        name: of the thing that it is about, where it is one.
    """

    kind: str
    prompt: str
    answer: str
    name: str | None = None


def pick(rng: Rng, options: Sequence[str]) -> str:
    """One of several texts."""
    return options[int(rng.integers(len(options)))]


def referring(thing: Seen, scene: Annotation, rng: Rng) -> str | None:
    """A phrase that means this thing and no other: "the purple mug", or "the mug" where there is one; None if none does."""
    told = []
    if thing.colour and scene.unique(thing.noun, thing.colour):
        told += [thing.phrase] * 3
    if scene.unique(thing.noun):
        told.append(f"the {thing.noun}")
    return pick(rng, told) if told else None


def _one(scene: Annotation, rng: Rng) -> tuple[Seen, str] | None:
    """A thing that can be meant, and the phrase that means it."""
    for k in rng.permutation(len(scene.seen)):
        phrase = referring(scene.seen[k], scene, rng)
        if phrase is not None:
            return scene.seen[k], phrase
    return None


def _pair(scene: Annotation, rng: Rng, fits: Callable[[Seen, Seen], bool]) -> tuple[Seen, Seen, str, str] | None:
    """Two things that can be meant and fit, in a random order."""
    for i in rng.permutation(len(scene.seen)):
        for j in rng.permutation(len(scene.seen)):
            a, b = scene.seen[i], scene.seen[j]
            if i == j or not fits(a, b):
                continue
            first, second = referring(a, scene, rng), referring(b, scene, rng)
            if first is not None and second is not None:
                return a, b, first, second
    return None


def box_json(thing: Seen) -> str:
    """Qwen's JSON for a box, whole pixels."""
    return json.dumps([{"bbox_2d": [round(v) for v in thing.box], "label": thing.phrase.removeprefix("the ")}])


def point_json(thing: Seen) -> str:
    """Qwen's JSON for a point, whole pixels."""
    return json.dumps([{"point_2d": [round(v) for v in thing.point], "label": thing.phrase.removeprefix("the ")}])


def box(scene: Annotation, rng: Rng) -> Question | None:
    """Where is it? A box."""
    if (found := _one(scene, rng)) is None:
        return None
    thing, phrase = found
    prompt = pick(rng, (f"Give the bounding box of {phrase}.", f"Box {phrase}.", f"Where is {phrase}? Answer with a box."))
    return Question("box", prompt, box_json(thing), thing.name)


def point(scene: Annotation, rng: Rng) -> Question | None:
    """Where is it? A point on it."""
    if (found := _one(scene, rng)) is None:
        return None
    thing, phrase = found
    prompt = pick(rng, (f"Point to {phrase}.", f"Point at {phrase}.", f"Where is {phrase}? Answer with a point."))
    return Question("point", prompt, point_json(thing), thing.name)


def colour(scene: Annotation, rng: Rng) -> Question | None:
    """What colour is it?"""
    for k in rng.permutation(len(scene.seen)):
        thing = scene.seen[k]
        if thing.colour and scene.unique(thing.noun):
            prompt = pick(rng, (f"What colour is the {thing.noun}?", f"Which colour does the {thing.noun} have?"))
            return Question("colour", prompt, thing.colour, thing.name)
    return None


def noun(scene: Annotation, rng: Rng) -> Question | None:
    """What is the thing of this colour?"""
    for k in rng.permutation(len(scene.seen)):
        thing = scene.seen[k]
        everything = [s.colour for s in scene.seen] + [c for _, _, c in scene.faint]
        if thing.colour and everything.count(thing.colour) == 1:
            prompt = pick(rng, (f"What is the {thing.colour} thing?", f"What is the {thing.colour} object called?"))
            return Question("noun", prompt, thing.noun, thing.name)
    return None


def exists(scene: Annotation, rng: Rng) -> Question | None:
    """Is there one? What is asked for in vain is like something that is there."""
    coloured = [s for s in scene.seen if s.colour]
    if not coloured:
        return None
    thing = coloured[int(rng.integers(len(coloured)))]
    noun_, colour_, there = thing.noun, thing.colour, bool(rng.integers(2))
    if not there:
        everything = {(s.noun, s.colour) for s in scene.seen} | {(n, c) for _, n, c in scene.faint}
        others = [c for c in COLOURS if (noun_, c) not in everything]
        colour_ = pick(rng, others)
    asked = article(f"a {colour_} {noun_}")
    prompt = pick(rng, (f"Is there {asked}?", f"Can you see {asked}?", f"Does the picture show {asked}?"))
    return Question("exists", prompt, _YES_NO[there])


def count_colour(scene: Annotation, rng: Rng) -> Question | None:
    """How many things have this colour? The number is drawn first, then a colour that has it."""
    if scene.faint:
        return None
    counts = Counter(s.colour for s in scene.seen if s.colour)
    by_count: dict[int, list[str]] = {}
    for name in COLOURS:
        by_count.setdefault(counts.get(name, 0), []).append(name)
    number = sorted(by_count)[int(rng.integers(len(by_count)))]
    named = pick(rng, by_count[number])
    prompt = pick(rng, (f"How many {named} things are there?", f"Count the {named} things."))
    return Question("count_colour", prompt, str(number))


def count_things(scene: Annotation, rng: Rng) -> Question | None:
    """How many of the movable, coloured things are there?"""
    if scene.faint:
        return None
    number = sum(s.colour is not None for s in scene.seen)
    return Question("count_things", pick(rng, ("How many objects are there?", "Count the objects.")), str(number))


def left_right(scene: Annotation, rng: Rng) -> Question | None:
    """On which side of the other is it, in the picture?"""
    found = _pair(scene, rng, lambda a, b: abs(a.centre[0] - b.centre[0]) > APART * scene.width)
    if found is None:
        return None
    a, b, first, second = found
    prompt = pick(rng, (f"Is {first} left or right of {second}?", f"Is {first} to the left or to the right of {second}?"))
    return Question("left_right", prompt, "left" if a.centre[0] < b.centre[0] else "right")


def nearer(scene: Annotation, rng: Rng) -> Question | None:
    """Is it nearer to the camera than the other?"""
    found = _pair(scene, rng, lambda a, b: abs(a.depth - b.depth) > NEARER)
    if found is None:
        return None
    a, b, first, second = found
    prompt = pick(rng, (f"Is {first} nearer than {second}?", f"Is {first} in front of {second}?"))
    return Question("nearer", prompt, _YES_NO[a.depth < b.depth])


def larger(scene: Annotation, rng: Rng) -> Question | None:
    """Does it look larger than the other?"""
    found = _pair(scene, rng, lambda a, b: not LARGER > a.area / b.area > 1 / LARGER)
    if found is None:
        return None
    a, b, first, second = found
    return Question("larger", f"Does {first} look larger than {second}?", _YES_NO[a.area > b.area])


def region(scene: Annotation, rng: Rng) -> Question | None:
    """In which quarter of the picture is it?"""
    for k in rng.permutation(len(scene.seen)):
        thing = scene.seen[k]
        u, v = thing.centre[0] / scene.width - 0.5, thing.centre[1] / scene.height - 0.5
        phrase = referring(thing, scene, rng)
        if phrase is not None and min(abs(u), abs(v)) > APART:
            answer = f"{'top' if v < 0 else 'bottom'} {'left' if u < 0 else 'right'}"
            return Question("region", f"In which part of the picture is {phrase}?", answer, thing.name)
    return None


def support(scene: Annotation, rng: Rng) -> Question | None:
    """Is it in (or on) the other?"""
    there = bool(rng.integers(2))
    names = {s.name for s in scene.seen}
    true = [(a, how, b) for a, how, b in scene.supports if a in names and b in names]
    hosts = sorted({(how, b) for _, how, b in true})
    if not true:
        return None
    if there:
        a, how, b = true[int(rng.integers(len(true)))]
    else:
        how, b = hosts[int(rng.integers(len(hosts)))]
        related = {x for x, _, y in scene.supports if y == b} | {y for x, _, y in scene.supports if x == b} | {b}
        others = [s.name for s in scene.seen if s.name not in related and s.colour]
        if not others:
            return None
        a = pick(rng, others)
    first, second = referring(scene.named(a), scene, rng), referring(scene.named(b), scene, rng)
    if first is None or second is None:
        return None
    return Question("support", f"Is {first} {how} {second}?", _YES_NO[there])


def openness(scene: Annotation, rng: Rng) -> Question | None:
    """How far is it open?"""
    for name in sorted(scene.openings):
        answer = next((told for told, low, high in OPENNESS if low <= scene.openings[name] <= high), None)
        if answer is not None:
            return Question("openness", pick(rng, (f"How far is the {name} open?", f"How open is the {name}?")), answer)
    return None


def is_open(scene: Annotation, rng: Rng) -> Question | None:
    """Is it open, at least half?"""
    for name in sorted(scene.openings):
        share = scene.openings[name]
        if share <= 0.3 or share >= 0.55:
            asked, true = (("open", share >= 0.55), ("shut", share <= 0.03))[int(rng.integers(2))]
            if asked == "shut" and 0.03 < share <= 0.1:
                return None
            return Question("is_open", f"Is the {name} {asked}?", _YES_NO[true])
    return None


def holding(scene: Annotation, rng: Rng) -> Question | None:
    """Does the gripper hold something, or this?"""
    if not scene.gripper:
        return None
    if rng.integers(3) == 0:
        return Question("holding", pick(rng, ("Does the gripper hold anything?", "Is the gripper holding something?")),
                        _YES_NO[scene.held is not None])  # fmt: skip
    candidates = [s for s in scene.seen if s.colour and s.name != scene.held]
    held = next((s for s in scene.seen if s.name == scene.held), None)
    there = held is not None and (bool(rng.integers(2)) or not candidates)
    if not there and not candidates:
        return None
    asked = held if there and held is not None else candidates[int(rng.integers(len(candidates)))]
    phrase = referring(asked, scene, rng)
    if phrase is None:
        return None
    return Question("holding", pick(rng, (f"Does the gripper hold {phrase}?", f"Is the gripper holding {phrase}?")),
                    _YES_NO[there])  # fmt: skip


def held(scene: Annotation, rng: Rng) -> Question | None:
    """What does the gripper hold?"""
    thing = next((s for s in scene.seen if s.name == scene.held), None)
    if not scene.gripper or (scene.held is not None and thing is None):
        return None
    answer = thing.phrase.removeprefix("the ") if thing else "nothing"
    return Question("held", pick(rng, ("What does the gripper hold?", "What is in the gripper?")), answer)


def gaze(scene: Annotation, rng: Rng) -> Question | None:
    """What does the eye look at?"""
    if not scene.is_eye:
        return None
    thing = next((s for s in scene.seen if s.name == scene.gaze), None)
    if scene.gaze is not None and thing is None:
        return None
    answer = thing.phrase.removeprefix("the ") if thing else "nothing"
    return Question("gaze", pick(rng, ("What is in the middle of the picture?", "What does the eye look at?")), answer)


def verify(scene: Annotation, rng: Rng) -> Question | None:
    """Is this statement true? The false ones have one error."""
    told = true_facts(scene, rng, 1)
    if not told:
        return None
    true, text = bool(rng.integers(2)), write(told)
    if not true:
        wrong = [c for error in ERRORS if (c := corrupt(told, scene, rng, error)) is not None]
        if not wrong:
            return None
        text = wrong[int(rng.integers(len(wrong)))].text
    return Question("verify", f"Is this true? {text}", _YES_NO[true])


def success(scene: Annotation, rng: Rng) -> Question | None:
    """Has this been done? What has not been done has nearly been, or to another thing."""
    found = [_opened(scene), _picked(scene, rng), _put(scene, rng), _looked(scene, rng)]
    asked = [one for one in found if one is not None]
    if not asked:
        return None
    task, done = asked[int(rng.integers(len(asked)))]
    return Question("success", f"Is this done: {task}?", _YES_NO[done])


def _opened(scene: Annotation) -> tuple[str, bool] | None:
    for name, share in sorted(scene.openings.items()):
        if share >= 0.8 or share <= 0.62:
            return f"open the {name} wide", share >= 0.8
    return None


def _picked(scene: Annotation, rng: Rng) -> tuple[str, bool] | None:
    asked = holding(scene, rng)
    if asked is None or "the gripper hold the" not in asked.prompt:
        return None
    return f"pick up {asked.prompt.split('hold ', 1)[1].rstrip('?')}", asked.answer == "yes"


def _put(scene: Annotation, rng: Rng) -> tuple[str, bool] | None:
    asked = support(scene, rng)
    if asked is None:
        return None
    return f"put {asked.prompt.removeprefix('Is ').rstrip('?')}", asked.answer == "yes"


def _looked(scene: Annotation, rng: Rng) -> tuple[str, bool] | None:
    if not scene.is_eye or not scene.seen:
        return None
    there = bool(rng.integers(2))
    for k in rng.permutation(len(scene.seen)):
        thing, phrase = scene.seen[k], referring(scene.seen[k], scene, rng)
        if phrase is not None and (thing.name == scene.gaze) == there:
            return f"look at {phrase}", there
    return None


def describe(scene: Annotation, rng: Rng) -> Question | None:
    """A caption: what there is from left to right, how far the door is open, what is held. One picture has one."""
    coloured = sorted((s for s in scene.seen if s.colour), key=lambda s: s.centre[0])
    if not coloured:
        return None
    told = [f"From left to right: {phrases(coloured)}."]
    for name, share in sorted(scene.openings.items()):
        word = next((told for told, low, high in OPENNESS if low <= share <= high), None)
        if word is not None:
            told.append(f"The {name} is {word}.")
    holder = next((s for s in coloured if s.name == scene.held), None)
    if holder is not None and scene.gripper:
        told.append(f"The gripper holds {holder.phrase}.")
    return Question("describe", pick(rng, ("Describe the picture.", "What is to be seen?")), " ".join(told))


KINDS: dict[str, Callable[[Annotation, Rng], Question | None]] = {
    f.__name__: f
    for f in (
        box, point, colour, noun, exists, count_colour, count_things, left_right, nearer, larger, region, support, openness,
        is_open, holding, held, gaze, verify, success, describe,
    )
}  # fmt: skip


def ask(scene: Annotation, rng: Rng, kinds: Sequence[str] | None = None) -> list[Question]:
    """One question of each kind that the picture answers.

    Args:
        scene: what is to be seen.
        rng: which things, which words.
        kinds: of `KINDS`; None asks all.

    Raises:
        UnknownNameError: no such kind.
    """
    asked = []
    for kind in KINDS if kinds is None else kinds:
        if kind not in KINDS:
            raise UnknownNameError("kind of question", kind, KINDS)
        question = KINDS[kind](scene, rng)
        if question is not None:
            asked.append(question)
    return asked
