"""Datasets: what goes in comes out bit for bit, pixels are drawn again alike, and every refusal says why."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import VectorEnv

from agents.base import OraclePolicy, RandomPolicy
from agents.collect import collect
from agents.dataset import (
    DatasetError,
    Demonstrations,
    Writer,
    dataset_path,
    image_keys,
    learning_arrays,
    render,
    write,
)
from agents.rollout import Episode, Record, rollout
from assets.errors import InvalidValueError, UnknownNameError

NAME = "saccade/eye-search/oracle-v0"


def make(name: str = "EyeSearch-v0", num_envs: int = 4, **kwargs: Any) -> VectorEnv[Any, Any, Any]:
    how = {"vectorization_mode": "vector_entry_point", "autoreset_mode": "disabled", "max_episode_steps": 12, **kwargs}
    return gym.make_vec(f"envs:Saccade/{name}", num_envs=num_envs, **how)


@pytest.fixture(scope="module")
def env() -> Iterator[VectorEnv[Any, Any, Any]]:
    made = make(image_size=17, randomise_light=True)
    yield made
    made.close()


@pytest.fixture(scope="module")
def episodes(env: VectorEnv[Any, Any, Any]) -> list[Episode]:
    """Five episodes with the images that were seen."""
    return rollout(env, OraclePolicy(env, 0.2), range(5), deterministic=False, record=Record(images=True))


@pytest.fixture(scope="module")
def whole(env: VectorEnv[Any, Any, Any], episodes: list[Episode], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(episodes, env, NAME, tmp_path_factory.mktemp("datasets"), video=True, notes={"why": "a test"})


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(whole, tmp_path / "oracle-v0"))


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    assert set(a) == set(b)
    for key in a:
        assert a[key].dtype == b[key].dtype, key
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def flat(episode: Episode) -> dict[str, Any]:
    return {"action": episode.action, "reward": episode.reward, "success": episode.success}


# -- round trips -------------------------------------------------------------------------------------------------------


def test_everything_comes_back_bit_for_bit(whole: Path, episodes: list[Episode]):
    read = Demonstrations(whole)
    assert len(read) == 5
    assert read.steps == 60
    for before, after in zip(episodes, read, strict=True):
        assert (after.seed, after.instruction) == (before.seed, before.instruction)
        assert (after.terminated, after.physics_error) == (before.terminated, before.physics_error)
        same(flat(before), flat(after))
        same(before.state, after.state)
        same(before.snapshots, after.snapshots)
        same(before.terms, after.terms)
        same({k: v for k, v in before.obs.items() if v.ndim < 3}, after.obs)


def test_pixels_are_drawn_again_alike(whole: Path, env: VectorEnv[Any, Any, Any], episodes: list[Episode]):
    read = Demonstrations(whole)
    for number, before in enumerate(episodes):
        drawn = read.render(env, number)
        same({key: before.obs[key] for key in image_keys(env.single_observation_space)}, drawn)
    said_aloud = make(image_size=17, randomise_light=True, distractors=3, resolution=24)
    read.check(said_aloud)  # neither a default nor the size of pictures makes another environment
    said_aloud.close()
    only = render(env, read[-1], ["eye_1"])
    same({"eye_1": episodes[-1].obs["eye_1"]}, only)


def test_batch_size_does_not_change_pixels(whole: Path, episodes: list[Episode]):
    other = make(num_envs=3, image_size=17, randomise_light=True)
    try:
        drawn = Demonstrations(whole).render(other, 2, ["eye_0"])
    finally:
        other.close()
    same({"eye_0": episodes[2].obs["eye_0"]}, drawn)


def test_video_is_lossless_and_says_what_it_is(whole: Path, episodes: list[Episode]):
    read = Demonstrations(whole)
    np.testing.assert_array_equal(read.video(1, "eye_2"), episodes[1].obs["eye_2"])
    about = read.about["videos"]["eye_2"]
    assert (about["width"], about["height"], about["profile"], about["lossless"]) == (17, 17, "fast", True)
    with pytest.raises(UnknownNameError, match=r"unknown stored video 'eye_3': did you mean 'eye_"):
        read.video(0, "eye_3")


def test_the_metadata_says_where_it_comes_from(whole: Path, episodes: list[Episode]):
    read = Demonstrations(whole)
    assert read.about["env"]["id"] == "Saccade/EyeSearch-v0"
    assert read.about["env"]["kwargs"]["randomise_light"] is True
    assert read.about["control_dt"] == pytest.approx(1 / 15)
    assert {"saccade", "mujoco", "numpy", "gymnasium"} <= set(read.about["versions"])
    assert read.about["profile"] == "fast"
    assert read.about["notes"] == {"why": "a test"}
    assert read.seeds == [0, 1, 2, 3, 4]
    assert read.instructions == [e.instruction for e in episodes]


def test_minari_reads_it_and_makes_its_environment(whole: Path, episodes: list[Episode], monkeypatch: pytest.MonkeyPatch):
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(whole.parents[2]))
    dataset = minari.load_dataset(NAME)
    assert dataset.total_episodes == 5
    first = dataset[0]
    np.testing.assert_array_equal(first.actions, episodes[0].action)
    assert first.truncations.tolist() == [False] * 11 + [True]
    assert not first.terminations.any()
    single = dataset.recover_environment()
    assert single.spec is not None
    assert single.spec.id == "Saccade/EyeSearch-v0"
    single.close()


def test_nothing_on_disk_is_a_pickle(whole: Path):
    kinds = {file.suffix for file in whole.rglob("*") if file.is_file()}
    assert kinds == {".hdf5", ".json", ".mp4"}


def test_constant_rows_are_stored_once(whole: Path):
    import h5py

    with h5py.File(whole / "data/main_data.hdf5") as file:
        stored = file["episode_0/infos/snapshots/field/geom_rgba"]
        assert isinstance(stored, h5py.Dataset)
        assert len(stored) == 1
    assert len(Demonstrations(whole)[0].snapshots["field/geom_rgba"]) == 13


def test_arrays_for_learning_line_up(whole: Path, env: VectorEnv[Any, Any, Any], episodes: list[Episode]):
    steps = learning_arrays(Demonstrations(whole), env)
    assert len(steps) == 60
    assert steps.left[:13].tolist() == [*range(12, 0, -1), 12]
    np.testing.assert_array_equal(steps.obs["eye_0"][12:24], episodes[1].obs["eye_0"][:-1])
    np.testing.assert_array_equal(steps.obs["gaze"][12:24], episodes[1].obs["gaze"][:-1])
    np.testing.assert_array_equal(steps.action[12:24], episodes[1].action)


def test_slices_and_ends(whole: Path):
    read = Demonstrations(whole)
    assert [e.seed for e in read[1:3]] == [1, 2]
    assert read[-1].seed == 4
    with pytest.raises(IndexError, match=r"has episodes 0 to 4, got 5"):
        read[5]


# -- refusals ----------------------------------------------------------------------------------------------------------


def test_a_dataset_is_never_overwritten(whole: Path, env: VectorEnv[Any, Any, Any], episodes: list[Episode]):
    before = (whole / "data/main_data.hdf5").read_bytes()
    with pytest.raises(DatasetError, match=r"exists; a dataset is never overwritten: take another name, such as 'oracle-v1'"):
        write(episodes, env, NAME, whole.parents[2])
    assert (whole / "data/main_data.hdf5").read_bytes() == before


def test_a_half_written_one_is_named_so(env: VectorEnv[Any, Any, Any], episodes: list[Episode], tmp_path: Path):
    def interrupted() -> None:
        with Writer(env, NAME, tmp_path) as writer:
            writer.add(episodes[:1])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with pytest.raises(DatasetError, match=r"oracle-v0 is half-written: its writer was interrupted; .*no complete.json"):
        Demonstrations(tmp_path / NAME)
    with pytest.raises(DatasetError, match=r"exists and is half-written .*: delete it, or take another name, such as"):
        Writer(env, NAME, tmp_path)


def test_damage_is_seen(copy: Path):
    data = copy / "data/main_data.hdf5"
    data.write_bytes(data.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=r"has \d+ bytes, it was completed with \d+: it is cut short or changed"):
        Demonstrations(copy)
    metadata = copy / "data/metadata.json"
    metadata.write_text(metadata.read_text()[:50])
    with pytest.raises(DatasetError, match=r"half-written: .* \(data/metadata.json is cut short\)"):
        Demonstrations(copy)
    metadata.unlink()
    with pytest.raises(DatasetError, match=r"half-written: .* \(it has no data/metadata.json\)"):
        Demonstrations(copy)


def edit(path: Path, **changes: Any) -> None:
    file = path / "data/metadata.json"
    metadata = json.loads(file.read_text())
    for key, value in changes.items():
        (metadata if key in metadata else metadata["saccade"])[key] = value
    file.write_text(json.dumps(metadata))


def test_another_format_names_the_version_that_reads_it(copy: Path):
    edit(copy, format=7, versions={"saccade": "9.9.0"})
    with pytest.raises(DatasetError, match=r"has dataset format 7, this version .* reads format 1: read it with saccade 9.9.0"):
        Demonstrations(copy)


def test_an_empty_one_and_a_stranger_are_refused(copy: Path, tmp_path: Path, env: VectorEnv[Any, Any, Any]):
    with pytest.raises(DatasetError, match=r"is not a dataset: it has no data/metadata.json"):
        Demonstrations(tmp_path / "nothing")
    edit(copy, total_episodes=0)
    with pytest.raises(DatasetError, match=r"is empty: a dataset needs at least one episode"):
        Demonstrations(copy)
    (copy / "complete.json").unlink()
    file = copy / "data/metadata.json"
    file.write_text(json.dumps({k: v for k, v in json.loads(file.read_text()).items() if k != "saccade"}))
    with pytest.raises(DatasetError, match=r"is a Minari dataset, but not of this suite"):
        Demonstrations(copy)
    with pytest.raises(DatasetError, match=r"no episode was added to .*: a dataset needs at least one; nothing was written"):
        write([], env, NAME, tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()


def test_another_environment_is_refused(whole: Path, copy: Path, env: VectorEnv[Any, Any, Any]):
    reach, dark = make("Reach-v0", observe=()), make(observe=())
    try:
        with pytest.raises(DatasetError, match=r"recorded in 'Saccade/EyeSearch-v0', this environment is 'Saccade/Reach-v0'"):
            Demonstrations(whole).render(reach, 0)
        with pytest.raises(DatasetError, match=r"with randomise_light=True, this environment has randomise_light=False: make"):
            Demonstrations(whole).check(dark)
    finally:
        reach.close()
        dark.close()
    edit(copy, state_size=99, versions={"saccade": "0.1.0", "mujoco": "3.9.0"})
    with pytest.raises(DatasetError, match=r"stores 99 numbers of simulator state, .* recorded with MuJoCo 3.9.0, here is"):
        Demonstrations(copy).check(env)
    edit(copy, state_size=Demonstrations(whole).about["state_size"])
    with pytest.warns(UserWarning, match=r"recorded with MuJoCo 3.9.0, here is .*: pixels may differ"):
        Demonstrations(copy).check(env)


def test_other_refusals(env: VectorEnv[Any, Any, Any], episodes: list[Episode], tmp_path: Path):
    with pytest.raises(InvalidValueError, match=r"'no version' is not a dataset name: .* such as 'saccade/reach/oracle-v0'"):
        dataset_path("no version")
    with pytest.raises(UnknownNameError, match=r"unknown observed image 'eye_9': .*available: eye_0, eye_1, eye_2"):
        render(env, episodes[0], ["eye_9"])
    bare = rollout(env, RandomPolicy(env.single_action_space), [3])
    with pytest.raises(InvalidValueError, match=r"the episode of seed 3 has no actions or no snapshots"):
        write(bare, env, NAME, tmp_path)
    with pytest.raises(InvalidValueError, match=r"the episode of seed 3 has no snapshots to draw"):
        render(env, bare[0])
    blind = make(observe=())
    try:
        with pytest.raises(InvalidValueError, match=r"video=True needs an environment that observes RGB images"):
            Writer(blind, NAME, tmp_path, video=True)
    finally:
        blind.close()


def test_folders(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MINARI_DATASETS_PATH", raising=False)
    assert dataset_path(NAME) == Path("outputs/datasets").absolute() / NAME  # Minari joins a relative one twice
    monkeypatch.setenv("MINARI_DATASETS_PATH", "/data")
    assert dataset_path(NAME) == Path("/data") / NAME
    assert dataset_path(NAME, "here") == Path("here").absolute() / NAME


# -- collecting --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick() -> Iterator[VectorEnv[Any, Any, Any]]:
    """Without images, and so short that a noisy oracle fails now and then."""
    made = make(observe=(), num_envs=8, max_episode_steps=22)
    yield made
    made.close()


def test_collect_keeps_exactly_n_successes_and_counts_the_rest(quick: VectorEnv[Any, Any, Any], tmp_path: Path):
    report = collect(quick, None, 11, 100, tmp_path, NAME, noise=0.45)
    read = Demonstrations(report.path)
    assert len(read) == report.kept == 11
    assert all(e.succeeded for e in read)
    assert report.failed == report.tried - 11 > 0
    assert read.seeds[-1] == 100 + report.tried - 1
    assert read.seeds == sorted(set(read.seeds))
    assert read.about["notes"]["failed"] == report.failed
    assert f"{report.failed} failed and were left out" in str(report)


def test_collect_again_gives_the_same(quick: VectorEnv[Any, Any, Any], tmp_path: Path):
    paths = [collect(quick, None, 5, 0, tmp_path / f, NAME, noise=0.2, only_successes=False).path for f in "ab"]
    for one, other in zip(*(Demonstrations(p) for p in paths), strict=True):
        assert one.action is not None
        np.testing.assert_array_equal(one.action, other.action)
        same(one.state, other.state)


def test_collect_gives_up_with_a_reason(quick: VectorEnv[Any, Any, Any], tmp_path: Path):
    with pytest.raises(DatasetError, match=r"only 0 of 10 episodes succeeded, 3 were asked for: lower the noise"):
        collect(quick, RandomPolicy(quick.single_action_space), 3, 0, tmp_path, NAME, max_tries=10)
    assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"n": 0}, r"n must be >= 1 episode, got 0"),
        ({"noise": -0.1}, r"noise must be a standard deviation >= 0, got -0.1"),
        ({"noise": float("nan")}, r"noise must be a standard deviation >= 0, got nan"),
        ({"push": -0.1}, r"push must be a standard deviation >= 0, got -0.1"),
        ({"push": 0.1}, r"push=0.1 is of an arm, this environment moves \['eye'\]"),
        ({"max_tries": 2}, r"max_tries must be at least the 3 episodes to keep, got 2"),
    ],
)
def test_collect_errors(quick: VectorEnv[Any, Any, Any], tmp_path: Path, arguments: dict[str, Any], sentence: str):
    with pytest.raises(InvalidValueError, match=sentence):
        collect(quick, None, arguments.pop("n", 3), 0, tmp_path, NAME, **arguments)


def test_noise_belongs_to_the_oracle(quick: VectorEnv[Any, Any, Any], tmp_path: Path):
    with pytest.raises(InvalidValueError, match=r"noise=0.1 is the oracle's: give policy=None"):
        collect(quick, OraclePolicy(quick), 3, 0, tmp_path, NAME, noise=0.1)
    with pytest.raises(InvalidValueError, match=r"push=0.1 is the oracle's: give policy=None"):
        collect(quick, OraclePolicy(quick), 3, 0, tmp_path, NAME, push=0.1)
