"""BC-RL: the known mistakes of the released code are not made here, and something tiny is learned."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from agents import checkpoint, parallel, sight
from agents.augment import Jitter
from agents.bcrl import BCRLLearner
from agents.config import load
from agents.evaluate import main as evaluate
from agents.experience import Rollout, advantages
from agents.make import make_env, make_learner
from agents.memory import Lessons
from agents.pair import AHEAD_GAZE
from agents.parallel import Group
from agents.run import Run
from agents.scales import Scales
from agents.train import _learner
from agents.train import main as train
from assets import asset
from assets.errors import InvalidValueError, UnknownNameError
from envs.replay import BatchReplay
from perception.recording import Recordings, Writer

FOLDER = "recordings/eraser_stand"
SIZE = {"width": 32, "heads": 2, "depth": 1, "patch": 4, "window": 4}
pytestmark = pytest.mark.usefixtures("one_thread")


def replay(num_envs: int = 2, **options: Any) -> BatchReplay:
    settings = {"max_episode_steps": 12, "pause": 4, "resolution": 8, "actions": "directions_25", **options}
    return BatchReplay(FOLDER, num_envs, **settings)


def learner(env: BatchReplay | None = None, **settings: Any) -> BCRLLearner:
    given = {"size": SIZE, "epochs": 2, "minibatches": 2, "device": "cpu", **settings}
    return BCRLLearner(env or replay(), **given)


def test_a_greedy_eye_can_be_kept_from_where_it_has_just_looked() -> None:
    def walk(inhibit: int) -> bool:
        """Whether any eye comes back to where it was."""
        agent, env = learner(hand=False, reward="env", inhibit=inhibit), replay(8, actions="box", chunk=0)
        left, right = (torch.eye(25)[k] for k in (0, 4))  # whichever side it looks to, it likes the other

        def look(seen: Any, memory: Any) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.where(seen.gaze[:, :1] < 0, left, right), torch.zeros(8)

        agent._look = look  # type: ignore[method-assign]
        obs, _ = env.reset(seed=0)
        gazes = [obs["gaze"]]
        for _ in range(11):
            obs, *_ = env.step(agent.act(obs, deterministic=True))
            gazes.append(obs["gaze"])
        seen = np.degrees(np.stack(gazes))
        moved = np.linalg.norm(np.diff(seen, axis=0), axis=-1) > 0.5
        apart = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
        return any(apart[j, i, e] < 0.4 and moved[i:j, e].any() for j in range(12) for i in range(j) for e in range(8))

    assert walk(0)
    assert not walk(30)


def weights(net: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {key: value.clone() for key, value in net.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[key], b[key]) for key in a)


def prepared(agent: BCRLLearner) -> tuple[Rollout, torch.Tensor, torch.Tensor]:
    found = agent.rollout()
    return found, *advantages(found.rewards, found.values, found.last, 0.9, 0.9)


@pytest.mark.parametrize("half", [False, True])
def test_the_first_ratio_is_one(half: bool) -> None:
    agent = learner(size={**SIZE, "depth": 3}, augment=1.0, half=half)
    with torch.no_grad():
        agent.eye.actor[-1].weight.mul_(100)  # turns that depend on what is seen, and on how it is rounded
    found, gain, returns = prepared(agent)
    told = agent.eye_update(found, torch.arange(2), gain, returns)
    assert told["train/ratio_error"] < 1e-3
    assert abs(told["train/kl"]) < 1e-6
    assert agent.eye_update(found, torch.arange(2), gain, returns)["train/ratio_error"] > 1e-3  # now it has learned


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch's, where it takes a slower norm
@pytest.mark.parametrize("half", [False, True])
def test_the_hand_alone_learns_in_half_precision(half: bool) -> None:
    agent, seen = learner(half=half), {"eye": set(), "hand": set()}
    for name, last in (("eye", agent.eye.actor[-1]), ("hand", agent.hand.out[-1])):
        last.register_forward_hook(lambda _, __, out, name=name: seen[name].add(out.dtype))
    found, gain, returns = prepared(agent)
    assert seen == {"eye": {torch.float32}, "hand": {torch.float32}}
    seen["hand"].clear()
    before = weights(agent.hand)
    agent.eye_update(found, torch.arange(2), gain, returns)
    agent.hand_update(Lessons.of(found))
    assert seen == {"eye": {torch.float32}, "hand": {torch.bfloat16 if half else torch.float32}}
    assert not same(before, weights(agent.hand))


def test_divergence_ends_the_epochs_of_the_eye_alone() -> None:
    agent = learner(target_kl=-1.0, epochs=3, warmup_steps=1, hand_batch=8)
    updates = {"eye": 0, "hand": 0}
    for name in updates:
        optimizer = agent._optimizers[name]
        optimizer.register_step_post_hook(lambda *_, name=name: updates.__setitem__(name, updates[name] + 1))
    agent.advance(1)
    assert updates == {"eye": 1, "hand": 3 * 2}


def test_the_hand_may_have_more_epochs_than_the_eye() -> None:
    agent, updates = learner(hand_net="glance", hand_epochs=5, hand_batch=1000), {"eye": 0, "hand": 0}

    def count(name: str, *_: Any) -> None:
        updates[name] += 1

    agent._apply = count  # type: ignore[method-assign,assignment]
    agent.advance(1)
    assert updates == {"eye": 2 * 2, "hand": 5}
    with pytest.raises(InvalidValueError, match="hand_epochs must be >= 1, got 0"):
        learner(hand_epochs=0)


def test_greedy_eyes_take_their_likeliest_turns_and_learn_by_imitation_alone() -> None:
    agent = learner(replay(4), imitate=1.0, greedy=0.5, entropy=0.0, value_weight=0.0)
    with torch.no_grad():
        agent.eye.actor[-1].weight.mul_(30)  # turns that depend on what is seen
        found, gain, returns = prepared(agent)
        likeliest = agent.eye.eval()(found.seen)[0].argmax(-1)
    assert torch.equal(found.turns[:2], likeliest[:2])
    assert not torch.equal(found.turns[2:], likeliest[2:])

    def gradient(imitate: float, chosen: list[int]) -> torch.Tensor:
        agent._imitate, kept = imitate, weights(agent.eye)
        agent._optimizers["eye"] = torch.optim.SGD(agent.eye.parameters(), 1.0)
        agent.eye_update(found, torch.tensor(chosen), gain, returns)
        moved = torch.cat([(p.detach() - kept[name]).flatten() for name, p in agent.eye.named_parameters()])
        agent.eye.load_state_dict(kept)
        return moved

    assert gradient(0.0, [0, 1]).abs().max() == 0
    assert gradient(0.0, [2, 3]).abs().max() > 0
    assert gradient(1.0, [0, 1]).abs().max() > 0
    with pytest.raises(InvalidValueError, match=r"greedy must be a share in \[0, 1\), got 1.0"):
        learner(greedy=1.0)


@pytest.mark.parametrize("gaze", ["oracle", "fixed", "random"])
def test_greedy_eyes_are_none_of_those_that_another_turns(gaze: str) -> None:
    plain, greedy = (learner(replay(4), gaze=gaze, greedy=share, augment=0.0).rollout().turns for share in (0.0, 0.5))
    assert torch.equal(plain, greedy)


def test_an_eye_can_keep_to_the_one_it_began_with(tmp_path: Path) -> None:
    checkpoint.save_step({"learner": learner().state()}, tmp_path, 0, 1)
    plain = {"start": tmp_path, "entropy": 0.0, "value_weight": 0.0, "warmup_steps": 1}
    for keep in (0.0, 1.0):
        agent = learner(keep=keep, **plain)
        found, gain, returns = prepared(agent)
        found.first = agent._turns_at_first(found.seen)
        agent._optimizers["eye"] = torch.optim.SGD(agent.eye.parameters(), 1.0)
        with torch.no_grad():
            agent.eye.actor[-1].bias += torch.linspace(-1, 1, 25)  # it has gone astray
        before = agent.eye.actor[-1].bias.clone()
        agent.eye_update(found, torch.arange(2), 0 * gain, returns)
        moved = agent.eye.actor[-1].bias.detach() - before
        assert (moved @ torch.linspace(-1, 1, 25) < -1e-4) if keep else (moved == 0).all()
    assert learner(keep=0.5).rollout().first is None  # there is nothing to keep to
    with pytest.raises(InvalidValueError, match=r"keep must be >= 0, got -1"):
        learner(keep=-1)


def test_with_blind_lessons_the_eye_is_paid_by_what_seeing_adds() -> None:
    plain, less = learner(augment=0.0), learner(augment=0.0, blind=0.3)
    one, other = plain.rollout(), less.rollout()
    assert torch.equal(one.turns, other.turns)
    assert one.told["rollout/reward"] < 0
    less.hand = _Blind(less.hand)  # type: ignore[assignment]  one that never looks
    assert less.rollout().told["rollout/reward"] == 0
    seen, shut = one.seen.flat(), []
    teacher = learner(augment=0.0, blind=0.5, dropout=0.0)
    teacher.hand.encoder.register_forward_pre_hook(lambda _, given: shut.append((given[0].images == 128).all(dim=(1, 2, 3, 4))))
    lessons = Lessons(seen, *(x.flatten(0, 1) for x in (one.wanted, one.valid)))[torch.arange(20)]
    for _ in range(20):
        teacher.hand_update(lessons[torch.arange(20)])
    assert 0.35 < torch.cat(shut).float().mean() < 0.65
    assert torch.equal(seen.images, one.seen.flat().images)  # the rollout keeps its pictures
    with pytest.raises(InvalidValueError, match=r"blind must be a share in \[0, 1\), got 1"):
        learner(blind=1.0)


class _Blind(torch.nn.Module):
    """A hand that is told nothing of pictures and gaze."""

    def __init__(self, hand: torch.nn.Module) -> None:
        super().__init__()
        self.hand = hand

    def forward(self, seen: Any) -> torch.Tensor:
        said: torch.Tensor = self.hand(seen.unseen())
        return said


def test_augmented_pictures_reach_the_encoder() -> None:
    plain, changed = learner(augment=0.0), learner(augment=1.0)
    a, b = plain.rollout(), changed.rollout()
    assert (a.seen.images[:, 0] != b.seen.images[:, 0]).any()
    with torch.no_grad():
        tokens = [agent.eye.encoder(r.seen[:, 0]) for agent, r in ((plain, a), (plain, b))]
    assert (tokens[0] - tokens[1]).abs().max() > 1e-3


def test_jitter_is_one_change_an_episode() -> None:
    rng = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 8, 8, 3), dtype=torch.uint8, generator=rng)
    change = Jitter(0.5).draw(64, rng)
    torch.testing.assert_close(change(images), change(images))
    untouched = [(change(images)[i] == images[i]).all().item() for i in range(64)]
    assert 16 < sum(untouched) < 48
    assert torch.equal(Jitter(0.0).draw(64, rng)(images), images)
    with pytest.raises(InvalidValueError, match="share"):
        Jitter(1.5)


def test_what_the_hand_learns_is_what_comes_next() -> None:
    env = replay(pause=0)
    agent = learner(env)
    found = agent.rollout()
    moved = agent.scales.joints(found.wanted).numpy()
    columns = env.columns("joints")
    assert np.allclose(moved[:, :, 0], 0, atol=1e-6)  # the first target is the present
    speeds = np.concatenate([np.diff(c, axis=0) for c in columns])
    assert np.abs(moved[:, :, 1] - moved[:, :, 0])[found.valid[:, :, 1].numpy()].max() <= np.abs(speeds).max() + 1e-6


def test_from_beside_the_path_what_is_wanted_leads_back_onto_it() -> None:
    env = replay(pause=0)
    agent = learner(env, stray=0.1, eye_at=(0.13, 0.0, 0.22), seed=3)
    found, before = agent.rollout(), agent.scales
    at = torch.zeros(64, dtype=torch.long), torch.full((64,), 5)
    seen, wanted = found.seen[at], found.wanted[at]
    seen.felt[:, 7] = torch.arange(64)
    agent._lead_astray(seen, wanted)
    others = seen.felt[:, 7] != torch.arange(64)
    assert 6 < others.sum() < 26  # a quarter feels the gripper as another lesson does
    assert set(seen.felt[:, 7].tolist()) <= set(range(64))
    true = found.seen[at]
    now, was = ((s.felt * before.std + before.mean)[:, :7].double().numpy() for s in (seen, true))
    strayed = (now != was).any(axis=1)
    assert 16 < strayed.sum() < 48  # half of them
    np.testing.assert_allclose((now - was)[strayed].std(), 0.1, rtol=0.2)
    moves, right = (now[:, None] + agent.scales.joints(w).double().numpy() for w in (wanted, found.wanted[at]))
    path = right - (now - was)[:, None]
    np.testing.assert_allclose(moves[:, 10:], path[:, 10:], atol=1e-5)  # back where the demonstrator is by then
    np.testing.assert_allclose(moves[:, 0], now, atol=1e-5)
    np.testing.assert_allclose(moves[:, 5], path[:, 5] + (now - was) / 2, atol=1e-5)
    tool, axes = env.pose(now)
    np.testing.assert_allclose(seen.tool[:, :3].double().numpy(), tool - [0.13, 0.0, 0.22], atol=1e-5)
    np.testing.assert_allclose(seen.tool[:, 3].double().numpy(), axes[:, 0] ** 2 - axes[:, 1] ** 2, atol=1e-5)
    assert torch.equal(wanted[..., -1], found.wanted[at][..., -1])  # the gripper is told the same
    assert torch.equal(found.seen[at].felt, true.felt)  # the rollout stays as it was


def test_a_tool_that_strays_alone_stays_upright_and_is_led_back() -> None:
    env = replay(pause=0)
    agent = learner(env, stray_tool=0.03, eye_at=(0.13, 0.0, 0.22), seed=3)
    found = agent.rollout()
    at = torch.zeros(400, dtype=torch.long), torch.full((400,), 5)
    seen, wanted = found.seen[at], found.wanted[at]
    agent._lead_astray(seen, wanted)
    now, was = (agent.scales.angles(s.felt).double().numpy() for s in (seen, found.seen[at]))
    (tool, axes), (before, upright) = env.pose(now), env.pose(was)
    off = tool - before
    strayed = (np.abs(off) > 1e-6).any(axis=1)
    assert 60 < strayed.sum() < 140  # half of the half that strays
    np.testing.assert_allclose(off[strayed, :2].std(axis=0), 0.03, rtol=0.2)
    assert (np.abs(off[:, 2]) <= 2 * (off[:, :2] ** 2).sum(axis=1) + 1e-6).all()  # at the same height, to first order
    assert np.abs(axes - upright).max() < 0.1
    np.testing.assert_allclose(seen.tool[:, :3].double().numpy(), tool - [0.13, 0.0, 0.22], atol=1e-5)
    last, right = (now + agent.scales.joints(w[:, -1]).double().numpy() for w in (wanted, found.wanted[at]))
    np.testing.assert_allclose(last, right - (now - was), atol=1e-5)
    with pytest.raises(InvalidValueError, match=r"stray_height and stray_turn must be >= 0, got 0.0, -1, 0.0 and None"):
        learner(stray_tool=-1)


def test_the_tools_height_can_stray_too() -> None:
    env = replay(pause=0)
    agent = learner(env, stray_tool=0.02, stray_height=0.03, seed=3)
    seen = agent.rollout().seen[torch.zeros(400, dtype=torch.long), torch.full((400,), 5)]
    before = env.tool(agent.scales.angles(seen.felt).double().numpy())
    agent._lead_astray(seen, torch.zeros(400, 6, 8))
    off = env.tool(agent.scales.angles(seen.felt).double().numpy()) - before
    strayed = (np.abs(off) > 1e-4).any(axis=1)
    assert 60 < strayed.sum() < 140
    np.testing.assert_allclose(off[strayed].std(axis=0), [0.02, 0.02, 0.03], rtol=0.25)
    with pytest.raises(InvalidValueError, match=r"it needs stray_tool, got 0\.03"):
        learner(stray_height=0.03)


def test_the_wrist_can_stray_farther_than_the_arm() -> None:
    agent = learner(replay(pause=0), stray=0.05, stray_turn=0.4, seed=3)
    seen = agent.rollout().seen[torch.zeros(400, dtype=torch.long), torch.full((400,), 5)]
    was = seen.felt.clone()
    agent._lead_astray(seen, torch.zeros(400, 6, 8))
    off = ((seen.felt - was)[:, :7] * agent.scales.std[:7]).numpy()
    off = off[(off != 0).any(axis=1)]
    np.testing.assert_allclose(off[:, :6].std(), 0.05, rtol=0.1)
    np.testing.assert_allclose(off[:, 6].std(), 0.4, rtol=0.2)
    both = learner(replay(pause=0), stray=0.05, stray_turn=0.4, stray_tool=0.03, seed=3)
    before = both.scales.angles(seen.felt)
    both._lead_astray(seen, torch.zeros(400, 6, 8))
    turned = (both.scales.angles(seen.felt) - before).abs().numpy()
    assert 160 < (turned[:, 6] > 1e-6).sum() < 240  # half of them
    assert turned[:, 6][turned[:, 6] > 1e-6].mean() > 0.25  # whether it is the joints or the tool that strays


def test_shapes_are_told_to_a_hand_that_asks_for_them() -> None:
    told, not_told = (learner(hand_net="glance", shapes=shapes) for shapes in (True, False))
    seen = told.rollout().seen
    assert not not_told.rollout().seen.shapes.any()
    weights = sight.closeness(seen.images[:, 3], seen.words[:, 3])
    torch.testing.assert_close(seen.shapes[:, 3], sight.shapes(weights, told._rays))
    assert seen.shapes.abs().amax() > 0.1
    with pytest.raises(InvalidValueError, match="shapes are told to hand_net=glance alone, got hand_net=joints"):
        learner(shapes=True)


def test_nothing_is_cloned_while_the_world_stands_still() -> None:
    found = learner(replay(pause=5)).rollout()
    assert not found.valid[:, :5].any()
    assert found.valid[:, 5:].any()


def test_a_turn_is_paid_for_what_is_then_seen() -> None:
    agent = learner(replay(pause=0))
    env: Any = agent._env
    agent._seeded()
    arrays, rest = env.checkpoint()
    found = agent.rollout()
    env.resume(arrays, rest)
    obs, info = env.reset()
    for t in range(11):
        obs, _, _, _, info = env.step(found.turns[:, t].numpy())
        with torch.no_grad():
            seen = agent.see(obs)
            seen.images = found.seen.images[:, t + 1]
            worth = agent._judge(seen, obs, info)
        torch.testing.assert_close(found.rewards[:, t], worth * 3.0)


def test_generalised_advantages() -> None:
    rng = torch.Generator().manual_seed(0)
    rewards, values, last = (torch.randn(*s, generator=rng) for s in ((2, 5), (2, 5), (2,)))
    gain, returns = advantages(rewards, values, last, 0.9, 1.0)
    powers = 0.9 ** torch.arange(5)
    torch.testing.assert_close(returns[:, 0], (rewards * powers).sum(1) + 0.9**5 * last)
    torch.testing.assert_close(gain, returns - values)
    one, _ = advantages(rewards, values, last, 0.9, 0.0)
    torch.testing.assert_close(one[:, 4], rewards[:, 4] + 0.9 * last - values[:, 4])


def test_search_passes_on_to_eye_and_hand_bit_for_bit(tmp_path: Path) -> None:
    search = learner(replay(target="any"), reward="env", hand=False)
    search.advance(1)
    checkpoint.save_step({"learner": search.state()}, tmp_path / "checkpoints", search.steps, 1)
    before = weights(search.eye)
    both, eye_only = learner(start=tmp_path), learner(start=tmp_path, start_hand=False)
    values = {k: torch.zeros_like(v) for k, v in before.items() if k.startswith("critic.4.")}
    assert len(values) == 2  # they were of another reward
    assert same({**before, **values}, weights(both.eye))
    assert same(weights(eye_only.eye), weights(both.eye))
    on = learner(replay(target="any"), reward="env", hand=False, start=tmp_path)
    assert same(weights(on.eye), before)
    shared = {k: v for k, v in before.items() if k.startswith(("encoder.", "tokens.", "blocks."))}
    assert len(shared) > 20
    assert same(shared, weights(both.hand))
    assert not same(shared, weights(eye_only.hand))
    glance = weights(learner(start=tmp_path, hand_net="glance").hand)
    assert same({k: v for k, v in shared.items() if k.startswith("encoder.")}, glance)


@pytest.mark.parametrize("gaze", ["random", "fixed", "oracle"])
def test_other_gazes_leave_the_eye_as_it_is(gaze: str) -> None:
    agent = learner(replay(max_episode_steps=20), gaze=gaze)
    eye, hand = weights(agent.eye), weights(agent.hand)
    agent.advance(1)
    assert same(eye, weights(agent.eye))
    assert not same(hand, weights(agent.hand))
    if gaze == "random":
        with torch.no_grad():
            agent.eye.actor[-1].bias[3] = 100.0  # an eye that would always turn the same way
        assert len(agent.rollout().turns.unique()) > 10
    if gaze == "fixed":
        left = agent.rollout().seen.gaze[:, -1].numpy() - AHEAD_GAZE
        assert np.abs(left).max() < np.radians(1.5)


@pytest.mark.parametrize("reward", ["path", "se3", "joint"])
def test_rewards_are_never_above_nothing(reward: str) -> None:
    assert (learner(reward=reward).rollout().rewards <= 0).all()


class _Says(torch.nn.Module):
    """A hand that says what it is given."""

    def __init__(self, agent: BCRLLearner, joints: NDArray[np.float64], now: NDArray[np.float32], grip: NDArray[Any]) -> None:
        super().__init__()
        moved = agent.scales.unit(torch.from_numpy((joints - now[:, None]).astype(np.float32)))
        self.said = torch.cat([moved, torch.from_numpy((2 * grip - 1).astype(np.float32))], dim=-1)

    def forward(self, seen: Any) -> torch.Tensor:
        return self.said


def judged(turned: float = 0.0, slip: float = 0.0, **settings: Any) -> NDArray[np.float32]:
    """What a hand is worth that is right but for its last joint, rad, and its gripper's opening."""
    env = replay(2)
    agent = learner(env, **settings)
    obs, info = env.reset(seed=1)
    joints, grip = info["chunk"]["joints"].copy(), info["chunk"]["grip"]
    joints[..., -1] += turned
    grip[:] = 1.0
    agent.hand = _Says(agent, joints, obs["joints"], grip - slip)  # type: ignore[assignment]
    worth: NDArray[np.float32] = agent._judge(agent.see(obs), obs, info).numpy()
    return worth


