"""The one exception family of the suite.

It lives in the lowest layer so that every package can raise it. Messages are composed here, in one voice: the value, the
rule it broke, the near miss and the alternatives.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SaccadeError(Exception):
    """Base of everything that the suite raises on purpose."""


class UnknownNameError(SaccadeError, KeyError):
    """A name that does not exist, with the near miss and the names that do."""

    def __init__(self, kind: str, name: object, choices: Iterable[str]) -> None:
        self.kind, self.name, self.choices = kind, name, sorted(str(c) for c in choices)
        super().__init__(kind, name, self.choices)

    def __str__(self) -> str:
        close = difflib.get_close_matches(str(self.name), self.choices, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]!r}? " if close else ""
        listed = ", ".join(self.choices) if self.choices else "(none)"
        return f"unknown {self.kind} {self.name!r}: {hint}available: {listed}"


class InvalidValueError(SaccadeError, ValueError):
    """A value that breaks a rule: the sentence names the value, the rule and what is accepted."""


class MissingDependencyError(SaccadeError, ImportError):
    """Something that must be installed first; the sentence names the package."""
