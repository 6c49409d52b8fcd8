"""Report cards of rewards that a judge teaches, which read distances or captions and no pictures.

    python -m benchmarks.reward_cards --cells preference/tiny_vlm,oni/classifier --seeds 0,1,2

A cell is a reward and a seed: the reward is taught anew, as `benchmarks.reward_preference` and `benchmarks.reward_oni` do it,
and measured as it is at the end of the agent's training; what is there already is not made again. Figures and page are those of
`rewards.card`, of 20 episodes of each way of acting from starts that no training draws, in Saccade/Reach-v0 and, cube and block
where they always stand, in Saccade/PlaceCube-v0. Frames of the page are for the eyes of its readers.

    preference/*    the ensemble, which reads how far tool and ball are apart. Its blind control is the ensemble that the same
                    judge taught by grey pictures
    oni/*           what a design makes of each caption, before the count of what comes again. Its blind control reads captions
                    that say nothing
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from agents.cli import guarded
from agents.footage import shoot
from agents.report_page import page
from agents.show import say
from benchmarks import cells
from benchmarks.cells import asked_for, cell_parser
from benchmarks.oni_captions import described
from benchmarks.reward_oni import TIMED, Training
from benchmarks.reward_preference import Size, asked, by_preference, features, reach
from perception.text import embed
from rewards.card import Footage, Worth, card
from rewards.intrinsic import IntrinsicReward, RankingReward
from rewards.preference import PreferenceReward

PREFERRED = ("preference/tiny_vlm", "preference/scripted")
ROWS = (*PREFERRED, *TIMED)
EPISODES, FIRST_EPISODE = 20, 1_000_000
BLIND = "preference/blind"


def name_of(reward: str) -> str:
    """What the card's figures are published under."""
    return f"{reward}/card"


def preferred(name: str, seed: int, size: Size) -> tuple[Worth, Worth, dict[str, Footage]]:
    """An ensemble, the one that is taught blindly, and what both are measured by."""
    return (
        taught(name, seed, size),
        taught(BLIND, seed, size),
        footage(reach(EPISODES, "disabled", observe=("front",)), seed, near),
    )


@lru_cache(maxsize=1)  # both judges' cards have the same control
def blindly_taught(seed: int, size: Size) -> PreferenceReward:
    """The ensemble that is taught by grey pictures."""
    return taught(BLIND, seed, size)


def taught(name: str, seed: int, size: Size) -> PreferenceReward:
    """The ensemble at the end of an agent's training."""
    judge = asked(name, seed, size)
    try:
        return by_preference(judge, seed, size)["model"]
    finally:
        judge.close()


def near(state: Mapping[str, NDArray[Any]], number: int) -> NDArray[np.float32]:
    """What the ensemble reads of T moments, (T, 3)."""
    del number
    return features({"tool": state["tool"], "ball": state["ball"]})


def captioned(name: str, seed: int, training: Training) -> tuple[Worth, Worth, dict[str, Footage]]:
    """A design at the end of an agent's training, the same of captions that say nothing, and what both are measured by."""
    _, _, design = training.trained(name, seed)
    assert design is not None
    env = training.env(EPISODES, observe=("close",))
    return partial(worth_of, design), partial(worth_of_nothing, design), footage(env, seed, told)


def worth_of(design: IntrinsicReward, captions: Sequence[str]) -> NDArray[np.float32]:
    """What T captions are worth, (T,), without the count of what comes again."""
    seen = embed(captions)
    return design.normalised(seen) if isinstance(design, RankingReward) else design(captions, seen)


def worth_of_nothing(design: IntrinsicReward, captions: Sequence[str]) -> NDArray[np.float32]:
    """The same of as many captions that say nothing, (T,)."""
    return np.repeat(worth_of(design, [""]), len(captions))


def told(state: Mapping[str, NDArray[Any]], number: int) -> list[str]:
    """T captions by the describer of a simulation."""
    return described(state, np.full(len(state["held"]), number))


def footage(env: Any, seed: int, read: Callable[[Mapping[str, NDArray[Any]], int], Any]) -> dict[str, Footage]:
    """Every frame of all ways of acting; closes the environment."""
    first = FIRST_EPISODE + 1000 * seed
    try:
        (view,) = (name for name, space in env.single_observation_space.items() if len(space.shape) == 3)
        return shoot(env, view, range(first, first + EPISODES), 1, seed, read)
    finally:
        env.close()


def measured(arguments: Any, name: str, seed: int) -> dict[str, float]:
    """A card; the page of seed 0 lies beside it."""
    made = preferred(name, seed, Size()) if name in PREFERRED else captioned(name, seed, Training())
    worth, control, films = made
    found = card(worth, films, np.random.default_rng(seed), control)
    if seed == 0:
        place = arguments.folder / name_of(name)
        place.mkdir(parents=True, exist_ok=True)
        (place / "report.html").write_text(page(name, worth, films, found))
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    arguments = cell_parser("benchmarks.reward_cards", __doc__, ",".join(ROWS)).parse_args(argv)
    torch.set_num_threads(1)
    for name, seed in asked_for(arguments, ROWS):
        found = cells.cell(arguments.folder, name_of(name), seed, partial(measured, arguments, name, seed))
        say(f"{name}, seed {seed}: {', '.join(f'{key} {value:.2f}' for key, value in found.items())}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
