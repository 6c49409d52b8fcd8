"""What README.md and docs/ say is so: every code block runs, every link leads somewhere, the environments' tables are theirs.

A page runs in a process of its own, in a folder that holds a copy of the packages, block by block from its top:

- ```python is executed, all blocks of a page in one namespace;
- ```sh is executed line by line: `saccade ...` and `python -m ...`;
- ```console is a command that fails, followed by what it says ("..." stands for anything).

A comment in the line before a block changes that:

    <!-- test: steps=64 num_envs=2 -->       overrides for its `saccade` commands, where they have such a setting
    <!-- test: skip REASON -->               REASON is one of `REASONS`
    <!-- test: file PATH -->                 the block is the content of a file
    <!-- test: insert PATH after TEXT -->    the block goes into a file, after the line that contains TEXT
"""

from __future__ import annotations

import ast
import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
REASONS = (
    "installs software",
    "needs a cluster",
    "needs another library",
    "serves a page until interrupted",
    "takes minutes",
    "takes hours",
)
COPIED = ("assets", "perception", "rewards", "envs", "agents", "conf", "benchmarks")
EXECUTED = ("python", "sh", "console")

_FENCE = re.compile(r"^```(\w*)\s*$")
_TOLD = re.compile(r"^<!-- test: (.+?) -->$")
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"`(saccade [^`<]+)`")


@dataclass(frozen=True)
class Block:
    """One fenced block: its language, what is told about it, its text, the line where its text begins."""

    language: str
    told: str
    text: str
    line: int


def blocks(text: str) -> Iterator[Block]:
    lines = text.splitlines()
    at, told = 0, ""
    while at < len(lines):
        opened, comment = _FENCE.match(lines[at]), _TOLD.match(lines[at])
        if opened:
            end = next(i for i in range(at + 1, len(lines)) if lines[i].strip() == "```")
            yield Block(opened.group(1), told, "\n".join(lines[at + 1 : end]) + "\n", at + 2)
            at = end
        told = comment.group(1) if comment else ""
        at += 1


def tables(text: str) -> list[list[list[str]]]:
    """Every table: rows of cells, its header first."""
    found: list[list[list[str]]] = [[]]
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
            if not all(set(cell) <= set(":-") for cell in cells):
                found[-1].append(cells)
        elif found[-1]:
            found.append([])
    return [rows for rows in found if rows]


def section(text: str, title: str) -> str:
    start = text.index(f"\n## {title}\n")
    end = text.find("\n## ", start + 1)
    return text[start : end if end > 0 else None]


# -- running a page (in its own process) -------------------------------------------------------------------------------


