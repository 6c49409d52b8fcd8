"""A reward's report card as one HTML page: figures, and videos as strips of frames over what they were worth."""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from rewards.card import Footage, Worth, is_blind
from rewards.transforms import scored

# Pictures of a strip, their side in pixels, and how large a plot is.
SHOWN, SIDE, WIDTH, HEIGHT = 10, 78, 780, 170
TOP, BOTTOM = 34, HEIGHT - 26
# Half a picture at either side, so that a moment lies under the middle of its picture.
EDGE = WIDTH / SHOWN / 2
# Heading, what its figures mean, and how their names begin.
GROUPS = (
    ("Order", "With time (voc) and with true progress. 1 is right, 0 chance, -1 reversed.", ("voc", "kendall_tau")),
    ("Success", "Told from failure: 1 is right, 0.5 chance (auprc: the share of successes). Errors are best at 0.",
     ("success_", "calibration_")),
    ("Choice", "How often the best by reward, of one video of each way of acting, succeeded.", ("best_of_n",)),
    ("Distance", "From true progress: 0 is the same but for shaping and scale, 0.71 unrelated, 1 opposite.", ("epic",)),
    ("Blind control", "Order and success where nothing is to be seen, or of who was taught without seeing. As good as with "
     "sight means that it does not look.",
     ("blind_",)),
    ("Changed pictures", "Order by true progress in dimmer light, from a moved camera, with another texture.",
     ("light_", "camera_", "texture_")),
)  # fmt: skip


def page(name: str, reward: Worth, footage: Mapping[str, Footage], found: Mapping[str, float], each: int = 2) -> str:
    """One HTML page without anything beside it.

    Args:
        name: of the reward.
        reward: that is shown.
        footage: as for `rewards.card.card`.
        found: what that returned.
        each: videos of each way of acting.
    """
    told = {kind: [scored(reward, video) for video in one.read] for kind, one in footage.items()}
    said_range = _range([values for one in told.values() for values in one])
    true_range = _range([values for one in footage.values() for values in one.progress])
    warning = "<p class=warn>It does as well where nothing is to be seen: it does not look.</p>" if is_blind(found) else ""
    parts = []
    for kind, one in footage.items():
        share = f"{int(np.sum(one.success))} of {len(one.success)} videos succeeded"
        parts.append(f"<h2>{html.escape(kind)} <small>{share}</small></h2>")
        shown = zip(one.frames, one.read, told[kind], one.progress, one.success, strict=True)
        for video, read, said, true, done in list(shown)[:each]:
            axes = _axis(said_range, "said") + _axis(true_range, "true")
            curves = _curve(true, true_range, "true") + _curve(said, said_range, "said")
            words = f"{'succeeded' if done else 'did not succeed'}; reward {said.min():.2f} to {said.max():.2f}"
            parts += [_strip(video), _plot(axes + curves, words, len(said), steps_of(reward, read))]
    title, told_of = html.escape(name), _TOLD + (_CUTS if hasattr(reward, "step_scores") else "")
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">\n'
        f"<title>{title}: report card</title>\n<style>{_STYLE}</style>\n<h1>{title}</h1>\n{warning}"
        f"<div class=groups>{_figures(found)}</div>\n<p>{told_of}</p>\n" + "\n".join(parts) + "\n</html>\n"
    )


def _figures(found: Mapping[str, float]) -> str:
    """Figures under their headings; what belongs nowhere comes last."""
    groups = [(title, told, [key for key in found if key.startswith(begin)]) for title, told, begin in GROUPS]
    placed = {key for *_, keys in groups for key in keys}
    groups.append(("Further", "Measured beside the report card.", [key for key in found if key not in placed]))
    return "".join(
        f"<section><h3>{title}</h3><p>{told}</p>{''.join(_figure(key, found[key]) for key in keys)}</section>"
        for title, told, keys in groups
        if keys
    )


