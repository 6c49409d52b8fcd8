"""Tableaux: a table with things on it, for training and testing perception; nobody acts here.

A tableau is drawn anew for every simulation: which things in which colours lie where, what stands on or in what, whether an arm
holds something, how far a cabinet is open, where the camera stands, what light and wood there are. `held_out` draws
combinations of colour and thing, light and camera that the ordinary draws never make.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import mujoco
import numpy as np
from numpy.typing import NDArray

from assets import Prop, props
from envs.arm import Arm
from envs.eye import geoms_of, hide
from envs.oracle import SceneOracle, Thing
from envs.physics import Physics, names_of
from envs.render import View
from envs.scene import Scene
from envs.upright import upright
from perception.text import COLOURS

# Seats on the table: a grid, metres, and how far from its node a thing may lie.
SEATS = np.stack(np.meshgrid([0.32, 0.52, 0.72], np.arange(-3, 4) * 0.2), axis=-1).reshape(-1, 2)
JITTER = 0.025
CABINET = np.array([0.78, 0.0, 0.0])
CAMERA = "tableau"
MOST = 6
# Small things, that fit into the bucket or onto a block, and what a gripper can hold.
SMALL = ("apple", "cube_red", "cube_blue", "cube_green", "eraser")
HOSTS = ("wood_block", "bucket", "stand")
HELD = ("apple", "cube_red", "cube_blue", "cube_green", "eraser", "mug", "wood_block", "brush")
# One in so many combinations of colour and noun is kept for tests.
_KEPT = 6
_HAND = ("arm/hand", "arm/left_finger", "arm/right_finger")


def kept(colour: str, noun: str) -> bool:
    """Whether a combination is kept for tests."""
    return zlib.crc32(f"{colour} {noun}".encode()) % _KEPT == 0


@dataclass
class Tableau:
    """The scene and its draws.

    Args:
        num_sims: simulations, N.
        seed: of all draws.
        held_out: draw what training never sees.
        image_size: pixels a side.
    """

    num_sims: int
    seed: int = 0
    held_out: bool = False
    image_size: int = 128
    is_eye = False

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng((self.seed, int(self.held_out)))
        self.props: list[Prop] = list(props().values())
        self.arm = Arm("panda")
        scene = Scene("arenas/tabletop.xml")
        self.arm.attach(scene)
        scene.attach("props/door.xml", "cabinet", joint="mocap")
        for prop in self.props:
            scene.attach(f"props/{prop.name}.xml", prop.name, (0, 0, -3), joint="mocap")
        scene.spec.worldbody.add_camera(name=CAMERA, pos=[1.5, 0, 1], xyaxes=[0, 1, 0, -0.5, 0, 0.8], fovy=45)
        self.physics: Physics = scene.compile(self.num_sims)
        things = [Thing(p.name, p.noun, p.colour, size=p.size_m, hollow=p.name == "bucket") for p in self.props]
        door = Thing("cabinet", "door", None, body="door", joint="hinge", geoms=("panel", "bar", "bar_low", "bar_high"))
        hand = [g for g in names_of(self.physics.model, "geom") if g.startswith(_HAND)]
        self.oracle = SceneOracle(self.physics, [*things, door], self.arm.tool, hand)
        self.view = View(CAMERA, CAMERA, self.image_size, self.image_size, ("rgb", "segmentation"))
        self._paint = [painted_geoms(self.physics, p) for p in self.props]
        self._arm_geoms = geoms_of(self.physics.model, "arm")
        self._cabinet_geoms = geoms_of(self.physics.model, "cabinet")

    def draw(self) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
        """A new tableau in every simulation.

        Returns:
            Colours of the things, (N, K) names or None, and which things there are, (N, K).
        """
        physics, n, k = self.physics, self.num_sims, len(self.props)
        physics.reset()
        rng = self.rng
        with_arm, with_cabinet = rng.random(n) < 0.5, rng.random(n) < 0.35
        order = rng.permuted(np.tile(np.arange(k), (n, 1)), axis=1)
        count = rng.integers(1, MOST + 1, n)
        present = np.zeros((n, k), bool)
        np.put_along_axis(present, order, np.arange(k) < count[:, None], axis=1)
        where = self._seats(with_cabinet)
        self._stack(present, where)
        yaw = rng.uniform(-np.pi, np.pi, (n, k))
        self._place(present, where, upright(yaw))
        self._pose_cabinet(with_cabinet)
        self._pose_arm(with_arm)
        physics.forward()
        self._hold(with_arm, present)
        colours = paint(physics, self.props, self._paint, rng, n, self.held_out)
        self._look(present, with_arm & (rng.random(n) < 0.6))
        relight(physics, rng, n, self.held_out)
        physics.forward()
        none = np.full((n, 1), None, object)
        return np.concatenate([colours, none], axis=1), np.concatenate([present, with_cabinet[:, None]], axis=1)

    def _seats(self, with_cabinet: NDArray[np.bool_]) -> NDArray[np.float64]:
        """A place on the table for every prop, (N, K, 3); the back row is free where the cabinet stands."""
        n, k = self.num_sims, len(self.props)
        seats = self.rng.permuted(np.tile(np.arange(len(SEATS)), (n, 1)), axis=1)
        blocked = with_cabinet[:, None] & (SEATS[seats, 0] > 0.6)
        seats = np.take_along_axis(seats, np.argsort(blocked, axis=1, kind="stable"), axis=1)[:, :k]
        where = SEATS[seats] + self.rng.uniform(-JITTER, JITTER, (n, k, 2))
        return np.concatenate([where, np.zeros((n, k, 1))], axis=2)

    def _stack(self, present: NDArray[np.bool_], where: NDArray[np.float64]) -> None:
        """In some simulations, put a small thing in or on another; both are then there."""
        names = [p.name for p in self.props]
        for i in np.flatnonzero(self.rng.random(self.num_sims) < 0.45):
            host, guest = names.index(self.rng.choice(HOSTS)), names.index(self.rng.choice(SMALL))
            present[i, [host, guest]] = True
            hollow = names[host] == "bucket"
            offset = self.rng.uniform(-0.02, 0.02, 2) if hollow else self.rng.uniform(-0.008, 0.008, 2)
            # In a bucket it stands on the floor, tilted up a little so that cameras see it over the rim.
            height = 0.07 if hollow else self.props[host].height_m
            where[i, guest] = [*(where[i, host, :2] + offset), height]

    def _place(self, present: NDArray[np.bool_], where: NDArray[np.float64], quat: NDArray[np.float64]) -> None:
        for j, prop in enumerate(self.props):
            body = f"{prop.name}/root"
            self.physics.mocap_pos(body)[:] = np.where(present[:, j : j + 1], where[:, j], (0, 0, -3))
            self.physics.mocap_quat(body)[:] = quat[:, j]
            geoms = geoms_of(self.physics.model, prop.name)
            hide(self.physics, geoms, self.physics.all, np.repeat(present[:, j : j + 1], len(geoms), axis=1))

    def _pose_cabinet(self, there: NDArray[np.bool_]) -> None:
        n, rng = self.num_sims, self.rng
        spot = CABINET + rng.uniform((-0.03, -0.3, 0), (0.05, 0.3, 0), (n, 3))
        self.physics.mocap_pos("cabinet/root")[:] = np.where(there[:, None], spot, (0, 0, -3))
        self.physics.mocap_quat("cabinet/root")[:] = upright(rng.uniform(-0.35, 0.35, n))
        bands = np.array([[0, 0.0], [0.12, 0.28], [0.44, 0.6], [0.82, 1.0]])[rng.integers(4, size=n)]
        low, high = self.physics.model.jnt_range[self.physics.id("joint", "cabinet/hinge")]
        share = bands[:, 0] + rng.random(n) * (bands[:, 1] - bands[:, 0])
        self.physics.qpos("cabinet/hinge")[:, 0] = low + share * (high - low)
        geoms = self._cabinet_geoms
        hide(self.physics, geoms, self.physics.all, np.repeat(there[:, None], len(geoms), axis=1))

    def _pose_arm(self, there: NDArray[np.bool_]) -> None:
        spread = np.array([0.7, 0.35, 0.3, 0.35, 0.25, 0.3, 0.8])
        self.arm.put(self.physics, self.physics.all, self.arm.home + self.rng.uniform(-1, 1, (self.num_sims, 7)) * spread)
        opening = self.rng.uniform(0.01, 0.04, (self.num_sims, 1))
        for finger in ("arm/finger_joint1", "arm/finger_joint2"):
            self.physics.qpos(finger)[:] = opening
        geoms = self._arm_geoms
        hide(self.physics, geoms, self.physics.all, np.repeat(there[:, None], len(geoms), axis=1))

    def _hold(self, with_arm: NDArray[np.bool_], present: NDArray[np.bool_]) -> None:
        """In half of the simulations with an arm, put a thing between its fingers, the way up that it would be grasped."""
        names = [p.name for p in self.props]
        tool, turned = self.physics.site_xpos(self.arm.tool), self.physics.site_xmat(self.arm.tool)
        for i in np.flatnonzero(with_arm & (self.rng.random(self.num_sims) < 0.6)):
            free = [j for j in map(names.index, HELD) if not present[i, j]]
            if not free:
                continue
            j = int(self.rng.choice(free))
            prop, present[i, j] = self.props[j], True
            stands = np.array(turned[i]) @ np.diag([1.0, -1.0, -1.0])  # the hand points down, the thing stands up
            quat = np.empty(4)
            mujoco.mju_mat2Quat(quat, stands.flatten())
            body, geoms = f"{prop.name}/root", geoms_of(self.physics.model, prop.name)
            self.physics.mocap_pos(body)[i] = tool[i] - stands @ (0, 0, prop.size_m[2] / 2)
            self.physics.mocap_quat(body)[i] = quat
            hide(self.physics, geoms, np.array([i]), np.ones((1, len(geoms)), bool))
            for finger in ("arm/finger_joint1", "arm/finger_joint2"):
                self.physics.qpos(finger)[i] = (prop.grasp_width_m or 0.04) / 2

    def _look(self, present: NDArray[np.bool_], at_hand: NDArray[np.bool_]) -> None:
        """Stand the camera around something that there is, or around the hand, looking past its middle."""
        n, rng = self.num_sims, self.rng
        where = np.stack([self.physics.mocap_pos(f"{p.name}/root") for p in self.props], axis=1)
        weight = present / np.maximum(present.sum(axis=1, keepdims=True), 1)
        mean = np.einsum("nk,nkc->nc", weight, where)
        picked = where[np.arange(n), (rng.random(present.shape) * present).argmax(axis=1)]
        target = 0.5 * picked + 0.5 * mean + rng.uniform((-0.06, -0.08, 0), (0.06, 0.08, 0.1), (n, 3))
        target[:, 2] = np.clip(target[:, 2], 0, 0.35)
        hand = self.physics.site_xpos(self.arm.tool) + rng.uniform(-0.1, 0.1, (n, 3))
        target = np.where(at_hand[:, None], hand, target)
        # Training sees two bands of azimuth on both sides of the one that tests look from.
        bands = np.radians([[-14, 14]] if self.held_out else [[-75, -15], [15, 75]])
        band = bands[rng.integers(len(bands), size=n)]
        azimuth = band[:, 0] + rng.random(n) * (band[:, 1] - band[:, 0])
        elevation = rng.uniform(np.radians(22), np.radians(62), n)
        distance = rng.uniform(0.55, 1.05, n)
        away = np.stack([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)], axis=1)
        self.physics.field("cam_pos")[:, self.physics.id("camera", CAMERA)] = target + away * distance[:, None]
        self.physics.field("cam_quat")[:, self.physics.id("camera", CAMERA)] = _facing(-away, rng.uniform(-0.08, 0.08, n))
        self.physics.field("cam_fovy")[:, self.physics.id("camera", CAMERA)] = rng.uniform(40, 54, n)


def relight(physics: Physics, rng: np.random.Generator, n: int, held_out: bool) -> None:
    """Draw strength and direction of the light and the tint of wood and floor, for n simulations."""
    strength = rng.uniform(0.55, 0.7, (n, 1, 1)) if held_out else rng.uniform(0.75, 1.2, (n, 1, 1))
    physics.field("light_diffuse")[:] = physics.model.light_diffuse * strength
    physics.field("light_dir")[:] = physics.model.light_dir + rng.uniform(-0.5, 0.5, (n, *physics.model.light_dir.shape))
    tint = rng.uniform(0.75, 1.05, (n, physics.model.nmat, 3))
    physics.field("mat_rgba")[..., :3] = np.clip(physics.model.mat_rgba[None, :, :3] * tint, 0, 1)


def paint(
    physics: Physics,
    things: Sequence[Prop],
    painted: Sequence[tuple[NDArray[np.intp], NDArray[np.float64]]],
    rng: np.random.Generator,
    n: int,
    held_out: bool,
) -> NDArray[np.object_]:
    """Paint props, each in a colour with a shade of its own; returns the names, (N, K).

    Args:
        physics: the simulations.
        things: the props.
        painted: what `painted_geoms` says of each.
        rng: of the colours.
        n: simulations.
        held_out: half of the things get a combination of colour and noun that is kept for tests, the others a known one, as a
            new thing among known ones is the harder case.
    """
    rgba = physics.field("geom_rgba")
    chosen = np.empty((n, len(things)), object)
    for j, (prop, (geoms, bright)) in enumerate(zip(things, painted, strict=True)):
        known = np.array([c for c in COLOURS if not kept(c, prop.noun)], object)
        new = np.array([c for c in COLOURS if kept(c, prop.noun)] or known, object)
        chosen[:, j] = np.where(rng.random(n) < 0.5 * held_out, rng.choice(new, n), rng.choice(known, n))
        rgb = np.array([COLOURS[c] for c in chosen[:, j]])
        shade = rng.uniform(0.82, 1.12, (n, 1, 1))
        # Nothing is quite black: what has no light of its own would have no shape either.
        rgba[:, geoms, :3] = np.clip(np.maximum(rgb, 0.03)[:, None] * bright[None, :, None] * shade, 0, 1)
    return chosen


def painted_geoms(physics: Physics, prop: Prop) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """A prop's geoms in its own colour, and how bright each is beside the brightest."""
    geoms = geoms_of(physics.model, prop.name)
    rgb = physics.model.geom_rgba[geoms, :3]
    palette = np.array(list(COLOURS.values()))
    named = np.array(list(COLOURS))[np.linalg.norm(rgb[:, None] - palette[None], axis=2).argmin(axis=1)]
    own = named == prop.colour
    if not own.any():
        own[:] = True
    bright = rgb[own].max(axis=1)
    return geoms[own], np.clip(bright / max(bright.max(), 1e-6), 0.7, 1.0)


def _facing(ahead: NDArray[np.float64], roll: NDArray[np.float64]) -> NDArray[np.float64]:
    """Quaternions (N, 4), wxyz, of MuJoCo cameras that look along `ahead` (N, 3), turned about it by `roll` (N,), radians."""
    back = -ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
    right = np.cross([0, 0, 1.0], back)
    right /= np.linalg.norm(right, axis=1, keepdims=True)
    up = np.cross(back, right)
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    matrices = np.stack([cos * right + sin * up, cos * up - sin * right, back], axis=2)
    out = np.empty((len(ahead), 4))
    for row, matrix in zip(out, matrices, strict=True):
        mujoco.mju_mat2Quat(row, matrix.flatten())
    return out
