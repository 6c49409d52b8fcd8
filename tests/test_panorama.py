"""The panoramic tasks: where things lie, how the arm goes along its arc, what moves by itself, what counts as done."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assets.errors import InvalidValueError
from envs.env import BatchEnv
from envs.tasks.eye.estop import BUTTON, HOVER, SPEED, EStop
from envs.tasks.eye.panorama import Panorama, approach, polar
from envs.tasks.eye.pick import folded, missing, shut
from envs.tasks.eye.towel import unseen
from envs.upright import upright, yaw_of

PICKING = {
    "eraser:EraserStand": "eraser", "brush:BrushHandoff": "brush", "screwdriver:ScrewdriverReorient": "screwdriver",
    "towel:TowelBucket": "towel",
}  # fmt: skip


def make(name: str, num_envs: int, **options: Any) -> BatchEnv:
    steps = 150 if "estop" in name else 300
    return BatchEnv(
        f"envs.tasks.eye.{name}", num_envs=num_envs, autoreset_mode="disabled", max_episode_steps=steps, observe=[], **options
    )


def play(env: BatchEnv, steps: int, seed: int = 0) -> list[dict[str, Any]]:
    """States and success of the oracle's episode, the start first."""
    _, info = env.reset(seed=seed)
    out = [info]
    for _ in range(steps):
        *_, info = env.step(env.oracle())
        out.append(info)
    return out


@given(st.floats(0.2, 0.9), st.floats(-2, 2), st.floats(0, 0.6))
def test_polar_is_what_it_says(radius: float, azimuth: float, height: float) -> None:
    point = np.array([[radius * np.cos(azimuth), radius * np.sin(azimuth), height]])
    np.testing.assert_allclose(polar(point), [[radius, azimuth, height]], atol=1e-9)


@given(st.floats(-10, 10), st.integers(-3, 3))
def test_a_direction_without_a_front_is_folded(angle: float, turns: int) -> None:
    assert abs(folded(np.array(angle))) <= np.pi / 2 + 1e-9
    assert np.isclose(np.cos(2 * folded(np.array(angle + turns * np.pi))), np.cos(2 * angle), atol=1e-6)


@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.floats(-0.7, 0.7), st.floats(-0.7, 0.7))
def test_the_missing_turn_leaves_out_what_the_way_along_the_arc_turns(here: float, there: float, a: float, b: float) -> None:
    at, where = (np.array([[np.cos(x), np.sin(x), 0]]) for x in (here, there))
    turn = missing(np.array([here + a]), at, np.array([there + b]), where)
    np.testing.assert_allclose(turn, folded(np.array([b - a])), atol=1e-9)


@given(st.floats(-3.1, 3.1))
def test_yaw_is_read_off_a_quaternion(angle: float) -> None:
    np.testing.assert_allclose(upright(np.array([angle])), [[np.cos(angle / 2), 0, 0, np.sin(angle / 2)]], atol=1e-9)
    np.testing.assert_allclose(yaw_of(upright(np.array([angle]))), [angle], atol=1e-9)


def test_a_thing_is_held_by_less_than_it_is_wide() -> None:
    assert shut(0.0) == -1
    assert -1 < shut(0.049) < 2 * 0.049 / 0.08 - 1


def test_the_way_to_a_goal_never_leads_through_the_back() -> None:
    tool = np.array([[0.5 * np.cos(1.7), 0.5 * np.sin(1.7), 0.3]])
    goal = np.array([[0.5 * np.cos(-1.7), 0.5 * np.sin(-1.7), 0.1]])
    assert approach(tool, goal)[0, 1] == -1  # to the right, over the front
    low = approach(tool * [1, 1, 0.1], goal)
    assert low[0, 0] == low[0, 1] == 0  # first of all, up
    assert low[0, 2] > 0


def test_things_lie_apart_on_the_arc_and_distractors_are_others() -> None:
    env = make("eraser:EraserStand", 64, distractors=4)
    _, info = env.reset(seed=0)
    start = info["start"]
    azimuth = np.sort(start["azimuth"], axis=1)
    assert np.abs(azimuth).max() <= Panorama.arc / 2 + 1e-9
    assert np.diff(azimuth, axis=1).min() >= Panorama.separation - 1e-9
    assert Panorama.radius[0] <= start["radius"].min() <= start["radius"].max() <= Panorama.radius[1]
    task = env.task
    assert isinstance(task, Panorama)
    assert not {p.name for p in task.others} & {"eraser", "stand"}
    thing = info["state"]["thing"]
    np.testing.assert_allclose(np.hypot(thing[:, 0], thing[:, 1]), start["radius"][:, 0], atol=1e-6)
    np.testing.assert_allclose(np.arctan2(thing[:, 1], thing[:, 0]), start["azimuth"][:, 0], atol=1e-6)
    env.close()


