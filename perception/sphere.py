"""Equirectangular pictures of everything around one point, and foveal views taken out of them.

A picture (H, W, 3) with W = 2 H shows direction (azimuth a, elevation e), radians, at pixel centre

    u = (pi - a) W / (2 pi) - 1/2,   v = (pi/2 - e) H / pi - 1/2

so that its middle looks along +x, the left half to the left (+y) and the upper half up (+z). An eye that only rotates sees
nothing else (EyeRobot's EyeGym, arXiv:2506.10968): turning it is a shift along u, raising it a change of the maps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from perception.frame import Fisheye, Pinhole, pixel_grid

if TYPE_CHECKING:
    import torch

# Names of a cube's faces, and the azimuth and elevation that each looks along, degrees.
CUBE = {"front": (0, 0), "left": (90, 0), "back": (180, 0), "right": (-90, 0), "up": (0, 90), "down": (0, -90)}


def pixels_of(directions: NDArray[Any], width: int) -> NDArray[np.float64]:
    """Where directions (..., 3), of any length, lie in a picture `width` pixels wide. (..., 2): u in [-1/2, W - 1/2)."""
    x, y, z = np.moveaxis(np.asarray(directions, np.float64), -1, 0)
    u = (np.pi - np.arctan2(y, x)) * width / (2 * np.pi) - 0.5
    v = (np.pi / 2 - np.arctan2(z, np.hypot(x, y))) * width / (2 * np.pi) - 0.5
    return np.stack([np.where(u >= width - 0.5, u - width, u), v], axis=-1)


def directions_of(width: int) -> NDArray[np.float64]:
    """Unit vectors that the pixels of a picture show. (W / 2, W, 3)."""
    u, v = np.moveaxis(pixel_grid(width, width // 2), -1, 0)
    azimuth, elevation = np.pi - (u + 0.5) * 2 * np.pi / width, np.pi / 2 - (v + 0.5) * 2 * np.pi / width
    return np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=-1)


def check_picture(picture: NDArray[Any], name: str = "the panorama") -> None:
    """Make sure that a picture can be equirectangular.

    Raises:
        InvalidValueError: not (H, 2 H, 3) uint8.
    """
    shape = picture.shape
    if picture.dtype != np.uint8 or len(shape) != 3 or shape[2] != 3 or shape[1] != 2 * shape[0]:
        raise InvalidValueError(
            f"{name} must be uint8 (H, 2 H, 3), twice as wide as high, as equirectangular pictures are; "
            f"got {picture.dtype} {shape}"
        )


def pyramid_rays(fovs: tuple[float, ...], resolution: int, projection: str = "pinhole") -> NDArray[np.float64]:
    """Rays of a foveal pyramid, camera frame (x right, y down, z ahead); NaN where a fisheye's sensor ends. (L, R, R, 3).

    Args:
        fovs: degrees across each level.
        resolution: R, pixels a side.
        projection: "pinhole" or "fisheye" (EyeRobot's camera).
    """
    if projection == "fisheye":
        camera = Fisheye()
        return np.stack([camera.crop_rays(camera.crop_for(fov), resolution) for fov in fovs])
    grid = pixel_grid(resolution, resolution)
    return np.stack([Pinhole.from_fovy(fov, resolution, resolution).unproject(grid) for fov in fovs])


class Foveator:
    """Foveal views out of equirectangular pictures, through maps that are computed once.

    Maps for elevations in between are interpolated, which is exact to a few thousandths of a pixel away from the poles.

    Args:
        width: of the pictures, pixels.
        rays: of every pixel that is wanted, camera frame, as `pyramid_rays` gives them. (L, R, R, 3).
        elevation: limit of the gaze, +- degrees.
        step: between two maps, degrees.

    Raises:
        InvalidValueError: an odd width, rays of another shape, or a number out of range.
    """

    def __init__(self, width: int, rays: NDArray[np.float64], elevation: float = 30.0, step: float = 0.5) -> None:
        if width < 4 or width % 2:
            raise InvalidValueError(f"a panorama's width must be even and >= 4, got {width}")
        if rays.ndim != 4 or rays.shape[1] != rays.shape[2] or rays.shape[3] != 3:
            raise InvalidValueError(f"rays must be (L, R, R, 3), got {rays.shape}")
        if not (0 <= elevation <= 90 and step > 0):
            raise InvalidValueError(f"elevation must be in [0, 90] and step > 0 degrees, got {elevation} and {step}")
        self.width, self.shape = width, rays.shape[:3]
        self._limit, self._step = np.radians(elevation), np.radians(step)
        count = int(np.ceil(2 * elevation / step - 1e-9)) + 1
        self._black = np.isnan(rays).any(axis=-1)
        self._has_black = bool(self._black.any())
        levels, side, _ = self.shape
        maps = np.stack([self._map(rays, e) for e in np.arange(count) * self._step - self._limit])
        maps[:, 0] = np.unwrap(maps[:, 0], axis=0, period=width)  # so that what lies between two maps does
        self._maps = maps.astype(np.float32).reshape(count, 2, levels * side, side)
        self._there: dict[torch.device, tuple[torch.Tensor, torch.Tensor]] = {}

    def _map(self, rays: NDArray[np.float64], elevation: float) -> NDArray[np.float64]:
        """Where the rays of an eye at azimuth 0 fall: u and v. (2, L, R, R)."""
        right, down, ahead = np.moveaxis(np.nan_to_num(rays, nan=1.0), -1, 0)
        cos, sin = np.cos(elevation), np.sin(elevation)
        turned = np.stack([cos * ahead + sin * down, -right, sin * ahead - cos * down], axis=-1)
        u, v = np.moveaxis(pixels_of(turned, self.width), -1, 0)
        return np.stack([u, np.clip(v, 0, self.width // 2 - 1)])

    def maps(self, gaze: NDArray[Any]) -> NDArray[np.float32]:
        """Where in a picture the pixels of one gaze lie: u, in no certain turn, and v. (2, L R, R).

        Raises:
            InvalidValueError: the elevation is beyond the limit.
        """
        azimuth, elevation = float(gaze[0]), float(gaze[1])
        if not abs(elevation) <= self._limit + 1e-6:
            raise InvalidValueError(
                f"the gaze's elevation must be within +-{np.degrees(self._limit):g} degrees, got {np.degrees(elevation):g}"
            )
        place = min(max((elevation + self._limit) / self._step, 0.0), len(self._maps) - 1)
        low = min(int(place), len(self._maps) - 2) if len(self._maps) > 1 else 0
        share = place - low
        out = cv2.addWeighted(self._maps[low], 1 - share, self._maps[min(low + 1, len(self._maps) - 1)], share, 0)
        out[0] -= np.float32(azimuth * self.width / (2 * np.pi))
        return out

    def look(self, picture: NDArray[np.uint8], gaze: NDArray[Any]) -> NDArray[np.uint8]:
        """What an eye in the middle sees.

        Args:
            picture: (W / 2, W, 3).
            gaze: azimuth and elevation, radians. (2,).

        Returns:
            (L, R, R, 3); black where the sensor ends.

        Raises:
            InvalidValueError: a picture of another size, or an elevation beyond the limit.
        """
        if picture.shape != (self.width // 2, self.width, 3):
            raise InvalidValueError(f"these maps are for pictures of {(self.width // 2, self.width, 3)}, got {picture.shape}")
        u, v = self.maps(gaze)
        found = cv2.remap(picture, u, v, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP)
        seen = np.asarray(found, np.uint8).reshape(*self.shape, 3)
        if self._has_black:
            seen[self._black] = 0
        return seen

    def _on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Maps and black pixels on a device, brought there once."""
        import torch

        if device not in self._there:
            self._there[device] = torch.from_numpy(self._maps).to(device), torch.from_numpy(self._black).to(device)
        return self._there[device]

    def look_many(self, pictures: torch.Tensor, gaze: torch.Tensor) -> torch.Tensor:
        """The same for a batch on any of torch's devices.

        Args:
            pictures: (N, W / 2, W, 3) uint8.
            gaze: (N, 2) radians.

        Returns:
            (N, L, R, R, 3) uint8, within rounding of what `look` gives.
        """
        import torch
        from torch.nn import functional

        device, count = pictures.device, len(pictures)
        maps, black = self._on(device)
        place = ((gaze[:, 1] + self._limit) / self._step).clamp(0, len(maps) - 1)
        low = place.long().clamp(max=max(len(maps) - 2, 0))
        share = (place - low)[:, None, None, None].float()
        found = maps[low] * (1 - share) + maps[(low + 1).clamp(max=len(maps) - 1)] * share
        u = (found[:, 0] - (gaze[:, 0] * self.width / (2 * torch.pi))[:, None, None].float()).remainder(self.width)
        wide = torch.cat([pictures, pictures[:, :, :1]], dim=2).movedim(-1, 1).float()
        # As grid_sample has it: -1 and 1 are the middles of the outermost pixels.
        grid = torch.stack([2 * u / self.width - 1, 2 * found[:, 1] / (self.width // 2 - 1) - 1], dim=-1)
        seen = functional.grid_sample(wide, grid, "bilinear", "border", align_corners=True)
        out = seen.round().to(torch.uint8).movedim(1, -1).reshape(count, *self.shape, 3)
        out[:, black] = 0
        return out


class CubeMap:
    """Equirectangular pictures out of six square ones, 90 degrees across each.

    Args:
        width: of the pictures that are made, pixels.
        side: of the faces, pixels.
    """

    def __init__(self, width: int, side: int) -> None:
        if width < 4 or width % 2 or side < 2:
            raise InvalidValueError(f"a panorama's width must be even and >= 4, a face's side >= 2; got {width} and {side}")
        self.width, self.side = width, side
        directions = directions_of(width)
        ahead = np.stack([cube_axes(*angles)[0] for angles in CUBE.values()])
        self._face = np.argmax(directions @ ahead.T, axis=-1)
        camera = Pinhole.from_fovy(90, side, side)
        maps = np.empty((width // 2, width, 2), np.float32)
        for number, angles in enumerate(CUBE.values()):
            forward, left, up = cube_axes(*angles)
            mine = self._face == number
            local = directions[mine] @ np.stack([-left, -up, forward], axis=1)
            # Half a pixel around a face lies on its neighbour; the edge's own pixel stands in for it.
            maps[mine] = np.clip(camera.project(local), 0, side - 1)
        below = maps[..., 1] + self._face.astype(np.float32) * side  # the faces stand one below the other
        self._maps = cv2.convertMaps(maps[..., 0], below, cv2.CV_16SC2)  # to 1/32 of a pixel, in half of the time

    def unfold(self, faces: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Make one picture. (6, S, S, 3), in the order of `CUBE`, -> (W / 2, W, 3).

        Raises:
            InvalidValueError: faces of another shape.
        """
        if faces.shape != (len(CUBE), self.side, self.side, 3):
            raise InvalidValueError(f"a cube needs faces of {(len(CUBE), self.side, self.side, 3)}, got {faces.shape}")
        found = cv2.remap(faces.reshape(-1, self.side, 3), *self._maps, cv2.INTER_LINEAR)
        return np.asarray(found, np.uint8)


def cube_axes(azimuth: float, elevation: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Forward, left and up of a camera that looks along azimuth and elevation, degrees; unit vectors (3,)."""
    a, e = np.radians([azimuth, elevation])
    forward = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    left = np.array([-np.sin(a), np.cos(a), 0.0])
    return forward, left, np.cross(forward, left)


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio of 8-bit pictures, decibels; infinite where they are equal."""
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return float("inf") if error == 0 else float(10 * np.log10(255**2 / error))
