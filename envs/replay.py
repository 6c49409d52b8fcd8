"""EyeReplay: only the eye moves; the world goes on as it was recorded.

The eye turns inside panoramas of a demonstration, so that what the arm and the things do is the same whatever is looked at
(EyeRobot's EyeGym, arXiv:2506.10968). Frames come at their own rate, 30 a second as a rule; the eye acts 15 times a second. For
the first steps of an episode the world stands still, so that the eye can search before the arm moves.

Picture, what is felt, and the first target of the arm's next moves ("chunk") share one index into the recording. A picture that
is older than what is felt exists only where `latency` asks for it.
"""

from __future__ import annotations

import time
from collections import ChainMap
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import cv2
import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from assets import ROOT
from assets.errors import InvalidValueError, UnknownNameError
from envs.batching import (
    NotResetError,
    Single,
    checked_mask,
    final_rows,
    masked,
    refuse_batches,
    remasked,
    reset_mode,
)
from envs.eye import FIXATED, FOVEAL_PYRAMID, HOLD, Eye, angle_between, first_gaze, observed_as, widen
from envs.kinematics import chain
from envs.streams import Streams
from perception.recording import MARKER, PER_STEP, Film, Recording, Recordings
from perception.sphere import Foveator, pyramid_rays
from perception.text import EMBEDDING_SIZE, embed

Arrays = dict[str, NDArray[Any]]

TARGETS = ("recorded", "any", "mixed", "none")
_WANTED = -1  # the number, in place of a thing's, of what the demonstrator looked for
# Directions of the discrete action spaces, (left, up), and the steps in degrees that each can have.
_COMPASS = np.array([[np.cos(a), np.sin(a)] for a in np.arange(8) * np.pi / 4]).round(12)
_COMPASS = np.sign(_COMPASS) * (np.abs(_COMPASS) > 1e-6)
ACTIONS: dict[str, tuple[float, ...]] = {"box": (), "directions_9": (10.0,), "directions_25": (10.0, 3.0, 1.0)}
FELT = ("joints", "tool", "opening")
WIDE = np.radians(50.0)
# How far beside the gaze a thing can be recognised in the widest level, and how far the gaze must go to either side so that all
# of an arc of 230 degrees has been in sight; rad.
IN_SIGHT, TURNING_POINT = np.radians([50.0, 65.0])
LEVEL = np.radians(-15.0)  # elevation of things on a table
SIGHT, VISIBLE, CAMERA = "sight/", "visible/", "camera/"


def turns(actions: str) -> NDArray[np.float64]:
    """What each of the discrete actions turns, (K, 2) degrees of azimuth and elevation: directions by step, then to stay.

    Raises:
        UnknownNameError: no such actions.
    """
    if actions not in ACTIONS:
        raise UnknownNameError("action space", actions, ACTIONS)
    return np.concatenate([*(_COMPASS * step for step in ACTIONS[actions]), np.zeros((1, 2))])


