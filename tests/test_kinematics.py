"""Forward kinematics against MuJoCo's own."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from envs.arm import Arm
from envs.kinematics import Chain, chain
from envs.scene import Scene


def standing() -> tuple[Arm, mujoco.MjModel, mujoco.MjData, Chain]:
    """An arm that stands somewhere, MuJoCo's model and data of it, and its chain."""
    arm, scene = Arm("panda", pos=(0.1, -0.2, 0.3)), Scene("arenas/tabletop.xml")
    arm.attach(scene)
    model = scene.spec.compile()
    return arm, model, mujoco.MjData(model), Chain(arm, model)


def move(arm: Arm, model: mujoco.MjModel, data: mujoco.MjData, angles: NDArray[np.float64]) -> None:
    """Let MuJoCo's arm stand at joint angles (dof,), rad."""
    for name, angle in zip(arm.joints, angles, strict=True):
        data.joint(f"{arm.name}/{name}").qpos = angle
    mujoco.mj_kinematics(model, data)


def test_the_tool_is_where_mujoco_has_it() -> None:
    arm, model, data, found = standing()
    angles = np.random.default_rng(0).uniform(-1.5, 1.5, (4, 5, arm.dof))
    position, rotation = found.tool(angles)
    for index in np.ndindex(4, 5):
        move(arm, model, data, angles[index])
        np.testing.assert_allclose(position[index], data.site(arm.tool).xpos, atol=1e-12)
        np.testing.assert_allclose(rotation[index], data.site(arm.tool).xmat.reshape(3, 3), atol=1e-12)


def test_the_tool_moves_with_each_joint_as_mujoco_says() -> None:
    arm, model, data, found = standing()
    angles = np.random.default_rng(1).uniform(-1.5, 1.5, (3, 2, arm.dof))
    jacobians, full = found.jacobian(angles), np.zeros((6, model.nv))
    columns = [int(model.joint(f"{arm.name}/{name}").dofadr[0]) for name in arm.joints]
    for index in np.ndindex(3, 2):
        move(arm, model, data, angles[index])
        mujoco.mj_comPos(model, data)
        mujoco.mj_jacSite(model, data, full[:3], full[3:], model.site(arm.tool).id)
        np.testing.assert_allclose(jacobians[index], full[:, columns], atol=1e-12)


@given(st.integers(0, 2**32 - 1))
def test_a_displaced_tool_is_elsewhere_and_turned_as_before(seed: int) -> None:
    rng, panda = np.random.default_rng(seed), chain("panda")
    rest = np.array([0.0, -0.3, 0.0, -2.2, 0.0, 1.9, 0.8])
    angles, by = rest + rng.uniform(-0.3, 0.3, (5, 7)), rng.uniform(-0.03, 0.03, (5, 3))
    (before, upright), (after, turned) = (panda.tool(q) for q in (angles, panda.displaced(angles, by)))
    assert np.abs(after - before - by).max() < 0.004
    assert np.abs(turned - upright).max() < 0.03
    np.testing.assert_array_equal(panda.displaced(angles, np.zeros((5, 3))), angles)
    stretched = panda.displaced(np.zeros((1, 7)), np.array([[0, 0, 0.05]]))  # straight up, it can go no higher
    assert np.abs(stretched).max() < 1


def test_another_number_of_joints_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="has 7 joints"):
        chain("panda").tool(np.zeros((2, 6)))
