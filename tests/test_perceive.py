"""Perception in the observation: what is asked, when it arrives, how old it is, and what episodes' ends do to it."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from numpy.typing import NDArray

from assets.errors import InvalidValueError, UnknownNameError
from envs.perceive import Perceive, VectorPerceive
from perception.text import noun_phrase
from perception.vlm.base import Detections
from perception.vlm.colour import Colour

DT = 1 / 15


class Mean:
    """Embeds and describes a picture by its mean brightness, and counts what it is asked."""

    size = 3

    def __init__(self) -> None:
        self.asked: list[int] = []

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        self.asked.append(len(images))
        return images.mean(axis=(1, 2), dtype=np.float32)

    def answer(self, images: NDArray[np.uint8], prompts: list[str]) -> list[str]:
        assert prompts == ["Describe the picture."] * len(images)
        return [f"{image.mean():.3f}" for image in images]


class Everything(Mean, Colour):
    """All that can be asked."""

    def __init__(self) -> None:
        Mean.__init__(self)
        Colour.__init__(self)


def make(num: int = 3, mode: str = "same_step", **options: Any) -> Any:
    """EyeSearch with few pixels."""
    return gym.make_vec(
        "envs:Saccade/EyeSearch-v0", num_envs=num, vectorization_mode="vector_entry_point", autoreset_mode=mode,
        resolution=32, fovs=[62.3], **options,
    )  # fmt: skip


def run(env: Any, steps: int, seed: int = 0) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Observations and infos of a reset and of random steps."""
    env.action_space.seed(seed)
    out = [env.reset(seed=seed)]
    for _ in range(steps):
        obs, _, _, _, info = env.step(env.action_space.sample())
        out.append((obs, info))
    env.close()
    return out


def test_the_box_is_the_backends_own_as_shares_of_the_picture() -> None:
    env = VectorPerceive(make(8), Colour())
    assert env.single_observation_space["box"].shape == (4,)
    hits = 0
    for obs, info in run(env, 12):
        assert all(space.contains(obs[key]) for key, space in env.observation_space.items())  # type: ignore[attr-defined]
        for i, found in enumerate(Colour().ground(obs["eye_0"], [noun_phrase(t) for t in info["instruction"]])):
            assert obs["found"][i, 0] == (len(found) > 0)
            if len(found):
                hits += 1
                np.testing.assert_allclose(obs["box"][i] * 32, found.boxes[found.best or 0], atol=1e-4)
            else:
                assert not obs["box"][i].any()
        assert np.all(obs["age"] == 0)
    assert hits > 10
    assert env.perceiver.latency_s > 0


@pytest.mark.parametrize(("every", "delay"), [(1, 2), (3, 0), (2, 5), (4, 3)])
def test_an_answer_is_what_was_asked_so_many_steps_ago(every: int, delay: int) -> None:
    plain = run(VectorPerceive(make(), Mean(), box=False, embedding=True, caption=True), 70)
    backend = Mean()
    late = run(VectorPerceive(make(), backend, box=False, embedding=True, caption=True, every=every, delay=delay), 70)
    for t, (obs, info) in enumerate(late):
        asked = (t - delay) // every * every
        if asked < 0:
            assert np.all(obs["age"] == -1)
            assert not obs["embedding"].any()
            assert list(info["caption"]) == [""] * 3
        else:
            np.testing.assert_allclose(obs["age"], (t - asked) * DT, atol=1e-6)
            np.testing.assert_array_equal(obs["embedding"], plain[asked][0]["embedding"])
            assert list(info["caption"]) == list(plain[asked][1]["caption"])
    assert len(backend.asked) == 70 // every + 1
    assert set(backend.asked) == {3}


def test_a_new_episode_knows_nothing_of_the_last() -> None:
    env = VectorPerceive(make(2), Mean(), box=False, embedding=True, delay=4)
    told = run(env, 80)
    ends = [t for t, (_, info) in enumerate(told) if "final_obs" in info]
    assert ends == [75]
    obs, info = told[75]
    assert np.all(obs["age"] == -1)
    assert not obs["embedding"].any()
    for i in range(2):
        final = info["final_obs"][i]
        assert env.single_observation_space.contains(final)
        np.testing.assert_array_equal(final["embedding"], told[74][0]["embedding"][i])
        np.testing.assert_allclose(final["age"], 5 * DT, atol=1e-6)
    assert np.all(told[78][0]["age"] == -1)
    np.testing.assert_allclose(told[79][0]["age"], 4 * DT, atol=1e-6)


