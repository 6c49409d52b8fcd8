"""Point clouds: against cubes of known size and place, drawn by the simulator, and laws that hold for any points."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import mujoco
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from assets.errors import InvalidValueError, MissingDependencyError
from envs.render import PROFILES, Renderer, View
from envs.scene import Scene
from perception.frame import Frame, Pinhole, pixel_grid, pose_of
from perception.pointcloud import (
    Box3,
    Cloud,
    Mesh,
    axis_box,
    box_to_pixels,
    downsample,
    from_frame,
    fuse,
    instances,
    lift_box,
    lift_mask,
    lift_points,
    oriented_box,
    remove_plane,
    to_pixels,
    to_world,
    visible_by_depth,
    visible_by_mesh,
)

WIDTH, HEIGHT, FOVY, SIDE = 160, 120, 45.0, 0.06
CAMERA = Pinhole.from_fovy(FOVY, WIDTH, HEIGHT)


# ------------------------------------------------------------------------------------------------------ worlds to look at


@dataclass(frozen=True)
class Cube:
    """A prop of 60 mm: its geom, its middle, its turn about z."""

    geom: int
    centre: NDArray[np.float64]
    yaw: float

    @property
    def rotation(self) -> NDArray[np.float64]:
        c, s = np.cos(self.yaw), np.sin(self.yaw)
        return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])

    def distance(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """From the cube's surface, metres, negative inside."""
        beyond = np.abs((points - self.centre) @ self.rotation) - SIDE / 2
        return np.linalg.norm(np.maximum(beyond, 0), axis=-1) + np.minimum(beyond.max(axis=-1), 0)


def looking(place: NDArray[np.float64], at: NDArray[np.float64]) -> list[float]:
    """Quaternion of a MuJoCo camera, which looks along -z."""
    z = (place - at) / np.linalg.norm(place - at)
    x = np.cross([0, 0, 1.0], z) / np.linalg.norm(np.cross([0, 0, 1.0], z))
    quat = np.zeros(4)
    mujoco.mju_mat2Quat(quat, np.column_stack([x, np.cross(z, x), z]).ravel())
    return quat.tolist()


def draw(cubes: dict[str, tuple[Any, float]], at: Any, radius: float, elevations: Any) -> tuple[list[Frame], list[Cube]]:
    """Cubes on (or over) the table, from six directions for each elevation."""
    scene, at = Scene("arenas/tabletop.xml"), np.array(at)
    for colour, (pos, yaw) in cubes.items():
        scene.attach(f"props/cube_{colour}.xml", colour, pos=pos, quat=(np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)))
    turns = [(2 * np.pi * (k + 0.3) / 6, elevation) for elevation in elevations for k in range(6)]
    views = []
    for i, (a, e) in enumerate(turns):
        place = at + radius * np.array([np.cos(a) * np.cos(e), np.sin(a) * np.cos(e), np.sin(e)])
        scene.spec.worldbody.add_camera(name=f"around{i}", pos=place, quat=looking(place, at), fovy=FOVY)
        views.append(View(f"around{i}", f"around{i}", WIDTH, HEIGHT, ("rgb", "depth", "segmentation")))
    physics = scene.compile()
    physics.forward()
    renderer = Renderer(physics, PROFILES["fast"], WIDTH, HEIGHT)
    drawn = renderer.draw(views)
    renderer.close()
    frames = []
    for view in views:
        position, rotation = physics.camera_pose(view.camera)
        rgb, depth, segmentation = (drawn[view.name, m][0] for m in view.modalities)
        frames.append(Frame(rgb, CAMERA, pose_of(position[0], rotation[0]), depth, segmentation))
    middle = np.array([0, 0, SIDE / 2])
    return frames, [Cube(physics.id("geom", f"{c}/cube"), np.array(pos) + middle, yaw) for c, (pos, yaw) in cubes.items()]


@pytest.fixture(scope="module")
def hanging() -> tuple[list[Frame], Cube]:
    frames, cubes = draw({"red": ((0.4, 0, 0.37), 0.5)}, (0.4, 0, 0.4), 0.35, (-0.6, 0.6))
    return frames, cubes[0]


@pytest.fixture(scope="module")
def table() -> tuple[list[Frame], list[Cube]]:
    cubes = {"red": ((0.4, 0, 0), 0.5), "green": ((0.5, 0.06, 0), 0), "blue": ((0.36, -0.12, 0), 1.0)}
    return draw(cubes, (0.42, 0, 0.03), 0.5, (0.35, 0.8))


@pytest.fixture(scope="module")
def fused(hanging: tuple[list[Frame], Cube]) -> Mesh:
    return fuse(hanging[0], max_depth=0.5)


