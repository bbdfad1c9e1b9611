"""When reports are due and how long a lost worker waits."""

from __future__ import annotations

import random

import pytest

from roost.worker.core.pace import (
    FIRST_BACKOFF_S,
    LONGEST_BACKOFF_S,
    SMALLEST_GAP_S,
    YOUNG_ATTEMPTS,
    YOUNG_BACKOFF_S,
    Backoff,
    ReportPace,
)


def test_the_first_report_is_due_at_once_and_the_next_after_the_interval() -> None:
    pace = ReportPace(1.0)
    assert pace.due_in(5.0) == 0.0
    pace.sent(5.0)
    assert pace.due_in(5.2) == pytest.approx(0.8)
    assert pace.due_in(7.0) == 0.0


def test_a_change_makes_a_report_due_but_never_more_than_twenty_a_second() -> None:
    pace = ReportPace(1.0)
    pace.sent(5.0)
    assert pace.changed()
    assert not pace.changed()
    assert pace.due_in(5.0) == pytest.approx(SMALLEST_GAP_S)
    assert pace.due_in(5.06) == 0.0
    pace.sent(5.06)
    assert pace.due_in(5.06) == pytest.approx(1.0)


def test_waits_double_with_jitter_are_short_while_an_outage_is_young_and_start_anew_after_success() -> None:
    backoff = Backoff(random.Random(1))
    waits = [backoff.next_wait_s() for _ in range(YOUNG_ATTEMPTS + 4)]
    ceilings = [min(YOUNG_BACKOFF_S, FIRST_BACKOFF_S * 2**number) for number in range(YOUNG_ATTEMPTS)] + 4 * [LONGEST_BACKOFF_S]
    assert all(ceiling / 2 <= wait <= ceiling for wait, ceiling in zip(waits, ceilings, strict=True))
    backoff.succeeded()
    assert backoff.next_wait_s() <= FIRST_BACKOFF_S
