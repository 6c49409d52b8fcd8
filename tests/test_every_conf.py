"""Every file in conf/ does what its name says. Adding a yaml is all that it takes to be held to this."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from omegaconf import OmegaConf

import conf
from agents.config import amend, groups, keys, load, verbs
from agents.listing import environments
from agents.make import make_env, make_learner
from agents.train import main as train
from assets.errors import InvalidValueError, UnknownNameError

CONF = Path(conf.__path__[0])
GROUPS = groups()
# Rewards of what a picture shows; tests/test_fit.py and tests/test_similarity.py let them look.
OF_PICTURES = ("learned", "similarity")
SMALL = ("+env.num_threads=1", "+env.max_episode_steps=10")
# What makes an agent small enough to train in a moment; an agent that is not listed trains as it is.
QUICK: dict[str, tuple[str, ...]] = {
    "ppo": ("agent.n_steps=16", "agent.batch_size=32", "agent.n_epochs=1"),
    "sac": ("agent.buffer_size=256", "agent.learning_starts=32", "agent.batch_size=16"),
}


@contextmanager
def made(*overrides: str, num_envs: int = 2, mode: str = "disabled", **more: Any) -> Iterator[Any]:
    config = load("train", [*SMALL, *overrides])
    env = make_env(config, num_envs, mode, **more)
    try:
        yield env
    finally:
        env.close()


@pytest.fixture(scope="module")
def demonstrations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from agents.collect import main as collect

    folder = tmp_path_factory.mktemp("datasets")
    return collect(
        ["n=2", "num_envs=2", f"folder={folder}", "max_episode_steps=10", "only_successes=false", "name=small-v0", "noise=0.1"]
    )


def test_there_is_nothing_but_yaml() -> None:
    strangers = [f for f in CONF.rglob("*") if f.is_file() and f.suffix not in (".yaml", ".py", ".pyc", ".typed")]
    assert not strangers
    assert set(GROUPS) == {"agent", "env", "experiment", "logger", "render", "reward", "reward_model", "vlm"}
    assert verbs() == ["bench", "collect", "evaluate", "fit", "perception", "relabel", "replay", "train"]


@pytest.mark.parametrize("file", sorted(CONF.rglob("*.yaml")), ids=lambda f: str(f.relative_to(CONF)))
def test_every_file_begins_by_saying_what_it_is(file: Path) -> None:
    lines = [line for line in file.read_text().splitlines() if not line.startswith("# @package")]
    assert lines[0].startswith("# ")
    assert len(lines[0]) > 10


@pytest.mark.parametrize("verb", verbs())
def test_every_verb_composes_with_every_choice_of_its_groups(verb: str) -> None:
    base = load(verb)
    for group, choices in GROUPS.items():
        for choice in choices if group in base else ():
            said = yaml.safe_load((CONF / group / f"{choice}.yaml").read_text())
            composed = OmegaConf.to_container(load(verb, [f"{group}={choice}"])[group])
            assert isinstance(composed, dict)
            assert {key: composed[key] for key in said if key != "defaults"} == {k: said[k] for k in said if k != "defaults"}


# What is trained on pictures or recordings has a test of its own, test_tiny_*.py and test_bcrl.py, which trains it.
SEEING = ("tiny_dual", "tiny_vlm", "bcrl")
# Recordings are not simulated: test_eye_replay.py makes them.
SIMULATED = [c for c in GROUPS["env"] if "recordings" not in load("train", [f"env={c}"]).env]


@pytest.mark.parametrize("choice", [c for c in GROUPS["agent"] if c not in SEEING])
def test_every_agent_trains_and_acts(choice: str, demonstrations: Path, tmp_path: Path) -> None:
    config = load("train", [f"agent={choice}"])
    data = [f"agent.demonstrations={demonstrations}"] if OmegaConf.is_missing(config.agent, "demonstrations") else []
    settings = [f"agent={choice}", *QUICK.get(choice, ()), *data, *SMALL, "env.resolution=8", "logger=jsonl"]
    torch = [f"agent.{key}={value}" for key, value in (("device", "cpu"), ("threads", 1)) if key in config.agent]
    run = train([*settings, *torch, "num_envs=2", "steps=64", f"run={tmp_path / 'run'}"])
    assert run.metrics()[-1]["step"] >= 64
    env = make_env(run.config, 2, "same_step")
    try:
        learner = make_learner(run.config, env)
        actions = learner.act(env.reset(seed=0)[0])
        assert actions in env.action_space
        assert len({actions.tobytes(), learner.act(env.reset(seed=1)[0]).tobytes()}) == 2
    finally:
        env.close()


@pytest.mark.parametrize("choice", SIMULATED)
def test_every_env_makes_its_environment(choice: str) -> None:
    with made(f"env={choice}", "+env.image_size=8") as env:
        assert env.spec.id == load("train", [f"env={choice}"]).env.id
        obs, _ = env.reset(seed=0)
        assert obs in env.observation_space
        for _ in range(10):
            *_, truncated, info = env.step(env.unwrapped.oracle())
        assert truncated.all()
        assert not info["physics_error"].any()


def test_every_environment_has_a_yaml() -> None:
    assert {load("train", [f"env={choice}"]).env.id for choice in GROUPS["env"]} == {row[0] for row in environments()}


@pytest.mark.parametrize("choice", SIMULATED)
def test_what_a_yaml_says_reaches_the_task(choice: str) -> None:
    said = OmegaConf.to_container(load("train", [f"env={choice}"]).env)
    assert isinstance(said, dict)
    with made(f"env={choice}", "+env.observe=[]") as env:
        task = env.unwrapped.task
        assert {key: getattr(task, key) for key in said if key != "id"} == {k: v for k, v in said.items() if k != "id"}


@pytest.mark.parametrize("choice", [c for c in GROUPS["reward"] if c not in OF_PICTURES])
def test_every_reward_fits_an_environment(choice: str) -> None:
    fits = []
    for where in SIMULATED:
        with made(f"env={where}", f"reward={choice}", "+env.observe=[]") as env:
            env.reset(seed=0)
            try:
                _, reward, *_, info = env.step(env.unwrapped.oracle())
            except UnknownNameError as error:
                if error.kind != "state quantity":
                    raise
                continue  # the reward reads what this task has not, and says so
            fits.append(where)
            assert np.isfinite(reward).all()
            weights = load("train", [f"reward={choice}"]).reward.get("weights")
            if weights is not None:
                terms = info["reward_terms"]
                assert {k for k in terms if not k.startswith("_")} == set(weights)
                np.testing.assert_allclose(reward, sum(weights[k] * terms[k] for k in weights), rtol=1e-6)
    assert fits


@pytest.mark.parametrize("choice", GROUPS["render"])
def test_every_render_profile_draws(choice: str) -> None:
    with made(f"render={choice}", "env.resolution=8") as env:
        obs, _ = env.reset(seed=0)
        assert env.unwrapped.profile.name == load("train", [f"render={choice}"]).render.profile
        assert obs["eye_2"].std() > 0


@pytest.mark.parametrize("choice", GROUPS["experiment"])
def test_every_experiment_only_sets_what_there_is(choice: str) -> None:
    # Hydra adds a misspelt key of a yaml in silence; it would then do nothing.
    said = yaml.safe_load((CONF / "experiment" / f"{choice}.yaml").read_text()) or {}
    chosen = [
        f"{key.removeprefix('override /')}={value}"
        for entry in said.get("defaults", ())
        if isinstance(entry, dict)
        for key, value in entry.items()
    ]
    composed = load("train", [f"experiment={choice}"])
    added = set(keys(composed)) - set(keys(load("train", chosen)))
    # Handed on to what they configure, which refuses what it does not know.
    known = {"agent.extractor", "agent.policy", "agent.size"}
    assert {key for key in added if not any(key.startswith(k) for k in known)} == set()
    for override in chosen:
        group, _, value = override.partition("=")
        assert value in GROUPS[group]
    composed.num_envs = int(composed.agent.get("minibatches", 2))
    unseen = {} if "recordings" in composed.env else {"observe": ()}
    env = make_env(composed, composed.num_envs, "same_step", **unseen)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You have specified a mini-batch size")  # of 2 simulations' steps
            make_learner(composed, env)
    finally:
        env.close()


@pytest.mark.parametrize("choice", GROUPS["logger"])
def test_every_logger_logs(choice: str, tmp_path: Path) -> None:
    quick = [*QUICK["ppo"], *SMALL, "+env.observe=[]", "agent.device=cpu", "agent.threads=1", "num_envs=2", "steps=32"]
    run = train([*quick, f"logger={choice}", f"run={tmp_path / 'run'}"])
    assert [row["step"] for row in run.metrics()] == [32]
    assert (run.folder / "tensorboard").exists() is load("train", [f"logger={choice}"]).logger.tensorboard


# -- sentences ---------------------------------------------------------------------------------------------------------

ERRORS = [
    (["env=eye_serch"], "unknown choice for 'env' 'eye_serch': did you mean 'eye_search'? available: "),
    (["agent=pp0"], "unknown choice for 'agent' 'pp0': did you mean 'ppo'? available: bc, bc_flow, bcrl, pi2, ppo, sac"),
    (["sed=3"], "unknown override 'sed': did you mean 'seed'? available: agent, "),
    (["agent.gama=0.9"], "unknown override 'agent.gama': did you mean 'agent.gamma'? available: agent, "),
    (["agent=sac", "agent.n_steps=3"], "unknown override 'agent.n_steps': did you mean "),
    (["seed=1", "seed=2"], "two overrides contradict each other: seed=1 and seed=2; keep one"),
    (["env=reach", "env=door_open"], "two overrides contradict each other: env=reach and env=door_open; keep one"),
    (["+a=1", "a=2"], "two overrides contradict each other: a=1 and a=2; keep one"),
    (["seed"], "an override is key=value (such as env=reach or seed=3), got 'seed'"),
    (["=3"], "an override is key=value (such as env=reach or seed=3), got '=3'"),
    (["--steps=3"], "unknown override '--steps': did you mean 'steps'? available: "),
    (["agent.policy={a"], "the overrides ['agent.policy={a'] do not compose: "),
]


@pytest.mark.parametrize(("overrides", "sentence"), ERRORS, ids=[" ".join(o) for o, _ in ERRORS])
def test_wrong_overrides(overrides: list[str], sentence: str) -> None:
    with pytest.raises((UnknownNameError, InvalidValueError)) as caught:
        load("train", overrides)
    assert str(caught.value).startswith(sentence)


def test_the_same_twice_is_no_contradiction() -> None:
    assert load("train", ["seed=3", "seed=3"]).seed == 3


def test_no_such_verb() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown verb 'trian': did you mean 'train'\? available: bench, collect"):
        load("trian")


def test_new_keys_are_added_on_request_only() -> None:
    assert load("train", ["+env.image_size=8"]).env.image_size == 8
    with pytest.raises(UnknownNameError, match=r"unknown override 'env.image_size'"):
        load("train", ["env.image_size=8"])


def test_composing_leaves_no_trace() -> None:
    first = load("train", ["seed=5", "env=reach"])
    load("evaluate")
    assert load("train", ["seed=5", "env=reach"]) == first
    assert load("train").seed == 0


def test_amending_a_run() -> None:
    config = load("train")
    assert amend(config, ["steps=7", "agent.policy.net_arch=[3]"]).agent.policy.net_arch == [3]
    assert config.steps != 7
    with pytest.raises(InvalidValueError, match="two overrides contradict each other: steps=7 and steps=8"):
        amend(config, ["steps=7", "steps=8"])


def test_what_has_no_default_must_be_given() -> None:
    from agents.train import main

    with pytest.raises(InvalidValueError, match=r"agent\.demonstrations has no default: add agent\.demonstrations=<value>"):
        main(["env=reach", "agent=bc"])
