"""Point clouds in world metres: from depth, fused, cut apart and boxed; pixels lifted to 3-D, and what hides what.

NumPy in and NumPy out. Open3D (Zhou, Park and Koltun 2018) does the geometry; its first use imports it. Points are in the
world's frame, metres; pixels and 2-D boxes as in `perception.vlm.base`; a depth counts if it is finite and > 0. Everything
takes single frames, not batches, and raises InvalidValueError for arrays of another shape or with values that are not finite.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assets.errors import InvalidValueError, MissingDependencyError
from perception.frame import Frame

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_HALVES = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
_NEAR = 1e-3  # metres; what of a box is nearer to a camera has no pixel


@dataclass(frozen=True)
class Cloud:
    """Points (n, 3), world frame, metres, and their colours (n, 3) uint8."""

    points: Floats
    colours: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if _rows(self.points).shape != self.colours.shape:
            raise InvalidValueError(f"{len(self.points)} points need as many colours (n, 3), got {self.colours.shape}")

    def only(self, keep: NDArray[Any]) -> Cloud:
        """The points that a mask (n,) or indices (k,) choose."""
        return Cloud(self.points[keep], self.colours[keep])

    @property
    def middle(self) -> Floats:
        """The point of the cloud nearest to the median along each axis: unlike a mean it lies on what was seen. Shape (3,)."""
        p = _rows(self.points, least=1)
        return p[np.linalg.norm(p - np.median(p, axis=0), axis=1).argmin()]


@dataclass(frozen=True)
class Mesh:
    """Triangles (m, 3) int32 of vertices, a cloud (n, 3), with unit normals (n, 3) out of the surface, world frame."""

    vertices: Cloud
    triangles: NDArray[np.int32]
    normals: Floats

    def __post_init__(self) -> None:
        n, t = len(self.vertices.points), self.triangles  # the ray caster does not check them
        if t.ndim != 2 or t.shape[1] != 3 or not ((t >= 0) & (t < n)).all() or self.normals.shape != (n, 3):
            got = f"{len(self.normals)} and {t.shape} from {t.min(initial=0)} to {t.max(initial=0)}"
            raise InvalidValueError(f"{n} vertices need {n} normals and triangles (m, 3) of 0 to {n - 1}, got {got}")


@dataclass(frozen=True)
class Box3:
    """Centre (3,), metres; full extent (3,) along the box's own axes, metres, which are the columns of its rotation (3, 3)."""

    centre: Floats
    extent: Floats
    rotation: Floats

    @property
    def corners(self) -> Floats:
        """World frame, metres. Shape (8, 3)."""
        return self.centre + (_HALVES * self.extent) @ self.rotation.T

    def contains(self, points: ArrayLike, slack: float = 1e-9) -> Bools:
        """Which points (n, 3) lie inside, or at most `slack` metres outside along each axis. Shape (n,)."""
        return (np.abs((_rows(points) - self.centre) @ self.rotation) - self.extent / 2).max(axis=1) <= slack


@dataclass(frozen=True)
class Sight:
    """Which of n points are in view (before the camera, inside its picture), and visible: in view with nothing before them."""

    in_view: Bools
    visible: Bools

    @property
    def occluded(self) -> Bools:
        """In view, but behind something. Shape (n,)."""
        return self.in_view & ~self.visible


def _open3d() -> Any:
    try:
        import open3d
    except ImportError as error:
        how = "`pip install open3d`, and on Debian or Ubuntu `apt-get install libusb-1.0-0 libgomp1`"
        raise MissingDependencyError(f"point clouds need Open3D: {how} ({error})") from error
    return open3d


def _rows(values: ArrayLike, least: int = 0, what: str = "points, world frame, metres,", width: int = 3) -> Floats:
    rows = np.asarray(values, np.float64)
    if rows.ndim != 2 or rows.shape[1] != width:
        raise InvalidValueError(f"{what} must be (n, {width}), got shape {rows.shape}")
    if len(bad := np.flatnonzero(~np.isfinite(rows).all(axis=1))):
        raise InvalidValueError(f"{what} must be finite, got {rows[bad[0]].tolist()} in row {bad[0]}: leave such rows out")
    if len(rows) < least:
        raise InvalidValueError(f"{what} must be at least {least} for this, got {len(rows)}")
    return rows


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not value > 0:  # so that NaN is refused as well
            raise InvalidValueError(f"{name} must be > 0, got {value}")


