"""Where the tool will be when the gripper is next told something else: what recordings tell of it, and that it is learned."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents import fort
from agents.aim import Aim, keyframes, level, missing

FELT, DOF, LEVELS, HEIGHT = 4, 3, 2, 0.22
pytestmark = pytest.mark.usefixtures("one_thread")


@given(st.lists(st.sampled_from([0.0, 0.3, 0.9, 1.0]), min_size=1, max_size=30))
def test_the_next_change_is_told_of_every_frame_before_it(told: list[float]) -> None:
    grip = np.array(told)
    tool = np.stack([np.arange(len(grip)), np.zeros(len(grip)), np.ones(len(grip))], axis=1)
    shut = grip < (grip.min() + grip.max()) / 2
    for frame, found in enumerate(keyframes(tool, grip)):
        later = [k for k in range(frame + 1, len(grip)) if shut[k] != shut[k - 1] and np.ptp(grip) >= 0.1]
        if later:
            assert found.tolist() == tool[later[0]].tolist()
        else:
            assert np.isnan(found).all()


def test_a_gripper_that_is_hardly_told_anything_else_has_no_next_time() -> None:
    assert np.isnan(keyframes(np.zeros((3, 3)), np.array([0.50, 0.55, 0.50]))).all()


def test_what_is_missing_is_so_in_azimuth_distance_and_height() -> None:
    place = torch.tensor([[0.0, 0.4, -0.1]])
    torch.testing.assert_close(level(place), torch.tensor([[np.pi / 2, 0.4, -0.1]], dtype=torch.float32))
    found = missing(torch.tensor([[0.5, 0.0, 0.0]]), level(place))
    torch.testing.assert_close(found[:, :3], torch.tensor([[-np.pi / 2, 0.1, 0.1]], dtype=torch.float32))
    torch.testing.assert_close(found[:, 3:6], (5 * found[:, :3]).tanh())
    torch.testing.assert_close(found[:, 6:], (20 * found[:, :3]).tanh())


def scene(batch: int, rng: torch.Generator) -> tuple[fort.Seen, torch.Tensor]:
    """Things on a table under an eye that looks nearly at them, and where they are from the eye, m."""
    azimuth, away = 3 * torch.rand(batch, generator=rng) - 1.5, 0.35 + 0.35 * torch.rand(batch, generator=rng)
    place = torch.stack([away * azimuth.cos(), away * azimuth.sin(), torch.full((batch,), -HEIGHT)], dim=-1)
    off = 0.05 * torch.randn(batch, 2, generator=rng)
    gaze = torch.stack([azimuth, -torch.atan2(torch.full((batch,), HEIGHT), away)], dim=-1) + off
    ahead, (a, e) = fort.ahead(gaze), gaze.unbind(-1)
    right = torch.stack([a.sin(), -a.cos(), torch.zeros(batch)], dim=-1)
    down = torch.stack([e.sin() * a.cos(), e.sin() * a.sin(), -e.cos()], dim=-1)
    seen = torch.stack([(place * axis).sum(-1) for axis in (right, down, ahead)], dim=-1)
    points = 0.02 * (seen / seen.norm(dim=-1, keepdim=True))[:, None, None].expand(-1, LEVELS, 2, -1)
    zeros = {"images": (LEVELS, 4, 4, 3), "words": (8,), "tool": (5,), "shapes": (LEVELS, 2, 7), "close": (LEVELS, 4, 4, 2)}
    told = {name: torch.zeros(batch, *shape) for name, shape in zeros.items()}
    return fort.Seen(gaze=gaze, felt=torch.zeros(batch, FELT), points=points, **told), place


def test_it_learns_where_what_it_sees_is() -> None:
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    net = Aim(FELT, DOF, LEVELS)
    test, place = scene(500, rng)
    assert net.miss(test, place) > 0.3  # nothing but the gaze's azimuth is known
    optimizer = torch.optim.AdamW(net.parameters(), 2e-3)
    for _ in range(600):
        loss = net.miss(*scene(64, rng))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        assert net.miss(test, place) < 0.1  # a centimetre and 0.01 rad
        assert (net(test)[:, 1] - level(place)[:, 1]).abs().median() < 0.012


@torch.no_grad()
def test_it_does_not_aim_where_the_arm_is() -> None:
    net, rng = Aim(FELT, DOF, LEVELS), torch.Generator().manual_seed(0)
    torch.nn.init.normal_(net.net[-1].weight)  # type: ignore[arg-type]
    seen, _ = scene(4, rng)
    before = net(seen)
    seen.felt[:, :DOF] += 1
    assert torch.equal(net(seen), before)
    seen.felt[:, DOF:] += 1
    assert (net(seen) != before).any(dim=1).all()


def test_where_there_is_no_next_time_nothing_is_missed() -> None:
    net = Aim(FELT, DOF, LEVELS)
    seen, place = scene(4, torch.Generator().manual_seed(0))
    alone = net.miss(seen[torch.tensor([1])], place[[1]])
    place[[0, 2, 3], 1] = torch.nan
    torch.testing.assert_close(net.miss(seen, place), alone)
    assert net.miss(seen, torch.full_like(place, torch.nan)) == 0
