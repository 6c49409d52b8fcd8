"""A checkpoint comes back as it went in, or is refused; nothing is half-written, nothing overwritten."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from agents import checkpoint
from agents.checkpoint import CheckpointError

DTYPES = [np.bool_, np.int8, np.uint8, np.int32, np.int64, np.uint64, np.float16, np.float32, np.float64]
SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)  # 0-d and empty ones, too
ARRAYS = st.sampled_from(DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES))
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
KEYS = st.one_of(st.text(max_size=4), st.sampled_from(["a", "a/b", "/", "$array", "$items", "1", "shape"]), st.integers(-2, 2))
TREES = st.recursive(
    st.one_of(ARRAYS, SCALARS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert isinstance(b, dict)
        assert [(k, type(k)) for k in a] == [(k, type(k)) for k in b]
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list):
        assert isinstance(b, list)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_array_equal(a, b)
    else:
        assert type(a) is type(b)
        assert a == b


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(KEYS, TREES, max_size=4))
def test_what_goes_in_comes_out(tree: dict[Any, Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "c"
        checkpoint.save(tree, place)
        assert_same(tree, checkpoint.load(place))
        assert sorted(f.name for f in place.iterdir()) == ["arrays.safetensors", "state.json"]


def test_names_that_look_alike_stay_apart(tmp_path: Path) -> None:
    tree = {"a": {"b": np.zeros(1)}, "a/b": np.ones(2), 1: np.full(3, 2.0), "1": np.full(4, 3.0)}
    checkpoint.save(tree, tmp_path / "c")
    assert_same(tree, checkpoint.load(tmp_path / "c"))


def test_tensors_come_back_as_arrays_and_load_again(tmp_path: Path) -> None:
    net = torch.nn.Linear(3, 2)
    optimizer = torch.optim.Adam(net.parameters())
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    strided = torch.arange(6.0).reshape(2, 3).T
    checkpoint.save({"net": net.state_dict(), "adam": optimizer.state_dict(), "strided": strided}, tmp_path / "c")
    tree = checkpoint.load(tmp_path / "c")
    np.testing.assert_array_equal(tree["strided"], strided.numpy())
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(checkpoint.to_tensors(tree["net"]))
    torch.testing.assert_close(other.weight, net.weight, rtol=0, atol=0)
    again = torch.optim.Adam(other.parameters())
    again.load_state_dict(checkpoint.to_tensors(tree["adam"]))
    for key, value in optimizer.state_dict()["state"][0].items():
        torch.testing.assert_close(again.state_dict()["state"][0][key], value, rtol=0, atol=0)


def test_numpy_numbers_and_tuples_become_plain(tmp_path: Path) -> None:
    checkpoint.save({"n": np.int64(3), "t": (1, 2.5)}, tmp_path / "c")
    assert checkpoint.load(tmp_path / "c") == {"n": 3, "t": [1, 2.5]}


def test_random_streams_go_on() -> None:
    def draw() -> list[float]:
        return [torch.rand(1).item(), float(np.random.rand()), random.random()]  # noqa: NPY002  what SB3 draws from

    state = checkpoint.random_state()
    first = draw()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(state, Path(folder) / "c")
        draw()
        checkpoint.set_random_state(checkpoint.load(Path(folder) / "c"))
    assert draw() == first


@pytest.mark.parametrize("at", ["first", "middle", "last"])
def test_one_changed_byte_is_seen(at: str, tmp_path: Path) -> None:
    checkpoint.save({"a": np.arange(100.0)}, tmp_path / "c")
    file = tmp_path / "c" / "arrays.safetensors"
    data = bytearray(file.read_bytes())
    where = {"first": 0, "middle": len(data) // 2, "last": len(data) - 1}[at]
    data[where] ^= 1
    file.write_bytes(bytes(data))
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load(tmp_path / "c")
    assert str(caught.value) == f"{file} is missing, cut short or changed: its digest is not the one in state.json"


@pytest.mark.parametrize("text", [b"", b"{", b"\x00" * 50, b"\xff\xfe", b'{"format": 1, "sha256": "x", "tree": '])
def test_a_damaged_state_is_seen(text: bytes, tmp_path: Path) -> None:
    checkpoint.save({"a": np.zeros(1)}, tmp_path / "c")
    (tmp_path / "c" / "state.json").write_bytes(text)
    with pytest.raises(CheckpointError, match=r"state\.json is cut short or damaged"):
        checkpoint.load(tmp_path / "c")


def test_other_refusals(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere is not a checkpoint: it has no .*state\.json"):
        checkpoint.load(tmp_path / "nowhere")
    checkpoint.save({}, tmp_path / "c")
    state = json.loads((tmp_path / "c" / "state.json").read_text())
    for other, found in (({**state, "format": 9}, "9"), ([], "None")):
        (tmp_path / "c" / "state.json").write_text(json.dumps(other))
        with pytest.raises(CheckpointError, match=rf"c has checkpoint format {found}, this version reads 1"):
            checkpoint.load(tmp_path / "c")
    refused: list[tuple[Any, str]] = [
        ({(1, 2): 3}, r"checkpoint keys must be strings or integers, got \(1, 2\) of type tuple"),
        ({"a": np.array(["x"])}, r"checkpoint arrays must be bool, int or float, got <U1 at '/a'"),
        ({"a": {"b": {1, 2}}}, r"a checkpoint holds tensors, arrays, .* got a set at '/a/b'"),
    ]
    for tree, sentence in refused:
        with pytest.raises(CheckpointError, match=sentence):
            checkpoint.save(tree, tmp_path / "d")
        assert not (tmp_path / "d").exists()


def test_never_overwritten(tmp_path: Path) -> None:
    checkpoint.save({"a": 1}, tmp_path / "c")
    with pytest.raises(CheckpointError) as caught:
        checkpoint.save({"a": 2}, tmp_path / "c")
    assert str(caught.value) == f"{tmp_path / 'c'} exists; a checkpoint is never overwritten"
    assert checkpoint.load(tmp_path / "c") == {"a": 1}


def test_what_an_interruption_left_is_no_checkpoint(tmp_path: Path) -> None:
    half = tmp_path / ".0000000007.partial"
    half.mkdir()
    (half / "arrays.safetensors").write_bytes(b"half")
    assert checkpoint.names(tmp_path) == []
    assert checkpoint.load(checkpoint.save_step({"a": 1}, tmp_path, 7)) == {"a": 1}
    assert not half.exists()


def test_last_points_at_the_newest_and_the_oldest_go(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        checkpoint.save_step({"step": step}, tmp_path, step, keep=2)
        assert checkpoint.load(tmp_path / "last") == {"step": step}
    assert checkpoint.names(tmp_path) == ["0000000010", "0000000100"]
    assert (tmp_path / "last").is_symlink()
    (tmp_path.parent / "moved").mkdir(exist_ok=True)
    moved = tmp_path.rename(tmp_path.parent / "moved" / "here")
    assert checkpoint.load(moved / "last") == {"step": 100}  # the link is relative


def test_the_newest_whole_one_is_taken(tmp_path: Path) -> None:
    for step in (1, 2, 3):
        checkpoint.save_step({"step": step}, tmp_path, step, keep=3)
    for step in (2, 3):
        (tmp_path / f"{step:010d}" / "state.json").write_text("")
    with pytest.warns(UserWarning, match="taking the checkpoint before it") as said:
        at, tree = checkpoint.load_last(tmp_path)
    assert (at.name, tree, len(said)) == ("0000000001", {"step": 1}, 2)
    aside = checkpoint.set_aside_after(at)
    assert [f.name for f in aside] == ["0000000002.damaged", "0000000003.damaged"]
    assert checkpoint.load(tmp_path / "last") == {"step": 1}
    checkpoint.save_step({"step": 2}, tmp_path, 2, keep=3)
    (tmp_path / "0000000002" / "state.json").write_text("")
    assert [f.name for f in checkpoint.set_aside_after(at)] == ["0000000002.damaged2"]


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        checkpoint.load_last(tmp_path / "checkpoints")
    assert str(caught.value) == f"no whole checkpoint in {tmp_path / 'checkpoints'} (found: none)"