def blank(far: Any = 1.0, **changes: Any) -> Frame:
    """A frame of 8 x 6 pixels at the origin, looking along z."""
    image = np.broadcast_to(np.asarray(far, np.float32), (6, 8)).copy()
    return replace(Frame(np.zeros((6, 8, 3), np.uint8), Pinhole(8, 6, 8, 8, 3.5, 2.5), np.eye(4), image), **changes)


def ids_of(frame: Frame) -> NDArray[np.int32]:
    assert frame.segmentation is not None
    return frame.segmentation


def turn(seed: int) -> NDArray[np.float64]:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.sign(np.linalg.det(q))


def grey(points: Any) -> Cloud:
    return Cloud(np.asarray(points, np.float64), np.full((len(points), 3), 128, np.uint8))


def cuboids(cubes: list[Cube]) -> Mesh:
    """Cubes and table as triangles, from their numbers alone."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2
    quads = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
    faces = np.array([t for a, b, c, d in quads for t in ((a, b, c), (a, c, d))], np.int32)
    boxes = [corners * SIDE @ c.rotation.T + c.centre for c in cubes] + [corners * [1.2, 1.6, 0.04] + [0.3, 0, -0.02]]
    vertices = np.concatenate(boxes)
    triangles = np.concatenate([faces + 8 * i for i in range(len(boxes))]).astype(np.int32)
    return Mesh(grey(vertices), triangles, np.zeros_like(vertices))


# ------------------------------------------------------------------------------------------------------ space and pixels


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(
    "camera",
    [Pinhole.from_fovy(20, 640, 480), Pinhole.from_fovy(100, 84, 84), Pinhole(640, 360, 500, 450, 300, 200)],
    ids=["narrow", "wide", "uneven"],
)
def test_points_come_back_from_their_pixels(camera: Pinhole, seed: int) -> None:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn(seed), [0.5, -2, 1]
    frame = Frame(np.zeros((camera.height, camera.width, 3), np.uint8), camera, pose)
    local = np.random.default_rng(seed).uniform([-1, -1, 0.2], [1, 1, 5], (1000, 3))
    world = np.array([pose[:3, :3] @ p + pose[:3, 3] for p in local])
    pixels, depth = to_pixels(world, frame)
    theirs, _ = cv2.projectPoints(local, np.zeros(3), np.zeros(3), camera.matrix, None)
    assert np.abs(pixels - theirs[:, 0]).max() < 1e-6
    np.testing.assert_allclose(depth, local[:, 2])
    back = to_world(pixels, depth, frame)
    assert np.abs(to_pixels(back, frame)[0] - pixels).max() < 0.5
    np.testing.assert_allclose(back, world, atol=1e-9)


def test_what_lies_behind_has_no_pixel_and_is_not_in_view() -> None:
    behind = [[0, 0, -1.0], [0, 0, 0], [0, 0, 0.5]]
    pixels, depth = to_pixels(behind, blank())
    assert np.isnan(pixels[:2]).all()
    np.testing.assert_allclose(pixels[2], [3.5, 2.5])
    np.testing.assert_allclose(depth, [-1, 0, 0.5])
    nowhere = Mesh(grey(np.zeros((0, 3))), np.zeros((0, 3), np.int32), np.zeros((0, 3)))
    for sight in (visible_by_depth(behind, blank()), visible_by_mesh(behind, blank(), nowhere)):
        assert sight.in_view.tolist() == sight.visible.tolist() == [False, False, True]


def test_pixels_lifted_from_a_picture_lie_on_what_it_shows(table: tuple[list[Frame], list[Cube]]) -> None:
    frames, cubes = table
    rng = np.random.default_rng(0)
    for frame in frames:
        pixels = rng.uniform(0, [WIDTH - 1, HEIGHT - 1], (1000, 2))
        points = lift_points(frame, pixels)
        assert np.abs(to_pixels(points, frame)[0] - pixels).max() < 0.5
        ids = ids_of(frame)[tuple(np.rint(pixels[:, ::-1]).astype(int).T)]
        for cube in cubes:
            assert np.abs(cube.distance(points[ids == cube.geom])).max() < 0.01


def test_a_cloud_has_each_pixel_that_has_a_depth() -> None:
    depth = np.full((6, 8), 2.0)
    depth[0, :5] = [np.nan, np.inf, 0, -1, 3]
    rgb = np.arange(144, dtype=np.uint8).reshape(6, 8, 3)
    cloud = from_frame(blank(depth, rgb=rgb))
    assert len(cloud.points) == 44
    np.testing.assert_array_equal(cloud.colours, rgb.reshape(-1, 3)[4:])
    np.testing.assert_allclose(cloud.points[0], [(4 - 3.5) / 8 * 3, -2.5 / 8 * 3, 3])
    assert len(from_frame(blank(depth, rgb=rgb), max_depth=2.5).points) == 43
    assert len(from_frame(blank(depth, rgb=rgb), max_depth=1).points) == 0


def test_a_3d_box_is_drawn_where_the_thing_is_seen(hanging: tuple[list[Frame], Cube]) -> None:
    frames, cube = hanging
    box = Box3(cube.centre, np.full(3, SIDE), cube.rotation)
    for frame in frames:
        rows, columns = np.nonzero(ids_of(frame) == cube.geom)
        seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert np.abs(box_to_pixels(box, frame) - seen).max() < 1  # a pixel counts from half of it on


def test_a_3d_box_is_cut_by_the_picture_and_by_the_camera() -> None:
    def cube(*centre: float, side: float = 0.5) -> Box3:
        return Box3(np.array(centre), np.full(3, side), np.eye(3))

    np.testing.assert_allclose(box_to_pixels(cube(0, 0, 1.25), blank()), [2, 1, 6, 5])
    np.testing.assert_allclose(box_to_pixels(cube(0, 0, 0), blank()), [0, 0, 8, 6])  # the camera is in it
    x1, y1, x2, y2 = box_to_pixels(cube(0.75, 0, 0.25, side=1.0), blank())  # half of it behind, all of it right of 0.25
    assert (x2, y1, y2) == (8, 0, 6)
    assert x1 == pytest.approx(4 + 8 * 0.25 / 0.75)
    assert np.isnan(box_to_pixels(cube(0, 0, -1), blank())).all()
    assert np.isnan(box_to_pixels(cube(9, 0, 1), blank())).all()


# ------------------------------------------------------------------------------------------------------ lifting


def test_the_middle_of_a_mask_is_on_the_thing(table: tuple[list[Frame], list[Cube]]) -> None:
    frames, cubes = table
    checked = 0
    for frame in frames:
        for cube in cubes:
            mask = ids_of(frame) == cube.geom
            if mask.sum() < 60:
                continue
            checked += 1
            sloppy = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)
            for one in (mask, sloppy):
                assert cube.distance(lift_mask(frame, one).middle) < 0.01
            v, u = np.unravel_index(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5).argmax(), mask.shape)
            assert abs(cube.distance(lift_points(frame, [[u, v]])[0])) < 0.01
    assert checked > 25


def test_the_middle_of_a_box_is_on_the_thing(table: tuple[list[Frame], list[Cube]]) -> None:
    frames, cubes = table
    checked = 0
    for frame in frames:
        for cube in cubes:
            whole = box_to_pixels(Box3(cube.centre, np.full(3, SIDE), cube.rotation), frame)
            x1, y1, x2, y2 = whole
            shown = ids_of(frame) == cube.geom
            inside = np.zeros_like(shown)
            inside[int(y1) : int(y2) + 1, int(x1) : int(x2) + 1] = True
            if (shown & inside).sum() < 0.6 * inside.sum():
                continue  # something else is before it
            checked += 1
            larger = whole + 0.15 * np.array([x1 - x2, y1 - y2, x2 - x1, y2 - y1])
            for box in (whole, larger):
                assert cube.distance(lift_box(frame, box).middle) < 0.01
    assert checked > 25


@pytest.mark.parametrize("background", [0.7, 2.0])
def test_a_box_lifts_what_is_in_its_middle_not_what_fills_it(background: float) -> None:
    depth = np.full((100, 100), background)
    depth[40:80, 10:50] = 1.0  # 16 % of the box
    camera = Pinhole.from_fovy(60, 100, 100)
    frame = Frame(np.zeros((100, 100, 3), np.uint8), camera, np.eye(4), depth.astype(np.float32))
    box = [-20, 10, 80, 110]
    assert np.median(depth[10:, :80]) == background
    cloud = lift_box(frame, box)
    assert len(cloud.points) == 1600
    assert (cloud.points[:, 2] == 1).all()
    assert np.abs(to_pixels([cloud.middle], frame)[0] - [29.5, 59.5]).max() < 1
    assert len(lift_box(frame, box, band=5.0).points) == 90 * 80


# ------------------------------------------------------------------------------------------------------ fusion


def test_a_fused_cube_has_its_size_and_place(hanging: tuple[list[Frame], Cube], fused: Mesh) -> None:
    frames, cube = hanging
    assert len(frames) == 12
    oriented, upright = oriented_box(fused.vertices.points), axis_box(fused.vertices.points)
    assert np.abs(oriented.extent - SIDE).max() < 0.005
    assert np.abs(oriented.centre - cube.centre).max() < 0.005
    across = SIDE * (np.cos(0.5) + np.sin(0.5))
    assert np.abs(upright.extent - [across, across, SIDE]).max() < 0.005
    assert np.abs(upright.centre - cube.centre).max() < 0.005
    turned = np.abs(oriented.rotation.T @ cube.rotation)  # the same axes in some order
    assert np.degrees(np.arccos(np.clip(turned.max(axis=0), -1, 1))).max() < 5


def test_a_fused_cube_is_a_surface_with_normals_and_colours(hanging: tuple[list[Frame], Cube], fused: Mesh) -> None:
    _, cube = hanging
    points = fused.vertices.points
    assert np.abs(cube.distance(points)).mean() < 0.0005
    flat = (np.sort(np.abs((points - cube.centre) @ cube.rotation), axis=1)[:, 1]) < 0.02  # away from the edges
    outward = ((points - cube.centre) * fused.normals).sum(axis=1)
    assert flat.sum() > 300
    assert outward[flat].min() > 0.02
    assert np.median(outward[flat]) == pytest.approx(SIDE / 2, rel=0.03)
    np.testing.assert_allclose(np.linalg.norm(fused.normals, axis=1), 1, atol=1e-3)
    red, green, blue = np.median(fused.vertices.colours, axis=0)
    assert red > 100 > 5 * max(green, blue)
    a, b, c = (points[fused.triangles[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2
    assert area == pytest.approx(6 * SIDE**2, rel=0.1)


def slanted(camera: Pinhole, normal: NDArray[np.float64], offset: float) -> Frame:
    rays = camera.unproject(pixel_grid(camera.width, camera.height))
    rays /= rays[..., 2:]
    depth = (offset / (rays @ normal)).astype(np.float32)
    return Frame(np.zeros((camera.height, camera.width, 3), np.uint8), camera, np.eye(4), depth)


def test_fusion_shifts_nothing_by_half_a_pixel() -> None:
    # On a slanted plane half a pixel would be 3 mm.
    normal = np.array([0.6, 0.3, 1]) / np.linalg.norm([0.6, 0.3, 1])
    beyond = fuse([slanted(CAMERA, normal, 0.7)], voxel=0.01, max_depth=9).vertices.points @ normal - 0.7
    assert abs(beyond.mean()) < 0.0003
    assert np.abs(beyond).max() < 0.006


def test_fusion_leaves_no_holes_where_cells_are_smaller_than_pixels() -> None:
    mesh = fuse([slanted(Pinhole.from_fovy(60, 24, 24), np.array([0, 0, 1.0]), 0.3)], voxel=0.003)
    side = 2 * 0.3 * np.tan(np.radians(30))
    assert len(mesh.triangles) == pytest.approx(2 * (side / 0.003) ** 2, rel=0.15)


def test_what_is_too_far_is_not_fused_and_what_shows_nothing_is_left_out(hanging: tuple[list[Frame], Cube]) -> None:
    frames, _ = hanging
    dark = replace(frames[0], depth=np.zeros_like(frames[0].depth))
    near, far = fuse([dark, frames[8]], max_depth=0.5), fuse([frames[8]], max_depth=1.5)
    assert near.vertices.points[:, 2].min() > 0.3
    assert (np.abs(far.vertices.points[:, 2]) < 0.003).sum() > 1000


# ------------------------------------------------------------------------------------------------------ planes and things


def test_the_table_goes_and_the_cubes_stay(table: tuple[list[Frame], list[Cube]]) -> None:
    frames, cubes = table
    for frame in frames:
        cloud = from_frame(frame, max_depth=1.0)
        assert frame.depth is not None
        on_cubes = np.isin(ids_of(frame)[frame.depth <= 1.0], [c.geom for c in cubes])
        high = cloud.points[:, 2] > 0.008
        assert (on_cubes & high).sum() > 500
        rest, plane = remove_plane(cloud, seed=0)
        np.testing.assert_allclose(plane, [0, 0, 1, 0], atol=0.01)
        np.testing.assert_array_equal(rest.points[rest.points[:, 2] > 0.008], cloud.points[high])
        assert rest.points[:, 2].min() > 0.002
        assert len(rest.points) < on_cubes.sum() + 5
        assert len(rest.colours) == len(rest.points)


def test_a_plane_is_found_again_with_its_seed() -> None:
    import open3d

    rng = np.random.default_rng(0)
    points = rng.uniform(-1, 1, (3000, 3))
    points[:1500, 1] = -0.3 + rng.normal(0, 0.003, 1500)
    found = []
    for disturbance in range(4):
        open3d.utility.random.seed(disturbance)
        found.append(remove_plane(grey(points), seed=5)[1])
    for plane in found[1:]:
        np.testing.assert_array_equal(plane, found[0])
    np.testing.assert_allclose(found[0], [0, 1, 0, 0.3], atol=0.01)
    guesses = [remove_plane(grey(points), seed=seed, iterations=1)[1] for seed in (0, 1, 2, 2**40 + 3)]
    assert len({tuple(guess) for guess in guesses}) == 4


def test_things_on_the_table_are_told_apart(table: tuple[list[Frame], list[Cube]]) -> None:
    frames, cubes = table
    rest, _ = remove_plane(fuse(frames, max_depth=1.0).vertices, seed=1)
    labels = instances(rest.points)
    assert set(labels) - {-1} == {0, 1, 2}
    sizes = np.bincount(labels[labels >= 0])
    assert (np.diff(sizes) <= 0).all()
    assert (labels == -1).mean() < 0.02
    found = set()
    for label in range(3):
        thing = rest.only(labels == label)
        nearest = min(cubes, key=lambda cube: float(np.linalg.norm(axis_box(thing.points).centre - cube.centre)))
        found.add(nearest.geom)
        assert np.abs(nearest.distance(thing.points)).max() < 0.01
        assert np.median(thing.colours, axis=0).argmax() == cubes.index(nearest)  # red, green, blue
    assert len(found) == 3


def test_what_stands_alone_is_nothing() -> None:
    points = np.concatenate([np.random.default_rng(0).normal(0, 0.005, (30, 3)), [[1, 1, 1], [2, 2, 2.0]]])
    assert instances(points).tolist() == [0] * 30 + [-1, -1]
    assert instances(points[30:]).tolist() == [-1, -1]


# ------------------------------------------------------------------------------------------------------ seeing


def surface(cube: Cube, rng: np.random.Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random points on a cube, and the normals there."""
    normals = np.eye(3)[rng.integers(0, 3, n)] * rng.choice([-1, 1], (n, 1))
    local = np.where(normals != 0, normals, rng.uniform(-0.95, 0.95, (n, 3))) * SIDE / 2
    return local @ cube.rotation.T + cube.centre, normals @ cube.rotation.T


