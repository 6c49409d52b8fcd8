"""Factors are data: they go through JSON, errors name the factor, and a language model is told what was wrong."""

from __future__ import annotations

import json
import re
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.errors import InvalidValueError
from rewards.base import Transition
from rewards.factors import MAX_FACTORS, Factors, Quantity, named_quantities, synthesise_factors

RNG = np.random.default_rng(0)
BATCH = {"tip": RNG.normal(size=(6, 3)), "goal": RNG.normal(size=(6, 3)), "held": np.ones(6), "action": RNG.normal(size=(6, 2))}
REACH = {"closeness": "-norm(tip - goal)", "effort": "-dot(action, action)"}
SPEC = {
    "tip": Quantity((3,), "position of the tool, m, world frame"),
    "goal": Quantity((3,), "where the tool should be, m, world frame"),
    "speed": Quantity((), "of the tool, m/s", low=0, high=2),
    "action": Quantity((2,), "what was commanded"),
}
TASK = "Bring the tool to the goal, with little effort."


def test_columns_are_the_expressions() -> None:
    factors = Factors(REACH)
    value = factors(BATCH)
    assert value.shape == (6, 2)
    assert len(factors) == 2
    assert factors.names == ("closeness", "effort")
    assert factors.quantities == {"tip", "goal", "action"}
    np.testing.assert_allclose(value[:, 0], -np.linalg.norm(BATCH["tip"] - BATCH["goal"], axis=1))
    np.testing.assert_allclose(value[:, 1], -np.square(BATCH["action"]).sum(1))


@settings(max_examples=30)
@given(
    st.dictionaries(
        st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True),
        st.sampled_from(["held", "tip[0]*2", " norm( goal )", "-(held)"]),
        min_size=1,
        max_size=6,
    )
)
def test_json_holds_them(expressions: dict[str, str]) -> None:
    factors = Factors(expressions)
    again = Factors.from_dict(json.loads(json.dumps(factors.to_dict())))
    assert again.to_dict() == {"factors": expressions}
    assert again.names == factors.names
    np.testing.assert_array_equal(again(BATCH), factors(BATCH))


def test_a_transition_names_what_was_seen_its_state_and_the_action() -> None:
    batch = Transition(
        obs={"proprio": np.zeros((2, 1))},
        action=np.full((2, 2), 0.5, np.float32),
        state={"gap": np.array([1.0, 2.0])},
        next_obs={"proprio": np.ones((2, 1)), "gap": np.zeros(2)},
        terminated=np.zeros(2, bool),
        instruction=[""] * 2,
    )
    value = Factors({"a": "gap + 10 * proprio[0] + 100 * action[1]"})(named_quantities(batch))
    np.testing.assert_allclose(value[:, 0], [61, 62])


