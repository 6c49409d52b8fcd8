"""Cells of benchmarks: made once, with where they come from, and copied to where published ones lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets.errors import InvalidValueError, UnknownNameError
from benchmarks.cells import ORIGIN, archive, averaged, cell, chosen, stamped


def test_a_cell_is_made_once_and_says_where_it_comes_from(tmp_path: Path) -> None:
    file, made = tmp_path / "a" / "cell-0.json", iter([{"x": 1.0}])
    assert stamped(file, lambda: next(made)) == stamped(file, lambda: next(made)) == {"x": 1.0}
    assert set(json.loads(file.read_text())[ORIGIN]) == {"date", "commit", "machine", "versions"}


def test_means_leave_out_where_cells_come_from(tmp_path: Path) -> None:
    for seed, value in ((0, 1.0), (1, 3.0)):
        cell(tmp_path, "a/b", seed, lambda value=value: {"x": value})
    (row,) = averaged(tmp_path, ["a/b", "missing"], "it")
    assert (row.name, row.metric, row.value, row.low, row.high, row.seeds) == ("a/b", "x", 2.0, 1.0, 3.0, (0, 1))
    with pytest.raises(InvalidValueError, match="no cells yet: run it first"):
        averaged(tmp_path, ["missing"], "it")


def test_an_archive_keeps_what_is_not_here_anew(tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for place, value in (
        (there / "a" / "cell-0.json", "old"),
        (there / "a" / "cell-1.json", "old"),
        (here / "a" / "cell-0.json", "new"),
    ):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(value)
    (here / "a" / "other.json").write_text("no cell")
    archive(here, there)
    found = {f.name: f.read_text() for f in (there / "a").iterdir()}
    assert found == {"cell-0.json": "new", "cell-1.json": "old"}


def test_names_with_commas() -> None:
    assert chosen("a,b", ("b", "a"), "cell") == ["a", "b"]
    assert chosen("", ("a",), "cell") == []
    with pytest.raises(UnknownNameError, match="estop"):
        chosen("estp", ("estop", "reach"), "cell")