def _one(frame: Frame) -> Frame:
    if frame.pose.shape != (4, 4) or not np.isfinite(frame.pose).all():
        raise InvalidValueError(f"one frame with a finite pose (4, 4) is needed, got {frame.pose.shape}: take one of a batch")
    return frame


def _depth(frame: Frame, max_depth: float = np.inf) -> NDArray[np.float32]:
    """Depth (H, W), metres, 0 where it is missing or beyond."""
    _positive(max_depth=max_depth)
    depth, size = _one(frame).depth, (frame.camera.height, frame.camera.width)
    if depth is None:
        raise InvalidValueError("a frame without depth has no points: ask the camera for the 'depth' modality")
    if depth.shape != size or frame.rgb.shape != (*size, 3):
        raise InvalidValueError(f"depth and rgb must have the camera's size {size}, got {depth.shape} and {frame.rgb.shape}")
    return np.where(np.isfinite(depth) & (depth > 0) & (depth <= max_depth), depth, 0).astype(np.float32)


def to_pixels(points: ArrayLike, frame: Frame) -> tuple[Floats, Floats]:
    """Pixels (n, 2) of points (n, 3), NaN behind the camera, and their depths (n,) along the viewing axis, metres."""
    local = (_rows(points) - _one(frame).pose[:3, 3]) @ frame.pose[:3, :3]
    return frame.camera.project(local), local[:, 2]


def to_world(pixels: ArrayLike, depth: ArrayLike, frame: Frame) -> Floats:
    """Points (n, 3) of pixels (n, 2) at depths (n,) > 0 along the viewing axis, metres."""
    rays, far = frame.camera.unproject(_rows(pixels, what="pixels", width=2)), np.asarray(depth, np.float64)
    if far.shape != rays.shape[:1] or not (np.isfinite(far) & (far > 0)).all():
        raise InvalidValueError(f"{len(rays)} pixels need depths ({len(rays)},) finite and > 0, got {far.tolist()}")
    local = rays / rays[:, 2:] * far[:, None]
    return local @ _one(frame).pose[:3, :3].T + frame.pose[:3, 3]


def _cells(pixels: Floats, frame: Frame) -> tuple[Bools, NDArray[np.intp], NDArray[np.intp]]:
    """Which pixels (n, 2) are in the picture, and the row and column of each, 0 for the others."""
    u, v = np.floor(pixels + 0.5).T
    inside = np.asarray((u >= 0) & (u < frame.camera.width) & (v >= 0) & (v < frame.camera.height))
    return inside, np.where(inside, v, 0).astype(np.intp), np.where(inside, u, 0).astype(np.intp)


def box_to_pixels(box: Box3, frame: Frame) -> Floats:
    """2-D box x1, y1, x2, y2 around what of a 3-D box is before the camera, cut at the picture's border; NaN if nothing is."""
    local = (box.corners - _one(frame).pose[:3, 3]) @ frame.pose[:3, :3]
    front, behind = local[local[:, 2] >= _NEAR], local[local[:, 2] < _NEAR][:, None]
    # Where lines from corners behind to corners in front come into view: with the latter, the hull of the box's front part.
    cuts = behind + (_NEAR - behind[..., 2:]) / (front[:, 2:] - behind[..., 2:]) * (front - behind)
    if len(front):
        pixels = frame.camera.project(np.concatenate([front, cuts.reshape(-1, 3)])) + 0.5  # boxes begin at a pixel's index
        low, high = np.clip([pixels.min(axis=0), pixels.max(axis=0)], 0, [frame.camera.width, frame.camera.height])
        if (high > low).all():
            return np.concatenate([low, high])
    return np.full(4, np.nan)


