"""A small language of arithmetic over named quantities, for rewards and factors that are data.

    1 - tanh(norm(tip - target) / 0.1) + 0.5 * (held > 0 and abs(velocity[2]) < 0.05)

From loose to tight: or, and, not, comparisons, + and -, * and /, unary minus, **, x[0] and x[0:3] and f(x). Precedence and
meaning are Python's, row by row, except that comparisons, `and`, `or` and `not` give 1 or 0 (anything but 0 is true),
comparisons do not chain, and an exponent is a literal number. The functions are in `rewards.operations`.

A text is never executed. A tokenizer, a parser (Pratt 1973, Top down operator precedence) and an interpreter of its own know
numbers, names of quantities and the functions of one table; there are no attributes, assignments or loops. Every operation
works entry by entry or reduces a row, so no value grows larger than the largest quantity; the length of a text, its nesting,
its exponents and the components of a quantity are bounded, and with them time and memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from rewards.operations import FUNCTIONS, OPERATIONS, Array, index_text

# Characters of a text, levels of nesting, the size of an exponent, the numbers in one row of a quantity.
MAX_LENGTH, MAX_DEPTH, MAX_EXPONENT, MAX_COMPONENTS = 1000, 50, 16, 1024

_BINARY = {"or": 1, "and": 2, **dict.fromkeys(("<", "<=", ">", ">=", "==", "!="), 4), "+": 5, "-": 5, "*": 6, "/": 6, "**": 8}
_PREFIX = {"not": 3, "-": 7}
_COMPARISON, _POWER, _ATOM = 4, 8, 9
_TOKEN = re.compile(
    r"(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign>\*\*|[<>=!]=|[-+*/<>()\[\],:])|(?P<space>[ \t\r\n]+)|(?P<other>.)",
    re.DOTALL,
)
_MEANT = {"^": "**", "&": "and", "|": "or", "!": "not", "=": "=="}


@dataclass(frozen=True)
class Node:
    """A part of an expression.

    Attributes:
        op: "number", "name", "item", "slice", "neg", an operator, or a function.
        args: what it is applied to.
        value: the number, the name, the index, the two ends of a slice (None is open) or the exponent.
        span: first character in the text and the one after the last.
        depth: levels of nesting from here on.
    """

    op: str
    args: tuple[Node, ...] = ()
    value: Any = None
    span: tuple[int, int] = field(default=(0, 0), compare=False)
    depth: int = field(default=1, compare=False)

    def __str__(self) -> str:
        return _printed(self, 0)

    def walk(self) -> Iterator[Node]:
        """Itself and all parts within it, from left to right."""
        yield self
        for arg in self.args:
            yield from arg.walk()


@dataclass(frozen=True)
class Expression:
    """A parsed text: a function of named quantities. Made by `parse`; its `str` is the text in its plainest form.

    Attributes:
        root: the outermost part.
        text: what was parsed.
    """

    root: Node
    text: str = field(compare=False)

    def __str__(self) -> str:
        return str(self.root)

    @cached_property
    def names(self) -> frozenset[str]:
        """The quantities that it reads, one at least."""
        return frozenset(self._first)

    @cached_property
    def _first(self) -> dict[str, Node]:
        """Where each name is said first."""
        found: dict[str, Node] = {}
        for node in self.root.walk():
            if node.op == "name":
                found.setdefault(node.value, node)
        return found

    def __call__(self, quantities: Mapping[str, NDArray[Any]]) -> Array:
        """The value in every row, finite.

        Args:
            quantities: name -> (N, ...) of finite numbers or truth values; only those of `names` are read.

        Returns:
            (N,).

        Raises:
            UnknownNameError: there is no such quantity.
            InvalidValueError: a quantity is not as above, shapes or indices do not fit, or the result is not one finite number
                per row.
        """
        ready = {name: self._quantity(node, quantities) for name, node in self._first.items()}
        rows = {name: len(value) for name, value in ready.items()}
        if len(set(rows.values())) > 1:
            raise InvalidValueError(f"quantities of one expression must have one number of rows, got {rows}")
        with np.errstate(all="ignore"):
            value = self._value(self.root, ready)
            if value.ndim > 1:
                self._refuse(self.root, f"must be one number per row, got {value.shape[1:]}: take x[0], norm(x) or mean(x)")
            if not np.isfinite(value).all():
                self._refuse_infinite(value, ready)
        return value

    def _value(self, node: Node, quantities: Mapping[str, Array]) -> Array:
        if node.op == "number":
            return np.asarray(node.value)
        if node.op == "name":
            return quantities[node.value]
        given: list[Any] = [self._value(arg, quantities) for arg in node.args]
        try:
            return OPERATIONS[node.op](*given, *([] if node.value is None else [node.value]))
        except InvalidValueError as error:
            self._refuse(node, str(error))

    def _quantity(self, node: Node, quantities: Mapping[str, NDArray[Any]]) -> Array:
        if node.value not in quantities:
            raise UnknownNameError(f"quantity ({_where(self.text, node.span[0])})", node.value, quantities)
        value = np.asarray(quantities[node.value])
        if value.dtype.kind not in "buif" or value.ndim < 1:
            self._refuse(node, f"must be an array (N, ...) of numbers, got {value.dtype} {value.shape}")
        if not 1 <= np.prod(value.shape[1:]) <= MAX_COMPONENTS:
            self._refuse(node, f"must have 1 to {MAX_COMPONENTS} numbers per row, got {value.shape[1:]}")
        if len(bad := np.argwhere(~np.isfinite(value))):
            self._refuse(node, f"must be finite, got {value[tuple(bad[0])]} in row {bad[0][0]}")
        return value.astype(np.float64)

    def _refuse(self, node: Node, rule: str) -> NoReturn:
        raise InvalidValueError(f"{_place(self.text, node.span)}: {rule}")

    def _refuse_infinite(self, value: Array, quantities: Mapping[str, Array]) -> NoReturn:
        """Names the innermost part that is not finite, in the first row that is not."""
        row, node, found = int(np.argmax(~np.isfinite(value))), self.root, value
        while inner := [(a, v) for a in node.args if not np.isfinite(_row(v := self._value(a, quantities), row)).all()]:
            node, found = inner[0]
        self._refuse(node, f"must be finite, got {_row(found, row)} in row {row}")


def parse(text: str) -> Expression:
    """Read an expression.

    Raises:
        InvalidValueError: not an expression, or a longer, deeper or steeper one than is allowed; the sentence says where.
        UnknownNameError: no such function.
    """
    if not isinstance(text, str) or not text.strip():
        raise InvalidValueError(f"an expression must be a text that says something, got {text!r}")
    if len(text) > MAX_LENGTH:
        raise InvalidValueError(f"an expression has at most {MAX_LENGTH} characters, got {len(text)}: {text[:40]!r}...")
    expression = Expression(_Parser(text).whole(), text)
    if not expression.names:
        raise InvalidValueError(f"an expression must read a quantity, {text!r} reads none")
    return expression


class _Token(NamedTuple):
    kind: str
    text: str
    span: tuple[int, int]


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        kind, said = str(match.lastgroup), match.group()
        if kind == "other":
            meant = f": did you mean {_MEANT[said]!r}?" if said in _MEANT else ""
            raise InvalidValueError(f"{_place(text, match.span())}: is no part of the language{meant}")
        if kind != "space":
            yield _Token("sign" if said in _BINARY or said in _PREFIX else kind, said, match.span())
    yield _Token("end", "", (len(text), len(text)))


class _Parser:
    """Top-down operator precedence: each operator binds what is tighter than itself."""

    def __init__(self, text: str) -> None:
        self._text, self._tokens = text, list(_tokens(text))
        self._at = self._level = 0

    def whole(self) -> Node:
        root = self._expression(0)
        if self._next.kind != "end":
            self._refuse(self._next, "expected an operator or the end")
        return root

    @property
    def _next(self) -> _Token:
        return self._tokens[self._at]

    def _take(self, text: str | None = None) -> _Token:
        token = self._next
        if text is not None and token.text != text:
            self._refuse(token, f"expected {text!r}")
        self._at += token.kind != "end"
        return token

    def _expression(self, loosest: int) -> Node:
        """All that binds more tightly than `loosest`."""
        self._level += 1
        if self._level > MAX_DEPTH:
            self._refuse(self._next, f"nesting is at most {MAX_DEPTH} deep")
        left = self._operand(loosest)
        while _BINARY.get(self._next.text, 0) > loosest:
            left = self._binary(left)
        self._level -= 1
        return left

    def _binary(self, left: Node) -> Node:
        op = self._take().text
        binds = _BINARY[op]
        if binds == _POWER:
            node = self._node(op, (left,), self._exponent(), left.span[0])
        else:
            node = self._node(op, (left, self._expression(binds)), None, left.span[0])
        if binds in (_COMPARISON, _POWER) and _BINARY.get(self._next.text) == binds:
            self._refuse(self._next, "needs brackets, or `and` between comparisons: a < b and b < c, (x ** 2) ** 3")
        return node

    def _exponent(self) -> float:
        sign, token = self._sign(), self._take()
        if token.kind != "number" or not float(token.text) <= MAX_EXPONENT:
            self._refuse(token, f"an exponent must be a number from -{MAX_EXPONENT} to {MAX_EXPONENT}; for others use exp(x)")
        return sign * float(token.text)

    def _sign(self) -> int:
        if self._next.text != "-":
            return 1
        self._take()
        return -1

    def _operand(self, loosest: int) -> Node:
        token = self._next
        if token.text in _PREFIX:
            return self._prefix(loosest)
        node = self._primary()
        while self._next.text == "[":
            node = self._index(node)
        return node

    def _prefix(self, loosest: int) -> Node:
        token = self._take()
        if (binds := _PREFIX[token.text]) <= loosest:
            self._refuse(token, "needs brackets here")
        op = "neg" if token.text == "-" else token.text
        return self._node(op, (self._expression(binds - 1),), None, token.span[0])

    def _primary(self) -> Node:
        token = self._take()
        if token.text == "(":
            node = self._expression(0)
            return replace(node, span=(token.span[0], self._take(")").span[1]))
        if token.kind == "number":
            if not np.isfinite(float(token.text)):
                self._refuse(token, "a number must be finite")
            return Node("number", (), float(token.text), token.span)
        if token.kind != "name":
            self._refuse(token, "expected a number, a quantity, a function or '('")
        return self._call(token) if self._next.text == "(" else Node("name", (), token.text, token.span)

    def _call(self, token: _Token) -> Node:
        if token.text not in FUNCTIONS:
            raise UnknownNameError(f"function ({_where(self._text, token.span[0])})", token.text, FUNCTIONS)
        self._take("(")
        args: list[Node] = []
        while self._next.text != ")":
            if args:
                self._take(",")
            args.append(self._expression(0))
        self._take(")")
        function = FUNCTIONS[token.text]
        if not function.least <= len(args) <= function.most:
            self._refuse(token, f"is used as {function.usage}, got {len(args)} arguments")
        return self._node(token.text, tuple(args), None, token.span[0])

    def _index(self, of: Node) -> Node:
        self._take("[")
        start = None if self._next.text == ":" else self._integer()
        if self._next.text != ":":
            self._take("]")
            return self._node("item", (of,), start, of.span[0])
        self._take(":")
        stop = None if self._next.text == "]" else self._integer()
        self._take("]")
        return self._node("slice", (of,), (start, stop), of.span[0])

    def _integer(self) -> int:
        sign, token = self._sign(), self._take()
        if not token.text.isdecimal():
            self._refuse(token, "an index must be a whole number, as in x[0] or x[0:3]")
        return sign * int(token.text)

    def _node(self, op: str, args: tuple[Node, ...], value: Any, start: int) -> Node:
        depth = 1 + max(arg.depth for arg in args)
        span = (start, self._tokens[self._at - 1].span[1])
        if depth > MAX_DEPTH:
            raise InvalidValueError(
                f"{_place(self._text, span)}: nesting is at most {MAX_DEPTH} deep, use brackets to even it out"
            )
        return Node(op, args, value, span, depth)

    def _refuse(self, token: _Token, rule: str) -> NoReturn:
        raise InvalidValueError(f"{_place(self._text, token.span)}: {rule}")


def _row(value: Array, row: int) -> Array:
    return value[row] if value.ndim else value


def _where(text: str, start: int) -> str:
    shown = text if len(text) <= 80 else f"{text[max(0, start - 30) : start + 40]}..."
    return f"character {start + 1} of {shown!r}"


def _place(text: str, span: tuple[int, int]) -> str:
    part = text[slice(*span)] or "the end"
    return f"{part if len(part) <= 80 else part[:77] + '...'!r} at {_where(text, span[0])}"


# -- printing ----------------------------------------------------------------------------------------------------------


def _printed(node: Node, loosest: int) -> str:
    """The text of a part, in brackets if it binds less tightly than `loosest`."""
    binds = _PREFIX["-"] if node.op == "neg" else _BINARY.get(node.op) or _PREFIX.get(node.op) or _ATOM
    said = _bare(node, binds)
    return f"({said})" if binds < loosest else said


def _bare(node: Node, binds: int) -> str:
    if node.op == "number":
        return _number(node.value)
    if node.op == "name":
        return node.value
    if node.op in ("item", "slice"):
        return f"{_printed(node.args[0], _ATOM)}[{index_text(node.value)}]"
    if node.op == "**":
        return f"{_printed(node.args[0], _ATOM)} ** {_number(node.value)}"
    if node.op in ("neg", "not"):
        return f"{'-' if node.op == 'neg' else 'not '}{_printed(node.args[0], binds)}"
    if node.op in _BINARY:
        left = binds + (binds == _COMPARISON)
        return f"{_printed(node.args[0], left)} {node.op} {_printed(node.args[1], binds + 1)}"
    return f"{node.op}({', '.join(_printed(arg, 0) for arg in node.args)})"


def _number(value: float) -> str:
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
