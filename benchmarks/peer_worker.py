"""One subject of the peers benchmark in a process of its own.

Started by `benchmarks.peers` as `python -P peer_worker.py NAME VARIANT SEED`, in the interpreter that holds the peer, so it
imports nothing of the suite but for the subject "saccade". It answers JSON lines: first {"ready", "versions"}, then
{"value"} for each {"measure": seconds}; {"close"} ends it. A value is env steps per second, or for the variant "overhead" a
ratio of times.

Actions are uniform within the action space, drawn before the clock starts and repeated in turn, for every subject alike.
Resets happen when episodes end and are timed. A variant is "state", or the side of a square image in pixels, "84", with
"_fast" behind it for a peer's renderer with multisampling, shadows and reflections off.
"""

from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]
Make = Callable[[int, bool, int], "Subject"]

WARM_UP_STEPS = 20
ACTIONS = 256
SACCADE_ENVS = 16
OVERHEAD_ENVS = 64
OVERHEAD_BLOCK = 25  # control steps of one side before the other has its turn


class Subject(NamedTuple):
    """What is measured.

    Args:
        step: one call; takes an action, resets when an episode ends, returns the image drawn, or None without a camera.
        actions: (ACTIONS, ...) the actions in turn.
        sims: env steps that one call makes.
    """

    step: Callable[[NDArray[Any]], Image | None]
    actions: NDArray[Any]
    sims: int


def uniform_actions(low: Any, high: Any, seed: int) -> NDArray[Any]:
    """ACTIONS draws within the bounds, in the bounds' dtype, unbounded sides taken as -1 and 1."""
    low_, high_ = np.nan_to_num(low, neginf=-1.0), np.nan_to_num(high, posinf=1.0)
    drawn = np.random.default_rng(seed).uniform(low_, high_, size=(ACTIONS, *np.shape(low)))
    return drawn.astype(np.asarray(low).dtype)


# -- the peers: `size` is the image's side in pixels, 0 for none ---------------------------------------------------------


def gymnasium_robotics(size: int, fast: bool, seed: int) -> Subject:
    """FetchPickAndPlace-v4, drawn by env.render()."""
    gymnasium = importlib.import_module("gymnasium")
    gymnasium.register_envs(importlib.import_module("gymnasium_robotics"))
    return _gymnasium(gymnasium, "FetchPickAndPlace-v4", {}, size, fast, seed)


def metaworld(size: int, fast: bool, seed: int) -> Subject:
    """reach-v3 of MT1, drawn by env.render()."""
    gymnasium = importlib.import_module("gymnasium")
    importlib.import_module("metaworld")
    return _gymnasium(gymnasium, "Meta-World/MT1", {"env_name": "reach-v3", "seed": seed}, size, fast, seed)


def _gymnasium(gymnasium: Any, env_id: str, options: dict[str, Any], size: int, fast: bool, seed: int) -> Subject:
    pixels: dict[str, Any] = {"render_mode": "rgb_array", "width": size, "height": size} if size else {}
    env = gymnasium.make(env_id, **options, **pixels)
    env.reset(seed=seed)
    if fast:
        _fast_gymnasium(env.unwrapped)

    def step(action: NDArray[Any]) -> Image | None:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
        return env.render() if size else None

    return Subject(step, uniform_actions(env.action_space.low, env.action_space.high, seed), 1)


def _fast_gymnasium(env: Any) -> None:
    """Before the first frame: samples are allocated with the context, flags belong to the scene that is kept."""
    env.model.vis.quality.offsamples = 0
    _flags_off(env.mujoco_renderer._get_viewer("rgb_array").scn)


def _flags_off(scene: Any) -> None:
    flags = importlib.import_module("mujoco").mjtRndFlag
    scene.flags[flags.mjRND_SHADOW] = 0
    scene.flags[flags.mjRND_REFLECTION] = 0


def dm_control(size: int, fast: bool, seed: int) -> Subject:
    """Manipulator, bring_ball, drawn by physics.render() from camera 0."""
    env: Any = importlib.import_module("dm_control.suite").load("manipulator", "bring_ball", task_kwargs={"random": seed})
    env.reset()
    drawing: dict[str, Any] = {"camera_id": 0}
    if fast:
        env.physics.model.vis.quality.offsamples = 0
        drawing["render_flag_overrides"] = {"shadow": False, "reflection": False}

    def step(action: NDArray[Any]) -> Image | None:
        if env.step(action).last():
            env.reset()
        return env.physics.render(size, size, **drawing) if size else None

    spec = env.action_spec()
    low, high = np.broadcast_to(spec.minimum, spec.shape), np.broadcast_to(spec.maximum, spec.shape)
    return Subject(step, uniform_actions(low, high, seed), 1)


