"""Expressions: their text is Python's, their value NumPy's, their limits hold, and every error says where."""

from __future__ import annotations

import ast
import operator
import time
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from assets.errors import InvalidValueError, SaccadeError, UnknownNameError
from rewards.expressions import MAX_COMPONENTS, MAX_DEPTH, MAX_LENGTH, Node, parse
from rewards.operations import FUNCTIONS

RNG = np.random.default_rng(0)
QUANTITIES = {
    "x": RNG.normal(size=5),
    "y": np.array([-2.0, -0.5, 0.0, 0.5, 3.0]),
    "tip": RNG.normal(size=(5, 3)),
    "goal": RNG.normal(size=(5, 3)),
    "held": np.array([True, False, True, True, False]),
    "boxes": RNG.normal(size=(5, 2, 3)),
}

# -- random expressions, of which `vector` says whether they have three components --------------------------------------

NUMBERS = st.floats(0, 1e3).map(lambda v: Node("number", (), float(v)))


def of(op: str, *args: st.SearchStrategy[Node], value: Any = None) -> st.SearchStrategy[Node]:
    values = value if isinstance(value, st.SearchStrategy) else st.just(value)
    return st.tuples(values, *args).map(lambda drawn: Node(op, drawn[1:], drawn[0]))


def grown(depth: int, vector: bool) -> st.SearchStrategy[Node]:
    """Expressions of at most so many levels, which give one number per row or three."""
    names = ["tip", "goal"] if vector else ["x", "y", "held"]
    leaf = st.sampled_from(names).map(lambda name: Node("name", (), name))
    if depth == 1:
        return leaf if vector else leaf | NUMBERS
    same, one, three = grown(depth - 1, vector), grown(depth - 1, False), grown(depth - 1, True)
    choices = [leaf, *(of(op, same, one) for op in ("+", "-", "*", "/", "and", "or", "<", ">=", "==", "!=", "min", "max"))]
    choices += [*(of(op, same) for op in ("neg", "not", "abs", "tanh", "sqrt", "exp", "log"))]
    choices += [of("**", same, value=st.sampled_from([2.0, -1.0, 0.5, 3.0])), of("where", one, same, same)]
    choices += [of("clip", same, NUMBERS, NUMBERS)]
    if not vector:
        choices += [*(of(op, three) for op in ("norm", "mean", "min", "max")), of("dot", three, three)]
        choices += [of("item", three, value=st.integers(-3, 2))]
    if vector:
        choices += [of("slice", three, value=st.sampled_from([(None, None), (0, 3), (-3, None)]))]
    return st.one_of(choices)


EXPRESSIONS = grown(4, False).filter(lambda node: any(part.op == "name" for part in node.walk()))

# -- the same text, read by Python's own parser and computed by NumPy ----------------------------------------------------

SYMBOLS: dict[type, str] = {
    ast.Add: "+", ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
    ast.Eq: "==", ast.NotEq: "!=", ast.And: "and", ast.Or: "or", ast.USub: "neg", ast.Not: "not",
}  # fmt: skip


def pythons(tree: ast.AST) -> Node:
    """What Python makes of a text, as our nodes; `a and b and c` nests to the left."""
    match tree:
        case ast.Constant(value):
            return Node("number", (), float(value))
        case ast.Name(name):
            return Node("name", (), name)
        case ast.BinOp(left, ast.Pow(), right):
            return Node("**", (pythons(left),), float(ast.literal_eval(right)))
        case ast.BinOp(left, op, right):
            return Node(SYMBOLS[type(op)], (pythons(left), pythons(right)))
        case ast.Compare(left, [op], [right]):
            return Node(SYMBOLS[type(op)], (pythons(left), pythons(right)))
        case ast.BoolOp(op, [*first, last]):
            rest = first[0] if len(first) == 1 else ast.BoolOp(op, first)
            return Node(SYMBOLS[type(op)], (pythons(rest), pythons(last)))
        case ast.UnaryOp(op, operand):
            return Node(SYMBOLS[type(op)], (pythons(operand),))
        case ast.Call(ast.Name(name), args):
            return Node(name, tuple(pythons(arg) for arg in args))
        case ast.Subscript(value, ast.Slice(lower, upper)):
            ends = tuple(None if end is None else ast.literal_eval(end) for end in (lower, upper))
            return Node("slice", (pythons(value),), ends)
        case ast.Subscript(value, index):
            return Node("item", (pythons(value),), ast.literal_eval(index))
    raise AssertionError(ast.dump(tree))


