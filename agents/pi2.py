"""PI2: path integral policy improvement of a demonstrated trajectory, from as few rollouts as a robot could do.

    u_t = a_t + phi_t theta + gain (y_t - o_t)             demonstrated actions a, what was felt then y and is now o
    repeat:  N episodes with theta_i = theta + eps_i, eps_i ~ N(0, std^2); S_i = -sum_t r_it; and those of before
             P_i = exp(-h (S_i - min S) / (max S - min S)), normalised over i
             theta += sum_i P_i eps_i        std^2 = sum_i P_i eps_i^2, never below a floor

After Theodorou, Buchli and Schaal 2010 (JMLR 11, eqs. 20-27), who use rollouts again too, with exploration that is drawn
once a rollout (PI-BB) and the covariance of PI2-CMA (Stulp and Sigaud 2012, arXiv:1206.4621, eq. 25, diagonal). phi are
Gaussian bumps along the time. The last term of u holds to the demonstrated course whatever little pushes the arm off it, so
that theta moves the course and not just the next step; with it this is a linear-Gaussian controller. There is no gradient, no
critic and no model: costs may come from anything, such as what a camera shows. Everything but small disturbances must be the
same in every episode.
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

# Standard deviation of a bump, as a share of how far bumps are apart.
WIDTH = 0.6


def shares(costs: NDArray[np.float64], h: float) -> NDArray[np.float64]:
    """How much each of N rollouts counts by its cost, (N,) -> (N,), adding up to 1; all alike where all cost alike."""
    spread = np.ptp(costs) or 1.0
    share = np.exp(-h * (costs - costs.min()) / spread)
    return share / share.sum()


def bumps(length: int, count: int) -> NDArray[np.float64]:
    """Gaussian bumps side by side along `length` steps, (length, count); they add up to 1 at every step."""
    centres, apart = np.linspace(0, length - 1, count), (length - 1) / max(1, count - 1)
    phi = np.exp(-0.5 * ((np.arange(length)[:, None] - centres) / (WIDTH * max(apart, 1))) ** 2)
    return phi / phi.sum(axis=1, keepdims=True)


class PI2Learner:
    """Improves the actions of a demonstration; one iteration is an episode of every simulation.

    Args:
        env: vector environment with a time limit and continuous actions (A,).
        demonstrations: dataset, its folder, or episodes in memory; None if it will only act, after `load_policy`.
        episode: number of the demonstration that it begins with; its last action goes on to the time limit.
        seed: of exploration and simulations.
        noise: standard deviation of exploration at first, in units of the action.
        floor: least standard deviation, as a share of `noise`.
        bases: bumps along the trajectory, K; what is learned is (K, A).
        keep: iterations whose rollouts are judged again with the new ones; a lucky one is forgotten after them.
        h: how much better a rollout must be to count more.
        track: name of an observation (D,) whose demonstrated course is held to by the first D actions; None holds to nothing.
        gain: how strongly, in units of the action per unit of the observation.

    Raises:
        InvalidValueError: an argument out of range; an environment without a time limit or with discrete actions.
        UnknownNameError: no such observation.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        demonstrations: Sequence[Episode] | str | Path | None = None,
        episode: int = 0,
        seed: int = 0,
        noise: float = 0.3,
        floor: float = 0.2,
        bases: int = 10,
        keep: int = 2,
        h: float = 5.0,
        track: str | None = None,
        gain: float = 20.0,
    ) -> None:
        if not noise > 0 or not 0 < floor <= 1 or bases < 1 or keep < 0 or not h > 0 or gain < 0:
            raise InvalidValueError(
                "noise and h must be > 0, floor in (0, 1], bases >= 1, keep and gain >= 0, got "
                f"{noise}, {h}, {floor}, {bases}, {keep} and {gain}"
            )
        shape = _shape(env)
        self._env, self._h, self._least, self._keep, self._gain = env, h, noise * floor, keep, gain
        self._track, width = track, _width(env, track, shape[1])
        self._phi = bumps(shape[0], bases)
        self._course = {"action": np.zeros(shape), "felt": np.zeros((shape[0], width))}
        if demonstrations is not None:
            self._course = _course(_chosen(demonstrations, episode), shape, track, width)
        self._theta, self._std = np.zeros((bases, shape[1])), np.full((bases, shape[1]), noise)
        self._kept = {"theta": np.zeros((0, *self._theta.shape)), "cost": np.zeros(0)}
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
        tried = self._tried(self._env.num_envs)
        rewards, success = self._episodes(tried)
        self._improve(tried, -rewards.sum(axis=1))
        self._steps += rewards.size
        return {
            "rollout/ep_rew_mean": float(rewards.sum(axis=1).mean()),
            "rollout/success_rate": float(success.mean()),
            "train/std": float(self._std.mean()),
            "time/fps": rewards.size / (time.perf_counter() - began),
        }

    def _tried(self, count: int, explore: bool = True) -> NDArray[np.float64]:
        """What `count` simulations try, (N, K, A); all the same where they do not explore."""
        noise = self._rng.normal(size=(count, *self._theta.shape)) if explore else np.zeros((count, 1, 1))
        return self._theta + self._std * noise

    def _improve(self, tried: NDArray[np.float64], costs: NDArray[np.float64]) -> None:
        """Move towards what cost little, of the new rollouts and the kept ones."""
        theta, cost = np.concatenate([tried, self._kept["theta"]]), np.concatenate([costs, self._kept["cost"]])
        share, away = shares(cost, self._h)[:, None, None], theta - self._theta
        self._theta = self._theta + (share * away).sum(axis=0)
        self._std = np.maximum(np.sqrt((share * away**2).sum(axis=0)), self._least)
        recent = slice(self._keep * len(costs))  # the new ones stand first, the oldest last
        self._kept = {"theta": theta[recent], "cost": cost[recent]}

    def try_out(self, explore: bool = True) -> dict[str, float]:
        """One episode of every simulation from which nothing is learned; its return and success."""
        rewards, success = self._episodes(self._tried(self._env.num_envs, explore))
        return {"rollout/ep_rew_mean": float(rewards.sum(axis=1).mean()), "rollout/success_rate": float(success.mean())}

    def _episodes(self, tried: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Rewards (N, T) of an episode of every simulation, and which of them succeeded at any step, (N,)."""
        count, length = len(tried), len(self._phi)
        rewards, success, going = np.zeros((count, length)), np.zeros(count, bool), np.ones(count, bool)
        obs, _ = self._env.reset(seed=None if self._steps else self._seed)
        for t in range(length):
            action = self._action(np.full(count, t), tried, obs)
            obs, paid, terminated, truncated, info = self._env.step(action)
            told = info["success"].copy()
            if "final_info" in info:
                ended = terminated | truncated
                told[ended] = info["final_info"]["success"][ended]
            rewards[:, t] = np.where(going, paid, 0)
            success |= told & going
            going &= ~(terminated | truncated)
        return rewards, success

    def _action(self, now: NDArray[np.intp], theta: NDArray[np.float64], obs: Observation) -> NDArray[np.float32]:
        """Actions (N, A) at steps (N,) with parameters (N, K, A)."""
        action = self._course["action"][now] + np.einsum("nk,nka->na", self._phi[now], theta)
        if self._track is not None:
            felt = self._course["felt"][now]
            action[:, : felt.shape[1]] += self._gain * (felt - obs[self._track])
        return np.clip(action, -1, 1).astype(np.float32)

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """The trajectory's next action for N simulations, (N, A), drawn around it unless `deterministic`.

        Every call is one step; call `reset` before new episodes.
        """
        count = len(next(iter(obs.values())))
        if len(self._at) != count:
            self._at = np.zeros(count, int)
        now = np.minimum(self._at, len(self._phi) - 1)
        self._at += 1
        return self._action(now, self._tried(count, not deterministic), obs)

    def reset(self, sims: NDArray[np.bool_] | None = None) -> None:
        """Begin the trajectory anew, in all simulations or in those of a mask (N,)."""
        self._at = np.zeros(0, int) if sims is None else np.where(sims, 0, self._at)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        arrays, rest = self._env.unwrapped.checkpoint()  # type: ignore[attr-defined]
        return {
            "policy": {**self._course, "theta": self._theta, "std": self._std},
            "kept": self._kept,
            "rng": self._rng.bit_generator.state,
            "env": {"arrays": arrays, "rest": rest},
            "steps": self._steps,
        }

    def load_policy(self, saved: Mapping[str, Any]) -> None:
        """Only what acting needs.

        Raises:
            InvalidValueError: a trajectory of another length or number of actions, or with another number of bases.
        """
        given = {key: np.asarray(value) for key, value in saved["policy"].items()}
        own = {**self._course, "theta": self._theta, "std": self._std}
        for key, value in own.items():
            if given[key].shape != value.shape:
                raise InvalidValueError(
                    f"the checkpoint's {key} is {given[key].shape}, here it is {value.shape}: make the learner with the "
                    "settings and the time limit that it was trained with"
                )
        self._course = {key: given[key].copy() for key in self._course}
        self._theta, self._std = given["theta"].copy(), given["std"].copy()
        self.reset()

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Bring back what `state` returned; training continues as if it had never stopped."""
        self.load_policy(saved)
        self._kept = {key: np.asarray(value).copy() for key, value in saved["kept"].items()}
        self._rng.bit_generator.state = saved["rng"]
        self._env.unwrapped.resume(saved["env"]["arrays"], saved["env"]["rest"])  # type: ignore[attr-defined]
        self._steps = int(saved["steps"])


def _shape(env: VectorEnv[Any, Any, Any]) -> tuple[int, int]:
    """Steps of an episode and numbers of an action."""
    if not isinstance(env.single_action_space, spaces.Box):
        raise InvalidValueError(f"PI2 needs continuous actions, the environment has {env.single_action_space}")
    length = getattr(env.unwrapped, "max_episode_steps", None)
    if length is None:
        raise InvalidValueError("PI2 improves a trajectory of known length: the environment needs max_episode_steps")
    return int(length), env.single_action_space.shape[0]


def _width(env: VectorEnv[Any, Any, Any], track: str | None, most: int) -> int:
    """Numbers of the tracked observation."""
    if track is None:
        return 0
    offered: Any = getattr(env.single_observation_space, "spaces", {})
    if track not in offered:
        raise UnknownNameError("observation", track, offered)
    shape = offered[track].shape
    if len(shape) != 1 or shape[0] > most:
        raise InvalidValueError(f"track must be an observation of at most {most} numbers, one an action; {track!r} is {shape}")
    return int(shape[0])


def _chosen(demonstrations: Sequence[Episode] | str | Path, number: int) -> Episode:
    given = demonstrations
    episodes = Demonstrations(given) if isinstance(given, (str, Path)) else given
    if not 0 <= number < len(episodes):
        raise InvalidValueError(f"episode must be in [0, {len(episodes)}), got {number}")
    return episodes[number]


def _course(episode: Episode, shape: tuple[int, int], track: str | None, width: int) -> dict[str, NDArray[np.float64]]:
    """A demonstration's actions (T, A) and what was felt before each, (T, D); cut, or with the last ones going on."""
    if episode.action is None or episode.action.shape[1] != shape[1]:
        found = None if episode.action is None else episode.action.shape[1]
        raise InvalidValueError(f"the demonstration has {found} actions a step, the environment takes {shape[1]}")
    rows = np.minimum(np.arange(shape[0]), len(episode.action) - 1)
    felt = np.zeros((shape[0], width))
    if track is not None:
        if track not in episode.obs:
            raise UnknownNameError("recorded observation", track, episode.obs)
        felt = np.asarray(episode.obs[track], np.float64)[rows]
    return {"action": np.asarray(episode.action, np.float64)[rows], "felt": felt}
