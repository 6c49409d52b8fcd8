"""EyeReplay: Gymnasium's contract, the world that goes on whatever is looked at, one index for all, and what an eye can do."""

from __future__ import annotations

import time
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

import envs
from assets import asset
from assets.errors import InvalidValueError, UnknownNameError
from envs.batching import NotResetError
from envs.registry import REPLAYS, replay_ids
from envs.replay import BatchReplay, turns
from perception.recording import RecordingError, Recordings

FOLDER = "recordings/eraser_stand"
FELT = ("joints", "tool", "opening")

assert envs  # imported for its registration


def batch(num_envs: int = 2, **options: Any) -> BatchReplay:
    return BatchReplay(FOLDER, num_envs, resolution=16, **options)


@pytest.mark.parametrize("name", replay_ids())
def test_gymnasium_accepts_it(name: str) -> None:
    env = gym.make(name, resolution=8, max_episode_steps=12, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env.unwrapped, skip_render_check=True)
    env.reset(seed=0)
    frame = env.render()
    assert isinstance(frame, np.ndarray)
    assert frame.shape == (480, 960, 3)
    env.close()


@pytest.mark.parametrize("name", replay_ids())
def test_the_oracle_finds_what_the_demonstrator_looked_for(name: str) -> None:
    env = gym.make_vec(name, 4, vectorization_mode="vector_entry_point", resolution=8, autoreset_mode="disabled", pause=60)
    env.reset(seed=0)
    for _ in range(50):
        *_, info = env.step(env.unwrapped.oracle())  # type: ignore[attr-defined]
    assert info["success"].all()
    env.close()


