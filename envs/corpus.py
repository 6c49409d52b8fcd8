"""Pictures with their truth, for training and testing perception.

    python -m envs.corpus --n 100000 --seed 0 --out outputs/corpus/train
    python -m envs.corpus --n 4000 --seed 1 --held-out --out outputs/corpus/test

Writes part-0000.npz (images, (n, H, W, 3) uint8; nouns and colours of the middle of each 8-pixel patch, (n, h, w) uint8; with
--held-out also masks, (n, H, W) uint8, places from 1 in the annotation's list of what is seen), part-0000.jsonl (annotations, a
line each) and so on, then corpus.json with what made them; `perception.corpus` reads it.
The same command writes the same pictures, on the same OpenGL.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import mujoco
import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from envs.eye import FOVEAL_PYRAMID, Eye
from envs.oracle import SceneOracle, Thing
from envs.render import Renderer, View, profile
from envs.streams import Streams
from envs.tableau import Tableau, paint, painted_geoms, relight
from envs.tasks.eye.search import EyeSearch
from perception.annotation import Annotation
from perception.text import COLOURS

SIDE, PATCH = 128, 8
BATCH = 64
PART = 2048
# Where the eye of an arc looks, relative to a thing on it, radians: at it, or past it.
AT, PAST = np.radians(3.0), (np.radians(8.0), np.radians(26.0))


class Source(Protocol):
    """A scene that draws itself anew."""

    view: View
    oracle: SceneOracle
    is_eye: bool

    def draw(self) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
        """New scenes; colours of the things (N, K) and which there are (N, K)."""
        ...


@dataclass
class Arc:
    """What the eye of EyeSearch sees: the middle level of its pyramid, on a thing or past it.

    Args:
        num_sims: simulations, N.
        seed: of all draws.
        held_out: draw what training never sees.
        image_size: pixels a side.
    """

    num_sims: int
    seed: int = 0
    held_out: bool = False
    image_size: int = SIDE
    is_eye = True

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng((self.seed, int(self.held_out), 1))
        self._task = EyeSearch(distractors=5, resolution=self.image_size)
        self.physics = self._task.build(self._task.timestep).compile(self.num_sims)
        self._streams = Streams(self.num_sims)
        self._streams.seed(2 * self.seed + self.held_out)
        self.props = self._task.props
        self.oracle = SceneOracle(
            self.physics, [Thing(p.name, p.noun, p.colour, size=p.size_m, hollow=p.name == "bucket") for p in self.props]
        )
        eye = Eye(fovs=FOVEAL_PYRAMID, resolution=self.image_size)
        level = eye.views[1]
        self.view = View(level.name, level.camera, level.width, level.height, ("rgb", "segmentation"), True)
        self._painted = [painted_geoms(self.physics, p) for p in self.props]

    def draw(self) -> tuple[NDArray[np.object_], NDArray[np.bool_]]:
        """Other things on the arc, another gaze."""
        physics, rng, everyone = self.physics, self.rng, self.physics.all
        start = self._task.sample(self._streams.of(everyone))
        physics.reset()
        target = start["azimuth"][:, 0]
        height = np.array([p.height_m for p in self.props])[start["objects"][:, 0]] / 2 - self._task.eye.pos[2]
        elevation = np.arctan2(height, start["radius"][:, 0])
        angle = rng.uniform(-np.pi, np.pi, self.num_sims)
        at = rng.random(self.num_sims) < 0.5
        far = np.where(at, rng.uniform(0, AT, self.num_sims), rng.uniform(PAST[0], PAST[1], self.num_sims))
        start["gaze"] = np.stack([target + far * np.cos(angle), elevation + far * np.sin(angle)], axis=1)
        self._task.place(physics, everyone, start)
        present = np.zeros((self.num_sims, len(self.props)), bool)
        np.put_along_axis(present, start["objects"], True, axis=1)
        colours = paint(physics, self.props, self._painted, rng, self.num_sims, self.held_out)
        relight(physics, rng, self.num_sims, self.held_out)
        physics.forward()
        return colours, present


@dataclass(frozen=True)
class Batch:
    """Pictures (n, H, W, 3), what their patches show (n, h, w) twice, annotations, and which of the seen each pixel shows."""

    images: NDArray[np.uint8]
    nouns: NDArray[np.uint8]
    colours: NDArray[np.uint8]
    truths: list[Annotation]
    masks: NDArray[np.uint8]


def nouns_of(source: Source) -> list[str]:
    """What the source's things are called, each once, in order."""
    return list(dict.fromkeys(t.noun for t in source.oracle.things))


