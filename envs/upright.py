"""Turns about the world's vertical, in radians, for whole batches."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float64]


def upright(yaw: Vector) -> Vector:
    """Quaternions, wxyz, of bodies that stand upright, turned about the vertical. (...) -> (..., 4)."""
    half = yaw / 2
    return np.stack([np.cos(half), 0 * half, 0 * half, np.sin(half)], axis=-1)


def yaw_of(quat: Vector) -> Vector:
    """Turn about the vertical of orientations (N, 4) wxyz: where x points, in (-pi, pi]. (N,)."""
    w, x, y, z = quat.T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def turned(vectors: Vector, angle: Vector | float) -> Vector:
    """Vectors (N, 3) turned about the vertical by one angle or by (N,)."""
    x, y, z = vectors.T
    return np.stack([np.cos(angle) * x - np.sin(angle) * y, np.sin(angle) * x + np.cos(angle) * y, z], axis=1)
