"""What is recorded can be replayed: the same decisions, in every process, with every policy, whatever happened."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_cases import worker
from recorded_histories import CATALOGUE, History, happened

from roost.cluster.errors import InvalidField
from roost.placement.decision import Action, Decision
from roost.placement.facts import Reported
from roost.placement.recording import earlier
from roost.placement.recording.comparing import compare
from roost.placement.recording.events import Asked, Beginning, Heard, Refusal, TimerRang
from roost.placement.recording.reading import BadRecording, Reader
from roost.placement.recording.replay import Difference, verify
from roost.placement.recording.summary import by_model, summary
from roost.placement.recording.writing import Writer
from roost.placement.records import DecisionRecords
from roost.placement.registry import policy_names

SUPPORT = Path(__file__).parent / "support"
RECORDINGS = Path(__file__).parent / "recordings"


def recorded(policy: str = "expected-wait", seed: int = 1, steps: int = 200, **options: bool) -> str:
    history = History(policy, seed, **options)
    history.go_on(steps)
    return history.files[0]


@pytest.mark.parametrize("policy", policy_names())
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), file_events=st.sampled_from((7, 60, 10**9)), booleans=st.tuples(st.booleans(), st.booleans()))
def test_a_replay_of_any_history_decides_the_same(policy: str, seed: int, file_events: int, booleans: tuple[bool, bool]) -> None:
    is_view_shared, can_tell = booleans
    history = History(policy, seed, file_events=file_events, is_view_shared=is_view_shared, can_tell=can_tell)
    history.go_on(150)
    for text in history.files:
        result = verify(happened(text), random.Random)
        assert result.difference is None
        assert result.identical == result.decisions


@pytest.mark.parametrize("policy", policy_names())
def test_who_waits_is_answered_the_same_in_a_replay_when_the_decider_stops(policy: str) -> None:
    history = History(policy, 2)
    while not len(history.decider.waiting):
        history.go_on(1)
    history.stop()
    result = verify(happened(history.files[0]), random.Random)
    assert (result.difference, result.identical) == (None, result.decisions)


def test_a_recording_in_format_1_differs_where_an_older_epoch_is_believed_sooner_than_it_was() -> None:
    """Since then a worker's older epoch, on a stream opened after the suspect one, is its present life: it is used, and tells a model."""
    text = (RECORDINGS / "format-1-expected-wait.jsonl").read_text()
    result = verify(happened(text), random.Random)
    assert result.difference is not None
    assert (result.identical, result.difference.request_id) == (41, "r89")
    assert isinstance(result.difference.recorded, Refusal)


@pytest.mark.parametrize("name", ["coordinator", "sidecar", "weighted-score-shared"])
def test_what_was_recorded_in_format_1_is_decided_the_same_today(name: str) -> None:
    """The first two by real processes: three workers of two slots, of which one is killed."""
    text = (RECORDINGS / f"format-1-{name}.jsonl").read_text()
    result = verify(happened(text), random.Random)
    assert result.difference is None
    assert result.identical == result.decisions > 20
    assert len(compare(happened(text), random.Random, "least-loaded")) == sum(isinstance(each, earlier.Placed) for each in happened(text))


def test_what_expected_wait_decided_before_its_rules_changed_is_read_and_the_first_difference_named() -> None:
    """More models than memory, recorded when a line was due after two loads, however many models there were."""
    result = verify(happened((RECORDINGS / "format-1-expected-wait.jsonl").read_text()), random.Random)
    assert result.difference is not None
    assert result.identical > 20


@pytest.mark.parametrize("policy", policy_names())
def test_what_is_read_is_what_was_written(policy: str) -> None:
    history = History(policy, 3, file_events=100)
    history.go_on(400)
    for text in history.files:
        writer, again = Writer(), ""
        for each in happened(text):
            assert not isinstance(each, earlier.KINDS)
            again += writer.first_lines(each) if isinstance(each, Beginning) else writer.line(each)
        assert again == text


