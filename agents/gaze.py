"""How an eye looked: measures of recorded gazes, as functions of arrays over time.

Everything takes one episode: T + 1 samples `dt` seconds apart, angles in radians, lengths in metres. What never happens is NaN.
A hand arrives as in TAVIS (Spigler 2026, arXiv:2605.07943): slower than 0.05 m/s for 80 ms. A gaze arrives when it stays within
5 degrees for as long; TAVIS wants 0.05 rad and less than 0.1 rad/s, which an eye that turns by whole degrees 15 times a second
hardly ever keeps.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

# A thing is looked at within this angle, and fixated within that one.
ON_TARGET, FIXATED = np.radians(10.0), np.radians(5.0)
# An arrival lasts at least so long, s; a hand that has arrived is slower than this, m/s, and nearer than that, m.
LASTING, HAND_SPEED, HAND_NEAR = 0.08, 0.05, 0.05


def seconds_to_fixate(error: Array, dt: float) -> float:
    """Time until the gaze is first on its target and stays there for `LASTING`, s."""
    return _first(error < FIXATED, dt)


def on_target(error: Array, phase: NDArray[np.integer]) -> dict[int, float]:
    """Share of each phase's samples in which the target is looked at."""
    return {int(p): float(np.mean(error[phase == p] < ON_TARGET)) for p in np.unique(phase)}


def stability(gaze: Array, dt: float) -> tuple[float, float]:
    """Spread of the gaze's speed, degrees per second, and share of steps in which it turns by less than a degree.

    Args:
        gaze: (T + 1, 2).
        dt: s.
    """
    turned = np.degrees(np.linalg.norm(np.diff(gaze, axis=0), axis=1))
    return float(np.std(turned / dt)), float(np.mean(turned < 1))


def switch_lag(error: Array, target: Array, dt: float) -> float:
    """Mean time from a jump of the target's direction by more than 10 degrees until it is fixated, s.

    Args:
        error: (T + 1,).
        target: (T + 1, 2) direction of what is to be looked at.
        dt: s.
    """
    jumps = np.flatnonzero(np.linalg.norm(np.diff(target, axis=0), axis=1) > np.radians(10)) + 1
    ends = [*jumps[1:], len(error)][: len(jumps)]
    lags = [_first(error[j:end] < FIXATED, dt) for j, end in zip(jumps, ends, strict=True)]
    found = [lag for lag in lags if np.isfinite(lag)]
    return float(np.mean(found)) if found else float("nan")


def tracking_error(error: Array, target: Array, dt: float) -> float:
    """Mean angle to the target while it moves by 2 to 60 degrees per second, degrees."""
    speed = np.degrees(np.linalg.norm(np.diff(target, axis=0), axis=1)) / dt
    moving = (speed > 2) & (speed < 60)
    return float(np.degrees(error[1:][moving].mean())) if moving.any() else float("nan")


def gaze_leads_hand(error: Array, tool: Array, distance: Array, dt: float) -> float:
    """Time from the gaze's arrival at the first target to the hand's, s; positive where the eye comes first.

    Args:
        error: (T + 1,) of the gaze.
        tool: (T + 1, 3).
        distance: (T + 1,) of the hand from its first target.
        dt: s.
    """
    speed = np.linalg.norm(np.diff(tool, axis=0, prepend=tool[:1]), axis=1) / dt
    return _first((distance < HAND_NEAR) & (speed < HAND_SPEED), dt) - seconds_to_fixate(error, dt)


def _first(holds: NDArray[np.bool_], dt: float) -> float:
    """Time of the first sample from which something holds for `LASTING`, s."""
    needed = max(1, int(np.ceil(LASTING / dt - 1e-9)))
    windows = np.lib.stride_tricks.sliding_window_view(holds, needed) if len(holds) >= needed else np.zeros((0, 1), bool)
    whole = windows.all(axis=1)
    return float(np.argmax(whole) * dt) if whole.any() else float("nan")
