"""A pair of eye and hand, as networks and as a policy: what they see, where the eye turns, where the hand goes.

It is made for an environment of recordings (`envs/replay.py`) and acts in the task that they are of: its chunks steer the arm's
joints, averaged over the steps that predicted them. `agents.bcrl` trains it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf
from torch import nn

from agents import checkpoint, fort, patches, shipped, sight
from agents.augment import Change
from agents.base import Observation
from agents.chunk import ChunkBuffer
from agents.device import place
from agents.extractor import image_keys
from agents.glance import Glance
from agents.inhibition import Inhibition
from agents.scales import Scales
from agents.seen import Seen
from assets.errors import InvalidValueError, UnknownNameError
from perception.recording import PER_STEP
from perception.sphere import pyramid_rays

CHOSEN = ("learned", "frozen", "once")  # by the eye itself
GAZES = (*CHOSEN, "random", "fixed", "oracle")
HANDS: dict[str, type[nn.Module]] = {"joints": fort.HandNet, "glance": Glance}
# A fixed gaze: straight ahead, down to the table; rad.
AHEAD_GAZE = np.radians([0.0, -15.0])
# How many rows of a chunk ahead the arm is steered: the servos lag by about one step.
AHEAD = 4
# What the arm's action means, see `envs.actions.JointDelta`, rad.
REACH = 0.1


class Pair:
    """An eye and a hand.

    Args:
        env: vector environment of `Saccade/EyeReplay-*` with discrete actions.
        seed: of the initial weights, and of the turns that are drawn.
        device: "auto", "cpu", "cuda".
        threads: torch threads on the CPU; 0 leaves torch's choice.
        size: name of `patches.SIZES`, or a mapping of `patches.Size`'s fields.
        encoder: "patches", or folder or name of a frozen vision transformer.
        gaze: who turns the eye: "learned"; "frozen", the eye as it is at the start; "once", the same, but after `wait` steps it
            rests where it is; "random" (any turn, at every step), "fixed" (straight ahead, 15 degrees down), "oracle" (to the
            recorded target).
        hand: whether there is a hand.
        hand_net: "joints", EyeRobot's, a token for each of its moves; or "glance", `agents.glance`, for few demonstrations.
        chunk: rows of the arm's next moves.
        averaged: how many of the last predictions of a step are averaged when acting (ACT's temporal ensembling). EyeRobot
            takes all of them; a hand that lives by what was seen in a whole second swings about a thing that has moved.
        wait: steps at an episode's beginning in which the arm stands still when acting, so that the eye can search as it does
            in the recordings' pause.
        eye_at: where the eye stands above the table, (x, y, z) m along the axes of the arm's foot. With it the hand knows where
            its tool is beside the line of sight; None where that was never measured, as in EyeRobot.
        told: whether the eye is told where the colours that the instruction names lie in each level, `sight.points`.
        shapes: whether a hand of `hand_net="glance"` is told what these colours look like there, `sight.shapes`, and with
            `eye_at` how its tool is turned beside them and where it is if they are raised, `sight.turns` and `raised`.
        inhibit: steps within which an eye that takes its likeliest turns does not go back to where it looked,
            `agents.inhibition`; 0, as in EyeRobot, for none.

    Raises:
        UnknownNameError, InvalidValueError: an argument is wrong.
    """

    def __init__(
        self, env: VectorEnv[Any, Any, Any], seed: int = 0, device: str = "auto", threads: int = 0,
        size: str | Mapping[str, Any] = "small", encoder: str = "patches", gaze: str = "learned", hand: bool = True,
        hand_net: str = "joints", chunk: int = 30, averaged: int = 7, wait: int = 30, eye_at: Sequence[float] | None = None,
        told: bool = False, inhibit: int = 0, shapes: bool = False,
    ) -> None:  # fmt: skip
        for name, value, known in (("gaze", gaze, GAZES), ("hand_net", hand_net, HANDS)):
            if value not in known:
                raise UnknownNameError(name, value, known)
        if shapes and hand_net != "glance":
            raise InvalidValueError(f"shapes are told to hand_net=glance alone, got hand_net={hand_net}")
        if hand and chunk <= AHEAD:
            raise InvalidValueError(f"chunk must be > {AHEAD} rows, for so far ahead the arm is steered, got {chunk}")
        if wait < 0:
            raise InvalidValueError(f"wait must be >= 0, got {wait}")
        if inhibit < 0:
            raise InvalidValueError(f"inhibit must be >= 0 steps, got {inhibit}")
        if averaged < 1:
            raise InvalidValueError(f"averaged must be >= 1 prediction, got {averaged}")
        inner: Any = env.unwrapped
        if getattr(inner, "turns", None) is None:
            raise InvalidValueError("BC-RL needs an EyeReplay environment with actions=directions_9 or directions_25")
        self._inner = inner
        self.device = place(device, threads)
        self._gaze, self._with_hand, self._chunk, self._wait = gaze, hand, chunk, wait
        self._averaged = min(averaged, len(range(AHEAD, chunk, PER_STEP)))
        self._turns, self._limits = (torch.from_numpy(x).to(self.device) for x in (inner.turns, inner.gaze_limits))
        self._told, self._inhibit, self._shapes = told, inhibit, shapes
        self._eye_at = None if eye_at is None else np.asarray(eye_at, np.float64)
        if self._eye_at is not None and (self._eye_at.shape != (3,) or not self._eye_at[2] > 0):
            raise InvalidValueError(f"eye_at must be three numbers, m, the last above the table, got {eye_at}")
        self._make(env, patches.size_of(size), encoder, hand_net, seed)
        self._rng = torch.Generator().manual_seed(seed)
        self._acting: _Acting | None = None
        self._task: VectorEnv[Any, Any, Any] | None = None

    def _make(self, env: VectorEnv[Any, Any, Any], size: patches.Size, encoder: str, hand_net: str, seed: int) -> None:
        """The networks, and the scales of what the arm feels and of its moves."""
        space = env.single_observation_space
        assert isinstance(space, spaces.Dict)
        self._levels = image_keys(space)
        self._felt = [k for k in ("joints", "opening", "explored") if k in space.spaces]
        felt, dof = spaces.flatdim(spaces.Dict({k: space[k] for k in self._felt})), spaces.flatdim(space["joints"])
        height = None if self._eye_at is None else float(self._eye_at[2])
        self._side = int(space[self._levels[0]].shape[0])  # type: ignore[index]
        rays = pyramid_rays(tuple(self._inner.fovs), self._side, self._inner.projection)
        self._rays = torch.from_numpy(np.nan_to_num(rays)).float().to(self.device)
        hand = partial(Glance, shapes=True) if self._shapes else HANDS[hand_net]
        self.eye, self.hand = fort.make(
            space.spaces, felt, len(self._turns), self._chunk, dof + 1, size, self._inner.fovs, encoder, seed, height, hand,
            self._inner.projection, self._told,
        )  # fmt: skip
        self.scales = Scales(felt, dof)
        self.scales.fit(self._inner.columns("joints"), self._inner.columns("opening"), self._chunk * self._with_hand)
        for _, net in self._nets():
            net.to(self.device)

    # -- what is seen, and what is made of it --------------------------------------------------------------------------

    def _look(self, seen: Seen, memory: fort.Memory) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits of the eye's turns and values, one step on; zeros where the eye has no say."""
        if self._gaze in CHOSEN:
            logits, values = self.eye.step(seen, memory)
            if self._gaze == "once":
                others = self._turns.abs().sum(dim=1) > 0
                logits = logits.masked_fill((memory.steps > self._wait)[:, None] & others, -torch.inf)
            return logits, values
        memory.steps += 1
        return seen.gaze.new_zeros(len(seen.gaze), len(self._turns)), seen.gaze.new_zeros(len(seen.gaze))

    def see(self, obs: Observation, change: Change | None = None) -> Seen:
        """Observations of N simulations for the networks, with changed pictures."""
        images = torch.from_numpy(np.stack([obs[k] for k in self._levels], axis=1)).to(self.device)
        images = images if change is None else change(images)
        felt = np.concatenate([obs[k] for k in self._felt], axis=1).astype(np.float32)
        gaze, words = (torch.from_numpy(np.asarray(obs[k], np.float32)).to(self.device) for k in ("gaze", "target"))
        felt_units = self.scales.felt(torch.from_numpy(felt).to(self.device))
        weights = sight.closeness(images, words)
        reaches = self._with_hand and self._eye_at is not None
        # Nobody else would read them.
        points = sight.points(weights, self._rays) if self._told or reaches else self._nothing(len(gaze), 3)
        shapes = sight.shapes(weights, self._rays) if self._shapes else self._nothing(len(gaze), 7)
        tool = self._tool(obs["joints"])
        return Seen(images, gaze, felt_units, words, tool, points, shapes, (255 * weights).round().byte())

    def _tool(self, joints: NDArray[Any]) -> torch.Tensor:
        """`Seen.tool` (N, 5) for joint angles (N, dof) rad; zeros where nobody reads it."""
        out = np.zeros((len(joints), sight.TOOL), np.float32)
        if self._eye_at is not None:
            at, axes = self._inner.pose(np.asarray(joints, np.float64))
            out[:, :3] = at - self._eye_at
            out[:, 3:] = sight.doubled(torch.from_numpy(axes[:, :2]))
        return torch.from_numpy(out).to(self.device)

    def _nothing(self, count: int, numbers: int) -> torch.Tensor:
        """Zeros in the place of numbers that are told of each level, half of them of either colour."""
        either = len(sight.COLOURS)
        return self._rays.new_zeros(count, len(self._levels), either, numbers // either)

    def _inhibition(self, count: int) -> Inhibition:
        return Inhibition(self._turns, self._limits, self._inhibit, count)

    def _choose(self, logits: torch.Tensor, seen: Seen, greedy: Inhibition | None = None) -> torch.Tensor:
        """The eye's turns, (N,); drawn where it chooses and is not greedy."""
        if self._gaze == "oracle":
            return torch.from_numpy(np.asarray(self._inner.oracle())).to(self.device)
        if self._gaze == "fixed":
            left = torch.from_numpy(AHEAD_GAZE).to(seen.gaze) - seen.gaze
            return torch.cdist(left, self._turns.to(left)).argmin(dim=1)
        if greedy is not None and self._gaze != "random":
            return greedy.likeliest(logits, seen.gaze)
        return torch.multinomial(logits.softmax(-1).cpu(), 1, generator=self._rng)[:, 0].to(self.device)

    def _planned(self, said: torch.Tensor, obs: Observation) -> NDArray[np.float64]:
        """Joint angles of the arm's next moves, (N, chunk, dof) rad."""
        return np.asarray(obs["joints"], np.float64)[:, None] + self.scales.joints(said).double().cpu().numpy()

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
            self._acting = _Acting(
                self.eye.start(count, self.device), self._inhibition(count), count, self._chunk, self._averaged
            )
        self.eye.eval()
        self.hand.eval()
        seen = self.see(obs)
        logits, _ = self._look(seen, self._acting.memory)
        if self._gaze == "oracle" and self._task is not None:
            rates = np.asarray(self._task.unwrapped.oracle())[:, :2]  # type: ignore[attr-defined]
        else:
            turn = self._choose(logits, seen, self._acting.inhibition if deterministic else None)
            rates = (self._turns[turn] / np.radians(self._inner.gaze_reach)).cpu().numpy()
        if not self._with_hand:
            return np.clip(rates, -1, 1).astype(np.float32)
        said, now = self.hand(seen), np.asarray(obs["joints"], np.float64)
        joints = self._planned(said, obs)
        plan = np.concatenate([joints, said[..., -1:].cpu().numpy()], axis=-1)
        spoken = plan[:, AHEAD::PER_STEP][:, : self._averaged].astype(np.float32)
        goal = self._acting.buffer.act(count, lambda: spoken)
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
            self._acting.inhibition.forget(torch.from_numpy(sims).to(self.device))
            self._acting.buffer.reset(sims)

    # -- weights -------------------------------------------------------------------------------------------------------

    def _nets(self) -> tuple[tuple[str, nn.Module], ...]:
        return ("eye", self.eye), ("hand", self.hand), ("scales", self.scales)

    def policy(self) -> dict[str, Any]:
        """What acting needs: the networks, and what they see."""
        return {**{name: net.state_dict() for name, net in self._nets()}, "sees": self._sees()}

    def _sees(self) -> dict[str, Any]:
        """What the same weights would see otherwise in another eye."""
        inner = self._inner
        return {"views": list(self._levels), "resolution": self._side, "fovs": list(inner.fovs), "projection": inner.projection}

    def _check_sees(self, saved: Mapping[str, Any]) -> None:
        for key, ours in self._sees().items():
            if saved[key] != ours:
                raise InvalidValueError(
                    f"the checkpoint sees with {key}={saved[key]}, this configuration with {key}={ours}: take the eye that it "
                    "was trained with"
                )

    def load_policy(self, saved: Mapping[str, Any]) -> None:
        """Only what acting needs.

        Raises:
            InvalidValueError: a checkpoint of another size of network or observation.
        """
        self._check_sees(saved["policy"]["sees"])
        for name, net in self._nets():
            _load(net, checkpoint.to_tensors(saved["policy"][name]), name)
        self.reset()

    def _begin_from(self, start: str | Path, with_hand: bool, new_values: bool) -> None:
        """Take the eye, and for the hand what it shares with it, from another training; its values only of the same reward."""
        folder = shipped.start(start)
        place = folder / "checkpoints" if (folder / "checkpoints").is_dir() else folder
        policy = checkpoint.load_last(place)[1]["learner"]["policy"]
        self._check_sees(policy["sees"])
        saved = checkpoint.to_tensors(policy["eye"])
        _load(self.eye, saved, "eye")
        if new_values:
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
    inhibition: Inhibition
    count: int
    chunk: int
    averaged: int

    def __post_init__(self) -> None:
        self.buffer = ChunkBuffer(self.averaged, 1, 0.01)
        self.path = np.full((self.count, self.chunk, 3), np.nan)


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
