"""What was wrong, what the rule is, what would be right: the sentences that a user meets, word for word."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import envs  # noqa: F401  registers the ids
from assets import AssetNotFoundError
from assets.errors import InvalidValueError, UnknownNameError
from envs.batching import ClosedError, NotResetError
from envs.env import BatchEnv, Env
from envs.tasks.arm.reach import Reach
from envs.tasks.eye.search import EyeSearch

SEARCH, REACH, DOOR = "envs.tasks.eye.search:EyeSearch", "envs.tasks.arm.reach:Reach", "envs.tasks.arm.door:DoorOpen"


def batch(n: int = 2, **kwargs: Any) -> BatchEnv:
    env = BatchEnv(SEARCH, n, **{"observe": (), **kwargs})
    env.reset(seed=0)
    return env


# -- actions -----------------------------------------------------------------------------------------------------------

ACTIONS = [
    (np.full((2, 2), np.nan), "the action must be finite numbers in [-1, 1], got nan"),
    (np.array([[0, 0], [0, np.inf]]), "the action must be finite numbers in [-1, 1], got inf"),
    (np.zeros((2, 3)), "the action has shape (2, 3), this environment needs (2, 2) (eye: 2)"),
    (np.zeros(2), "the action has shape (2,), this environment needs (2, 2) (eye: 2)"),
    (np.zeros((2, 2), bool), "the action has dtype bool, it must be numbers in [-1, 1] (float32)"),
    (np.zeros((2, 2), complex), "the action has dtype complex128, it must be numbers in [-1, 1] (float32)"),
    (np.full((2, 2), "a"), "the action has dtype <U1, it must be numbers in [-1, 1] (float32)"),
]


@pytest.mark.parametrize(("action", "sentence"), ACTIONS, ids=[s[:60] for _, s in ACTIONS])
def test_bad_actions(action: Any, sentence: str) -> None:
    env = batch()
    before = env.snapshot()
    with pytest.raises(InvalidValueError) as caught:
        env.step(action)
    assert str(caught.value) == sentence
    for key, value in env.snapshot().items():  # nothing has moved
        np.testing.assert_array_equal(value, before[key])
    env.step(np.zeros((2, 2)))


def test_a_single_environments_action_is_told_without_the_batch() -> None:
    env = Env(SEARCH, observe=())
    env.reset(seed=0)
    with pytest.raises(InvalidValueError, match=r"the action has shape \(1, 2\), this environment needs \(2,\)"):
        env.step(np.zeros((1, 2), np.float32))


# -- too early, too late -----------------------------------------------------------------------------------------------


def test_stepping_before_reset() -> None:
    env = BatchEnv(SEARCH, 1, observe=(), render_mode="rgb_array")
    with pytest.raises(NotResetError, match=r"step\(\) was called before reset\(\); call reset\(seed=\.\.\.\) once"):
        env.step(np.zeros((1, 2)))
    with pytest.raises(NotResetError, match=r"render\(\) was called before reset\(\)"):
        env.render()
    two = BatchEnv(SEARCH, 2, observe=())
    with pytest.raises(NotResetError, match=r"the first reset\(\) starts every simulation"):
        two.reset(options={"reset_mask": np.array([True, False])})
    with pytest.raises(gym.error.ResetNeeded):  # Gymnasium's own family as well
        env.step(np.zeros((1, 2)))


def test_using_after_close() -> None:
    env = batch(render_mode="rgb_array")
    env.close()
    for use in (lambda: env.step(np.zeros((2, 2))), env.reset, env.render):
        with pytest.raises(ClosedError, match="this environment is closed; make a new one"):
            use()
    assert issubclass(ClosedError, gym.error.ClosedEnvironmentError)
    env.close()


# -- names -------------------------------------------------------------------------------------------------------------

NAMES: list[tuple[dict[str, Any], str]] = [
    ({"render_mode": "rgb"}, "unknown render mode 'rgb': did you mean 'rgb_array'? available: "),
    ({"profile": "fats"}, "unknown render profile 'fats': did you mean 'fast'? available: fast, quality, standard"),
    ({"camera": "frnt"}, "unknown camera 'frnt': did you mean 'front'? available: "),
    ({"observe": ("eye_9",)}, "unknown camera to observe 'eye_9': did you mean 'eye_2'? available: eye_0, eye_1, eye_2"),
    ({"observe": None, "modalities": ("rgbd",)}, "unknown modality 'rgbd': did you mean 'rgb'? available: "),
    ({"autoreset_mode": "same"}, "unknown autoreset mode 'same': did you mean 'same_step'? available: "),
    ({"distractor": 3}, "unknown option of EyeSearch 'distractor': did you mean 'distractors'? available: "),
    ({"image_sise": 3}, "unknown option of EyeSearch 'image_sise': did you mean 'image_size'? available: "),
    ({"projection": "fishy"}, "unknown projection 'fishy': did you mean 'fisheye'? available: fisheye, pinhole"),
]


@pytest.mark.parametrize(("arguments", "sentence"), NAMES, ids=[s[:50] for _, s in NAMES])
def test_unknown_names(arguments: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        BatchEnv(SEARCH, 1, **{"observe": (), **arguments})
    assert str(caught.value).startswith(sentence)


def test_an_unknown_id_is_gymnasiums_own_sentence() -> None:
    with pytest.raises(gym.error.NameNotFound, match=r"Environment `Reech` doesn't exist in namespace Saccade.*Reach"):
        gym.make("Saccade/Reech-v0")


def test_drawing_an_unknown_camera() -> None:
    with pytest.raises(UnknownNameError, match="unknown camera 'topp': did you mean 'top'"):
        batch().draw("topp")


# -- numbers -----------------------------------------------------------------------------------------------------------

NUMBERS: list[tuple[dict[str, Any], str]] = [
    ({"num_envs": 0}, "num_envs must be >= 1, got 0"),
    ({"image_size": -4}, "image_size must be >= 1 pixel, got -4"),
    ({"max_episode_steps": 0}, "max_episode_steps must be >= 1 or None, got 0"),
    ({"width": -1}, "view 'render': width and height must be >= 1, got -1 x 360"),
    ({"distractors": 40}, "distractors must be between 0 and 12, got 40"),
    ({"resolution": 0}, "the eye's resolution must be >= 1 pixel, got 0"),
    ({"fovs": (90, 20)}, "fovs must be degrees inside (0, 180), fovea (smallest) first, got (90, 20)"),
]


@pytest.mark.parametrize(("arguments", "sentence"), NUMBERS, ids=[s[:50] for _, s in NUMBERS])
def test_impossible_numbers(arguments: dict[str, Any], sentence: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a half-made environment must not complain again when it is collected
        with pytest.raises(InvalidValueError) as caught:
            BatchEnv(SEARCH, **{"num_envs": 1, "observe": (), **arguments})
        assert str(caught.value).startswith(sentence.split(" and 12")[0])
        del caught
        gc.collect()


def test_a_control_step_is_whole_physics_steps() -> None:
    class Odd(EyeSearch):
        timestep = 0.03

    with pytest.raises(
        InvalidValueError, match=r"Odd: control_dt \(0\.0666.* s\) must be a whole multiple of timestep \(0\.03 s\)"
    ):
        BatchEnv(Odd(), 1, observe=())


def test_an_option_beside_a_finished_task() -> None:
    with pytest.raises(InvalidValueError, match=r"options \['control'\] were given beside a finished task"):
        BatchEnv(Reach(), 1, observe=(), control="joint")


@pytest.mark.parametrize(
    ("task", "sentence"),
    [
        ("envs.tasks.arm.reach:Raech", "the task 'envs.tasks.arm.reach:Raech' cannot be found: .*has no attribute 'Raech'"),
        ("envs.tasks.arm.push:Push", "the task 'envs.tasks.arm.push:Push' cannot be found: No module named"),
        ("Reach", "the task 'Reach' must be 'module:Class', with a dataclass that derives from Task"),
        ("envs.arm:Arm", "the task 'envs.arm:Arm' must be 'module:Class', with a dataclass that derives from Task"),
    ],
)
def test_a_task_that_does_not_exist(task: str, sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        BatchEnv(task, 1)


def test_env_has_no_autoreset() -> None:
    with pytest.raises(InvalidValueError, match=r"Env has one simulation .* use gymnasium\.make_vec for more"):
        Env(SEARCH, autoreset_mode="same_step")


# -- resets ------------------------------------------------------------------------------------------------------------

RESETS: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"options": {"gase": [0, 0]}}, UnknownNameError, "unknown part of the start 'gase': did you mean 'gaze'? available: "),
    ({"options": {"gaze": [0, 0, 0]}}, InvalidValueError, "the start's 'gaze' needs shape (2, 2) (or one row of it), got "),
    ({"options": {"gaze": "left"}}, InvalidValueError, "the start's 'gaze' needs shape (2, 2) (or one row of it), got 'left'"),
    ({"options": {"objects": [0, 0, 1, 2]}}, InvalidValueError, "an object can lie on the table once only, got objects "),
    ({"options": {"objects": [0, 1, 2, 99]}}, InvalidValueError, "objects must be indices below "),
    ({"options": {"reset_mask": [1, 0]}}, InvalidValueError, "reset_mask must be (2,) bool, got (2,) int64"),
    ({"seed": -1}, InvalidValueError, "seeds must be integers >= 0, got -1"),
    ({"seed": 1.5}, InvalidValueError, "seeds must be integers >= 0, got 1.5"),
    ({"seed": [1, 2, 3]}, InvalidValueError, "a list of seeds needs one per simulation: got 3 for 2"),
]


@pytest.mark.parametrize(("arguments", "error", "sentence"), RESETS, ids=[s[:50] for *_, s in RESETS])
def test_bad_resets(arguments: dict[str, Any], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        batch().reset(**arguments)
    assert str(caught.value).startswith(sentence)


# -- other arms --------------------------------------------------------------------------------------------------------

# Six joints like those of a UR5e (link lengths in metres from Universal Robots' table of DH parameters, rounded).
ARM = """
<mujoco model="other">
  <compiler angle="radian" autolimits="true"/>
  <default><geom type="capsule" size="0.04" contype="0" conaffinity="0"/>
    <joint range="-6.28 6.28" armature="0.1" damping="1"/>{actuators}</default>
  <worldbody>
    <body name="base">
      <geom type="cylinder" size="0.07 0.03" pos="0 0 0.03"/>
      <body name="shoulder" pos="0 0 0.163" gravcomp="1"><joint name="pan" axis="0 0 1"/>
        <geom fromto="0 0 0 0 0.138 0"/>
        <body name="upper" pos="0 0.138 0" gravcomp="1"><joint name="lift" axis="0 1 0"/>
          <geom fromto="0 0 0 0 0 0.425"/>
          <body name="fore" pos="0 -0.131 0.425" gravcomp="1"><joint name="elbow" axis="0 1 0" range="-3.1 3.1"/>
            <geom fromto="0 0 0 0 0 0.392"/>
            <body name="wrist_a" pos="0 0 0.392" gravcomp="1"><joint name="bend" axis="0 1 0"/>
              <geom fromto="0 0 0 0 0.127 0"/>
              <body name="wrist_b" pos="0 0.127 0" gravcomp="1"><joint name="roll" axis="0 0 1"/>
                <geom fromto="0 0 0 0 0 0.1"/>
                <body name="wrist_c" pos="0 0 0.1" gravcomp="1"><joint name="spin" axis="0 1 0"/>
                  <geom fromto="0 0 0 0 0.1 0"/><site name="attachment_site" pos="0 0.1 0"/>
  </body></body></body></body></body></body></body></worldbody>
  <actuator>{motors}</actuator>
  <keyframe><key name="home" qpos="0 -0.6 1.9 0.3 0 0"/></keyframe>
