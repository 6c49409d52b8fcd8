"""Drawing: how it looks is configuration, what it shows is not; and a clear word where nothing can be drawn."""

from __future__ import annotations

import ctypes.util
import threading

import numpy as np
import pytest

from assets.errors import InvalidValueError, MissingDependencyError, UnknownNameError
from envs import gl
from envs.env import BatchEnv
from envs.render import PROFILES, Profile, Renderer, View, profile
from envs.scene import Scene

REACH = "envs.tasks.arm.reach:Reach"


def scene(n: int = 2) -> BatchEnv:
    env = BatchEnv(REACH, n, observe=())
    env.reset(seed=0)
    return env


def drawn(env: BatchEnv, look: Profile, *views: View, threads: int = 0) -> dict[tuple[str, str], np.ndarray]:
    renderer = Renderer(env.physics, look, max(v.drawn_size[0] for v in views), max(v.drawn_size[1] for v in views), threads)
    try:
        return renderer.draw(views)
    finally:
        renderer.close()


def test_profiles_differ_in_the_picture_only() -> None:
    env = scene()
    view = View("front", "front", 96, 72)
    before = env.physics.batch.state.copy()
    pictures = {name: drawn(env, look, view)["front", "rgb"] for name, look in PROFILES.items()}
    np.testing.assert_array_equal(env.physics.batch.state, before)
    names = list(pictures)
    for a, b in zip(names, names[1:] + names[:1], strict=True):
        assert not np.array_equal(pictures[a], pictures[b])
        # The same things at the same places: most pixels hardly differ.
        assert np.median(np.abs(pictures[a].astype(int) - pictures[b])) < 16

    trajectories = []
    for name in PROFILES:
        with_pixels = BatchEnv(REACH, 2, profile=name, image_size=8)
        with_pixels.reset(seed=0)
        for _ in range(3):
            with_pixels.step(np.full(with_pixels.action_space.shape, 0.5, np.float32))
        trajectories.append(with_pixels.physics.batch.state.copy())
        assert with_pixels.describe()["profile"] == name
        with_pixels.close()
    np.testing.assert_array_equal(trajectories[0], trajectories[1])
    np.testing.assert_array_equal(trajectories[0], trajectories[2])


def test_colour_and_depth_come_out_of_one_pass() -> None:
    env = scene()
    both = View("front", "front", 40, 30, ("rgb", "depth"))
    renderer = Renderer(env.physics, PROFILES["fast"], 40, 30)
    out = renderer.draw([both])
    assert renderer.draws == 2  # an image per simulation, not one per modality
    for modality in ("rgb", "depth"):
        alone = renderer.draw([View("front", "front", 40, 30, (modality,))])
        np.testing.assert_array_equal(out["front", modality], alone["front", modality])
    renderer.close()


def test_threads_and_order_do_not_change_a_pixel() -> None:
    env = scene(5)
    views = [View("front", "front", 33, 21, ("rgb", "depth", "segmentation")), View("top", "top", 48, 48)]
    one, two = drawn(env, PROFILES["fast"], *views, threads=1), drawn(env, PROFILES["fast"], *views, threads=3)
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])
    renderer = Renderer(env.physics, PROFILES["fast"], 48, 48)
    some = renderer.draw(views, np.array([4, 1]))
    for key, images in some.items():
        np.testing.assert_array_equal(images, one[key][[4, 1]])
    renderer.close()


def test_depth_is_metres_to_a_plane() -> None:
    compiled = Scene("arenas/tabletop.xml").compile(1)
    renderer = Renderer(compiled, PROFILES["standard"], 64, 64)
    # The camera "top" looks straight down from 2.4 m; the table's top is at 0 and the floor at -0.75.
    out = renderer.draw([View("top", "top", 64, 64, ("depth", "segmentation"))])
    renderer.close()
    depth, ids = out["top", "depth"][0], out["top", "segmentation"][0]
    for name, metres in (("table", 2.4), ("floor", 3.15)):
        inside = ids == compiled.id("geom", name)
        edge = np.zeros_like(inside)
        for axis in (0, 1):
            for shift in (-1, 1):
                edge |= np.roll(inside, shift, axis) != inside
        np.testing.assert_allclose(depth[inside & ~edge], metres, rtol=1e-3)
        assert (inside & ~edge).sum() > 50


def test_contexts_are_made_on_the_first_draw_and_freed_by_close() -> None:
    before = threading.active_count()
    env = BatchEnv(REACH, 3, num_threads=2, image_size=8)
    renderer = env._renderer
    assert not renderer.is_open
    assert threading.active_count() == before
    env.reset(seed=0)
    assert renderer.is_open
    assert threading.active_count() == before + 2
    env.close()
    assert not renderer.is_open
    assert threading.active_count() == before
    env.close()


