"""Where everything of a dataset lies, and what an environment tells about itself."""

from __future__ import annotations

import json
import os
import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from assets.errors import InvalidValueError, SaccadeError

FORMAT = 1
DEFAULT_FOLDER = Path("outputs/datasets")
MARKER, DATA, METADATA = "complete.json", "data/main_data.hdf5", "data/metadata.json"
_NAME = re.compile(r"([A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+-v\d+")
# Arguments of an environment that change how many run and what is seen, but not what happens.
VECTOR_ONLY = {"autoreset_mode", "num_envs", "vectorization_mode", "num_threads", "first_index", "dump_folder"}
_LOOKS = {"render_mode", "profile", "observe", "modalities", "image_size", "camera", "width", "height"}
_EYE = {"resolution", "fovs", "projection", "cameras", "camera_resolution"}
_FREE = VECTOR_ONLY | _LOOKS | _EYE | {"max_episode_steps", "reward", "task"}

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


def video_file(path: Path, key: str, number: int) -> Path:
    """Where the frames of a camera in an episode lie."""
    return path / "videos" / key / f"episode_{number:06d}.mp4"


def observed(env: Env) -> spaces.Dict:
    """What one simulation observes."""
    space = env.single_observation_space
    assert isinstance(space, spaces.Dict)
    return space


def told(env: Env, key: str) -> Any:
    """An entry of what the environment says of itself; None where it says nothing."""
    describe = getattr(env.unwrapped, "describe", None)
    return describe().get(key) if describe else None


def control_dt(env: Env) -> float:
    """Seconds between actions; environments that do not tell count as one step a second."""
    return float(told(env, "control_dt") or 1.0)


def task_options(env: Env) -> dict[str, Any]:
    """Every option of the environment's task, defaults included, as JSON keeps it; arguments where the task tells nothing."""
    task = getattr(env.unwrapped, "task", None)
    if is_dataclass(task):
        found = {f.name: getattr(task, f.name) for f in fields(task) if f.init}
    else:
        found = dict(env.spec.kwargs) if env.spec else {}
    return json.loads(json.dumps({k: v for k, v in found.items() if k not in _FREE}, default=repr))


def image_keys(space: spaces.Space[Any]) -> list[str]:
    """Names of everything in an observation that is drawn: RGB, depth and segmentation."""
    assert isinstance(space, spaces.Dict)
    return [key for key, box in space.spaces.items() if box.shape is not None and len(box.shape) >= 2]


def rgb_keys(space: spaces.Space[Any]) -> list[str]:
    """Names of the colour images in an observation."""
    assert isinstance(space, spaces.Dict)
    return [key for key in image_keys(space) if len(space[key].shape or ()) == 3]
