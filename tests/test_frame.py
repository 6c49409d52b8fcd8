"""Cameras as geometry: published numbers, inverses, and points where a known cube is."""

from __future__ import annotations

import cv2
import mujoco
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assets.errors import InvalidValueError
from envs.physics import Physics
from envs.render import PROFILES, Renderer, View
from perception.frame import Fisheye, Frame, Pinhole, pixel_grid, pose_of

FISHEYE = Fisheye()


def test_the_fisheyes_fields_of_view_are_the_published_ones() -> None:
    across, down = np.degrees(2 * FISHEYE.angle([960, 600]))
    corner = np.degrees(2 * FISHEYE.angle(np.hypot(960, 600)))
    assert across == pytest.approx(116.1, abs=0.2)
    assert down == pytest.approx(67.0, abs=0.2)
    assert corner == pytest.approx(148.6, abs=0.2)


@pytest.mark.parametrize(("crop", "fov"), [(320, 17.3), (1120, 62.3), (1920, 116.1)])
def test_the_crops_fields_of_view_are_the_published_ones(crop: int, fov: float) -> None:
    assert FISHEYE.crop_fov(crop) == pytest.approx(fov, abs=0.5)
    assert FISHEYE.crop_for(fov) == pytest.approx(crop, abs=6)


@pytest.mark.parametrize("camera", [FISHEYE, Pinhole.from_fovy(50, 640, 480)], ids=["fisheye", "pinhole"])
def test_a_pixel_comes_back_from_its_ray(camera: Fisheye | Pinhole) -> None:
    pixels = np.random.default_rng(0).uniform(0, [camera.width, camera.height], (1000, 2))
    rays = camera.unproject(pixels)
    np.testing.assert_allclose(np.linalg.norm(rays, axis=1), 1)
    assert np.abs(camera.project(7 * rays) - pixels).max() < 0.5
    assert np.abs(camera.project(rays) - pixels).max() < 1e-6


def test_the_fisheye_is_opencvs() -> None:
    points = np.random.default_rng(1).uniform([-1, -1, 1], [1, 1, 3], (200, 3))
    matrix = np.array([[FISHEYE.f, 0, FISHEYE.cx], [0, FISHEYE.f, FISHEYE.cy], [0, 0, 1]])
    theirs, _ = cv2.fisheye.projectPoints(points[None], np.zeros(3), np.zeros(3), matrix, np.array(FISHEYE.k))
    np.testing.assert_allclose(FISHEYE.project(points), theirs[0], atol=1e-6)


@settings(max_examples=50, deadline=None)
@given(fovy=st.floats(5, 150), width=st.integers(1, 500), height=st.integers(1, 500))
def test_a_pinhole_sees_its_field_of_view(fovy: float, width: int, height: int) -> None:
    camera = Pinhole.from_fovy(fovy, width, height)
    top, bottom = camera.unproject([[camera.cx, -0.5], [camera.cx, height - 0.5]])
    assert np.degrees(np.arccos(np.clip(top @ bottom, -1, 1))) == pytest.approx(fovy, abs=1e-3)
    assert camera.matrix[0, 0] == camera.fx == camera.fy


def test_what_lies_behind_has_no_pixel() -> None:
    assert np.isnan(Pinhole.from_fovy(50, 10, 10).project([[0, 0, -1.0]])).all()


@pytest.mark.parametrize("fovy", [0, -10, 180])
def test_an_impossible_field_of_view_is_told(fovy: float) -> None:
    with pytest.raises(InvalidValueError, match=rf"inside \(0, 180\) degrees, got {fovy}"):
        Pinhole.from_fovy(fovy, 10, 10)


CUBE = """
<mujoco><statistic extent="1"/><visual><map znear="0.01" zfar="20"/></visual>
  <worldbody>
    <camera name="camera" pos="0.6 -0.5 0.9" xyaxes="0.64 0.77 0 -0.55 0.46 0.7" fovy="50"/>
    <geom name="floor" type="plane" size="5 5 0.1"/>
    <geom name="cube" type="box" size="0.1 0.15 0.2" pos="0.05 0.1 0.2" euler="0 0 0"/>
  </worldbody></mujoco>
"""


def shot(side: int = 160) -> tuple[Frame, mujoco.MjModel]:
    model = mujoco.MjModel.from_xml_string(CUBE)
    physics = Physics(model, 1)
    renderer = Renderer(physics, PROFILES["fast"], side, side)
    view = View("camera", "camera", side, side, ("rgb", "depth", "segmentation"))
    out = {key[1]: image[0] for key, image in renderer.draw([view]).items()}
    renderer.close()
    position, rotation = physics.camera_pose("camera")
    camera = Pinhole.from_fovy(50, side, side)
    return Frame(out["rgb"], camera, pose_of(position[0], rotation[0]), out["depth"], out["segmentation"]), model


def test_points_lie_on_the_cube_and_on_the_floor() -> None:
    frame, model = shot()
    points, ids = frame.points(), frame.segmentation
    assert ids is not None
    cube, floor = model.geom("cube"), model.geom("floor")
    on_cube = points[ids == cube.id] - cube.pos
    assert len(on_cube) > 500
    beyond = np.abs(on_cube) - cube.size
    # Distance to the box's surface from outside and inside.
    outside = np.linalg.norm(np.maximum(beyond, 0), axis=1)
    inside = np.minimum(beyond.max(axis=1), 0)
    assert np.abs(outside + inside).max() < 0.005
    assert np.abs(points[ids == floor.id][:, 2]).max() < 0.005


def test_depth_is_the_distance_that_a_ray_travels_along_the_axis() -> None:
    frame, model = shot()
    assert frame.depth is not None
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    rng, found = np.random.default_rng(0), np.zeros(1, np.int32)
    assert frame.segmentation is not None
    agree = 0
    for u, v in rng.integers(0, 160, (300, 2)):
        ray = frame.camera.unproject([u, v])
        world = frame.pose[:3, :3] @ ray
        distance = mujoco.mj_ray(model, data, frame.pose[:3, 3], world, None, 1, -1, found)
        if distance >= 0 and found[0] == frame.segmentation[v, u]:  # an edge may fall to either side
            agree += 1
            assert frame.depth[v, u] == pytest.approx(distance * ray[2], rel=2e-3, abs=2e-3)
    assert agree > 250


def test_segmentation_agrees_with_the_pictures_colours() -> None:
    frame, model = shot()
    rays = frame.camera.unproject(pixel_grid(160, 160))
    assert rays.shape == (160, 160, 3)
    assert set(np.unique(frame.segmentation)) <= {-1, model.geom("cube").id, model.geom("floor").id}
    u, v = frame.camera.project(np.linalg.inv(frame.pose)[:3] @ [*model.geom("cube").pos, 1])
    assert frame.segmentation is not None
    assert frame.segmentation[round(v), round(u)] == model.geom("cube").id


def test_a_frame_without_depth_has_no_points() -> None:
    frame = Frame(np.zeros((2, 2, 3), np.uint8), Pinhole.from_fovy(50, 2, 2), np.eye(4))
    with pytest.raises(InvalidValueError, match="without depth has no points: ask the camera for the 'depth' modality"):
        frame.points()


def test_frames_take_a_leading_axis() -> None:
    frame, _ = shot(20)
    assert frame.depth is not None
    pair = Frame(frame.rgb[None], frame.camera, np.stack([frame.pose] * 2), np.stack([frame.depth] * 2))
    np.testing.assert_allclose(pair.points()[1], frame.points())
