"""PI2: path integral policy improvement of an open-loop trajectory, from as few rollouts as a robot could do.

    repeat:  N episodes with actions u_it = mean_t + eps_it, eps_it ~ N(0, std_t^2), smooth in time
             S_it = -sum_{t' >= t} r_it'                                 what it still cost from t on, or all of it
             P_it = exp(-h (S_it - min_i S_it) / (max_i S_it - min_i S_it)), normalised over i
             mean_t += sum_i P_it eps_it        std_t^2 = sum_i P_it eps_it^2, never below a floor

After Theodorou, Buchli and Schaal 2010 (JMLR 11, eqs. 20-27) with the covariance of PI2-CMA (Stulp and Sigaud 2012,
arXiv:1206.4621, eq. 25, diagonal). There is no gradient, no critic, and no model: costs may come from anything, such as what a
camera shows. What it learns is a trajectory, so that everything but small disturbances must be the same in every episode.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from agents.base import Observation
from agents.dataset import Demonstrations
from agents.rollout import Episode
from assets.errors import InvalidValueError, UnknownNameError

CREDITS = ("whole", "to_go")


def weights(costs: NDArray[np.float64], h: float) -> NDArray[np.float64]:
    """Shares of N rollouts by their cost-to-go, at every step. (N, T) -> (N, T), each column adds up to 1.

    Where all rollouts cost alike, all have the same share.
    """
    low, high = costs.min(axis=0), costs.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    share = np.exp(-h * (costs - low) / spread)
    return share / share.sum(axis=0)


class PI2Learner:
    """Improves the actions of a demonstration; one iteration is an episode of every simulation.

    Args:
        env: vector environment with a time limit and continuous actions (A,).
        demonstrations: dataset, its folder, or episodes in memory; None if it will only act, after `load_policy`.
        episode: number of the demonstration that it begins with; its last action goes on to the time limit.
        seed: of exploration and simulations.
        noise: standard deviation of exploration at first, in units of the action.
        floor: least standard deviation, as a share of `noise`.
        smooth: share of the last step's exploration in the present one's, in [0, 1).
        h: how much better a rollout must be to count more; 10 in the literature.
        credit: "to_go", every step is judged by what came after it; "whole", by the whole rollout (PI-BB, Stulp and Sigaud
            2012), which is less exact, but less misled by few rollouts.

    Raises:
        InvalidValueError: an argument out of range; an environment without a time limit or with discrete actions.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        demonstrations: Sequence[Episode] | str | Path | None = None,
        episode: int = 0,
        seed: int = 0,
        noise: float = 0.2,
        floor: float = 0.2,
        smooth: float = 0.8,
        h: float = 10.0,
        credit: str = "whole",
    ) -> None:
        if credit not in CREDITS:
            raise UnknownNameError("credit", credit, CREDITS)
        if not noise > 0 or not 0 < floor <= 1 or not 0 <= smooth < 1 or not h > 0:
            raise InvalidValueError(
                f"noise and h must be > 0, floor in (0, 1] and smooth in [0, 1), got {noise}, {h}, {floor} and {smooth}"
            )
        if not isinstance(env.single_action_space, spaces.Box):
            raise InvalidValueError(f"PI2 needs continuous actions, the environment has {env.single_action_space}")
        length = getattr(env.unwrapped, "max_episode_steps", None)
        if length is None:
            raise InvalidValueError("PI2 improves a trajectory of known length: the environment needs max_episode_steps")
        self._env, self._h, self._smooth, self._least, self._credit = env, h, smooth, noise * floor, credit
        shape = int(length), env.single_action_space.shape[0]
        self._mean = np.zeros(shape) if demonstrations is None else _stretched(demonstrations, episode, shape)
        self._std = np.full(shape, noise)
        self._rng = np.random.default_rng(seed)
        self._seed, self._steps = seed, 0
        self._at = np.zeros(0, int)

    @property
    def steps(self) -> int:
        """Environment steps so far, of all simulations."""
        return self._steps

    def advance(self, steps: int) -> dict[str, float]:
        """One iteration, whatever `steps` asks for; returns what happened."""
        del steps
        began = time.perf_counter()
        wander = self._exploration(self._env.num_envs)
        rewards, success = self._episodes(wander)
        costs = -np.cumsum(rewards[:, ::-1], axis=1)[:, ::-1]
        if self._credit == "whole":
            costs = np.broadcast_to(costs[:, :1], costs.shape)
        share = weights(costs, self._h)[..., None]
        self._mean = np.clip(self._mean + (share * wander).sum(axis=0), -1, 1)
        self._std = np.maximum(np.sqrt((share * wander**2).sum(axis=0)), self._least)
        self._steps += rewards.size
        return {
            "rollout/ep_rew_mean": float(rewards.sum(axis=1).mean()),
            "rollout/success_rate": float(success.mean()),
            "train/std": float(self._std.mean()),
            "time/fps": rewards.size / (time.perf_counter() - began),
        }

    def try_out(self, explore: bool = True) -> dict[str, float]:
        """One episode of every simulation from which nothing is learned; its return and success."""
        wander = self._exploration(self._env.num_envs) if explore else np.zeros((self._env.num_envs, *self._mean.shape))
        rewards, success = self._episodes(wander)
        return {"rollout/ep_rew_mean": float(rewards.sum(axis=1).mean()), "rollout/success_rate": float(success.mean())}

    def _exploration(self, count: int) -> NDArray[np.float64]:
        """Deviations from the mean, (N, T, A): first-order autoregressive, as large at every step as `std` says."""
        white = self._rng.normal(size=(count, *self._mean.shape))
        out = np.empty_like(white)
        out[:, 0] = white[:, 0]
        for t in range(1, white.shape[1]):
            out[:, t] = self._smooth * out[:, t - 1] + np.sqrt(1 - self._smooth**2) * white[:, t]
        return np.clip(self._mean + out * self._std, -1, 1) - self._mean

    def _episodes(self, wander: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Rewards (N, T) of an episode of every simulation, and which of them succeeded at any step, (N,)."""
        count, length, _ = wander.shape
        rewards, success, going = np.zeros((count, length)), np.zeros(count, bool), np.ones(count, bool)
        self._env.reset(seed=None if self._steps else self._seed)
        for t in range(length):
            _, paid, terminated, truncated, info = self._env.step((self._mean[t] + wander[:, t]).astype(np.float32))
            told = info["success"].copy()
            if "final_info" in info:
                ended = terminated | truncated
                told[ended] = info["final_info"]["success"][ended]
            rewards[:, t] = np.where(going, paid, 0)
            success |= told & going
            going &= ~(terminated | truncated)
        return rewards, success

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """The trajectory's next action for N simulations, (N, A), drawn around it unless `deterministic`.

        Every call is one step; call `reset` before new episodes.
        """
        count = len(next(iter(obs.values())))
        if len(self._at) != count:
            self._at = np.zeros(count, int)
        now = np.minimum(self._at, len(self._mean) - 1)
        self._at += 1
        noise = 0 if deterministic else self._rng.normal(size=(count, self._mean.shape[1])) * self._std[now]
        return np.clip(self._mean[now] + noise, -1, 1).astype(np.float32)

    def reset(self, sims: NDArray[np.bool_] | None = None) -> None:
        """Begin the trajectory anew, in all simulations or in those of a mask (N,)."""
        self._at = np.zeros(0, int) if sims is None else np.where(sims, 0, self._at)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        arrays, rest = self._env.unwrapped.checkpoint()  # type: ignore[attr-defined]
        return {
            "policy": {"mean": self._mean.copy(), "std": self._std.copy()},
            "rng": self._rng.bit_generator.state,
            "env": {"arrays": arrays, "rest": rest},
            "steps": self._steps,
        }

    def load_policy(self, saved: Mapping[str, Any]) -> None:
        """Only what acting needs.

        Raises:
            InvalidValueError: a trajectory of another length or number of actions.
        """
        mean = np.asarray(saved["policy"]["mean"])
        if mean.shape != self._mean.shape:
            raise InvalidValueError(
                f"the checkpoint's trajectory has {mean.shape[0]} steps of {mean.shape[1]} actions, this environment "
                f"{self._mean.shape[0]} of {self._mean.shape[1]}: evaluate with the time limit that it was trained with"
            )
        self._mean, self._std = mean.copy(), np.asarray(saved["policy"]["std"]).copy()
        self.reset()

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Bring back what `state` returned; training continues as if it had never stopped."""
        self.load_policy(saved)
        self._rng.bit_generator.state = saved["rng"]
        self._env.unwrapped.resume(saved["env"]["arrays"], saved["env"]["rest"])  # type: ignore[attr-defined]
        self._steps = int(saved["steps"])


def _stretched(demonstrations: Sequence[Episode] | str | Path, number: int, shape: tuple[int, int]) -> NDArray[np.float64]:
    """Actions of a demonstration (T, A), cut or with its last one going on."""
    given = demonstrations
    episodes = Demonstrations(given) if isinstance(given, (str, Path)) else given
    if not 0 <= number < len(episodes):
        raise InvalidValueError(f"episode must be in [0, {len(episodes)}), got {number}")
    action = episodes[number].action
    if action is None or action.shape[1] != shape[1]:
        found = None if action is None else action.shape[1]
        raise InvalidValueError(f"the demonstration has {found} actions a step, the environment takes {shape[1]}")
    rows = np.minimum(np.arange(shape[0]), len(action) - 1)
    return np.asarray(action, np.float64)[rows]
