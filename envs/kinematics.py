"""Where an arm's tool is for given joint angles, for whole arrays of them at once."""

from __future__ import annotations

from functools import lru_cache

import mujoco
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from envs.arm import Arm, damped
from envs.scene import Scene

Array = NDArray[np.float64]
# Of `displaced`: without it an arm that is stretched out would turn its joints without end.
_DAMPING = 0.01


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
        return self._walk(angles)

    def jacobian(self, angles: Array) -> Array:
        """How the tool moves, world frame, m/rad, and turns, rad/rad, with each joint. (..., dof) rad -> (..., 6, dof).

            J_k = [a_k x (p - o_k), a_k]    for a hinge about the axis a_k through o_k, and the tool at p

        Raises:
            InvalidValueError: another number of joints.
        """
        hinges: dict[int, tuple[Array, Array]] = {}
        tool, _ = self._walk(angles, hinges)
        columns = (np.concatenate([np.cross(axis, tool - at), axis], axis=-1) for _, (axis, at) in sorted(hinges.items()))
        return np.stack(list(columns), axis=-1)

    def displaced(self, angles: Array, by: Array) -> Array:
        """Angles (..., dof) rad at which the tool is elsewhere by (..., 3) m, world frame, and turned as before.

        To first order, see `envs.arm.damped`: a few centimetres are met to millimetres.

        Raises:
            InvalidValueError: another number of joints.
        """
        return angles + damped(self.jacobian(angles), np.concatenate([by, np.zeros_like(by)], axis=-1), _DAMPING)

    def _walk(self, angles: Array, hinges: dict[int, tuple[Array, Array]] | None = None) -> tuple[Array, Array]:
        """Position and rotation of the tool; axis and anchor of every joint, world frame, are added to `hinges`, if given."""
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
                if hinges is not None:
                    hinges[index] = rotation @ axis, position + rotation @ anchor
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
