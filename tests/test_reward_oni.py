"""The benchmark of late opinions: captions say what is to be seen, the judge reads nothing else, figures are what they say."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assets.errors import InvalidValueError, UnknownNameError
from benchmarks import reward_oni
from benchmarks.oni_captions import CaptionJudge, described, mark
from benchmarks.reward_oni import Low, Placed, Training, cell, main, shares
from benchmarks.rewards import gathered
from envs.env import BatchEnv
from envs.oracle import HELD, SceneOracle, Thing
from envs.render import Renderer, View, profile
from envs.tasks.arm.place import BLOCK, CUBE
from perception import claims
from perception.text import EMBEDDING_SIZE
from rewards.base import Transition

pytestmark = pytest.mark.usefixtures("one_thread")

TINY = Training(steps=512, sims=8, length=8, episodes=3, piece=256, rounds=1, round=256)
HAND = tuple(f"arm/{part}" for part in ("hand", "left_finger", "left_pad", "right_finger", "right_pad"))
THINGS = (
    Thing("cube", "cube", "red", size=(2 * CUBE, 2 * CUBE, 2 * CUBE)),
    Thing("block", "block", "blue", size=(2 * BLOCK[0], 2 * BLOCK[1], 2 * BLOCK[2])),
)


def expert(steps: int = 26, seed: int = 0) -> tuple[list[dict[str, Any]], list[list[Any]]]:
    """States of four of the expert's episodes, and what the camera then sees."""
    env = BatchEnv(Low(), 4, observe=(), autoreset_mode="disabled")
    view = View("close", "close", 192, 144, ("segmentation",))
    renderer = Renderer(env.physics, profile("fast"), view.width, view.height, 1)
    oracle = SceneOracle(env.physics, THINGS, "arm/tcp", HAND)
    _, info = env.reset(seed=seed)
    states, seen = [], []
    for _ in range(steps):
        states.append(info["state"])
        seen.append(oracle.annotate(view, renderer.draw([view])["close", "segmentation"]))
        info = env.step(env.oracle())[-1]
    renderer.close()
    env.close()
    return states, seen


def stated(caption: str) -> list[claims.Fact]:
    """What a caption says in the words of `perception.claims`, which has none for nearness, heights and the table."""
    found = []
    for sentence in caption.rstrip(".").split(". "):
        try:
            found.append(claims.parse(sentence))
        except InvalidValueError:
            continue
    return [fact for fact in found if "table" not in fact.words]


def test_captions_say_what_the_camera_sees() -> None:
    told: dict[str, list[bool]] = {}
    for state, seen in zip(*expert(), strict=True):
        for caption, annotation, near in zip(described(state), seen, state["distance"] < HELD, strict=True):
            for fact in stated(caption):
                if fact.words == ("nothing",) and near:
                    continue  # annotations take open fingers around a thing for holding it
                told.setdefault(fact.words[1 if fact.kind == "relation" else 0], []).append(claims.holds(fact, annotation))
    assert set(told) == {"right of", "on", "nothing", "red cube"}
    for kind, right in told.items():
        assert np.mean(right) >= 0.9, kind


def test_captions_are_of_more_worth_the_further_the_job_is() -> None:
    marks = np.array([[mark(caption) for caption in described(state)] for state in expert()[0]])
    assert (marks[0] == 0).all()
    assert (marks[-1] == 15).all()
    assert set(marks.ravel()) >= {0, 3, 4, 5, 6, 7, 13, 15}
    assert (np.diff(marks, axis=0) >= 0).mean() > 0.95


def questions() -> list[str]:
    return sorted(
        {caption for state in expert(12)[0] for caption in described(state)} | {f"nothing of use, {k}" for k in range(400)}
    )


def test_a_judge_errs_on_a_fifth_and_always_on_the_same() -> None:
    asked = questions()
    exact, judge, other = CaptionJudge(0, wrong=0.0), CaptionJudge(0), CaptionJudge(1)
    truth = exact.label(asked)
    assert truth == [float(mark(caption) > 0) for caption in asked]
    wrong = np.array(judge.label(asked)) != truth
    assert 0.14 < wrong.mean() < 0.26
    assert judge.label(asked[::-1])[::-1] == judge.label(asked)
    assert other.label(asked) != judge.label(asked)
    assert judge.heard(asked) == {"labels": len(asked), "labels_wrong": pytest.approx(wrong.mean())}
    assert judge.heard([]) == {"labels": 0, "labels_wrong": 0}


def test_a_judge_prefers_what_is_further_whichever_comes_first() -> None:
    asked = questions()
    rng = np.random.default_rng(0)
    pairs = [(asked[i], asked[j]) for i, j in rng.integers(len(asked), size=(1000, 2)) if i != j]
    exact, judge = CaptionJudge(0, wrong=0.0), CaptionJudge(0)
    assert exact.prefer(pairs) == [float(np.sign(mark(b) - mark(a))) for a, b in pairs]
    assert judge.prefer([(b, a) for a, b in pairs]) == [-answer for answer in judge.prefer(pairs)]
    wrong = np.array(judge.prefer(pairs)) != exact.prefer(pairs)
    assert 0.15 < wrong.mean() < 0.25
    assert judge.heard(pairs)["labels_wrong"] == pytest.approx(wrong.mean())


