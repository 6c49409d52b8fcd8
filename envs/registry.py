"""Every environment of the suite, a line each. Importing this touches neither MuJoCo nor OpenGL."""

from __future__ import annotations

from dataclasses import dataclass

import gymnasium as gym

NAMESPACE = "Saccade"


@dataclass(frozen=True)
class Entry:
    """One environment id.

    Attributes:
        name: id without namespace: "EyeSearch-v0".
        task: "module:Class".
        max_episode_steps: time limit, control steps.
        options: the task's options that make this id what it is.
    """

    name: str
    task: str
    max_episode_steps: int
    options: tuple[tuple[str, object], ...] = ()

    @property
    def id(self) -> str:
        """The id to give to `gymnasium.make`."""
        return f"{NAMESPACE}/{self.name}"


ENTRIES = (
    Entry("EyeSearch-v0", "envs.tasks.eye.search:EyeSearch", 75),
    Entry("EStop-v0", "envs.tasks.eye.estop:EStop", 150),
    Entry("TowelBucket-v0", "envs.tasks.eye.towel:TowelBucket", 300),
    Entry("EraserStand-v0", "envs.tasks.eye.eraser:EraserStand", 300),
    Entry("BrushHandoff-v0", "envs.tasks.eye.brush:BrushHandoff", 300),
    Entry("ScrewdriverReorient-v0", "envs.tasks.eye.screwdriver:ScrewdriverReorient", 300),
    Entry("Reach-v0", "envs.tasks.arm.reach:Reach", 100),
    Entry("ReachEye-v0", "envs.tasks.arm.reach:Reach", 100, (("eye", True),)),
    Entry("DoorOpen-v0", "envs.tasks.arm.door:DoorOpen", 200),
    Entry("PlaceCube-v0", "envs.tasks.arm.place:PlaceCube", 60),
)


# Recordings that only an eye moves in: the task's name, and the folder of assets with its demonstrations.
REPLAYS = (
    ("EStop", "recordings/estop"),
    ("TowelBucket", "recordings/towel_bucket"),
    ("EraserStand", "recordings/eraser_stand"),
    ("BrushHandoff", "recordings/brush_handoff"),
    ("ScrewdriverReorient", "recordings/screwdriver_reorient"),
)


def register() -> None:
    """Register every id with Gymnasium; calling it again changes nothing."""
    for entry in ENTRIES:
        if entry.id not in gym.registry:
            gym.register(
                entry.id,
                entry_point="envs.env:Env",
                vector_entry_point="envs.env:BatchEnv",
                max_episode_steps=entry.max_episode_steps,
                kwargs={"task": entry.task, **dict(entry.options)},
            )
    for name, folder in zip(replay_ids(), (folder for _, folder in REPLAYS), strict=True):
        if name not in gym.registry:
            gym.register(
                name,
                entry_point="envs.replay:Replay",
                vector_entry_point="envs.replay:BatchReplay",
                kwargs={"recordings": folder},
            )


def ids() -> list[str]:
    """Every id of the suite that is simulated."""
    return [entry.id for entry in ENTRIES]


def replay_ids() -> list[str]:
    """Every id of the suite that is a recording."""
    return [f"{NAMESPACE}/EyeReplay-{name}-v0" for name, _ in REPLAYS]