@pytest.mark.parametrize(("reward", "usual"), [("path", 0.0), ("se3", 0.0), ("joint", 0.2)])
def test_every_reward_can_charge_for_the_grip(reward: str, usual: float) -> None:
    np.testing.assert_allclose(judged(reward=reward), 0, atol=1e-5)
    np.testing.assert_allclose(judged(slip=1.0, reward=reward), -usual, atol=1e-5)
    np.testing.assert_allclose(judged(slip=1.0, reward=reward, grip=0.7), -0.7, atol=1e-5)


def test_a_tool_that_only_turns_costs_its_angle_in_se3_alone() -> None:
    """The last joint's axis goes through the tool."""
    np.testing.assert_allclose(judged(turned=0.5, reward="path"), 0, atol=1e-5)
    np.testing.assert_allclose(judged(turned=0.5, reward="se3"), -0.1 * 0.5, atol=5e-3)
    np.testing.assert_allclose(judged(turned=0.5, reward="se3", radian=0.0), 0, atol=1e-5)


def test_poses_need_recorded_axes() -> None:
    recordings = list(Recordings(asset(f"{FOLDER}/complete.json").parent))
    short = [replace(r, columns={k: v for k, v in r.columns.items() if k != "tool_axes"}) for r in recordings]
    for given in (short, [recordings[0], short[1]]):
        env = BatchReplay(given, 2, actions="directions_25", resolution=8)
        with pytest.raises(InvalidValueError, match="reward='se3' reads the recorded column 'tool_axes', which not all"):
            learner(env, reward="se3")
        learner(env, reward="path")


