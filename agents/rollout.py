"""Running a policy: the one loop behind evaluation, demonstrations and replay, so that all three agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from numpy.typing import NDArray

from agents.base import Policy
from assets.errors import InvalidValueError

Progress = Callable[[int], None]


@dataclass
class Episode:
    """One finished episode of T steps.

    Attributes:
        seed: what the simulation was reset with.
        instruction: what was asked.
        reward, success: (T,) after each step.
        terminated: whether it ended before the time limit.
        physics_error: whether it ended because the simulation diverged.
        action: (T, A), where recorded.
        obs: name -> (T + 1, ...), where recorded; without images unless they were asked for.
        state: name -> (T + 1, ...) physical quantities, SI, world frame, where recorded.
        snapshots: name -> (T + 1, ...) rows that `env.restore` takes, where recorded.
        terms: name -> (T,) reward terms, where recorded.
        thought: name -> (T, ...) what the policy tells of its actions, where recorded and where it tells anything.
    """

    seed: int
    instruction: str
    reward: NDArray[np.float32]
    success: NDArray[np.bool_]
    terminated: bool
    physics_error: bool
    action: NDArray[np.float32] | None = None
    obs: dict[str, NDArray[Any]] = field(default_factory=dict)
    state: dict[str, NDArray[Any]] = field(default_factory=dict)
    snapshots: dict[str, NDArray[Any]] = field(default_factory=dict)
    terms: dict[str, NDArray[Any]] = field(default_factory=dict)
    thought: dict[str, NDArray[Any]] = field(default_factory=dict)

    @property
    def length(self) -> int:
        """Steps, T."""
        return len(self.reward)

    @property
    def succeeded(self) -> bool:
        """Whether it was successful at any step."""
        return bool(self.success.any())

    def until(self, after: int) -> int:
        """Steps until `after` steps after the first success; all of them without one."""
        return self.length if self.first_success is None else min(self.length, self.first_success + after)

    @property
    def first_success(self) -> int | None:
        """Steps until success, or None."""
        return int(np.argmax(self.success)) + 1 if self.succeeded else None


@dataclass(frozen=True)
class Record:
    """What a rollout keeps of every step.

    Attributes:
        snapshots: rows to replay pixels from; also actions, physical quantities, reward terms and vectors.
        images: observed images, which are large.
    """

    snapshots: bool = True
    images: bool = False


class _Log:
    """What one batch of simulations did, as lists over time of arrays (N, ...)."""

    def __init__(self, record: Record | None) -> None:
        self.record = record
        self.columns: dict[str, list[NDArray[Any]]] = {}

    def add(self, kind: str, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if not key.startswith("_"):
                self.columns.setdefault(f"{kind}/{key}", []).append(np.asarray(value))

    def observe(self, env: Any, obs: dict[str, NDArray[Any]], info: dict[str, Any]) -> None:
        if self.record is None:
            return
        keep = {k: v for k, v in obs.items() if self.record.images or v.ndim < 3}
        self.add("obs", keep)
        self.add("state", info["state"])
        if self.record.snapshots:
            self.add("snapshots", env.unwrapped.snapshot())

    def of(self, kind: str, sim: int, length: int) -> dict[str, NDArray[Any]]:
        prefix = f"{kind}/"
        return {
            key.removeprefix(prefix): np.stack([row[sim] for row in rows[:length]])
            for key, rows in self.columns.items()
            if key.startswith(prefix)
        }


def rollout(
    env: VectorEnv[Any, Any, Any],
    policy: Policy,
    seeds: Sequence[int],
    *,
    deterministic: bool = True,
    record: Record | None = None,
    options: dict[str, Any] | None = None,
    progress: Progress | None = None,
) -> list[Episode]:
    """Run one episode for each seed, as many at a time as the environment has simulations.

    An episode depends on its seed and the policy alone, not on which others run beside it (stochastic policies draw from
    one stream, so theirs also depends on the batch size).

    Args:
        env: made with autoreset_mode="disabled" and a time limit.
        policy: who acts; a `reset()` of its own is called before every batch of episodes.
        seeds: of the episodes.
        deterministic: whether the policy takes its mode.
        record: what to keep of every step.
        options: a start to force upon every episode.
        progress: called with the number of episodes finished since the last call.

    Returns:
        One episode per seed, in order.

    Raises:
        InvalidValueError: the environment resets itself, or has no time limit.
    """
    if env.metadata.get("autoreset_mode") is not AutoresetMode.DISABLED:
        raise InvalidValueError(
            f"rollouts need autoreset_mode='disabled', the environment has {env.metadata.get('autoreset_mode')}"
        )
    if getattr(env.unwrapped, "max_episode_steps", 1) is None:
        raise InvalidValueError("rollouts need a time limit, the environment has none: give max_episode_steps")
    episodes: list[Episode] = []
    for at in range(0, len(seeds), env.num_envs):
        chunk = [int(s) for s in seeds[at : at + env.num_envs]]
        episodes.extend(_run(env, policy, chunk, deterministic, record, dict(options or {})))
        if progress:
            progress(len(chunk))
    return episodes


def _run(
    env: VectorEnv[Any, Any, Any],
    policy: Policy,
    seeds: list[int],
    deterministic: bool,
    record: Record | None,
    options: dict[str, Any],
) -> list[Episode]:
    count = len(seeds)
    padded = seeds + [seeds[-1]] * (env.num_envs - count)  # a last, smaller batch fills up with copies, which are dropped
    reset = getattr(policy, "reset", None)
    if reset is not None:
        reset()
    obs, info = env.reset(seed=padded, options=options)  # pyright: ignore[reportArgumentType]
    instructions = [str(text) for text in info["instruction"]]
    log, tell = _Log(record), getattr(policy, "thought", dict)
    log.observe(env, obs, info)
    ended = np.zeros(env.num_envs, np.int64)
    terminated_at_end = np.zeros(env.num_envs, bool)
    broken = np.zeros(env.num_envs, bool)
    step = 0
    while not ended[:count].all():
        action = policy.act(obs, deterministic=deterministic)
        obs, reward, terminated, truncated, info = env.step(action)
        step += 1
        log.add("step", {"reward": reward, "success": info["success"]})
        if record is not None:
            log.add("step", {"action": action})
            log.add("thought", tell())
            log.add("terms", info.get("reward_terms", {}))
        log.observe(env, obs, info)
        newly = (terminated | truncated) & (ended == 0)
        ended[newly] = step
        terminated_at_end[newly] = terminated[newly]
        broken[newly] = info["physics_error"][newly]
    return [
        _episode(log, i, int(ended[i]), seeds[i], instructions[i], bool(terminated_at_end[i]), bool(broken[i]))
        for i in range(count)
    ]


def _episode(log: _Log, sim: int, length: int, seed: int, instruction: str, terminated: bool, broken: bool) -> Episode:
    steps = log.of("step", sim, length)
    return Episode(
        seed=seed,
        instruction=instruction,
        reward=steps["reward"].astype(np.float32),
        success=steps["success"].astype(bool),
        terminated=terminated,
        physics_error=broken,
        action=steps.get("action"),
        obs=log.of("obs", sim, length + 1),
        state=log.of("state", sim, length + 1),
        snapshots=log.of("snapshots", sim, length + 1),
        terms=log.of("terms", sim, length),
        thought=log.of("thought", sim, length),
    )
