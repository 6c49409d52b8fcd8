"""Where an arm's tool is for given joint angles, for whole arrays of them at once."""

from __future__ import annotations

from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from envs.arm import Arm
from envs.scene import Scene

Array = NDArray[np.float64]


class Chain:
    """The bodies from an arm's foot to its tool; forward kinematics as products of rotations.

    Args:
        arm: attached to a scene.
        model: that scene, compiled.
    """

    def __init__(self, arm: Arm, model: mujoco.MjModel) -> None:
        joints = {model.joint(f"{arm.name}/{name}").id: k for k, name in enumerate(arm.joints)}
        site = model.site(arm.tool).id
        path, body = [], int(model.site_bodyid[site])
        while body:
            path.append(body)
            body = int(model.body_parentid[body])
        self.dof = len(joints)
        # Per body: its place in its parent, and its joints: axis, anchor, where in the angles, and the angle of the rest pose.
        self._links = [
            (
                model.body_pos[b].copy(),
                _matrix(model.body_quat[b]),
                [
                    (model.jnt_axis[j].copy(), model.jnt_pos[j].copy(), joints.get(j), float(model.qpos0[model.jnt_qposadr[j]]))
                    for j in range(model.body_jntadr[b], model.body_jntadr[b] + model.body_jntnum[b])
                ],
            )
            for b in reversed(path)
        ]
        self._tool = model.site_pos[site].copy(), _matrix(model.site_quat[site])

    def tool(self, angles: Array) -> tuple[Array, Array]:
        """Position, world frame, metres, and rotation of the tool. (..., dof) rad -> (..., 3), (..., 3, 3).

        Raises:
            InvalidValueError: another number of joints.
        """
        if angles.shape[-1] != self.dof:
            raise InvalidValueError(f"this arm has {self.dof} joints, got angles {angles.shape}")
        shape = angles.shape[:-1]
        position, rotation = np.zeros((*shape, 3)), np.broadcast_to(np.eye(3), (*shape, 3, 3))
        for pos, turn, joints in self._links:
            position = position + rotation @ pos
            rotation = rotation @ turn
            for axis, anchor, index, rest in joints:
                if index is None:  # of a gripper: it stays at rest
                    continue
                spun = rotation @ _about(axis, angles[..., index] - rest)
                position = position + (rotation - spun) @ anchor
                rotation = spun
        return position + rotation @ self._tool[0], rotation @ self._tool[1]


@lru_cache(maxsize=8)
def chain(robot: str) -> Chain:
    """The chain of an arm that stands at the origin.

    Args:
        robot: asset name or path of an MJCF arm.
    """
    arm, scene = Arm(robot), Scene("arenas/tabletop_arc.xml")
    arm.attach(scene)
    return Chain(arm, scene.spec.compile())


def _matrix(quat: Array) -> Array:
    out = np.empty(9)
    mujoco.mju_quat2Mat(out, quat)
    return out.reshape(3, 3)


def _about(axis: Array, angle: Array) -> Array:
    """Rodrigues' formula: rotations about a unit axis (3,) by angles (...). (..., 3, 3)."""
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    sin, cos = np.sin(angle)[..., None, None], np.cos(angle)[..., None, None]
    return np.eye(3) + sin * cross + (1 - cos) * (cross @ cross)