def test_acting_in_the_task(tmp_path: Path) -> None:
    import gymnasium as gym

    env = gym.make_vec(
        "envs:Saccade/EraserStand-v0", 2, vectorization_mode="vector_entry_point", control="joint", resolution=8,
        autoreset_mode="disabled",
    )  # fmt: skip
    agent = learner()
    obs, _ = env.reset(seed=0)
    for _ in range(3):
        action = agent.act(obs, deterministic=True)
        assert action in env.action_space
        obs, *_ = env.step(action)
    agent.reset(np.array([True, False]))
    agent.act(obs)
    env.close()


def test_a_plan_is_steered_a_little_ahead() -> None:
    """A hand that says the truth moves the arm as the demonstrator did."""
    env = replay(1, pause=0)
    agent = learner(env, minibatches=1)
    _, info = env.reset(seed=1)
    ahead = info["chunk"]["joints"][0]

    class Knows(torch.nn.Module):
        def forward(self, seen: Any) -> torch.Tensor:
            moved = agent.scales.unit(torch.from_numpy((ahead - ahead[:1]).astype(np.float32)))
            return torch.cat([moved, torch.ones(30, 1)], dim=1)[None]

    agent.hand, agent._wait = Knows(), 0  # type: ignore[assignment]
    obs, _ = env.reset(seed=1)
    action = agent.act(obs)
    np.testing.assert_allclose(action[0, 2:9], np.clip((ahead[4] - ahead[0]) / 2 / 0.1, -1, 1), atol=1e-5)


