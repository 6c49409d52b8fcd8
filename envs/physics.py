"""N simulations of one model, stepped together, read and written by name.

`Physics` is a thin skin over `mujoco.batch.Batch`: every array has the simulations on its leading axis, and one simulation
is the case N = 1. Positions are metres in the world frame, angles radians, quaternions wxyz.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import mujoco
import mujoco.batch
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError

Ids = NDArray[np.intp]

# Positions and orientations of everything are current after this stage, which is the least that a reader needs.
_CURRENT = mujoco.mjtStage.mjSTAGE_VEL.value

# Warnings that mean a simulation's numbers have become nonsense.
_DIVERGED = [
    mujoco.mjtWarning.mjWARN_BADQPOS.value,
    mujoco.mjtWarning.mjWARN_BADQVEL.value,
    mujoco.mjtWarning.mjWARN_BADQACC.value,
    mujoco.mjtWarning.mjWARN_BADCTRL.value,
]

# Numbers of qpos and qvel that a joint has, where it is not one each.
_WIDTHS = {mujoco.mjtJoint.mjJNT_FREE.value: (7, 6), mujoco.mjtJoint.mjJNT_BALL.value: (4, 3)}

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


def consecutive(indices: NDArray[np.intp]) -> slice | NDArray[np.intp]:
    """The indices as a slice where they are consecutive, as an arm's are: a slice is a view, an array of indices a copy."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices


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
        self.batch = mujoco.batch.Batch(model, num_sims, num_threads, persistent=True)
        self.all = np.arange(num_sims, dtype=np.intp)
        self._memory = dict(memory or {})
        self._ids: dict[tuple[str, str], int] = {}
        self._chains: dict[str, NDArray[np.float64]] = {}
        self._fields: dict[str, NDArray[Any]] = {}
        self._initial = self.batch.state[0].copy()
        self._before = np.empty_like(self.batch.state)
        self._outputs: dict[str, NDArray[Any]] = {}
        self._casting: mujoco.MjData | None = None
        self.all_qpos = self.batch.bind("qpos")  # (N, nq) live view
        self.all_qvel = self.batch.bind("qvel")  # (N, nv) live view
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
        return self._output("xpos")[:, self.id("body", body)]

    def xquat(self, body: str) -> NDArray[np.float64]:
        """Body orientation, world frame, wxyz. Shape (N, 4)."""
        return self._output("xquat")[:, self.id("body", body)]

    def site_xpos(self, site: str) -> NDArray[np.float64]:
        """Site position, world frame, metres. Shape (N, 3)."""
        return self._output("site_xpos")[:, self.id("site", site)]

    def site_xmat(self, site: str) -> NDArray[np.float64]:
        """Site orientation; columns are the site's axes in the world frame. Shape (N, 3, 3)."""
        return self._output("site_xmat")[:, self.id("site", site)].reshape(self.num_sims, 3, 3)

    @property
    def geom_xpos(self) -> NDArray[np.float64]:
        """Middles of all geoms, world frame, metres. Shape (N, ngeom, 3)."""
        return self._output("geom_xpos")

    def actuator_length(self, actuator: str) -> NDArray[np.float64]:
        """Where an actuator's joint or tendon is, rad or m. Shape (N,)."""
        return self._output("actuator_length")[:, self.id("actuator", actuator)]

    def camera_pose(self, camera: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Where a camera is, world frame: position (N, 3) in metres, rotation (N, 3, 3) with MuJoCo's axes (looks along -z)."""
        index = self.id("camera", camera)
        position, rotation = self._output("cam_xpos")[:, index], self._output("cam_xmat")[:, index]
        return position, rotation.reshape(self.num_sims, 3, 3)

    def ray(self, sim: int, origin: NDArray[np.float64], direction: NDArray[np.float64], groups: Sequence[int]) -> float | None:
        """Distance to the first surface that a ray meets in one simulation, metres; None if it meets nothing.

        Args:
            sim: which simulation.
            origin: world frame, metres. Shape (3,).
            direction: unit vector, world frame. Shape (3,).
            groups: geom groups that stop it.
        """
        distance = float(self.rays(sim, origin, np.asarray(direction)[None], groups)[0][0])
        return None if distance < 0 else distance

    def rays(
        self, sim: int, origin: NDArray[np.float64], directions: NDArray[np.float64], groups: Sequence[int]
    ) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
        """What rays from one point meet first: distances, metres, and ids of geoms, (R,) each; -1 where they meet nothing.

        Args:
            sim: which simulation.
            origin: world frame, metres. Shape (3,).
            directions: unit vectors, world frame. Shape (R, 3).
            groups: geom groups that stop them.
        """
        if self._casting is None:
            self._casting = mujoco.MjData(self.model)
        self._casting.geom_xpos[:] = self._output("geom_xpos")[sim]
        self._casting.geom_xmat[:] = self._output("geom_xmat")[sim].reshape(-1, 9)
        stops = np.isin(np.arange(mujoco.mjNGROUP), groups).astype(np.uint8)
        # One by one: mj_multiRay first sorts bodies by their bounding volumes, which `_casting` does not have.
        met = np.full((len(directions), 1), -1, np.int32)
        found = [
            mujoco.mj_ray(self.model, self._casting, origin, ahead, stops, True, -1, geom)
            for ahead, geom in zip(directions, met, strict=True)
        ]
        return np.array(found), met[:, 0]

    def _output(self, name: str) -> NDArray[Any]:
        """A derived quantity; the batch copies out only those that were asked for once."""
        if name not in self._outputs:
            self._outputs[name] = self.batch.bind(name)
            self.forward()  # bound between two calls, it would be zero until the next one
        return self._outputs[name]

    # -- state, readable and writable ----------------------------------------------------------------------------------

    def qpos(self, joint: str) -> NDArray[np.float64]:
        """Joint position (rad, m; a free joint is x y z then wxyz). Live view, shape (N, 1) or (N, 7)."""
        joint_id = self.id("joint", joint)
        start = self.model.jnt_qposadr[joint_id]
        width = _WIDTHS.get(int(self.model.jnt_type[joint_id]), (1, 1))[0]
        return self.all_qpos[:, start : start + width]

    def qvel(self, joint: str) -> NDArray[np.float64]:
        """Joint velocity (rad/s, m/s). Live view, shape (N, 1), (N, 3) or (N, 6)."""
        joint_id = self.id("joint", joint)
        start = self.model.jnt_dofadr[joint_id]
        width = _WIDTHS.get(int(self.model.jnt_type[joint_id]), (1, 1))[1]
        return self.all_qvel[:, start : start + width]

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

    def jacobian(self, site: str, hinges: NDArray[np.intp]) -> NDArray[np.float64]:
        """Velocity (m/s), then angular velocity (rad/s) of a site per rad/s of some hinge joints, world frame.

        A point p turned by a hinge with axis w through a moves by w x (p - a), so this needs no more of the simulator than
        the axes that it has computed anyway.

        Args:
            site: name of the site.
            hinges: ids of hinge joints, K.

        Returns:
            (N, 6, K); zero for a joint that does not carry the site.
        """
        where = consecutive(hinges)
        axis = self._output("xaxis")[:, where] * self._carries(site)[where, None]  # (N, K, 3)
        arm = self.site_xpos(site)[:, None] - self._output("xanchor")[:, where]
        out = np.empty((self.num_sims, 6, len(hinges)))
        for i, (j, k) in enumerate(((1, 2), (2, 0), (0, 1))):
            out[:, i] = axis[..., j] * arm[..., k] - axis[..., k] * arm[..., j]
            out[:, i + 3] = axis[..., i]
        return out

    def _carries(self, site: str) -> NDArray[np.float64]:
        """(njnt,) 1 where moving the joint moves the site, else 0."""
        if site not in self._chains:
            body, chain = int(self.model.site_bodyid[self.id("site", site)]), set()
            while body:
                chain.add(body)
                body = int(self.model.body_parentid[body])
            self._chains[site] = np.array([float(b in chain) for b in self.model.jnt_bodyid])
        return self._chains[site]

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
        """Bring positions and orientations up to date with the state."""
        self.batch.forward(ids, _CURRENT)

    def reset(self, ids: Ids | None = None) -> None:
        """Back to the model's initial state; call `forward` after writing to it."""
        self.batch.reset(ids, stage=mujoco.mjtStage.mjSTAGE_NONE.value)

    def step(self, nstep: int) -> NDArray[np.bool_]:
        """Advance every simulation by `nstep` substeps; derived quantities are current afterwards.

        Returns:
            (N,) bool: simulations whose numbers diverged. Each of those is put back to its state before the call, which
            `before(i)` returns, or to the model's initial state if that one was not finite either; the others are
            untouched by it.
        """
        np.copyto(self._before, self.batch.state)
        self.batch.warning[:] = 0
        try:
            self.batch.step(None, nstep, _CURRENT)
        except mujoco.batch.SimulationError as error:
            failed = np.asarray(error.ids)
        else:
            failed = None
        diverged = np.zeros(self.num_sims, bool)
        if not np.isfinite(self.batch.state.sum()):  # one cheap pass tells that all is well, as it nearly always is
            diverged |= ~np.isfinite(self.batch.state).all(axis=1)
        counts = self.batch.warning[..., 1]  # each warning is (what it was last about, how often)
        if counts.any():
            diverged |= counts[:, _DIVERGED].any(axis=1)
        if failed is not None:
            diverged[failed] = True
        if diverged.any():
            ids = np.flatnonzero(diverged)
            usable = np.isfinite(self._before[ids]).all(axis=1, keepdims=True)
            self.batch.state[ids] = np.where(usable, self._before[ids], self._initial)
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
