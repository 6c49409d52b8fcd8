"""Writing a dataset, episode by episode."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from numpy.typing import NDArray

from agents.dataset.layout import (
    DATA,
    FORMAT,
    MARKER,
    VECTOR_ONLY,
    Arrays,
    DatasetError,
    Env,
    control_dt,
    dataset_path,
    observed,
    rgb_keys,
    task_options,
    told,
    video_file,
)
from agents.dataset.pixels import render
from agents.provenance import commit, versions
from agents.rollout import Episode
from agents.video import LOSSLESS, write_lossless
from assets.errors import InvalidValueError


class Writer:
    """Writes a dataset episode by episode; leaving the `with` block without an exception completes it.

    After an exception what was added stays on disk, but without the marker, so that no reader takes it for whole.

    Args:
        env: the vector environment that the episodes were recorded in.
        name, folder: as for `dataset_path`.
        video: also store every observed RGB image, one lossless mp4 per camera and episode.
        notes: JSON-able remarks that are kept in the metadata, such as how the episodes were made.

    Raises:
        DatasetError: the dataset exists, or nothing was added.
        InvalidValueError: video of an environment that observes no RGB image.
    """

    def __init__(
        self,
        env: Env,
        name: str,
        folder: str | Path | None = None,
        *,
        video: bool = False,
        notes: Mapping[str, Any] | None = None,
    ) -> None:
        self.path = dataset_path(name, folder)
        _refuse_existing(self.path)
        if video and not rgb_keys(env.single_observation_space):
            raise InvalidValueError("video=True needs an environment that observes RGB images; it was made with none")
        self.notes = dict(notes or {})
        self._env, self._name, self._video = env, name, video
        self._storage: Any = None
        self._count = self._steps = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        if kind is None:
            self._finish()

    def add(self, episodes: Sequence[Episode]) -> None:
        """Append episodes that were recorded with `Record(snapshots=True)`.

        Raises:
            InvalidValueError: an episode has no actions or snapshots.
        """
        for episode in episodes:
            if episode.action is None or not episode.snapshots:
                raise InvalidValueError(
                    f"the episode of seed {episode.seed} has no actions or no snapshots; "
                    "record it with rollout(..., record=Record(snapshots=True))"
                )
        if not episodes:
            return
        if self._storage is None:
            self._storage = self._create(episodes[0])
        self._storage.update_episodes(_buffer(episode) for episode in episodes)
        numbers = range(self._count, self._count + len(episodes))
        self._storage.update_episode_metadata([_episode_metadata(e) for e in episodes], numbers)
        if self._video:
            for number, episode in zip(numbers, episodes, strict=True):
                self._film(number, episode)
        self._count += len(episodes)
        self._steps += sum(episode.length for episode in episodes)

    def _create(self, first: Episode) -> Any:
        import minari
        from minari.dataset.minari_storage import MinariStorage

        self.path.mkdir(parents=True, exist_ok=False)
        offered = observed(self._env)
        vectors = spaces.Dict({key: offered[key] for key in sorted(_vectors(first))})
        storage = MinariStorage.new(
            self.path / "data",
            observation_space=vectors,
            action_space=self._env.single_action_space,
            env_spec=_plain_spec(self._env),
            data_format="hdf5",
            jpeg_encoding=False,
        )
        about = _describe(self._env, first, self._video)
        storage.update_metadata({"dataset_id": self._name, "minari_version": minari.__version__, "saccade": about})
        return storage

    def _film(self, number: int, episode: Episode) -> None:
        for key in rgb_keys(self._env.single_observation_space):
            frames = episode.obs[key] if key in episode.obs else render(self._env, episode, [key])[key]
            write_lossless(video_file(self.path, key, number), frames, control_dt(self._env))

    def _finish(self) -> None:
        if self._storage is None:
            raise DatasetError(f"no episode was added to {self.path}: a dataset needs at least one; nothing was written")
        about = {**self._storage.metadata["saccade"], "notes": self.notes}
        self._storage.update_metadata({"saccade": about})
        marker = {
            "format": FORMAT,
            "episodes": self._count,
            "steps": self._steps,
            "bytes": (self.path / DATA).stat().st_size,
        }
        partial = self.path / f".{MARKER}.partial"
        partial.write_text(json.dumps(marker))
        partial.replace(self.path / MARKER)


def write(
    episodes: Sequence[Episode],
    env: Env,
    name: str,
    folder: str | Path | None = None,
    *,
    video: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> Path:
    """Write finished episodes as a dataset; see `Writer` for arguments and errors. Returns its folder."""
    with Writer(env, name, folder, video=video, notes=notes) as writer:
        writer.add(episodes)
    return writer.path


def _refuse_existing(path: Path) -> None:
    if not path.exists():
        return
    stem, _, version = path.name.rpartition("-v")
    other = f"take another name, such as {f'{stem}-v{int(version) + 1}'!r}"
    if (path / MARKER).exists():
        raise DatasetError(f"{path} exists; a dataset is never overwritten: {other}")
    raise DatasetError(f"{path} exists and is half-written (it has no {MARKER}): delete it, or {other}")


def _buffer(episode: Episode) -> Any:
    """An episode as Minari's own record."""
    from minari.data_collector.episode_buffer import EpisodeBuffer

    assert episode.action is not None
    last = np.zeros(episode.length, bool)
    last[-1] = True
    # Minari's types say lists; its HDF5 storage takes arrays as they are, which keeps their dtypes.
    columns: dict[str, Any] = {
        "actions": episode.action,
        "rewards": episode.reward,
        "terminations": last & episode.terminated,
        "truncations": last & (not episode.terminated),
    }
    return EpisodeBuffer(
        seed=episode.seed,
        observations=_vectors(episode),
        **columns,
        infos={
            "success": episode.success,
            "state": episode.state,
            "snapshots": {key: _once(rows) for key, rows in episode.snapshots.items()},
            "terms": episode.terms,
        },
    )


