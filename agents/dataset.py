"""Demonstrations on disk: a Minari dataset that keeps simulator states, so that pixels are drawn again when wanted.

    outputs/datasets/                        a folder of datasets, as MINARI_DATASETS_PATH names it
        saccade/reach/oracle-v0/
            data/main_data.hdf5              per episode: actions, rewards, ends, vector observations, and under infos
                                             success (T,), terms (T,), state and snapshots (T + 1, ...)
            data/metadata.json               Minari's own, and under "saccade" everything of `_describe`
            videos/<camera>/episode_000000.mp4   where asked for: T + 1 frames, H.264 in RGB, lossless
            complete.json                    written last; a folder without it is half-written

`minari.load_dataset("saccade/reach/oracle-v0")` reads the same folder. HDF5 and JSON only: nothing is ever unpickled.
Snapshot rows that are equal throughout an episode (colours, light) are stored once.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, fields, is_dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from agents.provenance import commit, versions
from agents.rollout import Episode
from assets.errors import InvalidValueError, SaccadeError, UnknownNameError

FORMAT = 1
DEFAULT_FOLDER = Path("outputs/datasets")
# crf 0 with RGB planes is lossless; the usual yuv420p would halve the colours' resolution and round them.
CODEC, PIXELS, CODEC_OPTIONS = "libx264rgb", "rgb24", {"crf": "0", "preset": "veryfast"}

_MARKER, _DATA, _METADATA = "complete.json", "data/main_data.hdf5", "data/metadata.json"
_NAME = re.compile(r"([A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+-v\d+")
# Arguments of an environment that change how many run and what is seen, but not what happens.
_VECTOR_ONLY = {"autoreset_mode", "num_envs", "vectorization_mode", "num_threads", "first_index", "dump_folder"}
_LOOKS = {"render_mode", "profile", "observe", "modalities", "image_size", "camera", "width", "height"}
_EYE = {"resolution", "fovs", "projection"}
_FREE = _VECTOR_ONLY | _LOOKS | _EYE | {"max_episode_steps", "reward", "task"}

Env = VectorEnv[Any, Any, Any]
Arrays = dict[str, NDArray[Any]]


class DatasetError(SaccadeError):
    """A dataset that is missing, half-written, empty, of another format or of another environment."""


def dataset_path(name: str, folder: str | Path | None = None) -> Path:
    """Where a dataset lies.

    Args:
        name: Minari's id, "(namespace/)name-v<number>", such as "saccade/reach/oracle-v0".
        folder: of all datasets; None takes MINARI_DATASETS_PATH, else outputs/datasets.

    Raises:
        InvalidValueError: the name is not of that form.
    """
    if not _NAME.fullmatch(name):
        raise InvalidValueError(
            f"{name!r} is not a dataset name: it must be letters, digits, '_' and '-', parts separated by '/', "
            "ending in a version, such as 'saccade/reach/oracle-v0'"
        )
    return Path(folder or os.environ.get("MINARI_DATASETS_PATH") or DEFAULT_FOLDER).absolute() / name


# -- writing -----------------------------------------------------------------------------------------------------------


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
        if video and not _rgb_keys(env.single_observation_space):
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
        offered = _observed(self._env)
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
        for key in _rgb_keys(self._env.single_observation_space):
            frames = episode.obs[key] if key in episode.obs else render(self._env, episode, [key])[key]
            _write_video(_video_file(self.path, key, number), frames, _control_dt(self._env))

    def _finish(self) -> None:
        if self._storage is None:
            raise DatasetError(f"no episode was added to {self.path}: a dataset needs at least one; nothing was written")
        about = {**self._storage.metadata["saccade"], "notes": self.notes}
        self._storage.update_metadata({"saccade": about})
        marker = {
            "format": FORMAT,
            "episodes": self._count,
            "steps": self._steps,
            "bytes": (self.path / _DATA).stat().st_size,
        }
        partial = self.path / f".{_MARKER}.partial"
        partial.write_text(json.dumps(marker))
        partial.replace(self.path / _MARKER)


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
    if (path / _MARKER).exists():
        raise DatasetError(f"{path} exists; a dataset is never overwritten: {other}")
    raise DatasetError(f"{path} exists and is half-written (it has no {_MARKER}): delete it, or {other}")


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
    spec, seen = env.spec, _observed(env)
    kwargs = dict(spec.kwargs) if spec else {}

    assert first.action is not None
    return {
        "format": FORMAT,
        "env": {
            "id": spec.id if spec else None,
            "kwargs": json.loads(json.dumps(kwargs, default=repr)),
            "options": _options(env),
        },
        "versions": versions(),
        "commit": commit(),
        "profile": _told(env, "profile"),
        "control_dt": _control_dt(env),
        "action_size": first.action.shape[1],
        "state_size": first.snapshots["state"].shape[1],
        "videos": {key: _video_settings(env, seen[key].shape) for key in _rgb_keys(seen)} if video else {},
        "notes": {},
    }


def _video_settings(env: Env, shape: Any) -> dict[str, Any]:
    height, width = shape[:2]
    how = {"codec": CODEC, "pixels": PIXELS, "options": CODEC_OPTIONS, "lossless": True}
    return {"width": width, "height": height, "profile": _told(env, "profile"), **how}


def _observed(env: Env) -> spaces.Dict:
    space = env.single_observation_space
    assert isinstance(space, spaces.Dict)
    return space


def _told(env: Env, key: str) -> Any:
    describe = getattr(env.unwrapped, "describe", None)
    return describe().get(key) if describe else None


def _control_dt(env: Env) -> float:
    """Seconds between actions; environments that do not tell count as one step a second."""
    return float(_told(env, "control_dt") or 1.0)


def _plain_spec(env: Env) -> EnvSpec | None:
    """The environment's spec without what only vector environments take, so that Minari can make a single one from it."""
    if env.spec is None:
        return None
    spec = deepcopy(env.spec)
    kept = {k: v for k, v in spec.kwargs.items() if k not in _VECTOR_ONLY | {"max_episode_steps", "reward"}}
    try:
        json.dumps(kept)
    except TypeError:
        return None
    spec.kwargs = kept
    return spec


