"""N simulations of one model, stepped together, read and written by name.

`Physics` is a thin skin over `mujoco.batch.Batch`: every array has the simulations on its leading axis, and one simulation
is the case N = 1. Positions are metres in the world frame, angles radians, quaternions wxyz.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mujoco
import mujoco.batch
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError

Ids = NDArray[np.intp]

# Kinematics, collision and velocity-dependent quantities are current after this stage; accelerations are not.
_CURRENT = mujoco.mjtStage.mjSTAGE_VEL.value

# Warnings that mean a simulation's numbers have become nonsense.
_DIVERGED = [
    mujoco.mjtWarning.mjWARN_BADQPOS.value,
    mujoco.mjtWarning.mjWARN_BADQVEL.value,
    mujoco.mjtWarning.mjWARN_BADQACC.value,
    mujoco.mjtWarning.mjWARN_BADCTRL.value,
]

_KINDS = {
    "body": mujoco.mjtObj.mjOBJ_BODY,
    "joint": mujoco.mjtObj.mjOBJ_JOINT,
    "geom": mujoco.mjtObj.mjOBJ_GEOM,
    "site": mujoco.mjtObj.mjOBJ_SITE,
    "camera": mujoco.mjtObj.mjOBJ_CAMERA,
    "light": mujoco.mjtObj.mjOBJ_LIGHT,
    "actuator": mujoco.mjtObj.mjOBJ_ACTUATOR,
}
_COUNTS = {
    "body": "nbody",
    "joint": "njnt",
    "geom": "ngeom",
    "site": "nsite",
    "camera": "ncam",
    "light": "nlight",
    "actuator": "nu",
}


def names_of(model: mujoco.MjModel, kind: str) -> list[str]:
    """All names of a kind ("body", "joint", "geom", "site", "camera", "light", "actuator"), unnamed ones left out."""
    count = getattr(model, _COUNTS[kind])
    names = (mujoco.mj_id2name(model, _KINDS[kind], i) for i in range(count))
    return [name for name in names if name]


def id_of(model: mujoco.MjModel, kind: str, name: str) -> int:
    """The id behind a name.

    Raises:
        UnknownNameError: no element of that kind has the name; the sentence lists those that exist.
    """
    found = mujoco.mj_name2id(model, _KINDS[kind], name)
    if found < 0:
        raise UnknownNameError(kind, name, names_of(model, kind))
    return found


class Physics:
    """N simulations of one compiled model.

    Args:
        model: the compiled model; the batch keeps its own copy of the parameters.
        num_sims: N.
        memory: named slots in `userdata`, name -> slice; a task's episode memory lives there, so that a state row is all
            that a replay needs.
        num_threads: threads that step the simulations; 0 takes all cores. Results do not depend on it.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        num_sims: int = 1,
        memory: Mapping[str, slice] | None = None,
        num_threads: int = 0,
    ) -> None:
        if num_sims < 1:
            raise InvalidValueError(f"the number of simulations must be >= 1, got {num_sims}")
        self.model = model
        self.num_sims = num_sims
        self.batch = mujoco.batch.Batch(model, num_sims, num_threads)
        self.all = np.arange(num_sims, dtype=np.intp)
        self._memory = dict(memory or {})
        self._ids: dict[tuple[str, str], int] = {}
        self._fields: dict[str, NDArray[Any]] = {}
        self._before = np.empty_like(self.batch.state)
        # Bound now: an output that is bound between calls stays zero until the next one.
        self._xpos, self._xquat = self.batch.bind("xpos"), self.batch.bind("xquat")
        self._site_xpos, self._site_xmat = self.batch.bind("site_xpos"), self.batch.bind("site_xmat")
        self._qpos, self._qvel = self.batch.bind("qpos"), self.batch.bind("qvel")
        self._ctrl, self._act = self.batch.bind("ctrl"), self.batch.bind("act")
        self._mocap_pos, self._mocap_quat = self.batch.bind("mocap_pos"), self.batch.bind("mocap_quat")
        self._userdata = self.batch.bind("userdata")
        self.time = self.batch.bind("time")  # (N,) s
        self.batch.forward(None, _CURRENT)

    # -- names ---------------------------------------------------------------------------------------------------------

    def id(self, kind: str, name: str) -> int:
        """Id of a named element, resolved once."""
        key = (kind, name)
        if key not in self._ids:
            self._ids[key] = id_of(self.model, kind, name)
        return self._ids[key]

    # -- reading; arrays are live views: copy what must survive the next step ------------------------------------------

    def xpos(self, body: str) -> NDArray[np.float64]:
        """Body origin, world frame, metres. Shape (N, 3)."""
        return self._xpos[:, self.id("body", body)]

    def xquat(self, body: str) -> NDArray[np.float64]:
        """Body orientation, world frame, wxyz. Shape (N, 4)."""
        return self._xquat[:, self.id("body", body)]

    def site_xpos(self, site: str) -> NDArray[np.float64]:
        """Site position, world frame, metres. Shape (N, 3)."""
        return self._site_xpos[:, self.id("site", site)]

    def site_xmat(self, site: str) -> NDArray[np.float64]:
        """Site orientation; columns are the site's axes in the world frame. Shape (N, 3, 3)."""
        return self._site_xmat[:, self.id("site", site)].reshape(self.num_sims, 3, 3)

    def camera_pose(self, camera: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where a camera is, world frame: position (N, 3) in metres, rotation (N, 3, 3) with MuJoCo's axes (looks along -z)."""
        index = self.id("camera", camera)
        position, rotation = self.batch.bind("cam_xpos"), self.batch.bind("cam_xmat")
        self.forward()
        return position[:, index], rotation[:, index].reshape(self.num_sims, 3, 3)

    # -- state, readable and writable ----------------------------------------------------------------------------------

    def qpos(self, joint: str) -> NDArray[np.float64]:
        """Joint position (rad, m; a free joint is x y z then wxyz). Live view, shape (N, 1) or (N, 7)."""
        joint_id = self.id("joint", joint)
        start = self.model.jnt_qposadr[joint_id]
        width = {mujoco.mjtJoint.mjJNT_FREE: 7, mujoco.mjtJoint.mjJNT_BALL: 4}.get(self.model.jnt_type[joint_id], 1)
        return self._qpos[:, start : start + width]

    def qvel(self, joint: str) -> NDArray[np.float64]:
        """Joint velocity (rad/s, m/s). Live view, shape (N, 1), (N, 3) or (N, 6)."""
        joint_id = self.id("joint", joint)
        start = self.model.jnt_dofadr[joint_id]
        width = {mujoco.mjtJoint.mjJNT_FREE: 6, mujoco.mjtJoint.mjJNT_BALL: 3}.get(self.model.jnt_type[joint_id], 1)
        return self._qvel[:, start : start + width]

    @property
    def ctrl(self) -> NDArray[np.float64]:
        """Actuator inputs in each actuator's own unit. Live view, shape (N, nu)."""
        return self._ctrl

    def act(self, actuator: str) -> NDArray[np.float64]:
        """Activation of a stateful actuator, in its own unit (an integrated-velocity servo's set-point). View (N, 1)."""
        index = self.id("actuator", actuator)
        start, width = self.model.actuator_actadr[index], self.model.actuator_actnum[index]
        if width == 0:
            stateful = [n for n in names_of(self.model, "actuator") if self.model.actuator_actnum[self.id("actuator", n)]]
            raise UnknownNameError("actuator with activation", actuator, stateful)
        return self._act[:, start : start + width]

    def jacobian(self, site: str, ids: Ids | None = None) -> NDArray[np.float64]:
        """Jacobian of a site at the current state: velocity (m/s), then angular velocity (rad/s), world frame.

        Shape (n, 6, nv).
        """
        sims = self.all if ids is None else ids
        body = int(self.model.site_bodyid[self.id("site", site)])
        linear, angular = self.batch.jac(body, self.site_xpos(site)[sims], sims)
        return np.concatenate([linear, angular], axis=1)  # (n, 6, nv)

    def mocap_pos(self, body: str) -> NDArray[np.float64]:
        """Position of a mocap body, world frame, metres. Live view, shape (N, 3)."""
        return self._mocap_pos[:, self._mocap_id(body)]

    def mocap_quat(self, body: str) -> NDArray[np.float64]:
        """Orientation of a mocap body, world frame, wxyz. Live view, shape (N, 4)."""
        return self._mocap_quat[:, self._mocap_id(body)]

    def _mocap_id(self, body: str) -> int:
        mocap = int(self.model.body_mocapid[self.id("body", body)])
        if mocap < 0:
            movable = [n for n in names_of(self.model, "body") if self.model.body_mocapid[self.id("body", n)] >= 0]
            raise UnknownNameError("mocap body", body, movable)
        return mocap

    def memory(self, name: str) -> NDArray[np.float64]:
        """A named slot of the episode's memory. Live view, shape (N, size)."""
        if name not in self._memory:
            raise UnknownNameError("memory slot", name, self._memory)
        return self._userdata[:, self._memory[name]]

    # -- per-simulation model fields -----------------------------------------------------------------------------------

    def field(self, name: str) -> NDArray[Any]:
        """A model field with a value per simulation, live and writable, such as "geom_rgba" (N, ngeom, 4).

        The first call expands it, which costs memory N times the field. Masses and inertias also need `set_const`.

        Raises:
            UnknownNameError: MuJoCo has no such field, or cannot give it a value per simulation.
        """
        if name not in self._fields:
            if name not in mujoco.batch.MODEL_FIELDS:
                raise UnknownNameError("model field", name, mujoco.batch.MODEL_FIELDS)
            self._fields[name] = self.batch.expand(name)
        return self._fields[name]

    def set_const(self, ids: Ids | None = None) -> None:
        """Recompute the constants that derive from changed masses, inertias or reference poses."""
        self.batch.set_const(ids)

    @property
    def fields(self) -> Mapping[str, NDArray[Any]]:
        """The expanded fields, by name."""
        return self._fields

    # -- time ----------------------------------------------------------------------------------------------------------

    def forward(self, ids: Ids | None = None) -> None:
        """Bring positions, orientations and velocities up to date with the state."""
        self.batch.forward(ids, _CURRENT)

    def reset(self, ids: Ids | None = None) -> None:
        """Back to the model's initial state; call `forward` after writing to it."""
        self.batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)

    def step(self, nstep: int) -> NDArray[np.bool_]:
        """Advance every simulation by `nstep` substeps; derived quantities are current afterwards.

        Returns:
            (N,) bool: simulations whose numbers diverged. Each of those is put back to its state before the call, which
            `before(i)` returns; the others are untouched by it.
        """
        np.copyto(self._before, self.batch.state)
        self.batch.warning[:] = 0
        try:
            self.batch.step(None, nstep, _CURRENT)
        except mujoco.batch.SimulationError as error:
            failed = np.asarray(error.ids)
        else:
            failed = None
        # A finite sum of squares means that every entry is finite; it is one pass without a temporary.
        finite = np.isfinite(np.einsum("ij,ij->i", self.batch.state, self.batch.state))
        diverged = ~finite
        if self.batch.warning.any():
            diverged |= self.batch.warning[:, _DIVERGED].any(axis=1)
        if failed is not None:
            diverged[failed] = True
        if diverged.any():
            ids = np.flatnonzero(diverged)
            self.batch.state[ids] = self._before[ids]
            self.forward(ids)
        return diverged

    def before(self, sim: int) -> NDArray[np.float64]:
        """The state row of one simulation as it was before the last `step`. Shape (S,)."""
        return self._before[sim].copy()

    # -- saving and loading --------------------------------------------------------------------------------------------

    def snapshot(self, ids: Ids | None = None) -> dict[str, NDArray[Any]]:
        """Everything that the future of these simulations depends on.

        Returns:
            "state" (n, S) and one "field/<name>" (n, ...) per expanded field.
        """
        ids = self.all if ids is None else ids
        saved: dict[str, NDArray[Any]] = {"state": self.batch.state[ids]}
        saved.update({f"field/{name}": values[ids] for name, values in self._fields.items()})
        return saved

    def restore(self, snapshot: Mapping[str, NDArray[Any]], ids: Ids | None = None) -> None:
        """Bring back what `snapshot` returned, bit for bit.

        Raises:
            InvalidValueError: the snapshot is of another model.
        """
        ids = self.all if ids is None else ids
        rows = np.asarray(snapshot["state"])
        expected = (len(ids), self.batch.state.shape[1])
        if rows.shape != expected:
            raise InvalidValueError(
                f"the snapshot's state has shape {rows.shape}, this model needs {expected}: "
                "it was taken from another model or another number of simulations"
            )
        for key, values in snapshot.items():
            if key.startswith("field/"):
                self.field(key.removeprefix("field/"))[ids] = values
        self.batch.state[ids] = rows
        self.forward(ids)
