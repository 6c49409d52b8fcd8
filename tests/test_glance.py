"""The hand that says all moves at once: what it is told of, and that it learns to look."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents import patches
from agents.glance import Glance
from agents.seen import Seen

FOVS, SIDE, FELT, WORDS, CHUNK = (17.3, 62.3), 10, 8, 64, 6
pytestmark = pytest.mark.usefixtures("one_thread")


def hand(height: float | None = 0.22, shapes: bool = True) -> Glance:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = patches.Size(width=32, heads=2, patch=5)
        return Glance(patches.Patches(FOVS, SIDE, WORDS, size), FELT, WORDS, CHUNK, 3, size, height, shapes)


def seen(batch: int, rng: torch.Generator) -> Seen:
    images = torch.randint(0, 100, (batch, len(FOVS), SIDE, SIDE, 3), dtype=torch.uint8, generator=rng)
    numbers = [torch.randn(batch, n, generator=rng) for n in (2, FELT, WORDS, 5)]
    points, shapes = (torch.randn(batch, len(FOVS), 2, n, generator=rng) for n in (3, 7))
    return Seen(images, *numbers, points, shapes, 255 - images[..., :2])


@pytest.mark.parametrize("what", Seen.__annotations__)
@torch.no_grad()
def test_every_input_counts(what: str) -> None:
    rng = torch.Generator().manual_seed(0)
    one, other, net = seen(4, rng), seen(4, rng), hand().eval()
    mixed = Seen(**{k: getattr(other if k == what else one, k) for k in Seen.__annotations__})
    assert net(one).shape == (4, CHUNK, 3)
    assert (net(one) != net(mixed)).any(dim=(1, 2)).all()
    blind = hand(height=None, shapes=False).eval()
    assert torch.equal(blind(one), blind(mixed)) == (what in ("tool", "points", "shapes"))


@torch.no_grad()
def test_what_it_is_told_can_be_left_out() -> None:
    rng = torch.Generator().manual_seed(0)
    one, other = seen(4, rng), seen(4, rng)
    turned = Seen(**{**vars(one), "tool": torch.cat([one.tool[:, :3], other.tool[:, 3:]], dim=1)})
    for height, shapes in ((None, True), (0.22, False), (0.22, True)):
        net = hand(height, shapes).eval()
        assert torch.equal(net(one), net(turned)) == (height is None or not shapes)


def test_it_learns_where_a_bright_patch_is() -> None:
    """Moves that only a picture tells: the row and column, -1 or 1, of the one bright patch of the second level."""
    rng, net = torch.Generator().manual_seed(1), hand()
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)

    def lesson(batch: int) -> tuple[Seen, torch.Tensor]:
        one, place = seen(batch, rng), torch.randint(0, 2, (batch, 2), generator=rng)
        for image, (row, column) in zip(one.images[:, 1], place.tolist(), strict=True):
            image[5 * row : 5 * row + 5, 5 * column : 5 * column + 5] += 150
        return one, (2.0 * place - 1)[:, None].expand(-1, CHUNK, -1)

    for _ in range(300):
        one, wanted = lesson(32)
        loss = (net(one)[..., :2] - wanted).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    one, wanted = lesson(200)
    with torch.no_grad():
        right = (net.eval()(one)[..., :2].sign() == wanted).all(dim=(1, 2))
    assert np.mean(right.numpy()) > 0.95
