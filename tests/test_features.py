"""Frozen features without weights."""

from __future__ import annotations

import numpy as np
import pytest

from assets.errors import InvalidValueError
from perception.features import RandomConv, Thumbnail
from perception.vlm.base import FrozenFeatures

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 40, 60, 3)).astype(np.uint8)


@pytest.mark.parametrize("encoder", [Thumbnail(7), RandomConv(side=20), RandomConv(side=21, batch_size=2)])
def test_one_vector_for_each_picture_whatever_stands_beside_it(encoder: FrozenFeatures) -> None:
    assert isinstance(encoder, FrozenFeatures)
    found = encoder.embed(IMAGES)
    assert found.shape == (5, encoder.size)
    assert found.dtype == np.float32
    assert found.min() >= 0
    np.testing.assert_allclose(encoder.embed(IMAGES[3:4])[0], found[3], atol=1e-5)
    assert (found.std(axis=0) > 0).mean() > 0.5


def test_a_thumbnail_is_the_mean_of_its_pixels() -> None:
    square = np.zeros((1, 4, 4, 3), np.uint8)
    square[0, :2, 2:, 1] = 255
    np.testing.assert_allclose(Thumbnail(2).embed(square).reshape(2, 2, 3)[..., 1], [[0, 1], [0, 0]])


def test_random_weights_are_those_of_the_seed() -> None:
    a, b, other = (RandomConv(seed, side=16).embed(IMAGES) for seed in (1, 1, 2))
    np.testing.assert_array_equal(a, b)
    assert (a != other).any()


def test_features_keep_where_something_is() -> None:
    left, right = np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 32, 32, 3), np.uint8)
    left[0, 12:20, 4:12], right[0, 12:20, 20:28] = 255, 255
    for encoder in (Thumbnail(8), RandomConv(side=32)):
        assert np.abs(encoder.embed(left) - encoder.embed(right)).max() > 0.1


def test_what_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="side must be >= 1"):
        Thumbnail(0)
    with pytest.raises(InvalidValueError, match="side must be >= 8"):
        RandomConv(side=7)
    with pytest.raises(InvalidValueError, match="uint8"):
        Thumbnail().embed(IMAGES.astype(np.float32))  # type: ignore[arg-type]
