"""Implicit step rewards: which steps a policy that prefers successes would take more often than the policy that acted.

    r_t = beta log pi(a_t | o_t) / pi_old(a_t | o_t)
    L = -log sigmoid( sum_t r_t of a success  -  sum_t r_t of a failure )     trajectory DPO; pairs from one group

pi is the trained policy, pi_old a frozen copy of the policy that acted, taken anew at every iteration; a group is the episodes
that began alike. From Liu et al. 2025, Agentic Reinforcement Learning with Implicit Step Rewards (iStar, first named OPRL),
arXiv:2509.19199, with the loss of DPO, arXiv:2305.18290.

The code that the authors released differs in two things: there an episode's score is the mean over its steps, and the baseline
of a step averages the first step of each episode alone. It takes all pairs of a success and a failure, as is done here, though
its documentation speaks of one to one.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from assets.errors import InvalidValueError
from rewards.ensemble import Trainer

Observation = NDArray[Any] | Mapping[str, NDArray[Any]]


class ImplicitStepReward:
    """Step rewards from which of some episodes succeeded.

    Args:
        policy: a module called as `policy(obs, action)` with tensors (N, T, ...), that gives log pi(a_t | o_t), (N, T).
            Any kind of policy fits. It is copied twice, as pi and as pi_old, both in evaluation mode, and stays as it is.
        beta: size of a step's reward, > 0.
        rate: Adam's step size.
        device: "cpu" or "cuda".

    Raises:
        InvalidValueError: an option outside its range.
    """

    def __init__(self, policy: nn.Module, beta: float = 0.05, rate: float = 1e-3, device: str = "cpu") -> None:
        if not beta > 0:
            raise InvalidValueError(f"beta must be > 0, got {beta}")
        self.beta = beta
        self._policy = deepcopy(policy).eval()
        self._trainer = Trainer(self._policy, rate, device)
        self.refer_to(policy)

    def refer_to(self, policy: nn.Module) -> None:
        """Take a frozen copy of `policy` for pi_old: the one that acts from now on. pi goes on from where it is."""
        self._reference = deepcopy(policy).to(self._trainer.device).eval().requires_grad_(False)

    def update(
        self, obs: Observation, action: NDArray[Any], mask: NDArray[np.bool_], success: NDArray[np.bool_], group: NDArray[Any]
    ) -> dict[str, float]:
        """One step of Adam on the mean loss of all pairs of a success and a failure within a group.

        Groups of successes or of failures alone have no pairs and count nothing; without any pair nothing changes.

        Args:
            obs: (N, T, ...), or name -> (N, T, ...).
            action: (N, T) or (N, T, ...).
            mask: (N, T) bool; false beyond an episode's end, where `obs` and `action` may hold anything.
            success: (N,) bool.
            group: (N,) whole numbers; episodes with the same one began alike.

        Returns:
            "loss", 0 without pairs; "pairs"; "ordered", how many of them the sums of r_t order rightly before the step.

        Raises:
            InvalidValueError: shapes that do not fit, or numbers that are not finite.
        """
        success, group = np.asarray(success), np.asarray(group)
        if success.dtype != bool:
            raise InvalidValueError(f"success must be bool, got {success.dtype}: compare outcomes with what counts as one")
        if success.shape != np.shape(mask)[:1] or group.shape != success.shape:
            raise InvalidValueError(
                f"mask (N, T), success (N,) and group (N,) must fit, got {np.shape(mask)}, {success.shape} and {group.shape}"
            )
        better, worse = np.nonzero(success[:, None] & ~success & (group[:, None] == group))
        if not len(better):
            return {"loss": 0.0, "pairs": 0.0, "ordered": 0.0}
        score = self._rewards(obs, action, mask).sum(1)
        apart = score[torch.from_numpy(better)] - score[torch.from_numpy(worse)]
        loss = self._trainer.descend(lambda: -functional.logsigmoid(apart).mean(), 1)
        return {"loss": loss, "pairs": float(len(better)), "ordered": float((apart > 0).sum())}

    def step_rewards(self, obs: Observation, action: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[np.float32]:
        """r_t of each step, (N, T); 0 beyond an episode's end.

        Args:
            obs: (N, T, ...), or name -> (N, T, ...).
            action: (N, T) or (N, T, ...).
            mask: (N, T) bool.

        Raises:
            InvalidValueError: shapes that do not fit, or numbers that are not finite.
        """
        with torch.no_grad():
            return self._rewards(obs, action, mask).cpu().numpy()

    def state_dict(self) -> dict[str, NDArray[Any]]:
        """What training goes on from, and pi_old, as arrays."""
        old = {f"reference.{name}": value.cpu().numpy().copy() for name, value in self._reference.state_dict().items()}
        return {**self._trainer.state_dict(), **old}

    def load_state_dict(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Go on from what `state_dict` gave.

        Raises:
            InvalidValueError: the arrays of another network.
        """
        self._trainer.load_state_dict(state)
        names = self._reference.state_dict()
        self._reference.load_state_dict({name: torch.from_numpy(np.array(state[f"reference.{name}"])) for name in names})

    def _rewards(self, obs: Observation, action: NDArray[Any], mask: NDArray[np.bool_]) -> Tensor:
        mask = np.asarray(mask, bool)
        seen, done = self._tensors("obs", obs, mask), self._tensors("action", action, mask)
        with torch.no_grad():
            before = self._reference(seen, done)
        now = self._policy(seen, done)
        if now.shape != mask.shape or before.shape != mask.shape:
            raise InvalidValueError(f"a policy must give log-probabilities of shape {mask.shape}, got {tuple(now.shape)}")
        ratio = torch.where(torch.from_numpy(mask).to(now.device), now - before, 0)
        if not ratio.isfinite().all():
            raise InvalidValueError("a policy must give finite log-probabilities, got NaN or infinite ones")
        return self.beta * ratio

    def _tensors(self, name: str, values: Observation, mask: NDArray[np.bool_]) -> Any:
        """The same on the policy's device, with 0 beyond the episodes' ends, where nothing must spoil a gradient."""
        if isinstance(values, Mapping):
            return {key: self._tensors(f"{name} {key!r}", value, mask) for key, value in values.items()}
        values = np.asarray(values)
        if mask.ndim != 2 or values.shape[:2] != mask.shape:
            raise InvalidValueError(f"{name} must be (N, T, ...) with mask (N, T), got {values.shape} and {mask.shape}")
        values = np.where(mask.reshape(mask.shape + (1,) * (values.ndim - 2)), values, values.dtype.type(0))
        if not np.isfinite(values).all():
            raise InvalidValueError(f"{name} must be finite, got {values[~np.isfinite(values)][0]}")
        tensor = torch.from_numpy(values).to(self._trainer.device)
        return tensor.float() if tensor.is_floating_point() else tensor


