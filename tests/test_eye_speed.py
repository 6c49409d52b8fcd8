"""The benchmark of the eye's speed: both ways see the same, and every number of eyes has a row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import eye_speed, results

pytestmark = pytest.mark.usefixtures("one_thread")


def test_every_rate_is_a_row(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(eye_speed, "SECONDS", 0.05)
    rows = eye_speed.measure(2)
    assert [(r.name, r.metric) for r in rows] == [
        ("saccade", "foveal_obs_per_s"), ("released", "foveal_obs_per_s"),
        ("saccade/1", "env_steps_per_s"), ("saccade/8", "env_steps_per_s"), ("saccade/32", "env_steps_per_s"),
    ]  # fmt: skip
    for row in rows:
        assert row.low is not None
        assert row.high is not None
        assert 0 < row.low <= row.value <= row.high
        assert row.n == 2
    results.write("eye_speed", "python -m benchmarks.eye_speed", rows, folder=tmp_path)


def test_steps_are_counted_over_all_eyes(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    class Env:
        num_envs = 8
        action_space = eye_speed.gym.spaces.Discrete(3)

        def reset(self, seed: int) -> None:
            assert seed == 0

        def step(self, action: object) -> None:
            calls.append(action)

    clock = iter(np.arange(1000) / 4)
    monkeypatch.setattr(eye_speed.time, "perf_counter", lambda: float(next(clock)))
    found = eye_speed.stepping(Env())()  # type: ignore[arg-type]
    assert len(calls) == 3  # at 0.25, 0.5 and 0.75 s of the one second
    assert found == pytest.approx(8 * 3 / 1.25)


def test_ways_that_see_different_things_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eye_speed, "psnr", lambda a, b: 39.0)
    with pytest.raises(SystemExit, match=r"see different things: 39\.0 dB"):
        eye_speed.both()