def from_frame(frame: Frame, max_depth: float = np.inf) -> Cloud:
    """Every pixel with a depth of at most max_depth metres, row by row; an empty cloud if there is none."""
    chosen = _depth(frame, max_depth) > 0
    return Cloud(frame.points()[chosen], frame.rgb[chosen])


def lift_points(frame: Frame, pixels: ArrayLike) -> Floats:
    """Where the rays through pixels (n, 2) inside the picture end, at the depth of the pixel each falls into. Shape (n, 3)."""
    uv, depth = _rows(pixels, what="pixels", width=2), _depth(frame)
    inside, v, u = _cells(uv, frame)
    if not (fine := inside & (depth[v, u] > 0)).all():
        size, found = depth.shape[::-1], uv[fine.argmin()].tolist()
        raise InvalidValueError(f"pixels u, v to lift must be inside {size[0]} x {size[1]} and have a depth, got {found}")
    return to_world(uv, depth[v, u], frame)


def lift_mask(frame: Frame, mask: NDArray[np.bool_]) -> Cloud:
    """What a mask (H, W) bool covers, which must have some depth; `middle` is on the thing if most of the mask is."""
    depth = _depth(frame)
    if mask.shape != depth.shape or mask.dtype != np.bool_:
        raise InvalidValueError(f"a mask must be {depth.shape} bool, got {mask.shape} {mask.dtype}")
    if not (chosen := mask & (depth > 0)).any():
        raise InvalidValueError(f"nothing to lift: the mask covers {mask.sum()} pixels, none of them with a depth")
    return Cloud(frame.points()[chosen], frame.rgb[chosen])


def lift_box(frame: Frame, box: ArrayLike, band: float = 0.1) -> Cloud:
    """What a 2-D box x1, y1, x2, y2 is around; `middle` is on the thing.

    The background is left out by depth. The thing's is the median of the depths in the box, weighted by a Gaussian around its
    middle with a sixth of its sides as deviation: a thing that fills the middle 40 % of each side, 16 % of the box, outweighs
    everything around it, where a plain median needs half of the box. What is within `band` metres of that is kept. A thing
    with a hole in its middle needs a mask. Raises InvalidValueError for a box outside the picture, or without depth.
    """
    _positive(band=band)
    corners, (height, width) = np.asarray(box, np.float64), (depth := _depth(frame)).shape
    if corners.shape != (4,) or not np.isfinite(corners).all():
        raise InvalidValueError(f"a box must be four finite numbers x1, y1, x2, y2, got {corners.tolist()}")
    x1, y1, x2, y2 = corners
    if x1 >= x2 or y1 >= y2 or x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        raise InvalidValueError(f"a box x1 < x2, y1 < y2 must overlap {width} x {height} pixels, got {corners.tolist()}")
    # Pixel i spans i to i + 1 in a box, so its centre is at i + 0.5.
    x, y = np.arange(width) + 0.5, np.arange(height) + 0.5
    weight = np.exp(-18 * (((x - (x1 + x2) / 2) / (x2 - x1)) ** 2 + (((y - (y1 + y2) / 2) / (y2 - y1)) ** 2)[:, None]))
    mask = ((x > x1 - 0.5) & (x < x2 + 0.5)) & ((y > y1 - 0.5) & (y < y2 + 0.5))[:, None]
    inside = mask & (depth > 0)
    if inside.any():
        order = np.argsort(depth[inside])
        share = np.cumsum(weight[inside][order])
        mask &= np.abs(depth - depth[inside][order][np.searchsorted(share, share[-1] / 2)]) <= band
    return lift_mask(frame, mask)


def _to_open3d(points: Floats) -> Any:
    return _open3d().geometry.PointCloud(_open3d().utility.Vector3dVector(points))


def _from_open3d(points: Any, colours: Any) -> Cloud:
    return Cloud(np.array(points, np.float64), np.rint(np.asarray(colours) * 255).astype(np.uint8))


