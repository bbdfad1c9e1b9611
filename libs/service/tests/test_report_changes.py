"""Reports that tell what has changed: whatever is said on a stream, its reader knows the worker's whole state."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.errors import InvalidField
from roost.cluster.worker_state import CatalogueModel, Changes, ModelStatus, ModelTiming, Phase, WorkerState
from roost.service.codec import state_from_wire, state_to_wire
from roost.service.report_changes import ReportReader, changes_to_wire
from roost.v1 import messages_pb2

NAMES = st.sampled_from("abcdef")
STATUSES = st.builds(
    lambda phase, size_bytes, is_pinned: ModelStatus("?", phase, size_bytes, is_pinned=is_pinned),
    st.sampled_from(Phase),
    st.integers(0, 100),
    st.booleans(),
)
TIMINGS = st.builds(ModelTiming, st.floats(0, 9), st.floats(0, 9))
STEPS = st.tuples(st.dictionaries(NAMES, st.none() | STATUSES, max_size=3), st.dictionaries(NAMES, st.none() | TIMINGS, max_size=2), NAMES)
FIRST = WorkerState("w", epoch=3, sequence=1, slots=2, catalogue=(CatalogueModel("a", "simulated", 1),))
CHANGED = replace(FIRST, sequence=2, models={"a": ModelStatus("a", Phase.READY, 5, is_pinned=True)}, catalogue=None)


def following(before: WorkerState, models: dict[str, ModelStatus | None], timings: dict[str, ModelTiming | None], also: str) -> WorkerState:
    """The next report; `also` is told of though it has not changed."""
    named = {name: status and replace(status, name=name) for name, status in models.items()}
    now_models = {name: status for name, status in {**before.models, **named}.items() if status is not None}
    now_timings = {name: timing for name, timing in {**before.timings, **timings}.items() if timing is not None}
    pinned = sum(status.size_bytes for status in now_models.values() if status.is_pinned)
    changes = Changes(before.sequence, tuple({*named, also}), tuple({*timings, also}), now_models, now_timings, pinned)
    return replace(
        before,
        sequence=before.sequence + 1,
        models=now_models,
        timings=now_timings,
        catalogue=None,
        changes=changes,
        queue_depth=len(named),
    )


def sent(wire: messages_pb2.WorkerLoadReport) -> messages_pb2.WorkerLoadReport:
    return messages_pb2.WorkerLoadReport.FromString(wire.SerializeToString())


@given(st.lists(STEPS, max_size=12), st.data())
@settings(max_examples=100, deadline=None)
def test_the_reader_of_a_stream_knows_what_a_full_report_would_tell(steps: list[tuple[dict, dict, str]], data: st.DataObject) -> None:  # type: ignore[type-arg]
    reader, before = ReportReader(), FIRST
    known = reader.read(sent(changes_to_wire(FIRST)))
    for step in steps:
        state = following(before, *step)
        is_full = data.draw(st.booleans(), "is_full")
        was, known = known, reader.read(sent(state_to_wire(state) if is_full else changes_to_wire(state)))
        assert known == state
        assert known.pinned_bytes == state.pinned_bytes == replace(state, changes=None).pinned_bytes
        assert (known.changes_from(was) is None) is is_full
        before = state


def test_a_report_of_changes_lists_what_changed_and_nothing_else() -> None:
    many = {f"m-{number}": ModelStatus(f"m-{number}", Phase.READY, 1) for number in range(100)}
    before = replace(FIRST, models=many, timings=dict.fromkeys(many, ModelTiming(1.0, 2.0)))
    wire = changes_to_wire(following(before, {"m-7": None, "m-8": ModelStatus("?", Phase.READY, 1, in_flight=1)}, {"m-9": None}, "m-10"))
    assert (wire.base_sequence, [model.name for model in wire.models], list(wire.removed_models)) == (1, ["m-10", "m-8"], ["m-7"])
    assert ([timing.name for timing in wire.timings], list(wire.removed_timings)) == (["m-10"], ["m-9"])
    assert not wire.loaded_models


def test_what_follows_no_report_is_told_in_full() -> None:
    assert changes_to_wire(CHANGED) == state_to_wire(CHANGED)
    stale = replace(following(FIRST, {}, {}, "a"), models={"b": ModelStatus("b", Phase.READY)})
    assert changes_to_wire(stale) == state_to_wire(stale), "its changes are those of other models"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"base_sequence": 7}, "base_sequence: must be 1"),
        ({"epoch": 4}, "base_sequence"),
        ({"node_id": "other"}, "base_sequence"),
        ({"loaded_models": ["a"]}, "loaded_models: must be empty"),
        ({"removed_models": ["a", "a"]}, "removed_models: names one twice"),
        ({"removed_models": ["a"], "models": [messages_pb2.ModelStatus(name="a", phase=messages_pb2.MODEL_PHASE_READY)]}, "removed_models"),
        ({"removed_timings": [""]}, "removed_timings"),
        ({"removed_models": ["m"] * 10_001}, "removed_models: has 10001 entries"),
    ],
)
def test_changes_that_cannot_be_are_refused_naming_the_field(fields: dict[str, object], told: str) -> None:
    reader = ReportReader()
    reader.read(state_to_wire(FIRST))
    given_fields = {"node_id": "w", "epoch": 3, "sequence": 2, "base_sequence": 1, "slots": 2, **fields}
    with pytest.raises(InvalidField, match=told):
        reader.read(messages_pb2.WorkerLoadReport(**given_fields))  # type: ignore[arg-type]


def test_no_stream_begins_with_changes_and_a_report_without_a_stream_has_none() -> None:
    with pytest.raises(InvalidField, match="base_sequence"):
        ReportReader().read(changes_to_wire(following(FIRST, {}, {}, "a")))
    with pytest.raises(InvalidField, match="removed_models"):
        state_from_wire(messages_pb2.WorkerLoadReport(node_id="w", removed_models=["a"]))


def test_more_times_than_one_report_may_carry_are_refused_in_the_sum_of_reports_too() -> None:
    reader = ReportReader()
    for sequence in (1, 2):
        names = [f"m-{sequence}-{number}" for number in range(200)]
        wire = messages_pb2.WorkerLoadReport(
            node_id="w",
            epoch=1,
            sequence=sequence,
            base_sequence=sequence - 1,
            timings=[messages_pb2.ModelTiming(name=name, service_time_s=1.0) for name in names],
        )
        if sequence == 1:
            reader.read(wire)
    with pytest.raises(InvalidField, match="timings: has 400 entries"):
        reader.read(wire)
