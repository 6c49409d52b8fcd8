"""Videos of several ways of acting in one environment, on which rewards are compared.

    expert     the task's own, with a little noise
    clumsy     the expert with much noise: late, or never done
    stopped    the expert, who gives up at a random moment: done in part
    random     uniform actions

Every way acts from the same starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from agents.base import Observation, OraclePolicy, Policy, RandomPolicy
from agents.dataset.layout import control_dt
from agents.fit import rows
from agents.rollout import Record, rollout
from rewards.card import EXPERT, Footage

LITTLE, MUCH = 0.1, 0.8
AFTER = 0.5  # seconds that a video goes on after success, so that it is no long still at the end


class Stopping:
    """The expert until a moment that is drawn for each simulation, then no motion at all.

    Args:
        env: the vector environment that is being acted in.
        latest: steps after which all have stopped.
        seed: of the moments and the noise.
    """

    def __init__(self, env: VectorEnv, latest: int, seed: int = 0) -> None:  # type: ignore[type-arg]
        self._expert, self._latest = OraclePolicy(env, LITTLE, seed), latest
        self._rng = np.random.default_rng(seed)
        self._moments, self._step = np.zeros(0, int), 0

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """The expert's actions, or zeros."""
        action = self._expert.act(obs, deterministic=deterministic)
        if len(self._moments) != len(action):
            self._moments = self._rng.integers(0, self._latest, len(action))
        going = self._step < self._moments
        self._step += 1
        return np.where(going[:, None], action, 0).astype(np.float32)

    def reset(self, sims: NDArray[np.bool_] | None = None) -> None:
        """New episodes begin, everywhere."""
        del sims
        self._moments, self._step = np.zeros(0, int), 0


Read = Callable[[Mapping[str, NDArray[Any]], int], Any]  # what a reward reads of the state in T frames, and of which video


def shoot(
    env: VectorEnv,  # type: ignore[type-arg]
    view: str,
    seeds: Sequence[int],
    every: int = 2,
    seed: int = 0,
    read: Read | None = None,
) -> dict[str, Footage]:
    """Videos of all ways of acting, from the same starts.

    Args:
        env: made with autoreset_mode="disabled"; it observes the view.
        view: the observed picture.
        seeds: of the episodes.
        every: every how manieth frame is kept.
        seed: of noise and moments.
        read: what the reward reads, where that is not pictures.

    Returns:
        Name -> footage; true progress is what the task tells as "progress", else its reward for the step to a frame.
    """
    length = int(env.unwrapped.max_episode_steps)  # type: ignore[attr-defined]
    actors: dict[str, Policy] = {
        EXPERT: OraclePolicy(env, LITTLE, seed),
        "clumsy": OraclePolicy(env, MUCH, seed),
        "stopped": Stopping(env, length // 3, seed),
        "random": RandomPolicy(env.single_action_space, seed),  # type: ignore[arg-type]
    }
    return {name: _filmed(env, actor, view, seeds, every, read) for name, actor in actors.items()}


def _filmed(env: VectorEnv, actor: Policy, view: str, seeds: Sequence[int], every: int, read: Read | None) -> Footage:  # type: ignore[type-arg]
    episodes = rollout(env, actor, list(seeds), deterministic=False, record=Record(snapshots=False, images=True))
    frames, progress, inputs, after = [], [], [], round(AFTER / control_dt(env))
    for number, episode in enumerate(episodes):
        paid = np.concatenate([episode.reward[:1], episode.reward])
        true = np.asarray(episode.state.get("progress", paid), np.float64)
        chosen = rows(episode, every, after)
        frames.append(episode.obs[view][chosen])
        progress.append(true[chosen])
        if read:
            inputs.append(read({key: value[chosen] for key, value in episode.state.items()}, number))
    return Footage(frames, progress, np.array([episode.succeeded for episode in episodes]), inputs)
