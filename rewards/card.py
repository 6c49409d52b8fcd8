"""The report card of a reward: how far it orders, judges, and holds when the pictures change.

It reads videos of several ways of acting beside what was true in them. Truth is a yardstick here, never an input of the reward.
A reward that reads something else than pictures, such as what a judge of pictures taught it about distances, or captions, has a
card too: footage then holds what it reads of each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from rewards import measures
from rewards.transforms import scored

Video = NDArray[np.uint8]
# Frames at the end of a video that count as its end.
LAST = 5
EXPERT = "expert"


@dataclass(frozen=True)
class Footage:
    """Videos of one way of acting.

    Attributes:
        frames: a video (T_i, H, W, 3) for each episode.
        progress: (T_i,) true progress in each frame, in any unit, more is better.
        success: (N,) whether the task was done.
        inputs: what the reward reads of each video, T_i entries each, where that is not its frames.
    """

    frames: Sequence[Video]
    progress: Sequence[NDArray[np.float64]]
    success: NDArray[np.bool_]
    inputs: Sequence[Any] = ()

    @property
    def read(self) -> Sequence[Any]:
        """What the reward reads."""
        return self.inputs or self.frames

    def __post_init__(self) -> None:
        if not len(self.frames) == len(self.progress) == len(self.success) > 0:
            raise InvalidValueError(
                f"footage needs as many videos as truths, got {len(self.frames)}, {len(self.progress)}, {len(self.success)}"
            )
        lengths, read = [len(video) for video in self.frames], [len(one) for one in self.read]
        if lengths != read:
            raise InvalidValueError(f"inputs must have an entry for each frame, {lengths} for each video, got {read}")


def blind(frames: Video) -> Video:
    """A video in which nothing is to be seen: every frame is the first one's mean colour."""
    return np.broadcast_to(frames[:1].mean(axis=(1, 2), keepdims=True).astype(np.uint8), frames.shape).copy()


def dimmed(frames: Video) -> Video:
    """The same in three quarters of the light."""
    return (0.75 * frames).astype(np.uint8)


