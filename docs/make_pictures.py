"""The pictures of README.md and docs/: every environment, played by its oracle.

    python docs/make_pictures.py              all of them, about two minutes on two cores
    python docs/make_pictures.py reach        one

Writes docs/pictures/<name>.gif, a few episodes seen from outside with what the agent sees beside it, and <name>.png, one
start with the observation at its true resolution.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from envs.eye import unit
from perception.frame import Pinhole, pose_of

FOLDER = Path(__file__).parent / "pictures"
HEIGHT = 264  # of every picture, pixels
COLOURS = (160, 64)  # of a gif: by area, by difference
AMBER, DARK, LIGHT, GREEN = (255, 176, 32), (28, 30, 34), (232, 234, 237), (96, 208, 128)
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Shot:
    """How an environment is shown.

    Attributes:
        env: id.
        camera: the one outside.
        crop: part of that camera's picture that is kept: left, top, right, bottom as fractions of it.
        seeds: an episode each, chosen for variety.
        stride: control steps from one picture of the gif to the next.
        views: how many cameras it observes.
    """

    env: str
    camera: str
    crop: tuple[float, float, float, float]
    seeds: tuple[int, ...]
    stride: int = 1
    views: int = 1


ARC = (0.06, 0.0, 0.94, 0.95)
SHOTS = {
    "eye_search": Shot("Saccade/EyeSearch-v0", "front", (0.06, 0.22, 0.94, 0.95), (1, 4, 13), views=3),
    "estop": Shot("Saccade/EStop-v0", "front", ARC, (3, 5), stride=3, views=3),
    "towel_bucket": Shot("Saccade/TowelBucket-v0", "front", ARC, (3,), stride=4, views=3),
    "eraser_stand": Shot("Saccade/EraserStand-v0", "front", ARC, (3,), stride=4, views=3),
    "brush_handoff": Shot("Saccade/BrushHandoff-v0", "front", ARC, (3,), stride=4, views=3),
    "screwdriver_reorient": Shot("Saccade/ScrewdriverReorient-v0", "front", ARC, (3,), stride=4, views=3),
    "reach": Shot("Saccade/Reach-v0", "side", (0.1, 0.0, 0.9, 0.8), (3, 4, 5)),
    "reach_eye": Shot("Saccade/ReachEye-v0", "front", (0.05, 0.0, 0.95, 0.9), (3, 4, 5), views=3),
    "door_open": Shot("Saccade/DoorOpen-v0", "top", (0.2, 0.02, 0.8, 0.72), (3,), stride=3),
    "place_cube": Shot("Saccade/PlaceCube-v0", "front", (0.2, 0.2, 0.8, 0.9), (3,)),
}


def outside(env: Any, shot: Shot) -> Picture:
    """The outside picture, HEIGHT high, with the eye's line of sight where there is an eye."""
    left, top, right, bottom = shot.crop
    height = round(HEIGHT / (bottom - top))
    width = round(height * 4 / 3)
    picture = np.ascontiguousarray(env.draw(shot.camera, width, height, look="quality")[0])
    if env.gaze_reach:
        line_of_sight(env, shot.camera, picture)
    row = round(top * height)
    return picture[row : row + HEIGHT, round(left * width) : round(right * width)]


def line_of_sight(env: Any, camera: str, picture: Picture) -> None:
    """Draw where the eye looks, as far as the table or 0.7 m."""
    physics = env.physics
    eye = physics.site_xpos("eye/lens")[0]
    angles = np.array([[physics.qpos("eye/pan")[0, 0], physics.qpos("eye/tilt")[0, 0]]])
    direction = unit(angles)[0]
    reach = min(0.7, eye[2] / -direction[2]) if direction[2] < 0 else 0.7
    position, rotation = physics.camera_pose(camera)
    world_to_camera = np.linalg.inv(pose_of(position[0], rotation[0]))
    ends = np.stack([eye + 0.03 * direction, eye + reach * direction])
    local = ends @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    fovy = float(physics.model.cam_fovy[physics.id("camera", camera)])
    pixels = Pinhole.from_fovy(fovy, picture.shape[1], picture.shape[0]).project(local)
    start, end = (tuple(round(float(v)) for v in p) for p in pixels)
    cv2.line(picture, start, end, AMBER, 2, cv2.LINE_AA)
    cv2.circle(picture, end, 5, AMBER, 2, cv2.LINE_AA)