def test_the_sparse_reward_and_what_it_remembers() -> None:
    class Task:
        def success(self, state: Any) -> Any:
            return state["progress"] >= 1

    def batch(*stages: int) -> Transition:
        state = {"progress": np.array(stages) / 4}
        return Transition({}, np.zeros((2, 0), np.float32), state, {}, np.zeros(2, bool), ["", ""])

    reward: Any = Placed(Task())  # type: ignore[arg-type]
    reward.reset(np.arange(2))
    assert reward.ended == []
    assert reward(batch(1, 3)).tolist() == [0, 0]
    assert reward.first is None
    assert reward(batch(2, 4)).tolist() == [0, 1]
    reward.reset(np.array([1]))
    reward(batch(3, 4))
    reward.reset(np.array([0, 1]))
    assert reward.ended == [4, 3, 4]
    assert reward.first == 4
    assert shares(reward.ended) == {"reached": 1, "lifted": 1, "over": 1, "placed": pytest.approx(2 / 3)}
    assert set(shares([]).values()) == {0}


def test_cells_are_made_once_and_gathered(tmp_path: Path) -> None:
    for name in reward_oni.DESIGNS:
        found = cell(tmp_path, name, 0, TINY)
        assert set(found) >= {*reward_oni.STAGES, "placed_greedy", "last_stage", "first_placed"}
        assert found["first_placed"] <= 512
        curve = json.loads((tmp_path / name / "curve-0.json").read_text())
        assert curve["steps"] == [256, 512]
        assert {len(values) for values in curve.values()} == {2}
    file = tmp_path / "oni/sparse/cell-0.json"
    file.write_text(json.dumps({"placed": 0.5, "last_stage": 1.0}))
    (tmp_path / "oni/sparse/cell-3.json").write_text(json.dumps({"placed": 0.0, "last_stage": 0.0}))
    assert cell(tmp_path, "oni/sparse", 0, TINY) == {"placed": 0.5, "last_stage": 1.0}
    rows = {(row.name, row.metric): row for row in gathered(tmp_path)}
    placed, count = rows["oni/sparse", "placed"], rows["oni/sparse", "seeds_reaching_last_stage"]
    assert (placed.value, placed.low, placed.high, placed.seeds) == (0.25, 0, 0.5, (0, 3))
    assert (count.value, rows["oni/sparse", "seeds"].value, count.n) == (1, 2, 2)


def test_all_trainings_are_equal_but_for_the_reward() -> None:
    for name in reward_oni.DESIGNS:
        sparse = Placed(Low())
        reward = reward_oni.paid(reward_oni.designed(name, 0), 0, sparse, None, 0.2)
        assert reward.weights == ({"placed": 1.0} if name == "oni/sparse" else {"placed": 1.0, "opinion": 0.2})
    first, second = (
        TINY.learner(reward_oni.paid(reward_oni.designed(name, 0), 0, Placed(Low()), None, 0.2), 0)
        for name in ("oni/sparse", "oni/ranking")
    )
    before = [dict(learner.model.policy.named_parameters()) for learner in (first, second)]
    assert all((before[0][key] == before[1][key]).all() for key in before[0])
    for learner in (first, second):
        learner.model.get_env().close()


def test_who_is_asked_and_what_a_caption_without_a_label_is_worth() -> None:
    words, features = ["a", "b"], np.zeros((2, EMBEDDING_SIZE), np.float32)
    worth = {name: 0.0 for name in reward_oni.DESIGNS if name != "oni/sparse"} | {"oni/retrieval": 1.0, "oni/novelty": 1.0}
    for name, before in worth.items():
        design: Any = reward_oni.DESIGNS[name]
        assert design(0)(words, features).tolist() == [before] * 2
        with reward_oni.asked(name, CaptionJudge(0)) as annotator:
            assert (annotator is None) == (name == "oni/novelty")
    with reward_oni.asked("oni/sparse", CaptionJudge(0)) as annotator:
        assert annotator is None


@pytest.mark.parametrize("name", reward_oni.TIMED)
def test_learners_whose_speeds_are_compared_do_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_oni, "SLOW", 0.0)
    compared, begun = [], []

    def in_turn(learners: Any, steps: int, first: int) -> list[float]:
        speeds = plain(learners, steps, first)
        begun.append(first)
        one, other = (learner.model.policy.state_dict() for learner in learners)
        compared.append(all(torch.equal(one[key], other[key]) for key in one))
        return speeds

    plain = reward_oni.in_turn
    monkeypatch.setattr(reward_oni, "in_turn", in_turn)
    assert TINY.ratio(name, 0) > 0
    assert compared == [True, True]
    assert begun == [0, 1]


def test_speed_needs_a_judge_that_was_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reward_oni, "SLOW", 0.0)
    assert 0 < TINY.ratio("oni/retrieval", 0) < np.inf
    monkeypatch.setattr(reward_oni, "asked", lambda *_, **__: nullcontext())
    with pytest.raises(InvalidValueError, match="no judge was heard in 1 rounds of 256 steps"):
        TINY.ratio("oni/retrieval", 0)


def test_what_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown cell 'oni/rank'"):
        main(["--cells", "oni/rank", "--folder", str(tmp_path)])
    with pytest.raises(InvalidValueError, match="has no cells yet"):
        main(["--folder", str(tmp_path)])
