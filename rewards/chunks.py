"""How well predicted moves of an arm fit those that a demonstrator made: what rewards EyeRobot's eye.

    r = -1/|V| sum_{i in V} min_j || p_i - q_j ||        p: demonstrated, q: predicted; V: rows that exist

One-sided, so it asks whether the arm comes to where the demonstrator was, not when (arXiv:2506.10968; `line_distance` in
github.com/kerrj/eyerobot). `pose_reward` is the same with how far the tool is turned added to each distance, so that a
tool that comes to the right place the wrong way round is paid less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError

Array = NDArray[np.floating]
# What EyeRobot charges, beside joints, for an opening of the gripper that is off by all of it; metres for a radian of the tool.
GRIP, RADIAN = 0.2, 0.1


def path_reward(truth: Array, predicted: Array, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The reward of the module's equation, in metres, never above 0.

    Args:
        truth: (..., A, 3) m.
        predicted: (..., B, 3) m.
        valid: (..., A); a row of which nothing is valid gets 0.

    Raises:
        InvalidValueError: shapes that do not fit.
    """
    _check(truth, predicted, valid)
    return -_mean(_apart(truth, predicted).min(axis=-1), valid)


def pose_reward(
    truth: Array, predicted: Array, axes: Array, predicted_axes: Array, valid: NDArray[np.bool_], radian: float = RADIAN
) -> NDArray[np.float64]:
    """-1/|V| sum_i min_j (|| p_i - q_j || + radian * angle(R_i, S_j)): poses of the tool, in metres, never above 0.

    The angle is that of the one rotation which takes R to S, in [0, pi]: the geodesic distance of SO(3) (Huynh 2009,
    doi:10.1007/s10851-009-0161-2, metric 6). As in `path_reward`, the order of what is predicted does not matter.

    Args:
        truth: (..., A, 3) m.
        predicted: (..., B, 3) m.
        axes: (..., A, 6) the tool's x and y axes in the world frame, as recordings have them in "tool_axes".
        predicted_axes: (..., B, 6).
        valid: (..., A); a row of which nothing is valid gets 0.
        radian: what a radian of the tool costs, m.

    Raises:
        InvalidValueError: shapes that do not fit.
    """
    _check(truth, predicted, valid)
    if axes.shape != (*truth.shape[:-1], 6) or predicted_axes.shape != (*predicted.shape[:-1], 6):
        raise InvalidValueError(
            f"axes (..., A, 6) and predicted_axes (..., B, 6) must fit truth {truth.shape} and predicted {predicted.shape}, "
            f"got {axes.shape} and {predicted_axes.shape}"
        )
    # || R - S || = 2 sqrt(2) sin(angle / 2), and exactly 0 for equal rotations, which the arc cosine of the trace is not.
    chord = _apart(_rotations(axes), _rotations(predicted_axes)) / np.sqrt(8)
    angle = 2 * np.arcsin(np.minimum(chord, 1))
    return -_mean((_apart(truth, predicted) + radian * angle).min(axis=-1), valid)


def joint_reward(
    truth: Array, predicted: Array, valid: NDArray[np.bool_], grip: Array | None = None, grip_predicted: Array | None = None
) -> NDArray[np.float64]:
    """-mean ||q - q'|| - 0.2 mean |g - g'|: step by step, in joint space, rad, and in the gripper's opening.

    Args:
        truth: (..., A, dof) rad.
        predicted: the same shape.
        valid: (..., A).
        grip: (..., A) openings in [0, 1]; None leaves them out.
        grip_predicted: the same shape.
    """
    reward = -_mean(np.linalg.norm(truth - predicted, axis=-1), valid)
    if grip is not None and grip_predicted is not None:
        reward = reward - GRIP * grip_error(grip, grip_predicted, valid)
    return reward


def grip_error(grip: Array, predicted: Array, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Mean |g - g'|, step by step, in [0, 1].

    Args:
        grip: (..., A) openings in [0, 1].
        predicted: the same shape.
        valid: (..., A); a row of which nothing is valid gets 0.
    """
    return _mean(np.abs(grip - predicted), valid)


def _mean(values: Array, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(valid, values, 0).sum(axis=-1) / np.maximum(valid.sum(axis=-1), 1)


def _apart(a: Array, b: Array) -> Array:
    """Distances of all pairs. (..., A, K), (..., B, K) -> (..., A, B)."""
    return np.linalg.norm(a[..., :, None, :] - b[..., None, :, :], axis=-1)


def _rotations(axes: Array) -> Array:
    """Entries of the rotations whose first two columns are given. (..., 6) -> (..., 9)."""
    return np.concatenate([axes, np.cross(axes[..., :3], axes[..., 3:])], axis=-1)


def _check(truth: Array, predicted: Array, valid: NDArray[np.bool_]) -> None:
    if truth.shape[:-1] != valid.shape or truth.shape[:-2] != predicted.shape[:-2] or predicted.shape[-1] != truth.shape[-1]:
        raise InvalidValueError(
            f"truth (..., A, 3), predicted (..., B, 3) and valid (..., A) must fit, got {truth.shape}, {predicted.shape} "
            f"and {valid.shape}"
        )
