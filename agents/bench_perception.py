"""`saccade bench perception`: how fast a backend answers about what simulations see.

saccade bench perception vlm=tiny num_envs=16
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from omegaconf import DictConfig

from agents.config import load
from agents.make import build, make_env
from agents.run import system, write_json
from agents.show import say, table
from assets.errors import InvalidValueError
from perception.annotation import Annotation
from perception.text import article, noun_phrase
from perception.vlm.cached import PAIRED, Cached

# What is asked about "the red mug", or, as something that may be there, "a red mug".
ASKED = {
    "answer": "Is this true? There is {a}.", "ground": "{the}",
    "yes_probability": "Is this true? There is {a}.", "score": "{a}",
}  # fmt: skip
_STEPS = 64


def watch(config: DictConfig, steps: int = _STEPS) -> tuple[list[NDArray[np.uint8]], list[list[str]]]:
    """What `num_envs` simulations see while their cameras turn at random, and what they are told to find.

    Returns:
        Per step: the first camera's pictures (N, H, W, 3) and N phrases.
    """
    env = make_env(config, int(config.num_envs), "same_step")
    try:
        env.action_space.seed(0)
        env.reset(seed=0)
        camera = next(key for key, space in env.single_observation_space.items() if len(space.shape) == 3)  # type: ignore[attr-defined]
        seen, phrases = [], []
        for _ in range(steps):
            obs, _, _, _, info = env.step(env.action_space.sample())
            seen.append(obs[camera])
            phrases.append([noun_phrase(str(told)) for told in info["instruction"]])
    finally:
        env.close()
    return seen, phrases


def ways(backend: Any) -> dict[str, Callable[[NDArray[np.uint8], list[str]], Any]]:
    """What a backend can be asked, each as a call with pictures and phrases."""
    out: dict[str, Callable[[NDArray[np.uint8], list[str]], Any]] = {}
    for method, template in ASKED.items():
        if hasattr(backend, method):
            call = getattr(backend, method)
            out[method] = lambda images, phrases, call=call, form=template: call(images, [_ask(form, p) for p in phrases])
    if hasattr(backend, "embed"):
        out["embed"] = lambda images, phrases: backend.embed(images)
    if not out:
        raise InvalidValueError(f"{type(backend).__name__} can be asked nothing: it has none of {[*PAIRED, 'score', 'embed']}")
    return out


def _ask(form: str, phrase: str) -> str:
    bare = phrase.removeprefix("the ")
    return form.format(the=phrase, a=article(f"a {bare}"))


def time_calls(call: Callable[[int], Any], images: int, seconds: float) -> dict[str, float]:
    """Call with 0, 1, 2 .. for so many seconds, at least twice; the first call warms up.

    Returns:
        calls_per_s, images_per_s, and the latency of a call at its median and 99th percentile, ms.
    """
    call(0)
    spent: list[float] = []
    while len(spent) < 2 or sum(spent) < seconds:
        began = time.perf_counter()
        call(len(spent) + 1)
        spent.append(time.perf_counter() - began)
    p50, p99 = 1000 * np.percentile(spent, (50, 99))
    return {
        "calls_per_s": len(spent) / sum(spent), "images_per_s": images * len(spent) / sum(spent),
        "p50_ms": float(p50), "p99_ms": float(p99), "calls": len(spent),
    }  # fmt: skip


def measure(
    backend: Any,
    seen: list[NDArray[np.uint8]],
    phrases: list[list[str]],
    seconds: float,
    looks: int,
    deadline: float | None = None,
) -> dict[str, dict[str, float]]:
    """Each thing that a backend can be asked: plainly, and remembered while every picture comes `looks` times."""
    if hasattr(backend, "tell"):  # a scripted one must know what it is shown
        height, width = seen[0].shape[1:3]
        for images in seen:
            backend.tell(images, [Annotation(width, height, ())] * len(images))
    found: dict[str, dict[str, float]] = {}
    for method, call in ways(backend).items():
        found[method] = time_calls(lambda k, c=call: c(seen[k % len(seen)], phrases[k % len(seen)]), len(seen[0]), seconds)
        cached = Cached(backend, deadline=deadline)
        again = ways(cached)[method]
        # As many different pictures as were just managed, each as often as it is looked at while nothing moves.
        for k in np.repeat(np.arange(min(len(seen), int(found[method]["calls"]))), looks):
            again(seen[k], phrases[k])
        found[method]["hit_rate"] = cached.cache.hit_rate
        cached.close()
    return found


def main(arguments: Sequence[str]) -> int:
    """Measure by overrides, print, write JSON."""
    config = load("perception", list(arguments))
    if not config.seconds > 0 or config.looks < 1:
        raise InvalidValueError(f"seconds must be > 0 and looks >= 1, got {config.seconds} and {config.looks}")
    backend = build(config.vlm)
    seen, phrases = watch(config)
    measured = measure(backend, seen, phrases, float(config.seconds), int(config.looks), config.deadline)
    names = ("calls_per_s", "images_per_s", "p50_ms", "p99_ms", "hit_rate")
    rows = [(method, *(f"{found[name]:,.2f}" for name in names)) for method, found in measured.items()]
    height, width = seen[0].shape[1:3]
    name = str(config.vlm["_target_"]).rpartition(".")[2]
    table(("", *names), rows, f"{name}, {config.num_envs} pictures of {width} x {height} a call, {config.looks} looks at each")
    report = {"backend": name, "num_envs": config.num_envs, "measured": measured, "system": system({})}
    say(f"written: {write_json(config.out, report)}")
    return 0
