"""The measure of how far a hand looks: 0 for one that goes to a place, 1 for one that only goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from agents.bcrl import BCRLLearner
from agents.memory import Lessons
from agents.run import Run
from agents.seen import Seen
from agents.train import main as train
from assets.errors import InvalidValueError
from benchmarks import straying
from tests.test_bcrl import FOLDER, learner, replay

EYE = (0.13, 0.0, 0.22)
pytestmark = pytest.mark.usefixtures("one_thread")


class _Home(torch.nn.Module):
    """A hand that moves a share of the way to one and the same place, wherever it is."""

    def __init__(self, agent: BCRLLearner, share: float) -> None:
        super().__init__()
        self.agent, self.share = agent, share

    def forward(self, seen: Seen) -> torch.Tensor:
        joints = self.agent.scales.angles(seen.felt)
        home = torch.tensor([0.0, -0.3, 0.0, -2.2, 0.0, 1.9, 0.8])
        moves = self.agent.scales.unit(self.share * (home - joints))
        return torch.cat([moves, torch.zeros(len(moves), 1)], dim=1)[:, None].expand(-1, self.agent._chunk, -1)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 1.0), (1.0, 0.0)])
def test_what_is_kept_of_a_displacement(share: float, kept: float) -> None:
    agent = learner(replay(pause=0), eye_at=EYE)
    seen = Lessons.of(agent.rollout()).seen
    before = seen.felt.clone()
    agent.hand = _Home(agent, share)
    found = straying.kept_by(agent, seen)
    assert found.shape == (len(before), 2)
    np.testing.assert_allclose(found, kept, atol=0.05)  # displacements are met to first order
    assert torch.equal(seen.felt, before)
    agent.hand = _Home(agent, 0.5)
    some = straying.kept_by(agent, seen)
    assert some.min() > 0.2
    assert some.max() < 0.8


def test_a_run_is_measured_by_its_hand(tmp_path: Path) -> None:
    small = ["agent.size={width: 32, heads: 2, depth: 1, patch: 4, window: 4}", "env.resolution=8", "env.max_episode_steps=12"]
    common = ["env=replay_estop", f"env.recordings={FOLDER}", "num_envs=2", "steps=24", "agent.minibatches=2", "env.pause=4"]
    run = train(["agent=bcrl", *common, *small, "agent.device=cpu", "logger=jsonl", f"run={tmp_path / 'run'}"])
    rows = straying.measure("short", Run.open(run.folder))
    assert [(r.name, r.metric) for r in rows] == [("short", "kept_along"), ("short", "kept_across")]
    assert all(0.5 < r.value < 1.2 and r.low <= r.value <= r.high and r.n > 0 for r in rows)  # it has hardly learned to move
    file = run.folder / "config.yaml"
    file.write_text(file.read_text().replace("agents.bcrl.BCRLLearner", "agents.bc.BCLearner"))
    with pytest.raises(InvalidValueError, match="is no run of agent=bcrl"):
        straying.measure("short", Run.open(run.folder))
    with pytest.raises(InvalidValueError, match="--runs needs NAME=FOLDER, got 'short'"):
        straying.main(["--runs", "short"])