def seen(images: Sequence[Picture], names: Sequence[str]) -> Picture:
    """What the agent sees, stacked, HEIGHT high, each with its name."""
    side = HEIGHT // len(images)
    rows = []
    for image, name in zip(images, names, strict=True):
        tile = cv2.resize(image, (side, side), interpolation=cv2.INTER_NEAREST)
        rows.append(label(np.asarray(tile, np.uint8), name, LIGHT, (6, side - 7), 12))
    column = np.vstack(rows)
    return np.pad(column, ((0, HEIGHT - len(column)), (0, 0), (0, 0)), mode="edge")


def label(picture: Picture, text: str, colour: tuple[int, int, int], place: tuple[int, int], size: int = 15) -> Picture:
    """The picture with text on it, rimmed so that it can be read on anything; `place` is its left and baseline."""
    image = Image.fromarray(picture)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(image).text(place, text, colour, font, anchor="ls", stroke_width=2, stroke_fill=DARK)
    return np.asarray(image)


def compose(env: Any, shot: Shot, obs: Mapping[str, NDArray[Any]], info: Mapping[str, Any]) -> Picture:
    """Outside, a thin gap, and what the agent sees."""
    view = outside(env, shot)
    names = [key for key, value in obs.items() if value.ndim == 4]
    view = label(view, str(info["instruction"][0]), LIGHT, (9, 21))
    if info["success"][0]:
        view = label(view, "success", GREEN, (9, HEIGHT - 10))
    gap = np.full((HEIGHT, 4, 3), DARK, np.uint8)
    return np.hstack([view, gap, seen([obs[name][0] for name in names], names)])


def episode(env: Any, shot: Shot, seed: int) -> Iterator[Picture]:
    """Pictures of one episode, from its start to a moment after its success."""
    obs, info = env.reset(seed=seed)
    yield compose(env, shot, obs, info)
    step, after = 0, 0
    while after < 8 * shot.stride and step < env.max_episode_steps:
        obs, _, _, _, info = env.step(env.oracle())
        step, after = step + 1, after + int(info["success"][0])
        if step % shot.stride == 0:
            yield compose(env, shot, obs, info)
    if not info["success"][0]:
        raise RuntimeError(f"{shot.env}: the oracle did not succeed from seed {seed}; choose another")


def make(shot: Shot, **options: Any) -> Any:
    """The environment of a shot, one simulation."""
    found: Any = gym.make_vec(
        f"envs:{shot.env}", num_envs=1, vectorization_mode="vector_entry_point", autoreset_mode="disabled", **options
    )
    return found.unwrapped


def film(shot: Shot, file: Path) -> None:
    """Write the gif: one palette for all pictures, so that they do not flicker."""
    env = make(shot, image_size=HEIGHT // shot.views, profile="quality")
    try:
        pictures = [picture for seed in shot.seeds for picture in episode(env, shot, seed)]
    finally:
        env.close()
    palette = palette_of(pictures[:: max(1, len(pictures) // 8)])
    frames = [Image.fromarray(p).quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures]
    rest, pause = round(1000 * shot.stride * env.task.control_dt), 900
    frames[0].save(file, save_all=True, append_images=frames[1:], duration=[rest] * (len(frames) - 1) + [pause], loop=0)


def palette_of(pictures: Sequence[Picture]) -> Image.Image:
    """Colours for a gif: many for what is large, wood and sky, and some for what is small and bright."""
    sample = Image.fromarray(np.vstack(pictures))
    large = sample.quantize(COLOURS[0], method=Image.Quantize.MEDIANCUT).getpalette() or []
    bright = sample.quantize(COLOURS[1], method=Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette([*large[: 3 * COLOURS[0]], *bright[: 3 * COLOURS[1]]])
    return palette


def still(shot: Shot, file: Path) -> None:
    """Write the png: one start, the observation at its true resolution, enlarged without smoothing."""
    env = make(shot)
    try:
        obs, info = env.reset(seed=shot.seeds[0])
        picture = compose(env, shot, obs, info)
    finally:
        env.close()
    image = Image.fromarray(picture).quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    image.save(file, optimize=True)


def main(names: Sequence[str]) -> None:
    """Make the pictures of the environments named, or of all."""
    FOLDER.mkdir(exist_ok=True)
    for name in names or SHOTS:
        for suffix, work in (("gif", film), ("png", still)):
            file = FOLDER / f"{name}.{suffix}"
            work(SHOTS[name], file)
            print(f"{file.relative_to(FOLDER.parent.parent)}  {file.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(sys.argv[1:])
