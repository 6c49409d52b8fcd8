"""Checkpoints without pickles: tensors in safetensors, the rest in JSON, written whole or not at all.

    checkpoints/
        00050000/   arrays.safetensors  state.json        state.json is written last and holds the arrays' SHA-256
        00100000/   ...
        last -> 00100000

A nested tree of tensors, arrays and JSON-able values goes in and comes out unchanged. A checkpoint that was cut short (power,
kill -9, full disk) fails its digest; `load_last` then says so and takes the one before.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from assets.errors import SaccadeError

FORMAT = 1
_ARRAYS, _STATE = "arrays.safetensors", "state.json"


class CheckpointError(SaccadeError):
    """A checkpoint that is missing, cut short, or of another format."""


def _flatten(tree: Any, path: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Replace arrays in a tree by references, and collect them."""
    if isinstance(tree, torch.Tensor):
        tree = tree.detach().cpu().numpy()
    if isinstance(tree, np.ndarray):
        if tree.dtype.kind not in "biuf":
            raise CheckpointError(f"checkpoint arrays must be bool, int or float, got {tree.dtype} at {path or 'the root'!r}")
        while path in arrays:  # "a/b" beside {"a": {"b"}}, or 1 beside "1"
            path += "'"
        # Contiguous, as safetensors wants it; that makes 0-d arrays 1-d, so the shape is kept beside.
        arrays[path] = np.ascontiguousarray(tree)
        return {"$array": path, "shape": list(tree.shape)}
    if isinstance(tree, Mapping):
        return {"$items": [[_key(k), _flatten(v, f"{path}/{k}", arrays)] for k, v in tree.items()]}
    if isinstance(tree, (list, tuple)):
        return [_flatten(v, f"{path}/{i}", arrays) for i, v in enumerate(tree)]
    if isinstance(tree, np.generic):
        return tree.item()
    if tree is not None and not isinstance(tree, (bool, int, float, str)):
        raise CheckpointError(
            f"a checkpoint holds tensors, arrays, numbers, strings, lists and mappings, got a {type(tree).__name__} at {path!r}"
        )
    return tree


def _key(key: Any) -> Any:
    if not isinstance(key, (str, int)):
        raise CheckpointError(f"checkpoint keys must be strings or integers, got {key!r} of type {type(key).__name__}")
    return key


