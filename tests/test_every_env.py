"""What every environment of the suite promises. Registering an id is all that it takes to be held to this."""

from __future__ import annotations

import copy
import functools
import json
import os
import pickle
import subprocess
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.env_checker import check_env as sb3_check_env

import envs  # noqa: F401  registers the ids
from envs.env import BatchEnv, make_task
from envs.registry import ENTRIES, Entry, ids

ROOT = Path(__file__).resolve().parents[1]
IDS = ids()
BY_ID = {entry.id: entry for entry in ENTRIES}
SEED = 123


def make_vec(env_id: str, num_envs: int, **kwargs: Any) -> Any:
    return gym.make_vec(env_id, num_envs=num_envs, vectorization_mode="vector_entry_point", **kwargs)


@contextmanager
def closing(env: Any) -> Iterator[Any]:
    try:
        yield env
    finally:
        env.close()


def assert_same(a: Any, b: Any) -> None:
    """Equal to the last bit, through dictionaries."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    else:
        np.testing.assert_array_equal(a, b)


def actions_for(env: Any, steps: int) -> list[np.ndarray]:
    size = env.unwrapped.action_space.shape[-1]
    return list(np.random.default_rng(7).uniform(-1, 1, (steps, size)).astype(np.float32))


def rollout(env: gym.Env[Any, Any], steps: int = 6, seed: int = SEED) -> list[Any]:
    """Observation, reward and ends of every step from a seed."""
    seen: list[Any] = [(env.reset(seed=seed)[0], 0.0, False, False)]
    seen += [env.step(action)[:4] for action in actions_for(env, steps)]
    return seen


def assert_same_rollout(a: list[Any], b: list[Any]) -> None:
    for (obs_a, *rest_a), (obs_b, *rest_b) in zip(a, b, strict=True):
        assert_same(obs_a, obs_b)
        assert rest_a == rest_b


# -- the contract ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", IDS)
def test_gymnasium_and_sb3_find_nothing_to_say(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with closing(gym.make(env_id, render_mode="rgb_array", width=32, height=24)) as env:
            # Rendering "human" starts a web server, which has a test of its own.
            check_env(env.unwrapped, skip_render_check=True)
            sb3_check_env(env.unwrapped, warn=True)


@pytest.mark.parametrize("env_id", IDS)
def test_the_spec_survives_json(env_id: str) -> None:
    with closing(gym.make(env_id, image_size=16)) as env:
        assert env.spec is not None
        told = env.spec.to_json()
        again = gym.envs.registration.EnvSpec.from_json(told)
        assert again.to_json() == told
        with closing(gym.make(again)) as copy_:
            assert copy_.observation_space == env.observation_space
            assert_same_rollout(rollout(env, 2), rollout(copy_, 2))


@pytest.mark.parametrize("env_id", IDS)
def test_observations_fit_their_space_and_share_no_memory(env_id: str) -> None:
    with closing(make_vec(env_id, 2)) as env:
        first, _ = env.reset(seed=0)
        kept = copy.deepcopy(first)
        second, *_ = env.step(env.action_space.sample())
        assert first in env.observation_space
        assert second in env.observation_space
        assert_same(first, kept)
        assert not any(np.shares_memory(first[key], second[key]) for key in first)


@pytest.mark.parametrize("env_id", IDS)
def test_info_says_what_happened(env_id: str) -> None:
    with closing(gym.make(env_id, observe=())) as env:
        _, info = env.reset(seed=0)
        assert set(info) >= {"success", "is_success", "physics_error", "instruction", "state", "timing", "start"}
        _, reward, _, _, info = env.step(env.action_space.sample())
        weights = env.unwrapped.task.reward().weights
        total = sum(weights[name] * value for name, value in info["reward_terms"].items())
        assert reward == pytest.approx(total, rel=1e-5, abs=1e-6)
        assert isinstance(info["instruction"], str)
        assert isinstance(info["success"], bool)
        assert info["timing"]["step"] == 1
        assert info["timing"]["time"] == pytest.approx(env.unwrapped.task.control_dt)
        assert sum(s.stop - s.start for s in env.unwrapped.action_slices.values()) == env.action_space.shape[0]


@pytest.mark.parametrize("env_id", IDS)
def test_any_part_of_the_start_can_be_set(env_id: str) -> None:
    with closing(gym.make(env_id, observe=())) as env:
        _, info = env.reset(seed=3)
        start, state = info["start"], info["state"]
        for options in (start, {key: start[key] for key in list(start)[:1]}):
            env.reset(seed=4)
            _, info = env.reset(seed=4, options=options)
            for key, value in options.items():
                np.testing.assert_allclose(info["start"][key], value)
        _, info = env.reset(seed=4, options=start)
        assert_same(info["state"], state)


# -- equal seeds, equal rollouts ---------------------------------------------------------------------------------------


DIGEST = """
import hashlib, sys, gymnasium as gym, numpy as np, envs
env = gym.make(sys.argv[1])
obs, _ = env.reset(seed=123)
digest = hashlib.sha256()
for action in [None, *np.random.default_rng(7).uniform(-1, 1, (6, *env.action_space.shape)).astype(np.float32)]:
    if action is not None:
        obs, reward, *_ = env.step(action)
        digest.update(np.float64(reward).tobytes())
    for key in sorted(obs):
        digest.update(obs[key].tobytes())
