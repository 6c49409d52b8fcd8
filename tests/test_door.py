"""The door, opened by a robot and by a person's arm."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from agents.base import OraclePolicy
from agents.config import load
from agents.make import make_env
from agents.rollout import rollout

COUNT = 12


@pytest.fixture(scope="module", params=["panda", "human_arm"])
def env(request: pytest.FixtureRequest) -> Iterator[Any]:
    found = make_env(load("collect", ["env=door_open", f"env.robot={request.param}"]), COUNT, "disabled", observe=())
    yield found
    found.close()


def test_the_expert_opens_it_whoever_acts(env: Any) -> None:
    episodes = rollout(env, OraclePolicy(env, 0.1, 0), list(range(COUNT)))
    assert np.mean([episode.succeeded for episode in episodes]) >= 0.9
    assert not any(episode.physics_error for episode in episodes)


def test_the_hand_begins_level_in_front_of_the_handle(env: Any) -> None:
    env.reset(seed=3)
    state = env.unwrapped.task.state(env.unwrapped.physics)
    offset = state["handle"] - state["tool"]
    assert np.abs(offset[:, 0] - 0.15).max() < 0.08
    assert np.abs(offset[:, 1:]).max() < 0.1
    assert np.abs(state["misturn"]).max() < 0.2  # the cabinet's own yaw, and the joints' jitter
    assert state["joints"].shape == (COUNT, 7)


def test_a_posture_that_is_given_goes_before_the_robots_own() -> None:
    posture = [0.2, -0.7, -0.4, -2.5, -0.1, 3.3, 0.6]
    env = make_env(load("collect", ["env=door_open"]), 4, "disabled", observe=(), posture=posture)
    try:
        obs, _ = env.reset(seed=0)
        assert np.abs(obs["joints"] - posture).max() <= 0.0201
    finally:
        env.close()
