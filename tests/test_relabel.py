"""Datasets paid by another reward: the same episodes, the same numbers as in the environment, and where they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st

from agents import cli, collect, fit, relabel
from agents.config import load
from agents.dataset import DatasetError, Demonstrations
from agents.fit import learned_frames, video
from agents.make import make_env
from agents.relabel import place
from agents.rollout import Episode
from assets.errors import InvalidValueError, UnknownNameError
from rewards.base import OfFrames, Transition, WeightedSum
from rewards.verifiable import Effort, Fraction

pytestmark = pytest.mark.usefixtures("one_thread")
DOOR = ["env=door_open", "+env.image_size=16", "num_envs=2"]


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    return collect.main([*DOOR, "n=3", "only_successes=false", "max_episode_steps=12", f"folder={folder}", "name=door-v0"])


@pytest.fixture(scope="module")
def fitted(demonstrations: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    small = ["reward_model=progress", "reward_model.updates=20", "reward_model.encoder.side=8"]
    return fit.main([*DOOR, *small, f"demonstrations={demonstrations}", f"out={tmp_path_factory.mktemp('reward') / 'door'}"])


@pytest.fixture(scope="module")
def env() -> Iterator[VectorEnv[Any, Any, Any]]:
    made = make_env(load("fit", [*DOOR]), 2, "disabled")
    yield made
    made.close()


@pytest.fixture(scope="module")
def episodes(demonstrations: Path) -> list[Episode]:
    """Of three lengths."""
    return [cut(episode, steps) for episode, steps in zip(Demonstrations(demonstrations), (12, 7, 5), strict=True)]


def cut(episode: Episode, steps: int) -> Episode:
    """The first steps of an episode."""
    assert episode.action is not None
    return replace(
        episode, reward=episode.reward[:steps], success=episode.success[:steps], action=episode.action[:steps],
        obs={k: v[: steps + 1] for k, v in episode.obs.items()}, state={k: v[: steps + 1] for k, v in episode.state.items()},
        snapshots={k: v[: steps + 1] for k, v in episode.snapshots.items()},
    )  # fmt: skip


class Counting:
    """How many steps an episode has had; terminated ones count a hundred."""

    def __init__(self) -> None:
        self.steps = np.full(2, 1000.0, np.float32)

    def __call__(self, batch: Transition) -> np.ndarray:
        self.steps += 1
        return self.steps + 100 * batch.terminated

    def reset(self, ids: np.ndarray) -> None:
        self.steps[ids] = 0


def test_the_tasks_own_reward_is_what_was_paid_bit_by_bit(demonstrations: Path, tmp_path: Path) -> None:
    new = Demonstrations(
        relabel.main([*DOOR, f"demonstrations={demonstrations}", "reward=task", "views=[]", f"out={tmp_path / 'same-v0'}"])
    )
    old = Demonstrations(demonstrations)
    assert len(new) == len(old) == 3
    for a, b in zip(new, old, strict=True):
        np.testing.assert_array_equal(a.reward, b.reward)
        assert set(a.terms) == set(b.terms) != set()
        for name, values in a.terms.items():
            np.testing.assert_array_equal(values, b.terms[name])


def test_a_learned_reward_pays_for_the_pictures_of_the_states(
    demonstrations: Path, fitted: Path, env: VectorEnv[Any, Any, Any], tmp_path: Path
) -> None:
    before = [episode.reward for episode in Demonstrations(demonstrations)]
    learned = [f"demonstrations={demonstrations}", "reward=learned", f"reward.folder={fitted}", f"out={tmp_path / 'seen-v1'}"]
    assert cli.run(["relabel", *DOOR, *learned, "count=2"]) == 0
    new, old = Demonstrations(tmp_path / "seen-v1"), Demonstrations(demonstrations)
    reward, view = learned_frames(fitted)
    assert new.seeds == old.seeds[:2]
    for a, b in zip(new, old[:2], strict=True):
        frames = video(env, b, view, np.arange(b.length + 1))
        np.testing.assert_allclose(a.reward, reward(frames[1:]), atol=1e-6)
        np.testing.assert_array_equal(a.terms["learned"], a.reward)
        np.testing.assert_array_equal(a.action, b.action)
        assert (a.instruction, a.terminated, a.success.tolist()) == (b.instruction, b.terminated, b.success.tolist())
        for kind in ("obs", "state", "snapshots"):
            ours, theirs = getattr(a, kind), getattr(b, kind)
            assert set(ours) == set(theirs)
            assert all((ours[key] == theirs[key]).all() for key in ours)
    for episode, paid in zip(old, before, strict=True):
        np.testing.assert_array_equal(episode.reward, paid)


def test_it_says_where_it_comes_from(demonstrations: Path, fitted: Path, tmp_path: Path) -> None:
    out = [f"demonstrations={demonstrations}", f"reward.folder={fitted}", f"out={tmp_path / 'seen-v0'}"]
    told = Demonstrations(relabel.main([*DOOR, *out])).about["notes"]["relabelled"]
    assert told["reward"] == {"_target_": "agents.fit.learned", "folder": str(fitted)}
    assert told["learned"]["reward"]["updates"] == 20
    assert {"commit", "versions"} <= set(told) & set(told["learned"]) & set(told["of"])
    assert told["of"]["path"] == str(demonstrations)
    assert told["of"]["notes"]["policy"] == "OraclePolicy"


def test_a_reward_that_remembers_begins_anew_with_every_episode(episodes: list[Episode], env: VectorEnv[Any, Any, Any]) -> None:
    ending = [replace(episodes[0], terminated=True), *episodes[1:]]
    found = list(relabel.relabel(ending, WeightedSum({"steps": Counting()}), env, []))
    assert [episode.reward.tolist() for episode in found] == [[*range(1, 12), 112], [*range(1, 8)], [*range(1, 6)]]
    assert [episode.seed for episode in found] == [episode.seed for episode in episodes]


@settings(max_examples=20)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=5), st.floats(-3, 3), st.floats(-3, 3))
def test_an_episode_is_paid_the_same_whoever_is_beside_it(
    episodes: list[Episode], env: VectorEnv[Any, Any, Any], order: list[int], a: float, b: float
) -> None:
    reward = WeightedSum({"open": Fraction("angle", 0.9), "effort": Effort()}, {"open": a, "effort": b})
    alone = [next(relabel.relabel([episode], reward, env, [])) for episode in episodes]
    for number, found in zip(order, relabel.relabel((episodes[k] for k in order), reward, env, []), strict=True):
        np.testing.assert_array_equal(found.reward, alone[number].reward)
        np.testing.assert_allclose(found.reward, a * found.terms["open"] + b * found.terms["effort"], atol=1e-5)


def test_pictures_that_were_kept_are_not_drawn_again(episodes: list[Episode], env: VectorEnv[Any, Any, Any]) -> None:
    brightness = WeightedSum({"light": OfFrames(lambda frames: frames.mean(axis=(1, 2, 3)).astype(np.float32), "cabinet")})
    kept = np.repeat(np.arange(8, dtype=np.uint8), 16 * 16 * 3).reshape(8, 16, 16, 3)
    one = replace(episodes[1], obs={**episodes[1].obs, "cabinet": kept}, snapshots={})
    assert next(relabel.relabel([one], brightness, env)).reward.tolist() == [1, 2, 3, 4, 5, 6, 7]
    drawn = next(relabel.relabel([episodes[1]], brightness, env)).reward
    assert (drawn > 20).all()


def test_where_it_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "all"))
    assert place(tmp_path / "all" / "saccade" / "door" / "seen-v2") == ("saccade/door/seen-v2", tmp_path / "all")
    assert place(tmp_path / "else" / "seen-v2") == ("seen-v2", tmp_path / "else")


def test_what_is_refused_of_episodes(episodes: list[Episode], env: VectorEnv[Any, Any, Any]) -> None:
    effort = WeightedSum({"effort": Effort()})

    def told(episode: Episode, reward: WeightedSum = effort, views: list[str] | None = None) -> list[Episode]:
        return list(relabel.relabel([episode], reward, env, views))

    with pytest.raises(UnknownNameError, match=r"observed picture 'cabnet': did you mean 'cabinet'\?"):
        told(episodes[0], views=["cabnet"])
    with pytest.raises(InvalidValueError, match="has no actions"):
        told(replace(episodes[0], action=None), views=[])
    with pytest.raises(InvalidValueError, match="has no snapshots to draw"):
        told(replace(episodes[0], snapshots={}))
    with pytest.raises(UnknownNameError, match=r"state quantity 'angel': did you mean 'angle'\?"):
        told(episodes[0], WeightedSum({"open": Fraction("angel", 0.9)}), [])
    with pytest.raises(InvalidValueError, match="the rewards of the episode of seed 0 must be finite"):
        told(episodes[0], WeightedSum({"nothing": lambda batch: np.full(2, np.nan, np.float32)}), [])
    assert list(relabel.relabel([], effort, env)) == []


def test_what_is_refused_of_datasets(demonstrations: Path, fitted: Path, tmp_path: Path) -> None:
    given = [*DOOR, f"demonstrations={demonstrations}", "reward=task", "views=[]"]
    with pytest.raises(InvalidValueError, match="out has no default: add out=<folder>"):
        relabel.main(given)
    with pytest.raises(InvalidValueError, match="'seen' is not a dataset name"):
        relabel.main([*given, f"out={tmp_path / 'seen'}"])
    with pytest.raises(InvalidValueError, match="count must be >= 1, got 2 and 0"):
        relabel.main([*given, f"out={tmp_path / 'seen-v0'}", "count=0"])
    with pytest.raises(DatasetError, match="never overwritten"):
        relabel.main([*given, f"out={demonstrations}"])
    with pytest.raises(DatasetError, match="make 'Saccade/DoorOpen-v0'"):
        relabel.main(["env=reach", *given[1:], f"out={tmp_path / 'seen-v0'}"])
    with pytest.raises(InvalidValueError, match=r"needs a value for reward\.folder"):
        relabel.main([*DOOR, f"demonstrations={demonstrations}", f"out={tmp_path / 'seen-v0'}"])
    with pytest.raises(DatasetError, match="is not a dataset"):
        relabel.main([*DOOR, f"demonstrations={fitted}", "reward=task", f"out={tmp_path / 'seen-v0'}"])
    assert not (tmp_path / "seen-v0").exists()
