"""`saccade replay`: states, not actions, are replayed, so any camera, size and profile shows the very same episode.

saccade replay outputs/2026-01-31/12-00-00_eyesearch_ppo camera=top width=1280 height=720 render=quality
saccade replay policy=oracle env=reach web=true
saccade replay checkpoint=eyerobot/estop
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from omegaconf import DictConfig

from agents.config import load
from agents.device import one_thread
from agents.evaluate import load_policy, policy_config, refuse_beside_run, scripted
from agents.make import make_env
from agents.overlay import Overlay
from agents.provenance import cores
from agents.rollout import Episode, Record, rollout
from agents.run import Run, unused
from agents.shipped import with_run
from agents.show import bar, say
from agents.video import VideoWriter
from assets.errors import InvalidValueError

MOMENTS = 8  # of an episode that are drawn at once, at most


def main(arguments: Sequence[str]) -> Path | None:
    """Record episodes and show them, by overrides; a bare path means run=<path>."""
    arguments = [f"run={a}" if "=" not in a else a for a in arguments]
    asked = with_run(load("replay", arguments))
    refuse_beside_run(arguments, "env")
    for name in ("episodes", "width", "height"):
        if not isinstance(asked[name], int) or asked[name] < 1:
            raise InvalidValueError(f"{name} must be an integer >= 1, got {asked[name]!r}")
    episodes_wanted = int(asked.episodes)
    # The agent sees what it saw in training; the film has a profile of its own.
    config, look = policy_config(asked), str(asked.render.profile)
    shown: dict[str, Any] = {} if config.camera is None else {"camera": config.camera}
    if config.web:
        shown["render_mode"] = "human"

    def made(count: int) -> closing[VectorEnv[Any, Any, Any]]:
        return closing(make_env(config, count, "disabled", width=int(config.width), height=int(config.height), **shown))

    with made(episodes_wanted) as env:
        policy = (
            scripted(config.policy, env, int(config.seed))
            if config.policy is not None
            else load_policy(Run.open(config.run), env)[0]
        )
        seeds = [int(config.seed) + i for i in range(episodes_wanted)]
        say(f"recording {len(seeds)} episodes")
        with one_thread():
            episodes = rollout(env, policy, seeds, record=Record())
        if config.web:
            serve(env, episodes)
            return None
    # Its simulations are moments of one episode, of which each core draws another.
    with made(min(cores(), MOMENTS)) as env:
        return film(env, episodes, config, look)


def film(env: VectorEnv[Any, Any, Any], episodes: Sequence[Episode], config: DictConfig, look: str) -> Path:
    """Draw recorded episodes into one mp4 with a render profile `look`; returns its path."""
    out = _output(config)
    batch: Any = env.unwrapped
    fps = round(1 / batch.task.control_dt)
    camera = config.camera or batch.task.render_camera
    total = sum(e.length + 1 for e in episodes)
    with VideoWriter(out, fps) as video, bar("drawing", total) as progress:
        done = 0
        for episode in episodes:
            overlay = Overlay(episode, batch, camera) if config.overlays else None
            for t, (frame, obs, sim) in enumerate(frames(batch, episode, config, look)):
                video.add(overlay.draw(frame, obs, t, sim) if overlay else frame)
                done += 1
                progress(done, "")
    say(f"written: {out} ({total} frames, {fps} per second)")
    return out


def frames(
    batch: Any, episode: Episode, config: DictConfig, look: str
) -> Iterator[tuple[NDArray[np.uint8], dict[str, NDArray[Any]], int]]:
    """Pictures and observations of a recorded episode, drawn anew from its states, as many at once as there are simulations.

    Yields:
        (H, W, 3) uint8, the observation of one simulation, and which one it is, which is in that state until the next is asked
        for; T + 1 times.
    """
    n, last = batch.num_envs, episode.length
    for first in range(0, last + 1, n):
        moments = np.minimum(first + np.arange(n), last)
        obs = batch.restore({key: values[moments] for key, values in episode.snapshots.items()})
        shown = np.arange(min(n, last + 1 - first))
        pictures = batch.draw(config.camera, int(config.width), int(config.height), look=look, ids=shown)
        for sim in shown:
            yield pictures[sim], {key: value[sim] for key, value in obs.items()}, int(sim)


def _output(config: DictConfig) -> Path:
    if config.out:
        return unused(Path(config.out))
    if config.checkpoint:
        return unused(Path("outputs") / f"{str(config.checkpoint).replace('/', '_')}.mp4")
    return unused((Path(config.run) if config.run else Path("outputs")) / "replay.mp4")


def serve(env: VectorEnv[Any, Any, Any], episodes: Sequence[Episode], loops: int | None = None) -> None:
    """Play recorded states in MuJoCo Studio's web viewer, at their own speed, until interrupted (or `loops` times).

    Args:
        env: that the episodes were recorded in, made with render_mode="human".
        episodes: recorded, with snapshots.
        loops: how often; None for ever.
    """
    batch: Any = env.unwrapped
    played = 0
    try:
        while loops is None or played < loops:
            for episode in episodes:
                for t in range(episode.length + 1):
                    rows = {key: np.repeat(v[t][None], batch.num_envs, axis=0) for key, v in episode.snapshots.items()}
                    batch.physics.restore({k: v for k, v in rows.items() if k != "steps"})
                    batch.render()
                    time.sleep(batch.task.control_dt)
            played += 1
    except KeyboardInterrupt:
        say("closed")
