"""The benchmark of rewards: what is published is what its cells hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from assets.errors import InvalidValueError, UnknownNameError
from benchmarks import rewards
from benchmarks.rewards import Bench, gathered, reached, robot, short


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


def test_rows_of_other_modules_have_metrics_of_their_own(tmp_path: Path) -> None:
    put(tmp_path, "hack/defended", 0, gap=0.1)
    put(tmp_path, "oni/sparse", 0, placed=0.0, reached=1.0)
    put(tmp_path, "oni/sparse", 1, placed=0.5, reached=0.0, late=3.0)
    put(tmp_path, "door/success", 0, kendall_tau=0.5)
    put(tmp_path, "mine/unknown", 0, placed=1.0)
    rows = gathered(tmp_path)
    assert [row.name for row in rows] == ["door/success", "hack/defended", "oni/sparse", "oni/sparse", "oni/sparse"]
    late = next(row for row in rows if row.metric == "late")
    assert (late.value, late.n, late.seeds) == (3.0, 1, (1,))
    assert short(rows)[2] == ("oni/sparse", 2, "placed 0.25, reached 0.5, late 3")


def test_a_line_tells_the_first_and_the_last_figures(tmp_path: Path) -> None:
    put(tmp_path, "door/upr", 0, **{f"m{k}": float(k) for k in range(9)})
    assert short(gathered(tmp_path)) == [("door/upr", 1, "m0 0, m1 1, m7 7, m8 8")]


def test_iterations_until_it_is_reached() -> None:
    assert reached([0.0, 0.89, 0.9, 0.2]) == 3
    assert reached([0.5, 0.6]) == 3


def test_who_is_seen_in_the_videos() -> None:
    assert {robot(name) for name in rewards.MODELS if name != "door/upr_other_embodiment"} == {"panda"}
    assert robot("door/upr_other_embodiment") == "human_arm"


def test_beginning_and_baseline_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def improved(self: Bench, reward: object, seed: int, more: object) -> list[float]:
        asked.append(seed)
        return [0.1, 0.2 + seed]

    monkeypatch.setattr(Bench, "improved", improved)
    monkeypatch.setattr(Bench, "tried", lambda self: asked.append("start") or {"episode": 4})
    bench = Bench(tmp_path)
    assert [bench.by_angle(0), bench.by_angle(1), bench.by_angle(0)] == [[0.1, 0.2], [0.1, 1.2], [0.1, 0.2]]
    assert (bench.start(), bench.start()) == (4, 4)
    assert asked == [0, 1, "start"]


def test_a_page_is_made_of_the_first_seed_though_nothing_was_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewards, "held_out", lambda view, seed: {})
    monkeypatch.setattr(rewards, "card", lambda reward, films, rng: {"voc": 0.5})
    monkeypatch.setattr(rewards, "page", lambda name, reward, films, found: f"{name}: {found}")
    for seed in (1, 0):
        assert not (tmp_path / "door").exists()
        assert Bench(tmp_path).judged("door/similarity", None, "cabinet", seed) == {"voc": 0.5}
    assert (tmp_path / "door/similarity/report.html").read_text() == "door/similarity: {'voc': 0.5}"


def test_a_cell_is_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, "door/upr", 0, kendall_tau=0.9, policy_success=1.0)
    assert rewards.main(["--cells", "door/upr", "--folder", str(tmp_path)]) == 0
    assert "door/upr, seed 0: tau 0.90, policy 100%" in capsys.readouterr().err


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="door/upr"):
        rewards.main(["--cells", "door/urp", "--folder", str(tmp_path)])
    with pytest.raises(InvalidValueError, match="no cells yet"):
        rewards.main(["--folder", str(tmp_path)])
