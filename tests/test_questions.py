"""Questions have the one right answer, claims are checked exactly, and one wrong word makes a caption false."""

from __future__ import annotations

import json
from collections import Counter, defaultdict

import numpy as np
import pytest

from assets.errors import InvalidValueError, UnknownNameError
from perception import claims
from perception.annotation import Annotation, Seen, box_iou
from perception.claims import ERRORS, Fact, caption, check, corrupt, facts, holds, parse, write
from perception.questions import KINDS, OPENNESS, ask
from perception.text import COLOURS

NOUNS = ("mug", "cube", "kettle", "apple", "bucket", "e-stop button", "wooden block")


def thing(name: str, noun: str, colour: str, u: float = 20, v: float = 20, side: float = 10, depth: float = 1.0) -> Seen:
    half = side / 2
    return Seen(name, noun, colour, (u - half, v - half, u + half, v + half), (u, v), int(side**2), depth, (0, 0, depth))


def table() -> Annotation:
    return Annotation(
        128,
        128,
        (
            thing("mug", "mug", "purple", 30, 40, 12, 0.8),
            thing("cube_red", "cube", "red", 90, 40, 24, 0.6),
            thing("cube_blue", "cube", "blue", 90, 100, 12, 0.9),
            Seen("cabinet", "door", None, (0, 0, 20, 100), (10, 50), 2000, 1.4, (0, 0, 0)),
        ),
        openings={"door": 0.2},
        held="mug",
        gripper=True,
        supports=(("cube_blue", "on", "cube_red"),),
    )


def scene(rng: np.random.Generator) -> Annotation:
    """A random picture."""
    count = int(rng.integers(1, 7))
    seen = tuple(
        thing(f"t{k}", NOUNS[rng.integers(len(NOUNS))], list(COLOURS)[rng.integers(len(COLOURS))],
              *rng.uniform(10, 118, 2), rng.uniform(5, 30), rng.uniform(0.5, 2))
        for k in range(count)
    )  # fmt: skip
    supports = (("t0", ("in", "on")[rng.integers(2)], "t1"),) if count > 1 and rng.random() < 0.5 else ()
    held = f"t{count - 1}" if rng.random() < 0.5 else None
    door = {"door": float(rng.random())} if rng.random() < 0.5 else {}
    faint = (("far", "towel", "pink"),) if rng.random() < 0.2 else ()
    return Annotation(128, 128, seen, faint, door, held, bool(rng.random() < 0.6), supports)


def test_answers_are_known_by_hand() -> None:
    picture = table()
    answers: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
    for seed in range(300):
        for question in ask(picture, np.random.default_rng(seed)):
            answers[question.kind].add((question.prompt, question.answer))
    assert {a for _, a in answers["colour"]} == {"purple"}  # of a cube nobody asks: there are two
    assert ("What is the red thing?", "cube") in answers["noun"]
    assert ("How many red things are there?", "1") in answers["count_colour"]
    assert {a for _, a in answers["count_things"]} == {"3"}
    assert ("Is the mug left or right of the red cube?", "left") in answers["left_right"]
    assert ("Is the red cube left or right of the mug?", "right") in answers["left_right"]
    assert ("Is the red cube nearer than the mug?", "yes") in answers["nearer"]
    assert ("Does the mug look larger than the red cube?", "no") in answers["larger"]
    assert ("In which part of the picture is the blue cube?", "bottom right") in answers["region"]
    assert ("Is the blue cube on the red cube?", "yes") in answers["support"]
    assert ("How far is the door open?", "ajar") in answers["openness"]
    assert ("Is the door open?", "no") in answers["is_open"]
    assert ("Does the gripper hold the purple mug?", "yes") in answers["holding"]
    assert {a for _, a in answers["held"]} == {"purple mug"}
    assert ("Is this done: pick up the red cube?", "no") in answers["success"]
    assert {a for _, a in answers["describe"]} == {
        "From left to right: the purple mug, the red cube and the blue cube. The door is ajar. "
        "The gripper holds the purple mug."
    }
    assert not answers["gaze"]
    boxes = {p: json.loads(a)[0]["bbox_2d"] for p, a in answers["box"]}
    assert boxes["Box the red cube."] == [78, 28, 102, 52]


def test_there_are_many_kinds_with_many_words() -> None:
    assert len(KINDS) >= 12
    prompts = defaultdict(set)
    for seed in range(200):
        for question in ask(scene(np.random.default_rng(seed)), np.random.default_rng(seed)):
            prompts[question.kind].add(question.prompt.split()[0])
    assert all(len(prompts[kind]) >= 2 for kind in ("box", "point", "exists", "count_colour", "describe"))