print(digest.hexdigest())
"""


def run(code: str, *args: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True, text=True, timeout=120, cwd=ROOT, env={**os.environ, **environ},
    )  # fmt: skip


@pytest.mark.parametrize("env_id", IDS)
def test_a_fresh_process_sees_the_same(env_id: str) -> None:
    outputs = []
    for hash_seed in ("1", "2"):  # the order of sets must not matter
        done = run(DIGEST, env_id, PYTHONHASHSEED=hash_seed)
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]


@pytest.mark.parametrize("env_id", IDS)
def test_a_used_environment_sees_the_same(env_id: str) -> None:
    with closing(gym.make(env_id)) as used, closing(gym.make(env_id)) as fresh:
        rollout(used, seed=99)
        assert_same_rollout(rollout(used), rollout(fresh))


@pytest.mark.parametrize("env_id", IDS)
def test_starts_vary(env_id: str) -> None:
    with closing(make_vec(env_id, 8, observe=())) as env:
        _, first = env.reset(seed=0)
        _, second = env.reset()
        for key, value in first["start"].items():
            if not key.startswith("_") and key != "angle":  # a door starts shut
                assert len({row.tobytes() for row in np.concatenate([value, second["start"][key]])}) == 16, key


@functools.cache
def big_batch(env_id: str, num_envs: int = 64, steps: int = 30) -> list[dict[str, np.ndarray]]:
    with closing(make_vec(env_id, num_envs, observe=())) as env:
        env.reset(seed=SEED)
        seen = []
        for action in actions_for(env, steps):
            env.step(np.repeat(action[None], num_envs, axis=0))
            seen.append(env.unwrapped.snapshot())
        return seen


@pytest.mark.parametrize("index", [0, 17, 63])
@pytest.mark.parametrize("env_id", IDS)
def test_alone_or_among_64_a_simulation_is_the_same(env_id: str, index: int) -> None:
    with closing(make_vec(env_id, 1, observe=(), first_index=index)) as env:
        env.reset(seed=SEED)
        for action, among in zip(actions_for(env, 30), big_batch(env_id), strict=True):
            env.step(action[None])
            alone = env.unwrapped.snapshot()
            assert_same({k: v[0] for k, v in alone.items()}, {k: v[index] for k, v in among.items()})


@pytest.mark.parametrize("env_id", IDS)
def test_pixels_do_not_depend_on_the_batch(env_id: str) -> None:
    with closing(gym.make(env_id)) as env:
        alone = rollout(env, 3)
    for threads in (1, 2):
        with closing(make_vec(env_id, 3, num_threads=threads)) as env:
            obs, _ = env.reset(seed=[5, SEED, 6])
            assert_same({k: v[1] for k, v in obs.items()}, alone[0][0])
            for action, (expected, *_) in zip(actions_for(env, 3), alone[1:], strict=True):
                obs, *_ = env.step(np.repeat(action[None], 3, axis=0))
                assert_same({k: v[1] for k, v in obs.items()}, expected)


# -- the task can be done ----------------------------------------------------------------------------------------------


def play(env: Any, policy: str, steps: int, seed: int, enough: float = np.inf) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) and success at any time (N,) of a policy; it is over once as many as are `enough` have succeeded."""
    env.reset(seed=seed)
    env.action_space.seed(seed)
    total, done = np.zeros(env.num_envs), np.zeros(env.num_envs, bool)
    for _ in range(steps):
        action = env.unwrapped.oracle() if policy == "oracle" else env.action_space.sample() * (policy == "random")
        _, reward, _, _, info = env.step(action)
        total += reward
        done |= info["success"]
        if done.sum() >= enough:
            break
    return total, done


