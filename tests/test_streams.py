"""A simulation's random numbers are its own."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.streams import Streams

seeds = st.integers(0, 2**32)


def numbers(streams: Streams, ids: list[int]) -> np.ndarray:
    return streams.of(ids).uniform(0, 1, (5,))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, n=st.integers(1, 8), data=st.data())
def test_a_shard_draws_what_the_whole_does(seed: int, n: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, n - 1))
    whole, shard = Streams(n), Streams(1, first_index=index)
    whole.seed(seed)
    shard.seed(seed)
    np.testing.assert_array_equal(numbers(whole, list(range(n)))[index], numbers(shard, [0])[0])


@settings(max_examples=25, deadline=None)
@given(seed=seeds, others=st.lists(st.integers(0, 3), max_size=5))
def test_what_others_draw_changes_nothing(seed: int, others: list[int]) -> None:
    quiet, busy = Streams(4), Streams(4)
    quiet.seed(seed)
    busy.seed(seed)
    for i in others:
        if i != 2:
            numbers(busy, [i])
    np.testing.assert_array_equal(numbers(quiet, [2]), numbers(busy, [2]))


def test_a_list_gives_each_its_own_seed_wherever_it_is() -> None:
    a, b = Streams(3), Streams(1)
    a.seed([1, 7, None])
    b.seed(7)
    np.testing.assert_array_equal(numbers(a, [1]), numbers(b, [0]))
    untouched = a.state()[2]
    a.seed([5, 6, None])
    assert a.state()[2] == untouched


def test_different_keys_give_different_numbers() -> None:
    streams = Streams(50)
    streams.seed(0)
    first = numbers(streams, list(range(50)))
    streams.seed(1)
    assert len(np.unique(np.concatenate([first, numbers(streams, list(range(50)))]))) == 500


def test_positions_survive_json() -> None:
    streams = Streams(2)
    streams.seed(3)
    numbers(streams, [0, 1])
    kept = json.loads(json.dumps(streams.state()))
    expected = numbers(streams, [0, 1])
    streams.set_state(kept)
    np.testing.assert_array_equal(numbers(streams, [0, 1]), expected)


def test_shapes_and_ranges() -> None:
    streams = Streams(6)
    streams.seed(0)
    draw = streams.of([0, 3, 5])
    assert len(draw) == 3
    assert draw.uniform(0, 1).shape == (3,)
    assert draw.normal(0.1, (2,)).shape == (3, 2)
    assert np.all(np.sort(draw.permutation(4), axis=1) == np.arange(4))
    assert set(draw.integers(2, 4, (50,)).ravel()) == {2, 3}
    low, high = np.array([-1.0, 5.0]), np.array([0.0, 6.0])
    points = draw.uniform(low, high, (2,))
    assert ((points >= low) & (points < high)).all()


def test_unseeded_streams_differ_between_runs() -> None:
    assert not np.array_equal(numbers(Streams(1), [0]), numbers(Streams(1), [0]))


@pytest.mark.parametrize("first_index", [0, 10])
def test_seeds_are_remembered(first_index: int) -> None:
    streams = Streams(2, first_index)
    streams.seed([4, None])
    assert streams.seeds[0] == 4
