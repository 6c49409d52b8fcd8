"""Scores are counted right, on the same episodes for everybody, and say the same as training and replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import evaluate, replay
from agents.config import load
from agents.make import make_env, make_learner
from agents.rollout import Episode, rollout
from agents.run import Run
from agents.statistics import wilson
from agents.train import main as train
from assets.errors import InvalidValueError, UnknownNameError

FIRST = 1_000_000
SCENE = ("env=eye_search", "+env.observe=[]", "+env.max_episode_steps=40")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    small = ("agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=1", "agent.device=cpu", "agent.threads=1")
    pixels = ("env.resolution=8", "+env.observe=[eye_0]", "+env.max_episode_steps=10", "num_envs=4", "logger=jsonl")
    return train([*small, *pixels, "steps=128", f"run={tmp_path_factory.mktemp('run') / 'run'}"])


def episode(reward: list[float], success: list[bool]) -> Episode:
    return Episode(0, "", np.array(reward, np.float32), np.array(success), False, False)


def test_a_score_is_counted_by_hand() -> None:
    episodes = [
        episode([1, 2, 3], [False, True, False]),
        episode([0, 0, 0], [False, False, False]),
        episode([1, 1, 1], [True, True, True]),
        episode([2, 0, 1], [False, False, True]),
    ]
    score = evaluate.score("x", episodes, control_dt=0.5)
    assert (score.name, score.n, score.success_rate, score.success_at_end) == ("x", 4, 0.75, 0.5)
    assert (score.success_low, score.success_high) == wilson(3, 4)
    assert score.seconds_to_success == pytest.approx(0.5 * (2 + 1 + 3) / 3)
    assert score.reward == pytest.approx((6 + 0 + 3 + 3) / 4)
    assert score.reward_low <= score.reward <= score.reward_high
    assert score.outcomes == (True, False, True, True)
    assert evaluate.score("x", episodes[1:2], 0.5).seconds_to_success is None


def test_training_evaluation_and_replay_agree(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = [FIRST, FIRST + 1, FIRST + 2]
    # In training: the learner itself, brought to its last checkpoint, in the training's own environment.
    from agents import checkpoint

    env = make_env(run.config, 4, "same_step")
    learner = make_learner(run.config, env)
    learner.load_state(checkpoint.load(run.checkpoints / "last")["learner"])
    env.close()
    env = make_env(run.config, 2, "disabled")
    trained = [float(e.reward.sum()) for e in rollout(env, learner, seeds)]
    env.close()

    result = evaluate.main([f"run={run.folder}", "episodes=3", "num_envs=3", "baselines=[]", f"out={tmp_path / 'e.json'}"])
    assert result["scores"][0]["reward"] == pytest.approx(np.mean(trained), rel=1e-6)

    filmed: list[float] = []
    film = replay.film

    def watched(env: Any, episodes: Any, *rest: Any) -> Path:
        filmed.extend(float(e.reward.sum()) for e in episodes)
        return film(env, episodes, *rest)

    monkeypatch.setattr(replay, "film", watched)
    replay.main([str(run.folder), "episodes=3", "width=32", "height=24", f"out={tmp_path / 'r.mp4'}"])
    assert filmed == trained
    assert len(set(trained)) > 1


def test_the_report_says_what_was_done(run: Run) -> None:
    result = evaluate.main([f"run={run.folder}", "episodes=6", "num_envs=4", "baselines=[random,oracle]", "sampled=true"])
    written = json.loads((run.folder / "evaluation.json").read_text())
    assert written == json.loads(json.dumps(result))
    assert [s["name"] for s in result["scores"]] == ["ppo", "ppo (sampled)", "random", "oracle"]
    assert result["checkpoint"] == f"{128:010d}"
    assert result["seeds"] == [FIRST, FIRST + 5]
    assert set(result["differences"]) == {"ppo (sampled)", "random", "oracle"}
    for score in result["scores"]:
        assert score["n"] == len(score["outcomes"]) == 6
        assert score["success_rate"] == np.mean(score["outcomes"])
    assert set(result["system"]) >= {"command", "date", "commit", "versions", "machine", "environment"}


@pytest.mark.parametrize("num_envs", [1, 3, 32])
def test_the_number_of_simulations_changes_nothing(num_envs: int, capsys: pytest.CaptureFixture[str]) -> None:
    result = evaluate.main([*SCENE, "policy=oracle", "baselines=[]", "episodes=5", f"num_envs={num_envs}"])
    (score,) = result["scores"]
    assert score["success_rate"] == 1
    assert score["reward"] == pytest.approx(evaluate_oracle(), rel=1e-6)
    assert "oracle" in capsys.readouterr().out


def evaluate_oracle() -> float:
    env = make_env(load("evaluate", SCENE), 2, "disabled")
    try:
        seeds = range(FIRST, FIRST + 5)
        return float(np.mean([e.reward.sum() for e in rollout(env, evaluate.scripted("oracle", env, 0), seeds)]))
    finally:
        env.close()


def test_policies_meet_the_same_episodes() -> None:
    result = evaluate.main([*SCENE, "policy=oracle", "baselines=[oracle,random]", "episodes=4"])
    assert [s["name"] for s in result["scores"]] == ["oracle", "random"]  # named twice, run once
    assert result["differences"]["random"]["mean"] == 1 - result["scores"][1]["success_rate"]


REFUSED = [
    ([], "name a run (run=outputs/...) or a scripted policy (policy=random or policy=oracle)"),
    (["policy=orcale"], "unknown policy 'orcale': did you mean 'oracle'? available: oracle, random"),
    (["policy=oracle", "episodes=0"], "episodes must be an integer >= 1, got 0"),
    (["policy=oracle", "num_envs=0"], "num_envs must be an integer >= 1, got 0"),
]


@pytest.mark.parametrize(("overrides", "sentence"), REFUSED)
def test_refusals(overrides: list[str], sentence: str) -> None:
    with pytest.raises((InvalidValueError, UnknownNameError)) as caught:
        evaluate.main([*SCENE, *overrides])
    assert str(caught.value) == sentence


def test_a_run_brings_its_environment(run: Run) -> None:
    for override in ("env=reach", "env.resolution=9", "+env.image_size=9", "render=quality"):
        group = override.lstrip("+").split("=")[0].split(".")[0]
        with pytest.raises(InvalidValueError) as caught:
            evaluate.main([f"run={run.folder}", override])
        assert str(caught.value) == f"run={run.folder} brings its own {group}: leave out {override}"
    with pytest.raises(InvalidValueError, match=r"is not a run folder: it has no config\.yaml"):
        evaluate.main([f"run={run.folder / 'checkpoints'}"])
