"""Implicit step rewards: they find the steps that decide, one-sided groups say nothing, and advantages are exact."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from assets.errors import InvalidValueError
from rewards.implicit import ImplicitStepReward, step_plus_episode_advantage

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, ACTIONS = 10, 4


class Table(nn.Module):
    """A categorical policy: a row of logits for each step; uniform at first."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(STEPS, ACTIONS))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        assert obs.dtype == action.dtype == torch.int64
        return self.logits.log_softmax(-1)[obs, action]


class Line(nn.Module):
    """A Gaussian policy: mean linear in what is seen, spread 1."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = nn.Linear(2, 1, bias=False)
        nn.init.zeros_(self.mean.weight)

    def forward(self, obs: dict[str, Tensor], action: Tensor) -> Tensor:
        return torch.distributions.Normal(self.mean(obs["seen"]), 1.0).log_prob(action).sum(-1)


def played(episodes: int, seed: int, groups: int = 8, rng: np.random.Generator | None = None) -> dict[str, np.ndarray]:
    """Random actions; an episode succeeds if its actions at both steps that `decisive` names are right."""
    rng = rng or np.random.default_rng(seed)
    action = rng.integers(ACTIONS, size=(episodes, STEPS))
    steps, right = decisive(seed)
    return {
        "obs": np.tile(np.arange(STEPS), (episodes, 1)),
        "action": action,
        "mask": np.ones((episodes, STEPS), bool),
        "success": (action[:, steps] == right).all(1),
        "group": np.arange(episodes) % groups,
    }


def decisive(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, 1))
    return rng.choice(STEPS, 2, replace=False), rng.integers(ACTIONS, size=2)


def weights(model: ImplicitStepReward) -> dict[str, bytes]:
    return {name: value.tobytes() for name, value in model.state_dict().items()}


def test_the_decisive_steps_stand_out() -> None:
    found = 0
    every = {
        "obs": np.tile(np.arange(STEPS), (ACTIONS, 1)),
        "action": np.tile(np.arange(ACTIONS)[:, None], (1, STEPS)),
        "mask": np.ones((ACTIONS, STEPS), bool),
    }
    for seed in range(20):
        model, rng = ImplicitStepReward(Table(), rate=0.03), np.random.default_rng(seed)
        for _ in range(60):
            model.update(**played(256, seed, groups=32, rng=rng))
        rewards = model.step_rewards(**every)
        spread, (steps, right) = np.ptp(rewards, axis=0), decisive(seed)
        # Twice as much as at any other step, and for the right actions.
        found += spread[steps].min() > 2 * np.delete(spread, steps).max() and (rewards[:, steps].argmax(0) == right).all()
    assert found >= 19


def test_a_gaussian_policy_that_sees_by_name() -> None:
    rng, model = np.random.default_rng(0), ImplicitStepReward(Line(), rate=0.01)
    mask, group, told = np.ones((512, 6), bool), np.zeros(512, int), []
    for _ in range(30):
        seen, action = rng.normal(size=(512, 6, 2)), rng.normal(size=(512, 6, 1))
        # What succeeds is to act along the first number seen; the second says nothing.
        success = (seen[..., :1] * action).sum((1, 2)) > 0
        told.append(model.update({"seen": seen}, action, mask, success, group))
    assert told[0]["loss"] == pytest.approx(np.log(2))
    assert told[-1]["loss"] < told[0]["loss"]
    assert told[-1]["ordered"] > 0.9 * told[-1]["pairs"]
    rewards = model.step_rewards({"seen": seen}, action, mask)
    assert np.corrcoef(rewards.ravel(), (seen[..., 0] * action[..., 0]).ravel())[0, 1] > 0.9


def test_rewards_are_beta_times_the_log_ratio() -> None:
    policy, later = Table(), Table()
    with torch.no_grad():
        later.logits[3, 2] = 1.0
    batch = {key: played(4, 0)[key] for key in ("obs", "action", "mask")}
    model = ImplicitStepReward(policy, beta=0.3)
    np.testing.assert_array_equal(model.step_rewards(**batch), 0)
    model.refer_to(later)
    ratio = policy(torch.from_numpy(batch["obs"]), torch.from_numpy(batch["action"])) - later(
        torch.from_numpy(batch["obs"]), torch.from_numpy(batch["action"])
    )
    np.testing.assert_allclose(model.step_rewards(**batch), 0.3 * ratio.detach().numpy(), rtol=1e-6)
    assert np.ptp(model.step_rewards(**batch)[:, 3]) > 0


def test_the_callers_policy_stays_as_it_is() -> None:
    policy = Table()
    before = deepcopy(policy.state_dict())
    model = ImplicitStepReward(policy)
    batch = played(64, 0, groups=1)
    model.update(**batch)
    assert torch.equal(policy.logits, before["logits"])
    assert policy.logits.requires_grad
    # And what is done to it later does not reach the reward.
    told = weights(model)
    with torch.no_grad():
        policy.logits += 1
    assert weights(model) == told


@pytest.mark.parametrize("outcome", [False, True])
def test_one_sided_groups_change_nothing(outcome: bool) -> None:
    model, batch = ImplicitStepReward(Table()), played(64, 0, groups=4)
    model.update(**batch)  # Adam has moments now, which would move the weights without any gradient.
    before = weights(model)
    told = model.update(**{**batch, "success": np.full(64, outcome)})
    assert told == {"loss": 0.0, "pairs": 0.0, "ordered": 0.0}
    assert weights(model) == before
    # Successes and failures in different groups are no pairs.
    apart = model.update(**{**batch, "success": batch["group"] < 2})
    assert apart["pairs"] == 0
    assert weights(model) == before


def test_one_sided_groups_beside_others_count_nothing() -> None:
    batch = played(64, 0, groups=4)
    batch["success"] = np.where(batch["group"] == 0, True, np.where(batch["group"] == 1, False, np.arange(64) % 8 < 4))
    mixed = batch["group"] >= 2
    whole, part = ImplicitStepReward(Table()), ImplicitStepReward(Table())
    for _ in range(3):
        a, b = whole.update(**batch), part.update(**{key: value[mixed] for key, value in batch.items()})
        assert a == pytest.approx(b)
    seen = {key: batch[key] for key in ("obs", "action", "mask")}
    np.testing.assert_allclose(whole.step_rewards(**seen), part.step_rewards(**seen), atol=1e-7)
    assert np.isfinite(whole.step_rewards(**seen)).all()


def test_all_pairs_of_a_group_are_used() -> None:
    batch = played(12, 0, groups=2)
    batch["success"] = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0], bool)
    # Six episodes in each group, of which two succeeded.
    assert ImplicitStepReward(Table()).update(**batch)["pairs"] == 2 * (2 * 4)


def test_what_is_beyond_the_end_does_not_count() -> None:
    rng = np.random.default_rng(0)
    seen, action = rng.normal(size=(8, 5, 2)), rng.normal(size=(8, 5, 1))
    mask = np.arange(5) < rng.integers(1, 6, 8)[:, None]
    success, group = np.arange(8) % 2 == 0, np.zeros(8, int)
    spoilt = [np.where(mask[..., None], x, np.nan) for x in (seen, action)]
    a, b = ImplicitStepReward(Line()), ImplicitStepReward(Line())
    for _ in range(3):
        assert a.update({"seen": seen}, action, mask, success, group) == b.update(
            {"seen": spoilt[0]}, spoilt[1], mask, success, group
        )
    rewards = b.step_rewards({"seen": spoilt[0]}, spoilt[1], mask)
    np.testing.assert_array_equal(rewards, a.step_rewards({"seen": seen}, action, mask))
    assert (rewards[~mask] == 0).all()
    assert (rewards[mask] != 0).all()


def test_training_goes_on_from_a_state() -> None:
    model, copy = ImplicitStepReward(Table()), ImplicitStepReward(Table())
    model.update(**played(64, 0))
    model.refer_to(model._policy)
    saved = model.state_dict()
    assert all(isinstance(value, np.ndarray) for value in saved.values())
    copy.load_state_dict(saved)
    for seed in range(1, 4):
        assert model.update(**played(64, seed)) == copy.update(**played(64, seed))
    assert weights(model) == weights(copy)


class Wrong(nn.Module):
    """Tells one number per episode, or no number."""

    def __init__(self, told: float, steps: bool) -> None:
        super().__init__()
        self.told, self.steps, self.weight = told, steps, nn.Parameter(torch.ones(()))

    def forward(self, obs: Tensor, action: Tensor) -> Tensor:
        return self.weight * self.told * torch.ones(action.shape if self.steps else action.shape[:1])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"obs": np.zeros((4, 3), int)}, r"obs must be \(N, T, ...\) with mask \(N, T\)"),
        ({"action": np.zeros(4, int)}, "action must be"),
        ({"mask": np.ones(4, bool)}, "obs must be"),
        ({"success": np.ones(3, bool)}, "must fit"),
        ({"group": np.ones(3, int)}, "must fit"),
        ({"success": np.array([0.2, 0.9, 0.1, 1.0])}, "success must be bool, got float64"),
        ({"obs": np.full((4, STEPS), np.nan)}, "obs must be finite, got nan"),
    ],
)
def test_bad_episodes_are_refused(changes: dict[str, Any], sentence: str) -> None:
    batch = {**played(4, 0, groups=1), "success": np.array([True, False, True, False]), **changes}
    with pytest.raises(InvalidValueError, match=sentence):
        ImplicitStepReward(Table()).update(**batch)


def test_bad_policies_and_options_are_refused() -> None:
    batch = {key: played(4, 0)[key] for key in ("obs", "action", "mask")}
    with pytest.raises(InvalidValueError, match=r"log-probabilities of shape \(4, 10\), got \(4,\)"):
        ImplicitStepReward(Wrong(1.0, False)).step_rewards(**batch)
    with pytest.raises(InvalidValueError, match="finite log-probabilities"):
        ImplicitStepReward(Wrong(float("-inf"), True)).step_rewards(**batch)
    with pytest.raises(InvalidValueError, match="beta must be > 0, got 0"):
        ImplicitStepReward(Table(), beta=0)


# -- advantages ---------------------------------------------------------------------------------------------------------


def test_golden_advantages() -> None:
    outcome = np.array([1.0, 0.0, 0.0])
    steps = np.array([[1.0, 3.0], [2.0, 99.0], [0.0, 4.0]])
    mask = np.array([[True, True], [True, False], [True, True]])
    # Of outcomes: 1 - 0, 0 - 1/2, 0 - 1/2. Baselines of steps: (2 + 0 + 4) / 3, (1 + 3 + 0 + 4) / 4, (1 + 3 + 2) / 3.
    wanted = [[1 + (1 - 2), 1 + (3 - 2)], [-0.5 + (2 - 2), 0], [-0.5 + (0 - 2), -0.5 + (4 - 2)]]
    np.testing.assert_allclose(step_plus_episode_advantage(outcome, steps, mask), wanted)
    halved = [[1 - 0.5, 1 + 0.5], [-0.5, 0], [-0.5 - 1, -0.5 + 1]]
    np.testing.assert_allclose(step_plus_episode_advantage(outcome, steps, mask, weight=0.5), halved)


def test_equal_outcomes_leave_the_steps_alone() -> None:
    steps, mask = np.array([[1.0, 2.0], [3.0, 4.0]]), np.ones((2, 2), bool)
    for outcome in (0.0, 1.0):
        told = step_plus_episode_advantage(np.full(2, outcome), steps, mask)
        np.testing.assert_allclose(told, [[1 - 3.5, 2 - 3.5], [3 - 1.5, 4 - 1.5]])
        assert (step_plus_episode_advantage(np.full(2, outcome), steps, mask, weight=0) == 0).all()


@settings(max_examples=30)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(1, 5), st.floats(0, 3))
def test_advantages_are_the_equation(seed: int, episodes: int, length: int, weight: float) -> None:
    rng = np.random.default_rng(seed)
    outcome, steps = rng.normal(size=episodes), rng.normal(size=(episodes, length))
    mask = np.arange(length) < rng.integers(1, length + 1, episodes)[:, None]
    told = step_plus_episode_advantage(outcome, np.where(mask, steps, np.nan), mask, weight)
    for i in range(episodes):
        others = [j for j in range(episodes) if j != i]
        baseline = np.mean(np.concatenate([steps[j][mask[j]] for j in others]))
        wanted = outcome[i] - np.mean(outcome[others]) + weight * (steps[i] - baseline)
        np.testing.assert_allclose(told[i], np.where(mask[i], wanted, 0), atol=1e-5)
    # What is added to every step alike, or to every outcome, says nothing.
    np.testing.assert_allclose(step_plus_episode_advantage(outcome + 3, steps + 5, mask, weight), told, atol=1e-4)


@pytest.mark.parametrize(
    ("outcome", "steps", "mask", "sentence"),
    [
        ([1.0], [[1.0]], [[True]], "2 or more episodes, each with a step, got 1"),
        ([1.0, 0.0], [[1.0], [1.0]], [[True], [False]], r"each with a step, got 2 with \[1, 0\] steps"),
        ([1.0], [[1.0], [1.0]], [[True], [True]], "must fit"),
        ([1.0, 0.0], [1.0, 1.0], [True, True], "must fit"),
        ([np.nan, 0.0], [[1.0], [1.0]], [[True], [True]], "must be finite"),
        ([1.0, 0.0], [[np.inf], [1.0]], [[True], [True]], "must be finite"),
    ],
)
def test_bad_groups_are_refused(outcome: Any, steps: Any, mask: Any, sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        step_plus_episode_advantage(np.array(outcome), np.array(steps), np.array(mask))