def step_plus_episode_advantage(
    outcome: NDArray[Any], steps: NDArray[Any], mask: NDArray[np.bool_], weight: float = 1.0
) -> NDArray[np.float32]:
    """A_it = (R_i - mean of R of the other episodes) + weight (r_it - mean of r over all steps of the other episodes).

    The baselines are those of RLOO (arXiv:2402.14740): they leave out the whole episode, whose steps all depend on its actions.

    Args:
        outcome: (G,) what each episode of one group achieved, R.
        steps: (G, T) rewards of its steps, r.
        mask: (G, T) bool; false beyond an episode's end, where `steps` may hold anything.
        weight: of the steps.

    Returns:
        (G, T), 0 beyond an episode's end.

    Raises:
        InvalidValueError: fewer than 2 episodes, one without steps, shapes that do not fit, or numbers that are not finite.
    """
    outcome, mask = np.asarray(outcome, np.float64), np.asarray(mask, bool)
    if mask.ndim != 2 or np.shape(steps) != mask.shape or outcome.shape != mask.shape[:1]:
        raise InvalidValueError(
            f"outcome (G,), steps (G, T) and mask (G, T) must fit, got {outcome.shape}, {np.shape(steps)} and {mask.shape}"
        )
    if len(outcome) < 2 or not mask.any(1).all():
        raise InvalidValueError(
            f"a group must have 2 or more episodes, each with a step, got {len(outcome)} with {mask.sum(1).tolist()} steps"
        )
    rewards = np.where(mask, np.asarray(steps, np.float64), 0)
    if not (np.isfinite(rewards).all() and np.isfinite(outcome).all()):
        raise InvalidValueError("outcome and steps must be finite, got NaN or infinite numbers")
    episode = outcome - (outcome.sum() - outcome) / (len(outcome) - 1)
    count, total = mask.sum(1), rewards.sum(1)
    baseline = (total.sum() - total) / (count.sum() - count)
    return np.where(mask, episode[:, None] + weight * (rewards - baseline[:, None]), 0).astype(np.float32)