def test_visibility_agrees_with_segmentation(table: tuple[list[Frame], list[Cube]]) -> None:
    frames, cubes = table
    rng, mesh = np.random.default_rng(0), cuboids(cubes)
    seen = hidden = behind_another = wrong = 0
    for frame in frames:
        ids = ids_of(frame)
        # Within a pixel of an outline the picture itself rounds.
        same = cv2.erode(ids.astype(np.float32), np.ones((3, 3))) == cv2.dilate(ids.astype(np.float32), np.ones((3, 3)))
        for cube in cubes:
            points, normals = surface(cube, rng, 300)
            facing = ((frame.pose[:3, 3] - points) * normals).sum(axis=1) > 0
            u, v = np.rint(to_pixels(points, frame)[0]).astype(int).T
            sure, truth = same[v, u], (ids[v, u] == cube.geom) & facing
            by_mesh, by_depth = visible_by_mesh(points, frame, mesh, tolerance=0.001), visible_by_depth(points, frame)
            assert by_mesh.in_view.all()
            assert by_depth.in_view.all()
            np.testing.assert_array_equal(by_mesh.visible[sure], truth[sure])
            np.testing.assert_array_equal(by_mesh.occluded[sure], ~truth[sure])
            wrong += (by_depth.visible != truth)[sure].sum()
            seen, hidden = seen + (truth & sure).sum(), hidden + (~truth & sure).sum()
            behind_another += (sure & facing & ~truth).sum()
    assert min(seen, hidden) > 2000
    assert behind_another > 50
    # A depth image is blind within its tolerance: just behind an edge, and where a pixel sees a wall along itself.
    assert wrong < 0.02 * (seen + hidden)