def test_who_does_not_look_learns_nothing_from_yes_and_no() -> None:
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for seed in range(1500):
        rng = np.random.default_rng(seed)
        for question in ask(scene(rng), rng):
            counts[question.kind][question.answer] += 1
    for kind in ("exists", "left_right", "nearer", "larger", "verify"):
        (_, most), *_ = counts[kind].most_common(1)
        assert most / counts[kind].total() < 0.56, (kind, counts[kind])


def test_what_two_things_share_is_not_asked() -> None:
    twins = Annotation(128, 128, (thing("a", "cube", "red", 20), thing("b", "cube", "red", 80)))
    for seed in range(50):
        kinds = {q.kind for q in ask(twins, np.random.default_rng(seed))}
        assert not kinds & {"box", "point", "colour", "noun", "left_right"}
        assert {"count_colour", "exists"} <= kinds


def test_nobody_is_asked_to_count_what_can_hardly_be_seen() -> None:
    dim = Annotation(128, 128, (thing("a", "cube", "red"),), faint=(("b", "mug", "blue"),))
    kinds = {q.kind for seed in range(20) for q in ask(dim, np.random.default_rng(seed))}
    assert "count_things" not in kinds
    assert "count_colour" not in kinds
    assert "colour" in kinds


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match=r"'colours'.*did you mean 'colour'"):
        ask(table(), np.random.default_rng(0), ["colours"])
    with pytest.raises(UnknownNameError, match="unknown error 'atribute'"):
        corrupt([], table(), np.random.default_rng(0), "atribute")
    with pytest.raises(UnknownNameError, match="unknown visible thing 'mugg'"):
        table().named("mugg")
    with pytest.raises(InvalidValueError, match="names in an annotation are unique"):
        Annotation(8, 8, (thing("a", "cube", "red"), thing("a", "mug", "red")))


def test_a_thousand_true_captions_hold_and_a_thousand_corrupted_ones_do_not() -> None:
    done: Counter[str] = Counter()
    seed = 0
    while min(done[e] for e in ERRORS) < 200:
        rng = np.random.default_rng(seed)
        seed += 1
        picture = scene(rng)
        told = caption(picture, rng, 4)
        if not told:
            continue
        text = write(told)
        assert check(text, picture), text
        for error in ERRORS:
            wrong = corrupt(told, picture, rng, error)
            if wrong is None:
                continue
            assert not check(wrong.text, picture), (text, wrong)
            before, after = ([f"{part}." for part in t.split(".") if part.strip()] for t in (text, wrong.text))
            assert [a != b for a, b in zip(before, after, strict=True)].count(True) == 1
            start, end = wrong.span
            assert end > start
            assert wrong.text[start:] != text[start:]
            assert wrong.text[:start].count(".") == [a != b for a, b in zip(before, after, strict=True)].index(True)
            done[wrong.error] += 1
    assert done.total() >= 1000


def test_sentences_come_back() -> None:
    for seed in range(200):
        picture = scene(np.random.default_rng(seed))
        for fact in facts(picture):
            assert parse(fact.text) == fact
            assert holds(fact, picture)


@pytest.mark.parametrize("text", ["", "The mug sings.", "__import__('os').system('true')", "There is a mug."])
def test_what_states_no_fact_is_refused(text: str) -> None:
    with pytest.raises(InvalidValueError, match=r"states no fact that can be checked|claims nothing"):
        check(text, table())


def test_missing_things_make_claims_false() -> None:
    assert not check("The green mug is left of the red cube.", table())
    assert not check("There is a green kettle.", table())
    assert not holds(Fact("state", ("drawer", "ajar")), table())
    assert check("There are no green things. The purple mug is left of the red cube.", table())


def test_json_and_back() -> None:
    for seed in range(30):
        picture = scene(np.random.default_rng(seed))
        assert Annotation.from_json(json.loads(json.dumps(picture.to_json()))) == picture


def test_overlap_of_boxes() -> None:
    a = np.array([[0, 0, 10, 10], [5, 5, 5, 9]], float)
    b = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [20, 20, 30, 30]], float)
    np.testing.assert_allclose(box_iou(a, b), [[1, 1 / 3, 0], [0, 0, 0]])


def test_openness_has_gaps() -> None:
    ends = [edge for _, low, high in OPENNESS for edge in (low, high)]
    assert ends == sorted(ends)
    assert claims.NUMBERS.index("twelve") == 12
