"""Reach by preferences alone: a judge says which of two moments is better, an ensemble learns it, an agent is paid by that.

    python -m benchmarks.reward_preference --cells preference/tiny_vlm,preference/scripted --seeds 0,1,2

After RL-VLM-F (arXiv:2402.03681) and PEBBLE (arXiv:2106.05091): rounds of questions about random moments of the agent's own
past, ties dropped; after each round an ensemble is fitted to all answers, and the replay buffer is paid anew. A cell is a judge
and a seed; what is there already is not made again. Beside it, curve-<seed>.json has the success after every round.

    preference/tiny_vlm   the tiny chat model sees both moments from two cameras and is asked of each picture whether the
                          gripper holds something green, and whether it is empty
    preference/blind      the same model and questions, of grey pictures
    preference/scripted   the true distances, and a wrong answer to a quarter of the questions

A pair counts where both questions and both cameras agree, and is a tie elsewhere: `ties` is their share of the `judged_pairs`,
`judge_accuracy` of the others is by the true distances, 0.5 where there are none. The agent (SAC) is told where tool and ball
are, the ensemble how far they are apart on the level, in height and in all; what of it is good, only the judge says, who sees
pictures alone.
`policy_success_ever` is of 100 episodes of the trained agent that come within 3 cm, `policy_success_at_end` of those that are
there when time is up; `oracle_success_ever` and `_at_end` are of the same agent after as long a training with the task's own
reward. `success_ratio_to_oracle` is the quotient of both, at the end of the episodes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3 import SAC
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

from agents.cli import guarded
from agents.config import load
from agents.make import make_env
from agents.run import write_json
from agents.show import say
from agents.vec import SB3VecEnv
from agents.vec_reward import VecRewardWrapper
from benchmarks.cells import asked_for, cell, cell_parser, kept
from perception.vlm.cached import Cached
from perception.vlm.judge import Judge
from perception.vlm.tiny import TinyChat
from rewards.base import Transition, WeightedSum
from rewards.preference import PreferenceReward

Moments = dict[str, NDArray[Any]]  # what is observed, name -> (N, ...)
Indices = NDArray[np.intp]
# Moments and pairs (P,) of them: -1 where the first is better, +1 where the second is, 0 for a tie.
Asked = Callable[[Moments, Indices, Indices], NDArray[np.float32]]

ROWS = ("preference/tiny_vlm", "preference/blind", "preference/scripted")
# Of all that the tiny model was taught, the nearest to touching a green ball and to not touching it.
GOAL, BASELINE = "The gripper holds the green cube.", "The gripper is empty."
VIEWS, SIDE = ("left", "right"), 128
ERRORS = 0.25
SIMS, LENGTH, JUDGED = 16, 50, 100
FIRST_EPISODE = 1_000_000
SAC_SETTINGS: dict[str, Any] = {
    "learning_rate": 2e-3, "gamma": 0.9, "tau": 0.02, "batch_size": 256, "train_freq": 1, "gradient_steps": 4,
    "ent_coef": "auto_0.05", "buffer_size": 50_000, "device": "cpu",
}  # fmt: skip


@dataclass(frozen=True)
class Size:
    """How much of everything.

    Attributes:
        rounds: of questions and training.
        moments: shown in a round.
        pairs: of them, asked about in a round.
        steps: environment steps in a round, and random ones before the first.
        fit_steps: of the ensemble, after each round.
    """

    rounds: int = 8
    moments: int = 100
    pairs: int = 200
    steps: int = 1500
    fit_steps: int = 200


class Way(BaseFeaturesExtractor):
    """What a policy of Reach needs: the way to the ball, dm, and where the tool is, m."""

    def __init__(self, observation_space: spaces.Dict) -> None:
        super().__init__(observation_space, 6)

    def forward(self, obs: dict[str, torch.Tensor]) -> torch.Tensor:
        """(N, 6)."""
        return torch.cat([10 * (obs["ball"] - obs["tool"]), obs["tool"]], dim=1)


def offset(moments: Moments) -> NDArray[np.float32]:
    """From the ball to the tool, m, (N, 3)."""
    return (moments["tool"] - moments["ball"]).astype(np.float32)


def features(moments: Moments) -> NDArray[np.float32]:
    """What the ensemble is told of a moment: how far tool and ball are apart on the level, in height, and in all, m; (N, 3)."""
    apart = np.abs(offset(moments))
    return np.stack([np.hypot(apart[:, 0], apart[:, 1]), apart[:, 2], np.linalg.norm(apart, axis=1)], axis=1)


class Liked:
    """What the ensemble makes of where a step led to."""

    def __init__(self, model: PreferenceReward) -> None:
        self.model = model

    def __call__(self, batch: Transition) -> NDArray[np.float32]:
        """The reward of each step, (T,)."""
        return self.model(features(dict(batch.next_obs)))


class Sight:
    """Compares moments by pictures of them and nothing else.

    Args:
        judge: asks the model.
        count: moments at a time.
        blind: show grey instead.
    """

    def __init__(self, judge: Judge, count: int, blind: bool = False) -> None:
        self._judge, self._blind = judge, blind
        self._env = reach(count, "disabled", cameras=list(VIEWS), observe=VIEWS, image_size=SIDE)

    def __call__(self, moments: Moments, a: Indices, b: Indices) -> NDArray[np.float32]:
        """Which is better, where both claims of both cameras' pictures say the same; a tie elsewhere."""
        opinions = self._opinions(moments)
        said = np.sign(opinions[:, b] - opinions[:, a])
        return np.where((said == said[0]).all(axis=0), said[0], 0).astype(np.float32)

    def pictures(self, moments: Moments) -> list[NDArray[np.uint8]]:
        """What the cameras show of each moment, the gripper as it is at rest; (N, H, W, 3) for each."""
        obs, _ = self._env.reset(seed=0, options={"joints": moments["joints"], "ball": moments["ball"]})
        return [np.full_like(obs[view], 128) if self._blind else obs[view] for view in VIEWS]

    def _opinions(self, moments: Moments) -> NDArray[np.float64]:
        """Log-odds of the goal and against the baseline, by each camera's pictures; (4, N)."""
        images = np.concatenate(self.pictures(moments))
        goal, baseline = (self._judge.log_odds(images, [claim] * len(images)) for claim in (GOAL, BASELINE))
        return np.stack([goal, -baseline]).reshape(2 * len(VIEWS), -1)

    def close(self) -> None:
        """Free the cameras."""
        self._env.close()


