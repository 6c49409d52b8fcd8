"""Laws of the batch: it equals a loop, it can go back in time, and one simulation's disaster is its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.errors import InvalidValueError, UnknownNameError
from envs.env import BatchEnv
from envs.physics import Physics
from envs.render import PROFILES, Renderer, View
from envs.scene import Scene

PENDULUM = """
<mujoco>
  <option timestep="0.004"><flag autoreset="disable"/></option>
  <size nuserdata="2"/>
  <worldbody>
    <camera name="eye" pos="0 -2 0.5" xyaxes="1 0 0 0 0 1"/>
    <geom name="floor" type="plane" size="3 3 0.1" pos="0 0 -1"/>
    <body name="arm" pos="0 0 1"><joint name="hinge" axis="0 1 0"/>
      <geom name="rod" type="capsule" fromto="0 0 0 0 0 -0.5" size="0.05" rgba="1 0 0 1"/>
      <body name="fore" pos="0 0 -0.5"><joint name="slide" type="slide" axis="1 0 0" damping="1"/>
        <geom name="weight" type="sphere" size="0.1"/><site name="tip" pos="0 0.1 -0.2"/></body></body>
    <body name="cube" pos="1 0 -0.85"><freejoint name="free"/><geom name="box" type="box" size="0.1 0.1 0.1"/></body>
    <body name="hand" mocap="true"><geom type="sphere" size="0.02" contype="0" conaffinity="0"/></body>
  </worldbody>
  <actuator><motor name="motor" joint="hinge" gear="2"/><intvelocity name="servo" joint="slide" kp="5"/></actuator>