def robosuite(size: int, fast: bool, seed: int) -> Subject:
    """Lift with a Panda at 20 Hz; the camera "agentview" is part of the observation.

    A reset makes a new GL context. When the collector later frees what the old one held, it deletes what the new one draws
    with, and images are uninitialised memory from then on, drawn in no time. So the old one is emptied before a reset, and
    every step makes sure that there is something to draw with.
    """
    camera: dict[str, Any] = {"camera_names": "agentview", "camera_heights": size, "camera_widths": size} if size else {}
    env: Any = importlib.import_module("robosuite").make(
        "Lift",
        robots="Panda",
        has_renderer=False,
        has_offscreen_renderer=bool(size),
        use_camera_obs=bool(size),
        control_freq=20,
        seed=seed,
        **camera,
    )
    if fast:
        env.set_xml_processor(_without_samples)

    def reset() -> None:
        if size:
            _make_current(env)
            env.sim._render_context_offscreen.con.free()
        env.reset()
        if size:
            gc.collect()
            _make_current(env)
        if fast:
            _flags_off(env.sim._render_context_offscreen.scn)  # a reset makes a new scene

    def step(action: NDArray[Any]) -> Image | None:
        observation, _, done, _ = env.step(action)
        if size:
            _require_framebuffer(env)
        if done:
            reset()
        return observation["agentview_image"] if size else None

    reset()
    low, high = env.action_spec
    return Subject(step, uniform_actions(low, high, seed), 1)


def _make_current(env: Any) -> None:
    env.sim._render_context_offscreen.gl_ctx.make_current()


def _require_framebuffer(env: Any) -> None:
    gl, egl = importlib.import_module("OpenGL.GL"), importlib.import_module("OpenGL.EGL")
    try:
        there = egl.eglGetCurrentContext() and gl.glIsFramebuffer(env.sim._render_context_offscreen.con.offFBO)
    except gl.GLError as error:  # raised for drawing that failed before, too
        raise RuntimeError(f"robosuite's drawing failed, so its images hold nothing: {error}") from error
    if not there:
        raise RuntimeError("robosuite's framebuffer is gone, so its images hold nothing")


def _without_samples(xml: str) -> str:
    """The model's XML with multisampling of offscreen buffers off."""
    trees = importlib.import_module("xml.etree.ElementTree")
    root = trees.fromstring(xml)
    _child(trees, _child(trees, root, "visual"), "quality").set("offsamples", "0")
    return trees.tostring(root, encoding="unicode")


def _child(trees: Any, parent: Any, tag: str) -> Any:
    found = parent.find(tag)
    return trees.SubElement(parent, tag) if found is None else found


def saccade(size: int, fast: bool, seed: int) -> Subject:
    """Saccade/Reach-v0, SACCADE_ENVS simulations in one vector env; the camera is part of the observation."""
    del fast
    options: dict[str, Any] = {"image_size": size, "profile": "fast"} if size else {"observe": ()}
    env = _saccade_env(SACCADE_ENVS, seed, options)

    def step(action: NDArray[Any]) -> Image | None:
        observation = env.step(action)[0]
        return _only_image(observation, size) if size else None

    return Subject(step, uniform_actions(env.action_space.low, env.action_space.high, seed), SACCADE_ENVS)


def _saccade_env(num_envs: int, seed: int, options: dict[str, Any]) -> Any:
    gymnasium = importlib.import_module("gymnasium")
    importlib.import_module("envs")
    env = gymnasium.make_vec("Saccade/Reach-v0", num_envs=num_envs, vectorization_mode="vector_entry_point", **options)
    env.reset(seed=seed)
    return env


def _only_image(observation: Any, size: int) -> Image:
    """The one (N, size, size, 3) uint8 array of an observation; more or fewer would be another measurement."""
    found = [leaf for leaf in _leaves(observation) if leaf.dtype == np.uint8 and leaf.ndim == 4]
    if len(found) != 1 or found[0].shape[1:] != (size, size, 3):
        shapes = [leaf.shape for leaf in found] or "none"
        raise ValueError(f"the observation must hold one image of (N, {size}, {size}, 3) uint8; found {shapes}")
    return found[0]


def _leaves(observation: Any) -> Iterator[NDArray[Any]]:
    if isinstance(observation, dict):
        for value in cast("dict[str, Any]", observation).values():
            yield from _leaves(value)
    elif isinstance(observation, np.ndarray):
        yield cast("NDArray[Any]", observation)


