"""What a verb can be told: its settings as yaml, each with what its file says of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from typing import Any

import yaml
from omegaconf import OmegaConf

from agents.config import PACKAGE, chosen, groups, load

# A key may stand in quotes: `n` alone means "no" in YAML 1.1.
_LINE = re.compile(r"^(?P<indent> *)'?(?P<key>[A-Za-z_]\w*)'?:(?P<value>.*)$")
_EXAMPLE = re.compile(r"# (?P<text>saccade .*)")
_REMARK = re.compile(r"\s#\s*(?P<text>\S.*)$")
# Column where remarks begin.
_COLUMN = 36


def settings(verb: str, title: str, overrides: Sequence[str] = ()) -> str:
    """An example of a verb, its settings under overrides as yaml with remarks, and the choices of its groups.

    Args:
        verb: name of the yaml at the top of `conf`, whose first line is the example.
        title: first line.
        overrides: in Hydra's language.

    Raises:
        UnknownNameError, InvalidValueError: an override is wrong.
    """
    config = load(verb, overrides)
    shown = {name: found for name, found in groups().items() if name in config or name == "experiment"}
    choices = "\n".join(f"  {name}={'|'.join(found)}" for name, found in shown.items())
    written = annotated(OmegaConf.to_yaml(config), remarks(verb, chosen(overrides)))
    example = _EXAMPLE.match((resources.files(PACKAGE) / f"{verb}.yaml").read_text(encoding="utf-8"))
    begins = title if example is None else f"{title}\n\n  {example['text']}"
    return f"{begins}\n\ngroups:\n{choices}\n\nsettings:\n{written}"


def remarks(verb: str, others: Mapping[str, str]) -> dict[str, str]:
    """What the files behind a verb's settings say of them: dotted name -> remark.

    A group's own file comes first: an experiment tells why it sets something, not what that is.

    Args:
        verb: name of the yaml at the top of `conf`.
        others: choices of groups where they are not the verb's own.
    """
    root = resources.files(PACKAGE)
    top = (root / f"{verb}.yaml").read_text(encoding="utf-8")
    choices = {**_defaults(top), **others}
    whole = [top]
    if choices.get("experiment", "none") != "none":
        whole.append((root / "experiment" / f"{choices['experiment']}.yaml").read_text(encoding="utf-8"))
        choices = {**choices, **_defaults(whole[-1]), **others}
    out: dict[str, str] = {}
    for group, choice in choices.items():
        if group != "experiment":
            text = (root / group / f"{choice}.yaml").read_text(encoding="utf-8")
            out |= {f"{group}.{name}": said for name, said in _said(text)}
    return {name: said for text in reversed(whole) for name, said in _said(text)} | out


def annotated(text: str, said: Mapping[str, str]) -> str:
    """Yaml with remarks beside the settings that they are of."""
    out = []
    for line, name in _named(text.splitlines()):
        remark, plain = said.get(name), line.replace("'", "", 2) if line.startswith("'") else line
        out.append(plain if remark is None else f"{plain:<{_COLUMN - 2}}  # {remark}")
    return "\n".join(out) + "\n"


def _defaults(text: str) -> dict[str, str]:
    """Choices of groups that a file makes."""
    listed: list[Any] = yaml.safe_load(text).get("defaults", [])
    pairs = [pair for entry in listed if isinstance(entry, dict) for pair in entry.items()]
    return {str(group).removeprefix("override").strip().removeprefix("/"): str(choice) for group, choice in pairs}


def _said(text: str) -> Iterable[tuple[str, str]]:
    for line, name in _named(text.splitlines()):
        found = _REMARK.search(line)
        if name and found:
            yield name, found["text"]


def _named(lines: Iterable[str]) -> Iterable[tuple[str, str]]:
    """Lines of yaml, each with the dotted name of what it sets; "" where it sets nothing."""
    above: list[tuple[int, str]] = []
    for line in lines:
        found = _LINE.match(line)
        if found is None:
            yield line, ""
            continue
        depth = len(found["indent"])
        above = [*((d, key) for d, key in above if d < depth), (depth, found["key"])]
        yield line, ".".join(key for _, key in above)