def test_a_fused_mesh_hides_what_the_cube_hides(hanging: tuple[list[Frame], Cube], fused: Mesh) -> None:
    frames, cube = hanging
    for frame in frames:
        away = (cube.centre - frame.pose[:3, 3]) / np.linalg.norm(cube.centre - frame.pose[:3, 3])
        points = cube.centre + np.outer([-0.1, 0, 0.1], away)
        sight = visible_by_mesh(points, frame, fused)
        assert sight.visible.tolist() == visible_by_depth(points, frame).visible.tolist() == [True, False, False]
        assert sight.occluded.tolist() == [False, True, True]


def test_where_nothing_was_measured_nothing_is_known() -> None:
    depth = np.ones((6, 8))
    depth[2:4, 3:5] = np.nan
    sight = visible_by_depth([[0, 0, 0.5], [-0.4, 0, 0.999], [-0.4, 0, 1.1], [9, 0, 1]], blank(depth))
    assert sight.in_view.tolist() == [False, True, True, False]
    assert sight.visible.tolist() == [False, True, False, False]
    assert sight.occluded.tolist() == [False, False, True, False]


# ------------------------------------------------------------------------------------------------------ laws

seeds = st.integers(0, 2**31)


def scattered(seed: int, n: int, flatness: float = 1.0) -> NDArray[np.float64]:
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.5, 0.5, (n, 3)) * [1, 0.7, flatness] + rng.normal(size=3)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(4, 60), flatness=st.sampled_from([1.0, 1e-2, 1e-4]))
@example(seed=2077, n=4, flatness=1.0)  # a tetrahedron: several boxes are the smallest
def test_an_oriented_box_turns_with_its_points(seed: int, n: int, flatness: float) -> None:
    points, rotation = scattered(seed, n, flatness), turn(seed)
    box, turned = oriented_box(points), oriented_box(points @ rotation.T)
    np.testing.assert_allclose(turned.extent, box.extent, rtol=1e-4, atol=1e-9)
    np.testing.assert_allclose(turned.centre, rotation @ box.centre, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(4, 60), flatness=st.sampled_from([1.0, 1e-2, 1e-4]))
