"""A scene: an arena with parts attached under prefixes, compiled to `Physics`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import mujoco

from assets import asset
from assets.errors import InvalidValueError, UnknownNameError
from envs.physics import Physics

Joint = Literal["fixed", "mocap", "free"]
_JOINTS = ("fixed", "mocap", "free")


def load_spec(path: str | Path) -> mujoco.MjSpec:
    """A fresh spec from an asset name ("props/mug.xml") or a file on disk ("/path/panda.xml", "./arm.xml").

    Raises:
        AssetNotFoundError: no such file.
        InvalidValueError: the file is not MJCF that MuJoCo can read; the sentence carries MuJoCo's own words.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        file = asset(str(path))
    try:
        return mujoco.MjSpec.from_file(str(file))
    except (ValueError, mujoco.FatalError) as error:
        raise InvalidValueError(f"{file} is not MJCF that MuJoCo can read: {error}") from error


class Scene:
    """An arena under construction.

    Args:
        arena: asset name or path of the MJCF that everything is attached to.
        timestep: physics step, seconds.
    """

    def __init__(self, arena: str | Path, timestep: float = 1 / 240) -> None:
        self.spec = load_spec(arena)
        self.spec.option.timestep = timestep
        # A diverging simulation must be seen and ended, not silently put back to its initial state.
        self.spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET.value
        self._memory: dict[str, slice] = {}
        self._memory_size = 0
        self._prefixes: set[str] = set()

    def attach(
        self,
        part: str | Path | mujoco.MjSpec,
        prefix: str,
        pos: Sequence[float] = (0.0, 0.0, 0.0),
        quat: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
        joint: Joint = "fixed",
    ) -> mujoco.MjSpec:
        """Attach a part; its elements are then called "<prefix>/<name>".

        Args:
            part: asset name, path, or a spec of the caller's own (it is consumed).
            prefix: unique in the scene.
            pos: metres, world frame.
            quat: wxyz, world frame.
            joint: "fixed" to the world; "mocap" moves where it is put; "free" falls. The last two need a part whose
                body is called "root".

        Returns:
            The part's spec, to read its elements before compiling.
        """
        if prefix in self._prefixes:
            raise InvalidValueError(f"the prefix {prefix!r} is taken; prefixes in this scene: {sorted(self._prefixes)}")
        if joint not in _JOINTS:
            raise UnknownNameError("joint", joint, _JOINTS)
        child = part if isinstance(part, mujoco.MjSpec) else load_spec(part)
        if joint != "fixed":
            root = child.body("root")
            if root is None:
                raise UnknownNameError("body", "root", [b.name for b in child.bodies if b.name])
            if joint == "mocap":
                root.mocap = True
            else:
                root.add_freejoint(name="free")
        child.option.timestep = self.spec.option.timestep  # the scene's holds, and MuJoCo would warn of the difference
        frame = self.spec.worldbody.add_frame(pos=list(pos), quat=list(quat))
        self.spec.attach(child, frame=frame, prefix=f"{prefix}/")
        self._prefixes.add(prefix)
        return child

    def memory(self, name: str, size: int = 1) -> None:
        """Reserve a named slot of `size` numbers in every simulation's state, for what an episode must remember."""
        if name in self._memory:
            raise InvalidValueError(f"the memory slot {name!r} exists already; slots: {sorted(self._memory)}")
        if size < 1:
            raise InvalidValueError(f"the memory slot {name!r} needs a size >= 1, got {size}")
        self._memory[name] = slice(self._memory_size, self._memory_size + size)
        self._memory_size += size

    def compile(self, num_sims: int = 1, num_threads: int = 0) -> Physics:
        """Compile to N simulations.

        Raises:
            InvalidValueError: MuJoCo refuses the scene; the sentence carries its own words.
        """
        self.spec.nuserdata = max(self._memory_size, 1)
        try:
            model = self.spec.compile()
        except (ValueError, mujoco.FatalError) as error:
            raise InvalidValueError(f"the scene does not compile: {error}") from error
        return Physics(model, num_sims, self._memory, num_threads)
