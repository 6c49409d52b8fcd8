"""Panoramas of demonstrations: what could be seen from the eye's place, all around, drawn again from stored states.

A row for each frame, `PER_STEP` frames a control step: the state on the way is that of the same physics steps which the
demonstration took, so it is no interpolation.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from agents.dataset import Demonstrations
from agents.dataset.layout import control_dt
from agents.rollout import Episode
from agents.show import bar
from assets.errors import InvalidValueError
from perception.recording import Writer
from perception.sphere import CUBE, CubeMap

PER_STEP = 2
# What is kept of the named state, where a task tells it.
KEPT = ("joints", "tool", "tool_axes", "opening", "phase", "progress", "target_direction")
FOLDER = "panoramas"

Env = VectorEnv[Any, Any, Any]


def film(
    env: Env, demonstrations: Demonstrations, width: int = 960, folder: str | Path | None = None, *, after: float = 1.0,
    crf: int = 20, show: bool = True,
) -> Path:  # fmt: skip
    """Draw the panoramas of a dataset; goes on where an interrupted call stopped.

    Args:
        env: of the dataset's task, with an eye; best made with observe=(). As many states are drawn at once as it has
            simulations.
        demonstrations: the dataset.
        width: of the panoramas, pixels: 5760 gives 16 pixels a degree.
        folder: of the recordings; None takes "panoramas" in the dataset's own.
        after: how long an episode goes on after its first success, seconds.
        crf: of H.264.
        show: tell of the progress on standard error.

    Returns:
        The folder.

    Raises:
        InvalidValueError: the environment has no eye.
        DatasetError: the dataset is of another environment.
        RecordingError: the folder is complete already, or was begun with other settings.
    """
    demonstrations.check(env)
    cameras = env.unwrapped.cameras  # type: ignore[attr-defined]
    if "eye/front" not in cameras:
        raise InvalidValueError(f"panoramas need an environment with an eye; its cameras are {cameras}")
    dt = control_dt(env)
    place = Path(folder) if folder is not None else demonstrations.path / FOLDER
    cube = CubeMap(width, max(4, 2 * int(np.ceil(width / np.pi / 2))))
    shown = bar("panoramas", len(demonstrations)) if show else nullcontext(lambda done, words="": None)
    with Writer(place, width, PER_STEP / dt, crf) as writer, shown as progress:
        for number in range(writer.count, len(demonstrations)):
            episode = demonstrations[number]
            last = episode.length
            if episode.first_success is not None:
                last = min(last, episode.first_success + round(after / dt))
            faces, columns = _draw(env, episode, last, cube)
            writer.add(map(cube.unfold, faces), columns, episode.instruction, {"seed": episode.seed})
            progress(number + 1, "")
    return place


def _draw(env: Env, episode: Episode, steps: int, cube: CubeMap) -> tuple[Iterator[NDArray[np.uint8]], dict[str, NDArray[Any]]]:
    """The faces of every frame, (6, S, S, 3) each, and the columns of the first `steps` steps, 2 steps + 1 rows."""
    inner: Any = env.unwrapped
    columns: dict[str, NDArray[Any]] = {}
    total = PER_STEP * steps + 1
    faces = np.empty((total, len(CUBE), cube.side, cube.side, 3), np.uint8)
    assert episode.action is not None
    for part in range(PER_STEP):
        rows = np.arange(steps + (part == 0))
        for at in range(0, len(rows), env.num_envs):
            batch = np.minimum(np.arange(at, at + env.num_envs), rows[-1])  # a last, smaller batch repeats its last row
            count = min(env.num_envs, len(rows) - at)
            actions = episode.action[np.minimum(batch, steps - 1)]
            state = inner.within({k: v[batch] for k, v in episode.snapshots.items()}, actions, part / PER_STEP)
            frames = PER_STEP * batch[:count] + part
            profile = inner.describe()["profile"]
            for number, face in enumerate(CUBE):
                faces[frames, number] = inner.draw(f"eye/{face}", cube.side, cube.side, look=profile)[:count]
            found = {key: state[key] for key in KEPT if key in state}
            found["grip"] = (actions[:, -1:] + 1) / 2
            found |= {f"sight/{phrase}": direction for phrase, direction in inner.sights().items()}
            for key, values in found.items():
                column = columns.setdefault(key, np.empty((total, *values.shape[1:]), values.dtype))
                column[frames] = values[:count]
    there = {k: v for k, v in columns.items() if not (k.startswith("sight/") and np.isnan(v).all())}
    return iter(faces), there
