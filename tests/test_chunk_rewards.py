"""The reward of the eye: EyeRobot's equation, its invariances and its golden values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from assets.errors import InvalidValueError
from rewards.chunks import RADIAN, grip_error, joint_reward, path_reward, pose_reward

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


# -- poses -------------------------------------------------------------------------------------------------------------


def axes_of(rotations: np.ndarray) -> np.ndarray:
    """First two columns of rotations (..., 3, 3), (..., 6)."""
    return rotations[..., :2].swapaxes(-1, -2).reshape(*rotations.shape[:-2], 6)


def about(axis: np.ndarray, angle: float) -> np.ndarray:
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def poses(seed: int, count: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Places (count, 3) and rotations (count, 3, 3)."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 3)), np.stack([about(rng.normal(size=3), rng.uniform(0, np.pi)) for _ in range(count)])


SEEDS = st.integers(0, 1000)


@given(SEEDS, SEEDS, st.permutations(range(30)))
def test_poses_told_exactly_are_worth_nothing_less_in_any_order(one: int, other: int, order: list[int]) -> None:
    (p, r), (q, s) = poses(one), poses(other)
    a, b = axes_of(r), axes_of(s)
    assert pose_reward(p, p[order], a, a[order], ALL) == 0
    assert pose_reward(p, q[order], a, b[order], ALL) == pytest.approx(pose_reward(p, q, a, b, ALL), abs=1e-12)


def test_five_centimetres_beside_a_straight_path_of_one_pose() -> None:
    path, axes = np.linspace([0.3, 0, 0.2], [0.6, 0, 0.2], 30), np.tile(axes_of(np.eye(3)), (30, 1))
    assert pose_reward(path, path + np.array([0, 0.05, 0]), axes, axes, ALL) == pytest.approx(-0.05)


@given(SEEDS, st.floats(0, np.pi), arrays(np.float64, 3, elements=st.floats(0.1, 1)))
def test_a_pure_turn_costs_its_angle(seed: int, angle: float, axis: np.ndarray) -> None:
    path, (_, rotations) = np.linspace([0.3, 0, 0.2], [0.6, 0, 0.2], 30), poses(seed, 1)
    first, turned = (np.tile(axes_of(r), (30, 1)) for r in (rotations[0], rotations[0] @ about(axis, angle)))
    assert pose_reward(path, path, first, turned, ALL) == pytest.approx(-RADIAN * angle, abs=1e-7)
    assert pose_reward(path, path, first, turned, ALL, 2.0) == pytest.approx(-2 * angle, abs=1e-6)
    assert pose_reward(path, path, first, turned, ALL, 0.0) == 0


@given(SEEDS, SEEDS)
def test_the_nearest_is_that_of_place_and_turn_together(one: int, other: int) -> None:
    (p, r), (q, s) = poses(one, 4), poses(other, 6)
    angles = [[np.arccos(np.clip((np.trace(x.T @ y) - 1) / 2, -1, 1)) for y in s] for x in r]
    nearest = [
        min(float(np.linalg.norm(a - b)) + 0.1 * angle for b, angle in zip(q, row, strict=True))
        for a, row in zip(p, angles, strict=True)
    ]
    found = pose_reward(p, q, axes_of(r), axes_of(s), np.ones(4, bool), 0.1)
    assert found == pytest.approx(-np.mean(nearest), abs=1e-6)


def test_poses_that_do_not_exist_do_not_count() -> None:
    (p, r), valid = poses(0), np.arange(30) < 10
    spoilt = np.where(valid[:, None], axes_of(r), 99.0)
    assert pose_reward(p, p, spoilt, axes_of(r), valid) == 0
    assert pose_reward(p, p, spoilt, axes_of(r), np.zeros(30, bool)) == 0


def test_axes_must_fit() -> None:
    p, axes = np.zeros((30, 3)), np.zeros((30, 6))
    with pytest.raises(InvalidValueError, match=r"axes .* must fit"):
        pose_reward(p, p, axes[:, :4], axes, ALL)
    with pytest.raises(InvalidValueError, match="must fit"):
        pose_reward(p, p, axes, axes, ALL[:29])


def test_a_grip_that_is_off_by_all_of_it() -> None:
    assert grip_error(np.ones(30), np.zeros(30), ALL) == 1
    assert grip_error(np.ones(30), np.where(np.arange(30) < 10, 1.0, 0.0), np.arange(30) < 20) == 0.5


def test_shapes_must_fit() -> None:
    with pytest.raises(InvalidValueError, match="must fit"):
        path_reward(np.zeros((30, 3)), np.zeros((30, 3)), np.ones(29, bool))
