"""Configuration: Hydra's compose with sentences that help.

An unknown group choice or key names the near miss and what there is; an override that contradicts another is refused; the
composed configuration is closed, so that a misspelt key is never silently added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from assets.errors import InvalidValueError, UnknownNameError

PACKAGE = "conf"


def groups() -> dict[str, list[str]]:
    """Every configuration group and its choices."""
    root = resources.files(PACKAGE)
    found = {}
    for folder in root.iterdir():
        if folder.is_dir() and not folder.name.startswith("_"):
            choices = sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml"))
            if choices:
                found[folder.name] = choices
    return dict(sorted(found.items()))


def verbs() -> list[str]:
    """Verbs with a configuration of their own."""
    return sorted(f.name.removesuffix(".yaml") for f in resources.files(PACKAGE).iterdir() if f.name.endswith(".yaml"))


def _split(override: str) -> tuple[str, str]:
    key, equals, value = override.partition("=")
    if not equals or not key.strip("+~ "):
        raise InvalidValueError(f"an override is key=value (such as env=reach or seed=3), got {override!r}")
    return key.strip(), value.strip()


def chosen(overrides: Sequence[str]) -> dict[str, str]:
    """The choices of groups among overrides: group -> choice."""
    known = groups()
    return {name: value for name, value in map(_split, overrides) if name in known}


def _check(overrides: Sequence[str]) -> None:
    """What Hydra would accept silently or refuse cryptically."""
    seen: dict[str, str] = {}
    choices = groups()
    for override in overrides:
        key, value = _split(override)
        name = key.lstrip("+~")
        if name in seen and seen[name] != value:
            raise InvalidValueError(f"two overrides contradict each other: {name}={seen[name]} and {name}={value}; keep one")
        seen[name] = value
        if name in choices and value not in choices[name]:
            raise UnknownNameError(f"choice for {name!r}", value, choices[name])


def keys(config: Any, prefix: str = "") -> Iterator[str]:
    """Dotted names of everything in a configuration."""
    for key, value in config.items_ex(resolve=False) if isinstance(config, DictConfig) else ():
        yield f"{prefix}{key}"
        if isinstance(value, DictConfig):
            yield from keys(value, f"{prefix}{key}.")


def load(verb: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Compose the configuration of a verb.

    Args:
        verb: name of the yaml at the top of `conf`.
        overrides: in Hydra's language: group=choice, key=value, nested.key=value, +new.key=value.

    Raises:
        UnknownNameError: no such verb, group choice or key; the sentence offers the near miss and the choices.
        InvalidValueError: a malformed or contradicting override.
    """
    if verb not in verbs():
        raise UnknownNameError("verb", verb, verbs())
    _check(overrides)
    GlobalHydra.instance().clear()
    with initialize_config_module(config_module=PACKAGE, version_base="1.3"):
        choices = [f"{name}={value}" for name, value in chosen(overrides).items()]
        base = compose(verb, overrides=choices)
        if len(choices) == len(overrides):
            return base
        known = {*keys(base), *groups()}
        for override in overrides:
            name = _split(override)[0]
            if not name.startswith(("+", "~")) and name not in known:
                raise UnknownNameError("override", name, known)
        try:
            return compose(verb, overrides=list(overrides))
        except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
            raise InvalidValueError(f"the overrides {list(overrides)} do not compose: {error}") from error


def require(config: DictConfig, names: Iterable[str], what: str = "value") -> None:
    """Insist on what has no default.

    Args:
        config: composed.
        names: dotted.
        what: each of them is.

    Raises:
        InvalidValueError: one is missing.
    """
    missing = OmegaConf.missing_keys(config)
    for name in names:
        if name in missing:
            raise InvalidValueError(f"{name} has no default: add {name}=<{what}>")


def save(config: DictConfig, file: Path) -> None:
    """Write a configuration as yaml, resolved."""
    file.write_text(OmegaConf.to_yaml(config, resolve=True))


def read(file: Path) -> DictConfig:
    """Read what `save` wrote.

    Raises:
        InvalidValueError: there is no such file.
    """
    if not file.is_file():
        raise InvalidValueError(f"{file.parent} is not a run folder: it has no {file.name}")
    config = OmegaConf.load(file)
    assert isinstance(config, DictConfig)
    return config


def amend(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Apply key=value overrides to a configuration that is already composed.

    Raises:
        UnknownNameError: a key that the configuration does not have.
        InvalidValueError: another choice of a group, or a malformed or contradicting override.
    """
    _check(overrides)
    config = config.copy()
    known, whole = set(keys(config)), groups()
    for override in overrides:
        name, value = _split(override)
        if name in whole:
            raise InvalidValueError(f"a run goes on with its own {name}: leave out {override}, or start a new run")
        if name not in known:
            raise UnknownNameError("override", name, known)
        OmegaConf.update(config, name, yaml.safe_load(value))
    return config