def test_the_tool_keeps_its_heading_along_the_arc() -> None:
    env = make("estop:EStop", 16)
    env.reset(seed=0)
    action = np.zeros((16, 7), np.float32)
    action[:, 3] = np.linspace(-1, 1, 16)  # left along the arc, at sixteen speeds
    task = env.task
    assert isinstance(task, Panorama)

    def heading() -> np.ndarray:
        axis = env.physics.site_xmat(task.arm.tool)[:, :, 1]
        return np.unwrap(np.arctan2(axis[:, 1], axis[:, 0]))

    turned, azimuth = heading(), polar(task.arm.tool_pos(env.physics))[:, 1]
    for _ in range(15):
        env.step(action)
    after = polar(task.arm.tool_pos(env.physics))
    np.testing.assert_allclose(folded(heading() - turned - (after[:, 1] - azimuth)), 0, atol=0.05)
    assert np.ptp(after[:, 1]) > 1.5
    assert np.abs(after[:, 2] - after[0, 2]).max() < 0.03
    env.close()


def test_the_button_leaves_once_and_goes_as_far_and_as_fast_as_drawn() -> None:
    env = make("estop:EStop", 32)
    told = play(env, 130)
    button = np.stack([info["state"]["button"] for info in told])
    azimuth = np.arctan2(button[..., 1], button[..., 0])
    start = told[0]["start"]
    np.testing.assert_allclose(azimuth[-1] - azimuth[0], start["goes"], atol=1e-6)
    assert np.abs(np.diff(azimuth, axis=0)).max() <= SPEED / 15 + 1e-6
    first = np.argmax(np.abs(azimuth - azimuth[0]) > 1e-9, axis=0) / 15
    assert np.all((first - start["leaves"] >= -1e-6) & (first - start["leaves"] <= 2 / 15))
    assert np.abs(azimuth).max() <= Panorama.arc / 2 + 1e-6
    np.testing.assert_allclose(np.hypot(button[-1, :, 0], button[-1, :, 1]), start["radius"][:, 0], atol=1e-6)
    early = np.stack([info["success"] for info in told])[: (4 * 15)]
    assert not early.any()  # what is held before it has moved does not count
    env.close()


def test_the_distance_is_to_the_point_above_the_button() -> None:
    env = make("estop:EStop", 8)
    last = play(env, 150)[-1]["state"]
    np.testing.assert_allclose(last["distance"], np.linalg.norm(last["tool"] - last["button"] - [0, 0, HOVER], axis=1))
    assert last["distance"].max() < 0.01
    assert isinstance(env.task, EStop)
    np.testing.assert_allclose(last["button"][:, 2], BUTTON[2])
    env.close()


@pytest.mark.parametrize("name", PICKING)
def test_progress_and_phases_go_from_nothing_to_done(name: str) -> None:
    env = make(name, 12)
    told = play(env, 300)
    progress = np.stack([info["state"]["progress"] for info in told])
    phase = np.stack([info["state"]["phase"] for info in told])
    success = np.stack([info["success"] for info in told])
    assert np.all(progress[0] == 0)
    assert np.all(phase[0] == 0)
    assert np.all(np.diff(progress, axis=0) >= 0)
    assert set(np.unique(progress)) <= {0, 0.25, 0.5, 0.75, 1}
    assert success[-1].mean() >= 0.9
    assert np.all(progress[-1][success[-1]] == 1)
    for k in np.flatnonzero(success[-1]):
        seen = list(dict.fromkeys(phase[:, k].tolist()))
        assert seen[:2] == [0, 1]
        assert 2 in seen
        assert phase[-1, k] == 3
    env.close()


@pytest.mark.parametrize("name", PICKING)
def test_nothing_is_done_while_nothing_is_done(name: str) -> None:
    env = make(name, 8)
    env.reset(seed=0)
    first = env.step(np.zeros((8, 7), np.float32))[-1]["state"]["thing"]
    for _ in range(60):
        *_, info = env.step(np.concatenate([np.zeros((8, 6)), np.ones((8, 1))], axis=1).astype(np.float32))
    assert not info["success"].any()
    np.testing.assert_allclose(info["state"]["thing"], first, atol=0.004)  # it neither sinks, creeps nor jumps
    env.close()


