"""The benchmark of rewards: what is published is what its cells hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets.errors import InvalidValueError, UnknownNameError
from benchmarks import rewards
from benchmarks.rewards import gathered


def put(folder: Path, name: str, seed: int, **values: float) -> None:
    """A cell."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    (place / f"cell-{seed}.json").write_text(json.dumps(values))


def test_rows_are_means_over_seeds(tmp_path: Path) -> None:
    put(tmp_path, "door/upr", 10, kendall_tau=0.9, jaccard=0.6)
    put(tmp_path, "door/upr", 2, kendall_tau=0.7, jaccard=0.8)
    put(tmp_path, "door/progress", 0, kendall_tau=0.5)
    rows = {(row.name, row.metric): row for row in gathered(tmp_path)}
    tau = rows["door/upr", "kendall_tau"]
    assert (tau.value, tau.low, tau.high, tau.n, tau.seeds) == (pytest.approx(0.8), 0.7, 0.9, 2, (2, 10))
    assert ("door/progress", "jaccard") not in rows


def test_a_cell_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "door/upr", 0, kendall_tau=0.9, policy_success=1.0)
    assert rewards.main(["--cells", "door/upr", "--folder", str(tmp_path)]) == 0
    assert "door/upr, seed 0: tau 0.90, policy 100%" in capsys.readouterr().err


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="door/upr"):
        rewards.main(["--cells", "door/urp", "--folder", str(tmp_path)])
    with pytest.raises(InvalidValueError, match="no cells yet"):
        rewards.main(["--folder", str(tmp_path)])
