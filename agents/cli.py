"""The `saccade` command: a verb, then overrides."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Callable, Sequence

from assets.errors import SaccadeError, UnknownNameError

VERBS = {
    "train": "train an agent; resume=<run> goes on with one",
    "evaluate": "success rates with intervals, beside random and oracle",
    "replay": "record a policy, or re-render a recording, to mp4 or in the browser",
    "collect": "demonstrations of the oracle as a Minari dataset",
    "fit": "a reward from demonstrations' pictures",
    "relabel": "a dataset as another reward would have paid it",
    "list": "environments, agents, rewards and everything else that has a name",
    "bench": "where a step's time goes: physics, render, python; bench perception: how fast a backend answers",
    "doctor": "what this machine offers, and what it lacks; quick leaves out how fast it draws",
}
# What verbs without settings take.
WORDS = {"list": "[group] ...", "doctor": "[quick]"}
OURS = ("assets", "perception", "rewards", "envs", "agents", "conf")


def usage() -> str:
    """The help text."""
    width = max(map(len, VERBS))
    lines = [f"  saccade {verb:<{width}}  {told}" for verb, told in VERBS.items()]
    return "\n".join(
        [
            "usage: saccade <verb> [group=choice] [key=value] ...",
            "",
            *lines,
            "",
            "`saccade <verb> --help` shows a verb's settings, `saccade train agent=bcrl --help` those of a choice.",
            "Overrides are Hydra's: env=reach seed=3 agent.gamma=0.9",
        ]
    )


def check_packages() -> None:
    """Make sure that the suite's packages are the suite's: `agents`, for one, is also the name of others.

    Raises:
        SaccadeError: another package of the same name comes first.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    for name in OURS:
        found = importlib.util.find_spec(name)
        origin = found.origin if found is not None else None
        if origin is None or os.path.dirname(os.path.dirname(os.path.abspath(origin))) != home:
            raise SaccadeError(
                f"`import {name}` finds {origin}, not the suite's own in {home}: another package of that name shadows it "
                "(openai-agents ships one called `agents`); run in an environment without it"
            )


def _help(verb: str, rest: Sequence[str]) -> str:
    if verb in WORDS:
        return f"saccade {verb} {WORDS[verb]}: {VERBS[verb]}"
    from agents.help import settings

    overrides = [a for a in rest if "=" in a]
    if (verb, rest[0]) == ("bench", "perception"):
        return settings("perception", "saccade bench perception: how fast a backend answers", overrides)
    return settings(verb, f"saccade {verb}: {VERBS[verb]}", overrides)


def run(arguments: Sequence[str]) -> int:
    """Carry out a command line; returns the exit code."""
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    verb, rest = arguments[0], list(arguments[1:])
    if verb not in VERBS:
        raise UnknownNameError("verb", verb, VERBS)
    if any(a in ("-h", "--help") for a in rest):
        print(_help(verb, rest))
        return 0
    check_packages()
    result = importlib.import_module(f"agents.{'listing' if verb == 'list' else verb}").main(rest)
    return result if isinstance(result, int) else 0


def _sentence(message: Warning | str, *where: object, **more: object) -> None:
    """A warning as one sentence: the line of code that gave it tells a user nothing."""
    del where, more
    print(f"saccade: {message}", file=sys.stderr)


def guarded(work: Callable[[], int | None]) -> int:
    """The exit code of a program, whose errors and warnings are one sentence, not a traceback."""
    warnings.showwarning = _sentence
    try:
        code = work() or 0
    except SaccadeError as error:
        print(f"saccade: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("saccade: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:  # whoever read our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    return code


def main() -> None:
    """Entry point."""
    sys.exit(guarded(lambda: run(sys.argv[1:])))


if __name__ == "__main__":
    main()
