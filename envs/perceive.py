"""What a perception backend makes of a camera's picture, as part of the observation, as late as a real one would be.

Comes twice: `Perceive` for `gymnasium.make` and `VectorPerceive` for `gymnasium.make_vec`. Both add

- "box" (4,): left, top, right, bottom of the instructed thing, as shares of the picture in [0, 1]; zeros where none was found;
- "found" (1,): 1 where it was;
- "embedding" (D,): the picture's features, where the backend gives some and they are asked for;
- "age" (1,): seconds of simulated time since the picture was taken that all this is about; -1 while nothing is known yet;

and to the info "caption" (text, "" while none is known), where it is asked for.

Delays are counted in control steps, so that the same seed gives the same observations on every machine. What the backend took
in the last step by the wall clock, `env.perceiver.latency_s`, is no part of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from perception.text import noun_phrase
from perception.vlm.base import Answerer, FrozenFeatures, Grounder, require

Arrays = dict[str, NDArray[Any]]
CAPTION = "Describe the picture."


class Perceiver:
    """Answers about N simulations that arrive late: asked every `every` steps, known `delay` steps later.

    Args:
        space: observations of one simulation.
        num: simulations, N.
        backend: a Grounder where `box`, an Answerer where `caption`, FrozenFeatures where `embedding`.
        camera: name of a picture among the observations; None takes the first.
        box, caption, embedding: what is asked.
        every: control steps between two questions.
        delay: control steps until an answer is known.
        phrase: what to look for, from the instruction.

    Attributes:
        latency_s: wall-clock seconds that the backend took in the last step, 0 where it was not asked.

    Raises:
        InvalidValueError: nothing is asked, a number out of range, an observation without pictures, a backend that cannot.
        UnknownNameError: no such picture.
    """

    def __init__(
        self, space: spaces.Space[Any], num: int, backend: Any, camera: str | None = None, box: bool = True,
        caption: bool = False, embedding: bool = False, every: int = 1, delay: int = 0,
        phrase: Callable[[str], str] = noun_phrase,
    ) -> None:  # fmt: skip
        if every < 1 or delay < 0:
            raise InvalidValueError(f"every must be >= 1 control step and delay >= 0, got {every} and {delay}")
        if not (box or caption or embedding):
            raise InvalidValueError("perception is asked nothing: one of box, caption and embedding must be true")
        self.camera = _picture(space, camera)
        self._num, self._backend, self._every, self._delay, self._phrase = num, backend, every, delay, phrase
        wanted = ((box, Grounder, "find boxes"), (caption, Answerer, "write captions"), (embedding, FrozenFeatures, "embed"))
        for asked, protocol, to in wanted:
            if asked:
                require(backend, protocol, to)
        self._box, self._caption, self._embedding = box, caption, embedding
        self.spaces: dict[str, spaces.Box] = {"age": spaces.Box(-1, np.inf, (1,), np.float32)}
        if box:
            self.spaces |= {"box": spaces.Box(0, 1, (4,), np.float32), "found": spaces.Box(0, 1, (1,), np.float32)}
        if embedding:
            self.spaces["embedding"] = spaces.Box(-np.inf, np.inf, (backend.size,), np.float32)
        assert isinstance(space, spaces.Dict)
        for name in self.spaces:
            if name in space.spaces:
                raise InvalidValueError(f"the observation has {name!r} already: perceive once only")
        # Answers on their way: slot `step % (delay + 1)` holds what was asked in that step.
        self._way = [self._nothing() for _ in range(delay + 1)]
        self._known = self._nothing()
        self._steps, self._looks = np.zeros(num, int), -1
        self.latency_s = 0.0

    def _nothing(self) -> Arrays:
        blank: Arrays = {name: np.zeros((self._num, *s.shape), np.float32) for name, s in self.spaces.items() if name != "age"}
        return blank | {"caption": np.full(self._num, "", object), "taken": np.full(self._num, np.nan)}

    def look(self, pictures: NDArray[np.uint8], told: NDArray[Any], now: NDArray[np.float64], began: NDArray[np.bool_]) -> None:
        """Take in one control step.

        Args:
            pictures: (N, H, W, 3).
            told: N instructions.
            now: simulated time of each, s.
            began: which are in the first step of an episode; they forget everything.
        """
        self._steps = np.where(began, 0, self._steps + 1)
        if began.any():
            nothing = self._nothing()
            for held in (*self._way, self._known):
                for name, values in held.items():
                    values[began] = nothing[name][began]
        asked = np.flatnonzero(self._steps % self._every == 0)
        self._looks += 1  # slots are shared, whatever each simulation's own step
        slot = self._way[self._looks % len(self._way)]
        slot["taken"][:] = np.nan
        began_at = time.perf_counter()
        if len(asked):
            self._ask(slot, asked, pictures, told)
            slot["taken"][asked] = now[asked]
        self.latency_s = time.perf_counter() - began_at
        arriving = self._way[(self._looks + 1) % len(self._way)]
        here = np.isfinite(arriving["taken"])
        for name, values in arriving.items():
            self._known[name][here] = values[here]

    def _ask(self, slot: Arrays, ids: NDArray[np.intp], pictures: NDArray[np.uint8], told: NDArray[Any]) -> None:
        images = pictures[ids]
        _, height, width, _ = images.shape
        if self._box:
            found = self._backend.ground(images, [self._phrase(str(told[i])) for i in ids])
            for i, detections in zip(ids, found, strict=True):
                best = detections.best
                box = np.full(4, np.nan) if best is None else detections.boxes[best] / [width, height, width, height]
                seen = bool(np.isfinite(box).all())
                slot["box"][i], slot["found"][i] = np.clip(box, 0, 1) if seen else 0, seen
        if self._embedding:
            slot["embedding"][ids] = self._backend.embed(images)
        if self._caption:
            slot["caption"][ids] = self._backend.answer(images, [CAPTION] * len(ids))

    def outputs(self, now: NDArray[np.float64]) -> Arrays:
        """What is known at a simulated time (N,), s: (N, ..) by name."""
        taken = self._known["taken"]
        age = np.where(np.isfinite(taken), now - taken, -1)[:, None].astype(np.float32)
        return {name: age if name == "age" else self._known[name].copy() for name in self.spaces}

    def captions(self) -> NDArray[np.object_] | None:
        """N texts, or None where none are asked for."""
        return self._known["caption"].copy() if self._caption else None


def _picture(space: spaces.Space[Any], camera: str | None) -> str:
    pictures = [key for key, s in space.items() if len(s.shape or ()) == 3] if isinstance(space, spaces.Dict) else []
    if not pictures:
        raise InvalidValueError(f"perception needs a picture among the observations, got {space}")
    if camera is not None and camera not in pictures:
        raise UnknownNameError("picture among the observations", camera, pictures)
    return camera or pictures[0]


class VectorPerceive(VectorWrapper):
    """Perception for a batch; the arguments are `Perceiver`'s.

    What an episode ended with (`info["final_obs"]`) has what was known then.
    """

    def __init__(self, env: VectorEnv[Any, Any, Any], backend: Any, **settings: Any) -> None:
        super().__init__(env)
        self.perceiver = Perceiver(env.single_observation_space, env.num_envs, backend, **settings)
        self.single_observation_space = _wider(env.single_observation_space, self.perceiver)
        self.observation_space = batch_space(self.single_observation_space, env.num_envs)

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start new episodes, and look."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._seen(obs, info)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step, and look."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        if "final_obs" in info:
            info = {**info, "final_obs": self._ended(info)}
        obs, info = self._seen(obs, info)
        return obs, reward, terminated, truncated, info

    def _ended(self, info: Mapping[str, Any]) -> NDArray[np.object_]:
        final = np.full(self.num_envs, None, object)
        outputs = self.perceiver.outputs(np.asarray(info["final_info"]["timing"]["time"], np.float64))
        for i in np.flatnonzero(info["_final_obs"]):
            final[i] = {**info["final_obs"][i], **{name: values[i] for name, values in outputs.items()}}
        return final

    def _seen(self, obs: Mapping[str, NDArray[Any]], info: dict[str, Any]) -> tuple[Arrays, dict[str, Any]]:
        now = np.asarray(info["timing"]["time"], np.float64)
        began = np.asarray(info.get("_start", np.zeros(self.num_envs, bool)))
        self.perceiver.look(obs[self.perceiver.camera], info["instruction"], now, began)
        captions = self.perceiver.captions()
        if captions is not None:
            info = {**info, "caption": captions, "_caption": np.ones(self.num_envs, bool)}
        return {**obs, **self.perceiver.outputs(now)}, info


class Perceive(gym.Wrapper[Any, Any, Any, Any], RecordConstructorArgs):
    """Perception for one simulation; the arguments are `Perceiver`'s."""

    def __init__(self, env: gym.Env[Any, Any], backend: Any, **settings: Any) -> None:
        RecordConstructorArgs.__init__(self, _disable_deepcopy=True, backend=backend, **settings)
        super().__init__(env)
        self.perceiver = Perceiver(env.observation_space, 1, backend, **settings)
        self.observation_space = _wider(env.observation_space, self.perceiver)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a new episode, and look."""
        obs, info = self.env.reset(seed=seed, options=options)
        return self._seen(obs, info, True)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step, and look."""
        obs, reward, terminated, truncated, info = self.env.step(action)
        obs, info = self._seen(obs, info, False)
        return obs, reward, terminated, truncated, info

    def _seen(self, obs: Mapping[str, NDArray[Any]], info: dict[str, Any], began: bool) -> tuple[Arrays, dict[str, Any]]:
        now, told = np.array([info["timing"]["time"]], np.float64), np.array([info["instruction"]], object)
        self.perceiver.look(obs[self.perceiver.camera][None], told, now, np.array([began]))
        captions = self.perceiver.captions()
        if captions is not None:
            info = {**info, "caption": captions[0]}
        return {**obs, **{name: values[0] for name, values in self.perceiver.outputs(now).items()}}, info


def _wider(space: spaces.Space[Any], perceiver: Perceiver) -> spaces.Dict:
    assert isinstance(space, spaces.Dict)
    return spaces.Dict({**space.spaces, **perceiver.spaces})
