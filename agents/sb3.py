"""Stable-Baselines3's PPO and SAC behind the suite's own policy and checkpoint formats.

The algorithms are SB3's, untouched. What is ours: one environment adapter instead of subprocesses, checkpoints that resume
exactly (policy, optimisers, replay buffer, random streams, simulations), metrics as rows, and no pickles.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.utils import obs_as_tensor

from agents import checkpoint
from agents.base import Observation
from agents.extractor import FovealExtractor
from agents.vec import SB3VecEnv
from assets.errors import InvalidValueError, UnknownNameError

ALGORITHMS: dict[str, type[BaseAlgorithm]] = {"ppo": PPO, "sac": SAC}
_BUFFER = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


class _Collect(KVWriter):
    """Keeps the newest value of everything that SB3 logs."""

    def __init__(self) -> None:
        self.latest: dict[str, float] = {}

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        for key, value in key_values.items():
            if isinstance(value, (int, float, np.number)):
                self.latest[key] = float(value)

    def close(self) -> None:
        pass


class SB3Learner:
    """An SB3 algorithm that advances in pieces and can be stopped and resumed anywhere between them.

    Args:
        env: vector environment with autoreset_mode="same_step".
        algorithm: "ppo" or "sac".
        seed: of the network's initial weights, the sampled actions and the simulations.
        device: "auto", "cpu", "cuda".
        threads: torch threads on the CPU; 0 leaves torch's choice.
        extractor: arguments of `FovealExtractor`.
        policy: further arguments of SB3's policy, such as `net_arch` and `log_std_init`.
        learning_rate: of the optimisers.
        final_learning_rate: where it falls to, on a straight line; None keeps it. It depends on the steps done alone, so
            that a resumed run goes on with the same rate.
        decay_steps: environment steps after which it has fallen.
        settings: further arguments of the algorithm, under SB3's own names.
    """

    def __init__(
        self,
        env: VectorEnv[Any, Any, Any],
        algorithm: str,
        seed: int = 0,
        device: str = "auto",
        threads: int = 0,
        extractor: Mapping[str, Any] | None = None,
        policy: Mapping[str, Any] | None = None,
        learning_rate: float = 3e-4,
        final_learning_rate: float | None = None,
        decay_steps: int | None = None,
        **settings: Any,
    ) -> None:
        if algorithm not in ALGORITHMS:
            raise UnknownNameError("algorithm", algorithm, ALGORITHMS)
        if threads:
            torch.set_num_threads(threads)
        self._vec = SB3VecEnv(env)
        self._log = _Collect()
        if (final_learning_rate is None) != (decay_steps is None):
            raise InvalidValueError(
                f"final_learning_rate ({final_learning_rate}) and decay_steps ({decay_steps}) go together: give both or neither"
            )
        self._rates = (learning_rate, learning_rate if final_learning_rate is None else final_learning_rate)
        self._decay_steps = decay_steps or 1
        self.model: Any = ALGORITHMS[algorithm](
            "MultiInputPolicy",
            self._vec,
            seed=seed,
            device=device,
            learning_rate=self._rate,
            policy_kwargs={
                **(policy or {}),
                "normalize_images": False,  # the extractor takes them as they are
                "features_extractor_class": FovealExtractor,
                "features_extractor_kwargs": dict(extractor or {}),
            },
            **settings,
        )
        self.model.set_logger(Logger(folder=None, output_formats=[self._log]))

    @property
    def steps(self) -> int:
        """Environment steps so far, summed over simulations."""
        return int(self.model.num_timesteps)

    def _rate(self, progress: float) -> float:
        """The learning rate at present; SB3's own `progress` knows only the piece that is being trained."""
        del progress
        done = min(1.0, self.steps / self._decay_steps) if hasattr(self, "model") else 0.0
        first, last = self._rates
        return first + done * (last - first)

    def advance(self, steps: int) -> dict[str, float]:
        """Train for at least `steps` more environment steps; returns what was logged, under SB3's names."""
        began, before = time.perf_counter(), self.steps
        self.model.learn(steps, reset_num_timesteps=False, log_interval=1)
        metrics = {k: v for k, v in self._log.latest.items() if not k.startswith("time/")}
        buffer, wins = self.model.ep_info_buffer, self.model.ep_success_buffer
        if buffer:
            metrics["rollout/ep_rew_mean"] = float(np.mean([e["r"] for e in buffer]))
            metrics["rollout/ep_len_mean"] = float(np.mean([e["l"] for e in buffer]))
        if wins:
            metrics["rollout/success_rate"] = float(np.mean(wins))
        metrics["time/fps"] = (self.steps - before) / (time.perf_counter() - began)
        metrics["time/total_timesteps"] = float(self.steps)
        return metrics

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """Actions for N observations, (N, A) in [-1, 1]."""
        tensors = obs_as_tensor(self._transpose(obs), self.model.device)
        self.model.policy.set_training_mode(False)
        with torch.no_grad():
            action = self.model.policy._predict(tensors, deterministic=deterministic)
        return np.clip(action.cpu().numpy().reshape(-1, *self.model.action_space.shape), -1, 1).astype(np.float32)

    def _transpose(self, obs: Observation) -> dict[str, NDArray[Any]]:
        """Images channels first, as SB3's own wrapper hands them to the policy."""
        wanted = self.model.observation_space.spaces
        return {k: np.moveaxis(v, -1, 1) if v.ndim == 4 and v.shape[1:] != wanted[k].shape else v for k, v in obs.items()}

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        model = self.model
        arrays, rest = self._vec.checkpoint()
        saved: dict[str, Any] = {
            "policy": model.policy.state_dict(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers().items()},
            "random": checkpoint.random_state(),
            "env": {"arrays": arrays, "rest": rest},
            "steps": self.steps,
            "updates": int(model._n_updates),
            "episodes": [dict(e) for e in model.ep_info_buffer or ()],
            "successes": [bool(s) for s in model.ep_success_buffer or ()],
            "episode_num": int(model._episode_num),
            "action_space": _json_state(model.action_space),
        }
        if model._last_obs is not None:
            saved["last_obs"] = dict(model._last_obs)
            saved["last_starts"] = np.asarray(model._last_episode_starts)
        if isinstance(model, SAC):
            assert model.replay_buffer is not None
            saved["buffer"] = _buffer_state(model.replay_buffer)
            if model.log_ent_coef is not None:
                saved["log_ent_coef"] = model.log_ent_coef
        return saved

    def load_policy(self, saved: Mapping[str, Any]) -> None:
        """Only what acting needs, from a checkpoint's tree."""
        self.model.policy.load_state_dict(checkpoint.to_tensors(saved["policy"]))

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Bring back what `state` returned; training continues as if it had never stopped.

        Raises:
            InvalidValueError: another number of simulations, or a replay buffer of another size.
        """
        model = self.model
        before, now = len(saved["env"]["arrays"]["steps"]), self._vec.num_envs
        if before != now:
            raise InvalidValueError(
                f"the checkpoint has {before} simulations, this configuration {now}: resume with num_envs={before}"
            )
        model._setup_learn(0, reset_num_timesteps=True)  # makes the buffers that learn() would make
        self.load_policy(saved)
        for name, optimizer in self._optimizers().items():
            optimizer.load_state_dict(checkpoint.to_tensors(saved["optimizers"][name]))
        if "log_ent_coef" in saved:
            model.log_ent_coef.data.copy_(checkpoint.to_tensors(saved["log_ent_coef"]))
        if "buffer" in saved:
            _load_buffer(model.replay_buffer, saved["buffer"])
        model.num_timesteps, model._n_updates = int(saved["steps"]), int(saved["updates"])
        model._episode_num = int(saved["episode_num"])
        model.ep_info_buffer.extend(saved["episodes"])
        model.ep_success_buffer.extend(saved["successes"])
        self._vec.resume(saved["env"]["arrays"], saved["env"]["rest"])
        if "last_obs" in saved:
            model._last_obs = {k: v.copy() for k, v in saved["last_obs"].items()}
            model._last_episode_starts = saved["last_starts"].astype(bool)
        model.action_space.np_random.bit_generator.state = saved["action_space"]
        checkpoint.set_random_state(saved["random"])

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        model = self.model
        if isinstance(model, SAC):
            found = {"actor": model.actor.optimizer, "critic": model.critic.optimizer}
            if model.ent_coef_optimizer is not None:
                found["entropy"] = model.ent_coef_optimizer
            return found
        return {"policy": model.policy.optimizer}


def _json_state(space: Any) -> dict[str, Any]:
    return dict(space.np_random.bit_generator.state)


def _buffer_state(buffer: ReplayBuffer) -> dict[str, Any]:
    """The filled part of a replay buffer."""
    filled = buffer.buffer_size if buffer.full else buffer.pos
    saved: dict[str, Any] = {"pos": buffer.pos, "full": buffer.full, "size": buffer.buffer_size}
    for name in _BUFFER:
        value = getattr(buffer, name)
        saved[name] = {k: v[:filled] for k, v in value.items()} if isinstance(value, dict) else value[:filled]
    return saved


def _load_buffer(buffer: ReplayBuffer, saved: Mapping[str, Any]) -> None:
    if saved["size"] != buffer.buffer_size:
        raise InvalidValueError(
            f"the checkpoint's replay buffer holds {saved['size']} steps, this configuration's {buffer.buffer_size}: "
            "resume with the same buffer_size and num_envs"
        )
    buffer.pos, buffer.full = int(saved["pos"]), bool(saved["full"])
    for name in _BUFFER:
        target, value = getattr(buffer, name), saved[name]
        for k in value if isinstance(value, dict) else (None,):
            source = value if k is None else value[k]
            (target if k is None else target[k])[: len(source)] = source