def test_episodes_that_begin_at_different_times_do_not_mix() -> None:
    env = VectorPerceive(make(3, "disabled"), Mean(), box=False, embedding=True, every=2, delay=1)
    env.action_space.seed(0)
    env.reset(seed=0)
    for _ in range(4):
        env.step(env.action_space.sample())
    obs, _ = env.reset(options={"reset_mask": np.array([False, True, False])})
    assert obs["age"][1, 0] == -1
    assert obs["age"][0, 0] >= 0
    obs, *_ = env.step(env.action_space.sample())
    np.testing.assert_allclose(obs["age"][1, 0], DT, atol=1e-6)  # asked at its own first step, known one later
    env.close()


@pytest.mark.filterwarnings("ignore:.*different from the unwrapped version", "ignore:.*value is -?infinity")
def test_one_simulation_sees_what_the_first_of_a_batch_sees() -> None:
    batch = run(VectorPerceive(make(1), Everything(), embedding=True, caption=True, every=2, delay=1), 10)
    env = Perceive(
        gym.make("envs:Saccade/EyeSearch-v0", resolution=32, fovs=[62.3]),
        Everything(),
        embedding=True,
        caption=True,
        every=2,
        delay=1,
    )
    many = make(1)
    many.action_space.seed(0)
    one = [env.reset(seed=0)]
    for _ in range(10):
        obs, _, _, _, info = env.step(many.action_space.sample()[0])
        one.append((obs, info))
    for (mine, info), (theirs, infos) in zip(one, batch, strict=True):
        for key in ("box", "found", "embedding", "age"):
            np.testing.assert_array_equal(mine[key], theirs[key][0])
        assert info["caption"] == infos["caption"][0]
    many.close()
    check_env(env, skip_render_check=True)


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = (run(VectorPerceive(make(), Colour(), delay=1), 20, seed=5) for _ in range(2))
    for (a, _), (b, _) in zip(first, second, strict=True):
        assert {k: v.tobytes() for k, v in a.items()} == {k: v.tobytes() for k, v in b.items()}


def test_a_backend_that_finds_only_a_point_found_no_box() -> None:
    class Pointing:
        def ground(self, images: NDArray[np.uint8], phrases: list[str]) -> list[Detections]:
            one = Detections(np.full((1, 4), np.nan, np.float32), np.ones((1, 2), np.float32), ("x",), np.ones(1, np.float32))
            return [one] * len(phrases)

    (obs, _), *_ = run(VectorPerceive(make(), Pointing()), 0)
    assert not obs["found"].any()


def test_refusals() -> None:
    env = make()
    for settings, message in (
        ({"every": 0}, "every must be >= 1 control step and delay >= 0, got 0 and 0"),
        ({"delay": -1}, "got 1 and -1"),
        ({"box": False}, "asked nothing"),
        ({"caption": True}, "Colour cannot write captions: that needs a Answerer"),
    ):
        with pytest.raises(InvalidValueError, match=message):
            VectorPerceive(env, Colour(), **settings)
    with pytest.raises(UnknownNameError, match=r"unknown picture among the observations 'eye_9': did you mean 'eye_0'"):
        VectorPerceive(env, Colour(), camera="eye_9")
    with pytest.raises(InvalidValueError, match="has 'age' already"):
        VectorPerceive(VectorPerceive(env, Colour()), Colour())
    env.close()
    blind = gym.make_vec("CartPole-v1", num_envs=1)
    with pytest.raises(InvalidValueError, match="needs a picture among the observations"):
        VectorPerceive(blind, Colour())
    blind.close()


@pytest.mark.parametrize(
    ("told", "about"),
    [
        ("find the purple mug", "the purple mug"),
        ("Open the cabinet.", "the cabinet"),
        ("touch an apple", "an apple"),
        ("find theatre", "find theatre"),
    ],
)
def test_what_an_instruction_is_about(told: str, about: str) -> None:
    assert noun_phrase(told) == about
