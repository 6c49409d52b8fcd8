"""Cameras as geometry: pinhole and fisheye projection, and a frame that knows where it was taken.

Camera coordinates follow OpenCV: x right, y down, z forward, metres. Pixels: u right, v down, the centre of the top-left
pixel is (0, 0). (MuJoCo's cameras look along -z with y up; `MUJOCO_TO_OPENCV` turns one into the other.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from assets.errors import InvalidValueError

MUJOCO_TO_OPENCV = np.diag([1.0, -1.0, -1.0])


class Projection(Protocol):
    """Rays to pixels and back."""

    @property
    def width(self) -> int:
        """Pixels."""
        ...

    @property
    def height(self) -> int:
        """Pixels."""
        ...

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Camera-frame points (..., 3), metres, to pixels (..., 2)."""
        ...

    def unproject(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Pixels (..., 2) to unit rays (..., 3), camera frame."""
        ...


def pixel_grid(width: int, height: int) -> NDArray[np.float64]:
    """Pixel centres (u, v). Shape (height, width, 2)."""
    v, u = np.mgrid[0:height, 0:width].astype(np.float64)
    return np.stack([u, v], axis=-1)


@dataclass(frozen=True)
class Pinhole:
    """u = fx x/z + cx, v = fy y/z + cy.

    Attributes:
        width, height: pixels.
        fx, fy: focal lengths, pixels.
        cx, cy: principal point, pixels.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def from_fovy(cls, fovy: float, width: int, height: int) -> Pinhole:
        """Square pixels, centred, from a vertical field of view in degrees.

        Raises:
            InvalidValueError: the field of view is not inside (0, 180).
        """
        if not 0 < fovy < 180:
            raise InvalidValueError(f"a pinhole's vertical field of view must be inside (0, 180) degrees, got {fovy}")
        f = height / 2 / np.tan(np.radians(fovy) / 2)
        return cls(width, height, f, f, (width - 1) / 2, (height - 1) / 2)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Intrinsic matrix K, pixels. Shape (3, 3)."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1.0]])

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Camera-frame points (..., 3) to pixels (..., 2); NaN behind the camera."""
        p = np.asarray(points, np.float64)
        z = np.where(p[..., 2] > 0, p[..., 2], np.nan)
        return np.stack([self.fx * p[..., 0] / z + self.cx, self.fy * p[..., 1] / z + self.cy], axis=-1)

    def unproject(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Pixels (..., 2) to unit rays (..., 3), camera frame."""
        uv = np.asarray(pixels, np.float64)
        x, y = (uv[..., 0] - self.cx) / self.fx, (uv[..., 1] - self.cy) / self.fy
        rays = np.stack([x, y, np.ones_like(x)], axis=-1)
        return rays / np.linalg.norm(rays, axis=-1, keepdims=True)


@dataclass(frozen=True)
class Fisheye:
    """Equidistant fisheye with an even polynomial (Kannala and Brandt 2006; OpenCV's `cv2.fisheye`).

        r(theta) = f theta (1 + k1 theta^2 + k2 theta^4 + k3 theta^6 + k4 theta^8)      pixels

    theta is the angle from the viewing axis, radians. The defaults are EyeRobot's camera (kerrj/eyerobot,
    `eye/camera.py`): 1920 x 1200 pixels, 116.1 degrees across, 67.0 down, 148.6 corner to corner.
    """

    width: int = 1920
    height: int = 1200
    f: float = 1059.154
    cx: float = 960.0
    cy: float = 600.0
    k: tuple[float, float, float, float] = (-0.08717, -0.01354, -0.00626, 0.00486)

    def radius(self, theta: ArrayLike) -> NDArray[np.float64]:
        """Distance from the centre, pixels, at an angle from the axis, radians."""
        t = np.asarray(theta, np.float64)
        t2 = t * t
        k1, k2, k3, k4 = self.k
        return self.f * t * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))

    def angle(self, radius: ArrayLike) -> NDArray[np.float64]:
        """Inverse of `radius`, by Newton's method from the equidistant guess; radians."""
        r = np.asarray(radius, np.float64)
        theta = r / self.f
        k1, k2, k3, k4 = self.k
        for _ in range(12):
            t2 = theta * theta
            slope = self.f * (1 + t2 * (3 * k1 + t2 * (5 * k2 + t2 * (7 * k3 + t2 * 9 * k4))))
            theta = theta - (self.radius(theta) - r) / slope
        return theta

    def project(self, points: ArrayLike) -> NDArray[np.float64]:
        """Camera-frame points (..., 3) to pixels (..., 2)."""
        p = np.asarray(points, np.float64)
        rho = np.hypot(p[..., 0], p[..., 1])
        r = self.radius(np.arctan2(rho, p[..., 2]))
        scale = np.divide(r, rho, out=np.zeros_like(r), where=rho > 0)
        return np.stack([self.cx + scale * p[..., 0], self.cy + scale * p[..., 1]], axis=-1)

    def unproject(self, pixels: ArrayLike) -> NDArray[np.float64]:
        """Pixels (..., 2) to unit rays (..., 3), camera frame."""
        d = np.asarray(pixels, np.float64) - [self.cx, self.cy]
        r = np.linalg.norm(d, axis=-1)
        theta = self.angle(r)
        sine = np.divide(np.sin(theta), r, out=np.zeros_like(r), where=r > 0)
        return np.stack([sine * d[..., 0], sine * d[..., 1], np.cos(theta)], axis=-1)

    def crop_fov(self, crop: float) -> float:
        """Field of view across a centred square crop of `crop` pixels, degrees."""
        return float(np.degrees(2 * self.angle(crop / 2)))

    def crop_for(self, fov: float) -> float:
        """Side of the centred square crop with a field of view of `fov` degrees, pixels."""
        return float(2 * self.radius(np.radians(fov) / 2))

    def crop_rays(self, crop: float, resolution: int) -> NDArray[np.float64]:
        """Rays of a centred crop resampled to resolution x resolution; NaN where the sensor ends. (R, R, 3)."""
        step = crop / resolution
        offsets = (np.arange(resolution) + 0.5) * step - crop / 2
        u, v = np.meshgrid(self.cx + offsets, self.cy + offsets)
        rays = self.unproject(np.stack([u, v], axis=-1))
        outside = (u < 0) | (u > self.width) | (v < 0) | (v > self.height)
        rays[outside] = np.nan
        return rays


