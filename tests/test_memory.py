"""What a hand learns from: every step that teaches something, and those of past rollouts that it remembers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from agents import checkpoint
from agents.memory import Lessons, Memory
from agents.seen import Seen

CPU = torch.device("cpu")


def numbered(*numbers: int) -> Lessons:
    """Lessons that can be told apart by every one of their parts."""
    of = torch.tensor(numbers, dtype=torch.float32)
    parts = {name: of[:, None].repeat(1, 2) for name in Seen.__annotations__}
    parts |= {name: parts[name].byte() for name in ("images", "close")}
    wanted, valid = of[:, None, None].repeat(1, 3, 2), torch.ones(len(of), 3, dtype=torch.bool)
    return Lessons(Seen(**parts), wanted, valid)


def numbers(lessons: Lessons) -> list[int]:
    """Which lessons these are; all of their parts must say so."""
    found = lessons.wanted[:, 0, 0]
    for name in Seen.__annotations__:
        assert torch.equal(getattr(lessons.seen, name)[:, 0].float(), found)
    assert len(lessons) == len(lessons.valid) == len(found)
    return [int(x) for x in found]


@given(st.integers(0, 12), st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 99))
def test_what_is_new_is_learned_with_what_is_remembered(size: int, counts: list[int], seed: int) -> None:
    memory, rng, first, kept = Memory(size), torch.Generator().manual_seed(seed), 0, []
    for count in counts:
        new = list(range(first, first + count))
        known = numbers(memory.recall(numbered(*new), rng))
        assert known == [*kept, *new]
        state = memory.state()
        kept = [int(x) for x in state["wanted"][:, 0, 0]] if state else []
        assert len(kept) == min(size, len(known))
        assert set(kept) <= set(known)
        first += count


def test_all_are_as_likely_to_be_forgotten() -> None:
    rng, left = torch.Generator().manual_seed(0), torch.zeros(8)
    for _ in range(2000):
        memory = Memory(4)
        memory.recall(numbered(0, 1, 2, 3), rng)
        memory.recall(numbered(4, 5, 6, 7), rng)
        left[memory.state()["wanted"][:, 0, 0].long()] += 1
    torch.testing.assert_close(left / 2000, torch.full((8,), 0.5), atol=0.04, rtol=0)


@pytest.mark.parametrize("size", [0, 3])
def test_a_checkpoint_brings_it_back(size: int, tmp_path: Path) -> None:
    one, other = Memory(size), Memory(size)
    one.recall(numbered(1, 2, 3, 4, 5), torch.Generator().manual_seed(0))
    checkpoint.save({"lessons": one.state()}, tmp_path / "c")
    other.recall(numbered(9), torch.Generator())
    other.load_state(checkpoint.load(tmp_path / "c")["lessons"], CPU)
    first, second = (m.recall(numbered(7), torch.Generator().manual_seed(1)) for m in (one, other))
    assert numbers(first) == numbers(second)
    assert first.seen.images.dtype == second.seen.images.dtype == torch.uint8
    assert one.state().keys() == other.state().keys()
