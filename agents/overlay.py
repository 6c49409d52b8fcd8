"""What is written over a replayed frame: instruction, success, reward curve, the eye's views, where it looks, what the hand
means to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.extractor import image_keys
from agents.rollout import Episode
from perception.frame import Pinhole, pose_of

_WHITE, _GREY, _GREEN, _AMBER = (255, 255, 255), (190, 195, 200), (80, 220, 120), (255, 190, 60)
_CYAN = (0, 230, 255)
_FONT = cv2.FONT_HERSHEY_SIMPLEX
# Metres: the nearest that a camera shows.
_NEAR = 0.01

Frame = NDArray[np.uint8]


class Overlay:
    """Draws over the frames of one episode.

    Args:
        episode: recorded, for its rewards, success and instruction.
        batch: the environment that is brought to each recorded state before its frame is drawn.
        camera: that the frames are taken with.
    """

    def __init__(self, episode: Episode, batch: Any, camera: str) -> None:
        self._episode, self._batch, self._camera = episode, batch, camera
        reward = episode.reward
        self._low, self._high = min(0.0, float(reward.min())), max(0.0, float(reward.max()))
        self._looks = batch.gaze_reach > 0
        self._views = image_keys(batch.single_observation_space)

    def draw(self, frame: Frame, obs: Mapping[str, NDArray[Any]], t: int, sim: int = 0) -> Frame:
        """The frame of time step t, in which simulation `sim` is, with everything on it; `frame` (H, W, 3) stays as it is."""
        canvas = frame.copy()
        if t < self._episode.length and "path" in self._episode.thought:
            self._path(canvas, self._episode.thought["path"][t], sim)
        if self._looks:
            self._ray(canvas, sim)
        self._inset(canvas, obs)
        self._curve(canvas, t)
        self._banner(canvas, t)
        return canvas

    def _banner(self, canvas: Frame, t: int) -> None:
        """Instruction left, step and success right, across the top."""
        height, width = canvas.shape[:2]
        band = _unit(canvas) * 3 // 2
        canvas[:band] = canvas[:band] // 4
        done = t > 0 and bool(self._episode.success[:t].any())
        text, colour = ("success", _GREEN) if done else (f"step {t}", _GREY)
        margin = _unit(canvas) // 2
        right = _text(canvas, text, (width - margin, band), colour, width // 3, from_right=True)
        _text(canvas, self._episode.instruction, (margin, band), _WHITE, width - 3 * margin - right)
        if done:
            cv2.rectangle(canvas, (0, 0), (width - 1, height - 1), _GREEN, max(1, height // 240))

    def _curve(self, canvas: Frame, t: int) -> None:
        """Reward per step, bottom left, over the whole episode's range; its newest value beside it."""
        height, width = canvas.shape[:2]
        unit = _unit(canvas)
        margin, box_w, box_h = unit // 2, width * 2 // 5, height // 6
        x0, y0 = margin, height - margin - box_h
        area = canvas[y0 : y0 + box_h, x0 : x0 + box_w]
        area[:] = area // 4
        top, bottom = y0 + unit * 3 // 2, y0 + box_h - max(2, unit // 4)
        newest = f"  {self._episode.reward[t - 1]:.2f}" if t else ""
        _text(canvas, f"reward{newest}", (x0 + unit // 3, top - unit // 8), _GREY, box_w - unit // 2)
        if bottom <= top or box_w < 8 or not t:
            return
        span = max(self._high - self._low, 1e-6)
        x = x0 + 3 + np.arange(t) * (box_w - 7) / max(1, self._episode.length - 1)
        y = bottom - (self._episode.reward[:t] - self._low) / span * (bottom - top)
        points = np.stack([x, y], axis=1).round().astype(np.int32)
        thick = max(1, height // 320)
        cv2.polylines(canvas, [points], False, _AMBER, thick, cv2.LINE_AA)
        cv2.circle(canvas, _pixel(points[-1]), thick + 1, _WHITE, -1, cv2.LINE_AA)

    def _inset(self, canvas: Frame, obs: Mapping[str, NDArray[Any]]) -> None:
        """What the agent sees, down the right side, fovea first."""
        height, width = canvas.shape[:2]
        unit = _unit(canvas)
        margin = max(2, unit // 2)
        y, side = unit * 3 // 2 + margin, height // 4
        for key in self._views:
            if side < 4 or side > width or y + side + margin > height:
                break
            x = width - side - margin
            canvas[y : y + side, x : x + side] = cv2.resize(obs[key], (side, side), interpolation=cv2.INTER_NEAREST)
            cv2.rectangle(canvas, (x - 1, y - 1), (x + side, y + side), _WHITE, 1)
            if self._looks:
                cv2.drawMarker(canvas, (x + side // 2, y + side // 2), _AMBER, cv2.MARKER_CROSS, max(3, side // 8), 1)
            y += side + margin

    def _view(self, canvas: Frame, sim: int) -> tuple[Pinhole, NDArray[np.float64]]:
        """Projection of the frame's camera, and its pose."""
        height, width = canvas.shape[:2]
        physics = self._batch.physics
        camera = Pinhole.from_fovy(float(physics.model.cam_fovy[physics.id("camera", self._camera)]), width, height)
        position, rotation = physics.camera_pose(self._camera)
        return camera, pose_of(position[sim], rotation[sim])

    def _path(self, canvas: Frame, path: NDArray[np.float64], sim: int) -> None:
        """Where the hand expects the tool to go, (K, 3) m, fading into the future; nothing where it expects nothing."""
        camera, pose = self._view(canvas, sim)
        thick = max(1, canvas.shape[0] // 240)
        for k in range(len(path) - 1):
            ends = _drawable(path[k : k + 2], pose, camera) if np.isfinite(path[k : k + 2]).all() else None
            if ends is not None:
                share = k / len(path)
                colour = tuple(round((1 - share) * a + share * b) for a, b in zip(_CYAN, _GREY, strict=True))
                cv2.line(canvas, _pixel(ends[0]), _pixel(ends[1]), colour, thick, cv2.LINE_AA)

    def _ray(self, canvas: Frame, sim: int) -> None:
        """From the eye to what it looks at, in the picture's own perspective."""
        height = canvas.shape[0]
        camera, pose = self._view(canvas, sim)
        ends = _drawable(self._batch.gaze_ray(sim), pose, camera)
        if ends is None:
            return
        start, end = (_pixel(p) for p in ends)
        thick = max(1, height // 320)
        over = canvas.copy()
        cv2.line(over, start, end, _AMBER, 2 * thick, cv2.LINE_AA)
        cv2.addWeighted(over, 0.6, canvas, 0.4, 0, canvas)
        cv2.circle(canvas, end, max(3, height // 60), _AMBER, thick, cv2.LINE_AA)
        cv2.circle(canvas, end, thick, _AMBER, -1, cv2.LINE_AA)


def segment(ends: NDArray[np.float64], pose: NDArray[np.float64], camera: Pinhole) -> NDArray[np.float64] | None:
    """Pixels (2, 2) of a segment (2, 3) in the world, cut off where it passes behind the camera; None if all of it is.

    Args:
        ends: metres, world frame.
        pose: camera (OpenCV axes) -> world. Shape (4, 4).
        camera: its projection.
    """
    local = (ends - pose[:3, 3]) @ pose[:3, :3]  # (2, 3)
    z = local[:, 2]
    if (z < _NEAR).all():
        return None
    if (z < _NEAR).any():
        behind = int(np.argmin(z))
        share = (_NEAR - z[behind]) / (z[1 - behind] - z[behind])
        local[behind] += share * (local[1 - behind] - local[behind])
    return camera.project(local)


def _drawable(ends: NDArray[np.float64], pose: NDArray[np.float64], camera: Pinhole) -> NDArray[np.float64] | None:
    """As `segment`, and None too where it ends too far outside of the picture to be drawn."""
    pixels = segment(ends, pose, camera)
    return None if pixels is None or np.abs(pixels).max() > 1e4 else pixels


def _unit(canvas: Frame) -> int:
    """Height of a line of text, pixels."""
    return max(8, canvas.shape[0] // 24)


def _pixel(point: NDArray[Any]) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))


def _text(
    canvas: Frame, text: str, at: tuple[int, int], colour: tuple[int, int, int], room: int, from_right: bool = False
) -> int:
    """Write a line whose band ends at y = at[1], smaller if it needs more than `room` pixels; returns its width, pixels."""
    scale = _unit(canvas) / 34
    (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    if width > room > 0:
        scale *= room / width
        (width, height), _ = cv2.getTextSize(text, _FONT, scale, 1)
    place = (at[0] - width if from_right else at[0], at[1] - (_unit(canvas) * 3 // 2 - height) // 2)
    cv2.putText(canvas, text, place, _FONT, scale, colour, 2 if scale > 0.9 else 1, cv2.LINE_AA)
    return width
