"""What a unit of action does, in metres, radians and degrees per second."""

from __future__ import annotations

import numpy as np
import pytest

from assets.errors import UnknownNameError
from envs.actions import ToolDelta
from envs.env import BatchEnv

REACH, SEARCH, DOOR = "envs.tasks.arm.reach:Reach", "envs.tasks.eye.search:EyeSearch", "envs.tasks.arm.door:DoorOpen"


def settle(env: BatchEnv, action: np.ndarray, steps: int, rest: int = 12) -> None:
    for _ in range(steps):
        env.step(action)
    still = np.zeros_like(action)
    if "gripper" in env.action_slices:
        still[:, env.action_slices["gripper"]] = action[:, env.action_slices["gripper"]]
    for _ in range(rest):
        env.step(still)


def test_a_tool_step_is_three_centimetres_along_its_axis() -> None:
    env = BatchEnv(REACH, 6, observe=())
    env.reset(seed=0, options={"joints": env.task.arm.home})
    rotation = env.physics.site_xmat("arm/tcp").copy()
    before = env.task.arm.tool_pos(env.physics).copy()
    ways = np.concatenate([np.eye(3), -np.eye(3)])
    action = np.zeros(env.action_space.shape, np.float32)
    action[:, env.action_slices["arm"]] = ways
    settle(env, action, 3)
    np.testing.assert_allclose(env.task.arm.tool_pos(env.physics) - before, 0.09 * ways, atol=0.015)
    turned = np.arccos(np.clip((np.einsum("nij,nij->n", rotation, env.physics.site_xmat("arm/tcp")) - 1) / 2, -1, 1))
    assert (np.degrees(turned) < 3).all()


def test_a_turn_is_about_the_vertical_and_hardly_moves_the_tool() -> None:
    env = BatchEnv(DOOR, 2, observe=())
    env.reset(seed=0, options={"joints": env.task.arm.home})
    before, place = env.physics.site_xmat("arm/tcp")[:, :, 2].copy(), env.task.arm.tool_pos(env.physics).copy()
    np.testing.assert_allclose(before, [[1, 0, 0]] * 2, atol=1e-3)  # the hand is level and points at the cabinet
    np.testing.assert_allclose(np.abs(env.physics.site_xmat("arm/tcp")[:, :, 1]), [[0, 1, 0]] * 2, atol=1e-3)
    action = np.zeros(env.action_space.shape, np.float32)
    action[:, env.action_slices["arm"]] = [[0, 0, 0, 1], [0, 0, 0, -1]]
    settle(env, action, 3)
    yaw = np.arctan2(env.physics.site_xmat("arm/tcp")[:, 1, 2], env.physics.site_xmat("arm/tcp")[:, 0, 2])
    np.testing.assert_allclose(yaw, [0.36, -0.36], atol=0.15)  # a loaded wrist lags behind its set-points
    np.testing.assert_allclose(env.task.arm.tool_pos(env.physics), place, atol=0.05)


def test_a_joint_step_is_a_tenth_of_a_radian_and_stays_in_range() -> None:
    env = BatchEnv(REACH, 7, observe=(), control="joint")
    env.reset(seed=0, options={"joints": env.task.arm.home})
    action = np.zeros(env.action_space.shape, np.float32)
    action[:, env.action_slices["arm"]] = np.eye(7)
    settle(env, action, 1)
    np.testing.assert_allclose(env.task.arm.qpos(env.physics) - env.task.arm.home, 0.1 * np.eye(7), atol=0.01)
    for _ in range(80):
        env.step(action)
    low, high = env.physics.model.jnt_range[[env.physics.id("joint", f"arm/joint{k}") for k in range(1, 8)]].T
    assert (env.physics.ctrl[:, :7] <= high + 1e-9).all()
    assert (env.physics.ctrl[:, :7] >= low - 1e-9).all()


def test_set_points_do_not_wind_up() -> None:
    env = BatchEnv(REACH, 1, observe=(), control="joint")
    env.reset(seed=0)
    action = np.ones(env.action_space.shape, np.float32)
    for _ in range(30):
        env.step(action)
        assert (np.abs(env.physics.ctrl[:, :7] - env.task.arm.qpos(env.physics)) < 0.31 + 0.1).all()


def test_the_gripper_opens_and_closes() -> None:
    env = BatchEnv(REACH, 2, observe=())
    env.reset(seed=0)
    action = np.zeros(env.action_space.shape, np.float32)
    action[:, env.action_slices["gripper"]] = [[1], [-1]]
    settle(env, action, 12, 0)
    opening = (env.physics.qpos("arm/finger_joint1") + env.physics.qpos("arm/finger_joint2"))[:, 0]
    np.testing.assert_allclose(opening, [0.08, 0.0], atol=0.003)


def test_full_gaze_is_the_speed_limit_and_stops_at_the_range() -> None:
    env = BatchEnv(SEARCH, 4, observe=())
    env.reset(seed=0, options={"gaze": [0.0, 0.0]})
    action = np.array([[1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)
    fastest = np.zeros(4)
    for _ in range(30):
        *_, info = env.step(action)
        fastest = np.maximum(fastest, np.abs(np.degrees(info["state"]["gaze_velocity"])).max(axis=1))
    assert (fastest > 140).all()
    assert (fastest < 165).all()  # 150 degrees per second, and a tenth
    np.testing.assert_allclose(np.degrees(info["state"]["gaze"]), [[130, 0], [-130, 0], [0, 30], [0, -30]], atol=1.0)


def test_actions_beyond_one_are_cut() -> None:
    a, b = BatchEnv(SEARCH, 1, observe=()), BatchEnv(SEARCH, 1, observe=())
    a.reset(seed=0)
    b.reset(seed=0)
    np.testing.assert_array_equal(a.step(np.full((1, 2), 9.0))[0]["gaze"], b.step(np.ones((1, 2)))[0]["gaze"])


def test_unknown_control_is_told() -> None:
    with pytest.raises(UnknownNameError, match="unknown control 'tol': did you mean 'tool'"):
        BatchEnv(REACH, 1, observe=(), control="tol")


def test_a_tool_part_has_a_turn_only_where_asked() -> None:
    arm = BatchEnv(REACH, 1, observe=()).task.arm
    assert ToolDelta(arm).size == 3
    assert ToolDelta(arm, turn=0.1).size == 4