class Page:
    """Executes blocks, in order, in the working folder."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.namespace: dict[str, Any] = {"__name__": "__main__"}

    def run(self, block: Block) -> None:
        what, _, rest = block.told.partition(" ")
        if what == "skip":
            return
        if what == "file":
            Path(rest).parent.mkdir(parents=True, exist_ok=True)
            Path(rest).write_text(block.text)
        elif what == "insert":
            insert(block.text, *rest.split(" after ", 1))
        elif block.language == "python":
            # Blank lines put the code where it stands on the page, so that a traceback names the page's line.
            exec(compile("\n" * (block.line - 1) + block.text, self.name, "exec"), self.namespace)
        elif block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                self.command(line, block.told.split())
        elif block.language == "console":
            self.console(block)

    def command(self, line: str, overrides: Sequence[str]) -> None:
        words = shlex.split(line, comments=True)
        variables = {}
        while words and re.match(r"[A-Z_]+=", words[0]):
            name, _, variables[name] = words.pop(0).partition("=")
        if not words or words[0] in (".", "export"):
            return
        if words[0] == "saccade":
            words = ["saccade", *with_overrides(words[1:], overrides)]
        print("$", shlex.join(words), flush=True)
        if words[0] == "saccade" and not variables:
            from agents import cli

            assert cli.run(words[1:]) == 0, line
        elif words[0] in ("saccade", "python"):
            command = ["-m", "agents.cli"] if words[0] == "saccade" else []
            subprocess.run([sys.executable, *command, *words[1:]], check=True, env={**os.environ, **variables})
        else:
            raise AssertionError(f"{self.name}: a page cannot run {line!r}; say why it is skipped")

    def console(self, block: Block) -> None:
        """Commands that fail, each with the sentence that it fails with."""
        from agents import cli
        from assets.errors import SaccadeError

        for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, expected = part.partition("\n")
            with pytest.raises(SaccadeError) as caught:
                cli.run(shlex.split(line)[1:])
            said = f"saccade: {caught.value}\n"
            assert doctest.OutputChecker().check_output(expected, said, doctest.ELLIPSIS), f"{line}\n{said}"


def insert(text: str, path: str, mark: str) -> None:
    lines = Path(path).read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if mark in line)
    Path(path).write_text("".join([*lines[: at + 1], text, *lines[at + 1 :]]))


def with_overrides(arguments: Sequence[str], overrides: Sequence[str]) -> list[str]:
    """A command with those overrides that its verb has settings for, in place of its own."""
    from agents.config import groups, keys, load, verbs

    head = [a for a in arguments if "=" not in a]
    verb = head[-1] if head == ["bench", "perception"] else head[0]
    if verb not in verbs():
        return list(arguments)
    rest = arguments[len(head) :]
    known = set(keys(load(verb, [a for a in rest if a.split("=")[0] in groups()])))
    mine = [o for o in overrides if o.split("=")[0] in known]
    replaced = {o.split("=")[0] for o in mine}
    return [*head, *(a for a in rest if a.split("=")[0] not in replaced), *mine]


@pytest.mark.parametrize("name", [n for n, p in zip(NAMES, PAGES, strict=True) if any(blocks(p.read_text()))])
def test_every_block_runs(name: str, tmp_path: Path) -> None:
    for package in COPIED:
        shutil.copytree(ROOT / package, tmp_path / package)
    (tmp_path / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "test_every_env.py", tmp_path / "tests")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    # One thread for torch: these networks are tiny, and threads that wait for each other starve on a busy machine.
    ours = {"PYTHONPATH": str(tmp_path), "MUJOCO_GL": os.environ.get("MUJOCO_GL", "egl"), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, __file__, name], cwd=tmp_path, env={**os.environ, **ours}, capture_output=True, text=True, timeout=600
    )
    assert ran.returncode == 0, f"{name}\n{ran.stdout[-3000:]}\n{ran.stderr[-5000:]}"


# -- what is written ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_is_skipped_has_a_reason_and_every_block_a_language(name: str) -> None:
    for block in blocks((ROOT / name).read_text()):
        assert block.language, f"{name}:{block.line}: a block without a language"
        if block.told.startswith("skip"):
            assert block.told.removeprefix("skip ") in REASONS, f"{name}:{block.line}: {block.told!r}"
        elif block.told:
            assert block.language in EXECUTED or block.told.split()[0] in ("file", "insert"), f"{name}:{block.line}"


@pytest.mark.parametrize("name", [*NAMES, "CHANGELOG.md"])
def test_links_to_files_lead_somewhere(name: str) -> None:
    text = (ROOT / name).read_text()
    for target in _LINK.findall(text):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}, f"{name}: {target}"


@pytest.mark.parametrize("name", NAMES)
def test_commands_within_sentences_compose(name: str) -> None:
    from agents.cli import VERBS
    from agents.config import load, verbs

    for command in _COMMAND.findall((ROOT / name).read_text()):
        verb, *rest = shlex.split(command)[1:]
        assert verb in VERBS, f"{name}: {command}"
        if verb in verbs() and not any(a.startswith("-") for a in rest):
            load(verb, [a if "=" in a else f"run={a}" for a in rest])


@pytest.mark.parametrize("name", NAMES)
def test_make_targets_exist(name: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for target in re.findall(r"(?:^|`)make ([a-z]+)", (ROOT / name).read_text(), re.MULTILINE):
        assert target in targets, f"{name}: make {target}"


def test_every_verb_is_in_the_readme() -> None:
    from agents.cli import VERBS

    rows = {row[0].strip("`") for table in tables((ROOT / "README.md").read_text()) for row in table}
    assert set(VERBS) <= rows


def test_every_configuration_is_in_the_page_on_training() -> None:
    from agents.config import groups

    text = (ROOT / "docs" / "training.md").read_text()
    for group, choices in groups().items():
        if group != "env":
            assert not [c for c in choices if f"`{c}`" not in text], group


def test_everything_that_pays_has_a_row() -> None:
    text = "".join((ROOT / "docs" / page).read_text() for page in ("adding_a_reward.md", "rewards.md"))
    for file in (ROOT / "rewards").glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            public = isinstance(node, ast.ClassDef) and not node.name.startswith("_")
            if public and "Protocol" not in map(ast.unparse, node.bases):
                pays = any(isinstance(part, ast.FunctionDef) and part.name == "__call__" for part in node.body)
                assert not pays or f"`rewards.{file.stem}.{node.name}`" in text, node.name


# -- the environments' page --------------------------------------------------------------------------------------------


def environment_ids() -> list[str]:
    if __name__ == "__main__":
        return []  # a page is being run, and may add to them
    from envs.registry import ids

    return ids()


@pytest.fixture(scope="module")
def environments() -> str:
    return (ROOT / "docs" / "environments.md").read_text()


@pytest.mark.parametrize("env_id", environment_ids())
def test_the_environments_page_tells_what_they_are(env_id: str, environments: str) -> None:
    import gymnasium

    env: Any = gymnasium.make(f"envs:{env_id}")
    try:
        text = section(environments, env_id)
        named = {rows[0][0]: rows for rows in tables(text)}
        told = {row[0].strip("`"): (row[1], row[2]) for row in named["observation"][1:]}
        assert told == {k: (str(v.shape), str(v.dtype)) for k, v in env.observation_space.items()}
        slices = {row[0].strip("`"): row[1] for row in named["action"][1:]}
        assert slices == {k: f"{s.start}:{s.stop}" for k, s in env.unwrapped.action_slices.items()}
        dt, steps = env.unwrapped.task.control_dt, env.spec.max_episode_steps
        overview = next(row for row in tables(environments)[0] if row[0].startswith(f"[{env_id}]"))
        size = env.action_space.shape[0]
        assert overview[2:] == [f"{1 / dt:.0f} Hz", f"{steps} steps, {steps * dt:g} s", f"{size} numbers"]
        again = "as Reach" in text and env_id != "Saccade/Reach-v0"
        whole = text + (section(environments, "Saccade/Reach-v0") if again else "")
        assert not [f.name for f in fields(env.unwrapped.task) if f"`{f.name}`" not in whole]
        assert re.search(r"!\[[^\]]+\]\(pictures/\w+\.png\)", text)
    finally:
        env.close()


@pytest.mark.parametrize(("suffix", "most"), [("gif", 600_000), ("png", 150_000)])
def test_pictures_are_small(suffix: str, most: int) -> None:
    pictures = sorted((ROOT / "docs" / "pictures").glob(f"*.{suffix}"))
    assert len(pictures) >= len(environment_ids())
    assert not [p.name for p in pictures if p.stat().st_size > most]


if __name__ == "__main__":
    page = Page(sys.argv[1])
    for one in blocks((ROOT / sys.argv[1]).read_text()):
        page.run(one)
