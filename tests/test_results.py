"""The format of results, its tables, and the tables of the documentation."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agents import provenance
from assets.errors import InvalidValueError, UnknownNameError
from benchmarks import peers, results, tables
from benchmarks.results import Row

ROWS = (
    Row("saccade", "camera_sps_84", 1234.5, 1200.0, 1250.0, 5, (0,)),
    Row("saccade", "state_overhead_ratio", 1.0625, 1.05, 1.08, 5, (0,)),
    Row("other", "camera_sps_84", 13.04, None, None, 1, (0, 1)),
)

LONG = """\
| Name | Metric | Value | Interval | n |
|:--|:--|--:|:-:|--:|
| saccade | camera_sps_84 | 1,234 | 1,200 to 1,250 | 5 |
| saccade | state_overhead_ratio | 1.06 | 1.05 to 1.08 | 5 |
| other | camera_sps_84 | 13.0 |  | 1 |

`make it` on 2026-01-31, commit 0123456789+dirty, Some CPU, 2 cores, no GPU.
"""

WIDE = """\
| Name | camera_sps_84 | state_overhead_ratio |
|:--|--:|--:|
| saccade | 1,234 (1,200 to 1,250) | 1.06 (1.05 to 1.08) |
| other | 13.0 |  |
"""

DOCUMENT = """\
# Speed

```
<!-- results:shown_as_code -->
```

<!-- results:speed:{view} -->
<!-- /results -->

