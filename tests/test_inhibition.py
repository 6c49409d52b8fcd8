"""Inhibition of return: no to and fro, staying is free, and episodes know nothing of each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from agents.inhibition import Inhibition
from envs.replay import turns

TURNS = torch.from_numpy(np.radians(turns("directions_25")))
LIMITS = torch.tensor(np.radians([130.0, 30.0]))
LEFT, RIGHT, STAY = 0, 4, 24
A_BIT_LEFT, A_BIT_RIGHT = 8, 12


def walk(steps: int, likes: list[tuple[int, ...]], length: int) -> list[int]:
    """Turns of an eye that likes some more than all others, the first one most, after one another at each step."""
    inhibition, gaze, made = Inhibition(TURNS, LIMITS, steps, 1), torch.zeros(1, 2), []
    for t in range(length):
        logits = torch.zeros(1, len(TURNS))
        for rank, turn in enumerate(likes[t % len(likes)]):
            logits[0, turn] = 9.0 - rank
        made.append(int(inhibition.likeliest(logits, gaze)))
        gaze = gaze + TURNS[made[-1]].float()
    return made


def test_the_turns_are_what_the_test_takes_them_for() -> None:
    np.testing.assert_allclose(np.degrees(TURNS[[LEFT, RIGHT, STAY]].numpy()), [[10, 0], [-10, 0], [0, 0]], atol=1e-9)
    np.testing.assert_allclose(np.degrees(TURNS[[A_BIT_LEFT, A_BIT_RIGHT]].numpy()), [[3, 0], [-3, 0]], atol=1e-9)


def test_a_greedy_eye_goes_to_and_fro_unless_it_is_inhibited() -> None:
    views = [(LEFT, STAY), (RIGHT, LEFT)]
    assert walk(0, views, 6) == [LEFT, RIGHT] * 3
    assert walk(20, views, 6) == [LEFT] * 6


def test_small_turns_are_free() -> None:
    assert walk(20, [(A_BIT_LEFT,), (A_BIT_RIGHT,)], 6) == [A_BIT_LEFT, A_BIT_RIGHT] * 3


def test_to_stay_is_never_inhibited() -> None:
    assert walk(5, [(STAY,)], 4) == [STAY] * 4
    assert walk(5, [(LEFT,), (RIGHT, STAY)], 4) == [LEFT, STAY, LEFT, STAY]


@pytest.mark.parametrize("steps", [1, 3])
def test_it_ends_after_so_many_steps(steps: int) -> None:
    made = walk(steps, [(LEFT,), *[(STAY,)] * (steps - 1), (RIGHT, STAY)], steps + 1)
    assert made[-1] == STAY
    assert walk(steps, [(LEFT,), *[(STAY,)] * steps, (RIGHT, STAY)], steps + 2)[-1] == RIGHT


def test_eyes_are_forgotten_one_by_one() -> None:
    inhibition, gaze = Inhibition(TURNS, LIMITS, 5, 2), torch.zeros(2, 2)
    first, back = torch.zeros(2, len(TURNS)), torch.zeros(2, len(TURNS))
    first[:, LEFT], back[:, RIGHT], back[:, STAY] = 9, 9, 8
    inhibition.likeliest(first, gaze)
    inhibition.forget(torch.tensor([True, False]))
    assert inhibition.likeliest(back, gaze + TURNS[LEFT].float()).tolist() == [RIGHT, STAY]
