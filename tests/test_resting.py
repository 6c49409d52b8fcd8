"""What an eye rests on: eyes that know where things are rest on what they mean to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from agents.config import load
from agents.make import make_env
from assets.errors import InvalidValueError, UnknownNameError
from benchmarks import resting

pytestmark = pytest.mark.usefixtures("one_thread")


class _Knowing:
    """An eye that turns to where a function says, as fast as it can."""

    def __init__(self, env: Any, to: Any) -> None:
        self.env, self.to = env.unwrapped, to

    def reset(self) -> None:
        """It remembers nothing."""

    def act(self, obs: dict[str, NDArray[Any]], *, deterministic: bool) -> NDArray[np.float32]:
        assert deterministic
        return np.clip(4 * (self.to() - obs["gaze"]), -1, 1).astype(np.float32)


def test_an_eye_rests_on_what_it_turns_to() -> None:
    env = make_env(
        load("evaluate", ["env=brush_handoff", "policy=oracle", "env.control=joint", "env.resolution=8"]), 24, "disabled"
    )
    sights = env.unwrapped.sights  # type: ignore[attr-defined]
    brush = _Knowing(env, lambda: sights()["the blue brush"])
    found, beside, alike = resting.rested(env, brush, 0)
    assert found.all()
    assert not alike.any()
    cube = np.isfinite(sights()["the blue cube"]).all(axis=1)
    assert 0 < cube.sum() < 24
    np.testing.assert_array_equal(beside, cube)

    def decoy() -> NDArray[np.float64]:
        at = sights()
        return np.where(cube[:, None], at["the blue cube"], at["the open hand"])

    found, beside, alike = resting.rested(env, _Knowing(env, decoy), 0)
    assert not found.any()
    np.testing.assert_array_equal(alike, cube)
    up, *_ = resting.rested(env, _Knowing(env, lambda: np.radians([[0.0, 25.0]])), 0)
    assert not up.any()
    env.close()


def test_the_eye_that_ships_finds_what_a_task_begins_with() -> None:
    rows = {row.metric: row for row in resting.measure("towel_bucket", resting.EYE, 8)}
    assert set(rows) == {"found", "found_alone"}  # nothing else is cyan
    assert rows["found"].n == 8
    assert rows["found"].value >= 0.75


def test_an_eye_of_one_level_acts_with_its_own() -> None:
    assert resting.measure("towel_bucket", "eyerobot/search_uniform", 2)[0].n == 2


def test_bad_input() -> None:
    with pytest.raises(InvalidValueError, match="--episodes must be >= 1, got 0"):
        resting.main(["--episodes", "0"])
    with pytest.raises(UnknownNameError, match="eyerobot/search"):
        resting.measure("estop", "eyerobot/serch", 2)
    assert resting.colour_of("the red e-stop button") == "red"
    assert resting.colour_of("the open hand") == ""
