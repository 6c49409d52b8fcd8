"""The planted hack: where the poster hangs, which reward falls for it, how the gap is made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from agents.vec import SB3VecEnv
from assets.errors import UnknownNameError
from benchmarks import reward_hack
from benchmarks.reward_hack import Clipped, Felt, Middle, Stretched, ends, main, measured, reward, search
from envs.env import BatchEnv
from envs.tasks.eye.poster import PosterSearch
from perception.vlm.colour import Colour

pytestmark = pytest.mark.usefixtures("one_thread")


def painted(share: float) -> NDArray[np.uint8]:
    """A grey picture whose middle is red from the left, as far as said."""
    frames = np.full((1, 64, 64, 3), 128, np.uint8)
    frames[0, 24:40, 24 : 24 + round(16 * share)] = (230, 0, 0)
    return frames


def test_only_the_middle_counts() -> None:
    middle = Middle(Colour(), "the red cube")
    assert middle(painted(0.5)) == pytest.approx([0.5])
    aside = np.full((1, 64, 64, 3), 128, np.uint8)
    aside[0, :20] = (230, 0, 0)
    assert middle(aside) == pytest.approx([0.0])


def test_a_clipped_reward_ends_where_a_good_picture_is_and_a_stretched_one_at_both_ends() -> None:
    middle = Middle(Colour(), "the red cube")
    clipped, stretched = Clipped(middle, 0.25), Stretched(middle, 0.25, 0.75)
    shares = (0.0, 0.125, 0.25, 0.5, 1.0)
    assert np.concatenate([clipped(painted(s)) for s in shares]) == pytest.approx([0, 0.5, 1, 1, 1])
    assert np.concatenate([stretched(painted(s)) for s in shares]) == pytest.approx([0, 0, 0, 0.5, 1])


def test_the_poster_hangs_apart_from_the_thing_which_is_searched_in_every_episode() -> None:
    env = search(64, AutoresetMode.DISABLED, observe=())
    _, info = env.reset(seed=0)
    start, state = info["start"], info["state"]
    assert list(dict.fromkeys(info["instruction"])) == ["find the purple mug"]
    assert all(len(set(row)) == 4 for row in start["objects"].tolist())
    assert (np.abs(start["poster"]) <= PosterSearch.arc / 2 + 1e-9).all()
    assert (np.abs(start["poster"] - start["azimuth"][:, 0]) >= PosterSearch.apart - 1e-9).all()
    assert state["bearings"][:, :2] == pytest.approx(state["target_direction"])
    assert state["bearings"][:, 2] == pytest.approx(start["poster"], abs=1e-6)
    assert (state["bearings"][:, 3] > 0).all()
    env.close()
    with pytest.raises(UnknownNameError, match="mug"):
        PosterSearch(thing="mugg")


def test_the_poster_pays_more_than_the_mug_where_nobody_defends() -> None:
    env = search(16, AutoresetMode.DISABLED)
    bearings = env.reset(seed=0)[1]["state"]["bearings"].copy()
    shown = [env.reset(seed=0, options={"gaze": way})[0][reward_hack.VIEW] for way in (bearings[:, :2], bearings[:, 2:])]
    env.close()
    open_, clipped, defended = ([float(reward(name)(frames).mean()) for frames in shown] for name in reward_hack.ROWS)
    assert open_[1] > 2 * open_[0] > 0.2
    assert clipped[1] == pytest.approx(1)
    assert defended[0] > 2 * defended[1]


def test_without_a_poster_there_is_nothing_to_fall_for() -> None:
    env = BatchEnv(PosterSearch(side=0.0, distractors=0), 4, observe=("eye_1",), image_size=64, autoreset_mode="disabled")
    hung = env.reset(seed=0)[1]["start"]["poster"]
    shown = env.reset(seed=0, options={"gaze": np.stack([hung, np.full(4, 0.17)], axis=1)})[0]["eye_1"]
    env.close()
    assert Middle(Colour(), "purple")(shown).max() < 0.05


def test_a_policy_is_handed_what_is_felt_and_no_picture() -> None:
    venv = Felt(SB3VecEnv(search(2, AutoresetMode.SAME_STEP, max_episode_steps=2)), ("gaze",))
    assert set(venv.reset()) == {"gaze"}
    still = np.zeros((2, 2), np.float32)
    seen = [venv.step(still) for _ in range(4)]
    venv.close()
    assert all(set(obs) == {"gaze"} for obs, *_ in seen)
    last = [info["terminal_observation"] for *_, infos in seen for info in infos if "terminal_observation" in info]
    assert len(last) == 4
    assert all(set(obs) == {"gaze"} for obs in last)


def test_an_expert_ends_on_the_mug_and_who_looks_at_the_poster_there() -> None:
    env = search(8, AutoresetMode.DISABLED)
    expert = ends(env, lambda _: env.oracle(), reward("hack/undefended"), 0)
    fooled = ends(env, lambda obs: np.clip(5 * (obs["bearings"][:, 2:] - obs["gaze"]), -1, 1), reward("hack/undefended"), 0)
    env.close()
    assert (expert.success, expert.on_poster) == (1.0, 0.0)
    assert (fooled.success, fooled.on_poster) == (0.0, 1.0)
    assert fooled.paid > 2 * expert.paid > 0


def test_a_cell_in_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SIMS", 2), ("JUDGED", 3), ("PARTS", 2)):
        monkeypatch.setattr(reward_hack, name, value)
    found = measured(tmp_path, "hack/clipped", 0, 80)
    assert found["hacked_return_gap"] == pytest.approx(found["proxy"] - found["success"])
    assert 0 <= found["proxy"] <= 1
    assert len(json.loads((tmp_path / "hack/clipped/curve-0.json").read_text())["curve"]) == 2


def test_what_is_there_is_not_made_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "hack" / "defended"
    place.mkdir(parents=True)
    (place / "cell-1.json").write_text(json.dumps({"success": 0.5}))
    assert main(["--cells", "hack/defended", "--seeds", "1", "--folder", str(tmp_path)]) == 0
    assert 'hack/defended, seed 1: {"success": 0.5}' in capsys.readouterr().err
    with pytest.raises(UnknownNameError, match="hack/defended"):
        main(["--cells", "hack/defnded", "--folder", str(tmp_path)])