# -- measuring ---------------------------------------------------------------------------------------------------------


def stepper(subject: Subject) -> Callable[[float], float]:
    """Warm the subject up and return its measurement: seconds -> env steps per second."""
    actions = itertools.cycle(subject.actions)
    _check_images([subject.step(next(actions)) for _ in range(WARM_UP_STEPS)])

    def measure(seconds: float) -> float:
        steps, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds or not steps:
            subject.step(next(actions))
            steps += subject.sims
        return steps / elapsed

    return measure


def _check_images(images: list[Image | None]) -> None:
    """A blank or frozen image means that nothing was drawn, and its speed would mean nothing."""
    first, last = images[0], images[-1]
    if first is None or last is None:
        return
    if not np.ptp(last):
        raise ValueError(f"the camera drew a blank image: all {last.size} values are {last.flat[0]}")
    if all(image is not None and np.array_equal(image, last) for image in images):
        raise ValueError(f"the camera drew the same image over {len(images)} steps of random actions")


def overhead(seed: int) -> Callable[[float], float]:
    """The suite's cost above the physics: seconds -> time of a control step over that of a bare batch loop.

    Both sides have OVERHEAD_ENVS simulations of the same compiled model on as many threads, no cameras, and take turns of
    OVERHEAD_BLOCK control steps. The bare loop starts each turn from the states where the env's turn started and writes the
    very controls that the env wrote for its random actions, so both simulate the same motion; resets fall in the env's time.
    """
    env = _saccade_env(OVERHEAD_ENVS, seed, {"observe": ()})
    actions = itertools.cycle(uniform_actions(env.action_space.low, env.action_space.high, seed))
    physics: Any = env.unwrapped.physics
    nstep = int(env.unwrapped.nstep)
    bare: Any = importlib.import_module("mujoco.batch").Batch(physics.model, OVERHEAD_ENVS, physics.batch.nthread)
    bare_control, control = bare.bind("ctrl"), physics.batch.bind("ctrl")
    written = np.empty((OVERHEAD_BLOCK, *control.shape))

    def env_block() -> float:
        start = time.perf_counter()
        for k in range(OVERHEAD_BLOCK):
            env.step(next(actions))
            written[k] = control
        return time.perf_counter() - start

    def bare_block() -> float:
        start = time.perf_counter()
        for k in range(OVERHEAD_BLOCK):
            bare_control[:] = written[k]
            bare.step(None, nstep)
        return time.perf_counter() - start

    def measure(seconds: float) -> float:
        ours, bares = 0.0, 0.0
        while ours + bares < seconds or not bares:
            bare.state[:] = physics.batch.state
            ours += env_block()
            bares += bare_block()
        return ours / bares

    measure(0.0)
    return measure


# -- the process -------------------------------------------------------------------------------------------------------

MAKERS: dict[str, Make] = {
    "gymnasium-robotics": gymnasium_robotics,
    "dm_control": dm_control,
    "robosuite": robosuite,
    "metaworld": metaworld,
    "saccade": saccade,
}
PACKAGES = {"gymnasium-robotics": "gymnasium-robotics", "dm_control": "dm-control"}


def measurement(name: str, variant: str, seed: int) -> Callable[[float], float]:
    """The measurement of a subject's variant, warmed up: "state", "84", "84_fast", ..., or saccade's "overhead"."""
    if name not in MAKERS:
        raise ValueError(f"unknown subject {name!r}: available: {', '.join(MAKERS)}")
    if variant == "overhead":
        return overhead(seed)
    size, _, fast = variant.partition("_")
    return stepper(MAKERS[name](0 if size == "state" else int(size), bool(fast), seed))


def versions(name: str) -> dict[str, str]:
    """Versions of the subject and of the MuJoCo beneath it."""
    packages = ["mujoco"] if name == "saccade" else [PACKAGES.get(name, name), "mujoco"]
    return {package: metadata.version(package) for package in packages}


def main(argv: list[str]) -> None:
    """Serve measurements until told to close; standard output carries nothing but the answers."""
    name, variant, seed = argv
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    measure = measurement(name, variant, int(seed))
    answers.write(json.dumps({"ready": True, "versions": versions(name)}) + "\n")
    for line in sys.stdin:
        order = json.loads(line)
        if "close" in order:
            break
        answers.write(json.dumps({"value": measure(float(order["measure"]))}) + "\n")
    answers.flush()
    os._exit(0)  # some peers raise within their interpreter's exit; the process holds nothing else


if __name__ == "__main__":
    main(sys.argv[1:])
