"""The foveal robot transformer: an eye with a memory, a hand without one.

After EyeRobot (arXiv:2506.10968; github.com/kerrj/eyerobot). Two transformers read the same tokens:

    image tokens      one for each patch of each level of the foveal pyramid
    gaze, proprio, target    the direction of the gaze, what the arm feels, the embedding of the instruction
    reach           where the tool is beside the line of sight (hand only, where the eye's place is known)
    found           where the colours that the instruction names lie in each level (eye only, where it is told)
    actor, critic     what the eye's next turn and its value are read from (eye only)
    joints            one for each step of the arm's next moves (hand only), slot k -> step k

A token's place is its patch's centre in the eye's own plane, so that the levels overlay; whatever is no patch sits in the
middle. Places and times enter by rotary embeddings over (time, row, column). Image tokens are memory: they are attended to, and
attend to nothing. The eye sees the images and the arm's feelings of the present step and all other tokens of the last
`window` steps; the hand sees the present step alone. Blocks are parallel: x + attention(norm x) + mlp(norm x).

A past step's tokens are as they were when it was the present. So stepping through an episode with `Memory` and passing through
it in one go give the same numbers, and the first ratio of an update by proximal policy optimisation is 1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from agents.sight import BEARING, COLOURS, REACH, ahead, bearings, reach
from assets.errors import InvalidValueError
from perception.frame import Fisheye
from perception.sphere import pyramid_rays

# Pixels of EyeRobot's sensor to one unit of place, and the base of the rotary embedding.
UNIT, THETA = 14.0, 1000.0
# Degrees from the middle to one unit of a patch's place.
_WIDE = 30.0
# An eye that is told where colours lie has one more of them, before what the arm feels.
EYE_TOKENS = "actor", "critic", "gaze", "target", "proprio"


@dataclass(frozen=True)
class Size:
    """How large the network is.

    Attributes:
        width: of a token.
        heads: of attention; width / heads must be a multiple of 8.
        depth: blocks of each of both transformers.
        patch: side of a patch, pixels.
        window: steps that the eye remembers, the present one included.
        mlp: width of a block's mlp, in widths of a token.
        image_mlp: whether image tokens too pass through the blocks' mlps.
    """

    width: int = 64
    heads: int = 4
    depth: int = 2
    patch: int = 5
    window: int = 10
    mlp: int = 2
    image_mlp: bool = False

    def __post_init__(self) -> None:
        if self.width % (8 * self.heads):
            raise InvalidValueError(f"width must be a multiple of 8 heads = {8 * self.heads}, got {self.width}")
        if min(self.depth, self.patch, self.window, self.mlp) < 1:
            raise InvalidValueError(f"depth, patch, window and mlp must be >= 1, got {asdict(self)}")


# What EyeRobot trained, on patches of 16 of crops of 256 pixels; and what two cores can train.
PUBLISHED = Size(width=384, heads=12, depth=3, patch=16, window=10, mlp=4, image_mlp=True)
SMALL = Size()
SIZES = {"small": SMALL, "published": PUBLISHED}


def places(fovs: Sequence[float], side: int, projection: str = "pinhole") -> torch.Tensor:
    """Row and column of every patch's centre in the eye's plane, in units of 14 pixels of EyeRobot's sensor. (L side^2, 2).

    The plane is the fisheye's, in which one direction has one place, whichever level shows it.

    Args:
        fovs: degrees across each level.
        side: patches to a side.
        projection: of the levels: "pinhole" or "fisheye".
    """
    camera = Fisheye()
    if projection == "pinhole":
        found = camera.project(pyramid_rays(tuple(fovs), side, projection))
        return torch.from_numpy(found[..., ::-1].reshape(-1, 2) / UNIT).float()
    out = []
    for fov in fovs:
        crop = camera.crop_for(fov)
        centre = ((torch.arange(side) + 0.5) / side - 0.5) * crop
        row, column = torch.meshgrid(centre, centre, indexing="ij")
        out.append(torch.stack([row + camera.cy, column + camera.cx], dim=-1).reshape(-1, 2))
    return torch.cat(out) / UNIT


def rotary(place: torch.Tensor, head: int) -> torch.Tensor:
    """Phases of the rotary embedding, unit complex numbers. (..., 3): time, row, column -> (..., head / 2).

    A quarter of a head's dimensions turn with time, three eighths each with row and column (8, 12, 12 of 32).
    """
    parts = []
    for axis, size in enumerate((head // 4, 3 * head // 8, 3 * head // 8)):
        frequency = THETA ** -(torch.arange(0, size, 2, device=place.device) / size)
        parts.append(place[..., axis : axis + 1] * frequency)
    turned = torch.cat(parts, dim=-1)
    return torch.polar(torch.ones_like(turned), turned)


def rotate(x: torch.Tensor, phases: torch.Tensor) -> torch.Tensor:
    """Turn pairs of dimensions. (..., heads, head), (..., head / 2)."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * phases[..., None, :]).flatten(-2).to(x.dtype)