def walk(env: BatchReplay, actions: NDArray[Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    obs, info = env.reset(seed=3)
    out = [(obs, info)]
    for action in actions:
        obs, _, _, _, info = env.step(action)
        out.append((obs, info))
    return out


def test_the_world_is_the_same_under_any_gaze() -> None:
    rng = np.random.default_rng(0)
    one, two = (walk(batch(), rng.uniform(-1, 1, (60, 2, 2)).astype(np.float32)) for _ in range(2))
    for (a, said_a), (b, said_b) in zip(one, two, strict=True):
        for key in FELT:
            assert a[key].tobytes() == b[key].tobytes()
        for key in ("joints", "tool", "valid", "phase", "grip"):
            assert said_a["chunk"][key].tobytes() == said_b["chunk"][key].tobytes()
        np.testing.assert_array_equal(said_a["state"]["frame"], said_b["state"]["frame"])
    assert np.abs(one[-1][0]["gaze"] - two[-1][0]["gaze"]).max() > 0.1


def test_picture_feelings_and_first_target_share_one_index() -> None:
    env = batch(pause=5)
    recordings = Recordings(asset(f"{FOLDER}/complete.json").parent)
    for obs, info in walk(env, np.zeros((40, 2, 2), np.float32)):
        for i in range(2):
            recording, frame = recordings[info["state"]["episode"][i]], info["state"]["frame"][i]
            np.testing.assert_array_equal(obs["joints"][i], recording.columns["joints"][frame].astype(np.float32))
            np.testing.assert_array_equal(info["chunk"]["joints"][i, 0], recording.columns["joints"][frame])
            film = recording.film()
            seen = env._foveator.look(film[int(frame)], info["state"]["gaze"][i])
            np.testing.assert_array_equal(seen[0], obs["eye_0"][i])
            film.close()


def test_latency_is_what_is_asked_for_and_only_of_the_picture() -> None:
    plain, late = (walk(batch(pause=0, latency=k), np.zeros((30, 2, 2), np.float32)) for k in (0, 4))
    for k in range(2, 31):  # 4 frames are 2 steps
        np.testing.assert_array_equal(late[k][0]["eye_1"], plain[k - 2][0]["eye_1"])
        np.testing.assert_array_equal(late[k][0]["joints"], plain[k][0]["joints"])


def test_the_world_stands_still_first_and_then_goes_two_frames_a_step() -> None:
    env = batch(pause=10, max_episode_steps=40)
    frames = np.stack([info["state"]["frame"] for _, info in walk(env, np.zeros((39, 2, 2), np.float32))])
    assert (np.diff(frames[:11], axis=0) == 0).all()
    assert (np.diff(frames[10:], axis=0) == 2).all()
    assert env.control_dt == pytest.approx(1 / 15)


def test_starts() -> None:
    env = BatchReplay(FOLDER, 256, resolution=4, chunk=0, max_episode_steps=130)
    _, info = env.reset(seed=0)
    start = info["start"]
    assert np.abs(np.degrees(start["gaze"])).max(axis=0) == pytest.approx([90, 15], abs=2)
    room = np.array([max(1, len(r) - 2 * 100) for r in Recordings(asset(f"{FOLDER}/complete.json").parent)])
    assert (start["frame"] < room[start["episode"]]).all()
    assert set(start["episode"]) == {0, 1}
    _, info = env.reset(options={"episode": 1, "frame": 7, "gaze": [0.1, 0.2]})
    assert (info["state"]["frame"] == 7).all()
    np.testing.assert_allclose(info["state"]["gaze"], [[0.1, 0.2]] * 256)


def test_simulation_i_is_the_same_in_any_batch() -> None:
    whole, part = batch(4), BatchReplay(FOLDER, 2, resolution=16, first_index=2)
    a, b = whole.reset(seed=5)[0], part.reset(seed=5)[0]
    for key, value in b.items():
        np.testing.assert_array_equal(a[key][2:], value)
    alone, second = batch(1).reset(seed=[9])[0], batch(2).reset(seed=[4, 9])[0]
    np.testing.assert_array_equal(alone["eye_2"][0], second["eye_2"][1])


def test_ways_to_start_anew() -> None:
    for mode in ("same_step", "next_step", "disabled"):
        env = batch(max_episode_steps=5, autoreset_mode=mode)
        env.reset(seed=0)
        steps = []
        for _ in range(7):
            _, _, _, truncated, info = env.step(np.zeros((2, 2), np.float32))
            steps.append((int(info["timing"]["step"][0]), bool(truncated[0]), "final_obs" in info))
        expected = {
            "same_step": [1, 2, 3, 4, 0, 1, 2], "next_step": [1, 2, 3, 4, 5, 0, 1], "disabled": [1, 2, 3, 4, 5, 6, 7],
        }[mode]  # fmt: skip
        assert [s for s, _, _ in steps] == expected
        assert steps[4][1]
        assert steps[4][2] is (mode == "same_step")


def test_compass() -> None:
    assert turns("directions_9").shape == (9, 2)
    assert turns("directions_25").shape == (25, 2)
    assert np.abs(turns("directions_25")).max() == 10
    np.testing.assert_array_equal(turns("directions_25")[-1], [0, 0])
    env = batch(actions="directions_25")
    _, info = env.reset(seed=0, options={"gaze": [0.0, 0.0]})
    *_, info = env.step(np.array([0, 8 + 2]))  # to the left by ten degrees, up by three
    np.testing.assert_allclose(np.degrees(info["state"]["gaze"]), [[10, 0], [0, 3]], atol=1e-9)


def test_gaze_saturates_and_is_smoothed() -> None:
    env = batch(azimuth=40, elevation=20)
    env.reset(seed=0)
    for _ in range(40):
        obs, *_ = env.step(np.ones((2, 2), np.float32))
    np.testing.assert_allclose(np.degrees(obs["gaze"]), [[40, 20]] * 2, atol=1e-4)
    env = batch(smoothing=0.5)
    env.reset(seed=0, options={"gaze": [0.0, 0.0]})
    degrees = []
    for _ in range(3):
        obs, *_ = env.step(np.tile(np.float32([1, 0]), (2, 1)))
        degrees.append(float(np.degrees(obs["gaze"][0, 0])))
    np.testing.assert_allclose(degrees, [5, 12.5, 21.25], atol=1e-3)


def test_search_asks_for_what_is_there() -> None:
    env = BatchReplay(FOLDER, 64, resolution=4, target="any", chunk=0)
    _, info = env.reset(seed=0)
    asked = {told.removeprefix("find ") for told in info["instruction"]}
    assert len(asked) >= 4
    assert asked <= set(env.sights)
    assert np.isfinite(info["state"]["gaze_error"]).all()
    _, info = env.reset(seed=0, options={"sight": env.sights.index("the pink eraser")})
    assert set(info["instruction"]) == {"find the pink eraser"}


def test_search_in_several_tasks_asks_for_seven_things_and_more() -> None:
    env = BatchReplay([folder for _, folder in REPLAYS], 40, resolution=4, target="any", chunk=0)
    _, info = env.reset(seed=0)
    assert len(set(info["instruction"])) >= 7
    there = Recordings(asset(f"{FOLDER}/complete.json").parent)[0].columns
    assert sum(name.startswith("sight/") and bool(np.isfinite(there[name][0]).all()) for name in there) >= 4
    for told, target in zip(info["instruction"], info["state"]["target_direction"], strict=True):
        assert told.startswith("find the ")
        assert np.isfinite(target).all()


def test_gymnasiums_own_batches_play_it_alike() -> None:
    def single() -> gym.Env[Any, Any]:
        return gym.make("Saccade/EyeReplay-EraserStand-v0", resolution=8, pause=2)

    ours = BatchReplay(FOLDER, 2, resolution=8, pause=2, autoreset_mode="next_step")
    for theirs in (gym.vector.SyncVectorEnv([single] * 2), gym.vector.AsyncVectorEnv([single] * 2)):
        (a, _), (b, _) = ours.reset(seed=[4, 5]), theirs.reset(seed=[4, 5])
        rng = np.random.default_rng(0)
        for _ in range(6):
            for key, value in b.items():
                np.testing.assert_array_equal(a[key], value)
            action = rng.uniform(-1, 1, (2, 2)).astype(np.float32)
            (a, reward, *_), (b, paid, *_) = ours.step(action), theirs.step(action)
            np.testing.assert_allclose(reward, paid, atol=1e-6)
        theirs.close()
    ours.close()


def test_mixed_search_asks_for_a_thing_or_what_the_task_asks_for() -> None:
    env = BatchReplay(FOLDER, 64, resolution=4, target="mixed", chunk=0)
    _, info = env.reset(seed=0)
    told = [str(text) for text in info["instruction"]]
    things = np.array([text.startswith("find ") for text in told])
    assert 16 < things.sum() < 48
    assert len(set(told)) > 4
    wanted = BatchReplay(FOLDER, 64, resolution=4, chunk=0)
    start = {key: info["state"][key] for key in ("episode", "frame", "gaze")}
    _, own = wanted.reset(seed=0, options=start)
    assert set(np.array(told)[~things]) == set(own["instruction"])
    same = np.isclose(info["state"]["gaze_error"], own["state"]["gaze_error"])
    assert same[~things].all()
    assert not same[things].all()


def test_a_share_of_the_episodes_begins_at_the_edges() -> None:
    frames = {}
    for edges in (0.0, 0.5):
        env = BatchReplay(FOLDER, 64, resolution=4, chunk=0, edges=edges, max_episode_steps=40)
        frames[edges] = env.reset(seed=0)[1]["state"]["frame"]
    first, last = (frames[0.5] == 0).mean(), (frames[0.5] >= frames[0.5].max() - 1).mean()
    assert 0.12 < first < 0.4
    assert last > 0.05  # recordings are of different lengths
    assert (frames[0.0] == 0).mean() < 0.05
    with pytest.raises(InvalidValueError, match=r"edges must be in \[0, 1\), got 1"):
        BatchReplay(FOLDER, 1, edges=1.0)


def test_the_guide_finds_everything_and_tells_nothing_of_what_is_out_of_sight() -> None:
    env = BatchReplay(
        FOLDER, 64, resolution=4, target="any", chunk=0, pause=100, actions="directions_25", autoreset_mode="disabled"
    )
    _, info = env.reset(seed=0)
    found = np.zeros(64, bool)
    for _ in range(45):
        found |= env.step(env.guide())[-1]["success"]
    assert found.all()
    start = {"gaze": info["state"]["gaze"], "episode": info["state"]["episode"], "frame": info["state"]["frame"]}
    told, hidden = [], []
    for sight in ("the pink eraser", "the black stand"):  # both are in every recording of this task
        _, info = env.reset(seed=0, options={**start, "sight": env.sights.index(sight)})
        told.append(env.guide())
        hidden.append(np.abs(info["state"]["target_direction"][:, 0] - start["gaze"][:, 0]) > np.radians(51))
    both = hidden[0] & hidden[1]
    assert both.sum() > 5
    np.testing.assert_array_equal(told[0][both], told[1][both])
    assert (told[0] != told[1])[~both].any()


def test_timings_add_up_over_steps() -> None:
    env = batch(2, pause=0, max_episode_steps=9)
    assert env.timings == {"decode": 0, "look": 0, "total": 0}
    env.reset(seed=0)
    env.timings.update(dict.fromkeys(env.timings, 0.0))
    began = time.perf_counter()
    for _ in range(20):  # with new episodes in between
        env.step(np.zeros((2, 2), np.float32))
    wall, spent = time.perf_counter() - began, env.timings
    assert spent["look"] > 0
    assert spent["decode"] > 0
    assert spent["decode"] + spent["look"] < spent["total"] < wall


def test_several_folders_are_one_stock_of_recordings() -> None:
    both = ("recordings/estop", FOLDER)
    env = BatchReplay(both, 16, resolution=4)
    _, info = env.reset(seed=0)
    assert len(set(info["instruction"])) == 2
    assert info["state"]["episode"].max() >= 2
    with pytest.raises(InvalidValueError, match="at least one"):
        BatchReplay([])


def test_every_shipped_recording_is_whole() -> None:
    for _, folder in REPLAYS:
        for recording in Recordings(asset(f"{folder}/complete.json").parent):
            film = recording.film()
            assert film[len(recording) - 1].shape == (480, 960, 3)
            film.close()


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="no recordings"):
        BatchReplay(tmp_path)
    with pytest.raises(InvalidValueError, match="must name a folder"):
        BatchReplay()
    with pytest.raises(UnknownNameError, match="unknown folder of recordings 'recordings/estopp': did you mean"):
        BatchReplay("recordings/estopp")
    with pytest.raises(InvalidValueError, match=r"fovs must be degrees .* fovea \(smallest\) first, got \(60, 20\)"):
        batch(fovs=(60, 20))
    with pytest.raises(InvalidValueError, match="resolution must be >= 1 pixel, got 0"):
        BatchReplay("recordings/estop", resolution=0)
    with pytest.raises(UnknownNameError, match="directions_25"):
        batch(actions="directions_24")
    with pytest.raises(UnknownNameError, match="recorded"):
        batch(target="record")
    with pytest.raises(InvalidValueError, match="pause"):
        batch(pause=-1)
    with pytest.raises(NotResetError):
        batch().step(np.zeros((2, 2), np.float32))
    env = batch()
    env.reset(seed=0)
    with pytest.raises(InvalidValueError, match="shape"):
        env.step(np.zeros((3, 2), np.float32))
    with pytest.raises(InvalidValueError, match="finite"):
        env.step(np.full((2, 2), np.nan, np.float32))
    with pytest.raises(UnknownNameError, match="episode"):
        env.reset(options={"epsode": 1})
    with pytest.raises(InvalidValueError, match="integers >= 0"):
        env.reset(seed=-1)
