"""BC-RL: an eye that is rewarded when the hand, from what the eye shows it, tells the demonstrator's next moves.

    repeat:  every eye looks through one episode of recordings (`envs/replay.py`), the hand predicts at every step
             r_t = -mean_i min_j ||p_i - q_j||                 of the tool's paths or poses, `rewards.chunks`
             the eye learns by proximal policy optimisation from r, the hand by L1 from the same steps

After EyeRobot (arXiv:2506.10968; github.com/kerrj/eyerobot, `train_bcrl.py`). Where the divergence from the last policy ends
the eye's epochs, the hand's go on. Pictures are augmented when they are seen, so that
both networks and the ratio of the policies are about the same pictures. With `reward="env"` and without a hand it is visual
search by the environment's own reward, after which both can begin from the eye (`start`).

On many processes (torchrun) every process has its own eyes; advantages are normalised, gradients averaged and epochs ended over
all of them.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium.vector import VectorEnv
from torch import nn
from torch.nn import functional

from agents import checkpoint
from agents.augment import Jitter
from agents.base import Observation
from agents.experience import Rollout, Rows, advantages, before_restart
from agents.memory import Lessons, Memory
from agents.pair import CHOSEN, Pair
from agents.parallel import Group
from agents.seen import Seen
from agents.stray import Stray
from assets.errors import InvalidValueError, UnknownNameError
from rewards.chunks import GRIP, RADIAN, grip_error, joint_reward, path_reward, pose_reward

REWARDS = ("path", "se3", "joint", "env")
# What each reward reads of the recordings, and what to do about a column that they lack.
_READ = {"path": ("tool",), "se3": ("tool", "tool_axes"), "joint": (), "env": ()}
_REMEDIES = {
    "tool": "it follows from the joints if there are as many as the arm of env.robot has; or take reward=joint",
    "tool_axes": "draw the panoramas again with `saccade collect`, or take reward=path",
    "grip": "add a column 'grip' to the table of joints, what the gripper is told, from 0, shut, to 1, open; or train the eye "
    "alone with reward=env hand=false",
}

# What numbers must be; those that are not named must not be negative.
_NOT_NEGATIVE: tuple[str, Callable[[float], bool]] = (">= 0", lambda v: v >= 0)
_RULES: dict[str, tuple[str, Callable[[float], bool]]] = {
    **dict.fromkeys(("greedy", "blind", "dropout"), ("a share in [0, 1)", lambda v: 0 <= v < 1)),
    **dict.fromkeys(("gamma", "lam"), ("in [0, 1]", lambda v: 0 <= v <= 1)),
    **dict.fromkeys(("epochs", "hand_epochs", "hand_batch"), (">= 1", lambda v: v >= 1)),
    "clip": ("> 0", lambda v: v > 0),
}


class BCRLLearner(Pair):
    """Trains eye and hand; one step is one step of one eye.

    Args:
        env: vector environment of `Saccade/EyeReplay-*` with discrete actions; an episode is a rollout.
        seed: of the initial weights and of everything drawn here.
        device: "auto", "cpu", "cuda".
        threads: torch threads on the CPU; 0 leaves torch's choice.
        size, encoder, hand_net, chunk, averaged, wait, eye_at, told, inhibit, shapes: see `Pair`.
        gaze: see `Pair`; all but "learned" leave the eye unlearned.
        reward: "path", "se3" (the tool's poses) and "joint" of the hand's predictions, see `rewards.chunks`, or "env".
        radian: what a radian of the tool costs in "se3", m.
        grip: weight in the reward of how far the predicted openings of the gripper are off; None takes EyeRobot's, 0.2 beside
            "joint" and 0 beside the others.
        hand: whether there is a hand to train.
        start: run folder or checkpoint of visual search to begin the networks from, or the name of one that ships; with another
            reward than "env" values begin at 0.
        keep: weight of the divergence KL(pi || pi_start), nats, of the eye's turns from those of the `start`, if there is one
            (Ziegler et al. 2019, arXiv:1909.08593): where the reward says nothing, normalised advantages are noise, and an eye
            unlearns to search.
        start_hand: whether the hand too begins from that checkpoint's eye, as far as they are alike.
        eye_rate, hand_rate: learning rates at their highest.
        warmup_steps, decay_steps, total_steps: the rates rise for the first, and fall along a half cosine to a hundredth in the
            last `decay_steps` of `total_steps`; 0 for no fall.
        gamma, lam, clip, value_weight: of proximal policy optimisation.
        imitate: weight of imitating the environment's `guide`, who searches until the target is in sight, in what the eye met
            itself (DAgger, Ross et al. 2011, arXiv:1011.0686), by cross-entropy and by how far from it the policy turns; 0
            leaves it to the reward.
        greedy: share of the eyes, in [0, 1), that take their likeliest turns in training. Of their turns they learn by
            imitation alone, if at all; the hand learns from what they show it, as it will act. An eye that drew its turns has
            never seen itself go back and forth between two views, and shows the hand less steadily what it looks at.
        entropy, final_entropy: weights of the policy's entropy, before and at the end of the fall.
        epochs: of every rollout.
        minibatches: of the eye, in an epoch; of whole episodes.
        hand_epochs: those of the hand, where they are to be others.
        hand_batch: steps of a minibatch of the hand.
        hand_memory: lessons of past rollouts that the hand remembers, some 25 kB each with three levels of 40 x 40 pixels; it
            learns from as many at a time as without, drawn from these and the new ones. Checkpoints hold them.
        target_kl: mean divergence at which the eye's epochs end.
        reward_scale: rewards are multiplied by it; a path's are metres.
        blind: share of the hand's lessons, in [0, 1), with a grey picture and a gaze straight ahead. With any, what it says so
            is the measure of what it says from what is seen: the eye is paid the difference, which leaves out how hard a moment
            is for anyone. The world goes on whatever is looked at, so no turn gains or loses by it.
        augment: share of episodes whose pictures are changed.
        dropout: of what the arm feels, while the hand learns.
        stray, stray_tool, stray_height, stray_turn: deviations by which joints, rad, the tool along the table and its height,
            m, and the last joint, rad, are off their path in the hand's lessons, see `agents.stray`; of the last joint None
            takes `stray`. Along a demonstration a wrist is turned as it should be: a hand that never feels it turned otherwise
            takes its turn for the one that is wanted, whatever it sees.
        half: the hand learns in bfloat16 where that is safe. The eye stays in float32: it acts step by step and learns from
            whole episodes, no kernel promises to round both alike, and in bfloat16 the first ratio of an update would show it.
        eye_from: steps before which the eye keeps to what it began with and only its critic learns: a hand that knows nothing
            cannot judge what it is shown.

    Raises:
        UnknownNameError, InvalidValueError: an argument is wrong.
    """

    # Whether several processes can train one: `agents.train` refuses torchrun otherwise.
    together = True

    def __init__(
        self, env: VectorEnv[Any, Any, Any], seed: int = 0, device: str = "auto", threads: int = 0,
        size: str | Mapping[str, Any] = "small", encoder: str = "patches", gaze: str = "learned", reward: str = "path",
        hand: bool = True, hand_net: str = "joints", start: str | Path | None = None, keep: float = 0.0,
        start_hand: bool = True,
        chunk: int = 30, eye_rate: float = 1e-3, hand_rate: float = 3e-3, warmup_steps: int = 5000, decay_steps: int = 0,
        total_steps: int = 0, gamma: float = 0.9, lam: float = 0.9, clip: float = 0.2, value_weight: float = 0.5,
        imitate: float = 0.0, greedy: float = 0.0, entropy: float = 0.01, final_entropy: float = 0.003, epochs: int = 4,
        minibatches: int = 4, hand_epochs: int | None = None, hand_batch: int = 64, target_kl: float = 0.02,
        reward_scale: float = 3.0, blind: float = 0.0, augment: float = 0.5, dropout: float = 0.1, stray: float = 0.0,
        stray_tool: float = 0.0, stray_height: float = 0.0, stray_turn: float | None = None, half: bool = False,
        averaged: int = 7, wait: int = 30, eye_from: int = 0, eye_at: Sequence[float] | None = None, told: bool = False,
        inhibit: int = 0, shapes: bool = False, radian: float = RADIAN, grip: float | None = None,
        hand_memory: int = 0,
    ) -> None:  # fmt: skip
        if reward not in REWARDS:
            raise UnknownNameError("reward", reward, REWARDS)
        if reward != "env" and not hand:
            raise InvalidValueError(f"reward={reward!r} is about the hand's predictions: it needs hand=true")
        if reward == "env" and grip:
            raise InvalidValueError(f"grip is about the hand's predictions: it needs another reward than 'env', got {grip}")
        if min(radian, grip or 0) < 0:
            raise InvalidValueError(f"radian and grip must be >= 0, got {radian} and {grip}")
        own_epochs = epochs if hand_epochs is None else hand_epochs
        _check(
            keep=keep, eye_rate=eye_rate, hand_rate=hand_rate, warmup_steps=warmup_steps, decay_steps=decay_steps, gamma=gamma,
            lam=lam, clip=clip, value_weight=value_weight, imitate=imitate, greedy=greedy, entropy=entropy,
            final_entropy=final_entropy, epochs=epochs, hand_epochs=own_epochs, hand_batch=hand_batch,
            reward_scale=reward_scale, blind=blind, dropout=dropout, eye_from=eye_from, hand_memory=hand_memory,
        )  # fmt: skip
        if not 1 <= minibatches <= env.num_envs:
            raise InvalidValueError(f"minibatches must be in [1, {env.num_envs}], got {minibatches}")
        self._group = Group.here()  # first, for it says which GPU is meant
        super().__init__(
            env, seed, device, threads, size, encoder, gaze, hand, hand_net, chunk, averaged, wait, eye_at, told, inhibit,
            shapes,
        )  # fmt: skip
        self._env, self._reward, self._radian = env, reward, radian
        self._grip = grip if grip is not None else GRIP * (reward == "joint")
        self._check_columns()
        if start is not None:
            self._begin_from(start, start_hand, new_values=reward != "env")
        self._keep, self._first = keep, copy.deepcopy(self.eye).eval() if keep and start is not None else None
        self._rates = {"eye": eye_rate, "hand": hand_rate}
        self._schedule = warmup_steps, decay_steps, total_steps
        self._gamma, self._lam, self._clip, self._value_weight = gamma, lam, clip, value_weight
        self._entropies = entropy, final_entropy
        self._epochs, self._minibatches, self._hand_batch = epochs, minibatches, hand_batch
        self._hand_epochs = own_epochs
        self._target_kl, self._scale = target_kl, reward_scale
        self._blind = blind
        self._imitate, self._greedy = imitate, round(greedy * env.num_envs)
        self._half, self._dropout, self._eye_from = half, dropout, eye_from
        self._stray = Stray(self._inner, self.scales, "opening" in self._felt, stray, stray_tool, stray_height, stray_turn)
        own = seed * 1000 + self._group.rank  # each process draws its own
        self._rng = torch.Generator().manual_seed(own)
        self._seed: int | None = own  # of the environment, until it is first asked for: acting never does
        self._jitter = Jitter(augment)
        self._memory = Memory(hand_memory)
        self._steps = 0

    @cached_property
    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Made when something is learned: what torch imports for the first of them takes seconds, and acting needs none."""
        return {
            name: torch.optim.AdamW(net.parameters(), lr=self._rates[name], betas=(0.9, 0.95), weight_decay=0.01, eps=1e-7)
            for name, net in (("eye", self.eye), ("hand", self.hand))
        }

    @property
    def steps(self) -> int:
        """Steps of all eyes so far, of this process."""
        return self._steps

    # -- training ------------------------------------------------------------------------------------------------------

    def advance(self, steps: int) -> dict[str, float]:
        """One rollout and what is learned from it, whatever `steps` asks for; returns what happened."""
        del steps
        began = time.perf_counter()
        rollout = self.rollout()
        middle = time.perf_counter()
        told = self._learn(rollout)
        count = rollout.turns.numel()
        self._steps += count
        now = time.perf_counter()
        speed = {"time/fps": count / (now - began), "time/rollout_s": middle - began, "time/learning_s": now - middle}
        return {**rollout.told, **told, **speed}

    def _seeded(self) -> None:
        """Seed the environment, once. A first look through as many eyes takes seconds."""
        if self._seed is not None:
            self._env.reset(seed=self._seed)
            self._seed = None

    @torch.no_grad()
    def rollout(self) -> Rollout:
        """One episode of every eye, with augmented pictures and the eye's turns drawn."""
        self.eye.eval()
        self.hand.eval()
        self._seeded()
        obs, info = self._env.reset()
        if "chunk" not in info and self._with_hand:
            raise InvalidValueError(f"the hand learns {self._chunk} rows: make the environment with chunk={self._chunk}")
        count, length = self._env.num_envs, int(self._inner.max_episode_steps)
        jitter = self._jitter.draw(count, self._rng).to(self.device)
        memory, rows = self.eye.start(count, self.device), Rows()
        inhibition = self._inhibition(self._greedy)
        seen = self.see(obs, jitter)
        for _ in range(length):
            logits, value = self._look(seen, memory)
            turn = self._choose(logits, seen)
            if self._gaze in CHOSEN:
                turn[: self._greedy] = inhibition.likeliest(logits[: self._greedy], seen.gaze[: self._greedy])
            logp = logits.log_softmax(-1).gather(1, turn[:, None])[:, 0]
            guided = torch.from_numpy(np.asarray(self._inner.guide())).to(self.device)
            rows.add(seen=seen, turns=turn, logp=logp, values=value, guided=guided, **self._lesson(obs, info))
            obs, paid, _, _, info = self._env.step(turn.cpu().numpy())
            obs, info = before_restart(obs, info)
            seen = self.see(obs, jitter)
            # A turn is worth what is then told from what is then seen.
            rows.add(rewards=self._worth(seen, obs, info) if self._reward != "env" else torch.from_numpy(paid).to(self.device))
            rows.add(errors=torch.from_numpy(np.asarray(info["state"]["gaze_error"], np.float32)))
            rows.add(success=torch.from_numpy(np.asarray(info["success"])))
        found = rows.stacked()
        errors, reward = found.pop("errors"), found["rewards"].float()
        found["rewards"] = reward * self._scale
        told = {
            "rollout/reward": float(reward.mean()),
            "rollout/gaze_error_deg": float(torch.rad2deg(errors.nanmean())) if torch.isfinite(errors).any() else 0.0,
            "rollout/on_target": float((errors < np.radians(10)).float().mean()),
            "rollout/success_rate": float(found.pop("success").any(dim=1).float().mean()),
        }
        return Rollout(last=self._look(seen, memory)[1], told=told, **found)

    def _worth(self, seen: Seen, obs: Observation, info: Mapping[str, Any]) -> torch.Tensor:
        """What the eye is paid, (N,): what the hand's predictions are worth, or how much more than from seeing nothing.

        An eye that does not learn is paid by what they are worth, for the record.
        """
        worth = self._judge(seen, obs, info)
        differs = self._blind and self._gaze == "learned"
        return worth - self._judge(seen.unseen(), obs, info) if differs else worth

    def _judge(self, seen: Seen, obs: Observation, info: Mapping[str, Any]) -> torch.Tensor:
        """What the hand's predictions are worth, (N,)."""
        said, chunk = self.hand(seen), info["chunk"]
        joints, valid = self._planned(said, obs), chunk["valid"]
        if self._reward == "joint":
            worth = joint_reward(chunk["joints"], joints, valid)
        elif self._reward == "se3":
            tool, axes = self._inner.pose(joints)
            worth = pose_reward(chunk["tool"], tool, chunk["tool_axes"], axes, valid, self._radian)
        else:
            worth = path_reward(chunk["tool"], self._inner.tool(joints), valid)
        if self._grip:
            grip = ((said[..., -1] + 1) / 2).clamp(0, 1).cpu().numpy()
            worth = worth - self._grip * grip_error(chunk["grip"][..., 0], grip, valid)
        return torch.from_numpy(worth.astype(np.float32)).to(self.device)

    def _check_columns(self) -> None:
        """Whether every recording has what the reward reads and what the hand learns."""
        read = [(name, f"reward={self._reward!r} reads") for name in _READ[self._reward]]
        for name, who in [*read, *[("grip", "the hand learns")] * self._with_hand]:
            if not self._inner.columns(name):
                raise InvalidValueError(
                    f"{who} the recorded column {name!r}, which not all of these recordings have: {_REMEDIES[name]}"
                )

    def _lesson(self, obs: Observation, info: Mapping[str, Any]) -> dict[str, torch.Tensor]:
        """What the hand should say, and where that is learned: not while the world stands still."""
        if not self._with_hand:
            nothing = torch.zeros(len(obs["gaze"]), 0, dtype=torch.bool, device=self.device)
            return {"wanted": nothing[..., None], "valid": nothing}
        chunk = info["chunk"]
        moved = torch.from_numpy((chunk["joints"] - np.asarray(obs["joints"], np.float64)[:, None]).astype(np.float32))
        grip = torch.from_numpy(2 * chunk["grip"].astype(np.float32) - 1)
        paused = torch.from_numpy(np.asarray(info["state"]["paused"]))
        wanted = torch.cat([self.scales.unit(moved.to(self.device)), grip.to(self.device)], dim=-1)
        valid = (torch.from_numpy(chunk["valid"]) & ~paused[:, None]).to(self.device)
        return {"wanted": wanted, "valid": valid}

    def _learn(self, rollout: Rollout) -> dict[str, float]:
        advantage, returns = advantages(rollout.rewards, rollout.values, rollout.last, self._gamma, self._lam)
        mean, std = self._group.moments(advantage)
        advantage = (advantage - mean) / (std + 1e-8)
        self._set_rates()
        released = self._gaze == "learned" and self._steps >= self._eye_from
        rollout.first = self._turns_at_first(rollout.seen) if released else None
        told: dict[str, list[float]] = {}
        eye_goes_on = self._gaze == "learned"
        new = Lessons.of(rollout)
        lessons = self._memory.recall(new, self._rng)
        for epoch in range(max(self._epochs, self._hand_epochs)):
            for chosen in torch.randperm(len(advantage), generator=self._rng).chunk(self._minibatches):
                if eye_goes_on and epoch < self._epochs:
                    found = self.eye_update(rollout, chosen.to(self.device), advantage, returns)
                    eye_goes_on = found["train/kl"] <= self._target_kl
                    _note(told, found)
            for chosen in self._drawn(lessons, len(new)) if epoch < self._hand_epochs else ():
                _note(told, self.hand_update(lessons[chosen]))
        return {name: float(np.mean(values)) for name, values in told.items()}

    @torch.no_grad()
    def _turns_at_first(self, seen: Seen) -> torch.Tensor | None:
        """Log-probabilities of the start's turns, (B, T, turns); None where the eye need not keep to it."""
        if self._first is None:
            return None
        parts = torch.arange(len(seen.gaze), device=self.device).split(4)
        return torch.cat([self._first(seen[part])[0].log_softmax(-1) for part in parts])

    def eye_update(
        self, rollout: Rollout, chosen: torch.Tensor, advantage: torch.Tensor, returns: torch.Tensor
    ) -> dict[str, float]:
        """One update of the eye from chosen episodes; "train/kl" is measured before it."""
        self.eye.train()
        logits, values = self.eye(rollout.seen[chosen])
        logps = logits.log_softmax(-1)
        logp = logps.gather(-1, rollout.turns[chosen][..., None])[..., 0]
        ratio, gain = (logp - rollout.logp[chosen]).exp(), advantage[chosen]
        drawn = (chosen >= self._greedy).float()[:, None]
        surrogate = (torch.minimum(ratio * gain, ratio.clamp(1 - self._clip, 1 + self._clip) * gain) * drawn).mean()
        spread = -(logps.exp() * logps).sum(-1).mean()
        miss = 0.5 * functional.mse_loss(values, returns[chosen])
        loss = -surrogate + self._value_weight * miss - self._entropy() * spread
        if self._imitate:
            loss = loss + self._imitate * self._astray(logits, rollout.guided[chosen])
        if rollout.first is not None:
            loss = loss + self._keep * (logps.exp() * (logps - rollout.first[chosen])).sum(-1).mean()
        kl = self._group.mean(((ratio - 1) - (logp - rollout.logp[chosen])).mean().item())
        if self._steps < self._eye_from:  # what it looks at is not judged yet
            self._apply("eye", self._value_weight * miss, self.eye.critic)
        else:
            self._apply("eye", loss)
        variance = returns.var().item()
        explained = 1 - (returns[chosen] - values.detach()).var().item() / variance if variance else 0.0
        return {
            "train/kl": kl, "train/entropy": spread.item(), "train/value_loss": miss.item(), "train/explained": explained,
            "train/ratio_error": (ratio - 1).abs().max().item(),
        }  # fmt: skip

    def _astray(self, logits: torch.Tensor, guided: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with the guide's turns, and how far from them the policy's turns are, in 10 degrees."""
        apart = torch.cdist(self._turns, self._turns).to(logits)[guided] / np.radians(10)
        return functional.cross_entropy(logits.flatten(0, 1), guided.flatten()) + (logits.softmax(-1) * apart).sum(-1).mean()

    def _drawn(self, lessons: Lessons, count: int) -> tuple[torch.Tensor, ...]:
        """Minibatches of lessons, numbers of them: as many as are new, of all that there are."""
        return torch.randperm(len(lessons), generator=self._rng)[:count].split(self._hand_batch) if count else ()

    def hand_update(self, lessons: Lessons) -> dict[str, float]:
        """One update of the hand."""
        self.hand.train()
        seen, wanted, valid = lessons.seen, lessons.wanted, lessons.valid
        if self._stray:
            self._lead_astray(seen, wanted)
        if self._blind:
            seen.hide(torch.rand(len(wanted), generator=self._rng).to(self.device) < self._blind)
        kept = torch.rand(seen.felt.shape, generator=self._rng).to(self.device) >= self._dropout
        seen.felt = seen.felt * kept / (1 - self._dropout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            said = self.hand(seen)
        loss = (said.float() - wanted).abs().mean(dim=-1)[valid].mean()
        self._apply("hand", loss)
        return {"train/hand_loss": loss.item()}

    def _lead_astray(self, seen: Seen, wanted: torch.Tensor) -> None:
        """Lessons (B,) as if the arm stood beside its path, in place; what is wanted leads back onto it."""
        seen.tool[:] = self._tool(self._stray.lead(seen, wanted, self._rng))

    def _apply(self, name: str, loss: torch.Tensor, part: nn.Module | None = None) -> None:
        """One step of a network, or of a part of it alone, down a loss."""
        net: nn.Module = getattr(self, name)
        self._optimizers[name].zero_grad(set_to_none=True)
        loss.backward(inputs=None if part is None else list(part.parameters()))
        self._group.average_gradients(net)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        self._optimizers[name].step()

    def _fallen(self) -> float:
        """How much of the schedule's fall lies behind, in [0, 1]."""
        _, decay, total = self._schedule
        return min(1.0, max(0.0, (self._steps - (total - decay)) / decay)) if decay else 0.0

    def _set_rates(self) -> None:
        warm = min(1.0, 0.1 + 0.9 * self._steps / max(1, self._schedule[0]))
        share = warm * (0.01 + 0.99 * 0.5 * (1 + np.cos(np.pi * self._fallen())))
        for name, optimizer in self._optimizers.items():
            for group in optimizer.param_groups:
                group["lr"] = self._rates[name] * share

    def _entropy(self) -> float:
        first, last = self._entropies
        return first + (last - first) * self._fallen()

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, in all processes, which must all call it."""
        self._seeded()
        arrays, rest = self._inner.checkpoint()
        own = {"rng": self._rng.get_state(), "env": {"arrays": arrays, "rest": rest}, "lessons": self._memory.state()}
        first, *others = self._group.gathered(own)
        return {
            "policy": self.policy(),
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            **first,
            "others": others,  # what the other processes draw next
            "steps": self._steps,
        }

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Bring back what `state` returned; training continues as if it had never stopped.

        Raises:
            InvalidValueError: another number of processes, or see `load_policy`.
        """
        drawn = [saved, *saved.get("others", ())]
        if len(drawn) != self._group.world:
            raise InvalidValueError(
                f"what {len(drawn)} process(es) trained cannot be gone on with by {self._group.world}: take "
                f"`torchrun --nproc_per_node {len(drawn)}` again, or begin a new run with agent.start=<run>"
            )
        own = drawn[self._group.rank]
        self.load_policy(saved)
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(checkpoint.to_tensors(saved["optimizers"][name]))
        self._rng.set_state(checkpoint.to_tensors(own["rng"]).to(torch.uint8))
        self._seed = None
        self._inner.resume(own["env"]["arrays"], own["env"]["rest"])
        self._memory.load_state(own.get("lessons", {}), self.device)
        self._steps = int(saved["steps"])


def _check(**given: float) -> None:
    """Hold numbers to the rules of their names."""
    for name, value in given.items():
        rule, holds = _RULES.get(name, _NOT_NEGATIVE)
        if not holds(value):
            raise InvalidValueError(f"{name} must be {rule}, got {value}")


def _note(told: dict[str, list[float]], found: Mapping[str, float]) -> None:
    for name, value in found.items():
        told.setdefault(name, []).append(value)
