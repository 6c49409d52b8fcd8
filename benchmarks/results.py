"""The one format of every result of the suite.

A result is a JSON file in docs/results: the command that made it, the commit, the date, the machine, the versions, and rows
of figures. Tables in the documentation are made from these files by `python -m benchmarks.tables`.
"""

from __future__ import annotations

import fnmatch
import json
import math
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np

from agents import provenance
from agents.provenance import ROOT
from agents.show import say
from assets.errors import InvalidValueError, UnknownNameError

FOLDER = ROOT / "docs" / "results"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ORIGIN_KEYS = ("command", "commit", "date", "machine", "versions")
_FILE_KEYS = (*_ORIGIN_KEYS, "earlier", "rows")
_MACHINE_KEYS = ("cpu", "cores", "memory_gib", "gpu", "os", "python")
_ROUNDING = 1e-9  # relative slack of low <= value <= high


@dataclass(frozen=True)
class Row:
    """One figure with its interval.

    Args:
        name: what was measured, such as "saccade"; no "|" and no line break.
        metric: the figure's name, with its unit where it has one, such as "camera_sps_84" (env steps per second).
        value: the figure.
        low: lower end of the interval, in the metric's unit; None only when n is 1.
        high: upper end of the interval; None exactly when `low` is.
        n: number of rounds, episodes or seeds behind the figure.
        seeds: the seeds used; empty where nothing is random.

    Raises:
        InvalidValueError: a field breaks its rule; the sentence names the row and the field.
    """

    name: str
    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    seeds: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        _check_text("metric", self.metric)
        label = f"row {self.name}/{self.metric}"
        _check_count(label, self.n)
        object.__setattr__(self, "seeds", _checked_seeds(label, self.seeds))
        object.__setattr__(self, "value", _number(f"{label}: value", self.value))
        _check_pair(label, self.low, self.high, self.n)
        if self.low is not None and self.high is not None:
            object.__setattr__(self, "low", _number(f"{label}: low", self.low))
            object.__setattr__(self, "high", _number(f"{label}: high", self.high))
            _check_order(label, self)


@dataclass(frozen=True)
class Origin:
    """Where figures come from.

    Args:
        command: the command line that made them.
        commit: git commit, with "+dirty" when the tree had changes; "unknown" outside git.
        date: UTC, ISO 8601.
        machine: cpu, cores, memory_gib, gpu (None without one), os, python.
        versions: package -> version, None where the package is absent.
    """

    command: str
    commit: str
    date: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str | None]


@dataclass(frozen=True)
class Result:
    """A result file, validated.

    Args:
        origin: of the rows.
        rows: the figures, (name, metric) unique.
        earlier: other origins, by the rows' names: of rows that were kept when the file was written anew.
    """

    origin: Origin
    rows: tuple[Row, ...]
    earlier: Mapping[str, Origin]


# -- making rows -------------------------------------------------------------------------------------------------------


def median_quartiles(values: Sequence[float]) -> tuple[float, float | None, float | None]:
    """Median, first and third quartile (linear interpolation) of repeated measurements.

    Quartiles and not extremes: one disturbed round on a shared machine should not widen the interval. With a single value
    there is no interval and both ends are None.
    """
    if not values:
        raise InvalidValueError("a median needs at least one measurement, got none")
    if len(values) == 1:
        return float(values[0]), None, None
    low, middle, high = np.quantile(np.asarray(values, dtype=np.float64), (0.25, 0.5, 0.75))
    return float(middle), float(low), float(high)


def speed_row(name: str, metric: str, values: Sequence[float], seeds: Iterable[int] = ()) -> Row:
    """A row from repeated measurements: the median, with the quartiles over the rounds as its interval."""
    value, low, high = median_quartiles(values)
    return Row(name, metric, value, low, high, len(values), tuple(seeds))


# -- writing -----------------------------------------------------------------------------------------------------------


def command_line(module: str, arguments: Sequence[str] | None) -> str:
    """The command that runs a module with given arguments, or with those of this process."""
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if arguments is None else arguments)])