def _options(env: Env) -> dict[str, Any]:
    """Every option of the environment's task, defaults included, as JSON keeps it; arguments where the task tells nothing."""
    task = getattr(env.unwrapped, "task", None)
    if is_dataclass(task):
        found = {f.name: getattr(task, f.name) for f in fields(task) if f.init}
    else:
        found = dict(env.spec.kwargs) if env.spec else {}
    return json.loads(json.dumps({k: v for k, v in found.items() if k not in _FREE}, default=repr))


# -- video -------------------------------------------------------------------------------------------------------------


def _video_file(path: Path, key: str, number: int) -> Path:
    return path / "videos" / key / f"episode_{number:06d}.mp4"


def _write_video(file: Path, frames: NDArray[np.uint8], dt: float) -> None:
    import av

    file.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(file), "w") as container:
        stream = container.add_stream(CODEC, rate=Fraction(1 / dt).limit_denominator(1000), options=CODEC_OPTIONS)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = PIXELS
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=PIXELS)))
        container.mux(stream.encode())


# -- reading -----------------------------------------------------------------------------------------------------------


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
            raise DatasetError(f"{self.path / _DATA} is damaged: {error}") from error

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
        self._check_options(ours["options"], _options(env))
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
        from agents.video import read_video

        return read_video(_video_file(self.path, camera, index))