def test_only_the_last_predictions_are_averaged() -> None:
    """A hand that changes its mind, told by every step's number."""
    env = replay(1, pause=0)
    obs, _ = env.reset(seed=1)
    for averaged, wanted in ((1, 5.0), (3, 4.0), (99, 3.0)):
        agent = learner(env, minibatches=1, averaged=averaged, wait=0)
        said = iter(range(1, 6))

        class Changes(torch.nn.Module):
            def forward(self, seen: Any, said: Any = said, agent: Any = agent) -> torch.Tensor:
                moved = agent.scales.unit(torch.full((1, 30, 7), 0.01 * next(said)))
                return torch.cat([moved, torch.ones(1, 30, 1)], dim=2)

        agent.hand = Changes()
        actions = [agent.act(obs) for _ in range(5)]
        np.testing.assert_allclose(actions[-1][0, 2:9], 0.01 * wanted / 2 / 0.1, rtol=0.02)


def test_the_arm_waits_while_the_eye_searches() -> None:
    env = replay(2)
    agent, obs = learner(env, wait=3, seed=1), env.reset(seed=1)[0]
    waited = [agent.act(obs) for _ in range(3)]
    assert all((action[:, 2:9] == 0).all() for action in waited)
    np.testing.assert_allclose(waited[0][:, 9:], np.clip(2 * obs["opening"] - 1, -1, 1), atol=1e-6)
    assert (agent.act(obs)[:, 2:9] != 0).any(axis=1).all()
    agent.reset(np.array([True, False]))
    again = agent.act(obs)[:, 2:9] != 0
    assert again.any(axis=1).tolist() == [False, True]


