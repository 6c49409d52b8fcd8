"""The foveal robot transformer: who may look at whom, what is remembered, which slot is read from which token."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents import fort, patches
from agents.glance import Glance
from agents.seen import Seen
from assets.errors import InvalidValueError
from perception.frame import Fisheye
from perception.sphere import pyramid_rays

FOVS, SIDE, FELT, WORDS, TURNS, CHUNK = (17.3, 62.3, 116.1), 10, 8, 64, 25, 30
TINY = patches.Size(width=32, heads=2, depth=2, patch=5, window=4)
pytestmark = pytest.mark.usefixtures("one_thread")


def nets(size: patches.Size = TINY, seed: int = 0, told: bool = False) -> tuple[fort.EyeNet, fort.HandNet]:
    space = {"eye_0": spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8), "target": spaces.Box(-1, 1, (WORDS,))}
    eye, hand = fort.make(space, FELT, TURNS, CHUNK, 8, size, FOVS, seed=seed, told=told)
    assert isinstance(hand, fort.HandNet)
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # heads begin almost at nothing, which would hide what reaches them
        for net in (eye, hand):
            for parameter in net.parameters():
                parameter += 0.1 * torch.randn(parameter.shape, generator=rng)
    return eye.eval(), hand.eval()


def seen(batch: int, length: int, seed: int = 1) -> Seen:
    rng = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (batch, length, len(FOVS), SIDE, SIDE, 3), dtype=torch.uint8, generator=rng)
    numbers = [torch.randn(batch, length, n, generator=rng) for n in (2, FELT, WORDS, 5)]
    points, shapes = (torch.randn(batch, length, len(FOVS), 2, n, generator=rng) for n in (3, 7))
    close = torch.randint(0, 256, (batch, length, len(FOVS), SIDE, SIDE, 2), dtype=torch.uint8, generator=rng)
    return Seen(images, *numbers, points, shapes, close)


def blank(images: torch.Tensor) -> Seen:
    """Pictures (B, L, R, R, 3), and zeros for the rest."""
    batch, levels = images.shape[:2]
    numbers = [torch.zeros(batch, n) for n in (2, FELT, WORDS, 5)]
    return Seen(images, *numbers, *(torch.zeros(batch, levels, 2, n) for n in (3, 7)), images[..., :2])


def changed(one: Seen, what: str, step: int) -> Seen:
    value = getattr(one, what).clone()
    value[:, step] = 255 - value[:, step] if value.dtype == torch.uint8 else value[:, step] + 1
    return Seen(**{k: value if k == what else getattr(one, k) for k in Seen.__annotations__})


@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("size", [TINY, patches.Size(width=32, heads=2, depth=3, patch=5, window=4, image_mlp=True)])
@torch.no_grad()
def test_stepping_and_passing_through_agree(size: patches.Size, told: bool) -> None:
    eye, _ = nets(size, told=told)
    whole, began = seen(3, 15), torch.zeros(3, 15, dtype=torch.bool)
    began[:, 0] = True
    began[1, 6] = True
    logits, values = eye(whole, began)
    memory = eye.start(3)
    for t in range(15):
        memory.forget(began[:, t])
        one, worth = eye.step(whole[:, t], memory)
        torch.testing.assert_close(one, logits[:, t], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(worth, values[:, t], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("what", "ago", "seen_later"),
    [
        ("images", 0, True), ("close", 0, True), ("felt", 0, True), ("gaze", 0, True), ("words", 0, True),
        ("gaze", 3, True), ("words", 3, True),  # remembered
        ("gaze", 4, False), ("words", 4, False),  # beyond the window
    ],
)  # fmt: skip
@torch.no_grad()
def test_what_the_eye_sees_and_remembers_with_one_block(what: str, ago: int, seen_later: bool) -> None:
    eye, _ = nets(patches.Size(width=32, heads=2, depth=1, patch=5, window=4))
    whole = seen(1, 12)
    logits, other = eye(whole)[0], eye(changed(whole, what, 11 - ago))[0]
    assert (not torch.allclose(logits[:, 11], other[:, 11], atol=1e-6)) is seen_later
    torch.testing.assert_close(logits[:, : 11 - ago], other[:, : 11 - ago])  # the past knows nothing of it


@pytest.mark.parametrize(("told", "ago", "seen_later"), [(False, 0, False), (True, 0, True), (True, 3, True), (True, 4, False)])
@torch.no_grad()
def test_an_eye_that_is_told_where_colours_lie_remembers_it(told: bool, ago: int, seen_later: bool) -> None:
    eye, _ = nets(patches.Size(width=32, heads=2, depth=1, patch=5, window=4), told=told)
    whole = seen(1, 12)
    logits, other = eye(whole)[0], eye(changed(whole, "points", 11 - ago))[0]
    assert (not torch.allclose(logits[:, 11], other[:, 11], atol=1e-6)) is seen_later


@pytest.mark.parametrize("what", ["images", "close", "felt"])
@torch.no_grad()
def test_past_pictures_and_feelings_are_reached_only_through_other_tokens(what: str) -> None:
    eye, _ = nets(patches.Size(width=32, heads=2, depth=1, patch=5, window=4))
    whole = seen(1, 12)
    later = eye(changed(whole, what, 9))[0]
    torch.testing.assert_close(eye(whole)[0][:, 10:], later[:, 10:])  # one block: no token has carried it on
    deep, _ = nets(TINY)
    assert not torch.allclose(deep(whole)[0][:, 11], deep(changed(whole, what, 9))[0][:, 11], atol=1e-6)


@torch.no_grad()
def test_the_order_of_frames_beyond_the_window_does_not_matter() -> None:
    eye, _ = nets(patches.Size(width=32, heads=2, depth=1, patch=5, window=4))
    whole = seen(1, 12)
    order = torch.tensor([5, 3, 0, 6, 1, 2, 4, 7, 8, 9, 10, 11])
    shuffled = Seen(*(getattr(whole, k)[:, order] for k in Seen.__annotations__))
    torch.testing.assert_close(eye(whole)[0][:, 11], eye(shuffled)[0][:, 11])


@torch.no_grad()
def test_the_hand_sees_the_present_alone_and_everything_of_it() -> None:
    _, hand = nets()
    one = seen(2, 1)
    said = hand(one.flat())
    assert said.shape == (2, CHUNK, 8)
    for what in ("images", "gaze", "felt", "words"):
        assert not torch.allclose(said, hand(changed(one, what, 0).flat()), atol=1e-6)


@torch.no_grad()
def test_slot_k_is_read_from_joint_token_k() -> None:
    _, hand = nets(patches.Size(width=32, heads=2, depth=1, patch=5))
    for block in hand.blocks:  # without attention a token only knows itself
        block.out.weight.zero_()  # type: ignore[union-attr,operator]
        block.out.bias.zero_()  # type: ignore[union-attr,operator]
    one = seen(1, 1).flat()
    before = hand(one)
    for k in (0, 7, CHUNK - 1):
        kept = hand.joint[k].clone()
        hand.joint[k] += torch.linspace(-1, 1, 32)
        apart = (hand(one) - before).abs().amax(dim=(0, 2))
        assert apart[k] > 1e-3
        assert torch.equal(apart.nonzero()[:, 0], torch.tensor([k]))
        hand.joint[k] = kept
    moved = hand(changed(seen(1, 1), "words", 0).flat())  # the target is no slot
    torch.testing.assert_close(moved, before)


def test_places_of_a_fisheye_overlay() -> None:
    found = patches.places(FOVS, 2, "fisheye").reshape(3, 4, 2)
    np.testing.assert_allclose(found.mean(dim=1), patches.centre().expand(3, 2), atol=1e-4)
    crops = np.array([Fisheye().crop_for(fov) for fov in FOVS])
    np.testing.assert_allclose(found[:, 3, 0] - found[:, 0, 0], crops / 2 / patches.UNIT, rtol=1e-5)


@pytest.mark.parametrize("projection", ["pinhole", "fisheye"])
def test_one_direction_has_one_place_in_every_level(projection: str) -> None:
    camera, side = Fisheye(), 60
    # Where a patch lies and the direction that it shows: told apart by the angle from the line of sight, 20 degrees here.
    near = []
    for fov in (62.3, 116.1):
        rays = pyramid_rays((fov,), side, projection)[0].reshape(-1, 3)
        away = np.degrees(np.arccos(rays[:, 2] / np.linalg.norm(rays, axis=1)))
        at = (patches.places((fov,), side, projection) - patches.centre()).norm(dim=1).numpy() * patches.UNIT
        here = np.nan_to_num(abs(away - 20), nan=90) < 0.5
        np.testing.assert_allclose(at[here], camera.radius(np.radians(away[here])), rtol=0.02)
        near.append(at[here].mean())
    assert near[0] == pytest.approx(near[1], rel=0.02)


def test_rotary_embeddings_know_differences_alone() -> None:
    rng = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 1, 32, generator=rng)
    shift, at = torch.tensor([3.0, -7.0, 11.0]), torch.tensor([[1.0, 2.0, 3.0], [4.0, 60.0, 2.0]])

    def product(place: torch.Tensor) -> torch.Tensor:
        angles = fort.rotary(place, 32)
        return (fort.rotate(q, angles[:1]) * fort.rotate(k, angles[1:])).sum()

    assert fort.rotary(at, 32).shape == (2, 16)  # 4 + 6 + 6 pairs: 8, 12 and 12 of 32
    torch.testing.assert_close(product(at), product(at + shift), atol=1e-4, rtol=1e-4)
    assert not torch.allclose(product(at), product(at * 2))


def test_published_size() -> None:
    size = patches.PUBLISHED
    assert (size.width, size.heads, size.depth, size.window) == (384, 12, 3, 10)
    assert len(patches.places(FOVS, 256 // size.patch)) == 768  # tokens a frame


@torch.no_grad()
def test_networks_of_the_published_size_take_a_step() -> None:
    side = 256
    space = {"eye_0": spaces.Box(0, 255, (side, side, 3), np.uint8), "target": spaces.Box(-1, 1, (WORDS,))}
    eye, hand = fort.make(space, FELT, TURNS, CHUNK, 8, patches.PUBLISHED, FOVS)
    images = torch.zeros(1, len(FOVS), side, side, 3, dtype=torch.uint8)
    one = blank(images)
    logits, worth = eye.step(one, eye.start(1))
    moves = hand(one)
    assert (logits.shape, worth.shape, moves.shape) == ((1, TURNS), (1,), (1, CHUNK, 8))
    assert all(bool(torch.isfinite(found).all()) for found in (logits, worth, moves))
    assert all(sum(p.numel() for p in net.parameters()) > 5_000_000 for net in (eye, hand))


def test_a_frozen_transformer_can_be_the_encoder(tmp_path: Path) -> None:
    from tests import tiny_models

    folder = tiny_models.save_dinov2(tmp_path / "dino")
    space = {"eye_0": spaces.Box(0, 255, (28, 28, 3), np.uint8), "target": spaces.Box(-1, 1, (WORDS,))}
    eye, hand = fort.make(space, FELT, TURNS, CHUNK, 8, TINY, FOVS, encoder=str(folder))
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 28, 28, 3), dtype=torch.uint8, generator=rng)
    said = hand(blank(images))
    assert said.shape == (2, CHUNK, 8)
    said.sum().backward()
    frozen = eye.encoder._frozen[0]  # type: ignore[union-attr,index]
    assert all(p.grad is None for p in frozen.parameters())
    assert not any("_frozen" in name for name in eye.state_dict())


def test_what_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="multiple of 8 heads = 32"):
        patches.Size(width=40, heads=4)
    with pytest.raises(InvalidValueError, match="cut into patches of 4"):
        nets(patches.Size(width=32, heads=2, patch=4))


@pytest.mark.parametrize("net", [fort.HandNet, Glance])
def test_only_a_hand_that_knows_the_eyes_height_knows_where_its_tool_is(net: type[torch.nn.Module]) -> None:
    space = {"eye_0": spaces.Box(0, 255, (SIDE, SIDE, 3), np.uint8), "target": spaces.Box(-1, 1, (WORDS,))}
    one = seen(1, 4)
    for height, differs in ((None, False), (0.22, True)):
        eye, hand = fort.make(space, FELT, TURNS, CHUNK, 8, TINY, FOVS, height=height, hand=net)
        other = changed(one, "tool", 2)
        assert torch.equal(eye(one)[0], eye(other)[0])
        assert torch.equal(hand(one.flat()), hand(other.flat())) != differs