def pictures(source: Source, renderer: Renderer, n: int, nouns: Sequence[str]) -> Iterator[Batch]:
    """Batches of pictures until there are n."""
    done, palette = 0, list(COLOURS)
    noun_of = np.array([nouns.index(t.noun) + 1 for t in source.oracle.things] + [0, 0], np.uint8)  # hand, and nothing (-1)
    while done < n:
        colours, present = source.draw()
        drawn = renderer.draw([source.view])
        segmentation = drawn[source.view.name, "segmentation"]
        told = source.oracle.annotate(source.view, segmentation, colours, present, source.is_eye)
        patches = source.oracle.labels(segmentation[:, PATCH // 2 :: PATCH, PATCH // 2 :: PATCH])
        numbers = np.array([[palette.index(c) + 1 if c else 0 for c in row] + [0, 0] for row in colours], np.uint8)
        shown = np.take_along_axis(numbers, patches.reshape(len(patches), -1) % numbers.shape[1], axis=1)
        keep = min(len(segmentation), n - done)
        done += keep
        images = drawn[source.view.name, "rgb"]
        masks = _masks(source, segmentation[:keep], told)
        yield Batch(images[:keep], noun_of[patches][:keep], shown.reshape(patches.shape)[:keep], told[:keep], masks)


def _masks(source: Source, segmentation: NDArray[np.int32], truths: Sequence[Annotation]) -> NDArray[np.uint8]:
    """Place in `seen`, from 1, of what each pixel shows; 0 is anything else. (n, H, W)."""
    names = [t.name for t in source.oracle.things]
    labels = source.oracle.labels(segmentation)
    places = np.zeros((len(labels), len(names) + 2), np.uint8)
    for row, truth in zip(places, truths, strict=False):
        for k, seen in enumerate(truth.seen):
            row[names.index(seen.name)] = k + 1
    return np.take_along_axis(places, labels.reshape(len(labels), -1) % places.shape[1], axis=1).reshape(labels.shape)


def sources(seed: int, held_out: bool, side: int = SIDE, batch: int = BATCH) -> list[tuple[Source, Renderer, float]]:
    """Every scene with its renderer and its share of the corpus."""
    look = profile("fast")
    found: list[tuple[Source, Renderer, float]] = []
    for kind, share in ((Tableau, 0.75), (Arc, 0.25)):
        source = kind(batch, seed, held_out, side)
        found.append((source, Renderer(source.physics, look, side, side), share))
    return found


def generate(n: int, seed: int, held_out: bool, nouns: list[str], side: int = SIDE) -> Iterator[Batch]:
    """Batches from all scenes in turn, n pictures in all; the scenes' nouns are appended to `nouns`."""
    found = sources(seed, held_out, side)
    try:
        nouns.extend(dict.fromkeys(noun for source, _, _ in found for noun in nouns_of(source)))
        shares = np.array([share for _, _, share in found])
        counts = np.floor(shares * n).astype(int)
        counts[0] += n - counts.sum()
        streams = [pictures(s, r, int(c), nouns) for (s, r, _), c in zip(found, counts, strict=True)]
        # In turn by share, so that any beginning of the corpus is a mixture.
        given = np.zeros(len(streams))
        while (given < counts).any():
            k = int(np.where(given < counts, given / np.maximum(counts, 1), np.inf).argmin())
            batch = next(streams[k])
            given[k] += len(batch.truths)
            yield batch
    finally:
        for _, renderer, _ in found:
            renderer.close()


def write(folder: Path, n: int, seed: int, held_out: bool, command: str) -> None:
    """Write a corpus into a new folder.

    Raises:
        InvalidValueError: the folder is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InvalidValueError(f"{folder} is not empty, and nothing is overwritten: choose another --out")
    folder.mkdir(parents=True, exist_ok=True)
    waiting: list[Batch] = []
    nouns: list[str] = []
    part, held, done, began = 0, 0, 0, time.perf_counter()
    for batch in generate(n, seed, held_out, nouns):
        waiting.append(batch)
        held, done = held + len(batch.truths), done + len(batch.truths)
        if held >= PART or done >= n:
            keys = ("images", "nouns", "colours", *(("masks",) if held_out else ()))
            arrays = {key: np.concatenate([getattr(b, key) for b in waiting]) for key in keys}
            np.savez_compressed(folder / f"part-{part:04d}.npz", allow_pickle=False, **arrays)
            lines = [json.dumps(a.to_json()) for b in waiting for a in b.truths]
            (folder / f"part-{part:04d}.jsonl").write_text("\n".join(lines) + "\n")
            part, held, waiting = part + 1, 0, []
            print(f"{done}/{n} pictures, {done / (time.perf_counter() - began):.0f} per second", file=sys.stderr)
    about = {"command": command, "n": n, "seed": seed, "held_out": held_out, "side": SIDE, "profile": "fast", "parts": part}
    about |= {"nouns": nouns, "colours": list(COLOURS), "mujoco": mujoco.__version__}
    (folder / "corpus.json").write_text(json.dumps(about, indent=2) + "\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m envs.corpus", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--n", type=int, default=100_000, help="pictures (default: 100000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--held-out", action="store_true", help="colours, lights and cameras that training never sees")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    arguments = parser.parse_args(argv)
    command = shlex.join(["python", "-m", "envs.corpus", *(sys.argv[1:] if argv is None else argv)])
    write(arguments.out, arguments.n, arguments.seed, arguments.held_out, command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
