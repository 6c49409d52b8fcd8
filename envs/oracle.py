"""The scene oracle: what a picture shows, read from the simulator.

Ground truth for training data, tests and metrics. Segmentation says which pixels belong to what, poses and joints say where
things are and how far they are open; `perception.annotation` is what comes out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from envs.eye import geoms_of
from envs.physics import Physics
from envs.render import View
from perception.annotation import Annotation, Seen

# What is smaller than this in the picture is faint: nobody is asked about it. Pixels of area and of the shorter side, per 128.
CLEAR_AREA, CLEAR_SIDE = 28.0, 4.0
# A thing lies on another when its underside is this near to the other's top, metres.
TOUCHING = 0.015
# A gripper holds what is this near to its tool point, metres.
HELD = 0.03
# An eye looks at nothing when no thing is nearer to the middle than this share of the picture.
AROUND_GAZE = 0.08


@dataclass(frozen=True)
class Thing:
    """Something with a name, for the oracle to find.

    Attributes:
        name: prefix of its geoms in the scene, such as "mug".
        noun: such as "mug".
        colour: such as "purple"; None where it is not to be called by its colour.
        body: whose origin is its place, below the prefix.
        size: extents x, y, z of its box, origin at the middle of the underside, metres; None for what is not carried about.
        hollow: things can lie in it.
        joint: hinge or slide that opens it, below the prefix.
        geoms: only these geoms of the prefix, by name; None is all.
    """

    name: str
    noun: str
    colour: str | None = None
    body: str = "root"
    size: tuple[float, float, float] | None = None
    hollow: bool = False
    joint: str | None = None
    geoms: tuple[str, ...] | None = None


def thing_geoms(physics: Physics, thing: Thing) -> NDArray[np.intp]:
    """Ids of a thing's geoms."""
    if thing.geoms is None:
        return geoms_of(physics.model, thing.name)
    return np.array([physics.id("geom", f"{thing.name}/{g}") for g in thing.geoms], np.intp)