class Patches(nn.Module):
    """Patch tokens of its own, trained with the rest: pixels, and how close they are to either colour that the instruction
    names, scaled and shifted by the instruction as a whole (FiLM, Perez et al. 2018, arXiv:1709.07871), then where the patch
    is, in its level and in the eye's plane.

    Args:
        fovs: degrees across each level.
        resolution: pixels a side of a level.
        words: length of the instruction's embedding, with its two colours where `perception.text` has them.
        size: of the network.
        projection: of the levels.
    """

    def __init__(self, fovs: Sequence[float], resolution: int, words: int, size: Size, projection: str = "pinhole") -> None:
        super().__init__()
        if resolution % size.patch:
            raise InvalidValueError(f"a level of {resolution} pixels cannot be cut into patches of {size.patch}")
        side, self.patch, self.levels = resolution // size.patch, size.patch, len(fovs)
        pixels, hidden = size.patch**2, size.width
        self.of_pixels = nn.Linear((3 + len(COLOURS)) * pixels, hidden)  # colours, then closeness
        self.of_words = nn.Linear(words, 2 * hidden)
        nn.init.zeros_(self.of_words.weight)
        nn.init.zeros_(self.of_words.bias)
        self.mix = nn.Sequential(nn.GELU(), nn.Linear(hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden))
        self.level = nn.Parameter(torch.zeros(len(fovs), 1, hidden))
        self.of_place = nn.Linear(4, hidden)
        self.places: torch.Tensor
        self.register_buffer("places", places(fovs, side, projection), persistent=False)
        grid = ((torch.arange(side) + 0.5) / side * 2 - 1).expand(side, side)
        within = torch.stack([grid.T, grid], dim=-1).reshape(-1, 2)
        plane = (self.places.unflatten(0, (len(fovs), -1)) - _centre()) * (UNIT / float(Fisheye().radius(np.radians(_WIDE))))
        self.grid: torch.Tensor
        self.register_buffer("grid", torch.cat([within.expand_as(plane), plane], dim=-1), persistent=False)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Tokens of what is seen, (B,): (B, L P, width)."""
        tokens = self._of_bytes(torch.cat([self._cut(seen.images), self._cut(seen.close)], dim=-1))
        scale, shift = self.of_words(seen.words)[:, None].chunk(2, dim=-1)
        where = (self.level + self.of_place(self.grid)).flatten(0, 1)
        return self.mix(tokens * (1 + scale) + shift) + where

    def _of_bytes(self, cut: torch.Tensor) -> torch.Tensor:
        """`of_pixels` of colours in [-1, 1] and closeness in [0, 1]; its weights are scaled, for they are fewer than pixels."""
        weight, bias, colours = self.of_pixels.weight, self.of_pixels.bias, 3 * self.patch**2
        scaled = torch.cat([weight[:, :colours] * (2 / 255), weight[:, colours:] / 255], dim=1)
        return functional.linear(cut.to(weight), scaled, bias - weight[:, :colours].sum(dim=1))

    def _cut(self, images: torch.Tensor) -> torch.Tensor:
        """Patches of (B, L, R, R, C) bytes. (B, L P, patch^2 C)."""
        batch, levels, side, _, channels = images.shape
        count, patch = side // self.patch, self.patch
        cut = images.reshape(batch, levels, count, patch, count, patch, channels).permute(0, 1, 2, 4, 3, 5, 6)
        return cut.reshape(batch, levels * count**2, patch**2 * channels)


class FrozenPatches(nn.Module):
    """Patch tokens of a frozen vision transformer of Hugging Face, such as DINOv2 or DINOv3, through a trained linear layer.

    Args:
        fovs, resolution, size, projection: as for `Patches`; its patches have the transformer's own size.
        source: folder or name of the weights.
    """

    def __init__(self, fovs: Sequence[float], resolution: int, size: Size, source: str, projection: str = "pinhole") -> None:
        super().__init__()
        from perception.vlm.hf import Source

        loaded = Source(source).load("AutoModel")
        tower = getattr(loaded, "vision_model", loaded)
        self._frozen = [tower]  # in a list: it is no part of what is trained or stored
        config = tower.config
        side = resolution // int(config.patch_size)
        if side < 1:
            raise InvalidValueError(f"{source!r} has patches of {config.patch_size} pixels, a level has {resolution}")
        self.out = nn.Linear(int(config.hidden_size), size.width)
        self.places: torch.Tensor
        self.register_buffer("places", places(fovs, side, projection), persistent=False)
        self._count, self.levels = side**2, len(fovs)

    def forward(self, seen: Seen) -> torch.Tensor:
        """Tokens of what is seen, (B,), whatever the instruction: (B, L P, width)."""
        images = seen.images
        mean, std = (torch.tensor(v, device=images.device) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        pixels = ((images.flatten(0, 1).float() / 255 - mean) / std).movedim(-1, 1)
        with torch.no_grad():
            hidden = self._frozen[0].to(images.device)(pixels).last_hidden_state[:, -self._count :]
        return self.out(hidden).unflatten(0, images.shape[:2]).flatten(1, 2)


class Block(nn.Module):
    """One parallel block, for tokens that attend and memory that is only attended to."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        width = size.width
        self.heads, self.image_mlp = size.heads, size.image_mlp
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        head = width // size.heads
        self.norm_q, self.norm_k = nn.RMSNorm(head), nn.RMSNorm(head)
        self.mlp = nn.Sequential(nn.Linear(width, size.mlp * width), nn.GELU(), nn.Linear(size.mlp * width, width))
        self.out = nn.Linear(width, width)

    def keys(self, h: torch.Tensor, phases: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of normalised tokens (..., K, width): (..., K, heads, head) twice."""
        width = h.shape[-1]
        weight = self.qkv.weight[width:]
        k, v = functional.linear(h, weight).chunk(2, dim=-1)
        return rotate(self.norm_k(k.unflatten(-1, (self.heads, -1))), phases), v.unflatten(-1, (self.heads, -1))

    def forward(
        self,
        x: torch.Tensor,
        phases: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        mask: torch.Tensor | None,
    ) -> torch.Tensor:
        """One step on for tokens that attend.

        Args:
            x: (B, Q, width).
            phases: (B or 1, Q, head / 2).
            k: (B, K, heads, head) keys of everything that is attended to.
            v: the values.
            mask: (B, Q, K) or (B, 1, K), true where a token may look; None where it may look everywhere.
        """
        h = self.norm(x)
        q = functional.linear(h, self.qkv.weight[: h.shape[-1]]).unflatten(-1, (self.heads, -1))
        q = rotate(self.norm_q(q), phases)
        seen = functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), None if mask is None else mask[:, None]
        )
        return x + self.out(seen.transpose(1, 2).flatten(2)) + self.mlp(h)

    def remember(self, images: torch.Tensor) -> torch.Tensor:
        """Image tokens for the next block."""
        return images + self.mlp(self.norm(images)) if self.image_mlp else images


class Blocks(nn.ModuleList):
    """Blocks, one after the other."""

    def __init__(self, size: Size) -> None:
        super().__init__(Block(size) for _ in range(size.depth))

    def __iter__(self) -> Iterator[Block]:
        return cast("Iterator[Block]", super().__iter__())


@dataclass
class Memory:
    """What the eye keeps of an episode: keys and values of past steps' tokens, block by block.

    Attributes:
        k, v: (depth, B, window - 1, tokens, heads, head).
        steps: (B,) steps of the episode so far.
    """

    k: torch.Tensor
    v: torch.Tensor
    steps: torch.Tensor

    def forget(self, sims: torch.Tensor) -> None:
        """Begin anew in simulations of a mask (B,)."""
        self.steps[sims] = 0


class Tokens(nn.Module):
    """Tokens of what is no image: gaze, instruction and the arm's feelings, with dropout of the last."""

    def __init__(self, felt: int, words: int, width: int) -> None:
        super().__init__()
        self.gaze = nn.Sequential(nn.Linear(3, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.proprio = nn.Sequential(nn.Linear(felt, width), nn.GELU(), nn.Linear(width, width))
        self.target = nn.Linear(words, width)

    def forward(self, gaze: torch.Tensor, felt: torch.Tensor, words: torch.Tensor) -> list[torch.Tensor]:
        """Gaze (B, 2) rad, felt (B, F), words (B, W) -> gaze, target and proprio tokens, (B, width) each."""
        return [self.gaze(ahead(gaze)), self.target(words), self.proprio(felt)]


@dataclass
class Seen:
    """Observations as the network takes them: leading axes (B,) or (B, T) alike on all of them.

    Attributes:
        images: (..., L, R, R, 3) bytes.
        gaze: (..., 2) rad.
        felt: (..., F) what the arm feels, normalised.
        words: (..., W) embedding of the instruction.
        tool: (..., 5) from the eye to the tool, m, along the arm's axes, and the tool's x axis, `sight.doubled`; only a hand
            that knows the eye's place reads them.
        points: (..., L, 2, 3) where what the instruction names lies in each level, `sight.points`; only some read it.
        shapes: (..., L, 2, 7) what it looks like there, `sight.shapes`; only a hand that is told of it reads it.
        close: (..., L, R, R, 2) bytes: how close pixels are to the colours that the instruction names, `sight.closeness`.
    """

    images: torch.Tensor
    gaze: torch.Tensor
    felt: torch.Tensor
    words: torch.Tensor
    tool: torch.Tensor
    points: torch.Tensor
    shapes: torch.Tensor
    close: torch.Tensor

    def flat(self) -> Seen:
        """With (B, T) made one axis."""
        return Seen(*(getattr(self, name).flatten(0, 1) for name in Seen.__annotations__))

    def unseen(self) -> Seen:
        """The same with closed eyes: grey pictures, and a gaze straight ahead."""
        nothing = {name: torch.zeros_like(getattr(self, name)) for name in ("gaze", "points", "shapes", "close")}
        return replace(self, images=torch.full_like(self.images, 128), **nothing)

    def hide(self, chosen: torch.Tensor) -> None:
        """Close the eyes in some of them, in place: of a mask over the leading axes."""
        dark = self[chosen].unseen()
        for name in Seen.__annotations__:
            getattr(self, name)[chosen] = getattr(dark, name)

    def __getitem__(self, index: Any) -> Seen:
        """Some of them."""
        return Seen(*(getattr(self, name)[index] for name in Seen.__annotations__))


class EyeNet(nn.Module):
    """The eye: logits of its turns and the value of what it sees.

    Args:
        encoder: of the images; it has `places`.
        felt, words: lengths of what is felt and of the instruction's embedding.
        turns: actions.
        size: of the network.
        told: whether a token tells where the colours that the instruction names lie.
    """

    def __init__(self, encoder: nn.Module, felt: int, words: int, turns: int, size: Size, told: bool = False) -> None:
        super().__init__()
        self.encoder, self.size, self.turns, self.told = encoder, size, turns, told
        self.tokens = Tokens(felt, words, size.width)
        if told:
            levels: int = encoder.levels  # type: ignore[assignment]
            self.found = nn.Sequential(nn.Linear(BEARING * levels, size.width), nn.GELU(), nn.Linear(size.width, size.width))
        self._count = len(EYE_TOKENS) + told
        self.learned = nn.Parameter(torch.randn(2, size.width) * 0.02)
        self.blocks = Blocks(size)
        self.actor, self.critic = _head(size.width, turns, 0.01), _head(size.width, 1, 1.0)

    def _begin(self, seen: Seen) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens that attend (B, 5 or 6, width), in the order of `EYE_TOKENS`, and image tokens."""
        tokens = self.tokens(seen.gaze, seen.felt, seen.words)
        if self.told:
            tokens.insert(-1, self.found(bearings(seen.points)))
        learned = self.learned.expand(len(seen.gaze), -1, -1)
        return torch.cat([learned, torch.stack(tokens, dim=1)], dim=1), self.encoder(seen)

    def _phases(self, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Phases of the tokens that attend and of the image tokens at steps (B,)."""
        head = self.size.width // self.size.heads
        middle = _centre().to(time.device).expand(len(time), self._count, 2)
        place = self.encoder.places.expand(len(time), -1, 2)  # type: ignore[operator,union-attr]
        when = time[:, None, None].float()
        return tuple(  # type: ignore[return-value]
            rotary(torch.cat([when.expand(-1, p.shape[1], 1), p], dim=-1), head) for p in (middle, place)
        )

    def start(self, count: int, device: Any = None) -> Memory:
        """An empty memory of `count` simulations."""
        size = self.size
        shape = (size.depth, count, size.window - 1, self._count, size.heads, size.width // size.heads)
        zeros = torch.zeros(shape, device=device)
        return Memory(zeros, zeros.clone(), torch.zeros(count, dtype=torch.long, device=device))

    def step(self, seen: Seen, memory: Memory) -> tuple[torch.Tensor, torch.Tensor]:
        """One step of B episodes; the memory goes on. Logits (B, turns) and values (B,)."""
        x, images = self._begin(seen)
        phases, image_phases = self._phases(memory.steps)
        # The k-th row of the memory is k + 1 steps old.
        age = torch.arange(1, self.size.window, device=x.device)
        known = (age <= memory.steps[:, None])[:, :, None].expand(-1, -1, self._count - 1).flatten(1)
        mask = torch.cat([known, known.new_ones(len(x), self._count + images.shape[1])], dim=1)[:, None]
        for number, block in enumerate(self.blocks):
            k, v = block.keys(block.norm(x), phases)
            ik, iv = block.keys(block.norm(images), image_phases)
            past_k, past_v = (m[number][:, :, : self._count - 1].flatten(1, 2) for m in (memory.k, memory.v))
            x_next = block(x, phases, torch.cat([past_k, k, ik], dim=1), torch.cat([past_v, v, iv], dim=1), mask)
            memory.k[number] = torch.cat([k[:, None], memory.k[number][:, :-1]], dim=1)
            memory.v[number] = torch.cat([v[:, None], memory.v[number][:, :-1]], dim=1)
            x, images = x_next, block.remember(images)
        memory.steps += 1
        return self.actor(x[:, 0]), self.critic(x[:, 1])[:, 0]

    def forward(self, seen: Seen, began: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Whole pieces of episodes in one go.

        Args:
            seen: (B, T).
            began: (B, T) true in the first step of an episode; None where each row is one, from its beginning.

        Returns:
            Logits (B, T, turns) and values (B, T).
        """
        batch, length = seen.gaze.shape[:2]
        window, count = self.size.window, self._count
        time = _times(batch, length, began, seen.gaze.device)
        x, images = self._begin(seen.flat())
        phases, image_phases = self._phases(time.flatten())
        ago = torch.arange(length, device=x.device)[:, None] - torch.arange(1, window, device=x.device)  # (T, window - 1)
        known = (torch.arange(1, window, device=x.device) <= time[..., None]) & (ago >= 0)
        past = known[..., None].expand(-1, -1, -1, count - 1).reshape(batch * length, -1)
        mask = torch.cat([past, past.new_ones(len(past), count + images.shape[1])], dim=1)[:, None]
        for block in self.blocks:
            k, v = block.keys(block.norm(x), phases)
            ik, iv = block.keys(block.norm(images), image_phases)
            old = [
                t.unflatten(0, (batch, length))[:, ago.clamp(min=0), : count - 1].flatten(0, 1).flatten(1, 2) for t in (k, v)
            ]
            x = block(x, phases, torch.cat([old[0], k, ik], dim=1), torch.cat([old[1], v, iv], dim=1), mask)
            images = block.remember(images)
        logits, values = self.actor(x[:, 0]), self.critic(x[:, 1])[:, 0]
        return logits.unflatten(0, (batch, length)), values.unflatten(0, (batch, length))


class HandNet(nn.Module):
    """The hand: the arm's next moves, from one step alone.

    Args:
        encoder, felt, words, size: as for `EyeNet`.
        chunk: moves.
        outputs: numbers of each.
        height: of the eye above the table, m, for a reach token; None for none.
    """

    def __init__(
        self, encoder: nn.Module, felt: int, words: int, chunk: int, outputs: int, size: Size, height: float | None = None
    ) -> None:
        super().__init__()
        self.encoder, self.size, self.chunk = encoder, size, chunk
        self.tokens = Tokens(felt, words, size.width)
        self.height = height
        if height is not None:
            self.reach = nn.Sequential(nn.Linear(REACH, 4 * size.width), nn.GELU(), nn.Linear(4 * size.width, size.width))
        self.joint = nn.Parameter(torch.randn(chunk, size.width) * 0.02)
        self.blocks = Blocks(size)
        self.out = _head(size.width, outputs, 0.1)

    def forward(self, seen: Seen) -> torch.Tensor:
        """(B, chunk, outputs) of observations (B,); slot k is read from joint token k."""
        tokens = self.tokens(seen.gaze, seen.felt, seen.words)
        if self.height is not None:
            tokens.append(self.reach(reach(seen.gaze, seen.tool[:, :3], self.height)))
        batch, known = len(seen.gaze), len(tokens)
        x = torch.cat([torch.stack(tokens, dim=1), self.joint.expand(batch, -1, -1)], dim=1)
        images = self.encoder(seen)
        head = self.size.width // self.size.heads
        time = torch.cat([torch.zeros(known), torch.arange(self.chunk)]).to(x.device)
        middle = _centre().to(x.device).expand(len(time), 2)
        phases = rotary(torch.cat([time[:, None], middle], dim=1), head)[None]
        place: torch.Tensor = self.encoder.places  # type: ignore[assignment]
        image_phases = rotary(torch.cat([torch.zeros_like(place[:, :1]), place], dim=1), head)[None]
        for block in self.blocks:
            k, v = block.keys(block.norm(x), phases)
            ik, iv = block.keys(block.norm(images), image_phases)
            x = block(x, phases, torch.cat([k, ik], dim=1), torch.cat([v, iv], dim=1), None)
            images = block.remember(images)
        return self.out(x[:, known:])


def _centre() -> torch.Tensor:
    """Place of the line of sight, (2,)."""
    camera = Fisheye()
    return torch.tensor([camera.cy, camera.cx]) / UNIT


def _head(width: int, out: int, gain: float) -> nn.Sequential:
    last = nn.Linear(width, out)
    nn.init.orthogonal_(last.weight, gain)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.LayerNorm(width), nn.GELU(), last)


def _times(batch: int, length: int, began: torch.Tensor | None, device: Any) -> torch.Tensor:
    """Step of its episode of each entry, (B, T)."""
    now = torch.arange(length, device=device).expand(batch, -1)
    if began is None:
        return now
    first = torch.where(began, now, torch.zeros_like(now)).cummax(dim=1).values
    return now - first


def make(
    observation: Mapping[str, Any], felt: int, turns: int, chunk: int, outputs: int, size: Size, fovs: Sequence[float],
    encoder: str = "patches", seed: int = 0, height: float | None = None, hand: Callable[..., nn.Module] = HandNet,
    projection: str = "pinhole", told: bool = False,
) -> tuple[EyeNet, nn.Module]:  # fmt: skip
    """The eye and the hand, each with an encoder of its own.

    Args:
        observation: spaces by name: images of one size, and "target".
        felt: length of what the arm feels.
        turns: actions of the eye.
        chunk: moves of the hand.
        outputs: numbers of each.
        size: of both.
        fovs: degrees across each level.
        encoder: "patches", or folder or name of a frozen vision transformer.
        seed: of the initial weights.
        height: of the eye above the table, m, if the hand is to know where the tool is beside the line of sight.
        hand: its network, made with the arguments of `HandNet`.
        projection: of the levels.
        told: whether the eye is told where the colours that the instruction names lie.
    """
    words, sizes = observation["target"].shape[0], {s.shape for s in observation.values() if len(s.shape) == 3}
    if len(sizes) != 1:
        raise InvalidValueError(f"the networks need images of one size, got {sorted(sizes) or 'none'}")
    resolution = sizes.pop()[0]

    def encode() -> nn.Module:
        if encoder == "patches":
            return Patches(fovs, resolution, words, size, projection)
        return FrozenPatches(fovs, resolution, size, encoder, projection)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return EyeNet(encode(), felt, words, turns, size, told), hand(encode(), felt, words, chunk, outputs, size, height)
