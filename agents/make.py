"""Environments and learners from configuration. Environments come from Gymnasium by id: nothing in here imports them."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.vector import VectorEnv
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from agents.base import Policy
from assets.errors import InvalidValueError, SaccadeError, UnknownNameError

# The package whose import registers the suite's ids; Gymnasium imports what stands before the colon.
_REGISTERING = "envs"


def build(config: DictConfig, **more: Any) -> Any:
    """The object that a group's `_target_` makes.

    Args:
        config: the group.
        more: further arguments.

    Raises:
        InvalidValueError: a setting that has no value yet (`???`).
        SaccadeError: whatever the object itself refuses.
    """
    missing = sorted(OmegaConf.missing_keys(config))
    if missing:
        raise InvalidValueError(f"{config['_target_']} needs a value for {', '.join(map(str, missing))}")
    try:
        return instantiate(config, _convert_="all", **more)  # else frozen dataclasses come back as configuration
    except InstantiationException as error:
        if isinstance(error.__cause__, SaccadeError):
            raise error.__cause__ from None
        raise


def make_env(
    config: DictConfig,
    num_envs: int,
    autoreset_mode: str,
    dump_folder: Path | None = None,
    **more: Any,
) -> VectorEnv[Any, Any, Any]:
    """A vector environment from the groups `env`, `render` and, where there is one, `reward`.

    Args:
        config: composed configuration.
        num_envs: simulations.
        autoreset_mode: "same_step" to train, "disabled" to evaluate.
        dump_folder: where states that led to a divergence go.
        more: further arguments of the environment.
    """
    options = OmegaConf.to_container(config.env, resolve=True)
    assert isinstance(options, dict)
    name = str(options.pop("id"))
    if ":" not in name:
        name = f"{_REGISTERING}:{name}"
    reward = config.get("reward")
    profile: Any = {}
    if reward is not None and reward.get("_target_"):
        if "recordings" in options:
            raise InvalidValueError(f"recordings are not rewarded by {reward['_target_']}, which reads a simulator's state")
        more["reward"] = build(reward)
    if "recordings" not in options:  # what is recorded is neither drawn nor simulated
        profile = OmegaConf.to_container(config.render, resolve=True)
        if dump_folder is not None:
            more["dump_folder"] = str(dump_folder)
    return gym.make_vec(
        name,
        num_envs=num_envs,
        vectorization_mode="vector_entry_point",
        autoreset_mode=autoreset_mode,
        **{**{str(k): v for k, v in options.items()}, **profile, **more},
    )


def make_learner(config: DictConfig, env: VectorEnv[Any, Any, Any]) -> Any:
    """The learner of the group `agent`, in an environment."""
    return build(config.agent, env=env, seed=config.seed)


def make_policy(name: str, env: VectorEnv[Any, Any, Any]) -> Policy:
    """A policy of anybody's, such as a teleoperation device, by the name of its class.

    Args:
        name: "module:Class"; the module must be found on Python's path.
        env: what it is made with, as its only argument.

    Raises:
        InvalidValueError: a name of another form, a module that cannot be imported, a class that cannot be made with an
            environment alone, or that is no policy.
        UnknownNameError: no such class in the module.
    """
    module, _, kind = name.partition(":")
    if not (module and kind):
        raise InvalidValueError(f"policy must be 'module:Class', such as 'teleop:Gamepad', got {name!r}")
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise InvalidValueError(
            f"policy={name!r}: the module {module!r} cannot be imported ({error}); it must lie on Python's path, "
            "such as with PYTHONPATH=<its folder>"
        ) from error
    made = getattr(found, kind, None)
    if not isinstance(made, type):
        classes = [key for key, value in vars(found).items() if isinstance(value, type) and hasattr(value, "act")]
        raise UnknownNameError(f"policy class of the module {module!r}", kind, classes)
    if not callable(getattr(made, "act", None)):
        raise InvalidValueError(f"policy={name!r} has no act(obs, *, deterministic=False) that answers with a batch of actions")
    try:
        inspect.signature(made).bind(env)
    except TypeError as error:
        raise InvalidValueError(f"policy={name!r} must take the environment as its only argument: {error}") from error
    return made(env)
