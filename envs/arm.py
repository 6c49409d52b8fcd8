"""An arm from any MJCF: which joints, which set-points, where the tool is.

The suite's own Panda is the default; a path to another model (a MuJoCo Menagerie one, say) works as long as its joints are
driven by position servos. What must be known is found in the file: hinge joints with an actuator are the arm, the other
actuators are the gripper, a site called `tcp` (or another usual name) is the tool, a keyframe or a custom numeric `home`
is the rest posture.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from envs.physics import Ids, Physics, consecutive
from envs.scene import Scene, load_spec

TOOL_SITES = ("tcp", "grasp_site", "grip_site", "pinch", "attachment_site", "ee_site", "end_effector")

# Set-points may lead the joints by this much, radians: enough for full torque, too little to wind up against a stop.
_LEAD = 0.3


class _Index(NamedTuple):
    """Where a scene keeps an arm: ids of joints and actuators, addresses in qpos and qvel, and the limits of both."""

    joint: NDArray[np.intp]
    qpos: NDArray[np.intp]
    dof: NDArray[np.intp]
    servo: NDArray[np.intp]
    gripper: NDArray[np.intp]
    low: NDArray[np.float64]  # (dof,) rad
    high: NDArray[np.float64]
    opening: NDArray[np.float64]  # (2, grippers) set-points: closed, open


@dataclass(eq=False)
class Arm:
    """An arm to be attached to a scene.

    Args:
        robot: name of an asset ("panda") or path of an MJCF file.
        name: prefix of its elements.
        pos: base position, world frame, metres.
        posture: rest posture, radians, instead of the model's own.

    Attributes:
        home: rest posture of the arm's joints, radians, (dof,); known after `attach`.
        has_gripper: whether actuators other than the arm's exist; known after `attach`.
        tool: name of the tool site.
    """

    robot: str = "panda"
    name: str = "arm"
    pos: tuple[float, float, float] = (0.0, 0.0, 0.0)
    posture: tuple[float, ...] | None = None
    home: NDArray[np.float64] = field(init=False)
    has_gripper: bool = field(init=False, default=False)
    tool: str = field(init=False, default="tcp")
    _joints: list[str] = field(init=False, default_factory=list)
    _servos: list[str] = field(init=False, default_factory=list)
    _grippers: list[str] = field(init=False, default_factory=list)
    _index: _Index | None = field(init=False, default=None)
    _home_rotation: NDArray[np.float64] | None = field(init=False, default=None)

    def attach(self, scene: Scene) -> None:
        """Put the arm into a scene.

        Raises:
            InvalidValueError: the model has no position-servoed hinge joints.
            AssetNotFoundError: neither an asset nor a file.
        """
        given = Path(self.robot).expanduser()
        spec = load_spec(given if given.suffix == ".xml" else f"robots/{self.robot}.xml")
        alone = spec.copy().compile()
        self._index, self._home_rotation = None, None
        self._find_actuators(alone)
        self.home = self._find_home(alone)
        self.tool = f"{self.name}/{self._find_tool(spec, alone)}"
        # Keyframes of a part have the wrong size for the scene.
        for key in list(spec.keys):
            spec.delete(key)
        scene.attach(spec, self.name, self.pos)

    def _find_actuators(self, model: mujoco.MjModel) -> None:
        self._joints, self._servos, self._grippers = [], [], []
        for i in range(model.nu):
            name = model.actuator(i).name
            joint = int(model.actuator_trnid[i, 0])
            on_joint = model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_JOINT
            if on_joint and model.jnt_type[joint] == mujoco.mjtJoint.mjJNT_HINGE:
                if model.actuator_biasprm[i, 1] >= 0:
                    raise InvalidValueError(
                        f"{self.robot}: actuator {name!r} is not a position servo (its bias has no -kp term); "
                        "give the arm <position> actuators"
                    )
                self._servos.append(name)
                self._joints.append(model.joint(joint).name)
            else:
                self._grippers.append(name)
        if not self._joints:
            raise InvalidValueError(f"{self.robot}: no hinge joint has a position servo, so there is no arm to move")
        self.has_gripper = bool(self._grippers)

    def _find_home(self, model: mujoco.MjModel) -> NDArray[np.float64]:
        if self.posture is not None:
            if len(self.posture) != len(self._joints):
                raise InvalidValueError(
                    f"{self.robot} has {len(self._joints)} joints ({', '.join(self._joints)}), "
                    f"the posture gives {len(self.posture)}"
                )
            return np.array(self.posture, np.float64)
        numeric = [i for i in range(model.nnumeric) if model.numeric(i).name == "home"]
        if numeric and model.numeric_size[numeric[0]] == len(self._joints):
            return np.array(model.numeric(numeric[0]).data, np.float64)
        addresses = [int(model.joint(j).qposadr[0]) for j in self._joints]
        keys = [i for i in range(model.nkey) if model.key(i).name == "home"] or list(range(min(model.nkey, 1)))
        pose = model.key_qpos[keys[0]] if keys else model.qpos0
        return np.array(pose[addresses], np.float64)

    def _find_tool(self, spec: mujoco.MjSpec, model: mujoco.MjModel) -> str:
        for name in TOOL_SITES:
            if spec.site(name) is not None:
                return name
        last = int(model.jnt_bodyid[model.joint(self._joints[-1]).id])
        spec.body(model.body(last).name).add_site(name="tcp")
        return "tcp"

    @property
    def joints(self) -> list[str]:
        """Names of the joints in the arm's own model; known after `attach`."""
        return list(self._joints)

    @property
    def dof(self) -> int:
        """Number of joints; known after `attach`."""
        return len(self._joints)

    def _bind(self, physics: Physics) -> _Index:
        if self._index is None:
            model = physics.model
            joint = np.array([physics.id("joint", f"{self.name}/{j}") for j in self._joints], np.intp)
            gripper = np.array([physics.id("actuator", f"{self.name}/{a}") for a in self._grippers], np.intp)
            low, high = model.jnt_range[joint].T
            limited = model.jnt_limited[joint].astype(bool)
            self._index = _Index(
                joint,
                model.jnt_qposadr[joint].astype(np.intp),
                model.jnt_dofadr[joint].astype(np.intp),
                np.array([physics.id("actuator", f"{self.name}/{a}") for a in self._servos], np.intp),
                gripper,
                np.where(limited, low, -np.inf),
                np.where(limited, high, np.inf),
                model.actuator_ctrlrange[gripper].T.copy(),
            )
        return self._index

    def qpos(self, physics: Physics) -> NDArray[np.float64]:
        """Joint angles, radians. Shape (N, dof)."""
        return physics.all_qpos[:, consecutive(self._bind(physics).qpos)].copy()

    def qvel(self, physics: Physics) -> NDArray[np.float64]:
        """Joint velocities, rad/s. Shape (N, dof)."""
        return physics.all_qvel[:, consecutive(self._bind(physics).dof)].copy()

    def put(self, physics: Physics, ids: Ids, qpos: NDArray[np.float64]) -> None:
        """Put the arm of some simulations somewhere, at rest, gripper open; call `forward` afterwards.

        Args:
            physics: the simulations.
            ids: which of them, n.
            qpos: joint angles, radians. Shape (n, dof).
        """
        index = self._bind(physics)
        qpos = np.clip(qpos, index.low, index.high)
        physics.all_qpos[np.ix_(ids, index.qpos)] = qpos
        physics.all_qvel[np.ix_(ids, index.dof)] = 0
        physics.ctrl[np.ix_(ids, index.servo)] = qpos
        if self.has_gripper:
            physics.ctrl[np.ix_(ids, index.gripper)] = index.opening[1]

    def tool_pos(self, physics: Physics) -> NDArray[np.float64]:
        """Tool position, world frame, metres. Shape (N, 3)."""
        return physics.site_xpos(self.tool)

    def jacobian(self, physics: Physics) -> NDArray[np.float64]:
        """Jacobian of the tool with respect to the arm's joints, world frame; linear then angular. Shape (N, 6, dof)."""
        return physics.jacobian(self.tool, self._bind(physics).joint)

    def orientation_error(self, physics: Physics, turn: NDArray[np.float64] | None = None) -> NDArray[np.float64]:
        """Rotation from the tool's orientation to the one it should have, as a small-angle vector, radians. (N, 3).

        It should be as it is at home; with `turn` (N,), radians, it should be so but for a rotation about the world's z,
        which goes on from where it is now by `turn`.
        """
        if self._home_rotation is None:
            self._home_rotation = self._rotation_at_home(physics)
        current, wanted = physics.site_xmat(self.tool), self._home_rotation[None]
        if turn is not None:
            # current = R(yaw) home up to tilt, and the yaw of a product of rotations near z is read off its first column.
            relative = current @ self._home_rotation.T
            yaw = np.arctan2(relative[:, 1, 0] - relative[:, 0, 1], relative[:, 0, 0] + relative[:, 1, 1]) + turn
            spin = np.zeros_like(current)
            spin[:, 0, 0] = spin[:, 1, 1] = np.cos(yaw)
            spin[:, 1, 0] = np.sin(yaw)
            spin[:, 0, 1], spin[:, 2, 2] = -spin[:, 1, 0], 1
            wanted = spin @ self._home_rotation
        # Half the sum of the cross products of matching axes, which is the skew part of the relative rotation; exact to
        # second order (Siciliano et al., Robotics, 3.89).
        twist = wanted @ current.swapaxes(1, 2)
        return 0.5 * (twist[:, (2, 0, 1), (1, 2, 0)] - twist[:, (1, 2, 0), (2, 0, 1)])

    def _rotation_at_home(self, physics: Physics) -> NDArray[np.float64]:
        data = mujoco.MjData(physics.model)
        data.qpos[self._bind(physics).qpos] = self.home
        mujoco.mj_kinematics(physics.model, data)
        return data.site_xmat[physics.id("site", self.tool)].reshape(3, 3).copy()

    def move_setpoints(self, physics: Physics, delta: NDArray[np.float64]) -> None:
        """Move the joints' set-points by `delta` radians (N, dof), inside the joint ranges and near the joints."""
        index = self._bind(physics)
        now, servo = physics.all_qpos[:, consecutive(index.qpos)], consecutive(index.servo)
        wanted = np.minimum(np.maximum(physics.ctrl[:, servo] + delta, now - _LEAD), now + _LEAD)
        physics.ctrl[:, servo] = np.minimum(np.maximum(wanted, index.low), index.high)

    def opening(self, physics: Physics) -> NDArray[np.float64]:
        """The gripper's opening: 0 closed, 1 open. Shape (N, 1)."""
        index = self._bind(physics)
        low, high = index.opening[:, :1].T[0]
        return (physics.actuator_length(f"{self.name}/{self._grippers[0]}")[:, None] - low) / (high - low)

    def set_opening(self, physics: Physics, fraction: NDArray[np.float64]) -> None:
        """Set the gripper's opening: 0 closed, 1 open. Shape (N,)."""
        index = self._bind(physics)
        low, high = index.opening
        physics.ctrl[:, consecutive(index.gripper)] = low + fraction[:, None] * (high - low)


def damped(jacobian: NDArray[np.float64], wanted: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    """Joint motion by damped least squares, J^T (J J^T + damping^2 I)^-1 e (Nakamura and Hanafusa 1986).

    Args:
        jacobian: (..., k, dof).
        wanted: e, (..., k): metres, and radians where the jacobian has rotations.
        damping: how strongly large joint motions near singular postures are avoided.

    Returns:
        (..., dof), rad.
    """
    transposed = jacobian.swapaxes(-1, -2)
    square = jacobian @ transposed + damping**2 * np.eye(jacobian.shape[-2])
    return (transposed @ np.linalg.solve(square, wanted[..., None]))[..., 0]
