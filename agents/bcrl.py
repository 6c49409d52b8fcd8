"""BC-RL: an eye that is rewarded when the hand, from what the eye shows it, tells the demonstrator's next moves.

    repeat:  every eye looks through one episode of recordings (`envs/replay.py`), the hand predicts at every step
             r_t = -mean_i min_j ||p_i - q_j||                          of the tool's paths, `rewards.chunks`
             the eye learns by proximal policy optimisation from r, the hand by L1 from the same steps

After EyeRobot (arXiv:2506.10968; github.com/kerrj/eyerobot, `train_bcrl.py`). Where the divergence from the last policy ends
the eye's epochs, the hand's go on. Pictures are augmented when they are seen, so that
both networks and the ratio of the policies are about the same pictures. With `reward="env"` and without a hand it is visual
search by the environment's own reward, after which both can begin from the eye (`start`).

On many processes (torchrun) every process has its own eyes; advantages are normalised, gradients averaged and epochs ended over
all of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn import functional

from agents import checkpoint, fort
from agents.augment import Change, Jitter
from agents.base import Observation
from agents.chunk import ChunkBuffer
from agents.device import place
from agents.extractor import image_keys
from agents.glance import Glance
from agents.parallel import Group
from agents.scales import Scales
from assets.errors import InvalidValueError, UnknownNameError
from perception.recording import PER_STEP
from rewards.chunks import joint_reward, path_reward

REWARDS = ("path", "joint", "env")
GAZES = ("learned", "frozen", "random", "fixed", "oracle")
HANDS: dict[str, type[nn.Module]] = {"joints": fort.HandNet, "glance": Glance}
# A fixed gaze: straight ahead, down to the table; rad.
AHEAD_GAZE = np.radians([0.0, -15.0])
# How many rows of a chunk ahead the arm is steered: the servos lag by about one step.
AHEAD = 4
# What the arm's action means, see `envs.actions.JointDelta`, rad.
REACH = 0.1


@dataclass
class Rollout:
    """One episode of every eye: (B, T) throughout.

    Attributes:
        seen: what both networks saw.
        turns, logp, values, rewards: of the eye.
        last: (B,) value of what came after the last step.
        guided: (B, T) turns of one who knows the target once it is in sight.
        wanted: (B, T, chunk, outputs) what the hand should have said.
        valid: (B, T, chunk) which of it exists and is learned.
        told: means over the episode.
    """

    seen: fort.Seen
    turns: torch.Tensor
    logp: torch.Tensor
    values: torch.Tensor
    rewards: torch.Tensor
    last: torch.Tensor
    guided: torch.Tensor
    wanted: torch.Tensor
    valid: torch.Tensor
    told: dict[str, float]


def advantages(
    rewards: torch.Tensor, values: torch.Tensor, last: torch.Tensor, gamma: float, lam: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Generalised advantages (Schulman et al. 2016, arXiv:1506.02438, eq. 16) and returns, both (B, T)."""
    out, ahead, following = torch.zeros_like(rewards), torch.zeros_like(last), last
    for t in range(rewards.shape[1] - 1, -1, -1):
        ahead = rewards[:, t] + gamma * following - values[:, t] + gamma * lam * ahead
        out[:, t], following = ahead, values[:, t]
    return out, out + values


