"""From demonstrations to a reward that an agent is trained with, and its report card."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from agents import collect, evaluate, fit, train
from agents.config import load
from agents.dataset import Demonstrations
from agents.fit import learned, learned_frames, rows
from agents.make import make_env
from agents.report_page import page, steps_of
from assets.errors import InvalidValueError, UnknownNameError
from rewards import store
from rewards.base import Transition, WeightedSum
from rewards.card import Footage
from rewards.goal import Progress

pytestmark = pytest.mark.usefixtures("one_thread")
DOOR = ["env=door_open", "+env.image_size=24", "num_envs=3"]


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return collect.main([*DOOR, "n=3", "noise=0.05", f"folder={tmp_path_factory.mktemp('data')}", "name=door-v0"])


@pytest.fixture(scope="module")
def fitted(demonstrations: Path, tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    out = tmp_path_factory.mktemp("reward") / "door"
    settings = ["reward_model=progress", "reward_model.updates=100", "reward_model.encoder.side=12", f"out={out}"]
    return fit.main([*DOOR, *settings, f"demonstrations={demonstrations}"])


def test_what_is_looked_at_ends_soon_after_success(demonstrations: Path) -> None:
    episode = Demonstrations(demonstrations)[0]
    assert episode.first_success is not None
    chosen = rows(episode, every=2, after=10)
    assert chosen[0] == 0
    assert set(np.diff(chosen)) == {2}
    assert episode.first_success + 8 < chosen[-1] <= episode.first_success + 10
    assert rows(episode, 1, 10**6)[-1] == episode.length


def test_it_says_where_it_comes_from(fitted: Path) -> None:
    about = store.about(fitted)
    assert about["view"] == "cabinet"
    assert about["seeds"] == [0, 1, 2]
    assert about["env"]["id"] == "Saccade/DoorOpen-v0"
    assert about["reward"]["updates"] == 100
    assert {"commit", "versions", "profile"} <= set(about)
    assert {p.name for p in fitted.iterdir()} >= {"reward.json", "state.safetensors"}


def test_the_environment_pays_what_the_reward_says_of_its_picture(fitted: Path) -> None:
    reward, view = learned_frames(fitted)
    env = make_env(load("train", [*DOOR, "reward=learned", f"reward.folder={fitted}"]), 3, "same_step")
    try:
        env.reset(seed=5)
        for _ in range(3):
            obs, paid, _, _, info = env.step(env.unwrapped.oracle())  # type: ignore[attr-defined]
            np.testing.assert_array_equal(paid, reward(obs[view]))
            assert set(info["reward_terms"]) - {"_learned"} == {"learned"}
    finally:
        env.close()


def test_an_agent_is_trained_with_it(fitted: Path, tmp_path: Path) -> None:
    quick = ["agent=ppo", "agent.n_steps=8", "agent.batch_size=8", "steps=24", "agent.threads=1", "logger=jsonl"]
    run = train.main([*DOOR, *quick, "reward=learned", f"reward.folder={fitted}", f"run={tmp_path / 'run'}"])
    assert run.metrics()[-1]["step"] >= 24


def test_the_report_card(fitted: Path) -> None:
    found = evaluate.main(
        ["env=door_open", "+env.image_size=24", "reward=learned", f"reward.folder={fitted}", "episodes=2", "num_envs=2"]
    )
    assert found["voc"] > 0.8
    assert found["success_auroc"] > 0.9
    assert found["blind_kendall_tau"] == 0
    assert json.loads((fitted / "report.json").read_text()) == found
    written = (fitted / "report.html").read_text()
    assert written.count("<svg") == written.count("data:image/jpeg") == 8  # two videos of each of four ways of acting
    assert "<p class=warn>" not in written


def test_a_page_says_that_a_reward_does_not_look() -> None:
    frames = np.random.default_rng(0).integers(0, 255, (6, 8, 8, 3)).astype(np.uint8)
    footage = {"expert": Footage([frames], [np.arange(6.0)], np.array([True]))}
    scores = {"kendall_tau": 0.0, "success_auroc": 0.5, "blind_kendall_tau": 0.0, "blind_success_auroc": 0.5}
    flat = page("<flat>", lambda f: np.zeros(len(f), np.float32), footage, scores)
    assert "<p class=warn>" in flat
    assert "<flat>" not in flat
    assert len(steps_of(lambda f: np.zeros(len(f), np.float32), frames)) == 0


def test_a_reward_that_learns_is_stored_within_a_sum(fitted: Path, tmp_path: Path) -> None:
    whole = learned(fitted)
    state = whole.state_dict()
    assert all(key.startswith("learned/frames/") for key in state)
    other = learned(fitted)
    other.load_state_dict({key: np.zeros_like(value) if "layers" in key else value for key, value in state.items()})
    picture = np.random.default_rng(0).integers(0, 255, (2, 24, 24, 3)).astype(np.uint8)
    seen = Transition({}, np.zeros((2, 5), np.float32), {}, {"cabinet": picture}, np.zeros(2, bool), ["", ""])
    np.testing.assert_allclose(other(seen), 0.5)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other(seen), whole(seen))
    with pytest.raises(UnknownNameError, match="learned reward"):
        other.load_state_dict({"lerned/frames/net": np.zeros(1)})
    with pytest.raises(UnknownNameError, match="observed picture"):
        whole(Transition({}, np.zeros((2, 5), np.float32), {}, {"cabnet": picture}, np.zeros(2, bool), ["", ""]))


def test_what_is_refused(fitted: Path, demonstrations: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="never overwritten"):
        store.save(Progress(learned_frames(fitted)[0].encoder), fitted, {})
    with pytest.raises(InvalidValueError, match="saccade fit"):
        learned(tmp_path)
    with pytest.raises(InvalidValueError, match="at least 2 demonstrations, got 1"):
        fit.main([*DOOR, f"demonstrations={demonstrations}", "count=1", f"out={tmp_path / 'a'}"])
    with pytest.raises(UnknownNameError, match="cabinet"):
        fit.main([*DOOR, f"demonstrations={demonstrations}", "view=cabnet", f"out={tmp_path / 'b'}"])
    with pytest.raises(InvalidValueError, match="out has no default"):
        fit.main([*DOOR, f"demonstrations={demonstrations}"])
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "reward.json").write_text((fitted / "reward.json").read_text())
    (tmp_path / "c" / "state.safetensors").write_bytes(b"cut")
    with pytest.raises(InvalidValueError, match="cannot be read"):
        learned(tmp_path / "c")
    assert isinstance(learned(fitted), WeightedSum)
