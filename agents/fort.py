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
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from agents.patches import FrozenPatches, Patches, Size, centre
from agents.seen import Seen
from agents.sight import BEARING, REACH, ahead, bearings, reach
from assets.errors import InvalidValueError

# Base of the rotary embedding.
THETA = 1000.0
# An eye that is told where colours lie has one more of them, before what the arm feels.
EYE_TOKENS = "actor", "critic", "gaze", "target", "proprio"


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
        middle = centre().to(time.device).expand(len(time), self._count, 2)
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
        middle = centre().to(x.device).expand(len(time), 2)
        phases = rotary(torch.cat([time[:, None], middle], dim=1), head)[None]
        place: torch.Tensor = self.encoder.places  # type: ignore[assignment]
        image_phases = rotary(torch.cat([torch.zeros_like(place[:, :1]), place], dim=1), head)[None]
        for block in self.blocks:
            k, v = block.keys(block.norm(x), phases)
            ik, iv = block.keys(block.norm(images), image_phases)
            x = block(x, phases, torch.cat([k, ik], dim=1), torch.cat([v, iv], dim=1), None)
            images = block.remember(images)
        return self.out(x[:, known:])


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