def write(
    name: str,
    command: str,
    rows: Iterable[Row],
    folder: Path = FOLDER,
    versions: Mapping[str, str | None] | None = None,
    keep: bool = False,
) -> Path:
    """Write `<folder>/<name>.json` with the provenance of the rows, and return its path.

    Args:
        name: file name without its suffix: letters, digits, "_", ".", "-".
        command: the command line that made the rows.
        rows: at least one; (name, metric) unique.
        folder: created when missing.
        versions: further versions worth recording, added to the suite's own.
        keep: rows of other names that the file holds already stay, with the origin that they have.

    Raises:
        InvalidValueError: the name, the command or the rows break a rule; nothing is written then.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValueError(f"a result's name holds letters, digits, '_', '.' and '-', such as 'peers'; got {name!r}")
    path, made = folder / f"{name}.json", list(rows)
    old = read(path) if keep and path.is_file() else None
    kept = [row for row in old.rows if row.name not in {new.name for new in made}] if old else []
    now = here()
    origin = Origin(command, **{**now, "versions": {**now["versions"], **(versions or {})}})
    content = {
        **asdict(origin),
        "earlier": _grouped({row.name: old.earlier.get(row.name, old.origin) for row in kept}) if old else [],
        "rows": [asdict(row) for row in (*made, *kept)],
    }
    text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    _parse(path, text)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def publish(name: str, argv: Sequence[str] | None, rows: Iterable[Row]) -> None:
    """Write docs/results/<name>.json of what `python -m benchmarks.<name>` found with these arguments, and say so."""
    say(f"written: {write(name, command_line(f'benchmarks.{name}', argv), rows)}")


def here() -> dict[str, Any]:
    """Where what is made now comes from, JSON-able: "date", "commit", "machine" and "versions", as in `Origin`."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": provenance.commit(),
        "machine": provenance.machine(), "versions": provenance.versions(),
    }  # fmt: skip


def _grouped(origins: Mapping[str, Origin]) -> list[dict[str, Any]]:
    """A JSON object for each origin, with the names of its rows."""
    out: list[dict[str, Any]] = []
    for name, origin in origins.items():
        plain = asdict(origin)
        same = next((one for one in out if {**one, "names": None} == {**plain, "names": None}), None)
        if same:
            same["names"].append(name)
        else:
            out.append({**plain, "names": [name]})
    return out


# -- reading -----------------------------------------------------------------------------------------------------------