def test_boxes_hold_their_points_and_are_tight(seed: int, n: int, flatness: float) -> None:
    points = scattered(seed, n, flatness)
    for box in (axis_box(points), oriented_box(points)):
        assert box.contains(points).all()
        np.testing.assert_allclose(box.rotation.T @ box.rotation, np.eye(3), atol=1e-9)
        assert np.linalg.det(box.rotation) == pytest.approx(1)
        local = (points - box.centre) @ box.rotation
        np.testing.assert_allclose(local.max(axis=0), box.extent / 2, atol=1e-9)
        np.testing.assert_allclose(local.min(axis=0), -box.extent / 2, atol=1e-9)
        assert box.contains(box.corners).all()
        assert not box.contains(box.centre + 1.01 * (box.corners - box.centre)).any()
    assert (np.diff(oriented_box(points).extent) <= 0).all()


@settings(max_examples=30, deadline=None)
@given(seed=seeds, extent=st.tuples(*[st.floats(0.01, 2)] * 3))
def test_an_oriented_box_of_a_cuboid_is_that_cuboid(seed: int, extent: tuple[float, float, float]) -> None:
    true = Box3(np.array([1, -2, 3.0]), np.array(extent), turn(seed))
    found = oriented_box(true.corners)
    np.testing.assert_allclose(found.extent, sorted(extent, reverse=True), rtol=1e-6)
    np.testing.assert_allclose(found.centre, true.centre, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_an_oriented_box_is_small_rather_than_short(seed: int) -> None:
    outline = [(0, 0), (3, 0), (4, 1), (1, 1)]  # along its other side a box of 3.5 x 2.1 would hold it
    points = np.array([(x, y, z) for x, y in outline for z in (0, 1)]) @ turn(seed).T
    np.testing.assert_allclose(oriented_box(points).extent, [4, 1, 1])


@settings(max_examples=40, deadline=None)
@given(seed=seeds, n=st.integers(0, 300), voxel=st.floats(0.01, 2))
def test_downsampling_never_grows_a_cloud_nor_moves_it_further_than_a_voxel(seed: int, n: int, voxel: float) -> None:
    cloud = Cloud(scattered(seed, n), np.random.default_rng(seed).integers(0, 256, (n, 3), np.uint8))
    small = downsample(cloud, voxel)
    assert min(n, 1) <= len(small.points) <= n
    if n:
        apart = cloud.points[:, None] - small.points[None]
        assert np.abs(apart).max(axis=2).min(axis=1).max() <= voxel  # along each axis, in one cube
        assert np.linalg.norm(apart, axis=2).min(axis=0).max() <= voxel
        assert (small.colours.min(axis=0) >= cloud.colours.min(axis=0)).all()
        assert (small.colours.max(axis=0) <= cloud.colours.max(axis=0)).all()
    assert len(downsample(small, 10.0).points) <= 8


def test_downsampling_means_points_and_colours() -> None:
    cloud = Cloud(np.array([[0, 0, 0], [0.3, 0, 0], [0.3, 0.3, 0]]), np.array([[0, 9, 255], [1, 9, 0], [1, 9, 0]], np.uint8))
    one = downsample(cloud, 1.0)
    np.testing.assert_allclose(one.points, [[0.2, 0.1, 0]])
    assert one.colours.tolist() == [[1, 9, 85]]  # rounded, not cut


@settings(max_examples=20, deadline=None)
@given(seed=seeds)
def test_a_cloud_downsampled_finely_is_itself(seed: int) -> None:
    cloud = Cloud(scattered(seed, 50), np.random.default_rng(seed).integers(0, 256, (50, 3), np.uint8))
    small = downsample(cloud, 1e-7)
    order, theirs = np.lexsort(cloud.points.T), np.lexsort(small.points.T)
    np.testing.assert_allclose(small.points[theirs], cloud.points[order], atol=1e-12)
    np.testing.assert_array_equal(small.colours[theirs], cloud.colours[order])


@settings(max_examples=25, deadline=None)
@given(seed=seeds, distance=st.floats(0.002, 0.05))
def test_a_plane_is_removed_as_it_is_described(seed: int, distance: float) -> None:
    points = scattered(seed, 200)
    points[:120] -= np.outer((points[:120] - points[0]) @ turn(seed)[0], turn(seed)[0])
    rest, plane = remove_plane(grey(points), distance, seed=seed, iterations=200)
    off = np.abs(points @ plane[:3] + plane[3])
    np.testing.assert_array_equal(rest.points, points[off > distance])
    assert np.linalg.norm(plane[:3]) == pytest.approx(1)
    assert plane[np.abs(plane[:3]).argmax()] > 0
    assert len(rest.points) <= 80


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=st.integers(1, 100), share=st.floats(0, 0.3))
def test_the_middle_is_a_point_and_stays_where_some_points_are_wrong(seed: int, n: int, share: float) -> None:
    points = scattered(seed, n)
    assert (points == grey(points).middle).all(axis=1).any()
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, 21)] * 2, [0.0]), axis=-1).reshape(-1, 3)
    wrong = np.full((int(share / (1 - share) * len(grid)), 3), 50.0) + points[0]
    assert np.abs(grey(np.concatenate([grid, wrong])).middle).max() < 0.5  # a mean would draw it into a corner


