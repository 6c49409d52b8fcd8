"""Panoramas: where directions lie, what an eye sees in them, cubes unfolded, and that the eye's own camera sees the same."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from assets.errors import InvalidValueError
from envs.env import BatchEnv
from envs.eye import FOVEAL_PYRAMID
from perception.sphere import CUBE, CubeMap, Foveator, directions_of, pixels_of, psnr, pyramid_rays

WIDTH = 256


@cache
def picture(width: int = WIDTH) -> NDArray[np.uint8]:
    """Colours that change slowly with the direction: red ahead, green to the left, blue above."""
    return np.round(127.5 + 127 * directions_of(width)).astype(np.uint8)


@cache
def foveator(projection: str = "pinhole", step: float = 0.5) -> Foveator:
    return Foveator(WIDTH, pyramid_rays(FOVEAL_PYRAMID, 16, projection), step=step)


def test_every_pixel_shows_the_direction_that_lies_in_it() -> None:
    grid = np.stack(np.meshgrid(np.arange(WIDTH), np.arange(WIDTH // 2)), axis=-1)
    np.testing.assert_allclose(pixels_of(directions_of(WIDTH), WIDTH), grid, atol=1e-9)


@given(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(0.1, 10))
def test_conventions(azimuth: float, elevation: float, length: float) -> None:
    cos = np.cos(elevation)
    d = length * np.array([cos * np.cos(azimuth), cos * np.sin(azimuth), np.sin(elevation)])
    u, v = pixels_of(d, 360)
    assert u == pytest.approx(179.5 - np.degrees(azimuth), abs=1e-6)
    assert v == pytest.approx(89.5 - np.degrees(elevation), abs=1e-6)


@given(st.floats(-2.2, 2.2), st.floats(-0.5, 0.5))
def test_the_middle_of_a_view_is_where_the_gaze_points(azimuth: float, elevation: float) -> None:
    seen = foveator().look(picture(), np.array([azimuth, elevation]))
    cos = np.cos(elevation)
    ahead = 127.5 + 127 * np.array([cos * np.cos(azimuth), cos * np.sin(azimuth), np.sin(elevation)])
    np.testing.assert_allclose(seen[0, 7:9, 7:9].mean(axis=(0, 1)), ahead, atol=4)


def test_left_is_left_and_up_is_up() -> None:
    wide = foveator().look(picture(), np.zeros(2))[2].astype(int)
    assert wide[8, 0, 1] > wide[8, -1, 1] + 100  # green lies to the left
    assert wide[0, 8, 2] > wide[-1, 8, 2] + 100  # blue above


@given(st.floats(-2.2, 2.2), st.floats(-0.5, 0.5))
def test_maps_in_between_are_exact_enough(azimuth: float, elevation: float) -> None:
    gaze = np.array([azimuth, elevation])
    coarse, fine = foveator().maps(gaze), foveator(step=0.05).maps(gaze)
    far = np.abs(coarse[1] - (WIDTH // 4 - 0.5)) < WIDTH * 80 / 360  # within 80 degrees of the horizon
    assert np.abs((coarse[0] - fine[0] + WIDTH / 2) % WIDTH - WIDTH / 2)[far].max() < 0.02
    assert np.abs(coarse[1] - fine[1])[far].max() < 0.02


@pytest.mark.parametrize("projection", ["pinhole", "fisheye"])
def test_torch_sees_the_same(projection: str) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (3, WIDTH // 2, WIDTH, 3), dtype=np.uint8)
    gaze = np.array([[-2.2, 0.5], [0.0, 0.013], [2.1, -0.5]])
    one = np.stack([foveator(projection).look(p, g) for p, g in zip(noise, gaze, strict=True)])
    many = foveator(projection).look_many(torch.from_numpy(noise), torch.from_numpy(gaze)).numpy()
    assert psnr(one, many) >= 40


def test_a_fisheye_is_black_beyond_its_sensor() -> None:
    seen = foveator("fisheye").look(np.full((WIDTH // 2, WIDTH, 3), 200, np.uint8), np.zeros(2))
    assert np.mean(seen[2] == 0) == pytest.approx(0.375, abs=0.07)  # 1200 of 1920 rows
    assert (seen[:2] == 200).all()


@pytest.mark.parametrize(
    ("levels", "crops"), [((17.3, 62.3, 116.1), (320, 1120, 1920)), ((12.1, 43.2, 76.4, 116.1), (224, 789, 1354, 1920))]
)
def test_crops_have_the_published_fields_of_view(levels: tuple[float, ...], crops: tuple[int, ...]) -> None:
    rays = pyramid_rays(levels, 256, "fisheye")
    for ray, crop in zip(rays, crops, strict=True):
        row = ray[127:129].mean(axis=0)
        row = row[np.isfinite(row).all(axis=1)]
        across = np.degrees(np.arctan2(row[-1, 0], row[-1, 2]) - np.arctan2(row[0, 0], row[0, 2])) * 256 / 255
        assert across == pytest.approx(levels[crops.index(crop)], abs=0.5)


def test_two_foveators_in_one_process_do_not_mix() -> None:
    narrow, wide = Foveator(WIDTH, pyramid_rays((20.0,), 8)), Foveator(WIDTH, pyramid_rays((90.0,), 12))
    gaze = np.array([0.3, 0.1])
    before = narrow.look(picture(), gaze)
    assert wide.look(picture(), gaze).shape == (1, 12, 12, 3)
    np.testing.assert_array_equal(narrow.look(picture(), gaze), before)


def test_a_cube_unfolds_to_what_its_faces_show() -> None:
    side = 96
    faces = np.stack(
        [Foveator(1024, pyramid_rays((90.0,), side), 90).look(picture(1024), np.radians(a))[0] for a in CUBE.values()]
    )
    assert psnr(CubeMap(WIDTH, side).unfold(faces), picture()) > 45


@pytest.fixture(scope="module")
def scene() -> tuple[BatchEnv, dict[str, Any]]:
    env = BatchEnv("envs.tasks.eye.towel:TowelBucket", num_envs=1, resolution=64, max_episode_steps=300)
    obs, _ = env.reset(seed=0)
    for _ in range(10):
        obs, *_ = env.step(env.oracle())
    return env, obs


def test_an_eye_in_a_panorama_sees_what_the_eye_in_the_scene_sees(scene: tuple[BatchEnv, dict[str, Any]]) -> None:
    env, obs = scene
    width, side = 5760, 1834  # 16 pixels a degree
    faces = np.stack([env.draw(f"eye/{face}", side, side, look="fast")[0] for face in CUBE])
    around = CubeMap(width, side).unfold(faces)
    seen = Foveator(width, pyramid_rays(FOVEAL_PYRAMID, 64)).look(around, obs["gaze"][0])
    direct = np.stack([obs[f"eye_{level}"][0] for level in range(3)])
    assert psnr(seen, direct) >= 35


def test_what_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="pictures of"):
        foveator().look(np.zeros((10, 20, 3), np.uint8), np.zeros(2))
    with pytest.raises(InvalidValueError, match="within"):
        foveator().look(picture(), np.array([0, 0.6]))
    with pytest.raises(InvalidValueError, match="even"):
        Foveator(255, pyramid_rays((20.0,), 8))
    with pytest.raises(InvalidValueError, match="cube"):
        CubeMap(64, 16).unfold(np.zeros((5, 16, 16, 3), np.uint8))