def _metadata(path: Path) -> dict[str, Any]:
    """Minari's metadata of a complete dataset of this format; see `Demonstrations` for the errors."""
    half = f"{path} is half-written: its writer was interrupted; delete it and collect it anew"
    if not (path / _METADATA).is_file():
        if (path / "data").is_dir():
            raise DatasetError(f"{half} (it has no {_METADATA})")
        raise DatasetError(f"{path} is not a dataset: it has no {_METADATA}")
    try:
        metadata = json.loads((path / _METADATA).read_text())
    except json.JSONDecodeError as error:
        raise DatasetError(f"{half} ({_METADATA} is cut short)") from error
    about = metadata.get("saccade")
    if about is None and not (path / _MARKER).is_file():
        raise DatasetError(f"{path} is a Minari dataset, but not of this suite: its metadata has no entry 'saccade'")
    if about is None or about.get("format") != FORMAT:
        about = about or {}
        writer = about.get("versions", {}).get("saccade", "of an unknown version")
        raise DatasetError(
            f"{path} has dataset format {about.get('format')}, this version "
            f"(saccade {importlib.metadata.version('saccade')}) reads format {FORMAT}: "
            f"read it with saccade {writer}, which wrote it, or collect it anew"
        )
    if not (path / _MARKER).is_file():
        raise DatasetError(f"{half} (it has no {_MARKER})")
    expected = json.loads((path / _MARKER).read_text())
    size = (path / _DATA).stat().st_size if (path / _DATA).is_file() else 0
    if size != expected["bytes"]:
        raise DatasetError(
            f"{path / _DATA} has {size} bytes, it was completed with {expected['bytes']}: it is cut short or changed"
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


# -- pixels and arrays for learning ------------------------------------------------------------------------------------


def image_keys(space: spaces.Space[Any]) -> list[str]:
    """Names of everything in an observation that is drawn: RGB, depth and segmentation."""
    assert isinstance(space, spaces.Dict)
    return [key for key, box in space.spaces.items() if box.shape is not None and len(box.shape) >= 2]


def _rgb_keys(space: spaces.Space[Any]) -> list[str]:
    assert isinstance(space, spaces.Dict)
    return [key for key in image_keys(space) if len(space[key].shape or ()) == 3]


def render(env: Env, episode: Episode, views: Sequence[str] | None = None) -> Arrays:
    """Draw an episode's observed images again, by restoring as many time steps at once as there are simulations.

    The environment is left in one of the episode's states: reset it before stepping it. Size and render profile are the
    environment's; with those of the recording the pixels are the same that the policy saw.

    Args:
        env: an environment of the same task.
        episode: with snapshots.
        views: names of observed images; None takes all.

    Returns:
        name -> (T + 1, H, W[, 3]).

    Raises:
        UnknownNameError: the environment does not observe a view.
        InvalidValueError: the episode has no snapshots.
    """
    offered = image_keys(env.single_observation_space)
    wanted = offered if views is None else list(views)
    for name in wanted:
        if name not in offered:
            raise UnknownNameError("observed image", name, offered)
    if not episode.snapshots:
        raise InvalidValueError(f"the episode of seed {episode.seed} has no snapshots to draw; record it with snapshots=True")
    if not wanted:
        return {}
    total, drawn = episode.length + 1, {name: [] for name in wanted}
    for at in range(0, total, env.num_envs):
        rows = np.minimum(np.arange(at, at + env.num_envs), total - 1)  # a last, smaller batch repeats the last row
        obs = env.unwrapped.restore({key: value[rows] for key, value in episode.snapshots.items()})  # type: ignore[attr-defined]
        for name in wanted:
            drawn[name].append(obs[name][: total - at])
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


@dataclass(frozen=True)
class Steps:
    """All steps of some episodes, one after the other.

    Attributes:
        obs: name -> (S, ...) what was seen before the action.
        action: (S, A).
        left: (S,) steps to the end of the episode, this one included.
    """

    obs: Arrays
    action: NDArray[np.float32]
    left: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.left)


def learning_arrays(episodes: Sequence[Episode], env: Env) -> Steps:
    """Everything that an imitator of `env`'s observations needs; images that were not recorded are drawn again.

    Raises:
        DatasetError: the episodes are of another environment, or there are none.
        InvalidValueError: an episode lacks actions, or a vector that the environment observes.
    """
    if len(episodes) == 0:
        raise DatasetError("there are no demonstrations to learn from: at least one episode is needed")
    if isinstance(episodes, Demonstrations):
        episodes.check(env)
    columns: dict[str, list[NDArray[Any]]] = {}
    actions, left = [], []
    for episode in episodes:
        if episode.action is None:
            raise InvalidValueError(f"the episode of seed {episode.seed} has no actions; record it with Record()")
        for key, value in _seen(episode, env).items():
            columns.setdefault(key, []).append(value[:-1])
        actions.append(episode.action)
        left.append(np.arange(episode.length, 0, -1))
    obs = {key: np.concatenate(parts) for key, parts in columns.items()}
    return Steps(obs, np.concatenate(actions).astype(np.float32), np.concatenate(left))


def _seen(episode: Episode, env: Env) -> Arrays:
    """One episode's observations under the environment's names, (T + 1, ...)."""
    space = _observed(env)
    missing = [key for key in space.spaces if key not in episode.obs]
    drawn = [key for key in missing if key in image_keys(space)]
    for key in missing:
        if key not in drawn:
            raise InvalidValueError(
                f"the environment observes the vector {key!r}, which the demonstrations lack "
                f"(they have {sorted(episode.obs)}): collect them in an environment that observes it"
            )
    pixels = render(env, episode, drawn) if drawn else {}
    return {key: pixels[key] if key in pixels else episode.obs[key] for key in space.spaces}