@pytest.mark.parametrize(
    ("expressions", "sentence"),
    [
        ({}, f"factors must be 1 to {MAX_FACTORS} names"),
        ({f"f{i}": "held" for i in range(MAX_FACTORS + 1)}, f"factors must be 1 to {MAX_FACTORS} names"),
        ({"a b": "held"}, "a factor's name must be letters, digits and _"),
        ({"a": "1 +"}, "factor 'a': 'the end' at character 4"),
        ({"a": 3}, "factor 'a': an expression must be a text"),
    ],
)
def test_what_is_no_factor_is_refused(expressions: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        Factors(expressions)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("saved", [{}, {"factors": REACH, "more": 1}, [1], {"factors": ["held"]}])
def test_what_was_not_saved_is_refused(saved: object) -> None:
    with pytest.raises(InvalidValueError, match="factors must be"):
        Factors.from_dict(saved)  # type: ignore[arg-type]


def test_an_error_names_the_factor() -> None:
    with pytest.raises(InvalidValueError, match=r"factor 'b': unknown quantity .* did you mean 'tip'"):
        Factors({"a": "held", "b": "norm(tap)"})(BATCH)
    with pytest.raises(InvalidValueError, match="one number of rows, got factors with"):
        Factors({"a": "held", "b": "x"})({**BATCH, "x": np.ones(2)})


# -- written by a model -------------------------------------------------------------------------------------------------


class Student:
    """Answers as a model would: drafts, then all of them merged, then mends the factor that it is told of, if it can learn.

    It reads nothing but its prompts, and insists that they hold what one needs in order to answer.
    """

    MENDED: ClassVar = {
        "near": ("-norm(tipp - goal)", "did you mean 'tip'", "-norm(tip - goal)"),
        "apart": ("tip - goal", "must be one number per row, got (3,)", "max(abs(tip - goal))"),
        "slow": ("1 / speed", "must be finite, got inf in row 0", "1 / (1 + speed)"),
        "effort": ("norm(action) ** 1000000", "an exponent must be a number from -16 to 16", "norm(action) ** 2"),
    }

    def __init__(self, learns: bool = True) -> None:
        self.learns, self.prompts, self.known = learns, [], {name: tried for name, (tried, _, _) in self.MENDED.items()}

    def __call__(self, prompt: str) -> str:
        self.prompts.append(prompt)
        assert TASK in prompt
        for name, of in SPEC.items():
            assert f"- {name}: " in prompt
            assert of.meaning in prompt
        if "The answer was:" in prompt:
            return self.mend(prompt)
        if "Several drafts were written" in prompt:
            assert all(f'"{name}": "{tried}"' in prompt for name, tried in self.known.items())
            return f"Here they are, merged:\n```json\n{json.dumps(self.known)}\n```\nGood luck."
        name = list(self.known)[(len(self.prompts) - 1) % len(self.known)]
        return json.dumps({name: self.known[name]})

    def mend(self, prompt: str) -> str:
        error = prompt.rsplit("It cannot be used: ", 1)[1]
        found = re.match(r"factor '(\w+)': ", error)
        assert found, error
        _, sentence, mended = self.MENDED[found[1]]
        assert sentence in error
        if self.learns:
            self.known[found[1]] = mended
        return json.dumps(self.known)


def test_a_model_that_is_told_mends_its_factors() -> None:
    student = Student()
    factors = synthesise_factors(student, TASK, SPEC)
    assert factors.to_dict() == {"factors": {name: mended for name, (_, _, mended) in Student.MENDED.items()}}
    # Five drafts, one that merges them, and one for each mistake.
    assert len(student.prompts) == 5 + 1 + 4


def test_fewer_rounds_than_mistakes_are_too_few() -> None:
    with pytest.raises(InvalidValueError, match="no answer of 4 was"):
        synthesise_factors(Student(), TASK, SPEC, max_rounds=3)


def test_a_model_that_never_mends_is_refused_with_all_that_was_wrong() -> None:
    student = Student(learns=False)
    with pytest.raises(InvalidValueError) as caught:
        synthesise_factors(student, TASK, SPEC)
    sentence = str(caught.value)
    assert sentence.startswith("no answer of 6 was a set of factors that can be computed:")
    # Texts are read before any is computed, so the exponent is what it is told of.
    for i in range(1, 7):
        assert f"\n{i}. factor 'effort': '1000000' at character 17" in sentence
    assert len(student.prompts) == 5 + 1 + 5


def test_one_draft_is_not_merged() -> None:
    asked: list[str] = []

    def model(prompt: str) -> str:
        asked.append(prompt)
        return '{"near": "-norm(tip - goal)"}'

    assert synthesise_factors(model, TASK, SPEC, n=1).names == ("near",)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ("I would rather not.", "must be a JSON object of at most"),
        ("{near: tip}", "must be a JSON object of names and expressions"),
        ('{"a": "speed", "a": "tip[0]"}', "every factor must have a name of its own"),
        ('{"a": {"b": "speed"}}', "factor 'a': an expression must be a text"),
        ('{"a": ' + "[" * 15000 + "}", "must be a JSON object of names and expressions"),
        ('{"a": ' + "9" * 15000 + "}", "must be a JSON object of names and expressions"),
        ('{"a": "' + "x" * 30000 + '"}', "must be a JSON object of at most"),
        ("__import__('os').system('true')", "must be a JSON object"),
        ('{"a": "__import__(1)"}', "factor 'a': unknown function (character 1 of '__import__(1)')"),
        ('{"a": "log(speed)"}', "factor 'a': 'log(speed)' at character 1 of 'log(speed)': must be finite, got -inf in row 0"),
        ('{"a": "dot(tip, action)"}', "factor 'a': 'dot(tip, action)' at character 1"),
    ],
)
def test_an_answer_that_is_none(answer: str, sentence: str) -> None:
    with pytest.raises(InvalidValueError) as caught:
        synthesise_factors(lambda prompt: answer, TASK, SPEC, n=1, max_rounds=0)
    assert sentence in str(caught.value)


def test_prompts_stay_short_whatever_is_answered() -> None:
    longest = 0

    def model(prompt: str) -> str:
        nonlocal longest
        longest = max(longest, len(prompt))
        return "{" * 100_000

    with pytest.raises(InvalidValueError):
        synthesise_factors(model, TASK, SPEC)
    assert longest < 30_000


def test_bad_arguments_are_refused() -> None:
    def never(prompt: str) -> str:
        raise AssertionError(prompt)

    for options in ({"n": 0}, {"max_rounds": -1}, {"task_text": " "}, {"quantities_spec": {}}):
        with pytest.raises(InvalidValueError, match="n >= 1 and max_rounds >= 0 are needed"):
            synthesise_factors(**{"answerer": never, "task_text": TASK, "quantities_spec": SPEC, **options})
    with pytest.raises(InvalidValueError, match="must answer with a text, got int"):
        synthesise_factors(lambda prompt: 3, TASK, SPEC)  # type: ignore[arg-type,return-value]
    for name in ("eye/pan", "and", "norm(x)"):
        with pytest.raises(InvalidValueError, match="a quantity's name must be"):
            synthesise_factors(never, TASK, {name: Quantity((), "named so that no expression can name it")})
    with pytest.raises(InvalidValueError, match="a quantity must have 1 to 1024 numbers"):
        Quantity((64, 64, 3), "a picture")
    with pytest.raises(InvalidValueError, match="low <= high must be finite"):
        Quantity((), "upside down", low=1, high=0)