CASES = [(entry, {}) for entry in ENTRIES] + [(BY_ID["Saccade/Reach-v0"], {"control": "joint"})]


@pytest.mark.parametrize(("entry", "options"), CASES, ids=lambda case: getattr(case, "name", str(case)))
def test_the_oracle_succeeds_and_out_earns_idling_and_random(entry: Entry, options: dict[str, Any]) -> None:
    steps = entry.max_episode_steps - 1  # one less than the limit, so that nothing is over before it is counted
    earned = {}
    for policy in ("oracle", "idle", "random"):
        with closing(make_vec(entry.id, 30, observe=(), autoreset_mode="disabled", **options)) as env:
            earned[policy] = play(env, policy, steps, 1000)
    ours, successes = earned.pop("oracle")
    # Seventy more episodes tell how often it succeeds, and need not be played to their ends once that is decided.
    with closing(make_vec(entry.id, 70, observe=(), autoreset_mode="disabled", **options)) as env:
        assert successes.sum() + play(env, "oracle", steps, 1030, 95 - successes.sum())[1].sum() >= 95
    for returns, successes in earned.values():
        assert successes.mean() <= 0.3
        assert np.mean(ours > returns) >= 0.9
        assert ours.mean() > 1.3 * returns.mean()


# -- recordings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", IDS)
def test_a_recorded_episode_replays_to_identical_pixels(env_id: str) -> None:
    with closing(gym.make(env_id)) as env:
        live, states = [env.reset(seed=SEED)[0]], [env.unwrapped.snapshot()]
        for action in actions_for(env, 5):
            live.append(env.step(action)[0])
            states.append(env.unwrapped.snapshot())
    with closing(gym.make(env_id)) as other:
        other.reset(seed=1)
        for state, seen in reversed(list(zip(states, live, strict=True))):
            replayed = other.unwrapped.restore(state)
            assert_same(replayed, seen)


@pytest.mark.parametrize("env_id", IDS)
def test_a_checkpoint_goes_on_as_if_nothing_had_happened(env_id: str) -> None:
    limit = 4
    with (
        closing(make_vec(env_id, 2, max_episode_steps=limit)) as env,
        closing(make_vec(env_id, 2, max_episode_steps=limit)) as other,
    ):
        env.reset(seed=SEED)
        actions = [np.repeat(a[None], 2, axis=0) for a in actions_for(env, 9)]
        for action in actions[:3]:
            env.step(action)
        arrays, rest = env.unwrapped.checkpoint()
        obs = other.unwrapped.resume(arrays, json.loads(json.dumps(rest)))
        assert_same(obs, {key.removeprefix("obs/"): v for key, v in arrays.items() if key.startswith("obs/")})
        for action in actions[3:]:  # over the end of the episode and into the next one
            a, b = env.step(action), other.step(action)
            assert_same(a[0], b[0])
            for k in (1, 2, 3):
                np.testing.assert_array_equal(a[k], b[k])


@pytest.mark.parametrize("drawn", [False, True])
@pytest.mark.parametrize("env_id", IDS)
def test_copies_continue_alike(env_id: str, drawn: bool) -> None:
    with closing(gym.make(env_id, observe=None if drawn else ())) as env:
        env.reset(seed=SEED)
        for again in (pickle.loads(pickle.dumps(env)), copy.deepcopy(env)):
            with closing(again):
                assert again.spec == env.spec
                before = env.unwrapped.snapshot()
                for action in actions_for(env, 2):
                    assert_same(env.step(action)[0], again.step(action)[0])
                env.unwrapped.restore(before)
    with closing(make_vec(env_id, 2, observe=())) as batch:
        never_reset = pickle.loads(pickle.dumps(batch))
        with closing(never_reset):
            assert_same(batch.reset()[0], never_reset.reset()[0])  # the same streams, unseeded as they are


