"""The eye: what it sees, how fast it turns, and that it does not see itself."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from envs.env import BatchEnv
from envs.eye import FOVEAL_PYRAMID, Eye, angle_between, direction_to, fisheye_lens, unit
from envs.physics import Physics
from envs.render import HOUSING_GROUP, PROFILES, Renderer, View
from envs.scene import Scene
from perception.frame import Fisheye
from perception.sphere import psnr

directions = st.tuples(st.floats(-3, 3), st.floats(-1.5, 1.5))


@settings(max_examples=100, deadline=None)
@given(a=directions, b=directions)
def test_angles_between_directions_are_a_metric(a: tuple[float, float], b: tuple[float, float]) -> None:
    u, v = np.array([a]), np.array([b])
    angle = angle_between(u, v)[0]
    assert angle_between(v, u)[0] == pytest.approx(angle)
    assert 0 <= angle <= np.pi + 1e-9
    assert np.cos(angle) == pytest.approx((unit(u) @ unit(v).T)[0, 0], abs=1e-9)
    assert angle_between(u, u)[0] == 0


@settings(max_examples=50, deadline=None)
@given(gaze=directions, far=st.floats(0.1, 10))
def test_a_direction_points_at_its_point(gaze: tuple[float, float], far: float) -> None:
    origin = np.array([[1.0, 2, 3]])
    found = direction_to(origin + far * unit(np.array([gaze])), origin)
    assert angle_between(found, np.array([gaze]))[0] < 1e-6


def scene_with(eye: Eye, n: int = 1) -> Physics:
    scene = Scene("arenas/tabletop.xml")
    ball = mujoco.MjSpec()
    ball.worldbody.add_body(name="root").add_geom(
        type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[0.05, 0, 0], rgba=[1, 0, 0, 1], contype=0, conaffinity=0, mass=1
    )
    scene.attach(ball, "ball", joint="mocap")
    eye.attach(scene)
    return scene.compile(n)


@settings(max_examples=8, deadline=None)
@given(gaze=st.tuples(st.floats(-2, 2), st.floats(-0.5, 0.5)), projection=st.sampled_from(["pinhole", "fisheye"]))
def test_what_is_looked_at_is_in_the_middle_of_every_level(gaze: tuple[float, float], projection: str) -> None:
    eye = Eye(pos=(0.0, 0.0, 0.4), resolution=41, projection=projection)
    physics = scene_with(eye)
    eye.aim(physics, physics.all, np.array([gaze]))
    physics.mocap_pos("ball/root")[:] = np.array([0, 0, 0.4]) + 0.6 * unit(np.array([gaze]))
    physics.forward()
    np.testing.assert_allclose(eye.gaze(physics)[0], gaze, atol=1e-9)
    largest = max(view.drawn_size[0] for view in eye.views)
    renderer = Renderer(physics, PROFILES["fast"], largest, largest)
    ball = int(np.flatnonzero(physics.model.geom_bodyid == physics.id("body", "ball/root"))[0])
    views = [View(v.name, v.camera, v.width, v.height, ("segmentation",), True, v.lens) for v in eye.views]
    drawn = renderer.draw(views)
    renderer.close()
    for view in views:
        rows, columns = np.nonzero(drawn[view.name, "segmentation"][0] == ball)
        assert len(rows) > 4
        assert abs(rows.mean() - 20) < 1
        assert abs(columns.mean() - 20) < 1


@pytest.mark.parametrize("projection", ["pinhole", "fisheye"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_a_level_ends_where_its_field_of_view_does(level: int, projection: str) -> None:
    eye = Eye(pos=(0.0, 0.0, 0.4), resolution=200, projection=projection)
    physics = scene_with(eye)
    view = eye.views[level]
    seen = View(view.name, view.camera, 200, 200, ("segmentation",), True, view.lens)
    size = seen.drawn_size[0]
    renderer = Renderer(physics, PROFILES["fast"], size, size)
    ball = int(np.flatnonzero(physics.model.geom_bodyid == physics.id("body", "ball/root"))[0])
    half = np.radians(FOVEAL_PYRAMID[level] / 2)

    def visible(azimuth: float) -> bool:
        physics.mocap_pos("ball/root")[:] = np.array([0, 0, 0.4]) + 8 * unit(np.array([[azimuth, 0.0]]))
        physics.forward()
        return bool((renderer.draw([seen])[seen.name, "segmentation"] == ball).any())

    radius = 0.05 / 8
    assert visible(half - np.radians(0.3))
    assert not visible(half + radius + np.radians(0.7))
    renderer.close()


def test_the_fisheye_is_a_lens_and_the_pinhole_is_not() -> None:
    assert Eye().lenses == (None, None, None)
    lens = fisheye_lens(116.1, 40)
    assert lens.map_u.shape == lens.map_v.shape == (40, 40)
    assert (lens.map_u[0] == -2).all()  # the sensor is 1200 pixels high: above it there is nothing
    middle = lens.map_u[20]
    assert (np.diff(middle) > 0).all()
    np.testing.assert_allclose(middle + middle[::-1], lens.source - 1, atol=0.01)


def test_the_eye_does_not_see_its_housing_and_others_do() -> None:
    eye = Eye(pos=(0.3, 0.0, 0.3), resolution=64)
    physics = scene_with(eye)
    housing = np.flatnonzero(physics.model.geom_group == HOUSING_GROUP)
    assert len(housing) >= 3
    own = [View(v.name, v.camera, 64, 64, ("segmentation",), True) for v in eye.views]
    front = View("front", "front", 200, 200, ("segmentation",))
    renderer = Renderer(physics, PROFILES["fast"], 200, 200)
    for gaze in ((0.0, 0.0), (2.2, -0.5), (-2.2, 0.5)):
        eye.aim(physics, physics.all, np.array([gaze]))
        physics.forward()
        drawn = renderer.draw([*own, front, own[0]])
        for view in own:
            assert not np.isin(drawn[view.name, "segmentation"], housing).any()
        assert np.isin(drawn["front", "segmentation"], housing).any()
    renderer.close()


def test_turning_has_no_parallax() -> None:
    eye = Eye(pos=(0.1, 0.2, 0.3))
    physics = scene_with(eye, 3)
    eye.aim(physics, physics.all, np.array([[0, 0], [1, 0.3], [-2, -0.5]]))
    physics.forward()
    np.testing.assert_allclose(eye.centre(physics), [[0.1, 0.2, 0.3]] * 3, atol=1e-12)
    position, rotation = physics.camera_pose("eye/0")
    np.testing.assert_allclose(position, eye.centre(physics), atol=1e-12)
    np.testing.assert_allclose(-rotation[:, :, 2], unit(eye.gaze(physics)), atol=1e-9)


def test_look_returns_a_frame_that_knows_where_it_was_taken() -> None:
    env = BatchEnv("envs.tasks.eye.search:EyeSearch", 2, observe=())
    env.reset(seed=0)
    eye = env.task.eye
    renderer = Renderer(env.physics, PROFILES["fast"], 40, 40)
    frame = eye.look(env.physics, renderer, level=2)
    assert frame.rgb.shape == (2, 40, 40, 3)
    np.testing.assert_allclose(frame.pose[:, :3, 3], eye.centre(env.physics))
    np.testing.assert_allclose(frame.pose[:, :3, 2], unit(eye.gaze(env.physics)), atol=1e-6)
    points = frame.points()[1][frame.segmentation[1] == env.physics.id("geom", "table")]
    if len(points):
        assert np.abs(points[:, 2]).max() < 0.01
    one = eye.look(env.physics, renderer, 2, np.array([1]))
    np.testing.assert_array_equal(one.rgb[0], frame.rgb[1])
    renderer.close()
    with pytest.raises(InvalidValueError, match="this eye's projection is 'fisheye'"):
        Eye(projection="fisheye").look(env.physics, renderer)


def looked(fovs: tuple[float, float], side: int, projection: str, level: int, profile: str) -> NDArray[np.uint8]:
    """One level of an eye that looks at what it searches for, drawn on its own, in three simulations. (3, side, side, 3)."""
    options = {"fovs": fovs, "resolution": side, "projection": projection}
    env = BatchEnv("envs.tasks.eye.search:EyeSearch", 3, observe=(), **options)
    _, info = env.reset(seed=0)
    eye, view = env.task.eye, env.task.eye.views[level]
    eye.aim(env.physics, env.physics.all, info["state"]["target_direction"])
    env.physics.forward()
    renderer = Renderer(env.physics, PROFILES[profile], *view.drawn_size)
    drawn = renderer.draw([view])[view.name, "rgb"]
    renderer.close()
    env.close()
    return drawn


def crop_alike(projection: str, profile: str, side: int, times: int) -> float:
    """How alike a fovea `side` pixels wide is to its place in a render of the widest level `times` as dense, averaged, dB."""
    if projection == "fisheye":  # a sixth of EyeRobot's sensor, to the pixel
        wide, fovs = 6 * times * side, (Fisheye().crop_fov(320), Fisheye().crop_fov(1920))
    else:
        slope = np.tan(np.radians(FOVEAL_PYRAMID[2] / 2))
        wide = 2 * round(times * side * slope / np.tan(np.radians(FOVEAL_PYRAMID[0] / 2)) / 2)
        fovs = (float(np.degrees(2 * np.arctan(times * side / wide * slope))), FOVEAL_PYRAMID[2])
    own, whole = looked(fovs, side, projection, 0, profile), looked(fovs, wide, projection, 1, profile)
    edge = (wide - times * side) // 2
    inside = whole[:, edge : edge + times * side, edge : edge + times * side].astype(np.float64)
    averaged = inside.reshape(len(own), side, times, side, times, 3).mean(axis=(2, 4))
    return psnr(own, averaged.round().astype(np.uint8))


@pytest.mark.parametrize(
    ("projection", "profile", "times", "least"),
    [
        ("pinhole", "fast", 1, 45),  # the same rays: the same pixels
        ("pinhole", "standard", 4, 36),
        ("pinhole", "fast", 4, 27),  # one sample for a pixel is no average over it: edges are jagged
        ("fisheye", "fast", 4, 28),  # and its lens interpolates
    ],
)
def test_a_fovea_drawn_on_its_own_is_the_crop_of_one_large_render(
    projection: str, profile: str, times: int, least: float
) -> None:
    assert crop_alike(projection, profile, 40, times) > least


@pytest.mark.parametrize(
    ("arguments", "error", "sentence"),
    [
        ({"projection": "fish"}, UnknownNameError, "unknown projection 'fish': did you mean 'fisheye'"),
        ({"fovs": (60.0, 20.0)}, InvalidValueError, r"fovea \(smallest\) first, got \(60.0, 20.0\)"),
        ({"fovs": ()}, InvalidValueError, r"fovs must be degrees inside \(0, 180\)"),
        ({"fovs": (200.0,)}, InvalidValueError, r"fovs must be degrees inside \(0, 180\)"),
        ({"resolution": -3}, InvalidValueError, "resolution must be >= 1 pixel, got -3"),
        ({"max_speed": 0}, InvalidValueError, "max_speed must be > 0 degrees per second, got 0"),
        ({"elevation": 91.0}, InvalidValueError, r"elevation in \(0, 90\] degrees, got 130.0 and 91.0"),
        ({"encoder_bits": 0}, InvalidValueError, "encoder_bits must be >= 1, or None"),
    ],
)
def test_impossible_eyes_are_refused(arguments: dict[str, object], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        Eye(**arguments)  # type: ignore[arg-type]


def test_the_gaze_is_read_in_steps_of_the_encoder() -> None:
    eye = Eye(encoder_bits=15)
    physics, step = scene_with(eye), 360 / 2**15  # 0.011 degrees
    eye.aim(physics, physics.all, np.radians([[10.004, -7.001]]))
    read = np.degrees(eye.gaze(physics)[0])
    np.testing.assert_allclose(read / step, np.round(read / step), atol=1e-6)
    np.testing.assert_allclose(read, [10.004, -7.001], atol=step / 2 + 1e-9)
    assert read[0] != pytest.approx(10.004, abs=1e-6)


def test_tasks_on_the_arc_can_have_a_faster_eye() -> None:
    env = BatchEnv("envs.tasks.eye.estop:EStop", 1, observe=(), eye_speed=1000.0, eye_elevation=90.0, encoder_bits=15)
    env.reset(seed=0)
    assert env.gaze_reach == pytest.approx(1000 / 15)
    for _ in range(4):
        _, _, _, _, info = env.step(np.array([[0, 1, *np.zeros(env.single_action_space.shape[0] - 2)]], np.float32))
    assert np.degrees(info["state"]["gaze"][0, 1]) > 80
    env.close()


def test_the_speed_limit_can_be_chosen() -> None:
    eye = Eye(max_speed=30.0)
    physics = scene_with(eye)
    physics.ctrl[:, physics.id("actuator", "eye/pan")] = 99
    physics.step(240)
    assert np.degrees(eye.gaze(physics)[0, 0]) == pytest.approx(30, rel=0.1)
    assert np.degrees(eye.velocity(physics)[0, 0]) == pytest.approx(30, rel=0.1)