def read(path: Path) -> Result:
    """Read and validate a result file.

    Raises:
        InvalidValueError: the file is missing, is not JSON or breaks a rule; the sentence names the file and the place.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        written = sorted(other.name for other in path.parent.glob("*.json"))
        listed = ", ".join(written) or "(none)"
        raise InvalidValueError(f"{path.name} is missing from {path.parent.name}: files there: {listed}") from None
    return _parse(path, text)


def _parse(path: Path, text: str) -> Result:
    try:
        content = json.loads(text, parse_constant=_no_constant)
        return _result(content)
    except json.JSONDecodeError as error:
        raise InvalidValueError(f"{path.name} is not JSON: {error}") from None
    except InvalidValueError as error:
        raise InvalidValueError(f"{path.name}: {error}") from None


def _result(content: object) -> Result:
    found = _mapping("the file", content, _FILE_KEYS)
    rows = found["rows"]
    if not isinstance(rows, list) or not rows:
        raise InvalidValueError(f"rows must be a list of at least one row, got {rows!r}")
    parsed = tuple(_row(index, row) for index, row in enumerate(cast("list[object]", rows)))
    _check_unique(parsed)
    return Result(_origin(found), parsed, _earlier(found["earlier"], {row.name for row in parsed}))


def _origin(found: Mapping[str, Any]) -> Origin:
    for key in ("command", "commit"):
        if not isinstance(found[key], str) or not found[key].strip():
            raise InvalidValueError(f"{key} must be a text that is not empty, got {found[key]!r}")
    _check_date(found["date"])
    return Origin(found["command"], found["commit"], found["date"], _machine(found["machine"]), _versions(found["versions"]))


def _earlier(content: object, known: set[str]) -> dict[str, Origin]:
    if not isinstance(content, list):
        raise InvalidValueError(f"earlier must be a list, got {content!r}")
    out: dict[str, Origin] = {}
    for number_, one in enumerate(cast("list[object]", content)):
        found = _mapping(f"earlier origin {number_}", one, (*_ORIGIN_KEYS, "names"))
        for name in found["names"]:
            if name not in known:
                raise UnknownNameError(f"row of earlier origin {number_}", name, known)
            out[name] = _origin(found)
    return out


def _row(index: int, content: object) -> Row:
    found = _mapping(f"row {index}", content, [field.name for field in fields(Row)])
    try:
        return Row(**found)
    except InvalidValueError as error:
        raise InvalidValueError(f"row {index}: {error}") from None


def _machine(content: object) -> dict[str, Any]:
    found = _mapping("machine", content, _MACHINE_KEYS)
    for key in ("cpu", "os", "python"):
        if not isinstance(found[key], str) or not found[key]:
            raise InvalidValueError(f"machine.{key} must be a text that is not empty, got {found[key]!r}")
    if found["gpu"] is not None and not isinstance(found["gpu"], str):
        raise InvalidValueError(f"machine.gpu must be a text, or null without a GPU, got {found['gpu']!r}")
    _check_count("machine.cores", found["cores"])
    if found["memory_gib"] is not None:
        _number("machine.memory_gib", found["memory_gib"])
    return found


def _versions(content: object) -> dict[str, str | None]:
    if not isinstance(content, dict):
        raise InvalidValueError(f"versions must map packages to versions, got {content!r}")
    found = cast("dict[str, str | None]", content)
    missing = [package for package in provenance.PACKAGES if package not in found]
    if missing:
        raise InvalidValueError(f"versions lacks {', '.join(missing)}; write null for a package that is absent")
    for package, version in found.items():
        if version is not None and not isinstance(version, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValueError(f"versions.{package} must be a text, or null when absent, got {version!r}")
    return found


# -- rules -------------------------------------------------------------------------------------------------------------


def _mapping(place: str, content: object, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise InvalidValueError(f"{place} must be a JSON object with the keys {', '.join(keys)}; got {content!r}")
    found = cast("dict[str, Any]", content)
    missing = [key for key in keys if key not in found]
    extra = [key for key in found if key not in keys]
    if missing:
        raise InvalidValueError(f"{place} lacks {', '.join(missing)}; it holds exactly {', '.join(keys)}")
    if extra:
        raise InvalidValueError(f"{place} has the unknown key {', '.join(extra)}; it holds exactly {', '.join(keys)}")
    return found


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, str) or not value.strip() or "|" in value or "\n" in value:
        raise InvalidValueError(f"a row's {field} must be a text of one line without '|', not empty; got {value!r}")


def _check_count(place: str, n: object) -> None:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InvalidValueError(f"{place}: the count must be an integer >= 1, got {n!r}")


def _checked_seeds(label: str, seeds: object) -> tuple[int, ...]:
    listed = cast("Sequence[object]", seeds) if isinstance(seeds, (list, tuple)) else None
    if listed is None or any(isinstance(seed, bool) or not isinstance(seed, int) or seed < 0 for seed in listed):
        raise InvalidValueError(f"{label}: seeds must be a list of integers >= 0, got {seeds!r}")
    return tuple(cast("Sequence[int]", listed))


def _number(place: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InvalidValueError(f"{place} must be a finite number, got {value!r}")
    return float(value)


def _check_pair(label: str, low: object, high: object, n: int) -> None:
    if (low is None) != (high is None):
        raise InvalidValueError(f"{label}: low and high are both numbers or both null, got low={low!r}, high={high!r}")
    if low is None and n != 1:
        raise InvalidValueError(f"{label}: low and high may be null only when n is 1, and n is {n}")


def _check_order(label: str, row: Row) -> None:
    assert row.low is not None
    assert row.high is not None
    slack = _ROUNDING * max(abs(row.value), abs(row.low), abs(row.high))
    if not row.low - slack <= row.value <= row.high + slack:
        raise InvalidValueError(f"{label}: low <= value <= high must hold, got {row.low!r}, {row.value!r}, {row.high!r}")


def _check_date(value: object) -> None:
    rule = "date must be UTC in ISO 8601, such as '2026-01-31T12:00:00+00:00'"
    try:
        parsed = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        parsed = None
    if parsed is None or parsed.utcoffset() != timedelta(0):
        raise InvalidValueError(f"{rule}; got {value!r}")


def _check_unique(rows: Sequence[Row]) -> None:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (row.name, row.metric) in seen:
            raise InvalidValueError(f"two rows are named {row.name}/{row.metric}; a name and a metric make one row")
        seen.add((row.name, row.metric))


def _no_constant(text: str) -> NoReturn:
    raise InvalidValueError(f"numbers must be finite, got {text}")


# -- tables ------------------------------------------------------------------------------------------------------------


def table(path: Path, view: str = "", names: str = "") -> str:
    """A result file as a Markdown table, with one line on its origin below.

    Args:
        path: the result file.
        view: "" for a line per row; "wide" for a line per name and a column per metric; or metrics separated by commas, for
            a wide table of these metrics alone.
        names: patterns of the names that are shown, separated by commas, such as "search/*,*/bcrl"; "" for all. A star stands
            for no slash, as in a path.

    Raises:
        InvalidValueError: the file is missing or breaks a rule.
        UnknownNameError: the view names a metric that the file does not hold, or a pattern fits no name.
    """
    result = read(path)
    rows = result.rows if not names else _named(result.rows, names.split(","))
    metrics = None if not view else _metrics(result.rows, view)
    shown = rows if metrics is None else [row for row in rows if row.metric in metrics]
    body = _long(rows) if metrics is None else _wide(rows, metrics)
    return "\n".join([*body, "", *_origins(result, list(dict.fromkeys(row.name for row in shown)))]) + "\n"


def number(value: float) -> str:
    """Three significant digits and no fewer than the whole part, thousands separated."""
    size = abs(value)
    digits = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:,.{digits}f}"


def _named(rows: Sequence[Row], patterns: Sequence[str]) -> list[Row]:
    known = list(dict.fromkeys(row.name for row in rows))
    for pattern in patterns:
        if not any(_fits(name, pattern) for name in known):
            raise UnknownNameError("row", pattern, known)
    return [row for row in rows if any(_fits(row.name, pattern) for pattern in patterns)]


def _fits(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _metrics(rows: Sequence[Row], view: str) -> list[str]:
    known = list(dict.fromkeys(row.metric for row in rows))
    if view == "wide":
        return known
    wanted = [metric.strip() for metric in view.split(",")]
    for metric in wanted:
        if metric not in known:
            raise UnknownNameError("metric", metric, [*known, "wide"])
    return wanted


def _interval(row: Row) -> str:
    return "" if row.low is None or row.high is None else f"{number(row.low)} to {number(row.high)}"


def _long(rows: Sequence[Row]) -> list[str]:
    lines = ["| Name | Metric | Value | Interval | n |", "|:--|:--|--:|:-:|--:|"]
    return lines + [f"| {r.name} | {r.metric} | {number(r.value)} | {_interval(r)} | {r.n} |" for r in rows]


def _wide(rows: Sequence[Row], metrics: Sequence[str]) -> list[str]:
    cells = {(row.name, row.metric): row for row in rows}
    names = [n for n in dict.fromkeys(row.name for row in rows) if any((n, m) in cells for m in metrics)]
    lines = [f"| Name | {' | '.join(metrics)} |", f"|:--|{'--:|' * len(metrics)}"]
    return lines + [f"| {n} | {' | '.join(_cell(cells.get((n, m))) for m in metrics)} |" for n in names]


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    interval = _interval(row)
    return f"{number(row.value)} ({interval})" if interval else number(row.value)


def _origins(result: Result, names: Sequence[str]) -> list[str]:
    """A line for each origin of rows of these names; where there are several, all but the file's own tell their names."""
    of: dict[str, list[str]] = {}
    for name in names:
        of.setdefault(_told(result.earlier.get(name, result.origin)), []).append(name)
    own = _told(result.origin)
    lines = [f"{told}." for told in of if told == own]
    return lines + [f"{', '.join(listed)}: {told}." for told, listed in of.items() if told != own]


def _told(origin: Origin) -> str:
    machine_ = origin.machine
    cores = f"{machine_['cores']} core{'s' if machine_['cores'] > 1 else ''}"
    place = f"{machine_['cpu']}, {cores}, {machine_['gpu'] or 'no GPU'}"
    short = re.sub(r"^([0-9a-f]{10})[0-9a-f]+", r"\1", origin.commit)
    return f"`{origin.command}` on {origin.date[:10]}, commit {short}, {place}"