def test_a_frozen_eye_looks_around_and_learns_nothing() -> None:
    agent = learner(gaze="frozen", warmup_steps=1)
    eye, hand = weights(agent.eye), weights(agent.hand)
    agent.advance(1)
    assert same(eye, weights(agent.eye))
    assert not same(hand, weights(agent.hand))
    assert len(agent.rollout().turns.unique()) > 3


def test_imitation_teaches_the_guides_turns() -> None:
    env = replay(8, target="any", max_episode_steps=8, pause=100)
    agent = learner(env, reward="env", hand=False, imitate=1.0, eye_rate=3e-3, warmup_steps=1, target_kl=1e9, augment=0.0)

    def surprise() -> float:
        found = agent.rollout()
        with torch.no_grad():
            logits, _ = agent.eye(found.seen)
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), found.guided.flatten()))

    before = surprise()
    for _ in range(8):
        agent.advance(1)
    assert surprise() < before - 0.3


@pytest.mark.parametrize("hand_memory", [0, 20])
def test_resuming_is_exact(hand_memory: int, tmp_path: Path) -> None:
    whole = learner(seed=3, hand_memory=hand_memory)
    for _ in range(3):
        whole.advance(1)
    first = learner(seed=3, hand_memory=hand_memory)
    first.advance(1)
    checkpoint.save_step({"learner": first.state()}, tmp_path, first.steps, 1)
    second = learner(seed=3, hand_memory=hand_memory)
    second.load_state(checkpoint.load_last(tmp_path)[1]["learner"])
    for _ in range(2):
        second.advance(1)
    assert same(weights(whole.eye), weights(second.eye))
    assert same(weights(whole.hand), weights(second.hand))
    assert second.steps == whole.steps == 72