NUMPYS: dict[str, Any] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": np.divide, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne, "neg": operator.neg, "abs": np.abs,
    "and": lambda a, b: (a != 0) & (b != 0), "or": lambda a, b: (a != 0) | (b != 0), "not": lambda a: a == 0,
    "tanh": np.tanh, "sqrt": np.sqrt, "exp": np.exp, "log": np.log, "norm": lambda v: np.linalg.norm(v), "mean": np.mean,
    "clip": lambda v, low, high: np.minimum(np.maximum(v, low), high), "dot": np.dot, "where": lambda c, a, b: a if c else b,
}  # fmt: skip


def numpys(node: Node, row: int) -> Any:
    """The value in one row, where no batch axis can be confused with another."""
    if node.op == "number":
        return np.float64(node.value)
    if node.op == "name":
        return np.float64(QUANTITIES[node.value][row])
    args = [numpys(arg, row) for arg in node.args]
    if node.op == "item":
        return args[0][node.value]
    if node.op == "slice":
        return args[0][slice(*node.value)]
    if node.op == "**":
        return args[0] ** node.value
    if node.op in ("min", "max"):
        return getattr(np, f"{node.op}imum")(*args) if len(args) == 2 else getattr(np, node.op)(args[0])
    return np.float64(NUMPYS[node.op](*args))


@settings(max_examples=50)
@given(EXPRESSIONS)
def test_what_is_printed_is_read_again(node: Node) -> None:
    assume(len(str(node)) <= MAX_LENGTH)
    expression = parse(str(node))
    assert expression.root == node
    assert str(expression) == str(node)


@settings(max_examples=50)
@given(EXPRESSIONS)
def test_python_reads_it_alike(node: Node) -> None:
    text = str(node)
    assert pythons(ast.parse(text, mode="eval").body) == node


def refused_by_python_or_chained(text: str) -> bool:
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError:
        return True
    return any(isinstance(node, ast.Compare) and len(node.ops) > 1 for node in ast.walk(tree))


OPERANDS = st.sampled_from(["x", "-x", "not x", "2", "tip[0]", "(x - y)", "abs(y)", "-y ** 2"])
SIGNS = st.sampled_from(["+", "-", "*", "/", "<", "==", "and", "or", "+", "-", "*", "/"])


@settings(max_examples=50)
@given(OPERANDS, st.lists(st.tuples(SIGNS, OPERANDS), min_size=1, max_size=5))
def test_python_reads_a_row_of_operators_alike(first: str, more: list[tuple[str, str]]) -> None:
    text = " ".join([f"x and {first}", *(f"{sign} {operand}" for sign, operand in more)])
    if refused_by_python_or_chained(text):
        with pytest.raises(InvalidValueError, match="needs brackets"):
            parse(text)
    else:
        assert parse(text).root == pythons(ast.parse(text, mode="eval").body)


@settings(max_examples=50)
@given(EXPRESSIONS)
def test_numpy_computes_it_alike(node: Node) -> None:
    assume(len(str(node)) <= MAX_LENGTH)
    with np.errstate(all="ignore"):
        wanted = np.array([numpys(node, row) for row in range(5)])
    if np.isfinite(wanted).all():
        np.testing.assert_allclose(parse(str(node))(QUANTITIES), wanted, rtol=1e-9, atol=1e-12)
    else:
        with pytest.raises(InvalidValueError, match="must be finite"):
            parse(str(node))(QUANTITIES)


def test_half_a_power_of_minus_infinity_is_what_it_is_in_one_row() -> None:
    found = parse("min(x, log(held) ** 0.5)")({"x": np.array([2.0, 3.0]), "held": np.array([0.0, 1.0])})
    np.testing.assert_array_equal(found, [2.0, 0.0])