# -- rendering ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("width", "height"), [(1, 1), (33, 21), (160, 120)])
@pytest.mark.parametrize("env_id", IDS)
def test_every_picture_has_its_size(env_id: str, width: int, height: int) -> None:
    for mode, shape, dtype in (("rgb_array", (height, width, 3), np.uint8), ("depth_array", (height, width), np.float32)):
        with closing(gym.make(env_id, render_mode=mode, width=width, height=height, observe=())) as env:
            env.reset(seed=0)
            frame = env.render()
            assert isinstance(frame, np.ndarray)
            assert frame.shape == shape
            assert frame.dtype == dtype
            if width > 1:
                assert np.ptp(frame) > 0.1
        with closing(make_vec(env_id, 2, render_mode=mode, width=width, height=height, observe=())) as env:
            env.reset(seed=0)
            frames = env.render()
            assert len(frames) == 2
            assert frames[0].shape == shape
    assert env.metadata["render_fps"] == round(1 / env.unwrapped.task.control_dt)


@pytest.mark.parametrize("env_id", IDS)
def test_only_observed_cameras_are_drawn_and_once_per_step(env_id: str) -> None:
    offered = make_task(BY_ID[env_id].task, dict(BY_ID[env_id].options)).views(None)
    for observe in ((), (offered[0].name,), None):
        cameras = len(offered) if observe is None else len(observe)
        with closing(make_vec(env_id, 3, observe=observe, modalities=("rgb", "depth"))) as env:
            env.reset(seed=0)
            for _ in range(4):
                env.step(env.action_space.sample())
            assert env.unwrapped.draws == (1 + 4) * 3 * cameras


# -- episodes that end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", IDS)
def test_the_time_limit_truncates(env_id: str) -> None:
    limit = BY_ID[env_id].max_episode_steps
    with closing(gym.make(env_id, observe=())) as one, closing(make_vec(env_id, 2, observe=())) as many:
        one.reset(seed=0)
        many.reset(seed=0)
        for step in range(1, limit + 1):
            *_, terminated, truncated, _ = one.step(np.zeros(one.action_space.shape, np.float32))
            assert (terminated, truncated) == (False, step == limit)
            *_, terminated, truncated, _ = many.step(np.zeros(many.action_space.shape, np.float32))
            assert not terminated.any()
            assert truncated.tolist() == [step == limit] * 2


def keyed(info: dict[str, Any]) -> set[str]:
    return {key for key in info if not key.startswith("_")}


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("env_id", IDS)
def test_autoreset_is_gymnasiums(env_id: str, mode: AutoresetMode) -> None:
    """The same seeds, actions and limits, through our batch and through Gymnasium's loop over single environments."""
    limit, seeds = 3, [11, 12]

    def single() -> gym.Env[Any, Any]:
        return gym.make(env_id, observe=(), max_episode_steps=limit)

    with (
        closing(make_vec(env_id, 2, observe=(), max_episode_steps=limit, autoreset_mode=mode)) as ours,
        closing(SyncVectorEnv([single] * 2, autoreset_mode=mode)) as theirs,
    ):
        assert ours.metadata["autoreset_mode"] is mode
        a, b = ours.reset(seed=seeds), theirs.reset(seed=seeds)
        assert_same(a[0], dict(b[0]))
        for k, action in enumerate(actions_for(ours, 8)):
            both = np.repeat(action[None], 2, axis=0)
            a, b = ours.step(both), theirs.step(both)
            assert_same(a[0], dict(b[0]))
            np.testing.assert_allclose(a[1], b[1], rtol=1e-6)
            np.testing.assert_array_equal(a[2], b[2])
            np.testing.assert_array_equal(a[3], b[3])
            assert keyed(a[4]) == keyed(b[4]), k
            for key in keyed(a[4]):
                np.testing.assert_array_equal(a[4][f"_{key}"], b[4][f"_{key}"], err_msg=f"{key} at step {k}")
            assert_same(a[4]["state"], b[4]["state"])
            if "final_obs" in a[4]:
                for i in range(2):
                    assert_same(a[4]["final_obs"][i], dict(b[4]["final_obs"][i]))
                assert_same(a[4]["final_info"]["state"], b[4]["final_info"]["state"])
                assert keyed(a[4]["final_info"]) == keyed(b[4]["final_info"])


