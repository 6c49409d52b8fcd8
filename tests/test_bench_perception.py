"""`saccade bench perception`: what it asks, what it prints, what it refuses."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from agents import bench
from agents.bench_perception import measure, time_calls, ways
from assets.errors import InvalidValueError
from tests.backends import save_tiny_chat, save_tiny_dual
from tests.test_front import Bright, pictures

FEW = ["env.resolution=32", "num_envs=2", "seconds=0.05"]


@pytest.mark.parametrize(
    ("vlm", "methods"), [("colour", {"ground", "score"}), ("scripted", {"answer", "ground", "yes_probability", "score"})]
)
def test_every_thing_that_a_backend_can_be_asked_is_measured(
    vlm: str, methods: set[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bench.json"
    assert bench.main(["perception", f"vlm={vlm}", *FEW, "looks=4", f"out={out}"]) == 0
    report = json.loads(out.read_text())
    assert set(report["measured"]) == methods
    for found in report["measured"].values():
        assert found["p99_ms"] >= found["p50_ms"] > 0
        assert found["images_per_s"] == pytest.approx(2 * found["calls_per_s"])
        assert 0.74 < found["hit_rate"] < 1  # every picture was looked at four times
    printed = capsys.readouterr().out
    for name in (*methods, "p99_ms", "hit_rate", "2 pictures of 32 x 32 a call"):
        assert name in printed


def test_latencies_are_those_of_the_calls() -> None:
    calls: list[int] = []

    def call(k: int) -> None:
        calls.append(k)
        time.sleep(0.01)

    found = time_calls(call, 8, 0.05)
    assert calls == list(range(len(calls)))
    assert found["calls"] == len(calls) - 1  # the first warms up
    assert 10 <= found["p50_ms"] < 100
    assert found["images_per_s"] == pytest.approx(8 * found["calls_per_s"])


def test_the_backend_is_asked_about_what_is_seen() -> None:
    backend = Bright()
    seen: list[NDArray[np.uint8]] = [pictures(1, 2), pictures(3, 4)]
    found = measure(backend, seen, [["the red mug", "the orange cube"]] * 2, 0.0, looks=2)
    assert set(found) == {"answer", "ground", "yes_probability", "score", "embed"}
    assert found["embed"]["hit_rate"] == 0.5
    assert ways(backend)["answer"](seen[0], ["the red mug", "the orange cube"]) == [
        "Is this true? There is a red mug. 1", "Is this true? There is an orange cube. 2",
    ]  # fmt: skip


def test_speeds_of_what_ships_are_rows_of_a_result(tmp_path: Path) -> None:
    from benchmarks.perception_speed import measure as speeds

    save_tiny_chat(tmp_path / "chat")
    save_tiny_dual(tmp_path / "dual")
    rows = {row.metric: row for row in speeds(tmp_path, rounds=2)}
    assert {"embed_images_per_s", "ground_images_per_s", "cache_lookups_per_s"} <= set(rows)
    assert all(row.value > 0 for row in rows.values())
    assert rows["remembered_images_per_s"].value > rows["embed_images_per_s"].value


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match="seconds must be > 0 and looks >= 1, got 0 and 2"):
        bench.main(["perception", "vlm=colour", "seconds=0"])
    with pytest.raises(InvalidValueError, match="object can be asked nothing"):
        ways(object())
    with pytest.raises(InvalidValueError, match="holds no tiny chat model"):
        bench.main(["perception", f"vlm.folder={tmp_path}"])
