"""Evaluation factors: named expressions over physical quantities, which say how well a step was done in several respects.

LaRe (arXiv:2412.11120) has a language model write such factors as code, which it executes. Here they are data: texts in the
language of `rewards.expressions`, written by hand or by a model, kept as JSON, never executed. What they are good for is
`rewards.redistribution`, which learns what each factor is worth from the returns of episodes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, SaccadeError
from rewards.base import Transition
from rewards.expressions import MAX_COMPONENTS, MAX_DEPTH, MAX_EXPONENT, MAX_LENGTH, parse
from rewards.operations import FUNCTIONS

MAX_FACTORS = 32
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
# What of an answer is read, and what of it is shown again: characters.
_LONGEST_ANSWER, _SHOWN = 20_000, 4_000
_DUMMY_ROWS = 16


class Factors:
    """K expressions as a function of named quantities.

    Args:
        expressions: name of a factor -> its text, 1 to 32 of them.

    Raises:
        InvalidValueError: none or too many, or a name or text that is none; the sentence says which.
    """

    def __init__(self, expressions: Mapping[str, str]) -> None:
        if not isinstance(expressions, Mapping) or not 1 <= len(expressions) <= MAX_FACTORS:
            raise InvalidValueError(f"factors must be 1 to {MAX_FACTORS} names with expressions, got {str(expressions)[:200]}")
        for name in expressions:
            if not isinstance(name, str) or not _NAME.fullmatch(name):
                raise InvalidValueError(f"a factor's name must be letters, digits and _, 64 at most, got {name!r}")
        self._expressions = {name: _told(name, parse, text) for name, text in expressions.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """Of the factors, in the order of the columns."""
        return tuple(self._expressions)

    @property
    def quantities(self) -> frozenset[str]:
        """What the factors read."""
        return frozenset().union(*(expression.names for expression in self._expressions.values()))

    def __len__(self) -> int:
        return len(self._expressions)

    def __call__(self, quantities: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Every factor in every row, (N, K), finite.

        Args:
            quantities: name -> (N, ...) of finite numbers.

        Raises:
            InvalidValueError: a factor cannot be computed from them; the sentence says which and why.
        """
        columns = [_told(name, expression, quantities) for name, expression in self._expressions.items()]
        if len({len(column) for column in columns}) > 1:
            got = {name: len(column) for name, column in zip(self.names, columns, strict=True)}
            raise InvalidValueError(f"quantities must have one number of rows, got factors with {got}")
        return np.stack(columns, axis=1)

    def to_dict(self) -> dict[str, Any]:
        """{"factors": {name: text}}, which JSON can hold."""
        return {"factors": {name: expression.text for name, expression in self._expressions.items()}}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Factors:
        """Take what `to_dict` gave.

        Raises:
            InvalidValueError: it is something else.
        """
        if not isinstance(saved, Mapping) or set(saved) != {"factors"}:
            raise InvalidValueError(f'saved factors must be {{"factors": {{name: text}}}}, got {str(saved)[:200]}')
        return cls(saved["factors"])


def named_quantities(batch: Transition) -> dict[str, NDArray[Any]]:
    """What factors of a transition may name: what was seen after the step, its state, "action"; the later one wins."""
    return {**batch.next_obs, **batch.state, "action": batch.action}


@dataclass(frozen=True)
class Quantity:
    """What a language model is told of a quantity, and what its factors are tried on.

    Attributes:
        shape: of one row; () for a number.
        meaning: a few words, with the unit and the frame.
        low: smallest value that any component has.
        high: largest value that any component has.
    """

    shape: tuple[int, ...]
    meaning: str
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if not 1 <= np.prod(self.shape) <= MAX_COMPONENTS:
            raise InvalidValueError(f"a quantity must have 1 to {MAX_COMPONENTS} numbers, got the shape {self.shape}")
        if not np.isfinite([self.low, self.high]).all() or self.low > self.high:
            raise InvalidValueError(f"low <= high must be finite, got {self.low} and {self.high}")