@pytest.mark.parametrize("env_id", IDS)
def test_without_autoreset_only_the_mask_starts_anew(env_id: str) -> None:
    with closing(make_vec(env_id, 3, observe=(), max_episode_steps=4, autoreset_mode="disabled")) as env:
        env.reset(seed=0)
        zero = np.zeros(env.action_space.shape, np.float32)
        for _ in range(2):
            env.step(zero)
        before = env.unwrapped.snapshot()
        obs, info = env.reset(options={"reset_mask": np.array([False, True, False])})
        after = env.unwrapped.snapshot()
        np.testing.assert_array_equal(before["state"][[0, 2]], after["state"][[0, 2]])
        assert info["timing"]["step"].tolist() == [2, 0, 2]
        assert info["_start"].tolist() == [False, True, False]
        assert obs in env.observation_space
        for expected in ([False] * 3, [True, False, True], [True, False, True], [True] * 3):
            assert env.step(zero)[3].tolist() == expected  # goes on saying so until it is reset


# -- what is left behind -----------------------------------------------------------------------------------------------


LEAK = """
import gc, os, sys, threading, gymnasium as gym, envs
from pathlib import Path
def held():
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, len(os.listdir("/proc/self/fd")), threading.active_count()
def use(times):
    for k in range(times):
        env = gym.make(sys.argv[1 + k % (len(sys.argv) - 1)])
        env.reset(seed=0)
        env.step(env.action_space.sample())
        env.close()
use(8)
marks = [held()]
for _ in range(2):
    use(50)
    marks.append(held())
# An allocator's arena, once grown by chance, stays: it counts in one of the fifties, a leak would count in both.
print(*(min(b - a for a, b in zip(m, m[1:])) for m in zip(*marks)))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_fifty_environments_leave_nothing() -> None:
    done = run(LEAK, *IDS)
    assert done.returncode == 0, done.stderr
    megabytes, files, threads = map(float, done.stdout.split())
    assert megabytes < 20
    assert (files, threads) == (0, 0)


MEMORY = """
import os, sys, gymnasium as gym, numpy as np, envs
from pathlib import Path
def rss(): return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
def made(n):
    env = gym.make_vec(sys.argv[1], num_envs=n, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    for _ in range(3):
        env.step(np.zeros(env.action_space.shape, np.float32))
    return env
warm = made(2)
before = rss()
many = made(66)
print((rss() - before) / 66)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("env_id", IDS)
def test_a_simulation_more_costs_less_than_five_megabytes(env_id: str) -> None:
    done = run(MEMORY, env_id)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 5


EXIT = """
import sys, gymnasium as gym, envs
env = gym.make(sys.argv[1], render_mode="rgb_array", width=16, height=16)
batch = gym.make_vec(sys.argv[1], num_envs=2, vectorization_mode="vector_entry_point")
for e in (env, batch):
    e.reset(seed=0)
    e.step(e.action_space.sample())
    e.render() if e is env else None
if sys.argv[2] == "close":
    env.close()
    env.close()
    batch.close()
if sys.argv[2] == "raise":
    raise SystemExit(0)
"""


@pytest.mark.parametrize("how", ["close", "leave", "raise"])
def test_the_interpreter_exits_silently(how: str) -> None:
    done = run(EXIT, IDS[0], how)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", "")


def test_importing_is_quick_and_touches_no_simulator() -> None:
    code = (
        "import sys, time, gymnasium; t = time.perf_counter(); import envs; t = time.perf_counter() - t; "
        "heavy = [m for m in ('mujoco', 'OpenGL', 'torch', 'cv2') if m in sys.modules]; print(t, heavy)"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=True
    )
    seconds, heavy = done.stdout.split(" ", 1)
    assert done.stderr == ""
    assert float(seconds) < 1
    assert heavy.strip() == "[]"


def test_the_batch_is_the_only_vector_environment() -> None:
    with closing(make_vec(IDS[0], 2, observe=())) as env:
        assert isinstance(env.unwrapped, BatchEnv)