@dataclass(frozen=True)
class Frame:
    """What one camera saw, and from where; a leading axis N is allowed on every array.

    Attributes:
        rgb: (..., H, W, 3) uint8.
        depth: (..., H, W) float32 metres along the viewing axis, or None.
        segmentation: (..., H, W) int32 geom ids, -1 for nothing, or None.
        camera: the pinhole that took it.
        pose: (..., 4, 4) camera (OpenCV axes) -> world, metres.
    """

    rgb: NDArray[np.uint8]
    camera: Pinhole
    pose: NDArray[np.float64]
    depth: NDArray[np.float32] | None = None
    segmentation: NDArray[np.int32] | None = None

    def points(self) -> NDArray[np.float64]:
        """World position of every pixel, metres. Shape (..., H, W, 3).

        Raises:
            InvalidValueError: the frame has no depth.
        """
        if self.depth is None:
            raise InvalidValueError("a frame without depth has no points: ask the camera for the 'depth' modality")
        rays = self.camera.unproject(pixel_grid(self.camera.width, self.camera.height))
        local = rays / rays[..., 2:] * self.depth[..., None]  # (..., H, W, 3)
        rotation, origin = self.pose[..., :3, :3], self.pose[..., :3, 3]
        return np.einsum("...ij,...hwj->...hwi", rotation, local) + origin[..., None, None, :]


def pose_of(position: NDArray[Any], mujoco_rotation: NDArray[Any]) -> NDArray[np.float64]:
    """Camera-to-world matrix in OpenCV axes from MuJoCo's `cam_xpos` (..., 3) and `cam_xmat` (..., 3, 3)."""
    pose = np.zeros((*position.shape[:-1], 4, 4))
    pose[..., :3, :3] = mujoco_rotation @ MUJOCO_TO_OPENCV
    pose[..., :3, 3] = position
    pose[..., 3, 3] = 1
    return pose
