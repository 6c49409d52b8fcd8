"""Forward kinematics against MuJoCo's own."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from assets.errors import InvalidValueError
from envs.arm import Arm
from envs.kinematics import Chain, chain
from envs.scene import Scene


def test_the_tool_is_where_mujoco_has_it() -> None:
    arm, scene = Arm("panda", pos=(0.1, -0.2, 0.3)), Scene("arenas/tabletop.xml")
    arm.attach(scene)
    model = scene.spec.compile()
    data, found = mujoco.MjData(model), Chain(arm, model)
    angles = np.random.default_rng(0).uniform(-1.5, 1.5, (4, 5, arm.dof))
    position, rotation = found.tool(angles)
    for index in np.ndindex(4, 5):
        for name, angle in zip(arm.joints, angles[index], strict=True):
            data.joint(f"{arm.name}/{name}").qpos = angle
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(position[index], data.site(arm.tool).xpos, atol=1e-12)
        np.testing.assert_allclose(rotation[index], data.site(arm.tool).xmat.reshape(3, 3), atol=1e-12)


def test_another_number_of_joints_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="has 7 joints"):
        chain("panda").tool(np.zeros((2, 6)))