def downsample(cloud: Cloud, voxel: float) -> Cloud:
    """One point for each cube of side `voxel`, metres, that has any: the mean of its points and of their colours."""
    _positive(voxel=voxel)
    if len(cloud.points) and np.ptp(cloud.points, axis=0).max() / voxel >= 2**31 - 1:
        raise InvalidValueError(f"voxel must be larger than 2^-31 of the cloud's size, got {voxel}")
    made = _to_open3d(cloud.points)
    made.colors = _open3d().utility.Vector3dVector(cloud.colours / 255)
    made = made.voxel_down_sample(voxel)
    return _from_open3d(made.points, made.colors)


def remove_plane(cloud: Cloud, distance: float = 0.005, *, seed: int, iterations: int = 500) -> tuple[Cloud, Floats]:
    """The cloud without the plane that most of its points lie on, by RANSAC (Fischler and Bolles 1981), and that plane.

    The same seed finds the same plane. Points of at most `distance` metres from it go; there must be 3 points. The plane is
    (a, b, c, d), a x + b y + c z + d = 0 metres, where (a, b, c) is a unit vector whose largest component is above 0.
    """
    _positive(distance=distance, iterations=iterations)
    _open3d().utility.random.seed(seed % 2**31)
    # With probability 1 no thread stops early, which would make the result depend on their order.
    found, _ = _to_open3d(_rows(cloud.points, least=3)).segment_plane(distance, 3, iterations, probability=1.0)
    if not np.any(found[:3]):
        raise InvalidValueError(f"no plane found in {len(cloud.points)} points: they must not all lie on one line")
    plane = np.asarray(found) * np.sign(found[np.abs(found[:3]).argmax()]) / np.linalg.norm(found[:3])
    return cloud.only(np.abs(cloud.points @ plane[:3] + plane[3]) > distance), plane


def instances(points: ArrayLike, eps: float = 0.02, min_points: int = 10) -> NDArray[np.int32]:
    """Which thing each point (n, 3) belongs to, by DBSCAN (Ester et al. 1996): 0 is the largest, -1 none. Shape (n,).

    Neighbours are at most `eps` metres apart; a point with `min_points` of them, itself among them, is inside of a thing.
    """
    _positive(eps=eps, min_points=min_points)
    labels = np.asarray(_to_open3d(_rows(points)).cluster_dbscan(eps, min_points), np.int32)
    rank = np.argsort(np.argsort(-np.bincount(labels[labels >= 0]), kind="stable"))
    return np.append(rank, -1)[labels].astype(np.int32)  # -1 takes the last, which is -1


def fuse(frames: Sequence[Frame], voxel: float = 0.004, truncation: float | None = None, max_depth: float = 3.0) -> Mesh:
    """One surface out of many frames of one scene, by a truncated signed distance field (Curless and Levoy 1996).

    Details below `voxel` metres are lost. The field reaches `truncation` metres (None: 3 voxels) behind a surface, which must
    be less than the thinnest thing. What lies beyond `max_depth` metres is left out, but shows that nothing is before it.
    """
    truncation = 3 * voxel if truncation is None else truncation
    _positive(voxel=voxel, truncation=truncation)
    seen = [(frame, cloud) for frame in frames if len((cloud := from_frame(frame, max_depth)).points)]
    if not seen:
        raise InvalidValueError(f"nothing to fuse: none of {len(frames)} frames has a depth of at most max_depth = {max_depth}")
    o3d, single = _open3d(), _open3d().core.float32
    field = o3d.t.geometry.VoxelBlockGrid(("tsdf", "weight", "color"), (single,) * 3, ((1), (1), (3)), voxel, 8, 1000)
    for frame, cloud in seen:
        # Open3D rounds pixels down, as if their centres were at halves; ours are at whole numbers.
        matrix = np.add(frame.camera.matrix, [[0, 0, 0.5], [0, 0, 0.5], [0, 0, 0]])
        arrays = cloud.points.astype(np.float32), matrix, np.linalg.inv(frame.pose), _depth(frame), frame.rgb / np.float32(255)
        points, matrix, pose, *images = map(o3d.core.Tensor, arrays)
        # From a depth image Open3D would take every fourth pixel, which leaves holes where cells are small.
        cells = field.compute_unique_block_coordinates(o3d.t.geometry.PointCloud(points), truncation / voxel)
        images, farthest = map(o3d.t.geometry.Image, images), float(_depth(frame).max())
        field.integrate(cells, *images, matrix, pose, 1.0, farthest + voxel, truncation / voxel)
    mesh = field.extract_triangle_mesh(0.0)
    vertices = _from_open3d(mesh.vertex.positions.numpy(), mesh.vertex.colors.numpy())
    return Mesh(vertices, mesh.triangle.indices.numpy(), mesh.vertex.normals.numpy().astype(np.float64))