class SceneOracle:
    """Annotates pictures of one scene.

    Args:
        physics: the simulations.
        things: what can be named.
        tool: site between the fingers of a gripper, or None.
        hand: prefix of the gripper's geoms, all of whose names begin so; with `tool`.
    """

    def __init__(self, physics: Physics, things: Sequence[Thing], tool: str | None = None, hand: Sequence[str] = ()) -> None:
        self._physics, self.things, self._tool = physics, tuple(things), tool
        self._index = np.full(physics.model.ngeom + 1, -1, np.int16)  # the last is for -1, which is nothing
        for k, thing in enumerate(self.things):
            self._index[thing_geoms(physics, thing)] = k
        self._hand = len(self.things)
        for name in hand:
            self._index[physics.id("geom", name)] = self._hand

    def labels(self, segmentation: NDArray[np.int32]) -> NDArray[np.int16]:
        """Which thing each pixel shows, by its place in `things`; len(things) is the gripper, -1 is anything else."""
        return self._index[segmentation]

    def positions(self) -> NDArray[np.float64]:
        """Middles of the things, world frame, metres. Shape (N, K, 3)."""
        rows = [self._physics.xpos(f"{t.name}/{t.body}") for t in self.things]
        middles = np.stack(rows, axis=1).astype(np.float64)
        middles[:, :, 2] += [t.size[2] / 2 if t.size else 0 for t in self.things]
        return middles

    def annotate(
        self,
        view: View,
        segmentation: NDArray[np.int32],
        colours: NDArray[np.object_] | None = None,
        present: NDArray[np.bool_] | None = None,
        is_eye: bool = False,
    ) -> list[Annotation]:
        """Annotations of one view of every simulation.

        Args:
            view: that was drawn.
            segmentation: geom ids, -1 where nothing is. Shape (N, H, W).
            colours: names of the things' colours where they are not their own, (N, K).
            present: which things are in which simulation, (N, K); None is all.
            is_eye: the camera is an eye's, whose middle is what it looks at.
        """
        labels, where = self.labels(segmentation), self.positions()
        position, rotation = self._physics.camera_pose(view.camera)
        # MuJoCo's cameras look along -z.
        depth = -np.einsum("nkc,nc->nk", where - position[:, None], rotation[:, :, 2])
        openings = self._openings()
        held = self._held(where)
        supports = self._supports(where)
        shown = np.ones(where.shape[:2], bool) if present is None else present
        return [
            self._one(
                labels[i],
                where[i],
                depth[i],
                self._colours(None if colours is None else colours[i]),
                {name: float(values[i]) for name, values in openings.items()},
                held[i] if held[i] >= 0 and shown[i, held[i]] else None,
                [(a, how, b) for a, how, b in supports[i] if shown[i, a] and shown[i, b]],
                is_eye,
            )
            for i in range(len(labels))
        ]

    def _colours(self, given: NDArray[np.object_] | None) -> list[str | None]:
        return [t.colour for t in self.things] if given is None else list(given)

    def _openings(self) -> dict[str, NDArray[np.float64]]:
        """How far what opens is open, as a share of its joint's range; by noun."""
        found = {}
        for thing in self.things:
            if thing.joint is not None:
                name = f"{thing.name}/{thing.joint}"
                low, high = self._physics.model.jnt_range[self._physics.id("joint", name)]
                found[thing.noun] = np.clip((self._physics.qpos(name)[:, 0] - low) / (high - low), 0, 1)
        return found

    def _held(self, where: NDArray[np.float64]) -> NDArray[np.int64]:
        """Which carried thing is between the fingers, -1 for none. Shape (N,)."""
        if self._tool is None:
            return np.full(len(where), -1)
        distance = np.linalg.norm(where - self._physics.site_xpos(self._tool)[:, None], axis=2)
        distance[:, [t.size is None for t in self.things]] = np.inf
        nearest = distance.argmin(axis=1)
        return np.where(distance[np.arange(len(where)), nearest] < HELD, nearest, -1)

    def _supports(self, where: NDArray[np.float64]) -> list[list[tuple[int, str, int]]]:
        """For every simulation, which thing lies in or on which."""
        movable = [k for k, t in enumerate(self.things) if t.size is not None]
        sizes = np.array([self.things[k].size for k in movable])
        found: list[list[tuple[int, str, int]]] = [[] for _ in where]
        if not movable:
            return found
        middle = where[:, movable]
        bottom, top = middle[..., 2] - sizes[:, 2] / 2, middle[..., 2] + sizes[:, 2] / 2
        apart = np.linalg.norm(middle[:, :, None, :2] - middle[:, None, :, :2], axis=3)  # (N, a, b)
        inside = apart < sizes[:, :2].min(axis=1) / 2  # a's middle over b
        resting = np.abs(bottom[:, :, None] - top[:, None, :]) < TOUCHING
        hollow = np.array([self.things[k].hollow for k in movable])
        within = (bottom[:, :, None] > bottom[:, None, :] - TOUCHING) & (bottom[:, :, None] < top[:, None, :] - TOUCHING)
        other = ~np.eye(len(movable), dtype=bool)
        for how, holds in (("on", resting & ~hollow), ("in", within & hollow)):
            for i, a, b in zip(*np.nonzero(inside & holds & other), strict=True):
                found[i].append((movable[a], how, movable[b]))
        return found

    def _one(
        self,
        labels: NDArray[np.int16],
        where: NDArray[np.float64],
        depth: NDArray[np.float64],
        colours: Sequence[str | None],
        openings: Mapping[str, float],
        held: int | None,
        supports: Sequence[tuple[int, str, int]],
        is_eye: bool,
    ) -> Annotation:
        height, width = labels.shape
        seen, faint = [], []
        visible = np.unique(labels)
        for k in visible[(visible >= 0) & (visible < self._hand)]:
            thing, colour = self.things[k], colours[k]
            one = _see(labels == k, thing, colour, float(depth[k]), where[k])
            if one is None:
                faint.append((thing.name, thing.noun, colour))
            else:
                seen.append(one)
        clear = {s.name for s in seen}
        gaze, settled = self._gaze(labels) if is_eye else (None, False)
        doors = {t.noun for t in self.things if t.joint and t.name in clear}
        return Annotation(
            width,
            height,
            tuple(seen),
            tuple(faint),
            {noun: share for noun, share in openings.items() if noun in doors},
            None if held is None else self.things[held].name,
            bool((labels == self._hand).sum() >= CLEAR_AREA * (width / 128) ** 2),
            tuple((self.things[a].name, how, self.things[b].name) for a, how, b in supports),
            gaze if gaze in clear else None,
            settled and (gaze is None or gaze in clear),
        )

    def _gaze(self, labels: NDArray[np.int16]) -> tuple[str | None, bool]:
        """What is in the middle, and whether nobody would argue about it."""
        height, width = labels.shape
        middle = labels[height // 2 - 1 : height // 2 + 1, width // 2 - 1 : width // 2 + 1]
        if middle.min() == middle.max() and 0 <= middle.min() < self._hand:
            return self.things[middle.min()].name, True
        v, u = np.nonzero((labels >= 0) & (labels < self._hand))
        nearest = np.hypot(u - width / 2, v - height / 2).min(initial=np.inf)
        return None, bool(nearest > AROUND_GAZE * width)


def _see(mask: NDArray[np.bool_], thing: Thing, colour: str | None, depth: float, where: NDArray[np.float64]) -> Seen | None:
    """A visible thing from its mask; None if it is too small to ask about."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    x1, x2, y1, y2 = columns[0], columns[-1] + 1, rows[0], rows[-1] + 1
    height, width = mask.shape
    area, unit = int(mask.sum()), width / 128
    if area < CLEAR_AREA * unit**2 or min(x2 - x1, y2 - y1) < CLEAR_SIDE * unit:
        return None
    return Seen(
        thing.name,
        thing.noun,
        colour,
        (float(x1), float(y1), float(x2), float(y2)),
        pole(mask),
        area,
        depth,
        (float(where[0]), float(where[1]), float(where[2])),
        bool(x1 == 0 or y1 == 0 or x2 == width or y2 == height),
    )


def pole(mask: NDArray[np.bool_]) -> tuple[float, float]:
    """The pixel (u, v) of a mask that is farthest from everything else: unlike the centroid, it is always on the mask."""
    distance = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 5)
    v, u = np.unravel_index(int(distance.argmax()), distance.shape)
    return float(u - 1), float(v - 1)