def test_an_eye_that_looks_once_rests_when_the_arm_may_move() -> None:
    agent = learner(gaze="once", wait=4)
    found = agent.rollout()
    stay = int(np.flatnonzero(~agent._inner.turns.any(axis=1))[0])
    assert (found.turns[:, 4:] == stay).all()
    assert (found.turns[:, :4] != stay).any()
    before = weights(agent.eye)
    agent.advance(1)
    assert same(before, weights(agent.eye))


def test_a_checkpoint_of_another_observation_is_refused(tmp_path: Path) -> None:
    agent = learner()
    checkpoint.save_step({"learner": agent.state()}, tmp_path, 0, 1)
    saved = checkpoint.load_last(tmp_path)[1]["learner"]
    for other, told in (
        ({"fovs": (17.3, 62.3)}, "views="),
        ({"resolution": 16}, "resolution=8, this configuration with resolution=16"),
        ({"fovs": (17.3, 62.3, 100.0)}, "fovs="),
        ({"projection": "fisheye"}, "projection=pinhole"),
    ):
        with pytest.raises(InvalidValueError, match=f"the checkpoint sees with {told}"):
            learner(replay(**other)).load_policy(saved)
        with pytest.raises(InvalidValueError, match=f"the checkpoint sees with {told}"):
            learner(replay(**other), start=tmp_path)
    with pytest.raises(InvalidValueError, match="the checkpoint's eye has actor"):
        learner(replay(actions="directions_9")).load_policy(saved)


def test_what_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="directions_25"):
        learner(replay(actions="box"))
    with pytest.raises(UnknownNameError, match="learned"):
        learner(gaze="learnt")
    with pytest.raises(UnknownNameError, match="path"):
        learner(reward="paths")
    with pytest.raises(InvalidValueError, match="needs hand=true"):
        learner(hand=False)
    with pytest.raises(InvalidValueError, match=r"another reward than 'env', got 0\.2"):
        learner(hand=False, reward="env", grip=0.2)
    for setting in ({"grip": -0.1}, {"radian": -0.1}):
        with pytest.raises(InvalidValueError, match=r"radian and grip must be >= 0, got .*-0\.1"):
            learner(**setting)
    for setting in ({"stray": -0.1}, {"stray_tool": -0.1}, {"stray_height": -0.1}, {"stray_turn": -0.1}):
        with pytest.raises(InvalidValueError, match=r"stray_tool, stray_height and stray_turn must be >= 0, got .*-0\.1"):
            learner(**setting)
    for setting, rule in (
        ({"gamma": 1.5}, r"gamma must be in \[0, 1\], got 1\.5"), ({"dropout": 1.0}, r"dropout must be a share in \[0, 1\)"),
        ({"eye_rate": -1}, "eye_rate must be >= 0, got -1"), ({"clip": 0}, "clip must be > 0, got 0"),
        ({"hand_rate": float("nan")}, "hand_rate must be >= 0, got nan"), ({"hand_batch": 0}, "hand_batch must be >= 1"),
    ):  # fmt: skip
        with pytest.raises(InvalidValueError, match=rule):
            learner(**setting)
    with pytest.raises(UnknownNameError, match="unknown size 'smal': did you mean 'small'"):
        learner(size="smal")
    with pytest.raises(UnknownNameError, match="unknown field of size 'patches': did you mean 'patch'"):
        learner(size={"patches": 8})
    with pytest.raises(InvalidValueError, match="averaged must be >= 1 prediction, got 0"):
        learner(averaged=0)
    with pytest.raises(InvalidValueError, match="minibatches"):
        learner(minibatches=3)
    with pytest.raises(InvalidValueError, match=r"chunk must be > 4 rows, .* got 4"):
        learner(chunk=4)


