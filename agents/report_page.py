"""A reward's report card as one HTML page: figures, and videos as strips of frames over what they were worth."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from rewards.base import FrameReward
from rewards.card import Footage, is_blind
from rewards.transforms import scored

# Pictures of a strip, their side in pixels, and how large a plot is.
SHOWN, SIDE, WIDTH, HEIGHT = 10, 72, 780, 170
TOP, BOTTOM = 30, HEIGHT - 26
TRUE, SAID = "#8a8f98", "#1e6ebe"


def page(name: str, reward: FrameReward, footage: Mapping[str, Footage], found: Mapping[str, float], each: int = 2) -> str:
    """One HTML page without anything beside it.

    Args:
        name: of the reward.
        reward: that is shown.
        footage: as for `rewards.card.card`.
        found: what that returned.
        each: videos of each way of acting.
    """
    figures = "".join(f"<div>{html.escape(key)} <b>{value:.3f}</b></div>" for key, value in found.items())
    told = {kind: [scored(reward, video) for video in one.frames] for kind, one in footage.items()}
    said_range = _range([values for one in told.values() for values in one])
    true_range = _range([values for one in footage.values() for values in one.progress])
    warning = "<p class=warn>It does as well where nothing is to be seen: it does not look.</p>" if is_blind(found) else ""
    parts = []
    for kind, one in footage.items():
        parts.append(f"<h2>{html.escape(kind)}</h2>")
        for video, said, true, done in list(zip(one.frames, told[kind], one.progress, one.success, strict=True))[:each]:
            curves = _curve(true, true_range, TRUE) + _curve(said, said_range, SAID)
            words = f"{'succeeded' if done else 'did not succeed'}; reward {said.min():.2f} to {said.max():.2f}"
            parts += [_strip(video), _plot(curves, words, len(said), steps_of(reward, video))]
    title = html.escape(name)
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">\n'
        f"<title>{title}: report card</title>\n<style>{_STYLE}</style>\n<h1>{title}</h1>\n<p>{_TOLD}</p>\n{warning}"
        f"<div class=figures>{figures}</div>\n" + "\n".join(parts) + "\n</html>\n"
    )


def steps_of(reward: FrameReward, video: NDArray[np.uint8]) -> NDArray[np.intp]:
    """Frames at which another step becomes the likeliest; none for a reward that knows no steps."""
    scores = getattr(reward, "step_scores", None)
    return np.zeros(0, np.intp) if scores is None else np.flatnonzero(np.diff(np.asarray(scores(video)).argmax(axis=1))) + 1


def _strip(video: NDArray[np.uint8]) -> str:
    """Evenly spaced frames side by side, as a JPEG within the page."""
    chosen = np.linspace(0, len(video) - 1, SHOWN).round().astype(int)
    small = [cv2.resize(video[t], (SIDE, SIDE), interpolation=cv2.INTER_AREA) for t in chosen]
    _, data = cv2.imencode(".jpg", np.concatenate(small, axis=1)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
    told = "Frames of the video, evenly spaced."
    return f'<img alt="{told}" src="data:image/jpeg;base64,{base64.b64encode(data.tobytes()).decode()}">'


def _range(values: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    return min(float(v.min()) for v in values), max(float(v.max()) for v in values)


def _plot(curves: str, words: str, count: int, steps: NDArray[np.intp]) -> str:
    """Curves over the frames of a video, and where steps begin."""
    cuts = "".join(f'<path class=cut d="M{_across(t, count)} {TOP - 6}V{BOTTOM + 6}"/>' for t in steps)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Reward and true progress over the video">{cuts}{curves}'
        f'<text x="0" y="18">{words}</text><text x="0" y="{HEIGHT - 6}">0</text>'
        f'<text x="{WIDTH}" y="{HEIGHT - 6}" text-anchor="end">frame {count - 1}</text></svg>'
    )


def _across(t: float, count: int) -> float:
    return round(WIDTH * t / max(count - 1, 1), 1)


def _curve(values: NDArray[np.float64], span: tuple[float, float], colour: str) -> str:
    height = (values - span[0]) / max(span[1] - span[0], 1e-9)
    places = (f"{_across(t, len(values))},{BOTTOM - (BOTTOM - TOP) * h:.1f}" for t, h in enumerate(height))
    return f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="2"/>'


_TOLD = (
    "Videos that the reward never learned from. Blue is the <b class=said>reward</b>, grey the <b class=true>true progress</b>,"
    " each on one scale on the whole page; dashed lines are where another step becomes the likeliest."
)
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #24282e; background: #fff; max-width: 820px; margin: 2rem auto;
       padding: 0 1rem }
.figures { columns: 15rem; font-variant-numeric: tabular-nums } .figures div { display: flex; justify-content: space-between }
.figures b { font-weight: 500 }
img, svg { display: block; width: 100% } svg { margin-bottom: 1.4rem; overflow: visible }
svg text { font: 12px system-ui, sans-serif; fill: #5a606a } .cut { stroke: #c9ccd1; stroke-dasharray: 3 3 }
.said { color: #1e6ebe } .true { color: #8a8f98 } .warn { background: #fdecea; padding: .5rem .8rem }
"""
