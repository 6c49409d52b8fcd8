"""A recorded episode becomes a film of the very same episode, from any camera, at any size, with what matters written on it."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents import replay
from agents.base import OraclePolicy
from agents.config import load
from agents.make import make_env
from agents.overlay import Overlay, segment
from agents.rollout import Record, rollout
from agents.video import read_video
from assets.errors import InvalidValueError, UnknownNameError
from perception.frame import Pinhole, pose_of

SHORT = ("env=eye_search", "env.resolution=8", "+env.max_episode_steps=3", "policy=oracle", "episodes=1")
TINY = ("width=96", "height=72")


def film(tmp_path: Path, *overrides: str, name: str = "a.mp4") -> np.ndarray:
    path = replay.main([*SHORT, *(TINY if not any(o.startswith("width") for o in overrides) else ()), *overrides,
                        f"out={tmp_path / name}"])  # fmt: skip
    assert path == tmp_path / name
    return read_video(path)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def test_every_step_is_a_frame_and_things_move(tmp_path: Path) -> None:
    frames = film(tmp_path, "overlays=false")
    assert frames.shape == (4, 72, 96, 3)
    assert frames.std() > 20
    assert all(difference(a, b) > 0.02 for a, b in itertools.pairwise(frames))


def test_episodes_follow_each_other(tmp_path: Path) -> None:
    path = replay.main([*SHORT[:-1], *TINY, "episodes=3", f"out={tmp_path / 'a.mp4'}"])
    assert path is not None
    assert len(read_video(path)) == 3 * 4


def test_camera_size_profile_and_overlays_change_the_picture(tmp_path: Path) -> None:
    plain = film(tmp_path, "overlays=false", name="plain.mp4")
    for k, override in enumerate(("camera=top", "render=fast", "render=quality")):
        other = film(tmp_path, "overlays=false", override, name=f"{k}.mp4")
        assert other.shape == plain.shape
        assert difference(other, plain) > 0.2, override
    assert difference(film(tmp_path, "overlays=false", name="again.mp4"), plain) == 0
    assert difference(film(tmp_path, name="over.mp4"), plain) > 2


@pytest.mark.parametrize(("width", "height"), [(33, 31), (64, 200), (200, 20)])
def test_any_size(width: int, height: int, tmp_path: Path) -> None:
    frames = film(tmp_path, f"width={width}", f"height={height}")
    assert frames.shape == (4, height // 2 * 2, width // 2 * 2, 3)


def test_replayed_pixels_are_the_recorded_ones() -> None:
    config = load("replay", [*SHORT, *TINY])
    env = make_env(config, 2, "disabled")
    try:
        episodes = rollout(env, OraclePolicy(env), [3, 4], record=Record(images=True))
        for episode in episodes:
            seen = [obs for _, obs, _ in replay.frames(env.unwrapped, episode, config, "standard")]
            for key, recorded in episode.obs.items():
                np.testing.assert_array_equal(np.stack([obs[key] for obs in seen]), recorded, err_msg=key)
    finally:
        env.close()


def test_moments_drawn_at_once_are_those_drawn_one_by_one() -> None:
    config = load("replay", [*SHORT, *TINY])
    films = []
    for count in (1, 3):
        env = make_env(config, count, "disabled", width=96, height=64)
        try:
            (episode,) = rollout(env, OraclePolicy(env), [3], record=Record())
            overlay = Overlay(episode, env.unwrapped, "front")
            shown = replay.frames(env.unwrapped, episode, config, "standard")
            films.append(np.stack([overlay.draw(f, obs, t, sim) for t, (f, obs, sim) in enumerate(shown)]))
        finally:
            env.close()
    assert len(films[0]) == episode.length + 1
    assert len({f.tobytes() for f in films[0]}) == len(films[0])
    np.testing.assert_array_equal(*films)


def test_a_run_is_seen_as_it_was_trained_and_filmed_as_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from agents.train import main as train

    quick = ("agent.n_steps=8", "agent.batch_size=16", "agent.n_epochs=1", "agent.device=cpu", "agent.threads=1", "num_envs=2")
    run = train([*SHORT[:3], *quick, "logger=jsonl", "steps=16", f"run={tmp_path / 'run'}"])
    used: list[str] = []
    make = replay.make_env

    def watched(config: Any, *args: Any, **kwargs: Any) -> Any:
        env = make(config, *args, **kwargs)
        used.append(env.unwrapped.profile.name)  # type: ignore[attr-defined]
        return env

    monkeypatch.setattr(replay, "make_env", watched)
    films = [
        replay.main([str(run.folder), *TINY, "episodes=1", "overlays=false", f"render={look}", f"out={tmp_path / look}.mp4"])
        for look in ("standard", "quality")
    ]
    assert used == ["fast"] * 4  # each film's recording, and its drawing
    assert all(films)
    assert difference(*(read_video(f) for f in films if f)) > 0.2
    default = replay.main([f"run={run.folder}", *TINY, "episodes=1"])
    assert default == run.folder / "replay.mp4"


def test_the_browser_is_shown_every_state(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make_env(load("replay", [*SHORT, "+env.observe=[]"]), 1, "disabled", render_mode="human")
    try:
        (episode,) = rollout(env, OraclePolicy(env), [3], record=Record())
        batch: Any = env.unwrapped
        render, seen = batch.render, []

        def watched() -> Any:
            seen.append(batch.physics.batch.state[0].copy())
            return render()

        monkeypatch.setattr(batch, "render", watched)
        replay.serve(env, [episode], loops=2)
        np.testing.assert_array_equal(np.stack(seen), np.concatenate([episode.snapshots["state"]] * 2))
    finally:
        env.close()


def test_the_browser_on_request(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def once(env: Any, episodes: Any) -> None:
        serve(env, episodes, loops=1)

    serve = replay.serve
    monkeypatch.setattr(replay, "serve", once)  # which would go on until it is interrupted
    assert replay.main([*SHORT, "web=true", "+env.observe=[]"]) is None
    assert "recording 1 episodes" in capsys.readouterr().err


REFUSED = [
    (["camera=topp"], "unknown camera 'topp': did you mean 'top'? available: "),
    (["episodes=0"], "episodes must be an integer >= 1, got 0"),
    (["width=-3"], "width must be an integer >= 1, got -3"),
    (["height=0.5"], "height must be an integer >= 1, got 0.5"),
    (["policy=null"], "name a run (run=outputs/...) or a scripted policy"),
    (["run=nowhere"], "run=nowhere brings its own env: leave out env=eye_search"),
]


@pytest.mark.parametrize(("overrides", "sentence"), REFUSED)
def test_refusals_leave_no_file(overrides: list[str], sentence: str, tmp_path: Path) -> None:
    given = [s for s in SHORT if s.partition("=")[0] not in {o.partition("=")[0] for o in overrides}]
    with pytest.raises((InvalidValueError, UnknownNameError)) as caught:
        replay.main([*given, *overrides, f"out={tmp_path / 'a.mp4'}"])
    assert str(caught.value).startswith(sentence)
    assert list(tmp_path.iterdir()) == []


# -- overlays ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scene() -> Any:
    """An eye that has found its target: the environment, its episode, the last frame and observation."""
    env = make_env(load("replay", [*SHORT[:2], "+env.max_episode_steps=40"]), 1, "disabled", width=640, height=480)
    (episode,) = rollout(env, OraclePolicy(env), [3], record=Record())
    batch: Any = env.unwrapped
    obs = {key: value[0] for key, value in batch.restore({k: v[-1:] for k, v in episode.snapshots.items()}).items()}
    yield batch, episode, batch.draw()[0], obs
    env.close()


def changed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b.astype(int)).max(axis=-1) > 8


def test_everything_is_written_where_it_belongs(scene: Any) -> None:
    batch, episode, frame, obs = scene
    before = frame.copy()
    drawn = Overlay(episode, batch, "front").draw(frame, obs, episode.length)
    np.testing.assert_array_equal(frame, before)
    touched = changed(drawn, frame)
    assert touched[:24].mean() > 0.9  # the banner
    assert touched[390:470, 12:260].mean() > 0.8  # the curve
    for k in range(3):  # the eye's views, enlarged
        y = 39 + 130 * k
        inset = drawn[y + 20 : y + 24, 515:540]
        assert inset.reshape(-1, 3).std(axis=0).max() < 25 or touched[y : y + 110, 512:628].mean() > 0.5
    assert touched.mean() < 0.45  # the scene stays visible


def test_what_is_written_follows_the_episode(scene: Any) -> None:
    batch, episode, frame, obs = scene
    overlay = Overlay(episode, batch, "front")
    early, late = overlay.draw(frame, obs, 1), overlay.draw(frame, obs, episode.length)
    green = np.array([80, 220, 120])
    for drawn, expected in ((early, False), (late, True)):
        assert bool((np.abs(drawn[:24, 500:].astype(int) - green).max(axis=-1) < 12).any()) is expected
    assert changed(early, late)[390:470, 12:260].sum() > 100  # the curve has grown
    assert episode.succeeded


def test_the_gaze_ends_on_what_is_looked_at(scene: Any) -> None:
    batch, episode, frame, obs = scene
    origin, end = batch.gaze_ray()
    np.testing.assert_allclose(origin, batch.task.eye.centre(batch.physics)[0], atol=1e-9)
    target = batch.task.props[int(batch.task.state(batch.physics)["target"][0])]
    where = batch.physics.mocap_pos(f"{target.name}/root")[0] + [0, 0, target.height_m / 2]
    assert np.linalg.norm(end - where) < max(target.size_m)  # it meets the object, not the table behind it
    # and the mark is drawn there: where the render camera sees that point.
    position, rotation = batch.physics.camera_pose("front")
    fovy = float(batch.physics.model.cam_fovy[batch.physics.id("camera", "front")])
    u, v = segment(np.stack([origin, end]), pose_of(position[0], rotation[0]), Pinhole.from_fovy(fovy, 640, 480))[1]
    drawn = Overlay(episode, batch, "front").draw(frame, obs, 1)
    assert changed(drawn, frame)[round(v) - 9 : round(v) + 10, round(u) - 9 : round(u) + 10].sum() > 20


def test_what_the_hand_expects_is_drawn_where_it_is(scene: Any) -> None:
    batch, episode, frame, obs = scene
    path = np.linspace([0.5, -0.2, 0.1], [0.5, 0.2, 0.1], 30)
    thought = np.repeat(path[None], episode.length, axis=0)
    thought[1] = np.nan
    told = replace(episode, thought={"path": thought})
    plain, drawn = (Overlay(e, batch, "front").draw(frame, obs, 0) for e in (episode, told))
    position, rotation = batch.physics.camera_pose("front")
    fovy = float(batch.physics.model.cam_fovy[batch.physics.id("camera", "front")])
    for point in (path[2:4], path[20:22]):
        u, v = segment(point, pose_of(position[0], rotation[0]), Pinhole.from_fovy(fovy, 640, 480))[0]
        assert changed(drawn, plain)[round(v) - 2 : round(v) + 3, round(u) - 2 : round(u) + 3].any()
    assert not changed(*(Overlay(e, batch, "front").draw(frame, obs, 1) for e in (episode, told))).any()


def test_a_segment_is_cut_at_the_camera() -> None:
    camera, pose = Pinhole(100, 100, 50, 50, 50, 50), np.eye(4)
    np.testing.assert_allclose(segment(np.array([[0, 0, 1.0], [1, 0, 1.0]]), pose, camera), [[50, 50], [100, 50]])
    cut = segment(np.array([[0, 0, 1.0], [0, 1.0, -1.0]]), pose, camera)
    assert cut is not None
    assert np.isfinite(cut).all()
    np.testing.assert_allclose(cut[0], [50, 50])
    assert cut[1, 1] > 100
    assert segment(np.array([[0, 0, -1.0], [1, 0, -1.0]]), pose, camera) is None


def test_a_scene_without_an_eye_has_no_ray() -> None:
    config = load("replay", ["env=reach", "+env.image_size=8", "+env.max_episode_steps=2"])
    env = make_env(config, 1, "disabled", width=160, height=120)
    try:
        (episode,) = rollout(env, OraclePolicy(env), [0], record=Record())
        batch: Any = env.unwrapped
        drawn = [o.draw(f, obs, 1, sim) for f, obs, sim in replay.frames(batch, episode, load("replay", TINY), "standard")
                 for o in [Overlay(episode, batch, "front")]]  # fmt: skip
        assert len(drawn) == 3
    finally:
        env.close()


def test_a_second_film_leaves_the_first_alone(tmp_path: Path) -> None:
    first = film(tmp_path, "overlays=false")
    again = replay.main([*SHORT, *TINY, "overlays=true", f"out={tmp_path / 'a.mp4'}"])
    assert again == tmp_path / "a_2.mp4"
    assert np.array_equal(read_video(tmp_path / "a.mp4"), first)
    assert not np.array_equal(read_video(again), first)


def test_pictures_of_one_kind_share_a_renderer_and_an_eye_does_not_see_its_housing() -> None:
    env: Any = make_env(load("replay", list(SHORT)), 1, "disabled").unwrapped
    try:
        env.reset(seed=0)
        inside = env.draw("eye/1", 40, 40, look="fast")
        (kept,) = env._others.values()
        env.draw("eye/1", 32, 32, look="fast")
        assert np.array_equal(env.draw("eye/1", 40, 40, look="fast"), inside)
        assert next(iter(env._others.values())) is kept
        env.draw("eye/1", 24, 24, look="fast")
        assert not kept.is_open
        assert len(env._others) == 2
        wide = env.draw("eye/1", 8, 8, look="fast")
        # The iris is dark blue and fills the view from inside: the observation of the same camera shows none of it.
        assert difference(wide[0], env.step(np.zeros((1, 2), np.float32))[0]["eye_1"][0]) < 12
    finally:
        env.close()