</mujoco>
"""
MODEL = mujoco.MjModel.from_xml_string(PENDULUM)
MEMORY = {"goal": slice(0, 1), "count": slice(1, 2)}
controls = st.lists(st.floats(-3, 3), min_size=4, max_size=4)


def physics(n: int = 3, threads: int = 0) -> Physics:
    return Physics(MODEL, n, MEMORY, threads)


@settings(max_examples=20, deadline=None)
@given(first=controls, second=controls, threads=st.integers(1, 3))
def test_a_batch_equals_a_loop(first: list[float], second: list[float], threads: int) -> None:
    batch = physics(4, threads)
    loop = [mujoco.MjData(MODEL) for _ in range(4)]
    for motor, servo in ((first, second), (second, first)):
        batch.ctrl[:, 0], batch.ctrl[:, 1] = motor, servo
        assert not batch.step(6).any()
        for i, data in enumerate(loop):
            data.ctrl[:] = motor[i], servo[i]
            for _ in range(6):
                mujoco.mj_step(MODEL, data)
            mujoco.mj_kinematics(MODEL, data)  # the batch's positions are those of the new state
            np.testing.assert_array_equal(batch.all_qpos[i], data.qpos)
            np.testing.assert_array_equal(batch.all_qvel[i], data.qvel)
            np.testing.assert_array_equal(batch.site_xpos("tip")[i], data.site("tip").xpos)
            np.testing.assert_array_equal(batch.xquat("cube")[i], data.body("cube").xquat)


@settings(max_examples=20, deadline=None)
@given(first=controls, steps=st.integers(0, 5))
def test_a_snapshot_has_the_same_future(first: list[float], steps: int) -> None:
    batch, other = physics(4), physics(4)
    batch.ctrl[:, 0] = first
    batch.field("geom_rgba")[1, 1] = (0, 1, 0, 1)
    for _ in range(steps):
        batch.step(3)
    saved = batch.snapshot()
    other.restore(saved)
    np.testing.assert_array_equal(batch.field("geom_rgba"), other.field("geom_rgba"))
    for _ in range(3):
        batch.step(3)
        other.step(3)
        np.testing.assert_array_equal(batch.batch.state, other.batch.state)
        np.testing.assert_array_equal(batch.site_xpos("tip"), other.site_xpos("tip"))


def test_some_simulations_can_be_restored_without_the_others() -> None:
    batch = physics(3)
    batch.ctrl[:, 0] = (1, 2, 3)
    batch.step(5)
    saved = batch.snapshot(np.array([2]))
    batch.step(5)
    kept = batch.batch.state[[0, 1]].copy()
    batch.restore(saved, np.array([2]))
    np.testing.assert_array_equal(batch.batch.state[[0, 1]], kept)
    np.testing.assert_array_equal(batch.batch.state[[2]], saved["state"])


def test_a_snapshot_of_another_model_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"the snapshot's state has shape \(3, \d+\), this model needs \(2, "):
        physics(2).restore(physics(3).snapshot())


@settings(max_examples=30, deadline=None)
@given(angles=st.lists(st.floats(-1.5, 1.5), min_size=2, max_size=2))
def test_the_jacobian_is_the_derivative(angles: list[float]) -> None:
    batch = physics(2)
    hinge = np.array([batch.id("joint", "hinge")])
    batch.qpos("hinge")[:, 0] = angles
    batch.forward()
    here, jacobian = batch.site_xpos("tip").copy(), batch.jacobian("tip", hinge)
    rotation = batch.site_xmat("tip").copy()
    batch.qpos("hinge")[:] += 1e-6
    batch.forward()
    np.testing.assert_allclose((batch.site_xpos("tip") - here) / 1e-6, jacobian[:, :3, 0], atol=1e-5)
    spin = (batch.site_xmat("tip") @ rotation.swapaxes(1, 2) - np.eye(3)) / 1e-6
    np.testing.assert_allclose(spin[:, [2, 0, 1], [1, 2, 0]], jacobian[:, 3:, 0], atol=1e-5)


def test_a_joint_that_does_not_carry_the_site_has_no_effect() -> None:
    model = mujoco.MjModel.from_xml_string(
        "<mujoco><worldbody><body name='a'><joint name='ja'/><geom size='.1'/><site name='s' pos='1 0 0'/></body>"
        "<body name='b'><joint name='jb'/><geom size='.1'/></body></worldbody></mujoco>"
    )
    batch = Physics(model, 1)
    jacobian = batch.jacobian("s", np.array([batch.id("joint", "ja"), batch.id("joint", "jb")]))
    np.testing.assert_allclose(jacobian[0, :, 0], [0, 1, 0, 0, 0, 1])
    np.testing.assert_array_equal(jacobian[0, :, 1], 0)


def test_memory_and_mocap_are_part_of_the_state() -> None:
    batch = physics(2)
    batch.memory("goal")[:] = [[4], [5]]
    batch.mocap_pos("hand")[1] = (1, 2, 3)
    saved = batch.snapshot()
    batch.reset()
    assert not batch.memory("goal").any()
    batch.restore(saved)
    assert batch.memory("goal").ravel().tolist() == [4, 5]
    np.testing.assert_array_equal(batch.xpos("hand")[1], (1, 2, 3))


UNKNOWN = [
    (lambda p: p.xpos("arms"), "unknown body 'arms': did you mean 'arm'?"),
    (lambda p: p.qpos("hinges"), "unknown joint 'hinges': did you mean 'hinge'?"),
    (lambda p: p.memory("goals"), "unknown memory slot 'goals': did you mean 'goal'?"),
    (lambda p: p.mocap_pos("arm"), "unknown mocap body 'arm'"),
    (lambda p: p.act("motor"), "unknown actuator with activation 'motor'"),
    (lambda p: p.field("geom_rbga"), "unknown model field 'geom_rbga': did you mean 'geom_rgba'?"),
]


@pytest.mark.parametrize(("ask", "sentence"), UNKNOWN, ids=[s for _, s in UNKNOWN])
def test_unknown_names_are_told_with_the_near_miss(ask: Any, sentence: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        ask(physics())
    assert str(caught.value).startswith(sentence)
    assert "available: " in str(caught.value)


def test_a_physics_needs_a_simulation() -> None:
    with pytest.raises(InvalidValueError, match="number of simulations must be >= 1, got -2"):
        physics(-2)


# -- divergence --------------------------------------------------------------------------------------------------------

POISON = {"nan": np.nan, "inf": np.inf, "huge": 1e200}


@pytest.mark.parametrize("poison", POISON)
def test_a_diverging_simulation_ends_alone(poison: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes its warnings to MUJOCO_LOG.TXT here

    def batch_of_four() -> BatchEnv:
        return BatchEnv("envs.tasks.arm.reach:Reach", 4, observe=(), autoreset_mode="next_step", dump_folder=tmp_path / "dump")

    env, undisturbed = batch_of_four(), batch_of_four()
    env.reset(seed=5)
    undisturbed.reset(seed=5)
    actions = np.random.default_rng(0).uniform(-1, 1, (4, *env.action_space.shape)).astype(np.float32)
    others = [0, 1, 3]
    for k, action in enumerate(actions):
        if k == 1:
            env.physics.all_qvel[2] = POISON[poison]
            with pytest.warns(UserWarning, match="simulation 2 diverged at step 1 .seed 5.; its episode ends"):
                obs, reward, terminated, truncated, info = env.step(action)
        else:
            obs, reward, terminated, truncated, info = env.step(action)
        expected = undisturbed.step(action)
        assert info["physics_error"].tolist() == [False, False, k == 1, False]
        assert terminated.tolist() == [False, False, k == 1, False]
        assert not truncated.any()
        assert all(np.isfinite(value).all() for value in obs.values())
        assert np.isfinite(reward).all()
        np.testing.assert_array_equal(env.physics.batch.state[others], undisturbed.physics.batch.state[others])
        np.testing.assert_array_equal(reward[others], expected[1][others])
    assert info["timing"]["step"].tolist() == [4, 4, 1, 4]  # it started again and goes on

    (file,) = (tmp_path / "dump").iterdir()
    assert file.name == "physics_error_seed5_sim2_step1.npz"
    with np.load(file, allow_pickle=False) as dump:
        assert set(dump) == {"state", "action", "ctrl", "spec"}
        np.testing.assert_array_equal(dump["action"], actions[1][2])
        data = mujoco.MjData(env.physics.model)
        mujoco.mj_setState(env.physics.model, data, dump["state"], mujoco.mjtState.mjSTATE_INTEGRATION.value)
        np.testing.assert_array_equal(data.qvel, np.full_like(data.qvel, POISON[poison]))


def test_same_step_reports_the_divergence_as_the_episodes_last_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    env = BatchEnv("envs.tasks.arm.reach:Reach", 2, observe=(), autoreset_mode="same_step")
    env.reset(seed=0)
    env.physics.all_qvel[1] = np.nan
    with pytest.warns(UserWarning, match="simulation 1 diverged"):
        *_, terminated, _, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert terminated.tolist() == [False, True]
    assert info["physics_error"].tolist() == [False, False]
    assert info["final_info"]["physics_error"].tolist() == [False, True]
    assert info["_final_info"].tolist() == [False, True]


# -- fields per simulation ---------------------------------------------------------------------------------------------


def test_an_expanded_field_changes_that_simulation_only() -> None:
    batch = physics(3)
    view = View("eye", "eye", 32, 32)
    renderer = Renderer(batch, PROFILES["fast"], 32, 32)
    before = renderer.draw([view])["eye", "rgb"]
    batch.field("geom_rgba")[1, batch.id("geom", "rod")] = (0, 0, 1, 1)
    after = renderer.draw([view])["eye", "rgb"]
    renderer.close()
    changed = (before != after).any(axis=(1, 2, 3))
    assert changed.tolist() == [False, True, False]


def test_a_heavier_body_swings_differently_alone() -> None:
    batch, plain = physics(2), physics(2)
    batch.field("body_mass")[1, batch.id("body", "fore")] *= 3
    batch.set_const()
    for p in (batch, plain):
        p.ctrl[:, 0] = 1
        p.step(20)
    same = (batch.qpos("hinge") == plain.qpos("hinge"))[:, 0]
    assert same.tolist() == [True, False]


def test_randomised_light_is_per_simulation_and_comes_back() -> None:
    def make() -> BatchEnv:
        return BatchEnv("envs.tasks.eye.search:EyeSearch", 3, observe=("eye_2",), image_size=16, randomise_light=True)

    env, other = make(), make()
    _, info = env.reset(seed=0)
    strengths = info["start"]["light"]
    assert len(set(strengths)) == 3
    assert ((strengths >= 0.6) & (strengths <= 1.2)).all()
    light = env.physics.field("light_diffuse")
    np.testing.assert_allclose(light[:, 0], env.physics.model.light_diffuse[0] * strengths[:, None], rtol=1e-6)
    saved = env.snapshot()
    other.reset(seed=9)
    for key, pixels in other.restore(saved).items():
        np.testing.assert_array_equal(pixels, env.restore(saved)[key])
    np.testing.assert_array_equal(other.physics.field("light_diffuse"), light)
    bright = make()
    dim = bright.reset(seed=0, options={"light": 0.6})[0]["eye_2"].mean()
    assert bright.reset(seed=0, options={"light": 1.2})[0]["eye_2"].mean() > dim + 2
    for e in (env, other, bright):
        e.close()


# -- scenes ------------------------------------------------------------------------------------------------------------


def test_parts_are_addressed_under_their_prefix() -> None:
    scene = Scene("arenas/tabletop.xml")
    scene.attach("props/mug.xml", "a", (0.3, 0, 0), joint="free")
    scene.attach("props/mug.xml", "b", (0.5, 0, 0), joint="mocap")
    batch = scene.compile(2)
    np.testing.assert_allclose(batch.xpos("a/root")[0], (0.3, 0, 0))
    assert batch.qpos("a/free").shape == (2, 7)
    batch.mocap_pos("b/root")[1] = (0, 0, 1)
    batch.forward()
    np.testing.assert_allclose(batch.xpos("b/root")[1], (0, 0, 1))


def test_scenes_refuse_what_they_cannot_do() -> None:
    scene = Scene("arenas/tabletop.xml")
    scene.attach("props/mug.xml", "mug")
    scene.memory("held")
    with pytest.raises(InvalidValueError, match=r"the prefix 'mug' is taken; prefixes in this scene: \['mug'\]"):
        scene.attach("props/mug.xml", "mug")
    with pytest.raises(UnknownNameError, match="unknown joint 'fre': did you mean 'free'"):
        scene.attach("props/mug.xml", "other", joint="fre")  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=r"memory slot 'held' exists already; slots: \['held'\]"):
        scene.memory("held")
    with pytest.raises(InvalidValueError, match="needs a size >= 1, got -1"):
        scene.memory("more", -1)
    rootless = mujoco.MjSpec.from_string("<mujoco><worldbody><body name='base'/></worldbody></mujoco>")
    with pytest.raises(UnknownNameError, match="unknown body 'root': available: base, world"):
        scene.attach(rootless, "part", joint="free")
