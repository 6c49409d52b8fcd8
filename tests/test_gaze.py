"""Measures of gazes, on gazes that are made to have them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents import gaze

DT = 1 / 15


@given(st.integers(0, 60))
def test_time_to_fixate(when: int) -> None:
    error = np.where(np.arange(75) >= when, 0.01, 1.0)
    assert gaze.seconds_to_fixate(error, DT) == pytest.approx(when * DT)


def test_a_glance_is_no_fixation() -> None:
    error = np.ones(30)
    error[7] = 0.0
    assert np.isnan(gaze.seconds_to_fixate(error, DT))
    error[20:22] = 0.0
    assert gaze.seconds_to_fixate(error, DT) == pytest.approx(20 * DT)


def test_on_target_by_phase() -> None:
    error, phase = np.radians([1, 50, 50, 50, 2, 2.0]), np.array([0, 0, 1, 1, 1, 1])
    assert gaze.on_target(error, phase) == {0: 0.5, 1: 0.5}


def test_stability() -> None:
    still = np.zeros((20, 2))
    assert gaze.stability(still, DT) == (0, 1)
    sweep = np.stack([np.radians(5) * np.arange(20), np.zeros(20)], axis=1)
    spread, small = gaze.stability(sweep, DT)
    assert spread == pytest.approx(0, abs=1e-9)
    assert small == 0


def test_switch_lag_counts_from_every_jump() -> None:
    target = np.zeros((60, 2))
    target[20:, 0], target[40:, 0] = 1.0, -1.0
    error = np.zeros(60)
    error[20:26] = 1.0  # six steps to the second target, four to the third
    error[40:44] = 1.0
    assert gaze.switch_lag(error, target, DT) == pytest.approx(5 * DT)
    assert np.isnan(gaze.switch_lag(error, np.zeros((60, 2)), DT))


def test_tracking_error_is_of_a_moving_target_alone() -> None:
    target = np.zeros((50, 2))
    target[20:30, 0] = np.radians(30) * DT * np.arange(1, 11)
    target[30:, 0] = target[29, 0]
    error = np.where((np.arange(50) >= 20) & (np.arange(50) < 30), np.radians(3), np.radians(40))
    assert gaze.tracking_error(error, target, DT) == pytest.approx(3)


def test_the_eye_comes_before_the_hand() -> None:
    steps = np.arange(60)
    error = np.where(steps >= 10, 0.0, 1.0)
    distance = np.where(steps >= 40, 0.01, 0.5)
    tool = np.stack([np.minimum(steps, 40) * 0.02, 0 * steps, 0 * steps], axis=1)
    assert gaze.gaze_leads_hand(error, tool, distance, DT) == pytest.approx(31 * DT)  # at rest one step after it came
    assert np.isnan(gaze.gaze_leads_hand(error, tool, np.ones(60), DT))