KEEPS = pytest.mark.skipif(gl.candidates()[0] != "egl", reason="only EGL's contexts are kept")


@KEEPS
def test_a_context_that_was_used_before_draws_like_a_new_one() -> None:
    from envs import egl

    env, views = scene(3), [View(k, k, 40, 30, ("rgb", "depth", "segmentation")) for k in ("front", "top")]
    looks = [*PROFILES.values(), *reversed(PROFILES.values())]  # each after each other, with and without samples and shadows
    used = [drawn(env, look, *views, threads=1) for look in looks]
    for look, found in zip(looks, used, strict=True):
        egl._forget_spare()
        new = drawn(env, look, *views, threads=1)
        for key, picture in new.items():
            np.testing.assert_array_equal(found[key], picture)


@KEEPS
def test_as_many_contexts_are_kept_as_may_be() -> None:
    from envs import egl

    held = [gl.create_context(8, 8) for _ in range(egl.SPARE + 2)]
    for context in held:
        context.make_current()
        context.free()
        context.free()
    assert [len(display.spare) for display in egl._displays[:1]] == [egl.SPARE]
    again = gl.create_context(8, 8)
    assert len(egl._displays[0].spare) == egl.SPARE - 1
    again.free()


def test_any_camera_size_and_profile_can_be_drawn_besides() -> None:
    env = scene(2)
    assert env.draw("top", 20, 10).shape == (2, 10, 20, 3)
    assert env.draw("side", 20, 10, "depth", "fast").dtype == np.float32
    assert env.draw("front", 12, 12, "segmentation", {"samples": 2}, np.array([1])).shape == (1, 12, 12)
    assert env.draws == 0  # observations are counted, pictures for people are not
    np.testing.assert_array_equal(env.draw("front", 20, 20), env.draw("front", 20, 20))
    assert set(env.cameras) >= {"front", "side", "top", "arm/wrist"}
    env.close()


def test_profiles_by_name_field_and_near_miss() -> None:
    assert profile("fast") is PROFILES["fast"]
    custom = profile({"samples": 4})
    assert (custom.name, custom.samples, custom.slices) == ("custom", 4, PROFILES["fast"].slices)
    with pytest.raises(UnknownNameError, match=r"render profile 'quick': did you mean 'quality'\? available: fast, quality"):
        profile("quick")
    with pytest.raises(UnknownNameError, match="unknown render profile field 'sample': did you mean 'samples'"):
        profile({"sample": 4})
    with pytest.raises(InvalidValueError, match="render profile 'custom': samples must be >= 0, got -1"):
        profile({"samples": -1})


def test_views_check_themselves() -> None:
    with pytest.raises(InvalidValueError, match="view 'v': width and height must be >= 1, got 0 x 5"):
        View("v", "front", 0, 5)
    with pytest.raises(UnknownNameError, match="unknown modality 'dept': did you mean 'depth'"):
        View("v", "front", 5, 5, ("dept",))


# -- where OpenGL comes from -------------------------------------------------------------------------------------------


def test_an_unknown_backend_is_told_with_the_alternatives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egll")
    env = BatchEnv(REACH, 1, image_size=8)
    with pytest.raises(UnknownNameError) as caught:
        env.reset()
    assert str(caught.value) == "unknown headless backend in MUJOCO_GL 'egll': did you mean 'egl'? available: egl, osmesa"
    env.close()


@pytest.mark.parametrize(("value", "expected"), [("", ["egl", "osmesa"]), ("EGL", ["egl"]), ("osmesa", ["osmesa"])])
def test_the_backend_is_egl_unless_asked_otherwise(monkeypatch: pytest.MonkeyPatch, value: str, expected: list[str]) -> None:
    monkeypatch.setenv("MUJOCO_GL", value)
    assert gl.candidates() == expected


def test_a_missing_osmesa_names_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setattr(ctypes.util, "find_library", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"osmesa: libOSMesa\.so was not found.*`apt-get install libosmesa6`"):
        gl.create_context(8, 8)


def test_when_nothing_works_both_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MUJOCO_GL", raising=False)

    def broken(width: int, height: int, slot: int) -> gl.Context:
        raise ImportError("no library")

    monkeypatch.setattr(gl, "_BACKENDS", {"egl": broken, "osmesa": broken})
    with pytest.raises(MissingDependencyError, match=r"libegl1 libgl1-mesa-dri` or `apt-get install libosmesa6`"):
        gl.create_context(8, 8)


def test_the_gl_in_use_is_described() -> None:
    env = BatchEnv(REACH, 1, image_size=8)
    described = env.describe()
    assert described["gl"].keys() == {"vendor", "renderer", "version", "threads", "profile"}
    assert described["cameras"] == ["front"]
    env.close()