def test_stills_are_for_an_eye_alone() -> None:
    scales, stills = Scales(7, 7), [np.random.default_rng(0).normal(size=(frames, 7)) for frames in (4, 15)]
    with pytest.raises(InvalidValueError, match=r"more than 15 rows, the longest of these has 15.*agent\.hand=false"):
        scales.fit(stills, None, 30)
    scales.fit(stills, None, 0)
    assert torch.equal(scales.step, torch.ones(7))
    scales.fit(stills, None, 28)
    np.testing.assert_allclose(scales.step, np.maximum(np.std(stills[1][14:] - stills[1][:-14], axis=0), 1e-3))


QUICK = (
    "agent=bcrl", "env=replay_estop", "env.max_episode_steps=12", "env.pause=4", "env.resolution=8", "num_envs=2",
    "logger=jsonl", "agent.size={width: 32, heads: 2, depth: 1, patch: 4}", "agent.device=cpu", "agent.threads=1",
    "agent.minibatches=2",
)  # fmt: skip


def test_it_trains_by_command(tmp_path: Path) -> None:
    run = train([*QUICK, "steps=48", f"run={tmp_path / 'run'}"])
    assert run.metrics()[-1]["step"] == 48
    env = make_env(run.config, 2, "same_step")
    assert make_learner(run.config, env).act(env.reset(seed=0)[0]).shape == (2, 10)
    env.close()
    found = evaluate([f"run={run.folder}", "episodes=2", "num_envs=2", "baselines=[random]"])
    assert found["env"] == "Saccade/EStop-v0"  # it acts in the task
    assert len(found["scores"][0]["outcomes"]) == 2


def test_a_search_alone_is_no_pair(tmp_path: Path) -> None:
    config = load("train", ["agent=bcrl", "env=replay_estop", "agent.hand=false", "agent.reward=env"])
    with pytest.raises(InvalidValueError, match="an eye without a hand"):
        BCRLLearner.acting_env(config)
    with pytest.raises(InvalidValueError, match="no task of the suite"):
        BCRLLearner.acting_env(load("train", ["agent=bcrl", "env=reach"]))


def test_a_reward_of_the_simulator_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="recordings are not rewarded"):
        make_env(load("train", ["agent=bcrl", "env=replay_estop", "reward=gaze_approach"]), 2, "same_step")


def colours(count: int = 40) -> NDArray[np.uint8]:
    """Panoramas with one bright spot."""
    picture = np.full((count, 64, 128, 3), 60, np.uint8)
    picture[:, 28:44, 30:46] = (230, 20, 20)
    return picture


def test_something_tiny_is_learned(tmp_path: Path) -> None:
    """An eye is paid for looking at the only thing there is, and comes to look at it."""
    with Writer(tmp_path, 128, 30) as writer:
        direction = np.tile(np.radians([180 - (38 + 0.5) * 360 / 128, 90 - (36 + 0.5) * 180 / 64]), (40, 1))
        for _ in range(2):
            writer.add(
                colours(),
                {"joints": np.zeros((40, 7)), "opening": np.zeros((40, 1)), "target_direction": direction},
                "find the red thing",
            )
    env = BatchReplay(
        list(Recordings(tmp_path)),
        16,
        max_episode_steps=16,
        pause=16,
        resolution=16,
        fovs=(116.1,),
        actions="directions_9",
        chunk=0,
    )
    agent = learner(
        env, reward="env", hand=False, gamma=0.6, lam=0.8, minibatches=4, epochs=4, eye_rate=3e-3, warmup_steps=1,
        reward_scale=1.0, augment=0.0, entropy=0.003, target_kl=0.05,
    )  # fmt: skip
    first = np.mean([agent.advance(1)["rollout/reward"] for _ in range(3)])
    for _ in range(60):
        agent.advance(1)
    last = np.mean([agent.advance(1)["rollout/reward"] for _ in range(3)])
    assert last > first + 0.25, (first, last)


