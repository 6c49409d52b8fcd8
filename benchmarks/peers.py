"""Speed of the suite next to its peers, on one machine, in one run.

`python -m benchmarks.peers` makes, once, a virtual environment of its own for the peers (their pins do not meet the suite's),
then measures every subject in a process of its own, round by round, so that all of them see the same disturbances. Only one
process works at a time and set-up is not timed. Actions are random, resets are timed where they fall, and frames are drawn
by EGL. The peers run as one env a process, the form in which they come; the suite runs 16 simulations in one process, its
own form. Each scene, control rate and task is the subject's own: the figures compare what a user gets, not one scene.

Rows of docs/results/peers.json: `state_sps`, `camera_sps_84`, `camera_sps_224` (env steps per second, the latter with one
square rgb image a step), `camera_sps_84_fast` and `camera_sps_224_fast` (a peer with multisampling, shadows and reflections
off), `speedup_84` and `speedup_224` (the suite over a peer's default, paired round by round) and `state_overhead_ratio` (time
of a control step over that of a bare batch loop). Values are medians over the rounds, intervals their quartiles.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, cast

from agents.cli import guarded
from assets.errors import InvalidValueError, SaccadeError, UnknownNameError
from benchmarks import results

SUITE = "saccade"
PEERS = ("gymnasium-robotics", "dm_control", "robosuite", "metaworld")
REQUIREMENTS = ("gymnasium-robotics==1.4.2", "metaworld==3.1.1", "robosuite==1.5.2", "dm_control")
SIZES = (84, 224)
MARK = "saccade-peers.json"  # in the environment, written when its installation is complete
START_SECONDS = 300.0  # a worker that is not ready after this is taken for hung
TAIL_LINES = 15

Values = dict[tuple[str, str], list[float]]

# What a failure says -> the system package that it lacks.
_LIBRARIES = (
    (r"libEGL|eglQueryString|eglGetDisplay|EGL.*(not|fail)", "libEGL (Debian and Ubuntu: libegl1 and libgl1-mesa-dri)"),
    (r"OpenGL platform library|glGetError|libGL\.so|libOpenGL", "libGL (Debian and Ubuntu: libgl1 and libopengl0)"),
)
_SHARED_OBJECT = re.compile(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file")


class PeerError(SaccadeError, RuntimeError):
    """A subject that could not be installed, started or measured."""


# -- what is measured --------------------------------------------------------------------------------------------------


def metrics(name: str) -> dict[str, str]:
    """Metric -> worker variant of a subject."""
    found = {"state_sps": "state"} | {f"camera_sps_{size}": str(size) for size in SIZES}
    if name == SUITE:
        return found | {"state_overhead_ratio": "overhead"}
    return found | {f"camera_sps_{size}_fast": f"{size}_fast" for size in SIZES}


# -- the peers' environment --------------------------------------------------------------------------------------------


def default_venv() -> Path:
    """Folder of the peers' environment below the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "saccade" / "peers-venv"


def ensure_venv(folder: Path) -> Path:
    """Make the peers' environment unless it is complete, and return its interpreter.

    Raises:
        PeerError: the folder holds something else, or an installation fails; the sentence ends with pip's last lines.
    """
    python = folder / "bin" / "python"
    if _mark(folder) == list(REQUIREMENTS) and python.exists():
        return python
    if folder.exists() and any(folder.iterdir()) and not (folder / "pyvenv.cfg").exists():
        raise PeerError(f"--venv must be a new folder, an empty one or a virtual environment; {str(folder)!r} is neither")
    print(f"making an environment for the peers in {folder}: {' '.join(REQUIREMENTS)} (about 1.5 GB, minutes)", flush=True)
    _run_quietly([sys.executable, "-m", "venv", str(folder)])
    _run_quietly([str(python), "-m", "pip", "install", "--disable-pip-version-check", *REQUIREMENTS])
    (folder / MARK).write_text(json.dumps(REQUIREMENTS), encoding="utf-8")
    return python


def _mark(folder: Path) -> object:
    try:
        return json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError):
        return None


