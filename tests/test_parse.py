"""Every dialect is read back as it was written, and nothing that a model may say makes the parser fail."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.errors import InvalidValueError, UnknownNameError
from perception.vlm.base import Detections
from perception.vlm.parse import DIALECTS, final_answer, parse

# Steps from one side of the image to the other, as the formatters below write them; None is one step per pixel that was seen.
GRIDS: dict[str, int | None] = {
    "qwen_absolute": None,
    "qwen_relative": 1000,
    "internvl": 1000,
    "paligemma": 1023,
    "florence": 999,
    "molmo": 1000,  # per cent with one decimal
    "moondream": 1000,  # three decimals
    "tuples": None,
}


def qwen(steps: Sequence[int], label: str) -> str:
    return json.dumps({"bbox_2d" if len(steps) == 4 else "point_2d": list(steps), "label": label})


def internvl(steps: Sequence[int], label: str) -> str:
    return f"<ref>{label}</ref><box>[{list(steps)}]</box>"


def paligemma(steps: Sequence[int], label: str) -> str:
    x1, y1, x2, y2 = steps
    return f"<loc{y1:04d}><loc{x1:04d}><loc{y2:04d}><loc{x2:04d}> {label}"


def florence(steps: Sequence[int], label: str) -> str:
    return label + "".join(f"<loc_{step}>" for step in steps)


def molmo(steps: Sequence[int], label: str) -> str:
    return f'<point x="{steps[0] / 10:.1f}" y="{steps[1] / 10:.1f}" alt="{label}">{label}</point>'


def moondream(steps: Sequence[int], label: str) -> str:
    keys = ("x_min", "y_min", "x_max", "y_max") if len(steps) == 4 else ("x", "y")
    return json.dumps({key: step / 1000 for key, step in zip(keys, steps, strict=True)} | {"label": label})


def tuples(steps: Sequence[int], label: str) -> str:
    return f"({', '.join(map(str, steps))})"


Writer = Callable[[Sequence[int], str], str]
BOXES: dict[str, Writer] = {
    "qwen_absolute": qwen,
    "qwen_relative": qwen,
    "internvl": internvl,
    "paligemma": paligemma,
    "florence": florence,
    "moondream": moondream,
    "tuples": tuples,
}
POINTS: dict[str, Writer] = {
    "qwen_absolute": qwen,
    "qwen_relative": qwen,
    "molmo": molmo,
    "moondream": moondream,
    "tuples": tuples,
}

SIDE = st.integers(8, 4000)
SIZE = st.tuples(SIDE, SIDE)
PART = st.tuples(st.floats(0, 1), st.floats(0, 1))


def grid(dialect: str, size: tuple[int, int], seen: tuple[int, int]) -> np.ndarray:
    if dialect == "qwen_absolute":
        return np.array(seen)
    return np.array(GRIDS[dialect] or size)


def check_close(found: np.ndarray, meant: np.ndarray, size: tuple[int, int], steps: np.ndarray) -> None:
    """Within 1 pixel of the original or one step of the dialect, whichever is larger; 1 pixel where the steps are finer.

    Rounding to the nearest step even keeps it within half a step, plus what float32 loses.
    """
    step = np.array(size) / steps
    error = np.abs(found - meant)
    assert (error <= np.maximum(1, step)).all()
    assert (error[..., np.array(size) <= steps] <= 1).all()
    assert (error <= step / 2 + 1e-3).all()


@pytest.mark.parametrize("dialect", BOXES)
@settings(deadline=None)
@given(size=SIZE, seen=SIZE, one=PART, other=PART)
def test_a_box_comes_back(dialect: str, size: tuple[int, int], seen: tuple[int, int], one, other) -> None:
    corners = np.sort([one, other], axis=0) * size
    steps = grid(dialect, size, seen)
    text = BOXES[dialect](np.rint(corners / size * steps).astype(int).ravel().tolist(), "red mug")
    found = parse(text, dialect, *size, resized=seen)
    assert found.labels == ("" if dialect == "tuples" else "red mug",)
    check_close(found.boxes.reshape(2, 2), corners, size, steps)
    np.testing.assert_allclose(
        found.points[0], np.minimum(found.boxes.reshape(2, 2).mean(axis=0), np.array(size) - 1), atol=1e-3
    )


@pytest.mark.parametrize("dialect", POINTS)
@settings(deadline=None)
@given(size=SIZE, seen=SIZE, part=PART)
def test_a_point_comes_back(dialect: str, size: tuple[int, int], seen: tuple[int, int], part) -> None:
    point = np.array(part) * (np.array(size) - 1)
    steps = grid(dialect, size, seen)
    text = POINTS[dialect](np.rint(point / size * steps).astype(int).tolist(), "red mug")
    found = parse(text, dialect, *size, resized=seen)
    assert found.labels == ("" if dialect == "tuples" else "red mug",)
    assert np.isnan(found.boxes).all()
    check_close(found.points[0], point, size, steps)


def test_every_dialect_is_written_above() -> None:
    assert set(BOXES) | set(POINTS) == set(DIALECTS) == set(GRIDS)


@pytest.mark.parametrize("dialect", sorted({*BOXES} - {"tuples"}))
def test_many_boxes_keep_their_order_and_their_labels(dialect: str) -> None:
    between = {"paligemma": " ; ", "florence": ""}.get(dialect, ", ")
    text = between.join(BOXES[dialect]([k, 2 * k, 3 * k, 4 * k], f"thing {k}") for k in range(1, 20))
    steps = int(grid(dialect, (1000, 1000), (1000, 1000)).max())
    found = parse(text, dialect, steps, steps)
    scale = steps / 1000 if dialect == "moondream" else 1
    assert found.labels == tuple(f"thing {k}" for k in range(1, 20))
    np.testing.assert_allclose(found.boxes, [[k * scale * m for m in (1, 2, 3, 4)] for k in range(1, 20)], rtol=1e-5)


BOX = [10.0, 20.0, 30.0, 40.0]
MUG = [("red mug", BOX)]
MALFORMED = {
    "fence": ('```json\n[\n\t{"bbox_2d": [10, 20, 30, 40], "label": "red mug"}\n]\n```', MUG),
    "prose": ('Sure! {"bbox_2d": [10, 20, 30, 40], "label": "red mug"} is what you asked for.', MUG),
    "single quotes": ("[{'bbox_2d': [10, 20, 30, 40], 'label': 'red mug'}]", MUG),
    "no quotes": ("{bbox_2d: [10, 20, 30, 40], label: red mug}", MUG),
    "trailing commas": ('[{"bbox_2d": [10, 20, 30, 40,], "label": "red mug",},]', MUG),
    "no closing brackets": ('[{"bbox_2d": [10, 20, 30, 40, "label": "red mug"', MUG),
    "no brackets": ('"bbox_2d": 10, 20, 30, 40, "label": "red mug"', MUG),
    "too many brackets": ('{"bbox_2d": [[10, 20, 30, 40]], "label": "red mug"}', MUG),
    "two corners": ('{"bbox_2d": [[10, 20], [30, 40]], "label": "red mug"}', MUG),
    "parentheses": ('{"bbox_2d": (10, 20, 30, 40), "label": "red mug"}', MUG),
    "no commas": ('{"bbox_2d": [10 20 30 40] "label": "red mug"}', MUG),
    "numbers as texts": ('{"bbox_2d": ["10", "20.0", \'3e1\', "+40."], "label": "red mug"}', MUG),
    "a list as text": ('{"bbox_2d": "[10, 20, 30, 40]", "label": "red mug"}', MUG),
    "JSON within JSON": ('"{\\"bbox_2d\\": [10, 20, 30, 40], \\"label\\": \\"red mug\\"}"', MUG),
    "other keys": ('{"bbox": [10, 20, 30, 40], "label": "red mug", "id": {"n": 7}}', MUG),
    "capitals": ('{"BBOX_2D": [10, 20, 30, 40], "Label": "red mug"}', MUG),
    "corners swapped": ('{"bbox_2d": [30, 40, 10, 20], "label": "red mug"}', MUG),
    "label first": ('{"label": "red mug", "bbox_2d": [10, 20, 30, 40]}', MUG),
    "label cut off": ('{"bbox_2d": [10, 20, 30, 40], "label": "red mu', [("red mu", BOX)]),
    "label null": ('{"bbox_2d": [10, 20, 30, 40], "label": null}', [("", BOX)]),
    "label of another object": ('{"label": "cup"}, {"bbox_2d": [10, 20, 30, 40]}, {"label": "hat"}', [("", BOX)]),
    "quotes in the label": ('{"label": "the "red", big mug", "bbox_2d": [10, 20, 30, 40]}', [('the "red", big mug', BOX)]),
    "apostrophe in the label": ("{'bbox_2d': [10, 20, 30, 40], 'label': 'tom's mug'}", [("tom's mug", BOX)]),
    "braces in the label": (
        '{"label": "a {mug} [1, 2]: \\"x\\"", "bbox_2d": [10, 20, 30, 40]}',
        [('a {mug} [1, 2]: "x"', BOX)],
    ),
    "a box in the label": ('{"label": "bbox_2d: [1, 2, 3, 4]", "bbox_2d": [10, 20, 30, 40]}', [("bbox_2d: [1, 2, 3, 4]", BOX)]),
    "half a character": ('{"label": "\\ud83d mug", "bbox_2d": [10, 20, 30, 40]}', [("? mug", BOX)]),
    "several lists": (
        '[{"bbox_2d": [10, 20, 30, 40], "label": "a"}]\nand\n[{"bbox_2d": [1, 2, 3, 4], "label": "b"}]',
        [("a", BOX), ("b", [1, 2, 3, 4])],
    ),
    "several boxes in one": (
        '{"bbox_2d": [[10, 20, 30, 40], [1, 2, 3, 4]], "label": "a"}',
        [("a", BOX), ("a", [1, 2, 3, 4])],
    ),
    "braces lost, labels first": (
        '"label": "a", "bbox_2d": [10, 20, 30, 40], "label": "b", "bbox_2d": [1, 2, 3, 4]',
        [("a", BOX), ("b", [1, 2, 3, 4])],
    ),
    "braces lost, labels last": (
        '"bbox_2d": [10, 20, 30, 40], "label": "a", "bbox_2d": [1, 2, 3, 4], "label": "b"',
        [("a", BOX), ("b", [1, 2, 3, 4])],
    ),
    "the second cut off": ('[{"bbox_2d": [10, 20, 30, 40], "label": "red mug"}, {"bbox_2d": [1, 2, 3', MUG),
    "no key": ("The mug is at [10, 20, 30, 40].", [("", BOX)]),
    "key in prose": ("Bounding box: (10, 20, 30, 40)", [("", BOX)]),
    "nothing but numbers": ("10, 20, 30, 40", [("", BOX)]),
    "a bracket missing": ("10, 20, 30, 40]", [("", BOX)]),
    "a thought before": ('<think>[1, 2, 3, 4]</think><answer>{"bbox_2d": [10, 20, 30, 40], "label": "red mug"}</answer>', MUG),
    "too few numbers": ('{"bbox_2d": [10, 20, 30], "label": "red mug"}', []),
    "too many numbers": ('{"bbox_2d": [10, 20, 30, 40, 50], "label": "red mug"}', []),
    "no numbers": ('{"bbox_2d": [null, 20, 30, 40], "label": "red mug"}', []),
    "infinite": ('{"bbox_2d": [10, 20, 30, 1e999], "label": "red mug"}', []),
    "half a box": ("[10, 20", []),
    "numbers in prose": ("I see 2 cups, 3 plates and 1 hat, in 2024.", []),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_answers(case: str) -> None:
    text, expected = MALFORMED[case]
    found = parse(text, "qwen_absolute", 1000, 500)
    assert list(zip(found.labels, found.boxes.tolist(), strict=True)) == expected


NAN = [np.nan] * 4
GOLDEN = {
    "several boxes of one": (
        "internvl",
        "<ref>cat</ref><box>[[10, 20, 30, 40], [1, 2, 3, 4]]</box>, <ref>dog</ref> <box>[[5, 6, 7, 8",
        [("cat", BOX, [20, 30]), ("cat", [1, 2, 3, 4], [2, 3]), ("dog", [5, 6, 7, 8], [6, 7])],
    ),
    "label behind": ("internvl", "<box>10, 20, 30, 40</box><ref>cat</ref>", [("cat", BOX, [20, 30])]),
    "no tag": ("internvl", "the cat[[10, 20, 30, 40]] (5, 6)", [("", BOX, [20, 30])]),
    "mask tokens": (
        "paligemma",
        "<loc0020><loc0010><loc0040><loc0030><seg001><seg127> cat ; <loc0002><loc0001><loc0004><loc0003> dog ; <loc0007><loc00",
        [("cat", BOX, [20, 30]), ("dog", [1, 2, 3, 4], [2, 3])],
    ),
    "label before": ("paligemma", "cat <loc0020><loc0010><loc0040><loc0030>", [("cat", BOX, [20, 30])]),
    "lost bracket": ("paligemma", "<loc0020<loc0010><loc0040<loc0030> cat<eos>", [("cat", BOX, [20, 30])]),
    "two of a kind": (
        "florence",
        "</s><s>cat<loc_10><loc_20><loc_30><loc_40><loc_1><loc_2><loc_3><loc_4>dog<loc_5><loc_6><loc_7><loc_8></s>",
        [("cat", BOX, [20, 30]), ("cat", [1, 2, 3, 4], [2, 3]), ("dog", [5, 6, 7, 8], [6, 7])],
    ),
    "caption behind": ("florence", "<s><loc_10><loc_20><loc_30><loc_40>a cat", [("a cat", BOX, [20, 30])]),
    "three tokens": ("florence", "cat<loc_10><loc_20><loc_30>", []),
    "points": (
        "molmo",
        '<points x1="1.0" y1=\'2\' x2=3 y2="40" x3="5" alt=\'the "red" cups\'>cups</points> and <point x="5" y="6">a hat',
        [('the "red" cups', NAN, [10, 20]), ('the "red" cups', NAN, [30, 400]), ("a hat", NAN, [50, 60])],
    ),
    "quotes in alt": (
        "molmo",
        '<point alt="the "red" cup" y="2" x="1">the "red" cup</point>',
        [('the "red" cup', NAN, [10, 20])],
    ),
    "cut off": ("molmo", '<point x="1.0" y="2.0" alt="a cu', [("a cu", NAN, [10, 20])]),
    "no y": ("molmo", '<point x="1.0" alt="a cup">', []),
    "objects": (
        "moondream",
        "{'objects': [{'x_min': '0.01', 'y_min': .02, 'x_max': 3e-2, 'y_max': 0.04}, {'x_min': 0.1, 'y_min': 0.2, 'x_max': 0.",
        [("", BOX, [20, 30])],
    ),
    "points and no braces": (
        "moondream",
        '"x": 0.1, "y": 0.2, "x": 0.3, "y": 0.4',
        [("", NAN, [100, 200]), ("", NAN, [300, 400])],
    ),
    "point and box in one": (
        "qwen_relative",
        '[{"bbox_2d": [10, 20, 30, 40], "point_2d": [11, 22], "label": "a"}, {"point_2d": ["5", "6",]}]',
        [("a", BOX, [11, 22]), ("", NAN, [5, 6])],
    ),
    "list of points": ("tuples", "[(1, 2), (3.5, 4)] (5,", [("", NAN, [1, 2]), ("", NAN, [3.5, 4])]),
    "list of boxes": ("tuples", "[[10, 20, 30, 40], (1; 2; 3; 4)]", [("", BOX, [20, 30]), ("", [1, 2, 3, 4], [2, 3])]),
    "beyond the image": ("tuples", "(-5, 20, 30, 1e6) (-5, 1e6)", [("", [0, 20, 30, 1000], [15, 510]), ("", NAN, [0, 999])]),
    "behind the last pixel": ("tuples", "(1000, 0, 1000, 10)", [("", [1000, 0, 1000, 10], [999, 5])]),
}


@pytest.mark.parametrize("case", GOLDEN)
def test_golden_answers(case: str) -> None:
    dialect, text, expected = GOLDEN[case]
    # As many pixels as the dialect has steps, so that the numbers stay.
    side = GRIDS[dialect] or 1000
    found = parse(text, dialect, side, side)
    assert found.labels == tuple(label for label, _, _ in expected)
    np.testing.assert_allclose(found.boxes, np.reshape([box for _, box, _ in expected], (-1, 4)), rtol=1e-5)
    np.testing.assert_allclose(found.points, np.reshape([point for _, _, point in expected], (-1, 2)), rtol=1e-5)


@pytest.mark.parametrize(("said", "score"), [("0.25", 0.25), ('"0.25"', 0.25), ("7", 1), ("-1", 0), ("high", 1)])
def test_scores_are_read_where_they_are_stated(said: str, score: float) -> None:
    found = parse(f'{{"bbox_2d": [1, 2, 3, 4], "score": {said}}}, {{"bbox_2d": [1, 2, 3, 4]}}', "qwen_absolute", 10, 10)
    assert found.scores.tolist() == [score, 1]


@settings(deadline=None)
@given(label=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<"), max_size=40), first=st.booleans())
def test_any_label_comes_back_from_json(label: str, first: bool) -> None:
    place = {"bbox_2d": [1, 2, 3, 4]}
    said = {"label": label} | place if first else place | {"label": label}
    for text in (json.dumps([said]), json.dumps([said], ensure_ascii=False), json.dumps(said, indent=2)):
        assert parse(text, "qwen_absolute", 10, 10).labels == (label.strip(),)


@given(label=st.text("ab1 \"'\\,:{}[]", max_size=20))
def test_any_label_comes_back_from_pythons_notation(label: str) -> None:
    assert parse(repr([{"label": label, "bbox_2d": (1, 2, 3, 4)}]), "qwen_absolute", 10, 10).labels == (label.strip(),)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("a", "a"),
        ("<think>a</think> b", "b"),
        ("a</think>b", "b"),
        ("b <think>a", "b"),
        ("b <THINK>a</Think>", "b"),
        ("<think>a <answer>draft</answer></think><answer>b</answer> c", "b"),
        ("<answer>a</answer> no: <answer>b</answer>", "b"),
        ("<answer>a <answer> b", "b"),
        ("<think>a <answer>b</answer>", "b"),
        ("<answer>b</answer><think>a</think>", "b"),
        ("<answer></answer> a", ""),
    ],
)
def test_the_final_answer(text: str, answer: str) -> None:
    assert final_answer(text) == answer


def test_what_comes_after_a_long_thought_is_read() -> None:
    assert len(parse("<think>" + "so " * 100_000 + "</think>(1, 2, 3, 4)", "tuples", 10, 10)) == 1


SYNTAX = r"""
{ } [ ] ( ) , ; : = ' " \ \" \u < > / - + . .. e E 0 1 7 12.5 -3 1e3 1e999 999999999999 0.5 "0.5" nan null
"bbox_2d": 'bbox_2d': bbox_2d= "point_2d": "label": 'label': label: "score": "x_min": "y_min": "x_max": "y_max": "x": "y":
[10,20,30,40] [[1,2,3,4]] (5,6) 1,2,3,4 "red "mug" {"bbox_2d":[1,2,3,4],"label":"a"} {"x":0.5,"y":0.25} ```json ```
<think> </think> <answer> </answer> <ref> </ref> <box> </box> <box>[[1,2,3,4]]</box> <s> </s> __import__('os')
<loc0001> <loc1023> <loc00 <loc_1> <loc_999> <loc_ <loc_5 <loc0001><loc0002><loc0003><loc0004> <loc_1><loc_2><loc_3><loc_4>
<point <points </point> x=" y=" x1= y1= alt="
"""
PIECES = [*SYNTAX.split(), " ", "\n", "\t", "\0", "\xa0", "\u2028", "\u0661", "\ud800", '<point x="1" y="2" alt="a">']


def fuzzed(rng: random.Random) -> str:
    """Pieces of every dialect, some characters of any kind, cut off somewhere."""
    parts = []
    for _ in range(rng.randint(1, 25)):
        kind = rng.random()
        if kind < 0.85:
            parts.append(rng.choice(PIECES))
        elif kind < 0.95:
            parts.append(" ")
        else:
            parts.append("".join(chr(rng.randrange(0x110000)) for _ in range(3)))
    text = "".join(parts)
    return text[: rng.randint(1, len(text))] if rng.random() < 0.3 else text


def check_consistent(found: Detections, width: int, height: int) -> None:
    n = len(found.labels)
    assert n <= 256
    assert found.boxes.shape == (n, 4)
    assert found.points.shape == (n, 2)
    assert found.scores.shape == (n,)
    assert found.boxes.dtype == found.points.dtype == found.scores.dtype == np.float32
    assert ((found.points >= 0) & (found.points <= [width - 1, height - 1])).all()
    assert ((found.scores >= 0) & (found.scores <= 1)).all()
    boxes = found.boxes[~np.isnan(found.boxes).all(axis=1)]
    assert ((boxes >= 0) & (boxes <= [width, height, width, height])).all()
    assert (boxes[:, :2] <= boxes[:, 2:]).all()
    for label in found.labels:
        label.encode()


@pytest.mark.parametrize("dialect", DIALECTS)
def test_ten_thousand_strange_answers(dialect: str) -> None:
    rng, some = random.Random(0), 0
    for _ in range(10_000):
        text, width, height = fuzzed(rng), rng.randint(1, 4000), rng.randint(1, 4000)
        found = parse(text, dialect, width, height, resized=(rng.randint(1, 2000), rng.randint(1, 2000)))
        check_consistent(found, width, height)
        some += len(found) > 0
    assert some > 100  # else the strings would say nothing


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(deadline=None)
@given(text=st.text(st.characters(), max_size=200))
def test_any_text(dialect: str, text: str) -> None:
    check_consistent(parse(text, dialect, 7, 9), 7, 9)


LONG = [
    *(
        "<think>",
        "<think></think>",
        "</think>",
        "<answer>",
        "<ref>",
        "<box>",
        "<box>[1,2,3,4]",
        "<loc0001",
        "<loc_1>",
        "<loc_1>a",
    ),
    *(
        "<point ",
        '<point x="1" y="1" alt="',
        "x1=",
        "x ",
        "(",
        "[[",
        "{",
        "}{",
        "1",
        "1 ",
        "1.",
        "1e",
        "-1,",
        " ",
        "\n",
        '"',
        "\\",
        "a",
    ),
    *(
        '"label": "',
        'label:""',
        'label:"" b',
        "label:'\\",
        '"bbox_2d": [1, ',
        '"bbox_2d": [1, 2, 3, 4], ',
        '"x": 1, ',
        "(1, 2) ",
        "; <",
    ),
]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_long_answers_take_no_time(dialect: str) -> None:
    for piece in LONG:
        text = (piece * 100_000)[:100_000]
        before = time.process_time()
        check_consistent(parse(text, dialect, 640, 480), 640, 480)
        # Most take hundredths of a second; going back over the text takes minutes.
        assert time.process_time() - before < 3, piece


def test_a_loop_is_cut() -> None:
    assert len(parse("(1, 2, 3, 4) " * 5000, "tuples", 10, 10)) == 256
    assert len(parse('{"bbox_2d": [1, 2, 3, 4]}, ' * 2000, "qwen_absolute", 10, 10)) == 256


@pytest.mark.parametrize("dialect", DIALECTS)
def test_nothing_is_executed(dialect: str, tmp_path: Path) -> None:
    trace = tmp_path / "executed"
    code = f"__import__('pathlib').Path({str(trace)!r}).touch()"
    wrapped = [
        code,
        f"({code}, 2, 3, 4)",
        f'{{"bbox_2d": [{code}, 2, 3, 4]}}',
        f"<box>[[{code}]]</box>",
        f'<point x="{code}" y="1">',
    ]
    for text in wrapped:
        assert len(parse(text, dialect, 100, 100)) == 0
    assert parse(f'{{"label": "{code}", "bbox_2d": [1, 2, 3, 4]}}', "qwen_absolute", 10, 10).labels == (code,)
    assert not trace.exists()


def test_an_unknown_dialect_is_told_with_its_near_miss() -> None:
    with pytest.raises(
        UnknownNameError, match=r"unknown dialect 'qwen_absolut': did you mean 'qwen_absolute'\? available: florence"
    ):
        parse("", "qwen_absolut", 10, 10)


@pytest.mark.parametrize("wrong", [(0, 10, None), (10, -1, None), (10, 10, (0, 5)), (10, 10, (5,)), (10.5, 10, None)])
def test_an_impossible_size_is_told(wrong: tuple) -> None:
    with pytest.raises(InvalidValueError, match=f"at least 1 a side, got {wrong[0]} x {wrong[1]}"):
        parse("(1, 2, 3, 4)", "qwen_absolute", *wrong)