def two_processes(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a script, or -m and a module, in two processes as torchrun does."""
    own = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", *command],
        capture_output=True, text=True, env={**os.environ, **own}, timeout=300, check=False,
    )  # fmt: skip


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    script = tmp_path / "two.py"
    script.write_text(
        textwrap.dedent(
            f"""
            import sys, torch
            sys.path.insert(0, {str(Path(__file__).parents[1])!r})
            from agents.bcrl import BCRLLearner
            from agents.parallel import Group
            from assets.errors import InvalidValueError
            from envs.replay import BatchReplay
            torch.set_num_threads(1)
            rank = Group.here().rank
            options = dict(max_episode_steps=6, pause=2, resolution=8, actions="directions_25", first_index=2 * rank)
            env = BatchReplay({FOLDER!r}, 2, **options)
            agent = BCRLLearner(env, size={SIZE!r}, minibatches=2, epochs=2, device="cpu")
            def refuse():
                raise InvalidValueError("the first one refuses")
            try:
                agent._group.from_first(refuse)
            except InvalidValueError as error:
                assert str(error) == "the first one refuses"
            else:
                raise AssertionError("nothing was refused")
            assert agent._group.from_first(lambda: 7 + rank) == 7
            assert agent._group.gathered(rank) == [0, 1]
            assert len(agent.state()["others"]) == 1
            values = torch.arange(6.0) + 10 * rank
            mean, std = agent._group.moments(values)
            both = torch.cat([torch.arange(6.0), torch.arange(6.0) + 10])
            assert abs(mean - both.mean()) < 1e-6 and abs(std - both.std(correction=0)) < 1e-6
            agent.advance(1)
            flat = torch.cat([p.flatten() for net in (agent.eye, agent.hand) for p in net.parameters()]).detach()
            others = [torch.zeros_like(flat) for _ in range(2)]
            torch.distributed.all_gather(others, flat)
            assert torch.equal(others[0], others[1]), "the processes drifted apart"
            rewards = agent.rollout().rewards
            print("done", rank, float(rewards.sum()))
            torch.distributed.destroy_process_group()
            """
        )
    )
    done = two_processes(str(script))
    assert done.returncode == 0, done.stderr[-3000:]
    told = sorted(line.split() for line in done.stdout.splitlines() if line.startswith("done"))
    assert [row[1] for row in told] == ["0", "1"]
    assert told[0][2] != told[1][2]  # each has eyes of its own


def test_two_processes_write_one_run_and_go_on_with_it_exactly(tmp_path: Path) -> None:
    def command(*arguments: str) -> None:
        done = two_processes("-m", "agents.cli", "train", *arguments)
        assert done.returncode == 0, done.stderr[-3000:]

    place = tmp_path / "runs" / "two"
    command(*QUICK, "seed=null", "steps=24", f"run={place}")
    files = {f.name for f in place.iterdir()}
    assert files == {"config.yaml", "system.json", "metrics.jsonl", "checkpoints"}
    assert [f.name for f in place.parent.iterdir()] == ["two"]
    run = Run.open(place)
    assert [row["step"] for row in run.metrics()] == [24]
    _, saved = checkpoint.load_last(run.checkpoints)
    own, other = saved["learner"], saved["learner"]["others"][0]
    assert not np.array_equal(own["rng"], other["rng"])
    assert own["env"]["rest"] != other["env"]["rest"]  # each has eyes of its own
    with pytest.raises(InvalidValueError, match=r"what 2 process\(es\) trained cannot be gone on with by 1"):
        train([f"resume={place}", "steps=48"])
    assert not run.resumes()

    command(f"resume={place}", "steps=48")
    assert [row["step"] for row in run.metrics()] == [24, 48]
    assert len(run.resumes()) == 1
    whole = tmp_path / "whole"
    command(*QUICK, f"seed={run.config.seed}", "steps=48", "checkpoint_every=24", f"run={whole}")
    ends = [checkpoint.load_last(folder / "checkpoints")[1]["learner"] for folder in (place, whole)]
    for name in ("eye", "hand"):
        assert same(*(checkpoint.to_tensors(end["policy"][name]) for end in ends))
    assert np.array_equal(*(end["others"][0]["rng"] for end in ends))
    assert ends[0]["others"][0]["env"]["rest"] == ends[1]["others"][0]["env"]["rest"]


def test_several_processes_are_refused_to_who_learns_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.train.make_learner", lambda config, env: Jitter(0.5))
    with pytest.raises(InvalidValueError, match="Jitter trains in one process, here are 2: torchrun is for agent=bcrl"):
        _learner(load("train"), None, Group(0, 2))
    assert isinstance(_learner(load("train"), None, Group()), Jitter)


@pytest.mark.parametrize(("cards", "expected"), [(2, ("cpu:gloo,cuda:nccl", [1])), (1, ("gloo", [])), (0, ("gloo", []))])
def test_every_process_has_a_gpu_or_none_has(
    monkeypatch: pytest.MonkeyPatch, cards: int, expected: tuple[str, list[int]]
) -> None:
    chosen: list[int] = []
    joined: list[str] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cards > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cards)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    monkeypatch.setattr(torch.distributed, "init_process_group", joined.append)
    parallel._join()
    assert (*joined, chosen) == expected


def test_one_process_is_a_group_of_its_own() -> None:
    group = Group.here()
    assert (group.rank, group.world) == (0, 1)
    assert group.mean(3.0) == 3.0
    assert group.first
    assert group.from_first(lambda: 5) == 5
    assert group.gathered(4) == [4]
    group.wait()


def test_the_eye_keeps_still_until_the_hand_knows_something() -> None:
    agent = learner(eye_from=25, warmup_steps=1)
    before, hand = weights(agent.eye), weights(agent.hand)
    agent.advance(1)
    after = weights(agent.eye)
    critic = {k for k in before if k.startswith("critic.")}
    assert same({k: v for k, v in before.items() if k not in critic}, after)
    assert any(not torch.equal(before[k], after[k]) for k in critic)
    assert not same(hand, weights(agent.hand))
    agent.advance(1)  # 24 steps lie behind
    assert same({k: v for k, v in before.items() if k not in critic}, weights(agent.eye))
    agent.advance(1)
    assert not same({k: v for k, v in before.items() if k not in critic}, weights(agent.eye))
