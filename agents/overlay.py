"""What is written over a replayed frame: instruction, success, reward curve, the eye's views, and where it looks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from agents.extractor import image_keys
from agents.rollout import Episode

_WHITE, _GREY, _GREEN, _AMBER = (255, 255, 255), (190, 195, 200), (80, 220, 120), (255, 190, 60)
_FONT = cv2.FONT_HERSHEY_SIMPLEX


class Overlay:
    """Draws over the frames of one episode.

    Args:
        episode: recorded, for its rewards, success and instruction.
    """

    def __init__(self, episode: Episode) -> None:
        self._episode = episode
        self._peak = max(1e-6, float(np.abs(episode.reward).max()))

    def draw(self, frame: NDArray[np.uint8], obs: Mapping[str, NDArray[Any]], batch: Any, t: int) -> NDArray[np.uint8]:
        """The frame of time step t with everything on it; `frame` (H, W, 3) stays as it is."""
        canvas = frame.copy()
        self._gaze(canvas, batch)
        self._banner(canvas, t)
        self._curve(canvas, t)
        self._views(canvas, obs, batch)
        return canvas

    def _banner(self, canvas: NDArray[np.uint8], t: int) -> None:
        height = canvas.shape[0]
        scale = height / 720
        band = round(44 * scale)
        canvas[:band] = canvas[:band] // 3
        size, thick = 0.8 * scale, max(1, round(2 * scale))
        cv2.putText(
            canvas, self._episode.instruction, (round(14 * scale), round(30 * scale)), _FONT, size, _WHITE, thick, cv2.LINE_AA
        )
        done = t > 0 and bool(self._episode.success[:t].any())
        text, colour = ("success", _GREEN) if done else (f"step {t}", _GREY)
        (width, _), _ = cv2.getTextSize(text, _FONT, size, thick)
        place = (canvas.shape[1] - width - round(14 * scale), round(30 * scale))
        cv2.putText(canvas, text, place, _FONT, size, colour, thick, cv2.LINE_AA)

    def _curve(self, canvas: NDArray[np.uint8], t: int) -> None:
        """Reward per step, bottom left."""
        height, width = canvas.shape[:2]
        box_w, box_h, margin = width // 3, height // 8, height // 40
        x0, y1 = margin, height - margin
        area = canvas[y1 - box_h : y1, x0 : x0 + box_w]
        area[:] = area // 3
        reward = self._episode.reward[:t] / self._peak
        if len(reward) > 1:
            x = x0 + np.arange(len(reward)) * (box_w - 1) / max(1, self._episode.length - 1)
            y = y1 - 3 - np.clip(reward, 0, 1) * (box_h - 6)
            cv2.polylines(canvas, [np.stack([x, y], 1).astype(np.int32)], False, _AMBER, max(1, height // 360), cv2.LINE_AA)
        cv2.putText(canvas, "reward", (x0 + 4, y1 - box_h + height // 40), _FONT, height / 1400, _GREY, 1, cv2.LINE_AA)

    def _views(self, canvas: NDArray[np.uint8], obs: Mapping[str, NDArray[Any]], batch: Any) -> None:
        """What the agent sees, down the right side, fovea first."""
        keys = image_keys(batch.single_observation_space)
        height, width = canvas.shape[:2]
        side = height // 5
        margin, y = height // 60, round(height * 0.08)
        for key in keys:
            if y + side > height:
                break
            picture = cv2.resize(obs[key], (side, side), interpolation=cv2.INTER_NEAREST)
            x = width - side - margin
            canvas[y : y + side, x : x + side] = picture
            cv2.rectangle(canvas, (x - 1, y - 1), (x + side, y + side), _WHITE, 1)
            if "gaze" in obs:
                cv2.drawMarker(canvas, (x + side // 2, y + side // 2), _AMBER, cv2.MARKER_CROSS, side // 8, 1)
            y += side + margin

    def _gaze(self, canvas: NDArray[np.uint8], batch: Any) -> None:
        """A ray from the eye to what it looks at, in the picture's own perspective."""
        ray = batch.gaze_ray() if hasattr(batch, "gaze_ray") else None
        if ray is None:
            return
        pixels = batch.project(ray, canvas.shape[1], canvas.shape[0])
        if np.isfinite(pixels).all():
            start, end = (tuple(int(v) for v in p) for p in np.clip(pixels, -4000, 4000))
            cv2.line(canvas, start, end, _AMBER, max(1, canvas.shape[0] // 240), cv2.LINE_AA)
            cv2.circle(canvas, end, max(3, canvas.shape[0] // 70), _AMBER, max(1, canvas.shape[0] // 240), cv2.LINE_AA)