class BatchReplay(gym.vector.VectorEnv[Arrays, NDArray[Any], NDArray[Any]]):
    """Turn an eye inside panoramas of a demonstration, to what the demonstrator looks for; the world goes on as recorded.

    Observations: "eye_0" (the fovea), "eye_1" .. (R, R, 3) uint8; "gaze" (2,) azimuth and elevation, rad; "explored" (2,)
    rightmost and leftmost azimuth so far, rad; of "joints" (dof,) rad, "tool" (3,) m and "opening" (1,) those that were
    recorded, where "tool" follows from the joints if it was not; "target" (68,) embedding of the instruction.

    With `cameras`, their recorded pictures are observed instead of the pyramid, whatever the eye does.

    Action: rates (2,) in [-1, 1], 1 is `max_speed`; or one of 9 or 25: eight directions by 10 (or 3 or 1) degrees, and to stay.

    Reward: clip(1 - angle(gaze, target) / 50 degrees, 0, 1); 0 where there is no target. What EyeRobot rewards, how well the
    arm's next moves can be told from what is seen, depends on who tells them: `rewards.chunks` computes it from "chunk".

    Info: "chunk" has, from the present frame on, `chunk` rows of every recorded column, and "valid" (N, chunk), which ends with
    the recording; "success" says that the target has been fixated within 5 degrees for 0.5 s on end.

    Args:
        recordings: a folder of `perception.recording`, several, or recordings; a name finds a folder of assets.
        num_envs: N.
        max_episode_steps: control steps of an episode.
        pause: steps at its beginning in which the world stands still.
        chunk: rows of the arm's next moves in the info; 0 for none.
        target: "recorded" follows what the demonstrator looked for, "any" draws one of the things around, as in EyeRobot's
            visual search, "mixed" does either, in half of the episodes each, "none" knows no target.
        latency: frames by which the picture is older than what is felt.
        edges: share of episodes, in [0, 1), that begin in the first frame or in the last one that leaves a whole episode, half
            of it each; the rest begin anywhere between, as all do in EyeRobot, where what comes first and last in a
            demonstration is hardly ever seen.
        resolution, fovs, projection: of the eye's pyramid, as for `envs.eye.Eye`.
        cameras: names of cameras that were recorded beside the panoramas, to be observed instead of the pyramid.
        actions: "box", "directions_9" or "directions_25".
        smoothing: share of the last turn in the present one, in [0, 1).
        max_speed: of the eye, degrees per second.
        azimuth, elevation: its limits, +- degrees.
        robot: asset name or path of the MJCF arm whose joints were recorded. Of another number of joints nothing follows.
        render_mode: "rgb_array" or None.
        autoreset_mode: "same_step", "next_step" or "disabled", or Gymnasium's enum.
        first_index: index of the first simulation, so that a shard draws what it would in the whole batch.

    Raises:
        RecordingError: the recordings cannot be used.
        UnknownNameError, InvalidValueError: an argument is wrong; the sentence says how.
    """

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012  Gymnasium's declaration

    def __init__(
        self,
        recordings: str | Path | Sequence[str | Path | Recording] = "",
        num_envs: int = 1,
        max_episode_steps: int = 130,
        pause: int = 30,
        chunk: int = 30,
        target: str = "recorded",
        latency: int = 0,
        edges: float = 0.0,
        resolution: int = 40,
        fovs: Sequence[float] = FOVEAL_PYRAMID,
        projection: str = "pinhole",
        cameras: Sequence[str] = (),
        actions: str = "box",
        smoothing: float = 0.0,
        max_speed: float = 150.0,
        azimuth: float = 130.0,
        elevation: float = 30.0,
        robot: str = "panda",
        render_mode: str | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.SAME_STEP,
        first_index: int = 0,
    ) -> None:
        _check(num_envs, max_episode_steps, pause, chunk, latency, edges, smoothing, target)
        eye = Eye("eye", (0, 0, 0), tuple(fovs), resolution, projection, max_speed, azimuth, elevation)
        self._recordings, self.rate = _open(recordings, robot)
        self.num_envs, self.max_episode_steps = num_envs, max_episode_steps
        self._pause, self._chunk, self._latency, self._edges = pause, chunk, latency, edges
        self._smoothing, self._target = smoothing, target
        self.control_dt = PER_STEP / self.rate
        self._limits = np.radians([eye.azimuth, eye.elevation])
        self._turns = None if actions == "box" else np.radians(turns(actions))
        self._reach = np.radians(eye.max_speed) * self.control_dt
        self._fovs, self._resolution, self._projection, self._elevation = eye.fovs, resolution, projection, elevation
        self._views = self._find_views(cameras)
        self._sights, self._robot = self._find_sights(), robot
        self.render_mode, self.spec = render_mode, None
        self._autoreset = reset_mode(autoreset_mode)
        self.metadata = {**type(self).metadata, "autoreset_mode": self._autoreset, "render_fps": round(1 / self.control_dt)}
        self._streams = Streams(num_envs, first_index)
        self.single_observation_space = self._observation_space()
        self.single_action_space = (
            spaces.Box(-1, 1, (2,), np.float32) if self._turns is None else spaces.Discrete(len(self._turns))
        )
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._episode, self._frame, self._steps = (np.zeros(num_envs, int) for _ in range(3))
        self._gaze, self._last, self._explored = (np.zeros((num_envs, 2)) for _ in range(3))
        self._held, self._pending = np.zeros(num_envs), np.zeros(num_envs, bool)
        self._sight = np.full(num_envs, _WANTED)  # which of `sights` is asked for
        self._films: list[tuple[int, Film] | None] = [None] * num_envs
        self._start: Arrays = {}
        self._obs: Arrays | None = None
        self.timings = {"decode": 0.0, "look": 0.0, "total": 0.0}  # s, summed over steps; `cameras` need neither of the two

    # -- Gymnasium -----------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: as for `envs.env.BatchEnv.reset`.
            options: "episode", "frame", "gaze" (rad) or "sight" (index into `sights`), for all simulations or one row each; and
                "reset_mask" (N,) bool to leave some simulations alone.
        """
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        ids = np.arange(self.num_envs) if mask is None else np.flatnonzero(checked_mask(mask, self.num_envs))
        if self._obs is None and len(ids) < self.num_envs:
            raise NotResetError("the first reset() starts every simulation; leave out reset_mask, or set all of it")
        if seed is not None:
            self._streams.seed(seed)
        self._restart(ids, options)
        self._pending[ids] = False
        self._obs = self._observe()
        return self._copy(), self._info(np.isin(np.arange(self.num_envs), ids), self._targets())

    def step(
        self, actions: NDArray[Any]
    ) -> tuple[Arrays, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Turn the eyes, and let the world go on by two frames.

        Args:
            actions: (N, 2) in [-1, 1], or (N,) numbers of directions.

        Raises:
            InvalidValueError: of another shape, or not finite.
            NotResetError: called before `reset`.
        """
        began = time.perf_counter()
        if self._obs is None:
            raise NotResetError("step() was called before reset(); call reset(seed=...) once after making the environment")
        turn = self._turn(np.asarray(actions))
        pending = self._pending.copy()
        self._last = self._smoothing * self._last + (1 - self._smoothing) * turn
        self._gaze = np.clip(self._gaze + self._last, -self._limits, self._limits)
        widen(self._explored, self._gaze[:, 0])
        self._steps += 1
        last = np.array([len(self._recordings[e]) - 1 for e in self._episode])
        self._frame = np.where(self._steps > self._pause, np.minimum(self._frame + PER_STEP, last), self._frame)
        if pending.any():
            self._restart(np.flatnonzero(pending), {})
        targets = self._targets()
        error = angle_between(self._gaze, targets)
        self._held = np.where(error < FIXATED, self._held + self.control_dt * ~pending, 0)
        reward = np.where(np.isfinite(error) & ~pending, np.clip(1 - error / WIDE, 0, 1), 0).astype(np.float32)
        truncated = (self._steps >= self.max_episode_steps) & ~pending
        self._obs = self._observe()
        info = self._info(pending, targets)
        if self._autoreset is AutoresetMode.SAME_STEP and truncated.any():
            info = self._reset_done(truncated, info)
        elif self._autoreset is AutoresetMode.NEXT_STEP:
            self._pending = truncated
        obs = self._copy()
        self.timings["total"] += time.perf_counter() - began
        return obs, reward, np.zeros(self.num_envs, bool), truncated, info

    def render(self) -> tuple[NDArray[np.uint8], ...] | None:
        """The panorama of every simulation, the borders of the eye's levels drawn into it: (W / 2, W, 3)."""
        if self._obs is None:
            raise NotResetError("render() was called before reset()")
        return tuple(self._drawn(i) for i in range(self.num_envs)) if self.render_mode else None

    def close_extras(self, **kwargs: Any) -> None:
        """Close the films."""
        del kwargs
        for held in self._films:
            if held is not None:
                held[1].close()
        self._films = [None] * self.num_envs

    # -- beyond Gymnasium ----------------------------------------------------------------------------------------------

    @property
    def sights(self) -> tuple[str, ...]:
        """Phrases of everything whose direction was recorded."""
        return self._sights

    @property
    def gaze_reach(self) -> float:
        """How far the eye can turn in one control step, degrees."""
        return float(np.degrees(self._reach))

    @property
    def gaze_limits(self) -> NDArray[np.float64]:
        """How far the gaze can be from straight ahead, azimuth and elevation, rad. (2,)."""
        return self._limits

    def tool(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        """Where the arm's tool is for joint angles (..., dof), rad, by forward kinematics. (..., 3), m."""
        return chain(self._robot).tool(joints)[0]

    def pose(self, joints: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """As recordings tell of it in "tool" and "tool_axes": where the tool is, (..., 3) m, and its x and y axes in the world
        frame, (..., 6), for joint angles (..., dof), rad.
        """
        position, rotation = chain(self._robot).tool(joints)
        return position, rotation[..., :2].swapaxes(-1, -2).reshape(*position.shape[:-1], 6)

    def displaced(self, joints: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
        """Joint angles (..., dof), rad, at which the arm's tool is elsewhere by (..., 3) m and turned as before."""
        return chain(self._robot).displaced(joints, by)

    @property
    def turns(self) -> NDArray[np.float64] | None:
        """What each discrete action turns, (K, 2) rad; None where actions are rates."""
        return self._turns

    @property
    def projection(self) -> str:
        """Of each level that is observed: "pinhole" or "fisheye"."""
        return "pinhole" if self._views else self._projection

    @property
    def fovs(self) -> tuple[float, ...]:
        """Degrees across each level of the pyramid; a camera that is no eye is laid over the widest of it."""
        return (FOVEAL_PYRAMID[-1],) * len(self._views) or self._fovs

    def columns(self, name: str) -> list[NDArray[Any]]:
        """A column of every recording, (F, ...) each; empty where one lacks it."""
        found = [r.columns.get(name) for r in self._recordings]
        return [c for c in found if c is not None] if all(c is not None for c in found) else []

    def checkpoint(self) -> tuple[Arrays, dict[str, Any]]:
        """What decides about the next episodes; those under way are not kept. Arrays, and a JSON-able rest."""
        return {"steps": self._steps.copy()}, {"streams": self._streams.state()}

    def resume(self, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> None:
        """Bring back what `checkpoint` returned; `reset` comes next."""
        del arrays
        self._streams.set_state(rest["streams"])
        self._obs = None

    def oracle(self) -> NDArray[Any]:
        """Straight to the target; to stay where there is none. (N, 2), or (N,) numbers of directions."""
        return self._toward(np.nan_to_num(self._targets() - self._gaze))

    def guide(self) -> NDArray[Any]:
        """As the oracle, but only once the target is in sight; until then along the table, first to the nearer end of the arc.

        A learner that is told the oracle's turns before it could know them learns the mean of left and right (the imitation
        gap, Weihs et al. 2021, arXiv:2007.12173). These depend on what it sees and remembers. Without a target, search goes on.
        """
        error = self._targets() - self._gaze
        hidden = ~(np.abs(error[:, 0]) < IN_SIGHT)
        along = np.stack([np.radians(10.0) * self._onward(), LEVEL - self._gaze[:, 1]], axis=1)
        return self._toward(np.where(hidden[:, None], along, error))

    def _onward(self) -> NDArray[np.float64]:
        """To which side search goes on, (N,) +-1: to the nearer end, to the other, and to and fro when both were reached."""
        azimuth, (right, left) = self._gaze[:, 0], self._explored.T
        reached_right, reached_left = right <= -TURNING_POINT, left >= TURNING_POINT
        nearer = np.where(azimuth < 0, -1.0, 1.0)
        heading = np.where(self._last[:, 0] == 0, nearer, np.sign(self._last[:, 0]))
        to_and_fro = np.where(np.abs(azimuth) >= TURNING_POINT, -nearer, heading)
        return np.select([reached_right & reached_left, reached_right, reached_left], [to_and_fro, 1.0, -1.0], nearer)

    def _toward(self, turn: NDArray[np.float64]) -> NDArray[Any]:
        """Actions that turn by (N, 2) rad, as far as they can."""
        if self._turns is None:
            return np.clip(turn / self._reach, -1, 1).astype(np.float32)
        return np.argmin(np.linalg.norm(turn[:, None] - self._turns[None], axis=2), axis=1)

    def describe(self) -> dict[str, Any]:
        """What a result depends on, JSON-able."""
        return {"control_dt": self.control_dt, "rate": self.rate, "recordings": len(self._recordings), "profile": "recorded"}

    # -- inside --------------------------------------------------------------------------------------------------------

    def _find_views(self, cameras: Sequence[str]) -> tuple[str, ...]:
        """Names of the views that are observed instead of the pyramid."""
        recorded = {c.removeprefix(CAMERA) for c in self._recordings[0].columns if c.startswith(CAMERA)}
        for name in map(observed_as, cameras):
            if any(CAMERA + name not in r.columns for r in self._recordings):
                raise UnknownNameError("recorded camera", name, recorded)
        return tuple(map(observed_as, cameras))

    def _find_sights(self) -> tuple[str, ...]:
        found = {c.removeprefix(SIGHT): None for r in self._recordings for c in r.columns if c.startswith(SIGHT)}
        needed = f"target={self._target!r} needs"
        if self._target in ("any", "mixed") and not found:
            raise InvalidValueError(f"{needed} recorded directions of things, columns '{SIGHT}<phrase>'")
        if self._target in ("recorded", "mixed") and any("target_direction" not in r.columns for r in self._recordings):
            raise InvalidValueError(f"{needed} the column 'target_direction'; take target='none' without it")
        return tuple(sorted(found))

    @cached_property
    def _foveator(self) -> Foveator:
        rays = pyramid_rays(self._fovs, self._resolution, self._projection)
        return Foveator(self._recordings[0].width, rays, self._elevation)

    def _observation_space(self) -> spaces.Dict:
        side, columns = self._resolution, self._recordings[0].columns
        shapes = {name: columns[CAMERA + name].shape[1:] for name in self._views}
        shapes = shapes or {f"eye_{level}": (side, side, 3) for level in range(len(self._fovs))}
        members: dict[str, spaces.Space[Any]] = {name: spaces.Box(0, 255, shape, np.uint8) for name, shape in shapes.items()}
        members |= {k: spaces.Box(-10, 10, columns[k].shape[1:], np.float32) for k in FELT if k in columns}
        members |= {k: spaces.Box(-10, 10, (2,), np.float32) for k in ("gaze", "explored")}
        return spaces.Dict({**members, "target": spaces.Box(-1, 1, (EMBEDDING_SIZE,), np.float32)})

    def _turn(self, actions: NDArray[Any]) -> NDArray[np.float64]:
        if actions.shape != self.action_space.shape:
            raise InvalidValueError(f"the action has shape {actions.shape}, this environment needs {self.action_space.shape}")
        if self._turns is None:
            if actions.dtype.kind not in "fiu" or not np.isfinite(actions).all():
                raise InvalidValueError(f"the action must be finite numbers in [-1, 1], got {actions.dtype} {actions[0]}")
            return np.clip(actions.astype(np.float64), -1, 1) * self._reach
        if actions.dtype.kind not in "iu" or actions.min() < 0 or actions.max() >= len(self._turns):
            raise InvalidValueError(f"the action must be integers below {len(self._turns)}, got {actions.dtype} {actions[0]}")
        return self._turns[actions]

    def _restart(self, ids: NDArray[np.intp], options: Mapping[str, Any]) -> None:
        draw = self._streams.of(ids)
        share, where, sight = draw.uniform(0, 1), draw.uniform(0, 1), draw.uniform(0, 1)
        where = np.clip((where - self._edges / 2) / (1 - self._edges), 0, 1)
        start: Arrays = {
            "episode": (share * len(self._recordings)).astype(int),
            "frame": np.zeros(len(ids), int),
            "gaze": first_gaze(draw),
            "sight": np.full(len(ids), _WANTED),
        }
        chosen = ("episode", "frame", "gaze", "sight")
        for key, value in options.items():
            if key not in chosen:
                raise UnknownNameError("part of the start", key, chosen)
            start[key] = np.broadcast_to(np.asarray(value, start[key].dtype), start[key].shape).copy()
        if start["episode"].min() < 0 or start["episode"].max() >= len(self._recordings):
            raise InvalidValueError(f"episode must be in [0, {len(self._recordings)}), got {start['episode'].tolist()}")
        if start["sight"].min() < _WANTED or start["sight"].max() >= len(self._sights):
            raise InvalidValueError(f"sight must be in [{_WANTED}, {len(self._sights)}), got {start['sight'].tolist()}")
        for k in range(len(ids)):
            recording = self._recordings[int(start["episode"][k])]
            room = max(1, len(recording) - PER_STEP * max(0, self.max_episode_steps - self._pause))
            if "frame" not in options:
                first = min(int(where[k] * room), room - 1)
                start["frame"][k] = first - first % (PER_STEP if recording.about.get("twos") else 1)
            if not 0 <= start["frame"][k] < len(recording):
                raise InvalidValueError(f"frame must be in [0, {len(recording)}), got {start['frame'][k]}")
            if "sight" not in options:
                start["sight"][k] = self._draw_sight(recording, int(start["frame"][k]), sight[k])
        self._sight[ids] = start["sight"]
        self._episode[ids], self._frame[ids], self._steps[ids] = start["episode"], start["frame"], 0
        self._gaze[ids] = np.clip(start["gaze"], -self._limits, self._limits)
        self._last[ids], self._held[ids], self._explored[ids] = 0, 0, self._gaze[ids, :1]
        for key, value in start.items():
            self._start.setdefault(key, np.zeros((self.num_envs, *value.shape[1:]), value.dtype))[ids] = value

    def _draw_sight(self, recording: Recording, frame: int, share: float) -> int:
        """Number of one of the things that are there, or of what the demonstrator looked for, by a share in [0, 1)."""
        if self._target in ("recorded", "none") or (self._target == "mixed" and share < 0.5):
            return _WANTED
        share, columns = 2 * share - 1 if self._target == "mixed" else share, recording.columns
        there = [
            number for number, name in enumerate(self._sights)
            if SIGHT + name in columns and np.isfinite(columns[SIGHT + name][frame, 0])
            and (VISIBLE + name not in columns or columns[VISIBLE + name][frame, 0])
        ]  # fmt: skip
        return there[int(share * len(there))]

    def _asked(self, i: int) -> str | None:
        """The thing that is asked for; None where the demonstrator's instruction is."""
        return None if self._sight[i] == _WANTED else self._sights[self._sight[i]]

    def _targets(self) -> NDArray[np.float64]:
        """Directions of the targets, (N, 2) rad; NaN where there is none."""
        out = np.full((self.num_envs, 2), np.nan)
        for i in range(self.num_envs):
            columns = self._recordings[self._episode[i]].columns
            name = "target_direction" if (thing := self._asked(i)) is None else f"{SIGHT}{thing}"
            if name in columns and self._target != "none":
                out[i] = columns[name][self._frame[i]]
        return out

    def _film(self, i: int) -> Film:
        held, number = self._films[i], int(self._episode[i])
        if held is None or held[0] != number:
            if held is not None:
                held[1].close()
            held = self._films[i] = number, self._recordings[number].film()
        return held[1]

    def _picture(self, i: int) -> NDArray[np.uint8]:
        return self._film(i)[max(0, int(self._frame[i]) - self._latency)]

    def _observe(self) -> Arrays:
        obs = {name: self._now(CAMERA + name, self._latency) for name in self._views} or self._pyramid()
        for key in FELT:
            if key in self.single_observation_space.spaces:  # type: ignore[attr-defined]
                obs[key] = self._now(key).astype(np.float32)
        obs |= {"gaze": self._gaze.astype(np.float32), "explored": self._explored.astype(np.float32)}
        return {**obs, "target": embed(self._instructions())}

    def _pyramid(self) -> Arrays:
        seen = np.stack([self._look(i) for i in range(self.num_envs)])
        return {f"eye_{level}": np.ascontiguousarray(seen[:, level]) for level in range(len(self._fovs))}

    def _look(self, i: int) -> NDArray[np.uint8]:
        """What one eye sees, (L, R, R, 3)."""
        began = time.perf_counter()
        picture = self._picture(i)
        decoded = time.perf_counter()
        seen = self._foveator.look(picture, self._gaze[i])
        self.timings["decode"] += decoded - began
        self.timings["look"] += time.perf_counter() - decoded
        return seen

    def _now(self, column: str, latency: int = 0) -> NDArray[Any]:
        pairs = zip(self._episode, np.maximum(self._frame - latency, 0), strict=True)
        return np.stack([self._recordings[e].columns[column][f] for e, f in pairs])

    def _instructions(self) -> list[str]:
        things = [self._asked(i) for i in range(self.num_envs)]
        own = (self._recordings[e].instruction for e in self._episode)
        return [task if thing is None else f"find {thing}" for thing, task in zip(things, own, strict=True)]

    def _copy(self) -> Arrays:
        return {key: value.copy() for key, value in (self._obs or {}).items()}

    def _info(self, began: NDArray[np.bool_], targets: NDArray[np.float64]) -> dict[str, Any]:
        everyone, success = np.ones(self.num_envs, bool), self._held >= HOLD - 1e-9
        state = {
            "episode": self._episode.copy(), "frame": self._frame.copy(), "gaze": self._gaze.copy(),
            "gaze_error": angle_between(self._gaze, targets), "target_direction": targets,
            "paused": self._steps < self._pause, "held": self._held.copy(),
        }  # fmt: skip
        info = {
            "success": success, "is_success": success.copy(), "physics_error": ~everyone,
            "instruction": np.array(self._instructions(), object), "state": masked(state, everyone),
            "timing": masked({"time": self._steps * self.control_dt, "step": self._steps.copy()}, everyone),
        }  # fmt: skip
        if self._chunk:
            info["chunk"] = masked(self._chunks(), everyone)
        info = masked(info, everyone)
        if began.any():
            info |= masked({"start": masked({k: v.copy() for k, v in self._start.items()}, began)}, began)
        return info

    def _chunks(self) -> Arrays:
        """The arm's next rows, the present one first, and which of them exist; the last one stands for those that do not."""
        rows = self._frame[:, None] + np.arange(self._chunk)
        out: dict[str, list[NDArray[Any]]] = {}
        valid = []
        for i, episode in enumerate(self._episode):
            columns = self._recordings[episode].columns
            last = len(self._recordings[episode]) - 1
            valid.append(rows[i] <= last)
            for name, values in columns.items():
                if not name.startswith((SIGHT, CAMERA)):
                    out.setdefault(name, []).append(values[np.minimum(rows[i], last)])
        return {**{k: np.stack(v) for k, v in out.items()}, "valid": np.stack(valid)}

    def _reset_done(self, done: NDArray[np.bool_], info: dict[str, Any]) -> dict[str, Any]:
        assert self._obs is not None
        final = final_rows(self._obs, done)
        self._restart(np.flatnonzero(done), {})
        self._obs = self._observe()
        return self._info(done, self._targets()) | masked({"final_obs": final, "final_info": remasked(info, done)}, done)

    def _drawn(self, i: int) -> NDArray[np.uint8]:
        picture = self._picture(i).copy()
        u, v = self._foveator.maps(self._gaze[i])
        side, width = self._resolution, picture.shape[1]
        around = np.arange(side)
        first, last = np.zeros(side, int), np.full(side, side - 1)
        rows, columns = np.concatenate([first, around, last, around[::-1]]), np.concatenate([around, last, around[::-1], first])
        for level in range(len(self._fovs)):
            at = level * side + rows, columns
            border = np.stack([np.unwrap(u[at], period=width) % (4 * width), v[at]], axis=1)
            for turn in range(-4, 2):  # what leaves the picture on one side comes in on the other
                line = np.round(border + np.array([turn * width, 0])).astype(np.int32)
                cv2.polylines(picture, [line], True, (255, 40, 40), max(1, width // 640), cv2.LINE_AA)
        return picture


class Replay(Single):
    """One eye in recordings; the arguments are `BatchReplay`'s, less those of batches."""

    metadata: dict[str, Any] = {"render_modes": ["rgb_array"], "render_fps": 15}  # noqa: RUF012  Gymnasium's declaration

    def __init__(self, recordings: str | Path | Sequence[str | Path | Recording] = "", **kwargs: Any) -> None:
        refuse_batches("Replay", kwargs)
        super().__init__(BatchReplay(recordings, 1, autoreset_mode=AutoresetMode.DISABLED, **kwargs))


def _open(recordings: str | Path | Sequence[str | Path | Recording], robot: str) -> tuple[Sequence[Recording], float]:
    given = [recordings] if isinstance(recordings, (str, Path)) else list(recordings)
    if not given:
        raise InvalidValueError("there are no recordings to replay: at least one is needed")
    found: list[Recording] = []
    rates = set()
    for one in given:
        if isinstance(one, Recording):
            found.append(one)
            rates.add(float(one.about.get("rate", 30.0)))
        else:
            read = _read(one)
            found += read
            rates.add(read.rate)
    if len(rates) > 1:
        raise InvalidValueError(f"all recordings need frames of one rate, got {sorted(rates)} a second")
    widths = {r.width for r in found}
    if len(widths) > 1:
        raise InvalidValueError(f"all recordings need panoramas of one width, got {sorted(widths)}")
    return [_with_tool(r, robot) for r in found], rates.pop()


def _with_tool(recording: Recording, robot: str) -> Recording:
    """The recording with "tool" by forward kinematics where it lacks it, as a real video's table of joints does."""
    columns = recording.columns
    if "tool" in columns or columns["joints"].shape[1] != chain(robot).dof:
        return recording
    derived: MutableMapping[str, NDArray[Any]] = {"tool": chain(robot).tool(columns["joints"])[0]}
    # What is stored is only read: pictures among it stay on disk until they are asked for.
    return replace(recording, columns=ChainMap(derived, cast("MutableMapping[str, NDArray[Any]]", columns)))


def _read(folder: str | Path) -> Recordings:
    if not str(folder):
        raise InvalidValueError("recordings must name a folder, such as one that `saccade collect` wrote with panoramas")
    place = Path(folder)
    if place.exists():
        return Recordings(place)
    ships = sorted(found.parent.relative_to(ROOT).as_posix() for found in ROOT.glob(f"*/*/{MARKER}"))
    if str(folder) not in ships:
        raise UnknownNameError("folder of recordings", str(folder), ships)
    return Recordings(ROOT / folder)


def _check(
    num_envs: int, steps: int, pause: int, chunk: int, latency: int, edges: float, smoothing: float, target: str
) -> None:  # fmt: skip
    for name, value, least in (
        ("num_envs", num_envs, 1), ("max_episode_steps", steps, 1), ("pause", pause, 0), ("chunk", chunk, 0),
        ("latency", latency, 0),
    ):  # fmt: skip
        if value < least:
            raise InvalidValueError(f"{name} must be >= {least}, got {value}")
    for name, share in (("smoothing", smoothing), ("edges", edges)):
        if not 0 <= share < 1:
            raise InvalidValueError(f"{name} must be in [0, 1), got {share}")
    if target not in TARGETS:
        raise UnknownNameError("target", target, TARGETS)