@pytest.mark.parametrize("name", ["eraser:EraserStand", "screwdriver:ScrewdriverReorient"])
def test_a_goal_that_moves_is_followed(name: str) -> None:
    env = make(name, 24, perturb=True)
    told = play(env, 300)
    goal = np.stack([info["state"]["goal"] for info in told])
    azimuth = np.arctan2(goal[..., 1], goal[..., 0])
    moved = np.abs(azimuth[-1] - azimuth[0])
    assert np.all((moved > np.radians(20) - 1e-6) & (moved < np.radians(40) + 1e-6))
    lifted = np.stack([info["state"]["progress"] for info in told]) >= 0.5
    assert np.allclose(azimuth[~lifted[:, 0], 0], azimuth[0, 0])  # it stands until the thing is lifted
    assert told[-1]["success"].mean() >= 0.9
    env.close()


@pytest.mark.parametrize("name", ["estop:EStop", "eraser:EraserStand"])
def test_joints_can_be_driven_instead(name: str) -> None:
    env = make(name, 16, control="joint")
    assert env.single_action_space.shape == (10,)
    assert play(env, env.max_episode_steps)[-1]["success"].mean() >= 0.9
    env.close()


# How the arm is driven, and whether the goal moves: what a learned hand is shown, and both variants together.
VARIANTS: dict[str, dict[str, Any]] = {
    "joint": {"control": "joint"}, "perturbed": {"perturb": True}, "joint, perturbed": {"control": "joint", "perturb": True},
}  # fmt: skip


EXPERTS = [(name, how) for name in ("estop:EStop", *PICKING) for how in VARIANTS if name in PICKING or how == "joint"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "variant"), EXPERTS)
def test_experts_rarely_fail(name: str, variant: str) -> None:
    env = make(name, 100, **VARIANTS[variant])
    succeeded = np.any([info["success"] for info in play(env, env.max_episode_steps)], axis=0)
    env.close()
    print(f"{name}, {variant}: {succeeded.mean():.0%}")
    assert succeeded.mean() >= 0.95, f"seeds that failed: {np.flatnonzero(~succeeded).tolist()}"


def test_the_towel_droops_when_it_is_lifted() -> None:
    env = make("towel:TowelBucket", 4)
    told = play(env, 300)
    carried = [k for k, info in enumerate(told) if np.all(info["state"]["thing"][:, 2] > 0.15)]
    assert carried or any((info["state"]["thing"][:, 2] > 0.15).any() for info in told)
    env.reset(seed=0)
    lying = env.physics.qpos("towel/left")[:, 0].copy()
    for _ in range(75):
        env.step(env.oracle())
    hanging = env.physics.qpos("towel/left")[:, 0]
    high = env.physics.qpos("towel/free")[:, 2] > 0.15
    assert high.any()
    assert np.all(hanging[high] < lying[high] - 0.4)
    env.close()


def test_a_towel_in_its_bucket_is_hidden_and_what_lies_around_is_not() -> None:
    env = BatchEnv("envs.tasks.eye.towel:TowelBucket", 4, observe=())
    env.reset(seed=0)
    there = {phrase: np.isfinite(direction[:, 0]) for phrase, direction in env.sights().items()}
    for phrase, seen in env.visible().items():
        np.testing.assert_array_equal(seen, there[phrase], err_msg=phrase)  # the arm stands in nobody's way
    goal = env.physics.mocap_pos("bucket/root") + np.array([0, 0, 0.05])
    env.physics.qpos("towel/free")[:, :3] = goal
    env.physics.forward()
    assert not env.visible()["the cyan towel"].any()
    assert env.visible()["the orange bucket"].all()
    env.close()


def test_neither_towel_nor_bucket_is_in_view_at_first() -> None:
    env = BatchEnv("envs.tasks.eye.towel:TowelBucket", 64, observe=())
    obs, _ = env.reset(seed=0)
    for thing in ("the cyan towel", "the orange bucket"):
        assert (np.abs(env.sights()[thing][:, 0] - obs["gaze"][:, 0]) > np.radians(116.1 / 2)).all()
    assert np.ptp(obs["gaze"][:, 0]) > np.radians(180)
    env.close()


def test_of_all_azimuths_that_show_nothing_any_can_be_the_first_and_else_the_farthest() -> None:
    things, chosen = np.radians([[0.0, 0.0], [0.0, 0.0], [-65.0, 65.0]]), np.array([0.0, 0.999, 0.5])
    found = np.degrees(unseen(things, chosen, np.radians(66), np.radians(130)))
    np.testing.assert_allclose(found, [-130, 130, 0], atol=0.3)
    assert np.degrees(unseen(things[:1], np.array([0.49]), np.radians(66), np.radians(130)))[0] == pytest.approx(-66, abs=2)


def test_refusals() -> None:
    with pytest.raises(InvalidValueError, match=r"distractors must be between 0 and \d, got 30"):
        make("eraser:EraserStand", 1, distractors=30)