class Scripted:
    """Compares moments by their true distances, and lies at a given rate.

    Args:
        errors: share of wrong answers.
        seed: of the lies.
    """

    def __init__(self, errors: float, seed: int) -> None:
        self._errors, self._rng = errors, np.random.default_rng(seed)

    def __call__(self, moments: Moments, a: Indices, b: Indices) -> NDArray[np.float32]:
        """Which is better."""
        true = nearer(moments, a, b)
        return np.where(self._rng.random(len(true)) < self._errors, -true, true).astype(np.float32)

    def close(self) -> None:
        """Nothing to free."""


def nearer(moments: Moments, a: Indices, b: Indices) -> NDArray[np.float32]:
    """The truth: -1 where the tool is nearer to the ball in a, +1 where in b."""
    distance = np.linalg.norm(offset(moments), axis=1)
    return np.sign(distance[a] - distance[b])


def reach(count: int, mode: str, **more: Any) -> Any:
    """Reach, told where the ball is."""
    options = {"observe": (), "max_episode_steps": LENGTH, "num_threads": 1, **more}
    return make_env(load("train", ["env=reach"]), count, mode, **{"told": True, **options})


def past(buffer: Any) -> Moments:
    """All moments in a replay buffer, (N, ...)."""
    filled = buffer.buffer_size if buffer.full else buffer.pos
    return {key: value[:filled].reshape(-1, *value.shape[2:]) for key, value in buffer.next_observations.items()}


def pay_anew(buffer: Any, model: PreferenceReward) -> None:
    """Give every step in a replay buffer the reward that the ensemble now says (PEBBLE, section 4.3)."""
    filled = buffer.buffer_size if buffer.full else buffer.pos
    buffer.rewards[:filled] = model(features(past(buffer))).reshape(filled, -1)


def drawn(moments: Moments, count: int, rng: np.random.Generator) -> Moments:
    """Some of the moments, at random."""
    picked = rng.choice(len(moments["tool"]), count, replace=False)
    return {key: value[picked] for key, value in moments.items()}


