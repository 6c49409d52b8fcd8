"""Panoramas of demonstrations: the same physics between two steps, going on when interrupted; real videos by the same door."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import envs
from agents import panoramas
from agents.collect import main as collect
from agents.dataset import DatasetError, Demonstrations
from agents.panoramas import bring_in, film
from assets.errors import InvalidValueError, UnknownNameError
from envs.kinematics import chain
from envs.replay import BatchReplay
from perception.recording import MARKER, RecordingError, Recordings
from perception.recording import Writer as RecordingWriter

assert envs

SHORT = ["env=estop", "n=2", "num_envs=2", "max_episode_steps=8", "only_successes=false", "noise=0.1", "name=short-v0"]
WIDTH = 64


def make(num_envs: int, **options: Any) -> Any:
    return gym.make_vec(
        "Saccade/EStop-v0", num_envs, vectorization_mode="vector_entry_point", autoreset_mode="disabled", observe=(), **options
    )


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("datasets")
    return collect([*SHORT, f"folder={folder}", f"panoramas={WIDTH}"])


def test_rows_of_a_recording_are_states_of_the_demonstration(dataset: Path) -> None:
    demonstrations, found = Demonstrations(dataset), Recordings(dataset / panoramas.FOLDER)
    assert (len(found), found.rate, found.width) == (2, 30, WIDTH)
    for episode, recording in zip(demonstrations, found, strict=True):
        assert len(recording) == 2 * episode.length + 1
        assert recording.about["seed"] == episode.seed
        for name in ("joints", "tool", "opening"):
            np.testing.assert_allclose(recording.columns[name][::2], episode.state[name], atol=1e-9)
        np.testing.assert_allclose(chain("panda").tool(recording.columns["joints"])[0], recording.columns["tool"], atol=1e-9)
        assert episode.action is not None
        np.testing.assert_allclose(recording.columns["grip"][:-1:2], (episode.action[:, -1:] + 1) / 2, atol=1e-6)


def test_between_two_steps_the_same_physics_went_on(dataset: Path) -> None:
    episode = Demonstrations(dataset)[0]
    env = make(1)
    env.reset(seed=0)
    assert episode.action is not None
    rows = {k: v[3:4] for k, v in episode.snapshots.items()}
    half = env.unwrapped.within(rows, episode.action[3:4], 0.5)
    np.testing.assert_array_equal(half["joints"][0], Recordings(dataset / panoramas.FOLDER)[0].columns["joints"][7])
    inner = env.unwrapped
    inner.physics.step(inner.nstep // 2)  # the other half of the step
    np.testing.assert_allclose(inner.task.state(inner.physics)["joints"][0], episode.state["joints"][4], atol=1e-12)
    with pytest.raises(InvalidValueError, match="share must be"):
        inner.within(rows, episode.action[3:4], 0.33)
    env.close()


def test_pictures_of_other_cameras_are_what_the_task_observes(dataset: Path) -> None:
    demonstrations, cameras = Demonstrations(dataset), ["front", "arm/wrist"]
    env = make(2, cameras=cameras, camera_resolution=16)
    folder = film(env, demonstrations, WIDTH, dataset / "beside", show=False)
    env.close()
    observing: Any = gym.make_vec(
        "Saccade/EStop-v0", 1, vectorization_mode="vector_entry_point", cameras=cameras, camera_resolution=16
    )
    observing.reset(seed=0)
    assert [k for k in observing.single_observation_space if "eye" in k] == []
    replay = BatchReplay(folder, 1, cameras=cameras, pause=0, max_episode_steps=4, chunk=5)
    obs, info = replay.reset(options={"episode": 1, "frame": 0})
    assert [k for k in info["chunk"] if "camera" in k] == []
    for t in range(3):
        state = observing.unwrapped.restore({k: v[t : t + 1] for k, v in demonstrations[1].snapshots.items()})
        for name in ("front", "wrist"):
            np.testing.assert_array_equal(obs[name], state[name])
        obs, *_ = replay.step(np.ones((1, 2)))
    with pytest.raises(UnknownNameError, match="front"):
        BatchReplay(folder, 1, cameras=["side"])
    for one in (observing, replay):
        one.close()


def test_stills_are_every_so_manieth_step_of_the_film(dataset: Path, tmp_path: Path) -> None:
    env = make(2)
    whole = Recordings(dataset / panoramas.FOLDER)
    stills = Recordings(film(env, Demonstrations(dataset), WIDTH, tmp_path / "stills", stills=3, show=False))
    for all_frames, few in zip(whole, stills, strict=True):
        assert len(few) == (len(all_frames) - 1) // 2 // 3 + 1
        for name, column in few.columns.items():
            np.testing.assert_array_equal(column, all_frames.columns[name][::6], err_msg=name)
        shown, full = few.film(), all_frames.film()
        for number in range(len(few)):
            apart = np.abs(shown[number].astype(int) - full[6 * number])
            assert apart.mean() < 6  # both are compressed
    with pytest.raises(InvalidValueError, match=r"stills must be >= 0 control steps, got -1"):
        film(env, Demonstrations(dataset), WIDTH, tmp_path / "none", stills=-1)
    env.close()


def test_on_twos_every_picture_is_shown_twice(dataset: Path, tmp_path: Path) -> None:
    env = make(2)
    whole = Recordings(dataset / panoramas.FOLDER)
    twos = Recordings(film(env, Demonstrations(dataset), WIDTH, tmp_path / "twos", twos=True, show=False))
    for all_frames, drawn in zip(whole, twos, strict=True):
        assert len(drawn) == len(all_frames)
        for name, column in drawn.columns.items():
            wanted = all_frames.columns[name]
            wanted = wanted[np.arange(len(wanted)) // 2 * 2] if name.startswith("camera/") else wanted
            np.testing.assert_array_equal(column, wanted, err_msg=name)
        shown, full = drawn.film(), all_frames.film()
        for number in range(len(drawn)):
            assert np.abs(shown[number].astype(int) - full[number // 2 * 2]).mean() < 6  # both are compressed
    replay = BatchReplay(tmp_path / "twos", 32, pause=0, max_episode_steps=2, chunk=0)
    first = replay.reset(seed=0)[1]["start"]["frame"]
    replay.close()
    assert not (first % 2).any()
    assert len(set(first.tolist())) > 1
    with pytest.raises(InvalidValueError, match=r"take twos or stills, got twos and stills=3"):
        film(env, Demonstrations(dataset), WIDTH, tmp_path / "none", stills=3, twos=True)
    env.close()


def test_an_interrupted_film_goes_on(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = dataset / "again"
    env, demonstrations = make(2), Demonstrations(dataset)
    add, calls = RecordingWriter.add, []

    def once(self: Any, *arguments: Any) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(1)
        add(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(RecordingWriter, "add", once)
        with pytest.raises(KeyboardInterrupt):
            film(env, demonstrations, WIDTH, target, show=False)
    with pytest.raises(RecordingError, match="half-written"):
        Recordings(target)
    film(env, demonstrations, WIDTH, target, show=False)
    whole, again = Recordings(dataset / panoramas.FOLDER), Recordings(target)
    for a, b in zip(whole, again, strict=True):
        for name, values in a.columns.items():
            np.testing.assert_array_equal(values, b.columns[name])
        assert a.file.read_bytes() == b.file.read_bytes()
    env.close()


def test_the_command_goes_on_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [*SHORT, f"folder={tmp_path}", f"panoramas={WIDTH}"]
    path = collect(arguments)
    with pytest.raises(DatasetError, match="never overwritten"):
        collect(arguments)
    (path / panoramas.FOLDER / MARKER).unlink()
    collect(arguments)
    assert "its panoramas go on" in capsys.readouterr().err
    assert len(Recordings(path / panoramas.FOLDER)) == 2
    (path / panoramas.FOLDER / MARKER).unlink()
    with pytest.raises(DatasetError, match="was collected with first_seed=0, not 5"):
        collect([*arguments, "seed=5"])


def test_a_half_written_dataset_is_collected_anew(tmp_path: Path) -> None:
    arguments = [*SHORT, f"folder={tmp_path}"]
    path = collect(arguments)
    before = [e.action for e in Demonstrations(path)]
    (path / "complete.json").unlink()
    collect(arguments)
    for a, b in zip(before, Demonstrations(path), strict=True):
        np.testing.assert_array_equal(a, b.action)
    (path / "complete.json").unlink()
    (path / "mine.txt").write_text("not to be deleted")
    with pytest.raises(DatasetError, match="half-written"):
        collect(arguments)


def test_panoramas_need_an_eye(tmp_path: Path) -> None:
    arguments = ["env=reach", "n=1", "num_envs=1", "max_episode_steps=5", "only_successes=false", f"folder={tmp_path}"]
    with pytest.raises(InvalidValueError, match="need an environment with an eye"):
        collect([*arguments, "panoramas=64"])


# -- real videos -------------------------------------------------------------------------------------------------------


def video(file: Path, count: int = 20, width: int = 128, height: int = 64) -> Path:
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for k in range(count):
            frame = np.full((height, width, 3), 20 + 5 * k, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file


def table(file: Path, rows: int = 20, time: bool = False) -> Path:
    lines = ["time," * time + "joint1,joint2,opening,grip"]
    lines += [f"{k / 10}," * time + f"{k / 10},{-k / 10},1,0.5" for k in range(rows)]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_a_real_video_comes_in(tmp_path: Path) -> None:
    folder = tmp_path / "real"
    bring_in(video(tmp_path / "a.mp4"), table(tmp_path / "a.csv"), folder, "wave", WIDTH, more=True)
    bring_in(video(tmp_path / "b.mp4"), table(tmp_path / "b.csv", 8, time=True), folder, "wave again", WIDTH)
    one, two = Recordings(folder)
    np.testing.assert_allclose(one.columns["joints"][:, 0], np.arange(20) / 10)
    np.testing.assert_allclose(two.columns["joints"][:, 1], -np.arange(20) / 30)
    assert one.columns["grip"].shape == (20, 1)
    assert (one.instruction, two.instruction, one.about["video"]) == ("wave", "wave again", "a.mp4")
    env = BatchReplay(folder, 2, target="none", pause=2, max_episode_steps=6, resolution=8)
    obs, info = env.reset(seed=0)
    assert obs["joints"].shape == (2, 2)
    assert np.isnan(info["state"]["gaze_error"]).all()
    *_, reward, _, _, _ = env.step(np.zeros((2, 2), np.float32))
    np.testing.assert_array_equal(reward, 0)


def arm_table(file: Path, *gripper: str, rows: int = 20) -> Path:
    """A table of seven joints that move, and of columns of the gripper, one half open."""
    lines = [",".join((*(f"joint{j + 1}" for j in range(7)), *gripper))]
    lines += [",".join((*(f"{0.1 * j + 0.01 * k}" for j in range(7)), *("0.5" for _ in gripper))) for k in range(rows)]
    file.write_text("\n".join(lines) + "\n")
    return file


def test_where_the_tool_was_in_a_real_video_follows_from_its_joints(tmp_path: Path) -> None:
    folder = bring_in(video(tmp_path / "a.mp4"), arm_table(tmp_path / "a.csv"), tmp_path / "real", "wave", WIDTH)
    env = BatchReplay(folder, 1, target="none", pause=0, chunk=30, resolution=8)
    obs, info = env.reset(seed=0, options={"frame": 3})
    expected = chain("panda").tool(Recordings(folder)[0].columns["joints"])[0]
    np.testing.assert_array_equal(env.columns("tool")[0], expected)
    np.testing.assert_allclose(obs["tool"][0], expected[3], atol=1e-6)
    np.testing.assert_array_equal(info["chunk"]["tool"][0, :17], expected[3:])
    assert "tool" not in Recordings(folder)[0].columns  # what is stored stays as it is
    assert obs in env.observation_space


@pytest.mark.parametrize("reward", ["path", "joint"])
def test_bc_rl_learns_from_a_real_video(tmp_path: Path, reward: str) -> None:
    pytest.importorskip("torch")
    from agents.bcrl import BCRLLearner

    joints = arm_table(tmp_path / "a.csv", "opening", "grip", rows=40)
    folder = bring_in(video(tmp_path / "a.mp4", 40), joints, tmp_path / "real", "wave", WIDTH)
    size = {"width": 32, "heads": 2, "depth": 1, "patch": 4, "window": 4}
    options: dict[str, Any] = {"target": "none", "pause": 2, "max_episode_steps": 8, "resolution": 8, "actions": "directions_9"}

    def learner(recordings: Path, **more: Any) -> BCRLLearner:
        env = BatchReplay(recordings, 2, **options)
        return BCRLLearner(env, size=size, epochs=1, minibatches=2, device="cpu", **{"reward": reward, **more})

    told = learner(folder).advance(1)
    assert told["rollout/reward"] < 0
    assert np.isfinite(told["train/hand_loss"])
    bare = bring_in(video(tmp_path / "b.mp4"), arm_table(tmp_path / "b.csv", "opening"), tmp_path / "bare", "wave", WIDTH)
    with pytest.raises(InvalidValueError, match=r"the hand learns the recorded column 'grip', .* add a column 'grip'"):
        learner(bare)
    learner(bare, reward="env", hand=False)
    two = bring_in(video(tmp_path / "c.mp4"), table(tmp_path / "c.csv"), tmp_path / "two", "wave", WIDTH)
    with pytest.raises(InvalidValueError, match=r"reads the recorded column 'tool', .* as many as the arm"):
        learner(two, reward="path")


def test_real_videos_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    good, joints = video(tmp_path / "good.mp4"), table(tmp_path / "good.csv")
    with pytest.raises(InvalidValueError, match="twice as wide as high"):
        bring_in(video(tmp_path / "square.mp4", width=64), joints, tmp_path / "x", "wave")
    with pytest.raises(InvalidValueError, match="has 19 rows, the video 20 frames"):
        bring_in(good, table(tmp_path / "short.csv", 19), tmp_path / "x", "wave")
    with pytest.raises(InvalidValueError, match="must cover all of it"):
        bring_in(good, table(tmp_path / "early.csv", 3, time=True), tmp_path / "x", "wave")
    (tmp_path / "none.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InvalidValueError, match="needs columns 'joint1'"):
        bring_in(good, tmp_path / "none.csv", tmp_path / "x", "wave")
    (tmp_path / "hole.csv").write_text("joint1\n" + "1\n" * 19 + "?\n")
    with pytest.raises(InvalidValueError, match="no number"):
        bring_in(good, tmp_path / "hole.csv", tmp_path / "x", "wave")
    for wrong in ("nan", "inf"):
        (tmp_path / "not.csv").write_text("joint1,grip\n" + "1,0\n" * 18 + f"{wrong},0\n1,0\n")
        with pytest.raises(InvalidValueError, match=rf"not\.csv: column 'joint1' has {wrong} in row 18"):
            bring_in(good, tmp_path / "not.csv", tmp_path / "x", "wave")
    for header, row, told in (
        ("joint1,joint3", "1,1", r"has columns \['joint1', 'joint3'\]: joints are counted from 1 without a gap"),
        ("joint1,joint2", "1,90", r"column 'joint2' goes from 90 to 90: joints are in rad, not in degrees"),
        ("joint1,opening", "1,-0.1", r"column 'opening' goes from -0\.1 to -0\.1: 0 is shut and 1 is open"),
        ("joint1,grip", "1,85", r"column 'grip' goes from 85 to 85: 0 is shut and 1 is open"),
    ):
        (tmp_path / "unit.csv").write_text(f"{header}\n" + f"{row}\n" * 20)
        with pytest.raises(InvalidValueError, match=told):
            bring_in(good, tmp_path / "unit.csv", tmp_path / "x", "wave")
    (tmp_path / "when.csv").write_text("time,joint1\n0,1\nnan,1\n9,1\n")
    with pytest.raises(InvalidValueError, match=r"column 'time' has nan in row 1"):
        bring_in(good, tmp_path / "when.csv", tmp_path / "x", "wave")
    with pytest.raises(RecordingError, match="not a video"):
        bring_in(joints, joints, tmp_path / "x", "wave")
    with pytest.raises(RecordingError, match=r"gone\.mp4 is not a video that can be read: .*No such file"):
        bring_in(tmp_path / "gone.mp4", joints, tmp_path / "x", "wave")
    with pytest.raises(RecordingError, match=r"gone\.csv is not a table that can be read: .*No such file"):
        bring_in(good, tmp_path / "gone.csv", tmp_path / "x", "wave")
    with pytest.raises(RecordingError, match=r"good\.mp4 is not a table that can be read"):
        bring_in(good, good, tmp_path / "x", "wave")
    assert not (tmp_path / "x").exists()


def test_what_the_command_refuses_is_one_sentence(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "agents.panoramas", "gone.mp4", "gone.csv", "--instruction", "wave", "--out", str(tmp_path)]
    done = subprocess.run(call, cwd=Path(panoramas.__file__).parents[1], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("saccade: gone.mp4 is not a video that can be read: ")
    assert len(done.stderr.splitlines()) == 1


def test_the_command_brings_in(tmp_path: Path) -> None:
    files = [str(video(tmp_path / "a.mp4")), str(table(tmp_path / "a.csv"))]
    assert panoramas.main([*files, "--instruction", "wave", "--out", str(tmp_path / "real"), "--width", "64"]) == 0
    assert json.loads((tmp_path / "real" / MARKER).read_text())["episodes"] == 1