The end.
"""


@pytest.fixture
def golden(tmp_path: Path) -> Path:
    """A result file whose provenance does not depend on where the test runs."""
    path = results.write("speed", "make it", ROWS, tmp_path / "docs" / "results")
    content = json.loads(path.read_text())
    content["commit"] = "0123456789abcdef0123456789abcdef01234567+dirty"
    content["date"] = "2026-01-31T12:00:00+00:00"
    content["machine"] |= {"cpu": "Some CPU", "cores": 2, "gpu": None}
    path.write_text(json.dumps(content))
    return path


def document(root: Path, view: str = "wide") -> Path:
    path = root / "docs" / "guide" / "speed.md"
    path.parent.mkdir(parents=True)
    path.write_text(DOCUMENT.format(view=view))
    return path


# -- the format --------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = results.write("speed", "make it", ROWS, tmp_path, {"other": "1.2", "absent": None})
    result = results.read(path)
    assert not result.earlier
    assert path == tmp_path / "speed.json"
    assert result.rows == ROWS
    assert result.origin.command == "make it"
    assert set(result.origin.machine) == {"cpu", "cores", "memory_gib", "gpu", "os", "python"}
    assert set(result.origin.versions) == {*provenance.PACKAGES, "other", "absent"}
    assert result.origin.versions["other"] == "1.2"
    assert result.origin.versions["absent"] is None
    assert re.fullmatch(r"unknown|[0-9a-f]{40}(\+dirty)?", result.origin.commit)


def test_rows_of_other_names_can_be_kept_with_where_they_come_from(golden: Path) -> None:
    new = Row("saccade", "camera_sps_84", 2000.0, None, None, 1)
    results.write("speed", "make it again", [new], golden.parent, keep=True)
    found = results.read(golden)
    assert found.rows == (new, ROWS[2])
    assert (found.origin.command, list(found.earlier)) == ("make it again", ["other"])
    assert found.earlier["other"].command == "make it"
    last = results.table(golden).splitlines()[-2:]
    assert last[0].startswith("`make it again` on ")
    assert last[1] == "other: `make it` on 2026-01-31, commit 0123456789+dirty, Some CPU, 2 cores, no GPU."
    results.write("speed", "make it a third time", [Row("third", "x", 1.0, None, None, 1)], golden.parent, keep=True)
    assert {name: o.command for name, o in results.read(golden).earlier.items()} == {
        "saccade": "make it again", "other": "make it",
    }  # fmt: skip
    results.write("speed", "anew", [new], golden.parent)
    assert results.read(golden).rows == (new,)


def test_outside_git_the_commit_is_unknown(tmp_path: Path) -> None:
    assert provenance.commit(tmp_path) == "unknown"


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"name": " "}, "a row's name must be a text of one line without '|', not empty; got ' '"),
        ({"metric": "a|b"}, "a row's metric must be a text of one line without '|', not empty; got 'a|b'"),
        ({"value": float("nan")}, "row a/b: value must be a finite number, got nan"),
        ({"value": True}, "row a/b: value must be a finite number, got True"),
        ({"value": 3.0}, "row a/b: low <= value <= high must hold, got 1.0, 3.0, 2.0"),
        ({"low": None}, "row a/b: low and high are both numbers or both null, got low=None, high=2.0"),
        ({"low": None, "high": None}, "row a/b: low and high may be null only when n is 1, and n is 5"),
        ({"n": 0}, "row a/b: the count must be an integer >= 1, got 0"),
        ({"seeds": (0, -1)}, "row a/b: seeds must be a list of integers >= 0, got (0, -1)"),
    ],
)
def test_a_row_that_breaks_a_rule_is_refused(fields: dict[str, Any], sentence: str) -> None:
    good: dict[str, Any] = {"name": "a", "metric": "b", "value": 1.5, "low": 1.0, "high": 2.0, "n": 5, "seeds": (0,)}
    with pytest.raises(InvalidValueError) as error:
        Row(**good | fields)
    assert str(error.value) == sentence


def _drop(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda content: content.pop(key)


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (_drop("machine"), "speed.json: the file lacks machine; it holds exactly command, commit, date, machine"),
        (lambda c: c.update(note=1), "speed.json: the file has the unknown key note"),
        (lambda c: c.update(rows=[]), "speed.json: rows must be a list of at least one row, got []"),
        (lambda c: c.update(commit=""), "speed.json: commit must be a text that is not empty, got ''"),
        (lambda c: c.update(date="yesterday"), "speed.json: date must be UTC in ISO 8601"),
        (lambda c: c.update(date="2026-01-31T12:00:00"), "speed.json: date must be UTC in ISO 8601"),
        (lambda c: c["rows"].append(c["rows"][0]), "speed.json: two rows are named saccade/camera_sps_84"),
        (lambda c: c["rows"][1].pop("low"), "speed.json: row 1 lacks low"),
        (lambda c: c["rows"][1].update(n=1.5), "speed.json: row 1: row saccade/state_overhead_ratio: the count"),
        (lambda c: c["rows"][0].update(value=float("nan")), "speed.json: numbers must be finite, got NaN"),
        (lambda c: c["versions"].pop("torch"), "speed.json: versions lacks torch; write null"),
        (lambda c: c.update(earlier=[{**c, "names": ["mine"]}]), "speed.json: earlier origin 0 has the unknown key earlier"),
        (lambda c: c["machine"].update(gpu=1), "speed.json: machine.gpu must be a text, or null without a GPU, got 1"),
    ],
)
def test_a_damaged_file_is_refused(golden: Path, damage: Callable[[dict[str, Any]], object], sentence: str) -> None:
    content = json.loads(golden.read_text())
    damage(content)
    golden.write_text(json.dumps(content))
    with pytest.raises(InvalidValueError, match=re.escape(sentence)):
        results.read(golden)


def test_nothing_is_written_when_the_rows_break_a_rule(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="two rows are named"):
        results.write("speed", "make it", [ROWS[0], ROWS[0]], tmp_path)
    with pytest.raises(InvalidValueError, match="a result's name"):
        results.write("../speed", "make it", ROWS, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_missing_file_names_those_that_exist(golden: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"other.json is missing from results: files there: speed.json"):
        results.read(golden.with_name("other.json"))


def test_repeated_measurements_give_median_and_quartiles() -> None:
    assert results.median_quartiles([5.0, 1.0, 2.0, 4.0, 3.0]) == (3.0, 2.0, 4.0)
    assert results.median_quartiles([7.0]) == (7.0, None, None)
    assert results.speed_row("a", "b", [1.0, 3.0], [0]) == Row("a", "b", 2.0, 1.5, 2.5, 2, (0,))
    with pytest.raises(InvalidValueError, match="at least one measurement"):
        results.median_quartiles([])


# -- tables ------------------------------------------------------------------------------------------------------------


def test_tables_are_as_they_were(golden: Path) -> None:
    assert results.table(golden) == LONG
    assert results.table(golden, "wide").startswith(WIDE)
    assert "camera" not in results.table(golden, "state_overhead_ratio")


def test_a_view_of_a_metric_that_is_not_there_is_refused(golden: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown metric 'camera_sps_85': did you mean 'camera_sps_84'"):
        results.table(golden, "camera_sps_85")


def test_rows_of_chosen_names_alone(golden: Path, tmp_path: Path) -> None:
    assert {row.name for row in ROWS} == {"saccade", "other"}
    for view in ("", "wide"):
        lines = results.table(golden, view, "sac*").splitlines()
        assert [line.split(" ")[1] for line in lines if line.startswith("| ")][1:] == ["saccade"] * (2 if not view else 1)
    assert results.table(golden, "wide", "oth*,sac*") == results.table(golden, "wide")
    with pytest.raises(UnknownNameError, match="unknown row 'sacade': did you mean 'saccade'"):
        results.table(golden, "wide", "other,sacade")
    path = document(tmp_path, "wide:oth*")
    assert tables.main(["--root", str(tmp_path)]) == 0
    assert "| other |" in path.read_text()
    assert "| saccade |" not in path.read_text()


def test_a_pattern_has_as_many_parts_as_the_names_that_it_fits(tmp_path: Path) -> None:
    named = [Row(name, "success", 0.5, None, None, 1, (0,)) for name in ("reach/eye", "reach/eye/dark", "door/eye")]
    path = results.write("gazes", "make it", named, tmp_path)
    for pattern, expected in (("reach/*", ["reach/eye"]), ("*/eye", ["reach/eye", "door/eye"]), ("*/*/*", ["reach/eye/dark"])):
        lines = results.table(path, "wide", pattern).splitlines()
        assert [line.split(" ")[1] for line in lines if line.startswith("| ")][1:] == expected


def test_blocks_are_written_once_and_code_is_left_alone(golden: Path, tmp_path: Path) -> None:
    path = document(tmp_path)
    assert tables.main(["--root", str(tmp_path), "--check"]) == 1
    assert tables.main(["--root", str(tmp_path)]) == 0
    written = path.read_text()
    assert f"<!-- results:speed:wide -->\n\n{WIDE}" in written
    assert "```\n<!-- results:shown_as_code -->\n```" in written
    assert written.endswith("<!-- /results -->\n\nThe end.\n")
    assert tables.main(["--root", str(tmp_path)]) == 0
    assert path.read_text() == written
    assert tables.main(["--root", str(tmp_path), "--check"]) == 0


def test_check_names_a_table_edited_by_hand(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = document(tmp_path)
    tables.main(["--root", str(tmp_path)])
    edited = path.read_text().replace("13.0", "14.0")
    path.write_text(edited)
    assert tables.main(["--root", str(tmp_path), "--check"]) == 1
    named = Path("docs/guide/speed.md")
    assert f"{named}: block results:speed:wide and its result file disagree" in capsys.readouterr().err
    assert path.read_text() == edited


def test_check_names_a_missing_file(golden: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document(tmp_path)
    tables.main(["--root", str(tmp_path)])
    golden.unlink()
    assert tables.main(["--root", str(tmp_path), "--check"]) == 1
    assert "speed.md: block results:speed:wide: speed.json is missing from results" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<!-- results:speed -->\n", "block results:speed is not closed"),
        ("<!-- /results -->\n", "line 1: <!-- /results --> closes no block"),
        ("<!-- results:speed -->\n<!-- results:speed -->\n<!-- /results -->\n", "line 2: <!-- results:speed --> follows"),
    ],
)
def test_broken_markers_are_named_and_kept(golden: Path, tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "README.md").write_text(text)
    problems = tables.update(tmp_path)
    assert any(problem.startswith(f"README.md: {sentence}") for problem in problems)


def test_the_tables_of_this_repository_match_their_files() -> None:
    assert tables.update(results.ROOT, check=True) == []


# -- the peers benchmark, without its peers ----------------------------------------------------------------------------


def test_speedups_are_paired_by_round() -> None:
    values: peers.Values = {("saccade", "camera_sps_84"): [100.0, 300.0], ("dm_control", "camera_sps_84"): [50.0, 100.0]}
    found = peers.with_speedups(values)
    assert found["saccade/dm_control", "speedup_84"] == [2.0, 3.0]
    assert len(found) == 3


def test_a_missing_system_library_is_named() -> None:
    assert peers.missing_library("OSError: libEGL.so.1: cannot open shared object file") == "libEGL.so.1"
    found = peers.missing_library("AttributeError: 'NoneType' object has no attribute 'eglQueryString'")
    assert found is not None
    assert "libegl1" in found
    assert peers.missing_library("ValueError: something else") is None


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--rounds", "0"], "error: --rounds must be an integer >= 1, got 0"),
        (["--seconds", "0"], "error: --seconds must be above 0 and below 3600, got 0.0"),
        (["--only", "robosuit"], "error: unknown subject 'robosuit': did you mean 'robosuite'?"),
    ],
)
def test_wrong_arguments_are_named(argv: list[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(argv, tmp_path) == 1
    assert capsys.readouterr().err.startswith(sentence)


def test_a_subject_that_fails_is_an_error_with_its_last_lines() -> None:
    with pytest.raises(peers.PeerError) as error:
        peers.Worker(Path(sys.executable), "nobody", "state", 0)
    assert str(error.value).startswith("nobody (state) ended with status 1; --only leaves it out: saccade, gymnasium-robotics")
    assert str(error.value).endswith("ValueError: unknown subject 'nobody': available: " + ", ".join([*peers.PEERS, "saccade"]))


def test_a_folder_that_is_not_an_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "something").write_text("kept")
    with pytest.raises(peers.PeerError, match="--venv must be a new folder, an empty one or a virtual environment"):
        peers.ensure_venv(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["something"]