def _figure(key: str, value: float) -> str:
    return f"<div>{html.escape(key)} <b>{value:.3f}</b></div>"


def steps_of(reward: Worth, video: Any) -> NDArray[np.intp]:
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


def _plot(inside: str, words: str, count: int, steps: NDArray[np.intp]) -> str:
    """Curves over the frames of a video, and where steps begin."""
    cuts = "".join(f'<path class=cut d="M{_across(t, count)} {TOP - 6}V{BOTTOM + 6}"/>' for t in steps)
    left, right = EDGE, WIDTH - EDGE
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Reward and true progress over the video">'
        f'<path class=rule d="M{left} {TOP}H{right}M{left} {BOTTOM}H{right}"/>{cuts}{inside}'
        f'<text x="{left}" y="20">{words}</text>'
        f'<text x="{right}" y="20" text-anchor="end"><tspan class=said>\u2014 reward</tspan> \u00a0 '
        f"<tspan class=true>\u2014 true progress</tspan></text>"
        f'<text x="{left}" y="{HEIGHT - 6}" text-anchor="middle">frame 0</text>'
        f'<text x="{right}" y="{HEIGHT - 6}" text-anchor="middle">{count - 1}</text></svg>'
    )


def _axis(span: tuple[float, float], kind: str) -> str:
    """The ends of a scale: the reward's on the left, the truth's on the right."""
    x, anchor = (EDGE - 5, "end") if kind == "said" else (WIDTH - EDGE + 5, "start")
    digits = 2 if max(map(abs, span)) < 100 else 0
    ends = zip(span, (BOTTOM, TOP), strict=True)
    return "".join(f'<text class={kind} x="{x}" y="{y + 4}" text-anchor="{anchor}">{end:.{digits}f}</text>' for end, y in ends)


def _across(t: float, count: int) -> float:
    return round(EDGE + (WIDTH - 2 * EDGE) * t / max(count - 1, 1), 1)


def _curve(values: NDArray[np.float64], span: tuple[float, float], kind: str) -> str:
    height = (values - span[0]) / max(span[1] - span[0], 1e-9)
    places = (f"{_across(t, len(values))},{BOTTOM - (BOTTOM - TOP) * h:.1f}" for t, h in enumerate(height))
    return f'<polyline class={kind} points="{" ".join(places)}"/>'


_TOLD = (
    "Below are videos that the reward never learned from, as pictures over what they were worth. Blue and on the left is the "
    "<b class=said>reward</b>, grey and on the right the <b class=true>true progress</b>, each on one scale on the whole page."
)
_CUTS = " Dashed lines are where another step becomes the likeliest."
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #24282e; background: #fff; max-width: 820px; margin: 2rem auto;
       padding: 0 1rem }
h2 small { font-weight: 400; font-size: .9rem; color: #4a505a; margin-left: .6rem }
.groups { columns: 16rem; column-gap: 2rem; margin: 1.5rem 0; font-variant-numeric: tabular-nums }
section { break-inside: avoid; margin-bottom: 1.2rem } section div { display: flex; justify-content: space-between }
h3 { margin: 0; font-size: 1rem } section p { margin: 0 0 .3rem; font-size: .8rem; line-height: 1.35; color: #4a505a }
section b { font-weight: 500 }
img, svg { display: block; width: 100% } svg { margin-bottom: 1.4rem; overflow: visible }
svg text { font: 12px system-ui, sans-serif; fill: #4a505a } .cut { stroke: #8a8f98; stroke-dasharray: 3 3 }
.rule { stroke: #e3e5e8; fill: none } polyline { fill: none } polyline.said { stroke: #1e6ebe; stroke-width: 2.4 }
polyline.true { stroke: #5f6570; stroke-width: 1.3 }
svg text.said, tspan.said { fill: #1a5fa5 } svg text.true, tspan.true { fill: #5f6570 }
.said { color: #1a5fa5 } .true { color: #5f6570 } .warn { background: #fdecea; padding: .5rem .8rem }
"""