class BCRLLearner:
    """Trains eye and hand; one step is one step of one eye.

    Args:
        env: vector environment of `Saccade/EyeReplay-*` with discrete actions; an episode is a rollout.
        seed: of the initial weights and of everything drawn here.
        device: "auto", "cpu", "cuda".
        threads: torch threads on the CPU; 0 leaves torch's choice.
        size: name of `fort.SIZES`, or a mapping of `fort.Size`'s fields.
        encoder: "patches", or folder or name of a frozen vision transformer.
        gaze: who turns the eye: "learned"; "frozen", the eye as it is at the start; "random" (any turn, at every step), "fixed"
            (straight ahead, 15 degrees down), "oracle" (to the recorded target). All but the first leave the eye unlearned.
        reward: "path" and "joint" of the hand's predictions, or "env".
        hand: whether there is a hand to train.
        hand_net: "joints", EyeRobot's, a token for each of its moves; or "glance", `agents.glance`, for few demonstrations.
        start: run folder or checkpoint of visual search to begin the networks from; with another reward than "env" values begin
            at 0.
        start_hand: whether the hand too begins from that checkpoint's eye, as far as they are alike.
        chunk: rows of the arm's next moves.
        eye_rate, hand_rate: learning rates at their highest.
        warmup_steps, decay_steps, total_steps: the rates rise for the first, and fall along a half cosine to a hundredth in the
            last `decay_steps` of `total_steps`; 0 for no fall.
        gamma, lam, clip, value_weight: of proximal policy optimisation.
        imitate: weight of imitating the environment's `guide`, who searches until the target is in sight, in what the eye met
            itself (DAgger, Ross et al. 2011, arXiv:1011.0686), by cross-entropy and by how far from it the policy turns; 0
            leaves it to the reward.
        greedy: share of the eyes, in [0, 1), that take their likeliest turns in training, and learn from them by imitation
            alone: an eye that drew its turns has never seen itself go back and forth between two views, as a greedy one does.
        entropy, final_entropy: weights of the policy's entropy, before and at the end of the fall.
        epochs: of every rollout.
        minibatches: of the eye, in an epoch; of whole episodes.
        hand_epochs: those of the hand, where they are to be others.
        hand_batch: steps of a minibatch of the hand.
        target_kl: mean divergence at which the eye's epochs end.
        reward_scale: rewards are multiplied by it; a path's are metres.
        blind: share of the hand's lessons, in [0, 1), with a grey picture and a gaze straight ahead. With any, what it says so
            is the measure of what it says from what is seen: the eye is paid the difference, which leaves out how hard a moment
            is for anyone. The world goes on whatever is looked at, so no turn gains or loses by it.
        augment: share of episodes whose pictures are changed.
        dropout: of what the arm feels, while the hand learns.
        half: bfloat16 where that is safe.
        wait: steps at an episode's beginning in which the arm stands still when acting, so that the eye can search as it does
            in the recordings' pause.
        eye_from: steps before which the eye keeps to what it began with and only its critic learns: a hand that knows nothing
            cannot judge what it is shown.
        eye_at: where the eye stands above the table, (x, y, z) m along the axes of the arm's foot. With it the hand knows where
            its tool is beside the line of sight; None where that was never measured, as in EyeRobot.

    Raises:
        UnknownNameError, InvalidValueError: an argument is wrong.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], seed: int = 0, device: str = "auto", threads: int = 0,
        size: str | Mapping[str, Any] = "small", encoder: str = "patches", gaze: str = "learned", reward: str = "path",
        hand: bool = True, hand_net: str = "joints", start: str | Path | None = None, start_hand: bool = True,
        chunk: int = 30, eye_rate: float = 1e-3, hand_rate: float = 3e-3, warmup_steps: int = 5000, decay_steps: int = 0,
        total_steps: int = 0, gamma: float = 0.9, lam: float = 0.9, clip: float = 0.2, value_weight: float = 0.5,
        imitate: float = 0.0, greedy: float = 0.0, entropy: float = 0.01, final_entropy: float = 0.003, epochs: int = 4,
        minibatches: int = 4, hand_epochs: int | None = None, hand_batch: int = 64, target_kl: float = 0.02,
        reward_scale: float = 3.0, blind: float = 0.0, augment: float = 0.5, dropout: float = 0.1, half: bool = False,
        wait: int = 30, eye_from: int = 0, eye_at: Sequence[float] | None = None,
    ) -> None:  # fmt: skip
        for name, value, known in (("gaze", gaze, GAZES), ("reward", reward, REWARDS), ("hand_net", hand_net, HANDS)):
            if value not in known:
                raise UnknownNameError(name, value, known)
        inner: Any = env.unwrapped
        if getattr(inner, "turns", None) is None:
            raise InvalidValueError("BC-RL needs an EyeReplay environment with actions=directions_9 or directions_25")
        if reward != "env" and not hand:
            raise InvalidValueError(f"reward={reward!r} is about the hand's predictions: it needs hand=true")
        own_epochs = epochs if hand_epochs is None else hand_epochs
        _at_least(wait=(wait, 0), hand_batch=(hand_batch, 1), epochs=(epochs, 1), hand_epochs=(own_epochs, 1))
        if not 0 <= greedy < 1 or (greedy and not imitate):
            raise InvalidValueError(f"greedy must be in [0, 1), and needs imitate > 0, got {greedy} and imitate={imitate}")
        if not 0 <= blind < 1:
            raise InvalidValueError(f"blind must be a share in [0, 1), got {blind}")
        if not 1 <= minibatches <= env.num_envs:
            raise InvalidValueError(f"minibatches must be in [1, {env.num_envs}], got {minibatches}")
        self._env, self._inner = env, inner
        self._group = Group.here()
        self.device = place(device, threads)
        self._gaze, self._reward, self._with_hand, self._chunk = gaze, reward, hand, chunk
        self._turns = torch.from_numpy(inner.turns).to(self.device)
        self._eye_at = None if eye_at is None else np.asarray(eye_at, np.float64)
        if self._eye_at is not None and (self._eye_at.shape != (3,) or not self._eye_at[2] > 0):
            raise InvalidValueError(f"eye_at must be three numbers, m, the last above the table, got {eye_at}")
        made = fort.SIZES[size] if isinstance(size, str) else fort.Size(**size)
        space = env.single_observation_space
        assert isinstance(space, spaces.Dict)
        self._levels = image_keys(space)
        self._felt = [k for k in ("joints", "opening", "explored") if k in space.spaces]
        felt, self._dof = spaces.flatdim(spaces.Dict({k: space[k] for k in self._felt})), spaces.flatdim(space["joints"])
        self.eye, self.hand = fort.make(
            space.spaces,
            felt,
            len(self._turns),
            chunk,
            self._dof + 1,
            made,
            inner.fovs,
            encoder,
            seed,
            None if self._eye_at is None else float(self._eye_at[2]),
            HANDS[hand_net],
        )
        self.scales = Scales(felt, self._dof)
        self.scales.fit(inner.columns("joints"), inner.columns("opening"), chunk)
        for net in (self.eye, self.hand, self.scales):
            net.to(self.device)
        if start is not None:
            self._begin_from(start, start_hand)
        self._rates = {"eye": eye_rate, "hand": hand_rate}
        self._optimizers = {
            name: torch.optim.AdamW(net.parameters(), lr=self._rates[name], betas=(0.9, 0.95), weight_decay=0.01, eps=1e-7)
            for name, net in (("eye", self.eye), ("hand", self.hand))
        }
        self._schedule = warmup_steps, decay_steps, total_steps
        self._gamma, self._lam, self._clip, self._value_weight = gamma, lam, clip, value_weight
        self._entropies = entropy, final_entropy
        self._epochs, self._minibatches, self._hand_batch = epochs, minibatches, hand_batch
        self._hand_epochs = own_epochs
        self._target_kl, self._scale = target_kl, reward_scale
        self._blind = blind
        self._imitate, self._greedy = imitate, round(greedy * env.num_envs)
        self._half, self._dropout, self._wait, self._eye_from = half, dropout, wait, eye_from
        own = seed * 1000 + self._group.rank  # each process draws its own
        self._rng = torch.Generator().manual_seed(own)
        env.reset(seed=own)
        self._jitter = Jitter(augment)
        self._steps = 0
        self._acting: _Acting | None = None
        self._task: VectorEnv[Any, Any, Any] | None = None

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

    @torch.no_grad()
    def rollout(self) -> Rollout:
        """One episode of every eye, with augmented pictures and the eye's turns drawn."""
        self.eye.eval()
        self.hand.eval()
        obs, info = self._env.reset()
        if "chunk" not in info and self._with_hand:
            raise InvalidValueError(f"the hand learns {self._chunk} rows: make the environment with chunk={self._chunk}")
        count, length = self._env.num_envs, int(self._inner.max_episode_steps)
        jitter = self._jitter.draw(count, self._rng).to(self.device)
        memory, rows = self.eye.start(count, self.device), _Rows()
        seen = self.see(obs, jitter)
        for _ in range(length):
            logits, value = self._look(seen, memory)
            turn = self._choose(logits, seen)
            turn[: self._greedy] = logits[: self._greedy].argmax(-1)
            logp = logits.log_softmax(-1).gather(1, turn[:, None])[:, 0]
            guided = torch.from_numpy(np.asarray(self._inner.guide())).to(self.device)
            rows.add(seen=seen, turns=turn, logp=logp, values=value, guided=guided, **self._lesson(obs, info))
            obs, paid, _, _, info = self._env.step(turn.cpu().numpy())
            obs, info = _before_restart(obs, info)
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

    def _look(self, seen: fort.Seen, memory: fort.Memory) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the eye's turns and values, one step on; zeros where the eye has no say."""
        if self._gaze in ("learned", "frozen"):
            return self.eye.step(seen, memory)
        memory.steps += 1
        return seen.gaze.new_zeros(len(seen.gaze), len(self._turns)), seen.gaze.new_zeros(len(seen.gaze))

    def see(self, obs: Observation, change: Change | None = None) -> fort.Seen:
        """Observations of N simulations for the networks, with changed pictures."""
        images = torch.from_numpy(np.stack([obs[k] for k in self._levels], axis=1)).to(self.device)
        images = images if change is None else change(images)
        felt = np.concatenate([obs[k] for k in self._felt], axis=1).astype(np.float32)
        gaze, words = (torch.from_numpy(np.asarray(obs[k], np.float32)).to(self.device) for k in ("gaze", "target"))
        tool = np.zeros((len(gaze), 3)) if self._eye_at is None else self._inner.tool(obs["joints"]) - self._eye_at
        there = torch.from_numpy(tool.astype(np.float32)).to(self.device)
        return fort.Seen(images, gaze, self.scales.felt(torch.from_numpy(felt).to(self.device)), words, there)

    def _choose(self, logits: torch.Tensor, seen: fort.Seen, deterministic: bool = False) -> torch.Tensor:
        """The eye's turns, (N,)."""
        if self._gaze == "oracle":
            return torch.from_numpy(np.asarray(self._inner.oracle())).to(self.device)
        if self._gaze == "fixed":
            left = torch.from_numpy(AHEAD_GAZE).to(seen.gaze) - seen.gaze
            return torch.cdist(left, self._turns.to(left)).argmin(dim=1)
        if deterministic and self._gaze != "random":
            return logits.argmax(-1)
        return torch.multinomial(logits.softmax(-1).cpu(), 1, generator=self._rng)[:, 0].to(self.device)

    def _worth(self, seen: fort.Seen, obs: Observation, info: Mapping[str, Any]) -> torch.Tensor:
        """What the eye is paid, (N,): what the hand's predictions are worth, or how much more than from seeing nothing."""
        worth = self._judge(seen, obs, info)
        return worth - self._judge(seen.unseen(), obs, info) if self._blind else worth

    def _judge(self, seen: fort.Seen, obs: Observation, info: Mapping[str, Any]) -> torch.Tensor:
        """What the hand's predictions are worth, (N,)."""
        said, chunk = self.hand(seen), info["chunk"]
        joints = self._planned(said, obs)
        if self._reward == "joint":
            grip = ((said[..., -1] + 1) / 2).clamp(0, 1).cpu().numpy()
            worth = joint_reward(chunk["joints"], joints, chunk["valid"], chunk["grip"][..., 0], grip)
        else:
            worth = path_reward(chunk["tool"], self._inner.tool(joints), chunk["valid"])
        return torch.from_numpy(worth.astype(np.float32)).to(self.device)

    def _planned(self, said: torch.Tensor, obs: Observation) -> NDArray[np.float64]:
        """Joint angles of the arm's next moves, (N, chunk, dof) rad."""
        return np.asarray(obs["joints"], np.float64)[:, None] + self.scales.joints(said).double().cpu().numpy()

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
        return {"wanted": wanted, "valid": (torch.from_numpy(chunk["valid"]) & ~paused[:, None]).to(self.device)}

    def _learn(self, rollout: Rollout) -> dict[str, float]:
        advantage, returns = advantages(rollout.rewards, rollout.values, rollout.last, self._gamma, self._lam)
        mean, std = self._group.moments(advantage)
        advantage = (advantage - mean) / (std + 1e-8)
        self._set_rates()
        told: dict[str, list[float]] = {}
        eye_goes_on = self._gaze == "learned"
        for epoch in range(max(self._epochs, self._hand_epochs)):
            for chosen in torch.randperm(len(advantage), generator=self._rng).chunk(self._minibatches):
                if eye_goes_on and epoch < self._epochs:
                    found = self.eye_update(rollout, chosen.to(self.device), advantage, returns)
                    eye_goes_on = found["train/kl"] <= self._target_kl
                    _note(told, found)
            for steps in self._lessons(rollout) if epoch < self._hand_epochs else ():
                _note(told, self.hand_update(rollout, steps))
        return {name: float(np.mean(values)) for name, values in told.items()}

    def eye_update(
        self, rollout: Rollout, chosen: torch.Tensor, advantage: torch.Tensor, returns: torch.Tensor
    ) -> dict[str, float]:
        """One update of the eye from chosen episodes; "train/kl" is measured before it."""
        self.eye.train()
        with self._autocast():
            logits, values = self.eye(rollout.seen[chosen])
        logits, values = logits.float(), values.float()
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

    def _lessons(self, rollout: Rollout) -> tuple[torch.Tensor, ...]:
        """Minibatches of the steps that the hand learns from, one by one for it has no memory: numbers into (B T)."""
        learned = rollout.valid.flatten(0, 1).any(dim=-1).nonzero()[:, 0].cpu()
        order = torch.randperm(len(learned), generator=self._rng)
        return learned[order].to(self.device).split(self._hand_batch) if len(learned) else ()

    def hand_update(self, rollout: Rollout, steps: torch.Tensor) -> dict[str, float]:
        """One update of the hand from steps, numbers into (B T)."""
        self.hand.train()
        length = rollout.valid.shape[1]
        at = steps // length, steps % length
        seen, valid = rollout.seen[at], rollout.valid[at]
        if self._blind:
            shut = torch.rand(len(steps), generator=self._rng).to(self.device) < self._blind
            dark = seen[shut].unseen()
            seen.images[shut], seen.gaze[shut] = dark.images, dark.gaze
        kept = torch.rand(seen.felt.shape, generator=self._rng).to(self.device) >= self._dropout
        seen.felt = seen.felt * kept / (1 - self._dropout)
        with self._autocast():
            said = self.hand(seen)
        loss = (said.float() - rollout.wanted[at]).abs().mean(dim=-1)[valid].mean()
        self._apply("hand", loss)
        return {"train/hand_loss": loss.item()}

    def _apply(self, name: str, loss: torch.Tensor, part: nn.Module | None = None) -> None:
        """One step of a network, or of a part of it alone, down a loss."""
        net: nn.Module = getattr(self, name)
        self._optimizers[name].zero_grad(set_to_none=True)
        loss.backward(inputs=None if part is None else list(part.parameters()))
        self._group.average_gradients(net)
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        self._optimizers[name].step()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self._half)

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

    # -- acting --------------------------------------------------------------------------------------------------------

    @staticmethod
    def acting_env(config: DictConfig) -> DictConfig:
        """Recordings are trained in; the pair acts in their task, with the same eye and the arm driven by its joints.

        Args:
            config: of the training.

        Raises:
            InvalidValueError: it has no hand, or its recordings are of no task of the suite.
        """
        env = config.env
        name = str(env.id)
        if not config.agent.hand:
            raise InvalidValueError("an eye without a hand searches in recordings only; train it with agent.hand=true")
        if "EyeReplay-" not in name:
            raise InvalidValueError(f"{name} tells of no task of the suite that an arm could act in")
        eye = {key: env[key] for key in ("resolution", "fovs", "projection", "cameras") if key in env}
        return OmegaConf.create({"id": name.replace("EyeReplay-", ""), "control": "joint", **eye})

    def act_in(self, env: VectorEnv[Any, Any, Any]) -> None:
        """Act in a task from now on; only the oracle's gaze needs to know it."""
        self._task = env

    @torch.no_grad()
    def act(self, obs: Observation, *, deterministic: bool = False) -> NDArray[np.float32]:
        """Actions (N, 2 + dof + 1) in [-1, 1] for a task with `control=joint`, or (N, 2) rates where nothing is felt of an arm.

        The eye remembers, and chunks of past steps go on: call `reset` before new episodes.
        """
        count = len(obs["gaze"])
        if self._acting is None or self._acting.count != count:
            self._acting = _Acting(self.eye.start(count, self.device), count, self._chunk)
        self.eye.eval()
        self.hand.eval()
        seen = self.see(obs)
        logits, _ = self._look(seen, self._acting.memory)
        if self._gaze == "oracle" and self._task is not None:
            rates = np.asarray(self._task.unwrapped.oracle())[:, :2]  # type: ignore[attr-defined]
        else:
            turn = self._choose(logits, seen, deterministic)
            rates = (self._turns[turn] / np.radians(self._inner.gaze_reach)).cpu().numpy()
        if not self._with_hand:
            return np.clip(rates, -1, 1).astype(np.float32)
        said, now = self.hand(seen), np.asarray(obs["joints"], np.float64)
        joints = self._planned(said, obs)
        plan = np.concatenate([joints, said[..., -1:].cpu().numpy()], axis=-1)
        goal = self._acting.buffer.act(count, lambda: plan[:, AHEAD::PER_STEP].astype(np.float32))
        arm = np.concatenate([(goal[:, :-1] - now) / (AHEAD / PER_STEP) / REACH, goal[:, -1:]], axis=1)
        waiting = self._acting.memory.steps.cpu().numpy() <= self._wait
        arm[waiting] = np.concatenate([0 * now, 2 * obs["opening"] - 1], axis=1)[waiting]
        self._acting.buffer.reset(waiting)
        self._acting.path = np.where(waiting[:, None, None], np.nan, self._inner.tool(joints))
        return np.clip(np.concatenate([rates, arm], axis=1), -1, 1).astype(np.float32)

    def thought(self) -> dict[str, NDArray[Any]]:
        """What the last action came from: "path" (N, chunk, 3), where the hand expects the tool, world frame, m; NaN while it
        waits. Empty without a hand.
        """
        return {"path": self._acting.path} if self._with_hand and self._acting is not None else {}

    def reset(self, sims: NDArray[np.bool_] | None = None) -> None:
        """Forget what was seen and planned, in all simulations or in those of a mask (N,)."""
        if sims is None or self._acting is None:
            self._acting = None
        else:
            self._acting.memory.forget(torch.from_numpy(sims).to(self.device))
            self._acting.buffer.reset(sims)

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        arrays, rest = self._inner.checkpoint()
        return {
            "policy": {name: net.state_dict() for name, net in self._nets()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in self._optimizers.items()},
            "rng": self._rng.get_state(),
            "env": {"arrays": arrays, "rest": rest},
            "steps": self._steps,
        }

    def _nets(self) -> tuple[tuple[str, nn.Module], ...]:
        return ("eye", self.eye), ("hand", self.hand), ("scales", self.scales)

    def load_policy(self, saved: Mapping[str, Any]) -> None:
        """Only what acting needs.

        Raises:
            InvalidValueError: a checkpoint of another size of network or observation.
        """
        for name, net in self._nets():
            _load(net, checkpoint.to_tensors(saved["policy"][name]), name)
        self.reset()

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Bring back what `state` returned; training continues as if it had never stopped."""
        self.load_policy(saved)
        for name, optimizer in self._optimizers.items():
            optimizer.load_state_dict(checkpoint.to_tensors(saved["optimizers"][name]))
        self._rng.set_state(checkpoint.to_tensors(saved["rng"]).to(torch.uint8))
        self._inner.resume(saved["env"]["arrays"], saved["env"]["rest"])
        self._steps = int(saved["steps"])

    def _begin_from(self, start: str | Path, with_hand: bool) -> None:
        """Take the eye, and for the hand what it shares with it, from another training."""
        folder = Path(start)
        place = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
        saved = checkpoint.to_tensors(checkpoint.load_last(place)[1]["learner"]["policy"]["eye"])
        _load(self.eye, saved, "eye")
        if self._reward != "env":
            # Values of search are of another reward, and larger: where the eye seldom is they would stay so, and draw it there.
            last = self.eye.critic[-1]
            assert isinstance(last, nn.Linear)
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        if with_hand:
            ours = self.hand.state_dict()
            shared = {k: v for k, v in saved.items() if k in ours and k.startswith(("encoder.", "tokens.", "blocks."))}
            self.hand.load_state_dict({**ours, **shared})


@dataclass
class _Acting:
    memory: fort.Memory
    count: int
    chunk: int

    def __post_init__(self) -> None:
        self.buffer = ChunkBuffer(len(range(AHEAD, self.chunk, PER_STEP)), 1, 0.01)
        self.path = np.full((self.count, self.chunk, 3), np.nan)


class _Rows:
    """Lists over time, by name."""

    def __init__(self) -> None:
        self._lists: dict[str, list[Any]] = {}

    def add(self, **values: Any) -> None:
        for name, value in values.items():
            self._lists.setdefault(name, []).append(value)

    def stacked(self) -> dict[str, Any]:
        """(B, T, ...) each."""
        out = {}
        for name, values in self._lists.items():
            if isinstance(values[0], fort.Seen):
                out[name] = fort.Seen(*(torch.stack([getattr(v, k) for v in values], dim=1) for k in fort.Seen.__annotations__))
            else:
                out[name] = torch.stack(values, dim=1)
        return out


def _before_restart(obs: Observation, info: Mapping[str, Any]) -> tuple[Observation, Mapping[str, Any]]:
    """What the episodes ended with, where new ones have begun already."""
    if "final_obs" not in info:
        return obs, info
    return {key: np.stack([one[key] for one in info["final_obs"]]) for key in obs}, info["final_info"]


def _at_least(**given: tuple[int, int]) -> None:
    """Check whole numbers, each given with the least that it may be."""
    for name, (value, least) in given.items():
        if value < least:
            raise InvalidValueError(f"{name} must be >= {least}, got {value}")


def _note(told: dict[str, list[float]], found: Mapping[str, float]) -> None:
    for name, value in found.items():
        told.setdefault(name, []).append(value)


def _load(net: nn.Module, saved: Mapping[str, torch.Tensor], name: str) -> None:
    ours = net.state_dict()
    for key in sorted(set(ours) | set(saved)):
        a, b = (tuple(x[key].shape) if key in x else None for x in (saved, ours))
        if a != b:
            raise InvalidValueError(
                f"the checkpoint's {name} has {key} {a}, this configuration's {b}: take the size, observation and actions "
                "that it was trained with"
            )
    net.load_state_dict(dict(saved))