def axis_box(points: ArrayLike) -> Box3:
    """The smallest box along the world's axes around points (n, 3), n >= 1."""
    low, high = (p := _rows(points, least=1)).min(axis=0), p.max(axis=0)
    return Box3((low + high) / 2, high - low, np.eye(3))


def oriented_box(points: ArrayLike) -> Box3:
    """The smallest box along a face of the hull of points (n, 3), not all in a plane, and an edge of it; longest side first."""
    # Open3D's own box of a thin cloud changes when the cloud is turned, and may have no extent.
    try:
        hull, _ = _to_open3d(_rows(points, least=4)).compute_convex_hull()
    except RuntimeError as error:
        raise InvalidValueError("an oriented box needs points that are not all in a plane: axis_box takes them") from error
    faces = (vertices := np.asarray(hull.vertices))[np.asarray(hull.triangles)]
    x = np.roll(faces, -1, axis=1) - faces  # edges (t, 3, 3)
    x /= np.linalg.norm(x, axis=2, keepdims=True)
    z = np.cross(x[:, :1], x[:, 1:2])
    sine = np.linalg.norm(z, axis=2, keepdims=True)
    fat = sine[:, 0, 0] >= min(1e-6, sine.max())  # a sliver's normal is noise
    x, z = x[fat], z[fat] / sine[fat]
    frames = np.stack(np.broadcast_arrays(x, np.cross(z, x), z), axis=2).reshape(-1, 3, 3)  # rows are axes
    sizes = np.array([np.ptp(vertices @ rows.T, axis=0) for rows in frames])
    # Many a hull has several smallest boxes: of these the most compact, so that rounding does not choose.
    axes = frames[np.where((v := sizes.prod(axis=1)) <= v.min() * (1 + 1e-6), sizes.sum(axis=1), np.inf).argmin()]
    axes = axes[np.argsort(-np.ptp(vertices @ axes.T, axis=0), kind="stable")]
    axes[2] = np.cross(axes[0], axes[1])
    box = axis_box(vertices @ axes.T)
    return Box3(axes.T @ box.centre, box.extent, axes.T)


def visible_by_depth(points: ArrayLike, frame: Frame, tolerance: float = 0.01) -> Sight:
    """Points (n, 3) against the depth at their pixels: hidden if over `tolerance` metres behind, not in view without any."""
    _positive(tolerance=tolerance)
    pixels, far = to_pixels(points, frame)
    inside, v, u = _cells(pixels, frame)
    seen = np.where(inside, _depth(frame)[v, u], 0)
    return Sight(seen > 0, (seen > 0) & (far <= seen + tolerance))


def visible_by_mesh(points: ArrayLike, frame: Frame, mesh: Mesh, tolerance: float = 0.01) -> Sight:
    """Points (n, 3) against a mesh, by rays from the frame's camera: hidden if over `tolerance` metres behind the first hit."""
    _positive(tolerance=tolerance)
    inside, origin, o3d = _cells(to_pixels(points, frame)[0], frame)[0], frame.pose[:3, 3], _open3d()
    towards = np.asarray(points, np.float64) - origin
    far = np.linalg.norm(towards, axis=1)
    rays = np.column_stack([np.broadcast_to(origin, towards.shape), towards / np.maximum(far, _NEAR)[:, None]])
    scene = o3d.t.geometry.RaycastingScene()
    scene.add_triangles(mesh.vertices.points.astype(np.float32), mesh.triangles.astype(np.uint32))
    hit = scene.cast_rays(o3d.core.Tensor(rays.astype(np.float32)))["t_hit"].numpy()
    return Sight(inside, inside & (hit >= far - tolerance))
