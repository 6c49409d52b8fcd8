"""Telling a person what is going on: quiet where nobody watches."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

# Results go to stdout, so that they can be piped; everything about how it goes, to stderr.
_err = Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """A line about what is happening, on stderr."""
    _err.print(text, markup=False, soft_wrap=True)


@contextmanager
def bar(title: str, total: int, start: int = 0) -> Iterator[Callable[[int, str], None]]:
    """A progress bar on a terminal, a line every tenth elsewhere; call it with (done so far, a few words)."""
    if sys.stderr.isatty():
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
            TextColumn("{task.fields[words]}"),
        )  # fmt: skip
        with Progress(*columns, console=_err) as progress:
            task = progress.add_task(title, total=total, completed=start, words="")
            yield lambda done, words="": progress.update(task, completed=done, words=words)
        return
    tenth = start * 10 // max(total, 1)

    def update(done: int, words: str = "") -> None:
        nonlocal tenth
        now = done * 10 // max(total, 1)
        if now > tenth or done >= total:
            tenth = now
            say(f"{title}: {done}/{total}  {words}".rstrip())

    yield update


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None) -> None:
    """Print a table on stdout."""
    grid = Table(*columns, title=title)
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    Console(width=None if sys.stdout.isatty() else 120).print(grid)
