"""How well predicted moves of an arm fit those that a demonstrator made: what rewards EyeRobot's eye.

    r = -1/|V| sum_{i in V} min_j || p_i - q_j ||        p: demonstrated, q: predicted; V: rows that exist

One-sided, so it asks whether the arm comes to where the demonstrator was, not when (arXiv:2506.10968; `line_distance` in
github.com/kerrj/eyerobot).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError

Array = NDArray[np.floating]


def path_reward(truth: Array, predicted: Array, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The reward of the module's equation, in metres, never above 0.

    Args:
        truth: (..., A, 3) m.
        predicted: (..., B, 3) m.
        valid: (..., A); a row of which nothing is valid gets 0.

    Raises:
        InvalidValueError: shapes that do not fit.
    """
    if truth.shape[:-1] != valid.shape or truth.shape[:-2] != predicted.shape[:-2] or predicted.shape[-1] != truth.shape[-1]:
        raise InvalidValueError(
            f"truth (..., A, 3), predicted (..., B, 3) and valid (..., A) must fit, got {truth.shape}, {predicted.shape} "
            f"and {valid.shape}"
        )
    apart = np.linalg.norm(truth[..., :, None, :] - predicted[..., None, :, :], axis=-1).min(axis=-1)
    return -_mean(apart, valid)


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
        reward = reward - 0.2 * _mean(np.abs(grip - grip_predicted), valid)
    return reward


def _mean(values: Array, valid: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.where(valid, values, 0).sum(axis=-1) / np.maximum(valid.sum(axis=-1), 1)