@pytest.mark.parametrize("policy", ["expected-wait", "weighted-score"])
def test_another_process_hashes_names_otherwise_and_decides_the_same(policy: str, tmp_path: Path) -> None:
    """Both the recording and its replay."""
    texts = []
    for hash_seed in ("1", "2"):
        script = (
            f"import sys, runpy; sys.argv = ['h', '{policy}', '5', '400']; runpy.run_path('recorded_histories.py', run_name='__main__')"
        )
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run([sys.executable, "-c", script], cwd=SUPPORT, env=environment, capture_output=True, text=True, check=True)
        texts.append(ran.stdout)
    assert texts[0] == texts[1]
    file = tmp_path / "recording"
    file.write_text(texts[0])
    check = (
        "import random, sys; from roost.placement.recording.reading import Reader; from roost.placement.recording.replay import verify;"
        "print(verify(Reader().read(open(sys.argv[1])), random.Random))"
    )
    results = {
        subprocess.run(
            [sys.executable, "-c", check, str(file)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("3", "4")
    }
    assert len(results) == 1
    assert "difference=None" in results.pop()


def test_a_changed_decision_is_the_first_difference() -> None:
    lines = recorded().splitlines(keepends=True)
    number = next(
        index
        for index, line in enumerate(lines[2:], 2)
        if json.loads(line)["op"] == "ask" and "worker" in json.loads(line).get("answer", {})
    )
    changed = json.loads(lines[number])
    changed["answer"]["wait_s"] += 0.25
    lines[number] = json.dumps(changed) + "\n"
    result = verify(Reader().read(lines), random.Random)
    assert result.identical < result.decisions
    assert isinstance(result.difference, Difference)
    assert isinstance(result.difference.recorded, Decision)
    assert isinstance(result.difference.replayed, Decision)
    assert result.difference.recorded.estimated_wait_s == result.difference.replayed.estimated_wait_s + 0.25
    assert result.difference.number == result.identical + 1


def test_a_torn_last_line_is_left_out_and_noted() -> None:
    text = recorded()
    reader = Reader()
    whole = len(list(happened(text)))
    assert len(list(reader.read(text[:-9].splitlines(keepends=True)))) == whole - 1
    assert "not written to its end" in reader.note


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "is not a recording"),
        ("hello\n", "is not a recording"),
        ('{"model": "llama-7b"}\n', "is not a recording"),
        ('{"roost_recording": 99}\n', "is of format 99, and this version of Roost reads formats 1 and 2"),
        ('{"roost_recording": 1}\n{}\n', "line 1: cannot be understood (KeyError"),
        ('{"roost_recording": 2}\n{}\n', "line 1: cannot be understood (KeyError"),
    ],
)
def test_what_is_no_recording_is_refused(text: str, why: str) -> None:
    with pytest.raises(BadRecording) as refusal:
        list(happened(text))
    assert why in str(refusal.value)


@pytest.mark.parametrize(
    "line", ["nonsense\n", "[]\n", '{"op": "dance"}\n', '{"op": "time"}\n', '{"op": "report", "node_id": "w", "slots": 0}\n']
)
def test_a_line_in_the_middle_that_cannot_be_read_is_named(line: str) -> None:
    lines = recorded().splitlines(keepends=True)
    lines[5] = line
    with pytest.raises(BadRecording) as refusal:
        list(Reader().read(lines))
    assert "line 6: " in str(refusal.value)


def test_a_recording_that_ends_within_its_beginning_is_refused() -> None:
    with pytest.raises(BadRecording) as refusal:
        list(happened(recorded()[:600]))
    assert "cut off" in str(refusal.value)


def test_a_report_that_repeats_the_last_one_is_short() -> None:
    writer = Writer()
    history = History("random", 1)
    beginning = next(happened(history.files[0]))
    assert isinstance(beginning, Beginning)
    writer.first_lines(beginning)
    state = worker("w", "llama-7b", "phi-2", catalogue=CATALOGUE)
    first = writer.line(Heard(Reported(state, is_streamed=True, stream=1), 1.0))
    second = writer.line(Heard(Reported(replace(state, sequence=2, catalogue=None), is_streamed=True, stream=1), 2.0))
    again = writer.line(Heard(Reported(replace(state, sequence=3), is_streamed=True, stream=1), 3.0))
    assert "llama-7b" in first
    assert second == '{"op":"report","node_id":"w","sequence":2,"stream":1,"now":2.0}\n'
    assert again == '{"op":"report","node_id":"w","sequence":3,"catalogue":0,"stream":1,"now":3.0}\n'


@pytest.mark.parametrize("other", policy_names())
@pytest.mark.parametrize("policy", ["weighted-score", "expected-wait"])
def test_every_request_has_a_fate_under_both_policies(policy: str, other: str) -> None:
    text = recorded(policy, 8, 600)
    asked = compare(happened(text), random.Random, other)
    assert len(asked) == sum(isinstance(each, Asked) for each in happened(text))
    told = summary(asked)
    for side in (told.recorded, told.other):
        assert side.served + side.cold_starts + side.refused + side.gave_up + side.still_waiting == len(asked)
    assert sum(each.asked for each in by_model(asked).values()) == len(asked)
    recorded_answers = [each.answer for each in happened(text) if isinstance(each, Asked)]
    recorded_answers += [answer for each in happened(text) if isinstance(each, Heard | TimerRang) for _, answer in each.answers]
    assert told.recorded.refused == sum(isinstance(answer, Refusal) for answer in recorded_answers)
    assert told.recorded.served == sum(isinstance(answer, Decision) and answer.action is Action.SERVE for answer in recorded_answers)


def test_the_same_policy_goes_the_same_way_where_nobody_waits() -> None:
    text = recorded("weighted-score", 9, 500, may_queue=False)
    told = summary(compare(happened(text), random.Random, "weighted-score"))
    assert told.elsewhere == 0
    assert told.recorded == told.other


def test_an_unknown_policy_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(InvalidField, match=r"'best' is not one of expected-wait, .*round-robin"):
        compare(happened(recorded(steps=1)), random.Random, "best")


def test_a_replay_explains_what_was_decided() -> None:
    text = recorded(steps=300)
    records = DecisionRecords(10_000)
    verify(happened(text), random.Random, records=records)
    placed = next(each for each in happened(text) if isinstance(each, Asked) and isinstance(each.answer, Decision))
    (record,) = records.of(placed.request.request_id)
    assert record.result == placed.answer
    assert record.considered[0].entry.node_id == placed.answer.worker_id
    assert record.decided_at == placed.now
