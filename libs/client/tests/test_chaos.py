"""What chaos decides and counts, without a process; and a few rows on real ones, judged by tokens and failures, never by times."""

from __future__ import annotations

import json
import random
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.client.chaos.core.checking import CheckedStream, Pauses
from roost.client.chaos.core.report import Result, Trial, page
from roost.client.chaos.core.rows import ROWS, Act, Row, schedule
from roost.client.cli.chaos import choose
from roost.cluster.errors import InvalidField

WHOLE = Trial(requests=10, tokens=900, lost=0, repeated=0, wrong=0, failures=(), recovery_s=0.2, longest_s=3.1)
CHEAPEST = "worker-killed,coordinator-killed,pair-killed"


def named(name: str) -> Row:
    return next(row for row in ROWS if row.name == name)


@given(st.integers(0, 40), st.integers(0, 2**32))
def test_a_stream_that_is_told_in_order_has_nothing_wrong_and_any_other_has(length: int, seed: int) -> None:
    expected = [f"t{index}" for index in range(length)]
    told = CheckedStream(expected)
    for index, text in enumerate(expected):
        told.hear(index, text)
    told.complete()
    assert (told.lost, told.repeated, told.wrong) == (0, 0, 0)

    kept = [index for index in range(length) if random.Random(seed + index).random() < 0.5]
    gappy = CheckedStream(expected)
    for index in kept:
        gappy.hear(index, expected[index])
        gappy.hear(index, expected[index])
    gappy.complete()
    assert (gappy.lost, gappy.repeated, gappy.wrong) == (length - len(kept), len(kept), 0)


def test_a_token_of_another_text_or_beyond_the_end_is_wrong() -> None:
    stream = CheckedStream(["a", "b"])
    for index, text in enumerate(("a", "x", "c")):
        stream.hear(index, text)
    assert stream.wrong == 2


def test_recovery_is_the_time_without_any_token_and_the_longest_wait_that_of_one_request() -> None:
    pauses = Pauses()
    pauses.opened(1, 0.0)
    pauses.opened(2, 0.0)
    pauses.begin(5.0)
    pauses.token(1, 6.0)
    pauses.token(1, 7.5)
    pauses.token(2, 9.0)
    pauses.closed(1, 9.0)
    pauses.closed(2, 9.0)
    pauses.opened(1, 20.0)
    pauses.token(1, 20.5)
    assert (pauses.recovery_s, pauses.longest_s) == (1.5, 4.0)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_schedule_is_drawn_by_its_seed_and_leaves_no_process_down(row: Row) -> None:
    faults = schedule(row, workers=3, begins_s=1.0, rng=random.Random(7))
    assert faults == schedule(row, workers=3, begins_s=1.0, rng=random.Random(7))
    assert list(faults) == sorted(faults, key=lambda fault: fault.at_s)
    assert 1.0 <= faults[0].at_s <= 1.5
    last = {fault.process: fault.act for fault in faults}
    assert set(last.values()) <= {Act.START, Act.CONTINUE, Act.RESTART}


def test_a_worker_falls_with_the_sidecar_beside_it() -> None:
    processes = {fault.process for fault in schedule(named("pair-killed"), workers=3, begins_s=0.0, rng=random.Random(3))}
    assert len({process.rpartition("-")[2] for process in processes}) == 1


def test_a_verdict_names_each_target_that_was_missed() -> None:
    assert Result(named("worker-killed"), 1, (WHOLE,)).verdict == "holds"
    bad = Trial(requests=3, tokens=9, lost=1, repeated=0, wrong=0, failures=("NO_CAPACITY",), recovery_s=5.0, longest_s=5.0)
    verdict = Result(named("worker-killed"), 1, (bad,)).verdict
    assert all(words in verdict for words in ("1 tokens lost", "1 requests failed (NO_CAPACITY)", "median", "worst"))
    broken = Result(named("worker-killed"), 1, (WHOLE,), broken=("worker-2 did not come up",))
    assert broken.verdict == "missed: 1 trials came to no end (worker-2 did not come up)"
    assert not broken.is_whole
    assert Result(named("coordinator-stopped"), 1, skipped="no such mode").verdict == "skipped: no such mode"


def test_the_page_has_beside_each_row_the_command_that_repeats_it() -> None:
    text = page([Result(named("worker-killed"), 4, (WHOLE,))], trials=1, duration_s=15)
    assert "`roost chaos --rows worker-killed --trials 1 --seed 4 --duration 15`" in text


def test_rows_are_chosen_by_name_and_mode_and_a_wrong_name_is_told() -> None:
    assert [row.name for row in choose("sidecar-killed, worker-killed", "")] == ["worker-killed", "sidecar-killed"]
    assert {row.mode for row in choose("", "gossip")} == {"gossip"}
    with pytest.raises(InvalidField, match="nothing-such"):
        choose("nothing-such", "")


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("row", CHEAPEST.split(","))
def test_no_token_and_no_request_is_lost_on_real_processes(row: str) -> None:
    words = [sys.executable, "-m", "roost.client.cli", "chaos", "--rows", row, "--duration", "6", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=280)
    (view,) = json.loads(done.stdout)["rows"]
    assert view["is_whole"], (view, done.stderr)
