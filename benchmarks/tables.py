"""Tables of the documentation, made from the result files.

`python -m benchmarks.tables` rewrites every block of README.md and docs/**/*.md between

    <!-- results:NAME --> or <!-- results:NAME:VIEW --> or <!-- results:NAME:VIEW:NAMES -->
    <!-- /results -->

from docs/results/NAME.json; VIEW and NAMES are those of `results.table`. With `--check` nothing is written, and the exit
status is 1 when a table and its file disagree or the file is missing. Fenced code is left alone.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from agents.cli import guarded
from assets.errors import InvalidValueError, SaccadeError
from benchmarks import results

_OPEN = re.compile(r"^\s*<!--\s*results:([^:\s]+)(?::(\S+))?\s*-->\s*$")
_CLOSE = re.compile(r"^\s*<!--\s*/results\s*-->\s*$")
_REMEDY = "run python -m benchmarks.tables"
_FENCE = re.compile(r"^\s*(`{3,}|~{3,})")


def documents(root: Path) -> list[Path]:
    """README.md and docs/**/*.md under `root`, those that exist, in order."""
    readme = root / "README.md"
    return ([readme] if readme.is_file() else []) + sorted((root / "docs").rglob("*.md"))


def render(text: str, folder: Path) -> tuple[str, list[str], list[str]]:
    """A document's text with every block made anew.

    Args:
        text: the document.
        folder: where the result files lie.

    Returns:
        The new text, the labels of the blocks that changed ("results:NAME:VIEW"), and a sentence per block that could not
        be made; such a block keeps its text.
    """
    out: list[str] = []
    changed: list[str] = []
    problems: list[str] = []
    for label, lines in _pieces(text, problems):
        new = lines if label is None else _block(label, lines, folder, problems)
        if new != lines:
            changed.append(str(label))
        out += new
    return "".join(out), changed, problems


def _pieces(text: str, problems: list[str]) -> list[tuple[str | None, list[str]]]:
    """The document cut into plain pieces (label None) and blocks with their two marker lines."""
    pieces: list[tuple[str | None, list[str]]] = [(None, [])]
    fence: str | None = None
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        inside = pieces[-1][0] is not None
        fence = fence if inside else _fence(line, fence)
        opened = None if fence else _OPEN.match(line)
        closed = not fence and _CLOSE.match(line) is not None
        if (opened and inside) or (closed and not inside):
            problems.append(f"line {number}: {line.strip()} {'follows an open block' if opened else 'closes no block'}")
        if opened:
            pieces.append((_label(opened), []))
        pieces[-1][1].append(line)
        if closed:
            pieces.append((None, []))
    if pieces[-1][0] is not None:
        problems.append(f"block {pieces[-1][0]} is not closed: end it with <!-- /results -->")
    return pieces


def _fence(line: str, fence: str | None) -> str | None:
    """The fence that code is within after this line, or None."""
    found = _FENCE.match(line)
    if not found:
        return fence
    if fence is None:
        return found.group(1)
    return None if line.strip().startswith(fence) and set(line.strip()) == {fence[0]} else fence


def _label(opened: re.Match[str]) -> str:
    return "results:" + ":".join(part for part in opened.groups() if part)


def _block(label: str, lines: list[str], folder: Path, problems: list[str]) -> list[str]:
    if len(lines) < 2 or not _CLOSE.match(lines[-1]):
        return lines
    _, name, *shown = label.split(":", 3)
    try:
        body = results.table(folder / f"{name}.json", *shown)
    except SaccadeError as error:
        problems.append(f"block {label}: {error}")
        return lines
    return [lines[0], "\n", *body.splitlines(keepends=True), "\n", lines[-1]]


def update(root: Path, check: bool = False) -> list[str]:
    """Rewrite, or only check, the tables of every document under `root`.

    Returns:
        A sentence per problem, each naming the file and the block; empty when all is well.
    """
    problems: list[str] = []
    for path in documents(root):
        text, where = path.read_text(encoding="utf-8"), path.relative_to(root)
        new, changed, broken = render(text, root / "docs" / "results")
        problems += [f"{where}: {sentence}" for sentence in broken]
        if check:
            problems += [f"{where}: block {label} and its result file disagree: {_REMEDY}" for label in changed]
        elif changed:
            path.write_text(new, encoding="utf-8")
            print(f"{where}: {', '.join(changed)}")
    return problems


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status, 1 when a block is wrong or could not be made."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description="make the documentation's tables")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when a table disagrees with its file")
    parser.add_argument("--root", type=Path, default=results.ROOT, help="folder of README.md and docs")
    arguments = parser.parse_args(argv)
    if not arguments.root.is_dir():
        raise InvalidValueError(f"--root must be a folder, got {str(arguments.root)!r}")
    problems = update(arguments.root, arguments.check)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