@settings(max_examples=50)
@given(EXPRESSIONS, st.permutations(range(5)))
def test_rows_do_not_know_each_other(node: Node, order: list[int]) -> None:
    assume(len(str(node)) <= MAX_LENGTH)
    try:
        whole = parse(str(node))(QUANTITIES)
    except InvalidValueError:
        assume(False)
    np.testing.assert_array_equal(parse(str(node))({name: v[order] for name, v in QUANTITIES.items()}), whole[order])


PIECES = [
    *FUNCTIONS,
    *"()[]:,+-*/<>.=!",
    "**",
    "<=",
    "==",
    "and",
    "or",
    "not",
    "x",
    "tip",
    "0",
    "1.5",
    "1e9",
    " ",
    "é",
    "\n",
    "_",
]


@settings(max_examples=50)
@given(st.text(max_size=40) | st.lists(st.sampled_from(PIECES), max_size=25).map("".join))
def test_anything_else_is_refused_and_nothing_breaks(text: str) -> None:
    try:
        value = parse(text)(QUANTITIES)
    except SaccadeError:
        return
    assert value.shape == (5,)
    assert np.isfinite(value).all()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-2 ** 2 + 0 * x", -4),
        ("2 - 3 - 4 + 0 * x", -5),
        ("16 / 4 / 2 + 0 * x", 2),
        ("2 ** -1 + 0 * x", 0.5),
        ("1 + 2 * 3 + 0 * x", 7),
        ("not 1 > 2 and 3 + 0 * x", 1),
        ("1 or 0 and 0 * x", 1),
        ("-x / -x", 1),
        ("x > -99 or y > -99", 1),
        ("x > -99 and y < -99", 0),
        ("not (x > 99 or y > 99)", 1),
        ("(x > -99) * 3", 3),
        ("min(3, 1, 2) + 0 * x", 1),
        ("where(x > -99, 5, log(-1))", 5),
        ("boxes[1][2] - boxes[-1][-1]", 0),
        ("norm(boxes[0] - boxes[0])", 0),
        (".5 + 5e-1 + 0.*x", 1),
    ],
)
def test_golden(text: str, value: float) -> None:
    np.testing.assert_array_equal(parse(text)(QUANTITIES), np.full(5, float(value)))


def test_a_reward_as_it_would_be_written() -> None:
    expression = parse("1 - tanh(norm(tip - goal) / 0.1) + 0.5 * (held > 0 and abs(tip[2]) < 0.5)")
    assert expression.names == {"tip", "goal", "held"}
    tip, goal, held = QUANTITIES["tip"], QUANTITIES["goal"], QUANTITIES["held"]
    wanted = 1 - np.tanh(np.linalg.norm(tip - goal, axis=1) / 0.1) + 0.5 * (held & (np.abs(tip[:, 2]) < 0.5))
    np.testing.assert_allclose(expression(QUANTITIES), wanted)


def test_no_rows_are_rows_too() -> None:
    assert parse("norm(tip) + x")({"tip": np.zeros((0, 3)), "x": np.zeros(0)}).shape == (0,)


