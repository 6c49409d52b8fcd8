"""Rewards from where demonstrations end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

from assets.errors import InvalidValueError
from rewards.goal import GoalDistance, Progress, SuccessClassifier

pytestmark = pytest.mark.usefixtures("one_thread")
KINDS: dict[str, Any] = {"goal": GoalDistance, "progress": Progress, "success": SuccessClassifier}


@dataclass
class Pixels:
    """Every pixel a feature."""

    def embed(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return images.reshape(len(images), -1).astype(np.float32)


def video(seed: int, length: int = 40, goes: float = 1.0) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A bar that slides across noise, at its own pace, as far as `goes`; and how far it has come."""
    rng = np.random.default_rng(seed)
    where = goes * np.linspace(0, 1, length) ** rng.uniform(0.7, 1.4)
    frames = rng.integers(0, 30, (length, 8, 16, 3)).astype(np.uint8)
    for t, share in enumerate(where):
        at = round(13 * share)
        frames[t, :, at : at + 3, 0] += 120
    return frames, where


@pytest.fixture(scope="module", params=list(KINDS))
def reward(request: pytest.FixtureRequest, one_thread: None) -> Any:
    found = KINDS[request.param](Pixels(), updates=300)
    told = found.fit([video(seed, 36 + seed)[0] for seed in range(8)])
    assert told[-1] < told[0]
    return found


def test_new_videos_are_worth_more_towards_their_end(reward: Any) -> None:
    for seed in range(100, 105):
        frames, _ = video(seed)
        worth = reward(frames)
        assert worth.shape == (40,)
        assert worth.dtype == np.float32
        assert 0 <= worth.min() <= worth.max() <= 1
        assert worth[-3:].mean() > worth[:20].mean() + 0.3


def test_distance_and_progress_order_all_the_way() -> None:
    for kind in (GoalDistance, Progress):
        found = kind(Pixels(), updates=500)
        found.fit([video(seed)[0] for seed in range(8)])
        for seed in range(100, 104):
            frames, where = video(seed)
            assert kendalltau(found(frames), where).statistic > 0.75
            assert spearmanr(found(frames), where).statistic > 0.9


def test_what_stops_half_way_is_worth_less(reward: Any) -> None:
    done = np.mean([reward(video(seed)[0])[-3:].mean() for seed in range(200, 206)])
    left = np.mean([reward(video(seed, goes=0.5)[0])[-3:].mean() for seed in range(200, 206)])
    assert left < done - 0.2


def test_it_is_pure_and_its_state_comes_back(reward: Any) -> None:
    frames, _ = video(300)
    whole = reward(frames)
    np.testing.assert_allclose(whole[::-1], reward(frames[::-1]), atol=1e-6)
    other = type(reward)(Pixels(), updates=300)
    other.load_state_dict(reward.state_dict())
    np.testing.assert_array_equal(other(frames), whole)
    with pytest.raises(InvalidValueError, match="the network's arrays are"):
        type(reward)(Pixels(), hidden=8).load_state_dict(reward.state_dict())


def test_the_same_seed_gives_the_same_bytes() -> None:
    def bytes_of(seed: int) -> bytes:
        found = Progress(Pixels(), updates=20, seed=seed)
        found.fit([video(k)[0] for k in range(2)])
        return found.state_dict()["net.layers.0.weight"].tobytes()

    assert bytes_of(1) == bytes_of(1)
    assert bytes_of(1) != bytes_of(2)


def test_what_is_refused() -> None:
    found = Progress(Pixels(), updates=5)
    with pytest.raises(InvalidValueError, match="not learned"):
        found(video(0)[0])
    with pytest.raises(InvalidValueError, match="at least 2 demonstrations"):
        found.fit([video(0)[0]])
    with pytest.raises(InvalidValueError, match="one size"):
        found.fit([video(0)[0], video(1)[0][:, :4]])
    with pytest.raises(InvalidValueError, match="at least 3 frames"):
        found.fit([video(0)[0], video(1)[0][:2]])
    with pytest.raises(InvalidValueError, match="constant video"):
        found.fit([video(0)[0], np.zeros_like(video(1)[0])])
    with pytest.raises(InvalidValueError, match="finite"):
        found.fit_features([np.full((5, 3), np.nan), np.ones((5, 3))])
    for wrong in ({"updates": 0}, {"rate": 0.0}, {"noise": -1.0}):
        with pytest.raises(InvalidValueError, match="updates must be >= 1"):
            Progress(Pixels(), **wrong)
    with pytest.raises(InvalidValueError, match="gamma"):
        GoalDistance(Pixels(), gamma=1.0)
    with pytest.raises(InvalidValueError, match="end must be a share"):
        SuccessClassifier(Pixels(), end=1.0)
