"""Picking up and putting down from above, by the oracle of a panoramic task: a function of the state alone."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from envs.tasks.eye.panorama import ABOVE, CARRIED, TURN, approach, polar

Vector = NDArray[np.float64]

# What counts as above a thing, as around it, and as turned like it: metres, metres, radians.
OVER, AT, ALIGNED = 0.008, 0.006, 0.05
# Share of full speed with which things are carried.
CARRY = 0.6
# Width of the open gripper, and how much narrower than a thing it is told to be to hold it; metres.
HAND, SQUEEZE = 0.08, 0.025


def folded(angle: Vector) -> Vector:
    """An angle between directions that have no front, in (-pi/2, pi/2]."""
    return angle - np.pi * np.round(angle / np.pi)


def missing(angle: Vector, at: Vector, wanted: Vector, where: Vector) -> Vector:
    """The turn that takes a direction to another one, as far as the way along the arc does not; radians, folded. (N,).

    Args:
        angle: a direction that has no front, rad.
        at: where that is, (N, 3) m.
        wanted: what it should become, rad.
        where: where it should then be, (N, 3) m.
    """
    return folded((wanted - polar(where)[:, 1]) - (angle - polar(at)[:, 1]))


def gripped(tool: Vector, grasp: Vector, opening: Vector, width: float) -> NDArray[np.bool_]:
    """Whether the pads are on a thing: the tool is around where it is held, and opened as far as it is wide.

    Args:
        tool: (N, 3) m.
        grasp: where the thing is to be held, (N, 3) m.
        opening: of the gripper, (N, 1), 1 is 8 cm.
        width: of the thing between the pads, m.
    """
    return (np.linalg.norm(tool - grasp, axis=1) < 0.025) & (opening[:, 0] < width / HAND + 0.02)


def shut(width: float) -> float:
    """The gripper's action that holds a thing firmly, but does not crush what is light. In [-1, 1]."""
    return float(np.clip(2 * (width - SQUEEZE) / HAND - 1, -1, 1))


def fetch(tool: Vector, grasp: Vector, misturn: Vector, width: float) -> tuple[Vector, Vector, Vector]:
    """Above the thing and turned like it, down, and close. Returns move (N, 3), turn (N,) and grip (N,), in [-1, 1]."""
    aside = np.linalg.norm((tool - grasp)[:, :2], axis=1)
    # Once down, a little more is forgiven than on the way.
    low = tool[:, 2] - grasp[:, 2] < 0.04
    ready = (aside < np.where(low, 2 * OVER, OVER)) & (np.abs(misturn) < np.where(low, 2 * ALIGNED, ALIGNED))
    goal = grasp + np.where(ready, 0.0, ABOVE)[:, None] * [0, 0, 1]
    there = ready & (np.abs(tool[:, 2] - grasp[:, 2]) < AT)
    return approach(tool, goal), np.clip(misturn / TURN, -1, 1), np.where(there, shut(width), 1.0)


def bring(
    tool: Vector, thing: Vector, goal: Vector, misturn: Vector, width: float, drop: float = 0.01
) -> tuple[Vector, Vector, Vector]:
    """Carry a gripped thing over its goal, turned like it, down, and open; arguments and result as for `fetch`.

    Args:
        tool: (N, 3) m.
        thing: where the thing is, (N, 3) m.
        goal: where it should come to lie, (N, 3) m.
        misturn: turn about the vertical that is missing, (N,) rad.
        width: of the thing between the pads, m.
        drop: how far above its goal it is let go, so that it is never pressed into what it lies on, m.
    """
    aside = np.linalg.norm((thing - goal)[:, :2], axis=1)
    over = (aside < 2 * OVER) & (np.abs(misturn) < 2 * ALIGNED)
    # The tool is steered so that the thing comes to the goal, however it is held.
    lowered = goal + (tool - thing) + [0, 0, drop]
    target = lowered + np.where(over, 0.0, np.maximum(CARRIED - goal[:, 2], ABOVE))[:, None] * [0, 0, 1]
    down = over & (thing[:, 2] - goal[:, 2] < drop + 0.012)
    height = np.maximum(CARRIED, goal[:, 2] + ABOVE).max()
    return (
        CARRY * approach(tool, target, float(height)),
        CARRY * np.clip(misturn / TURN, -1, 1),
        np.where(down, 1.0, shut(width)),
    )