def paired(count: int, pairs: int, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """Pairs of different ones out of `count`, at random."""
    a = rng.integers(count, size=pairs)
    return a, (a + rng.integers(1, count, size=pairs)) % count


class Answers:
    """What a judge was asked and said, and the truth of it."""

    def __init__(self) -> None:
        self._rows: list[tuple[NDArray[np.float32], ...]] = []

    def ask(self, judge: Asked, moments: Moments, a: Indices, b: Indices) -> None:
        """Ask about pairs, and remember."""
        told = features(moments)[:, None]
        self._rows.append((told[a], told[b], judge(moments, a, b), nearer(moments, a, b)))

    def pairs(self) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """For `PreferenceReward.fit`."""
        a, b, said, _ = map(np.concatenate, zip(*self._rows, strict=True))
        return a, b, said

    def measures(self) -> dict[str, float]:
        """How many, how good."""
        _, _, said, true = map(np.concatenate, zip(*self._rows, strict=True))
        answered = said != 0
        right = float((said == true)[answered].mean()) if answered.any() else 0.5
        return {"judged_pairs": len(said), "judge_accuracy": right, "ties": float(1 - answered.mean())}


def ensemble(seed: int) -> PreferenceReward:
    """An untrained ensemble."""
    return PreferenceReward(3, hidden=(32, 32), output="standardised", seed=seed)


def agent(venv: Any, seed: int, size: Size) -> SAC:
    """An untrained agent."""
    policy = {"net_arch": [64, 64], "features_extractor_class": Way}
    settings = {**SAC_SETTINGS, "learning_starts": size.steps, "seed": seed, "policy_kwargs": policy}
    return SAC("MultiInputPolicy", venv, **settings)


def judged(model: SAC, count: int, seed: int) -> tuple[float, float]:
    """Shares of episodes that succeed at any time, and at their end."""
    env = reach(count, "disabled")
    obs, _ = env.reset(seed=[FIRST_EPISODE + 1000 * seed + k for k in range(count)])
    ever, now = np.zeros(count, bool), np.zeros(count, bool)
    for _ in range(LENGTH):
        obs, _, _, _, info = env.step(model.predict(obs, deterministic=True)[0])
        now = info["success"]
        ever |= now
    env.close()
    return float(ever.mean()), float(now.mean())


def by_truth(seed: int, size: Size) -> dict[str, Any]:
    """Train with the task's own reward."""
    venv = SB3VecEnv(reach(SIMS, "same_step"))
    model, curve = agent(venv, seed, size), []
    model.learn(size.steps)
    for _ in range(size.rounds):
        model.learn(size.steps, reset_num_timesteps=False)
        curve.append(judged(model, JUDGED, seed))
    venv.close()
    return {"curve": curve}


def by_preference(judge: Asked, seed: int, size: Size) -> dict[str, Any]:
    """Train with nothing but a judge's preferences."""
    rng, answers, curve = np.random.default_rng(seed), Answers(), []
    liked = Liked(ensemble(seed))
    venv = VecRewardWrapper(SB3VecEnv(reach(SIMS, "same_step")), WeightedSum({"liked": liked}))
    model = agent(venv, seed, size)
    model.learn(size.steps)
    for _ in range(size.rounds):
        moments = drawn(past(model.replay_buffer), size.moments, rng)
        answers.ask(judge, moments, *paired(size.moments, size.pairs, rng))
        liked.model = ensemble(seed)  # what was learned of few answers is not unlearned of many
        liked.model.fit(*answers.pairs(), rng, steps=size.fit_steps)
        pay_anew(model.replay_buffer, liked.model)
        model.learn(size.steps, reset_num_timesteps=False)
        curve.append(judged(model, JUDGED, seed))
    venv.close()
    return {"curve": curve, "measures": answers.measures(), "model": liked.model}


def asked(name: str, seed: int, size: Size) -> Sight | Scripted:
    """The judge of a row."""
    if name == "preference/scripted":
        return Scripted(ERRORS, seed)
    backend = Cached(TinyChat(device="cpu"), name="tiny")  # a moment is in several pairs
    return Sight(Judge(backend), size.moments, name == "preference/blind")


def measured(folder: Path, name: str, seed: int, size: Size) -> dict[str, float]:
    """A cell, and its curve beside it."""
    truth = kept(folder / "preference" / "oracle" / f"curve-{seed}.json", lambda: by_truth(seed, size))["curve"]
    judge = asked(name, seed, size)
    try:
        found = by_preference(judge, seed, size)
    finally:
        judge.close()
    (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(folder / name / f"curve-{seed}.json", {"curve": found["curve"]})
    (ever, end), (true_ever, true_end) = found["curve"][-1], truth[-1]
    return {
        **found["measures"], "policy_success_ever": ever, "policy_success_at_end": end, "oracle_success_ever": true_ever,
        "oracle_success_at_end": true_end, "success_ratio_to_oracle": end / max(true_end, 1 / JUDGED),
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Command line."""
    arguments = cell_parser("benchmarks.reward_preference", __doc__, ",".join(ROWS)).parse_args(argv)
    torch.set_num_threads(1)
    for name, seed in asked_for(arguments, ROWS):
        found = cell(arguments.folder, name, seed, partial(measured, arguments.folder, name, seed, Size()))
        say(f"{name}, seed {seed}: {json.dumps({key: round(value, 3) for key, value in found.items()})}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(main))
