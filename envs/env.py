"""The only two environment classes: `BatchEnv` runs N simulations of a task, `Env` is the case N = 1.

Tasks compose into them; nobody subclasses them. One step is: action parts write actuator inputs, physics advances, the task
moves what moves by itself, the observed cameras are drawn once, and reward, success and failure are computed from the
named state.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from envs.actions import Gaze
from envs.batching import (
    ClosedError,
    NotResetError,
    Single,
    checked_mask,
    final_rows,
    masked,
    refuse_batches,
    remasked,
    reset_mode,
    squeeze,
    unmasked,
)
from envs.eye import Eye
from envs.physics import Ids, Physics, names_of
from envs.render import PROFILES, Profile, Renderer, View
from envs.render import profile as profile_named
from envs.streams import Streams
from envs.task import Task
from perception.text import EMBEDDING_SIZE, embed
from rewards.base import Transition, WeightedSum

RENDER_MODES = ("human", "rgb_array", "depth_array")
Arrays = dict[str, NDArray[Any]]


def make_task(task: str | Task, options: Mapping[str, Any]) -> Task:
    """A task from "module:Class" and its options.

    Raises:
        UnknownNameError: the task has no such option; the sentence offers the near miss and the options it has.
        InvalidValueError: there is no such task.
    """
    if isinstance(task, Task):
        if options:
            raise InvalidValueError(f"options {sorted(options)} were given beside a finished task; put them into the task")
        return task
    kind = _task_class(task)
    known = [f.name for f in fields(kind)]
    for key in options:
        if key not in known:
            raise UnknownNameError(f"option of {kind.__name__}", key, [*known, *_ENV_OPTIONS])
    return kind(**options)


def _task_class(path: str) -> Any:
    module, _, name = path.partition(":")
    try:
        kind = getattr(importlib.import_module(module), name) if module and name else None
    except (ModuleNotFoundError, AttributeError) as error:
        raise InvalidValueError(f"the task {path!r} cannot be found: {error}; it is written 'module:Class'") from error
    if not (isinstance(kind, type) and issubclass(kind, Task) and is_dataclass(kind)):
        raise InvalidValueError(f"the task {path!r} must be 'module:Class', with a dataclass that derives from Task")
    return kind


_ENV_OPTIONS = (
    "render_mode", "profile", "observe", "modalities", "image_size", "camera", "width", "height", "max_episode_steps",
    "autoreset_mode", "first_index", "num_threads", "reward", "dump_folder",
)  # fmt: skip


class BatchEnv(gym.vector.VectorEnv[dict[str, NDArray[Any]], NDArray[np.float32], NDArray[Any]]):
    """N simulations of one task behind Gymnasium's vector API.

    Observations are a dictionary: one uint8 image (N, H, W, 3) per observed camera, the task's proprioception as float32,
    and "target", the embedding of the instruction. Actions are one flat Box(-1, 1); `action_slices` names its parts.

    Args:
        task: "module:Class", or a finished task.
        num_envs: N.
        render_mode: "rgb_array", "depth_array" (metres), "human" (a page in the browser), or None.
        profile: render profile of the observations: "fast", "standard", "quality", or a mapping of its fields.
        observe: names of the cameras to observe; None takes all that the task offers, () none.
        modalities: what each observed camera gives, of "rgb", "depth" (metres), "segmentation" (geom ids).
        image_size: side of observed images, pixels; None takes the task's choice.
        camera, width, height: what `render()` shows, pixels.
        max_episode_steps: time limit, control steps; None for none. It truncates.
        autoreset_mode: "same_step", "next_step" or "disabled", or Gymnasium's enum.
        first_index: index of the first simulation, so that a shard draws what it would in the whole batch.
        num_threads: threads for physics and for drawing; 0 takes all cores. Results do not depend on it.
        reward: replaces the task's reward.
        dump_folder: where states that led to a divergence are written; None writes none.
        options: the task's own options.

    Raises:
        UnknownNameError, InvalidValueError: an argument is wrong; the sentence says how.
    """

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 20}  # noqa: RUF012  Gymnasium's declaration

    def __init__(
        self,
        task: str | Task,
        num_envs: int = 1,
        *,
        render_mode: str | None = None,
        profile: str | Mapping[str, Any] | Profile = "fast",
        observe: Sequence[str] | None = None,
        modalities: Sequence[str] = ("rgb",),
        image_size: int | None = None,
        camera: str | None = None,
        width: int = 480,
        height: int = 360,
        max_episode_steps: int | None = None,
        autoreset_mode: str | AutoresetMode = AutoresetMode.NEXT_STEP,
        first_index: int = 0,
        num_threads: int = 0,
        reward: WeightedSum | None = None,
        dump_folder: str | Path | None = None,
        **options: Any,
    ) -> None:
        self._made_with = {k: v for k, v in locals().items() if k not in ("self", "options", "__class__")} | options
        self.closed = True  # until everything is there, there is nothing to close
        if num_envs < 1:
            raise InvalidValueError(f"num_envs must be >= 1, got {num_envs}")
        if render_mode is not None and render_mode not in RENDER_MODES:
            raise UnknownNameError("render mode", render_mode, RENDER_MODES)
        if image_size is not None and image_size < 1:
            raise InvalidValueError(f"image_size must be >= 1 pixel, got {image_size}")
        if max_episode_steps is not None and max_episode_steps < 1:
            raise InvalidValueError(f"max_episode_steps must be >= 1 or None, got {max_episode_steps}")
        self.task = make_task(task, options)
        self.num_envs = num_envs
        self.render_mode = render_mode
        self.profile = profile_named(profile)
        self.max_episode_steps = max_episode_steps
        self._autoreset = reset_mode(autoreset_mode)
        self._dump_folder = None if dump_folder is None else Path(dump_folder)
        fps = round(1 / self.task.control_dt)
        self.metadata = {**type(self).metadata, "render_fps": fps, "autoreset_mode": self._autoreset}

        scene = self.task.build(self.task.timestep)
        self.nstep = _substeps(self.task)
        self.physics = scene.compile(num_envs, num_threads)
        self._streams = Streams(num_envs, first_index)
        self._views = _observed(self.task.views(image_size), observe, tuple(modalities))
        self._shown = View("render", camera or self.task.render_camera, width, height, ("rgb", "depth"))
        self.physics.id("camera", self._shown.camera)
        self._renderer = _renderer(self.physics, self.profile, self._views, num_threads)
        self._show = _renderer(self.physics, PROFILES["standard"], [self._shown], num_threads)
        self._others: dict[tuple[Profile, int, int], Renderer] = {}
        self._viewer: Any = None

        self._parts = tuple(self.task.parts())
        self.action_slices = _slices(self._parts)
        self._reward = reward or self.task.reward()
        self.single_action_space = spaces.Box(-1, 1, (sum(p.size for p in self._parts),), np.float32)
        felt = self.task.proprio()
        self.single_observation_space = self._observation_space(felt)
        self._felt = [(key, space.low, space.high) for key, space in felt.items()]
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.observation_space = batch_space(self.single_observation_space, num_envs)

        self._steps = np.zeros(num_envs, np.int64)
        self._pending = np.zeros(num_envs, bool)
        self._obs: Arrays | None = None
        self._start: Arrays = {}
        self.closed = False
        self.timings = {"physics": 0.0, "render": 0.0, "total": 0.0}  # s, summed over steps

    # -- Gymnasium -----------------------------------------------------------------------------------------------------

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Arrays, dict[str, Any]]:
        """Start new episodes.

        Args:
            seed: an integer s keys simulation i's stream by (s, first_index + i); a list gives each its own, keyed by
                (s_i, 0). None goes on with the running streams.
            options: any named part of the start (see the task's `sample`), for all simulations or one row each; and
                "reset_mask" (N,) bool to leave some simulations alone.
        """
        self._require_open()
        options = dict(options or {})
        mask = options.pop("reset_mask", None)
        ids = self.physics.all if mask is None else np.flatnonzero(checked_mask(mask, self.num_envs))
        if self._obs is None and len(ids) < self.num_envs:
            raise NotResetError("the first reset() starts every simulation; leave out reset_mask, or set all of it")
        if seed is not None:
            self._seed(seed)
        self._restart(ids, options)
        self._pending[ids] = False
        state = self._state()
        self._obs = self._observe(state, self._obs, ids)
        if self.render_mode == "human":
            self._show_human()
        began = np.isin(self.physics.all, ids)
        return self._copy_obs(), self._info(state, np.zeros(self.num_envs, bool), began, {}, self.task.instruction(state))

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[Arrays, NDArray[np.float32], NDArray[np.bool_], NDArray[np.bool_], dict[str, Any]]:
        """Advance every simulation by one control step.

        Args:
            actions: (N, A) in [-1, 1].

        Raises:
            InvalidValueError: the action has a wrong shape or dtype, or is not finite.
            NotResetError, ClosedError: called too early or too late.
        """
        began = time.perf_counter()
        self._require_open()
        if self._obs is None:
            raise NotResetError("step() was called before reset(); call reset(seed=...) once after making the environment")
        actions = self._checked(actions)
        pending = self._pending.copy()  # NEXT_STEP: these only reset now
        self._act(actions)
        broken = self.physics.step(self.nstep)
        if broken.any():
            self._dump(np.flatnonzero(broken & ~pending), actions)
        self.task.advance(self.physics, self.task.control_dt)
        self._steps += 1
        if pending.any():
            self._restart(np.flatnonzero(pending), {})
        self.timings["physics"] += time.perf_counter() - began

        state = self._state()
        terminated = (self.task.failure(state) | broken) & ~pending
        truncated = np.zeros(self.num_envs, bool)
        if self.max_episode_steps is not None:
            truncated = (self._steps >= self.max_episode_steps) & ~terminated & ~pending
        previous, self._obs = self._obs, self._observe(state)
        instruction = self.task.instruction(state)
        transition = Transition(previous, actions, state, self._obs, terminated, instruction)
        terms = self._reward.terms(transition)
        reward = np.where(pending, np.float32(0), self._reward.total(terms)).astype(np.float32)
        if pending.any():  # that step was none of the new episode
            self._reward.reset(np.flatnonzero(pending))
        info = self._info(state, broken & ~pending, pending, terms, instruction)
        done = terminated | truncated
        if self._autoreset is AutoresetMode.SAME_STEP and done.any():
            info = self._reset_done(done, info)
        else:
            self._pending = done if self._autoreset is AutoresetMode.NEXT_STEP else self._pending
        if self.render_mode == "human":
            self._show_human()
        self.timings["total"] += time.perf_counter() - began
        return self._copy_obs(), reward, terminated, truncated, info

    def _act(self, actions: NDArray[np.float32]) -> None:
        for part, where in zip(self._parts, self.action_slices.values(), strict=True):
            part.apply(self.physics, actions[:, where].astype(np.float64))

    def render(self) -> tuple[NDArray[Any], ...] | None:
        """One frame per simulation from the render camera: (H, W, 3) uint8 or (H, W) float32 metres; None for "human"."""
        self._require_open()
        if self._obs is None:
            raise NotResetError("render() was called before reset()")
        if self.render_mode is None:
            gym.logger.warn(f"render() does nothing without a render_mode; make the environment with one of {RENDER_MODES}")
            return None
        if self.render_mode == "human":
            return self._show_human()
        modality = "rgb" if self.render_mode == "rgb_array" else "depth"
        return tuple(self.draw(modality=modality))

    def close_extras(self, **kwargs: Any) -> None:
        """Free the OpenGL contexts and the viewer."""
        del kwargs
        self._renderer.close()
        self._show.close()
        for renderer in self._others.values():
            renderer.close()
        self._others = {}
        if self._viewer is not None:
            self._viewer.close()
            self._viewer = None

    # -- beyond Gymnasium ----------------------------------------------------------------------------------------------

    def draw(
        self,
        camera: str | None = None,
        width: int | None = None,
        height: int | None = None,
        modality: str = "rgb",
        look: str | Mapping[str, Any] | Profile | None = None,
        ids: Ids | None = None,
    ) -> NDArray[Any]:
        """Draw the present state from any camera, size and profile. Shape (n, H, W, 3) or (n, H, W)."""
        shown = self._shown
        view = self._view(camera or shown.camera, width or shown.width, height or shown.height, modality)
        return self._artist([view], profile_named(look or "standard")).draw([view], ids)[view.name, modality]

    def draw_all(
        self, sizes: Mapping[str, tuple[int, int]], look: str | Mapping[str, Any] | Profile | None = None
    ) -> dict[str, NDArray[np.uint8]]:
        """Draw the present state from several cameras at once, faster than one by one.

        Args:
            sizes: width and height, pixels, by the camera's name.
            look: render profile; "standard" if not given.

        Returns:
            (N, H, W, 3) by the camera's name.
        """
        # Views of an eye's own cameras together: the scene is listed anew where its housing comes or goes.
        views = sorted((self._view(name, *size) for name, size in sizes.items()), key=lambda view: view.inside_eye)
        drawn = self._artist(views, profile_named(look or "standard")).draw(views)
        return {name: drawn[name, "rgb"] for name in sizes}

    def _view(self, camera: str, width: int, height: int, modality: str = "rgb") -> View:
        self.physics.id("camera", camera)
        # An eye's own camera must not film its housing from inside.
        inside = any(camera.startswith(f"{eye.name}/") for eye in self._eyes())
        return View(camera, camera, width, height, (modality,), inside)

    def _artist(self, views: Sequence[View], look: Profile) -> Renderer:
        """The renderer for pictures; besides `render`'s own, the two newest are kept for further pictures."""
        shown, largest = self._shown, (max(v.width for v in views), max(v.height for v in views))
        if look == PROFILES["standard"] and largest == (shown.width, shown.height):
            return self._show
        key = (look, *largest)
        if key not in self._others:
            if len(self._others) == 2:
                self._others.pop(next(iter(self._others))).close()
            self._others[key] = _renderer(self.physics, look, views, 1)
        return self._others[key]

    def stagger(self) -> None:
        """Spread the simulations evenly over the time limit, so that a batch of experience holds every phase of an episode."""
        if self.max_episode_steps is not None:
            self._steps[:] = np.arange(self.num_envs) * self.max_episode_steps // self.num_envs

    def oracle(self) -> NDArray[np.float32]:
        """The scripted expert's action in the present state. Shape (N, A)."""
        return self.task.oracle(self._state())

    def sights(self) -> Arrays:
        """Where all that could be asked for is: phrase -> (N, 2) azimuth and elevation from the eye, rad, NaN if absent."""
        return self.task.sights(self.physics)

    def visible(self) -> dict[str, NDArray[np.bool_]]:
        """Which of `sights` nothing hides from the eye: phrase -> (N,)."""
        return self.task.visible(self.physics)

    def snapshot(self) -> Arrays:
        """Everything that a picture and the future depend on, except the random streams."""
        return {**self.physics.snapshot(), "steps": self._steps.copy()}

    def restore(self, snapshot: Mapping[str, NDArray[Any]]) -> Arrays:
        """Bring back what `snapshot` returned, and observe it."""
        rest = dict(snapshot)
        self._steps[:] = rest.pop("steps")
        self.physics.restore(rest)
        self._obs = self._observe(self._state())
        return self._copy_obs()

    def within(self, snapshot: Mapping[str, NDArray[Any]], actions: NDArray[np.float32], share: float) -> Arrays:
        """Go on from stored states for a share of a control step, as `step` does on its way; returns the named state.

        What moves by itself moves at the end of a step, and so does not here. The simulations are left there to be drawn;
        restore or reset them before stepping them.

        Args:
            snapshot: N rows of what `snapshot` returned.
            actions: (N, A) in [-1, 1].
            share: of a control step, in [0, 1); a whole number of physics steps.

        Raises:
            InvalidValueError: the share is out of range or no whole number of physics steps.
        """
        substeps = share * self.nstep
        if not 0 <= share < 1 or abs(substeps - round(substeps)) > 1e-9:
            raise InvalidValueError(f"share must be k / {self.nstep} of a control step with k < {self.nstep}, got {share}")
        self.physics.restore({key: value for key, value in snapshot.items() if key != "steps"})
        if substeps:
            self._act(self._checked(actions))
            self.physics.step(round(substeps))
        return self._state()

    def checkpoint(self) -> tuple[Arrays, dict[str, Any]]:
        """For an exact resume: arrays, and a JSON-able rest with the random streams."""
        arrays = {**self.snapshot(), "pending": self._pending.copy()}
        arrays.update({f"obs/{key}": value.copy() for key, value in (self._obs or {}).items()})
        arrays.update({f"start/{key}": value.copy() for key, value in self._start.items()})
        return arrays, {"streams": self._streams.state(), "seeds": self._streams.seeds}

    def resume(self, arrays: Mapping[str, NDArray[Any]], rest: Mapping[str, Any]) -> Arrays:
        """Bring back what `checkpoint` returned; the next step continues as if nothing had happened."""
        self._steps[:] = arrays["steps"]
        self._pending = np.asarray(arrays["pending"], bool).copy()
        self.physics.restore({key: v for key, v in arrays.items() if key == "state" or key.startswith("field/")})
        self._obs = _below("obs/", arrays) or None
        self._start = _below("start/", arrays)
        self._streams.set_state(rest["streams"])
        self._streams.seeds = [int(s) for s in rest["seeds"]]
        return self._copy_obs()

    @property
    def draws(self) -> int:
        """Images drawn for observations so far."""
        return self._renderer.draws

    @property
    def gaze_reach(self) -> float:
        """How far the eye can turn in one control step, degrees; 0 where there is none."""
        eyes = self._eyes()
        return eyes[0].max_speed * self.task.control_dt if eyes else 0.0

    def _eyes(self) -> list[Eye]:
        return [part.eye for part in self._parts if isinstance(part, Gaze)]

    def gaze_ray(self, sim: int = 0) -> NDArray[np.float64]:
        """Where an eye looks: its optical centre and the first surface ahead, world frame, metres. Shape (2, 3).

        Raises:
            InvalidValueError: this environment has no eye.
        """
        eyes = self._eyes()
        if not eyes:
            raise InvalidValueError(f"{type(self.task).__name__} has no eye, so there is no gaze")
        return eyes[0].ray(self.physics, sim)

    @property
    def cameras(self) -> list[str]:
        """Every camera of the scene, by name."""
        return names_of(self.physics.model, "camera")

    def describe(self) -> dict[str, Any]:
        """What results should state: render profile, cameras, OpenGL (a context is made), time base in seconds."""
        return {
            "profile": self.profile.name,
            "cameras": [v.name for v in self._views],
            "gl": self._renderer.describe() if self._views else None,
            "control_dt": self.task.control_dt,
            "timestep": self.task.timestep,
        }

    # -- inside --------------------------------------------------------------------------------------------------------

    def __reduce__(self) -> tuple[Any, ...]:
        # Threads and OpenGL contexts cannot travel: a copy is made anew and brought to the same moment.
        return _remake, (self._made_with, *self.checkpoint()), {"spec": self.spec, "closed": self.closed}

    def _require_open(self) -> None:
        if self.closed:
            raise ClosedError("this environment is closed; make a new one")

    def _seed(self, seed: int | Sequence[int | None]) -> None:
        self._streams.seed(seed)
        values = list(seed) if isinstance(seed, (Sequence, np.ndarray)) else [seed]
        self._np_random, self._np_random_seed = seeding.np_random(next((v for v in values if v is not None), None))

    def _checked(self, actions: NDArray[np.float32]) -> NDArray[np.float32]:
        array = np.asarray(actions)
        expected = self.action_space.shape
        if array.shape != expected:
            parts = ", ".join(f"{name}: {s.stop - s.start}" for name, s in self.action_slices.items())
            raise InvalidValueError(f"the action has shape {array.shape}, this environment needs {expected} ({parts})")
        if array.dtype.kind not in "fiu":
            raise InvalidValueError(f"the action has dtype {array.dtype}, it must be numbers in [-1, 1] (float32)")
        if not np.isfinite(array).all():
            raise InvalidValueError(f"the action must be finite numbers in [-1, 1], got {array[~np.isfinite(array)][0]}")
        return np.minimum(np.maximum(array, -1), 1).astype(np.float32)

    def _restart(self, ids: Ids, options: Mapping[str, Any]) -> None:
        if len(ids) == 0:
            return
        self._reward.reset(ids)
        start = self.task.sample(self._streams.of(ids))
        for key, value in options.items():
            if key not in start:
                raise UnknownNameError("part of the start", key, start)
            try:
                start[key] = np.broadcast_to(np.asarray(value, start[key].dtype), start[key].shape).copy()
            except ValueError as error:
                raise InvalidValueError(
                    f"the start's {key!r} needs shape {start[key].shape} (or one row of it), got {value!r}"
                ) from error
        self.physics.reset(ids)
        self.task.place(self.physics, ids, start)
        self.physics.forward(ids)
        self._steps[ids] = 0
        for key, value in start.items():
            if key not in self._start:
                self._start[key] = np.zeros((self.num_envs, *value.shape[1:]), value.dtype)
            self._start[key][ids] = value

    def _state(self) -> Arrays:
        return self.task.state(self.physics)

    def _observation_space(self, felt: Mapping[str, spaces.Box]) -> spaces.Dict:
        members: dict[str, spaces.Space[Any]] = {}
        for view in self._views:
            for modality in view.modalities:
                key, shape = _key(view, modality), (view.height, view.width)
                if modality == "rgb":
                    members[key] = spaces.Box(0, 255, (*shape, 3), np.uint8)
                elif modality == "depth":
                    members[key] = spaces.Box(0, np.inf, shape, np.float32)
                else:
                    members[key] = spaces.Box(-1, self.physics.model.ngeom - 1, shape, np.int32)
        members.update(felt)
        members["target"] = spaces.Box(-1, 1, (EMBEDDING_SIZE,), np.float32)
        return spaces.Dict(members)

    def _observe(self, state: Arrays, last: Arrays | None = None, ids: Ids | None = None) -> Arrays:
        """Observations of a state; with `last` and `ids`, only those simulations are drawn anew."""
        began = time.perf_counter()
        obs: Arrays = {}
        if self._views:
            partial = last is not None and ids is not None and len(ids) < self.num_envs
            drawn = self._renderer.draw(self._views, ids if partial else None)
            for view in self._views:
                for modality in view.modalities:
                    key, images = _key(view, modality), drawn[view.name, modality]
                    if partial and last is not None and ids is not None:
                        whole = last[key].copy()
                        whole[ids] = images
                        images = whole
                    obs[key] = images
        self.timings["render"] += time.perf_counter() - began
        for key, low, high in self._felt:
            obs[key] = np.minimum(np.maximum(state[key].reshape(self.num_envs, -1), low), high).astype(np.float32)
        obs["target"] = embed(self.task.instruction(state))
        return obs

    def _copy_obs(self) -> Arrays:
        # What was returned belongs to the caller; what is kept is the next transition's `obs`.
        return {key: value.copy() for key, value in (self._obs or {}).items()}

    def _info(
        self,
        state: Arrays,
        broken: NDArray[np.bool_],
        began: NDArray[np.bool_],
        terms: Arrays,
        instruction: Sequence[str],
    ) -> dict[str, Any]:
        """What is said beside an observation; Gymnasium's masks "_key" say which simulations have the key."""
        success, everyone = np.asarray(self.task.success(state), bool), np.ones(self.num_envs, bool)
        info = {
            "success": success,
            "is_success": success.copy(),
            "physics_error": broken,
            "instruction": np.array(instruction, object),
            "state": masked({key: np.array(value) for key, value in state.items()}, everyone),
            "timing": masked({"time": self.physics.time.copy(), "step": self._steps.copy()}, everyone),
        }
        info = masked(info, everyone)
        if terms and not began.all():
            info |= masked({"reward_terms": masked(dict(terms), ~began)}, ~began)
        if began.any():
            info |= masked({"start": masked({key: value.copy() for key, value in self._start.items()}, began)}, began)
        return info

    def _reset_done(self, done: NDArray[np.bool_], info: dict[str, Any]) -> dict[str, Any]:
        """SAME_STEP: start anew where an episode ended; what it ended with goes to `final_obs` and `final_info`."""
        ids = np.flatnonzero(done)
        assert self._obs is not None
        final = final_rows(self._obs, done)
        self._restart(ids, {})
        state = self._state()
        self._obs = self._observe(state, self._obs, ids)
        broken = np.where(done, False, info["physics_error"])
        fresh = self._info(state, broken, done, unmasked(info.get("reward_terms", {})), self.task.instruction(state))
        return fresh | masked({"final_obs": final, "final_info": remasked(info, done)}, done)

    def _dump(self, ids: Ids, actions: NDArray[np.float32]) -> None:
        for i in ids:
            told = f"simulation {i} diverged at step {self._steps[i]} (seed {self._streams.seeds[i]}); its episode ends"
            if self._dump_folder is not None:
                self._dump_folder.mkdir(parents=True, exist_ok=True)
                file = self._dump_folder / f"physics_error_seed{self._streams.seeds[i]}_sim{i}_step{self._steps[i]}.npz"
                spec = json.dumps({"task": type(self.task).__name__, "nstep": self.nstep})
                np.savez(file, state=self.physics.before(i), action=actions[i], ctrl=self.physics.ctrl[i], spec=spec)
                told += f"; the state before it is in {file}"
            gym.logger.warn(told)

    def _show_human(self) -> None:
        from envs.viewer import WebViewer

        if self._viewer is None:
            self._viewer = WebViewer(self.physics)
        self._viewer.show(0)


class Env(Single):
    """One simulation: a `BatchEnv` of size 1 with the leading axis squeezed off; same arguments, same numbers."""

    metadata: dict[str, Any] = {"render_modes": list(RENDER_MODES), "render_fps": 20}  # noqa: RUF012  Gymnasium's declaration

    def __init__(self, task: str | Task, **kwargs: Any) -> None:
        refuse_batches("Env", kwargs)
        super().__init__(BatchEnv(task, 1, autoreset_mode=AutoresetMode.DISABLED, **kwargs))
        self.action_slices = self.batch.action_slices

    @property
    def task(self) -> Task:
        """The task."""
        return self.batch.task

    @property
    def gaze_reach(self) -> float:
        """How far the eye can turn in one control step, degrees; 0 where there is none."""
        return self.batch.gaze_reach

    @property
    def physics(self) -> Physics:
        """The simulation, with its leading axis."""
        return self.batch.physics

    @property
    def draws(self) -> int:
        """Images drawn for observations so far."""
        return self.batch.draws

    def snapshot(self) -> Arrays:
        """Everything that a picture and the future depend on, except the random stream; with the leading axis."""
        return self.batch.snapshot()

    def restore(self, snapshot: Mapping[str, NDArray[Any]]) -> Arrays:
        """Bring back what `snapshot` returned, and observe it."""
        return squeeze(self.batch.restore(snapshot))


def _substeps(task: Task) -> int:
    ratio = task.control_dt / task.timestep
    if abs(ratio - round(ratio)) > 1e-6 or round(ratio) < 1:
        raise InvalidValueError(
            f"{type(task).__name__}: control_dt ({task.control_dt} s) must be a whole multiple of timestep ({task.timestep} s)"
        )
    return round(ratio)


def _below(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    """Copies of the arrays whose name has a prefix, without it."""
    return {key.removeprefix(prefix): value.copy() for key, value in arrays.items() if key.startswith(prefix)}


def _remake(made_with: dict[str, Any], arrays: Arrays, rest: dict[str, Any]) -> BatchEnv:
    env = BatchEnv(**made_with)
    env.resume(arrays, rest)
    return env


def _slices(parts: Sequence[Any]) -> dict[str, slice]:
    out, at = {}, 0
    for part in parts:
        out[part.name] = slice(at, at + part.size)
        at += part.size
    return out


def _key(view: View, modality: str) -> str:
    return view.name if modality == "rgb" else f"{view.name}_{modality}"


def _observed(offered: Sequence[View], wanted: Sequence[str] | None, modalities: tuple[str, ...]) -> list[View]:
    by_name = {view.name: view for view in offered}
    names = list(by_name) if wanted is None else list(wanted)
    chosen = []
    for name in names:
        if name not in by_name:
            raise UnknownNameError("camera to observe", name, by_name)
        view = by_name[name]
        chosen.append(View(view.name, view.camera, view.width, view.height, modalities, view.inside_eye, view.lens))
    return chosen


def _renderer(physics: Any, look: Profile, views: Sequence[View], num_threads: int) -> Renderer:
    sizes = [view.drawn_size for view in views] or [(1, 1)]
    return Renderer(physics, look, max(w for w, _ in sizes), max(h for _, h in sizes), num_threads)
