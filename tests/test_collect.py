"""Collecting with a policy of one's own: whatever is named acts, sees what the task observes, and is in the notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray

from agents import base
from agents.base import PUSHED, UNTIL_PUSH, Observation
from agents.collect import main as collect
from agents.dataset import DatasetError, Demonstrations
from assets.errors import InvalidValueError, UnknownNameError

SPEED = 0.5


class Scripted:
    """Stands in for a person: the expert's way, but never faster than half."""

    seen: set[str] = set()  # noqa: RUF012  what it was shown, for all to see

    def __init__(self, env: VectorEnv[Any, Any, Any]) -> None:
        self._env: Any = env.unwrapped

    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        self.seen.update(obs)
        return np.clip(self._env.oracle(), -SPEED, SPEED).astype(np.float32)


class Passive:
    def __init__(self, env: Any) -> None:
        pass


class Demanding:
    def __init__(self, env: Any, port: str) -> None:
        pass

    def act(self, obs: Observation, *, deterministic: bool = False) -> Any: ...


def asked(folder: Path, policy: str, *more: str, env: str = "eye_search") -> list[str]:
    return [f"env={env}", "env.resolution=8", "n=2", "num_envs=2", f"folder={folder}", f"policy={policy}", *more]


def test_a_class_of_ones_own_demonstrates(tmp_path: Path) -> None:
    path = collect(asked(tmp_path, f"{__name__}:Scripted"))
    assert path == tmp_path / "saccade" / "eyesearch" / "scripted-v0"
    found = Demonstrations(path)
    assert len(found) == 2
    assert all(episode.succeeded for episode in found)
    for episode in found:
        assert episode.action is not None
        assert np.abs(episode.action).max() == SPEED  # the expert alone goes up to 1
    notes = found.about["notes"]
    assert (notes["policy"], notes["noise"]) == (f"{__name__}:Scripted", 0)
    assert {"eye_0", "gaze", "target"} <= Scripted.seen


def test_without_a_policy_the_expert_acts_with_its_noise(tmp_path: Path) -> None:
    paths = [collect(["env=eye_search", "n=1", f"folder={tmp_path}", f"name={k}-v0", *noise]) for k, noise in (
        ("unsaid", []), ("said", ["noise=0.2"]),
    )]  # fmt: skip
    (unsaid,), (said,) = map(Demonstrations, paths)
    np.testing.assert_array_equal(unsaid.action, said.action)
    assert Demonstrations(paths[0]).about["notes"]["policy"] == "OraclePolicy"
    assert Demonstrations(paths[0]).about["notes"]["noise"] == 0.2


def test_panoramas_do_not_go_on_with_another_demonstrator(tmp_path: Path) -> None:
    arguments = ["only_successes=false", "max_episode_steps=4", "name=one-v0", "panoramas=64"]
    path = collect(asked(tmp_path, f"{__name__}:Scripted", *arguments, env="estop"))
    (path / "panoramas" / "complete.json").unlink()
    with pytest.raises(DatasetError, match=r"was collected with policy=.*:Scripted, not .*:Demanding: take another name"):
        collect(asked(tmp_path, f"{__name__}:Demanding", *arguments, env="estop"))
    assert collect(asked(tmp_path, f"{__name__}:Scripted", *arguments, env="estop")) == path
    assert (path / "panoramas" / "complete.json").is_file()


@pytest.mark.parametrize(
    ("policy", "kind", "sentence"),
    [
        ("Scripted", InvalidValueError, "policy must be 'module:Class', such as 'teleop:Gamepad', got 'Scripted'"),
        ("no_such_module:Gamepad", InvalidValueError, r"'no_such_module' cannot be imported \(No module.*PYTHONPATH"),
        (f"{__name__}:Scriptd", UnknownNameError, r"'Scriptd': did you mean 'Scripted'\? available: Demanding, Scripted"),
        (f"{__name__}:SPEED", UnknownNameError, "unknown policy class of the module .* 'SPEED'"),
        (f"{__name__}:Passive", InvalidValueError, r"Passive' has no act\(obs, \*, deterministic=False\)"),
        (f"{__name__}:Demanding", InvalidValueError, "the environment as its only argument: missing a required.*'port'"),
    ],
)
def test_what_is_no_policy_is_refused(tmp_path: Path, policy: str, kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        collect(asked(tmp_path, policy))
    assert not list(tmp_path.iterdir())


def test_noise_is_the_experts(tmp_path: Path) -> None:
    policy = f"{__name__}:Scripted"
    with pytest.raises(InvalidValueError, match=r"noise=0\.1 is the oracle's: leave it out beside policy=.*Scripted"):
        collect(asked(tmp_path, policy, "noise=0.1"))
    with pytest.raises(InvalidValueError, match=r"push=0\.1 is the oracle's: leave it out beside policy=.*Scripted"):
        collect(asked(tmp_path, policy, "push=0.1"))
    collect(asked(tmp_path, policy, "noise=0", "max_episode_steps=3", "only_successes=false"))


def test_pushes_bring_the_arm_off_its_way_and_the_expert_back(tmp_path: Path) -> None:
    paths = [collect(["env=estop", "n=4", "noise=0.0", f"folder={tmp_path}", f"name={k}-v0", *more]) for k, more in (
        ("calm", []), ("pushed", ["push=0.3"]), ("again", ["push=0.3"]),
    )]  # fmt: skip
    calm, pushed, again = map(Demonstrations, paths)
    assert [notes["push"] for notes in (d.about["notes"] for d in (calm, pushed))] == [0.0, 0.3]
    assert [d.about["notes"]["failed"] for d in (calm, pushed, again)] == [0, 0, 0]
    for one, other, same in zip(calm, pushed, again, strict=True):
        assert one.succeeded
        assert other.succeeded
        np.testing.assert_array_equal(other.action, same.action)
        np.testing.assert_array_equal(one.state["tool"][0], other.state["tool"][0])
        many = min(one.length, other.length)
        assert np.linalg.norm(one.state["tool"][:many] - other.state["tool"][:many], axis=-1).max() > 0.02


def test_a_push_lasts_a_third_of_a_second_and_is_the_arms(tmp_path: Path) -> None:
    class Still:
        num_envs, action_slices = 200, {"eye": slice(0, 2), "arm": slice(2, 6), "gripper": slice(6, 7)}

        @property
        def unwrapped(self) -> Still:
            return self

        def oracle(self) -> np.ndarray:
            return np.zeros((200, 7))

    policy = base.OraclePolicy(Still(), push=0.3)  # type: ignore[arg-type]
    acted = np.stack([policy.act({}) for _ in range(600)])
    assert not acted[..., [0, 1, 6]].any()
    assert not policy.act({}, deterministic=True).any()
    arm = acted[..., 2:6]
    begins = np.any(arm[1:] != arm[:-1], axis=-1) & arm[1:].any(axis=-1)
    for t, sim in np.argwhere(begins[:-PUSHED])[:50]:
        np.testing.assert_array_equal(arm[t + 1 : t + 1 + PUSHED, sim], np.broadcast_to(arm[t + 1, sim], (PUSHED, 4)))
    share = arm.any(axis=-1).mean()
    assert abs(share - PUSHED / (PUSHED + UNTIL_PUSH)) < 0.02
    assert abs(arm[arm != 0].std() - 0.3) < 0.02
    policy.reset()
    assert policy.act({}).any(axis=-1).mean() < 0.1
