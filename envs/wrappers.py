"""Other shapes of the same actions and observations: a dictionary of parts, gaze as a choice, one flat vector.

Each comes twice: for `gymnasium.make` and, with "Vector" before its name, for `gymnasium.make_vec`.

Flat action        | `DictAction`                            | `DiscreteGaze(n)`
-------------------|-----------------------------------------|---------------------------------------------
(2,) eye alone     | {"eye": Box(2)}                         | Discrete(n)
(2 + h,) eye, hand | {"eye": Box(2), "hand": Box(h)}         | {"eye": Discrete(n), "hand": Box(h)}
(h,) no eye        | {"hand": Box(h)}                        | refused
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorActionWrapper, VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError

# Degrees per control step, and the eight directions, counter-clockwise from the left; EyeRobot's choices
# (arXiv:2506.10968, appendix) are the 25, for its camera turns 10 degrees per step at most.
STEPS = {9: (np.inf,), 25: (10.0, 3.0, 1.0)}
DIRECTIONS = 8


class Codec(Protocol):
    """From another action space to the flat one."""

    space: spaces.Space[Any]

    def flat(self, action: Any) -> NDArray[np.float32]:
        """The flat action (A,), or (N, A) from a batch."""
        ...


class _Split:
    """Which entries of the flat action are the eye's and which the rest."""

    def __init__(self, env: Any) -> None:
        slices: Mapping[str, slice] = env.action_slices
        self.size = max(s.stop for s in slices.values())
        self.eye = np.arange(self.size)[slices["eye"]] if "eye" in slices else np.arange(0)
        self.hand = np.setdiff1d(np.arange(self.size), self.eye)
        self.keys = [key for key, where in (("eye", self.eye), ("hand", self.hand)) if len(where)]

    def parts_of(self, action: Any) -> list[Any]:
        """The action's members in the order of `keys`.

        Raises:
            UnknownNameError, InvalidValueError: a member too many or too few.
        """
        if not isinstance(action, Mapping):
            raise InvalidValueError(f"the action must be a dictionary with {self.keys}, got {type(action).__name__}")
        for key in action:
            if key not in self.keys:
                raise UnknownNameError("part of the action", key, self.keys)
        for key in self.keys:
            if key not in action:
                raise InvalidValueError(f"the action lacks {key!r}; it needs {self.keys}")
        return [action[key] for key in self.keys]


class _DictCodec:
    """{"eye", "hand"} <-> flat."""

    def __init__(self, env: Any) -> None:
        self._split = split = _Split(env)
        self._where = {"eye": split.eye, "hand": split.hand}
        self.space: spaces.Space[Any] = spaces.Dict({key: _unit_box(len(self._where[key])) for key in split.keys})

    def flat(self, action: Any) -> NDArray[np.float32]:
        members = {key: np.asarray(m) for key, m in zip(self._split.keys, self._split.parts_of(action), strict=True)}
        for key, member in members.items():
            if member.shape[-1:] != (len(self._where[key]),):
                raise InvalidValueError(f"the action's {key!r} needs {len(self._where[key])} numbers, got {member.shape}")
        out = np.empty((*next(iter(members.values())).shape[:-1], self._split.size), np.float32)
        for key, member in members.items():
            out[..., self._where[key]] = member
        return out


class _GazeCodec:
    """A choice of n gaze steps, beside the hand's numbers where there are any."""

    def __init__(self, env: Any, n: int) -> None:
        if n not in STEPS:
            raise InvalidValueError(f"a discrete gaze has n = {' or '.join(map(str, STEPS))} choices, got {n}")
        self._split = split = _Split(env)
        if not len(split.eye):
            raise InvalidValueError(f"this environment has no eye to move; its action has {list(env.action_slices)}")
        self._table = gaze_steps(n, env.gaze_reach)
        choice = spaces.Discrete(n)
        both: spaces.Space[Any] = spaces.Dict({"eye": choice, "hand": _unit_box(len(split.hand))})
        self.space: spaces.Space[Any] = both if len(split.hand) else choice

    def flat(self, action: Any) -> NDArray[np.float32]:
        eye, hand = self._split.parts_of(action) if len(self._split.hand) else (action, None)
        index = np.asarray(eye)
        if index.dtype.kind not in "iu" or index.size == 0 or index.min() < 0 or index.max() >= len(self._table):
            raise InvalidValueError(f"a gaze choice must be an integer from 0 to {len(self._table) - 1}, got {eye!r}")
        out = np.empty((*index.shape, self._split.size), np.float32)
        out[..., self._split.eye] = self._table[index]
        if hand is not None:
            out[..., self._split.hand] = hand
        return out


def gaze_steps(n: int, reach: float) -> NDArray[np.float32]:
    """The eye's flat action behind each choice: 0 stays, then 8 directions, counter-clockwise from the left.

    Args:
        n: 9 turns as far as the eye can in a step; 25 turns by 10, 3 or 1 degrees, in that order.
        reach: the farthest turn in one control step, degrees; longer steps are cut to it.

    Returns:
        (n, 2) in [-1, 1]; a diagonal is as long as a straight step.
    """
    angle = np.arange(DIRECTIONS) * (2 * np.pi / DIRECTIONS)
    ways = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # azimuth grows to the left, elevation upwards
    rows = [np.zeros((1, 2)), *(min(degrees / reach, 1.0) * ways for degrees in STEPS[n])]
    return np.concatenate(rows).round(9).astype(np.float32)