def synthesise_factors(
    answerer: Callable[[str], str],
    task_text: str,
    quantities_spec: Mapping[str, Quantity],
    n: int = 5,
    max_rounds: int = 5,
    seed: int = 0,
) -> Factors:
    """Have a language model write factors for a task, as LaRe does (arXiv:2412.11120, latent reward self-verification).

    n drafts from one prompt; one prompt to merge them; then the answer is read, parsed and run on a dummy batch, and as long as
    that fails the model is told the error's sentence and asked again. The dummy batch has a row of each quantity's lowest
    values, one of its highest, one of those nearest to 0, and rows drawn from between: a division by what may be 0 fails.

    Args:
        answerer: a language model: one prompt to one answer, texts only, no pictures and no memory. Drafts differ only if it
            samples.
        task_text: what is to be done, and what counts as done well.
        quantities_spec: name -> what it is; names as the language has them.
        n: drafts, at least 1; a single one is not merged.
        max_rounds: how often it is told what is wrong, at least 0.
        seed: of the dummy batch.

    Raises:
        InvalidValueError: an argument outside its range, or no answer was right; the sentence lists what was wrong with each.
    """
    if n < 1 or max_rounds < 0 or not task_text.strip() or not quantities_spec:
        raise InvalidValueError(
            f"a task, a quantity, n >= 1 and max_rounds >= 0 are needed, got {task_text!r}, {list(quantities_spec)}, {n} and "
            f"{max_rounds}"
        )
    for name in quantities_spec:
        if not _NAME.fullmatch(name) or name in ("and", "or", "not"):
            raise InvalidValueError(f"a quantity's name must be letters, digits and _, and no operator, got {name!r}")
    ask, batch = _prompt(task_text, quantities_spec), _dummy(quantities_spec, np.random.default_rng(seed))
    drafts = [_answer(answerer, ask) for _ in range(n)]
    answer = drafts[0] if n == 1 else _answer(answerer, _merging(ask, drafts))
    wrong: list[str] = []
    while True:
        try:
            return _verified(answer, batch)
        except SaccadeError as error:
            wrong.append(str(error))
        if len(wrong) > max_rounds:
            listed = "\n".join(f"{i}. {said}" for i, said in enumerate(wrong, 1))
            raise InvalidValueError(f"no answer of {len(wrong)} was a set of factors that can be computed:\n{listed}")
        answer = _answer(answerer, _mending(ask, answer, wrong[-1]))


def _told(name: str, function: Callable[[Any], Any], given: Any) -> Any:
    """What the function says of a factor; its errors name the factor."""
    try:
        return function(given)
    except SaccadeError as error:
        raise InvalidValueError(f"factor {name!r}: {error}") from error


def _dummy(spec: Mapping[str, Quantity], rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    def rows(of: Quantity) -> NDArray[np.float64]:
        edges = [of.low, of.high, np.clip(0, of.low, of.high)]
        drawn = rng.uniform(of.low, of.high, (_DUMMY_ROWS - len(edges), *of.shape))
        return np.concatenate([*(np.full((1, *of.shape), edge) for edge in edges), drawn])

    return {name: rows(of) for name, of in spec.items()}


def _answer(answerer: Callable[[str], str], prompt: str) -> str:
    said = answerer(prompt)
    if not isinstance(said, str):
        raise InvalidValueError(f"a language model must answer with a text, got {type(said).__name__}")
    return said


def _verified(answer: str, batch: Mapping[str, NDArray[Any]]) -> Factors:
    factors = Factors(_object(answer))
    factors(batch)
    return factors


def _object(answer: str) -> Any:
    """The JSON object in an answer, which may stand between other words or in a fence."""
    found = answer[answer.find("{") : answer.rfind("}") + 1] if "{" in answer else ""
    if not found or len(answer) > _LONGEST_ANSWER:
        raise InvalidValueError(
            f"an answer must be a JSON object of at most {_LONGEST_ANSWER} characters, got {len(answer)}: {answer[:100]!r}"
        )
    try:
        return json.loads(found, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise InvalidValueError(f"an answer must be a JSON object of names and expressions: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise InvalidValueError(f"every factor must have a name of its own, got {[name for name, _ in pairs]}")
    return named


def _prompt(task_text: str, spec: Mapping[str, Quantity]) -> str:
    named = "\n".join(f"- {name}: {_shape(of.shape)} from {of.low:g} to {of.high:g}; {of.meaning}" for name, of in spec.items())
    functions = "\n".join(f"- {function.usage}: {function.meaning}" for function in FUNCTIONS.values())
    return f"""You judge how well each single step of a robot serves a task. Write evaluation factors: several expressions, each
of which measures one respect in which a step can be good or bad, as one number per step. How much each counts is learned later.

Task: {task_text}

Quantities:
{named}

An expression has numbers, quantities, components x[0] and x[0:3], + - * /, brackets, ** with a number from -{MAX_EXPONENT} to
{MAX_EXPONENT}, comparisons (1 or 0), and, or, not, these functions, and nothing else:
{functions}
Its result must be one finite number per step for all values of the quantities: never divide by what may be 0.
It has at most {MAX_LENGTH} characters and {MAX_DEPTH} levels of nesting. There are at most {MAX_FACTORS} factors.

Answer with one JSON object from names to expressions, such as {{"effort": "norm(action) ** 2"}}, and nothing else."""


def _shape(shape: tuple[int, ...]) -> str:
    return f"array of shape {shape}" if len(shape) > 1 else f"vector of {shape[0]} components" if shape else "one number"


def _merging(ask: str, drafts: list[str]) -> str:
    listed = "\n\n".join(f"Draft {i}:\n{draft[:_SHOWN]}" for i, draft in enumerate(drafts, 1))
    return (
        f"{ask}\n\nSeveral drafts were written:\n\n{listed}\n\nMerge them into one answer in which every respect "
        f"occurs once, and add what is important and missing."
    )


def _mending(ask: str, answer: str, error: str) -> str:
    return (
        f"{ask}\n\nThe answer was:\n\n{answer[:_SHOWN]}\n\nIt cannot be used: {error}\n\nMend it; answer with the whole object."
    )