def _run_quietly(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        raise PeerError(f"{' '.join(command)} failed with status {done.returncode}:\n{_tail(done.stdout)}")


# -- workers -----------------------------------------------------------------------------------------------------------


class Worker:
    """A subject's variant in its own process, idle but for `measure`.

    Args:
        python: interpreter that holds the subject.
        name: the subject.
        variant: see `benchmarks.peer_worker`.
        seed: of its env and actions.

    Raises:
        PeerError: the process ends or hangs before it is ready.
    """

    def __init__(self, python: Path, name: str, variant: str, seed: int) -> None:
        self.name, self.variant = name, variant
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  (open as long as the worker)
        script = Path(__file__).with_name("peer_worker.py")
        self._process = subprocess.Popen(
            [str(python), "-P", str(script), name, variant, str(seed)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=_environment(name),
            bufsize=0,
        )
        try:
            self.versions: dict[str, str] = self._answer(START_SECONDS)["versions"]
        except BaseException:
            self.close()
            raise

    def measure(self, seconds: float) -> float:
        """One figure, from at least `seconds` of work."""
        self._send({"measure": seconds})
        return float(self._answer(seconds + START_SECONDS)["value"])

    def close(self) -> None:
        """End the process; twice is once."""
        self._send({"close": True})
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._errors):
            cast("IO[bytes]", pipe).close()

    def _send(self, order: Mapping[str, Any]) -> None:
        pipe = cast("IO[bytes]", self._process.stdin)
        with contextlib.suppress(BrokenPipeError, ValueError):  # the missing answer tells
            pipe.write(json.dumps(order).encode() + b"\n")

    def _answer(self, seconds: float) -> dict[str, Any]:
        pipe = cast("IO[bytes]", self._process.stdout)
        if not select.select([pipe], [], [], seconds)[0]:
            raise PeerError(f"{self.name} ({self.variant}) did not answer within {seconds:.0f} s:\n{self._error_tail()}")
        line = pipe.readline()
        if not line:
            raise PeerError(self._failure())
        return json.loads(line)

    def _failure(self) -> str:
        status, tail = self._process.wait(), self._error_tail()
        missing = missing_library(tail)
        hint = f"; the system library {missing} seems to be missing" if missing else ""
        others = f"--only leaves it out: {', '.join((SUITE, *PEERS))}"
        return f"{self.name} ({self.variant}) ended with status {status}{hint}; {others}. Its last lines:\n{tail}"

    def _error_tail(self) -> str:
        self._errors.seek(0)
        return _tail(self._errors.read().decode(errors="replace"))


def _environment(name: str) -> dict[str, str]:
    """A worker's environment: frames by EGL, and the suite importable by the suite's worker alone."""
    found = {**os.environ, "MUJOCO_GL": "egl"}
    paths = [str(results.ROOT)] if name == SUITE else []
    if name == SUITE and "PYTHONPATH" in os.environ:
        paths.append(os.environ["PYTHONPATH"])
    return {**found, "PYTHONPATH": os.pathsep.join(paths)}


def missing_library(text: str) -> str | None:
    """The system library that a failure's text points at, or None."""
    if found := _SHARED_OBJECT.search(text):
        return found.group(1)
    return next((library for pattern, library in _LIBRARIES if re.search(pattern, text)), None)


def _tail(text: str) -> str:
    return "\n".join(text.strip().splitlines()[-TAIL_LINES:])


@contextlib.contextmanager
def started(names: Sequence[str], venv: Path, seed: int) -> Iterator[dict[tuple[str, str], Worker]]:
    """Workers of all metrics of these subjects, (name, metric) -> worker, started one by one and ended together."""
    workers: dict[tuple[str, str], Worker] = {}
    python = ensure_venv(venv) if set(names) & set(PEERS) else None
    try:
        for name in names:
            for metric, variant in metrics(name).items():
                print(f"starting {name} {metric}", flush=True)
                interpreter = Path(sys.executable) if name == SUITE else cast("Path", python)
                workers[name, metric] = Worker(interpreter, name, variant, seed)
        yield workers
    finally:
        for worker in workers.values():
            worker.close()


# -- measuring ---------------------------------------------------------------------------------------------------------


def measure(workers: Mapping[tuple[str, str], Worker], rounds: int, seconds: float) -> Values:
    """Values of every worker by round. Each round starts one worker further on, so that none always follows the same."""
    values: Values = {key: [] for key in workers}
    keys = list(workers)
    for k in range(rounds):
        shift = k % len(keys)
        for key in keys[shift:] + keys[:shift]:
            values[key].append(workers[key].measure(seconds))
            print(f"round {k + 1}/{rounds}  {key[0]:<20}{key[1]:<22}{values[key][-1]:>12,.2f}", flush=True)
    return values


def with_speedups(values: Values) -> Values:
    """The values and, where both sides were measured, the suite's speed over each peer's, paired round by round."""
    found = dict(values)
    for size in SIZES:
        metric = f"camera_sps_{size}"
        for peer in PEERS:
            if (SUITE, metric) in values and (peer, metric) in values:
                pairs = zip(values[SUITE, metric], values[peer, metric], strict=True)
                found[f"{SUITE}/{peer}", f"speedup_{size}"] = [ours / theirs for ours, theirs in pairs]
    return found


def versions_of(workers: Mapping[tuple[str, str], Worker]) -> dict[str, str | None]:
    """Versions of the peers and of the MuJoCo that they share, to be kept beside the suite's own."""
    found: dict[str, str | None] = {}
    for (name, _), worker in workers.items():
        if name != SUITE:
            found |= {("mujoco of the peers" if k == "mujoco" else k): v for k, v in worker.versions.items()}
    return found


# -- the command -------------------------------------------------------------------------------------------------------


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Arguments of the command, checked.

    Raises:
        InvalidValueError: rounds, seconds or seed are out of range.
        UnknownNameError: --only names no subject.
    """
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description="speed of the suite next to its peers")
    parser.add_argument("--rounds", type=int, default=5, help="measurements of each subject")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a measurement, s")
    parser.add_argument("--seed", type=int, default=0, help="seed of envs and actions")
    parser.add_argument("--venv", type=Path, default=None, help="the peers' environment, made when missing")
    parser.add_argument("--only", nargs="+", metavar="NAME", default=[SUITE, *PEERS], help="subjects to measure")
    parser.add_argument("--out", default="peers", help="name of the result in docs/results")
    found = parser.parse_args(argv)
    for option, least in (("rounds", 1), ("seed", 0)):
        if getattr(found, option) < least:
            raise InvalidValueError(f"--{option} must be an integer >= {least}, got {getattr(found, option)}")
    if not 0 < found.seconds < 3600:
        raise InvalidValueError(f"--seconds must be above 0 and below 3600, got {found.seconds}")
    for name in found.only:
        if name not in (SUITE, *PEERS):
            raise UnknownNameError("subject", name, (SUITE, *PEERS))
    return found


def command_line(arguments: argparse.Namespace) -> str:
    """The command to repeat the run with; the folder of the environment is this machine's own affair."""
    everything = set(arguments.only) == {SUITE, *PEERS}
    only = "" if everything else f" --only {' '.join(arguments.only)}"
    seed = f" --seed {arguments.seed}" if arguments.seed else ""
    return f"python -m benchmarks.peers --rounds {arguments.rounds} --seconds {arguments.seconds:g}{seed}{only}"


def main(argv: Sequence[str] | None = None, folder: Path = results.FOLDER) -> int:
    """The command: measure, write the result to `folder`, print its table."""
    try:
        arguments = parse(argv)
        with started(list(dict.fromkeys(arguments.only)), arguments.venv or default_venv(), arguments.seed) as workers:
            versions = versions_of(workers)
            values = with_speedups(measure(workers, arguments.rounds, arguments.seconds))
    except SaccadeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = [results.speed_row(*key, found, [arguments.seed]) for key, found in values.items()]
    path = results.write(arguments.out, command_line(arguments), rows, folder, versions)
    print(f"\n{path}\n\n{results.table(path)}", end="")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