def test_what_is_given_stays_as_it_is() -> None:
    x = np.ones(3)
    parse("x")({"x": x})[0] = 7
    assert (x == 1).all()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("1 + nrom(tip)", "unknown function (character 5 of '1 + nrom(tip)') 'nrom': did you mean 'norm'?"),
        ("x + tup[0]", "unknown quantity (character 5 of 'x + tup[0]') 'tup': did you mean 'tip'?"),
    ],
)
def test_an_unknown_name_is_placed_and_gets_the_near_miss(text: str, sentence: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        parse(text)(QUANTITIES)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x ^ 2", "'^' at character 3 of 'x ^ 2': is no part of the language: did you mean '**'?"),
        ("x.__class__", "'.' at character 2 of"),
        ("x + ", "'the end' at character 5 of 'x + ': expected a number"),
        ("x x", "'x' at character 3 of 'x x': expected an operator or the end"),
        ("(x", "'the end' at character 3 of '(x': expected ')'"),
        ("min(x,)", "')' at character 7"),
        ("clip(x)", "'clip' at character 1 of 'clip(x)': is used as clip(x, low, high), got 1 arguments"),
        ("x < y < 1", "'<' at character 7 of 'x < y < 1': needs brackets"),
        ("x ** 2 ** 2", "'**' at character 8 of 'x ** 2 ** 2': needs brackets"),
        ("2 * not x", "'not' at character 5 of '2 * not x': needs brackets here"),
        ("x ** y", "'y' at character 6 of 'x ** y': an exponent must be a number from -16 to 16"),
        ("x ** 99999999", "'99999999' at character 6 of 'x ** 99999999': an exponent must be"),
        ("x + 1e999", "'1e999' at character 5 of 'x + 1e999': a number must be finite"),
        ("tip[x]", "'x' at character 5 of 'tip[x]': an index must be a whole number"),
        ("tip[-:1]", "':' at character 6"),
        ("1 + 2", "must read a quantity, '1 + 2' reads none"),
        ("   ", "must be a text that says something"),
        ("tip", "'tip' at character 1 of 'tip': must be one number per row, got (3,): take x[0], norm(x) or mean(x)"),
        ("x + tip[3]", "'tip[3]' at character 5 of 'x + tip[3]': has 3 components, there is no [3]"),
        ("norm(tip[1:4])", "'tip[1:4]' at character 6 of 'norm(tip[1:4])': has 3 components, there is no [1:4]"),
        ("x[0]", "'x[0]' at character 1 of 'x[0]': is one number per row"),
        ("norm(x)", "'norm(x)' at character 1 of 'norm(x)': takes vectors"),
        ("norm(tip + tip[0:2])", "'tip + tip[0:2]' at character 6"),
        ("1 + x / norm(tip - tip)", "'x / norm(tip - tip)' at character 5 of '1 + x / norm(tip - tip)': must be finite, got"),
        ("2 * (x - x) / (y - y)", "'2 * (x - x) / (y - y)' at character 1"),
        ("log(-1 - y ** 2) + x / (x - x)", "'log(-1 - y ** 2)' at character 1 of"),
        ("(x / (y - y)) + 1", "'(x / (y - y))' at character 1 of '(x / (y - y)) + 1': must be finite"),
        ("x + 0 * log(y)", "'log(y)' at character 9 of 'x + 0 * log(y)': must be finite, got nan in row 0"),
    ],
)
def test_an_error_says_where_and_what(text: str, sentence: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse(text)(QUANTITIES)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.array([1, np.nan]), "must be finite, got nan in row 1"),
        (np.array([["a"]]), "must be an array (N, ...) of numbers"),
        (np.array([1j]), "must be an array (N, ...) of numbers"),
        (np.float64(3), "must be an array (N, ...) of numbers"),
        (np.zeros((2, 0)), f"must have 1 to {MAX_COMPONENTS} numbers per row"),
        (np.zeros((2, 64, 64, 3)), f"must have 1 to {MAX_COMPONENTS} numbers per row"),
        (np.zeros(3), "must have one number of rows, got {'x': 3, 'y': 2}"),
    ],
)
def test_a_quantity_is_checked(value: Any, sentence: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        parse("x + y")({"x": value, "y": np.zeros(2)})
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "(" * 400 + "x" + ")" * 400,
        "-" * 900 + "x",
        "not " * 200 + "x",
        "x" + "[0]" * 300,
        "abs(" * 200 + "x" + ")" * 200,
        "x" + " + x" * 240,
        "x" + " ** 16" * 100,
        "x * 1" + "0" * (MAX_LENGTH + 1),
        "9" * 990 + " * x",
    ],
)
def test_nothing_hostile_takes_long(text: str) -> None:
    began = time.perf_counter()
    with pytest.raises(SaccadeError):
        parse(text)(QUANTITIES)
    assert time.perf_counter() - began < 0.5


def test_as_deep_as_is_allowed_and_no_deeper() -> None:
    assert parse("x" + " + x" * (MAX_DEPTH - 1))({"x": np.ones(2)})[0] == MAX_DEPTH
    with pytest.raises(InvalidValueError, match=f"nesting is at most {MAX_DEPTH} deep"):
        parse("x" + " + x" * MAX_DEPTH)