def _unit_box(size: int) -> spaces.Box:
    return spaces.Box(-1, 1, (size,), np.float32)


class DictAction(gym.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """Actions as {"eye": (2,), "hand": (rest,)}, each in [-1, 1]; a part that the environment lacks is left out."""

    def __init__(self, env: gym.Env[Any, Any]) -> None:
        RecordConstructorArgs.__init__(self)
        super().__init__(env)
        self._codec: Codec = _DictCodec(env.unwrapped)
        self.action_space = self._codec.space

    def action(self, action: Any) -> NDArray[np.float32]:
        """The flat action."""
        return self._codec.flat(action)


class DiscreteGaze(gym.ActionWrapper[Any, Any, Any], RecordConstructorArgs):
    """The gaze as one of `n` steps (see `gaze_steps`), beside "hand" (rest,) in [-1, 1] where there is one.

    Raises:
        InvalidValueError: `n` is not 9 or 25, or the environment has no eye.
    """

    def __init__(self, env: gym.Env[Any, Any], n: int = 9) -> None:
        RecordConstructorArgs.__init__(self, n=n)
        super().__init__(env)
        self._codec: Codec = _GazeCodec(env.unwrapped, n)
        self.action_space = self._codec.space

    def action(self, action: Any) -> NDArray[np.float32]:
        """The flat action."""
        return self._codec.flat(action)


class VectorDictAction(VectorActionWrapper):
    """`DictAction` for a batch: {"eye": (N, 2), "hand": (N, rest)}."""

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        super().__init__(env)
        self._codec: Codec = _DictCodec(env.unwrapped)
        self.single_action_space = self._codec.space
        self.action_space = batch_space(self._codec.space, self.num_envs)

    def actions(self, actions: Any) -> NDArray[np.float32]:
        """The flat actions, (N, A)."""
        return self._codec.flat(actions)


class VectorDiscreteGaze(VectorActionWrapper):
    """`DiscreteGaze` for a batch: (N,) integers, or {"eye": (N,), "hand": (N, rest)}."""

    def __init__(self, env: VectorEnv[Any, Any, Any], n: int = 9) -> None:
        super().__init__(env)
        self._codec: Codec = _GazeCodec(env.unwrapped, n)
        self.single_action_space = self._codec.space
        self.action_space = batch_space(self._codec.space, self.num_envs)

    def actions(self, actions: Any) -> NDArray[np.float32]:
        """The flat actions, (N, A)."""
        return self._codec.flat(actions)


class _Flattener:
    """Concatenates a dictionary observation's members."""

    def __init__(self, space: spaces.Space[Any], pixels: bool) -> None:
        if not isinstance(space, spaces.Dict):
            raise InvalidValueError(f"a flat observation is made from a dictionary of arrays, got {space}")
        boxes = {key: box for key, box in space.items() if isinstance(box, spaces.Box) and box.shape is not None}
        self._boxes = {key: box for key, box in boxes.items() if pixels or len(box.shape) == 1}
        self._scale = {key: 255.0 if box.dtype == np.uint8 else 1.0 for key, box in self._boxes.items()}
        low = [np.ravel(box.low) / self._scale[key] for key, box in self._boxes.items()]
        high = [np.ravel(box.high) / self._scale[key] for key, box in self._boxes.items()]
        self.space = spaces.Box(np.concatenate(low).astype(np.float32), np.concatenate(high).astype(np.float32))

    def flat(self, obs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """(D,), or (N, D) from a batch."""
        rows = []
        for key, box in self._boxes.items():
            lead = obs[key].shape[: obs[key].ndim - len(box.shape)]
            rows.append(obs[key].reshape(*lead, -1) / np.float32(self._scale[key]))
        return np.concatenate(rows, axis=-1).astype(np.float32)


class FlatObservation(gym.ObservationWrapper[Any, Any, Any], RecordConstructorArgs):
    """One float32 vector: the dictionary's members in the order of their names.

    Args:
        env: the environment.
        pixels: take images in, row by row, uint8 divided by 255; False leaves every image out and keeps the vectors.
    """

    def __init__(self, env: gym.Env[Any, Any], pixels: bool = False) -> None:
        RecordConstructorArgs.__init__(self, pixels=pixels)
        super().__init__(env)
        self._flattener = _Flattener(env.observation_space, pixels)
        self.observation_space = self._flattener.space

    def observation(self, observation: Any) -> NDArray[np.float32]:
        """(D,)."""
        return self._flattener.flat(observation)


class VectorFlatObservation(VectorWrapper):
    """`FlatObservation` for a batch, (N, D); what `info["final_obs"]` holds is flattened as well."""

    # Gymnasium's VectorObservationWrapper refuses environments that reset within the step.

    def __init__(self, env: VectorEnv[Any, Any, Any], pixels: bool = False) -> None:
        super().__init__(env)
        self._flattener = _Flattener(env.single_observation_space, pixels)
        self.single_observation_space = self._flattener.space
        self.observation_space = batch_space(self._flattener.space, self.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Start new episodes; the first observation is (N, D)."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._flattener.flat(obs), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and flatten what was seen."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        if "final_obs" in info:
            final = np.full(self.num_envs, None, object)
            for i in np.flatnonzero(info["_final_obs"]):
                final[i] = self._flattener.flat(info["final_obs"][i])
            info = {**info, "final_obs": final}
        return self._flattener.flat(obs), reward, terminated, truncated, info
