"""The reward of the eye: EyeRobot's equation, its invariances and its golden values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assets.errors import InvalidValueError
from rewards.chunks import joint_reward, path_reward

PATHS = arrays(np.float64, (30, 3), elements=st.floats(-1, 1))
ALL = np.ones(30, bool)


@given(PATHS)
def test_what_is_told_exactly_is_worth_nothing_less(path: np.ndarray) -> None:
    assert path_reward(path, path, ALL) == 0


@given(PATHS, PATHS, st.permutations(range(30)))
def test_the_order_of_what_is_predicted_does_not_matter(truth: np.ndarray, said: np.ndarray, order: list[int]) -> None:
    assert path_reward(truth, said[order], ALL) == pytest.approx(path_reward(truth, said, ALL), abs=1e-12)
    assert path_reward(truth, said[::-1], ALL) == pytest.approx(path_reward(truth, said, ALL), abs=1e-12)


@given(PATHS, PATHS)
def test_it_is_the_equation(truth: np.ndarray, said: np.ndarray) -> None:
    nearest = [min(float(np.linalg.norm(p - q)) for q in said) for p in truth]
    assert path_reward(truth, said, ALL) == pytest.approx(-np.mean(nearest), abs=1e-9)


def test_five_centimetres_beside_a_straight_path() -> None:
    path = np.linspace([0.3, 0, 0.2], [0.6, 0, 0.2], 30)
    assert path_reward(path, path + np.array([0, 0.05, 0]), ALL) == pytest.approx(-0.05)


def test_what_does_not_exist_does_not_count() -> None:
    path, valid = np.linspace([0, 0, 0], [0.3, 0, 0], 30), np.arange(30) < 10
    spoilt = np.where(valid[:, None], path, 99.0)
    assert path_reward(spoilt, path, valid) == 0
    assert path_reward(spoilt, path, np.zeros(30, bool)) == 0


def test_batches() -> None:
    rng = np.random.default_rng(0)
    truth, said = rng.normal(size=(2, 4, 3, 30, 3))
    valid = rng.random((4, 3, 30)) < 0.8
    whole = path_reward(truth, said, valid)
    assert whole.shape == (4, 3)
    assert whole[2, 1] == path_reward(truth[2, 1], said[2, 1], valid[2, 1])


def test_joints_and_gripper() -> None:
    truth, valid = np.zeros((2, 30, 7)), np.ones((2, 30), bool)
    said = truth.copy()
    said[..., 0] = 0.1
    np.testing.assert_allclose(joint_reward(truth, said, valid), -0.1)
    grip = np.ones((2, 30))
    np.testing.assert_allclose(joint_reward(truth, said, valid, grip, grip - 0.5), -0.1 - 0.2 * 0.5)


def test_shapes_must_fit() -> None:
    with pytest.raises(InvalidValueError, match="must fit"):
        path_reward(np.zeros((30, 3)), np.zeros((30, 3)), np.ones(29, bool))