def _unflatten(tree: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    if isinstance(tree, dict) and "$array" in tree:
        return arrays[tree["$array"]].reshape(tree["shape"])
    if isinstance(tree, dict) and "$items" in tree:
        return {k: _unflatten(v, arrays) for k, v in tree["$items"]}
    if isinstance(tree, list):
        return [_unflatten(v, arrays) for v in tree]
    return tree


def _digest(file: Path) -> str:
    with file.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _sync(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def save(tree: Mapping[str, Any], folder: Path) -> None:
    """Write a tree to `folder`, which appears complete or not at all.

    Raises:
        CheckpointError: the folder exists; a checkpoint is never overwritten.
    """
    if folder.exists():
        raise CheckpointError(f"{folder} exists; a checkpoint is never overwritten")
    arrays: dict[str, NDArray[Any]] = {}
    body = _flatten(tree, "", arrays)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save_file(arrays, partial / _ARRAYS)
    _sync(partial / _ARRAYS)
    state = {"format": FORMAT, "sha256": _digest(partial / _ARRAYS), "tree": body}
    (partial / _STATE).write_text(json.dumps(state))
    _sync(partial / _STATE)
    partial.rename(folder)


def load(folder: Path) -> dict[str, Any]:
    """Read a tree that `save` wrote.

    Raises:
        CheckpointError: missing, cut short, changed since, or of another format.
    """
    try:
        state = json.loads((folder / _STATE).read_text())
    except FileNotFoundError as error:
        raise CheckpointError(f"{folder} is not a checkpoint: it has no {error.filename}") from error
    except ValueError as error:  # not JSON, or not even text
        raise CheckpointError(f"{folder / _STATE} is cut short or damaged: {error}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        found = state.get("format") if isinstance(state, dict) else None
        raise CheckpointError(f"{folder} has checkpoint format {found}, this version reads {FORMAT}")
    file = folder / _ARRAYS
    if not file.is_file() or _digest(file) != state["sha256"]:
        raise CheckpointError(f"{file} is missing, cut short or changed: its digest is not the one in {_STATE}")
    try:
        with safe_open(file, framework="numpy") as handle:
            arrays = {name: handle.get_tensor(name) for name in handle.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise CheckpointError(f"{file} cannot be read: {error}") from error
    return _unflatten(state["tree"], arrays)


def names(checkpoints: Path) -> list[str]:
    """Finished checkpoints in a folder, oldest first."""
    if not checkpoints.is_dir():
        return []
    return sorted(f.name for f in checkpoints.iterdir() if f.is_dir() and not f.is_symlink() and f.name.isdigit())


def save_step(tree: Mapping[str, Any], checkpoints: Path, step: int, keep: int = 2) -> Path:
    """Save the checkpoint of a step, point `last` at it, and delete all but the newest `keep`."""
    folder = checkpoints / f"{step:010d}"
    save(tree, folder)
    _point_last(folder)
    for old in names(checkpoints)[:-keep]:
        shutil.rmtree(checkpoints / old)
    return folder


def _point_last(folder: Path) -> None:
    link = folder.with_name(".last.partial")
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(folder.with_name("last"))


def set_aside_after(folder: Path) -> list[Path]:
    """Rename the checkpoints newer than `folder` to <name>.damaged, so that training can come past them again."""
    aside = []
    for name in names(folder.parent):
        if int(name) > int(folder.name):
            place, copies = folder.with_name(f"{name}.damaged"), 1
            while place.exists():
                copies += 1
                place = folder.with_name(f"{name}.damaged{copies}")
            aside.append(folder.with_name(name).rename(place))
    if aside:
        _point_last(folder)
    return aside


def load_last(checkpoints: Path) -> tuple[Path, dict[str, Any]]:
    """The newest checkpoint that is whole; damaged ones are named in a warning and passed over.

    Raises:
        CheckpointError: there is none.
    """
    found = names(checkpoints)
    for name in reversed(found):
        try:
            return checkpoints / name, load(checkpoints / name)
        except CheckpointError as error:
            warnings.warn(f"{error}; taking the checkpoint before it", stacklevel=2)
    raise CheckpointError(f"no whole checkpoint in {checkpoints} (found: {', '.join(found) or 'none'})")


def random_state() -> dict[str, Any]:
    """Positions of the global generators that learners draw from (torch, NumPy, Python)."""
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)  # noqa: NPY002  (SB3 shuffles with the global generator)
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": {"kind": str(kind), "keys": np.asarray(keys), "rest": [position, has_gauss, cached]},
        "python": {"version": version, "internal": list(internal), "gauss": gauss},
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Bring back what `random_state` returned."""
    torch.set_rng_state(torch.from_numpy(np.asarray(state["torch"])))
    numpy = state["numpy"]
    position = (numpy["kind"], numpy["keys"], *numpy["rest"])
    np.random.set_state(position)  # noqa: NPY002
    python = state["python"]
    random.setstate((python["version"], tuple(python["internal"]), python["gauss"]))
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([torch.from_numpy(np.asarray(s)) for s in state["cuda"]])


def to_tensors(tree: Any) -> Any:
    """Arrays of a loaded tree as tensors, for `load_state_dict`."""
    if isinstance(tree, np.ndarray):
        return torch.from_numpy(tree.copy())
    if isinstance(tree, dict):
        return {k: to_tensors(v) for k, v in tree.items()}
    if isinstance(tree, list):
        return [to_tensors(v) for v in tree]
    return tree