# ------------------------------------------------------------------------------------------------------ what is refused

PLANE = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0.5, 0.2, 0]], np.float64)
LINE = np.outer(np.arange(5.0), [1, 2, 3])
NAN = np.array([[0, 0, 1], [0, np.nan, 1]])
MASK = np.zeros((6, 8), bool)
BYTES: Any = MASK.astype(np.uint8)
BATCH = blank(pose=np.stack([np.eye(4)] * 2), depth=np.ones((2, 6, 8), np.float32))


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: from_frame(blank(depth=None)), "without depth has no points: ask the camera for the 'depth' modality"),
        (lambda: lift_points(blank(depth=None), [[1, 1]]), "without depth has no points"),
        (lambda: lift_mask(blank(depth=None), MASK), "without depth has no points"),
        (lambda: lift_box(blank(depth=None), [1, 1, 2, 2]), "without depth has no points"),
        (lambda: fuse([blank(depth=None)]), "without depth has no points"),
        (lambda: visible_by_depth([[0, 0, 1.0]], blank(depth=None)), "without depth has no points"),
        (lambda: from_frame(BATCH), r"one frame with a finite pose \(4, 4\) is needed, got \(2, 4, 4\)"),
        (lambda: from_frame(blank(depth=np.ones((6, 9), np.float32))), r"camera's size \(6, 8\), got \(6, 9\) and"),
        (lambda: lift_points(blank(pose=np.full((4, 4), np.nan)), [[1, 1]]), "one frame with a finite pose"),
        (lambda: to_pixels([[0, 0, 1.0]], BATCH), r"one frame with a finite pose \(4, 4\) is needed, got \(2, 4, 4\)"),
        (lambda: from_frame(blank(rgb=np.zeros((6, 9, 3), np.uint8))), r"camera's size \(6, 8\), got \(6, 8\) and \(6, 9, 3\)"),
        (lambda: from_frame(blank(), max_depth=0), "max_depth must be > 0, got 0"),
        (lambda: from_frame(blank(), max_depth=np.nan), "max_depth must be > 0, got nan"),
        (lambda: lift_mask(blank(), MASK), "nothing to lift: the mask covers 0 pixels, none of them with a depth"),
        (lambda: lift_mask(blank(0), ~MASK), "nothing to lift: the mask covers 48 pixels, none of them with a depth"),
        (lambda: lift_mask(blank(), MASK[1:]), r"a mask must be \(6, 8\) bool, got \(5, 8\) bool"),
        (lambda: lift_mask(blank(), BYTES), r"a mask must be \(6, 8\) bool, got \(6, 8\) uint8"),
        (lambda: lift_box(blank(), [8, 0, 9, 2]), r"must overlap 8 x 6 pixels, got \[8.0, 0.0, 9.0, 2.0\]"),
        (lambda: lift_box(blank(), [1, -3, 2, 0]), r"must overlap 8 x 6 pixels, got \[1.0, -3.0, 2.0, 0.0\]"),
        (lambda: lift_box(blank(), [3, 2, 1, 4]), "a box x1 < x2, y1 < y2 must overlap"),
        (lambda: lift_box(blank(), [np.nan] * 4), "four finite numbers x1, y1, x2, y2, got .nan, nan, nan, nan."),
        (lambda: lift_box(blank(), [1, 2, 3]), r"four finite numbers x1, y1, x2, y2, got \[1.0, 2.0, 3.0\]"),
        (lambda: lift_box(blank(np.nan), [1, 1, 3, 3]), "nothing to lift: the mask covers 4 pixels, none of them"),
        (lambda: lift_box(blank(), [1, 1, 3, 3], band=0), "band must be > 0, got 0"),
        (lambda: lift_points(blank(), [[1, 1], [7.5, 2]]), r"pixels u, v to lift must be inside 8 x 6 .* got \[7.5, 2.0\]"),
        (lambda: lift_points(blank(), [[1, -0.6]]), r"must be inside 8 x 6 and have a depth, got \[1.0, -0.6\]"),
        (lambda: lift_points(blank(np.inf), [[1, 1]]), r"must be inside 8 x 6 and have a depth, got \[1.0, 1.0\]"),
        (lambda: lift_points(blank(), [[1, np.nan]]), r"pixels must be finite, got \[1.0, nan\] in row 0"),
        (lambda: lift_points(blank(), [1, 1]), r"pixels must be \(n, 2\), got shape \(2,\)"),
        (lambda: to_world([[1, 1]], [0], blank()), r"1 pixels need depths \(1,\) finite and > 0, got \[0.0\]"),
        (lambda: to_world([[1, 1]], [1, 2], blank()), r"1 pixels need depths \(1,\) finite and > 0, got \[1.0, 2.0\]"),
        (lambda: to_pixels(NAN, blank()), r"points, world frame, metres, must be finite, got \[0.0, nan, 1.0\] in row 1"),
        (lambda: to_pixels([0, 0, 1], blank()), r"must be \(n, 3\), got shape \(3,\)"),
        (lambda: visible_by_depth(NAN, blank()), "must be finite, got .* in row 1: leave such rows out"),
        (lambda: visible_by_mesh(NAN, blank(), cuboids([])), "must be finite, got .* in row 1: leave such rows out"),
        (lambda: visible_by_mesh(PLANE, blank(), cuboids([]), tolerance=-1), "tolerance must be > 0, got -1"),
        (lambda: Cloud(NAN, np.zeros((2, 3), np.uint8)), "must be finite, got .* in row 1"),
        (lambda: Cloud(PLANE, np.zeros((4, 3), np.uint8)), r"5 points need as many colours \(n, 3\), got \(4, 3\)"),
        (
            lambda: Mesh(grey(PLANE), np.array([[0, 1, 5]], np.int32), PLANE),
            r"triangles \(m, 3\) of 0 to 4, got 5 and \(1, 3\) from 0 to 5",
        ),
        (
            lambda: Mesh(grey(PLANE), np.array([[0, 1, 2]], np.int32), PLANE[1:]),
            r"5 vertices need 5 normals and triangles .* got 4 and",
        ),
        (lambda: grey(np.zeros((0, 3))).middle, "must be at least 1 for this, got 0"),
        (lambda: axis_box(np.zeros((0, 3))), "must be at least 1 for this, got 0"),
        (lambda: axis_box(NAN), "must be finite"),
        (lambda: oriented_box(PLANE[:3]), "must be at least 4 for this, got 3"),
        (lambda: oriented_box(PLANE), "needs points that are not all in a plane: axis_box takes them"),
        (lambda: oriented_box(NAN), "must be finite"),
        (lambda: instances(NAN), "must be finite"),
        (lambda: instances(PLANE, eps=0), "eps must be > 0, got 0"),
        (lambda: instances(PLANE, min_points=0), "min_points must be > 0, got 0"),
        (lambda: downsample(grey(PLANE), 0), "voxel must be > 0, got 0"),
        (lambda: downsample(grey(PLANE), 1e-12), "voxel must be larger than 2.-31 of the cloud's size, got 1e-12"),
        (lambda: remove_plane(grey(PLANE[:2]), seed=0), "must be at least 3 for this, got 2"),
        (lambda: remove_plane(grey(LINE), seed=0), "no plane found in 5 points: they must not all lie on one line"),
        (lambda: remove_plane(grey(PLANE), 0, seed=0), "distance must be > 0, got 0"),
        (lambda: remove_plane(grey(PLANE), seed=0, iterations=0), "iterations must be > 0, got 0"),
        (lambda: fuse([]), "nothing to fuse: none of 0 frames has a depth of at most max_depth = 3.0"),
        (lambda: fuse([blank(5.0)] * 2), "nothing to fuse: none of 2 frames has a depth of at most max_depth = 3.0"),
        (lambda: fuse([blank()], voxel=0), "voxel must be > 0, got 0"),
        (lambda: fuse([blank()], truncation=-1), "truncation must be > 0, got -1"),
    ],
)
def test_what_cannot_be_is_told(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(InvalidValueError, match=sentence):
        call()


def test_without_open3d_its_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(MissingDependencyError, match=r"`pip install open3d`.*`apt-get install libusb-1.0-0"):
        downsample(grey(PLANE), 1.0)
    assert len(from_frame(blank()).points) == 48  # what does not need it goes on


def test_importing_costs_nothing_until_it_is_used() -> None:
    code = "import perception.pointcloud, sys; print([m for m in ('open3d', 'mujoco', 'torch', 'cv2') if m in sys.modules])"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], cwd=root, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")