</mujoco>
"""
JOINTS = ("pan", "lift", "elbow", "bend", "roll", "spin")


def write_arm(folder: Path, kind: str) -> Path:
    gains = '<position kp="1500" kv="120"/>' if kind == "position" else ""
    motors = "".join(f'<{kind} name="{j}_drive" joint="{j}"/>' for j in JOINTS)
    file = folder / "other.xml"
    file.write_text(ARM.format(actuators=gains, motors=motors))
    return file


@pytest.mark.parametrize("control", ["tool", "joint"])
def test_another_arm_reaches(tmp_path: Path, control: str) -> None:
    file = write_arm(tmp_path, "position")
    env = BatchEnv(REACH, 40, observe=(), autoreset_mode="disabled", robot=str(file), control=control)
    assert env.task.arm.dof == 6
    assert not env.task.arm.has_gripper
    assert env.task.arm.tool == "arm/attachment_site"
    np.testing.assert_allclose(env.task.arm.home, [0, -0.6, 1.9, 0.3, 0, 0])
    assert env.single_action_space.shape == ((3,) if control == "tool" else (6,))
    env.reset(seed=0)
    done = np.zeros(40, bool)
    for _ in range(99):
        *_, info = env.step(env.oracle())
        done |= info["success"]
    assert done.mean() >= 0.95


def test_another_arm_through_gymnasium_and_pixels(tmp_path: Path) -> None:
    env = gym.make("Saccade/Reach-v0", robot=str(write_arm(tmp_path, "position")), image_size=32)
    obs, _ = env.reset(seed=0)
    assert obs["joints"].shape == (6,)
    assert np.ptp(obs["front"]) > 50
    env.close()


def test_an_arm_with_motors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"actuator 'pan_drive' is not a position servo .* give the arm <position>"):
        BatchEnv(REACH, 1, robot=str(write_arm(tmp_path, "motor")))


def test_a_file_without_an_arm_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rock.xml"
    file.write_text("<mujoco><worldbody><body name='rock'><geom size='.1'/></body></worldbody></mujoco>")
    with pytest.raises(InvalidValueError, match="no hinge joint has a position servo, so there is no arm to move"):
        BatchEnv(REACH, 1, robot=str(file))


def test_a_door_needs_a_gripper_and_a_posture_of_the_right_length(tmp_path: Path) -> None:
    file = str(write_arm(tmp_path, "position"))
    with pytest.raises(InvalidValueError, match=r"has 6 joints \(pan, lift, .*\), the posture gives 7"):
        BatchEnv(DOOR, 1, robot=file, posture=[0.0] * 7)
    with pytest.raises(InvalidValueError, match=r"DoorOpen needs an arm with a gripper; .*other\.xml' has none"):
        BatchEnv(DOOR, 1, robot=file)


def test_a_robot_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(AssetNotFoundError, match=r"unknown asset 'robots/pandas\.xml': did you mean 'robots/panda\.xml'"):
        BatchEnv(REACH, 1, robot="pandas")
    with pytest.raises(AssetNotFoundError, match=r"unknown asset '.*missing\.xml'"):
        BatchEnv(REACH, 1, robot=str(tmp_path / "missing.xml"))


MALFORMED = ["<mujoco><worldbody></mujoco>", "<mujoco><worldbody><bodi/></worldbody></mujoco>", "not xml at all"]


@pytest.mark.parametrize("text", MALFORMED)
def test_malformed_mjcf_carries_mujocos_words(tmp_path: Path, text: str) -> None:
    file = tmp_path / "broken.xml"
    file.write_text(text)
    with pytest.raises(InvalidValueError, match=r"broken\.xml is not MJCF that MuJoCo can read: \S+"):
        BatchEnv(REACH, 1, robot=str(file))
