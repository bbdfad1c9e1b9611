"""Learned times."""

from __future__ import annotations

import pytest

from roost.worker.core.timings import MAX_TIMED_MODELS, UNMEASURED_SERVICE_S, LearnedTimes


def test_the_first_measurement_counts_in_full_and_later_ones_in_part() -> None:
    times = LearnedTimes()
    times.served("a", 1.0)
    times.served("a", 2.0)
    assert times.expected_service_s("a") == pytest.approx(1.2)


def test_a_load_never_measured_has_no_time() -> None:
    times = LearnedTimes()
    assert times.measured_load_s("a") == 0.0
    times.loaded("a", 0.3)
    assert times.measured_load_s("a") == pytest.approx(0.3)


def test_a_model_never_served_is_expected_to_be_like_the_others() -> None:
    times = LearnedTimes()
    assert times.expected_service_s("a") == UNMEASURED_SERVICE_S
    times.served("b", 4.0)
    assert times.expected_service_s("a") == 4.0


def test_only_so_many_models_are_remembered_the_latest_measured_ones() -> None:
    times = LearnedTimes()
    for number in range(MAX_TIMED_MODELS + 1):
        times.served(f"m{number}", 1.0)
    assert len(times.timings) == MAX_TIMED_MODELS
    assert "m0" not in times.timings