def _vectors(episode: Episode) -> Arrays:
    return {key: value for key, value in episode.obs.items() if value.ndim < 3}


def _once(rows: NDArray[Any]) -> NDArray[Any]:
    """One row where all are equal, bit for bit; (T + 1, ...) with T >= 1 is never mistaken for it."""
    return rows[:1] if rows.ndim > 1 and (rows == rows[:1]).all() else rows


def _episode_metadata(episode: Episode) -> dict[str, Any]:
    return {
        "instruction": episode.instruction,
        "physics_error": episode.physics_error,
        "success": episode.succeeded,
    }


def _describe(env: Env, first: Episode, video: bool) -> dict[str, Any]:
    """What a reader must know to use the snapshots, and a person to trust them."""
    spec, seen = env.spec, observed(env)
    kwargs = dict(spec.kwargs) if spec else {}

    assert first.action is not None
    return {
        "format": FORMAT,
        "env": {
            "id": spec.id if spec else None,
            "kwargs": json.loads(json.dumps(kwargs, default=repr)),
            "options": task_options(env),
        },
        "versions": versions(),
        "commit": commit(),
        "profile": told(env, "profile"),
        "control_dt": control_dt(env),
        "action_size": first.action.shape[1],
        "state_size": first.snapshots["state"].shape[1],
        "videos": {key: _video_settings(env, seen[key].shape) for key in rgb_keys(seen)} if video else {},
        "notes": {},
    }


def _video_settings(env: Env, shape: Any) -> dict[str, Any]:
    height, width = shape[:2]
    return {"width": width, "height": height, "profile": told(env, "profile"), **LOSSLESS}


def _plain_spec(env: Env) -> EnvSpec | None:
    """The environment's spec without what only vector environments take, so that Minari can make a single one from it."""
    if env.spec is None:
        return None
    spec = deepcopy(env.spec)
    kept = {k: v for k, v in spec.kwargs.items() if k not in VECTOR_ONLY | {"max_episode_steps", "reward"}}
    try:
        json.dumps(kept)
    except TypeError:
        return None
    spec.kwargs = kept
    return spec
