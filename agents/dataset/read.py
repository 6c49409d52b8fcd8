"""Reading a dataset."""

from __future__ import annotations

import importlib.metadata
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agents.dataset.layout import DATA, FORMAT, MARKER, METADATA, Arrays, DatasetError, Env, task_options, video_file
from agents.dataset.pixels import render
from agents.rollout import Episode
from agents.video import read_video
from assets.errors import UnknownNameError


class Demonstrations(Sequence[Episode]):
    """A dataset that `Writer` completed, as a sequence of episodes that are read when asked for.

    Args:
        path: the dataset's folder; `dataset_path(name)` gives it.

    Attributes:
        about: format, environment, versions, commit, profile, control_dt (s), notes.
        steps: of all episodes together.

    Raises:
        DatasetError: not a dataset, half-written, cut short, empty, or of another format; the sentence says which.
    """

    def __init__(self, path: str | Path) -> None:
        from minari.dataset.minari_storage import MinariStorage

        self.path = Path(path)
        metadata = _metadata(self.path)
        self.about: dict[str, Any] = metadata["saccade"]
        self.name: str = metadata["dataset_id"]
        self._storage = MinariStorage.read(self.path / "data")
        self._count, self.steps = int(metadata["total_episodes"]), int(metadata["total_steps"])
        self._told: list[dict[str, Any]] | None = None
        self._warned = False

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Episode]:
        try:
            for number, raw in enumerate(self._storage.get_episodes(range(self._count))):
                yield _episode(raw, self._tell()[number])
        except (OSError, KeyError) as error:
            raise DatasetError(f"{self.path / DATA} is damaged: {error}") from error

    def __getitem__(self, index: Any) -> Any:
        """Episode `index`; a slice gives a list."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._count))]
        number = index + self._count if index < 0 else index
        if not 0 <= number < self._count:
            raise IndexError(f"{self.path} has episodes 0 to {self._count - 1}, got {index}")
        return _episode(next(iter(self._storage.get_episodes([number]))), self._tell()[number])

    @property
    def seeds(self) -> list[int]:
        """Each episode's seed."""
        return [int(row["seed"]) for row in self._tell()]

    @property
    def instructions(self) -> list[str]:
        """Each episode's instruction."""
        return [str(row["instruction"]) for row in self._tell()]

    def _tell(self) -> list[dict[str, Any]]:
        if self._told is None:
            self._told = list(self._storage.get_episode_metadata(range(self._count)))
        return self._told

    def check(self, env: Env) -> None:
        """Make sure that an environment takes these snapshots and means the same by them.

        Raises:
            DatasetError: another environment, other task options, or another size of the simulator's state.
        """
        spec, ours = env.spec, self.about["env"]
        if spec is not None and spec.id != ours["id"]:
            raise DatasetError(
                f"{self.path} was recorded in {ours['id']!r}, this environment is {spec.id!r}: make {ours['id']!r}"
            )
        self._check_options(ours["options"], task_options(env))
        here, then = importlib.metadata.version("mujoco"), self.about["versions"]["mujoco"]
        size = env.unwrapped.snapshot()["state"].shape[1]  # type: ignore[attr-defined]
        if size != self.about["state_size"]:
            raise DatasetError(
                f"{self.path} stores {self.about['state_size']} numbers of simulator state, this environment has {size}: "
                f"it was recorded with MuJoCo {then}, here is {here}; install that version, or collect the dataset anew"
            )
        if here != then and not self._warned:
            self._warned = True
            warnings.warn(f"{self.path} was recorded with MuJoCo {then}, here is {here}: pixels may differ", stacklevel=2)

    def _check_options(self, then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
        for key in sorted(set(then) | set(now)):
            if then.get(key) != now.get(key):
                raise DatasetError(
                    f"{self.path} was recorded with {key}={then.get(key)!r}, this environment has {key}={now.get(key)!r}: "
                    "make them alike"
                )

    def render(self, env: Env, episode: int | Episode, views: Sequence[str] | None = None) -> Arrays:
        """`render` of an episode, after `check`."""
        self.check(env)
        return render(env, self[episode] if isinstance(episode, int) else episode, views)

    def video(self, index: int, camera: str) -> NDArray[np.uint8]:
        """The stored frames of an episode. Shape (T + 1, H, W, 3).

        Raises:
            UnknownNameError: no video of that camera was stored.
        """
        if camera not in self.about["videos"]:
            raise UnknownNameError("stored video", camera, self.about["videos"])
        return read_video(video_file(self.path, camera, index))


def _metadata(path: Path) -> dict[str, Any]:
    """Minari's metadata of a complete dataset of this format; see `Demonstrations` for the errors."""
    half = f"{path} is half-written: its writer was interrupted; delete it and collect it anew"
    if not (path / METADATA).is_file():
        if (path / "data").is_dir():
            raise DatasetError(f"{half} (it has no {METADATA})")
        raise DatasetError(f"{path} is not a dataset: it has no {METADATA}")
    try:
        metadata = json.loads((path / METADATA).read_text())
    except json.JSONDecodeError as error:
        raise DatasetError(f"{half} ({METADATA} is cut short)") from error
    about = metadata.get("saccade")
    if about is None and not (path / MARKER).is_file():
        raise DatasetError(f"{path} is a Minari dataset, but not of this suite: its metadata has no entry 'saccade'")
    if about is None or about.get("format") != FORMAT:
        about = about or {}
        writer = about.get("versions", {}).get("saccade", "of an unknown version")
        raise DatasetError(
            f"{path} has dataset format {about.get('format')}, this version "
            f"(saccade {importlib.metadata.version('saccade')}) reads format {FORMAT}: "
            f"read it with saccade {writer}, which wrote it, or collect it anew"
        )
    if not (path / MARKER).is_file():
        raise DatasetError(f"{half} (it has no {MARKER})")
    expected = json.loads((path / MARKER).read_text())
    size = (path / DATA).stat().st_size if (path / DATA).is_file() else 0
    if size != expected["bytes"]:
        raise DatasetError(
            f"{path / DATA} has {size} bytes, it was completed with {expected['bytes']}: it is cut short or changed"
        )
    if metadata["total_episodes"] == 0:
        raise DatasetError(f"{path} is empty: a dataset needs at least one episode")
    return metadata


def _episode(raw: Mapping[str, Any], told: Mapping[str, Any]) -> Episode:
    infos, length = raw["infos"] or {}, len(raw["rewards"])
    return Episode(
        seed=int(told["seed"]),
        instruction=str(told["instruction"]),
        reward=raw["rewards"],
        success=infos["success"],
        terminated=bool(raw["terminations"][-1]),
        physics_error=bool(told["physics_error"]),
        action=raw["actions"],
        obs=dict(raw["observations"]),
        state=_flat(infos.get("state", {})),
        snapshots={key: _all_rows(rows, length + 1) for key, rows in _flat(infos["snapshots"]).items()},
        terms=_flat(infos.get("terms", {})),
    )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Arrays:
    """HDF5 makes groups of names with slashes; put the names together again."""
    out: Arrays = {}
    for key, value in tree.items():
        out.update(_flat(value, f"{prefix}{key}/") if isinstance(value, Mapping) else {prefix + key: value})
    return out


def _all_rows(rows: NDArray[Any], count: int) -> NDArray[Any]:
    """Undo `_once`; repeated rows share their memory and are read-only."""
    return np.broadcast_to(rows, (count, *rows.shape[1:])) if len(rows) == 1 else rows