def shifted(frames: Video) -> Video:
    """The same from a camera that points elsewhere by a twentieth of the picture."""
    by = max(1, frames.shape[2] // 20)
    return np.roll(frames, (by, by), axis=(1, 2))


def speckled(frames: Video) -> Video:
    """The same with another texture: noise of 12 grey levels, equal in all frames."""
    noise = np.random.default_rng(0).normal(0, 12, frames.shape[1:])
    return np.clip(frames + noise, 0, 255).astype(np.uint8)


CHANGES: dict[str, Callable[[Video], Video]] = {"light": dimmed, "camera": shifted, "texture": speckled}


# What T frames are worth, (T,): of pictures a `rewards.base.FrameReward`, of inputs the like of it.
Worth = Callable[[Any], NDArray[np.float32]]


def card(
    reward: Worth, footage: Mapping[str, Footage], rng: np.random.Generator, control: Worth | None = None
) -> dict[str, float]:
    """Everything measured of a reward.

    "voc" is of the expert's videos; "kendall_tau" with true progress, of the expert's and, with their names behind, of the
    others'. "success_auroc" is by the mean reward of the last frames, "_max" by the largest. "calibration_error" is of that
    mean, stretched over [0, 1], as a probability of success. "epic" is the distance to true progress as a reward of frames.
    "best_of_n" is the success of the best by their ends, one of each way of acting, beside "best_of_n_random" and
    "best_of_n_oracle". "blind_" is the same of videos in which nothing is to be seen, or of the `control`. "light_", "camera_"
    and "texture_kendall_tau" are of changed videos, which the reward never met; only rewards of pictures have them.

    Args:
        reward: of pictures, or of the `inputs` of the footage.
        footage: name of a way of acting -> its videos; "expert" is needed.
        rng: for the expectations of EPIC.
        control: what a reward of `inputs` is where it, or whoever taught it, saw nothing.

    Raises:
        InvalidValueError: no "expert", a single outcome throughout, rewards that are not finite, a `control` of a reward of
            pictures, or none of another.
    """
    if EXPERT not in footage:
        raise InvalidValueError(f"a report card needs footage called {EXPERT!r}, got {', '.join(footage)}")
    of_pictures = not any(one.inputs for one in footage.values())
    if of_pictures == (control is not None):
        raise InvalidValueError("a reward of inputs needs a control, one of pictures is its own: it is shown grey ones")
    told = {name: [scored(reward, one) for one in way.read] for name, way in footage.items()}
    found = _measured(told, footage) | _distance(told, footage, rng) | _chosen(told, footage)
    if control is None:
        unseen = {name: [scored(reward, blind(video)) for video in way.frames] for name, way in footage.items()}
    else:
        unseen = {name: [scored(control, one) for one in way.read] for name, way in footage.items()}
    found |= {
        f"blind_{key}": value for key, value in _measured(unseen, footage).items() if key in ("kendall_tau", "success_auroc")
    }
    expert = footage[EXPERT]
    for name, change in CHANGES.items() if of_pictures else ():
        changed = [scored(reward, change(video)) for video in expert.frames]
        found[f"{name}_kendall_tau"] = _taus(changed, expert)
    return found


def is_blind(found: Mapping[str, float], margin: float = 0.05) -> bool:
    """Whether a reward does as well without seeing anything."""
    pairs = ("kendall_tau", "success_auroc")
    return all(found[key] <= found[f"blind_{key}"] + margin for key in pairs)


def _taus(told: Sequence[NDArray[np.float64]], footage: Footage) -> float:
    return float(np.mean([measures.kendall_tau(a, b) for a, b in zip(told, footage.progress, strict=True)]))


def _measured(told: Mapping[str, Sequence[NDArray[np.float64]]], footage: Mapping[str, Footage]) -> dict[str, float]:
    expert = told[EXPERT]
    found = {"voc": float(np.mean([measures.value_order_correlation(values) for values in expert]))}
    for name, values in told.items():
        found["kendall_tau" if name == EXPERT else f"kendall_tau_{name}"] = _taus(values, footage[name])
    success = np.concatenate([footage[name].success for name in told])
    ends = np.array([values[-LAST:].mean() for one in told.values() for values in one])
    most = np.array([values.max() for one in told.values() for values in one])
    found |= {"success_auroc": measures.auroc(ends, success), "success_auroc_max": measures.auroc(most, success)}
    found["success_auprc"] = measures.auprc(ends, success)
    probability = np.clip((ends - ends.min()) / max(np.ptp(ends), 1e-9), 0, 1)
    found["calibration_error"] = measures.expected_calibration_error(probability, success)
    return found


def _distance(
    told: Mapping[str, Sequence[NDArray[np.float64]]], footage: Mapping[str, Footage], rng: np.random.Generator
) -> dict[str, float]:
    """EPIC over all steps of all videos: states are numbers of frames, and nothing is known of actions."""
    said = np.concatenate([v for one in told.values() for v in one])
    true = np.concatenate([p for name in told for p in footage[name].progress])
    lengths = [len(v) for one in told.values() for v in one]
    first = np.concatenate([np.arange(n - 1) + start for n, start in zip(lengths, np.cumsum([0, *lengths[:-1]]), strict=True)])

    def of(values: NDArray[np.float64]) -> Callable[..., NDArray[Any]]:
        return lambda state, action, reached: values[reached]

    nothing = np.zeros(len(first))
    return {"epic": measures.epic_distance(of(said), of(true), first, nothing, first + 1, gamma=0.99, rng=rng)}


def _chosen(told: Mapping[str, Sequence[NDArray[np.float64]]], footage: Mapping[str, Footage]) -> dict[str, float]:
    """Best of one episode of each way of acting."""
    count = min(len(one) for one in told.values())
    ends = np.array([[values[-LAST:].mean() for values in one[:count]] for one in told.values()]).T
    success = np.array([footage[name].success[:count] for name in told]).T
    found = measures.best_of_n(ends, success)
    return {"best_of_n": found["selected"], "best_of_n_random": found["random"], "best_of_n_oracle": found["oracle"]}
