"""Reports that tell what has changed since the one before, on the wire: for streams, whose messages come all and in order.

A stream begins with a full report. Where its reader has said that it takes changes, a later one names its base, the last report on the
stream, and lists of models and times only those that differ from it. Another base than the last report is refused with the stream: the
worker opens it anew, with a full one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar

from roost.cluster.errors import InvalidField
from roost.cluster.names import check_model_name
from roost.cluster.worker_state import Changes, ModelStatus, WorkerState
from roost.service.codec import (
    MAX_TIMINGS,
    check_length,
    check_report_lists,
    model_to_wire,
    models_from_wire,
    rest_to_wire,
    state_from_wire,
    state_of,
    state_to_wire,
    timing_to_wire,
    timings_from_wire,
)
from roost.v1 import messages_pb2

T = TypeVar("T")


class ReportReader:
    """Reads the reports of one stream. State: the last one."""

    def __init__(self) -> None:
        self._last: WorkerState | None = None

    def read(self, wire: messages_pb2.WorkerLoadReport) -> WorkerState:
        """The worker's whole state by this report. Raises InvalidField."""
        last = self._last
        self._last = state = state_from_wire(wire) if last is None or not wire.base_sequence else _changed_state(wire, last)
        return state


def changes_to_wire(state: WorkerState) -> messages_pb2.WorkerLoadReport:
    """What differs from the report that `state` was made to follow, ordered by name; a full report where it follows none."""
    changes = state.changes
    if changes is None or changes.models is not state.models or changes.timings is not state.timings:
        return state_to_wire(state)
    wire = rest_to_wire(state)
    wire.base_sequence = changes.since
    for name in sorted(changes.changed_models):
        status = state.models.get(name)
        if status is None:
            wire.removed_models.append(name)
        else:
            wire.models.append(model_to_wire(status))
    for name in sorted(changes.changed_timings):
        timing = state.timings.get(name)
        if timing is None:
            wire.removed_timings.append(name)
        else:
            wire.timings.append(timing_to_wire(name, timing))
    return wire


def _changed_state(wire: messages_pb2.WorkerLoadReport, before: WorkerState) -> WorkerState:
    if not before.epoch or (wire.node_id, wire.epoch, wire.base_sequence) != (before.node_id, before.epoch, before.sequence):
        raise InvalidField(
            "base_sequence",
            f"must be {before.sequence}, the last report of this worker's life on this stream (got {wire.base_sequence}); "
            "open the stream anew with a full report",
        )
    check_report_lists(wire)
    if wire.loaded_models:
        raise InvalidField("loaded_models", "must be empty in a report of changes")
    named, measured = models_from_wire(wire), timings_from_wire(wire)
    models = _changed("models", before.models, named, wire.removed_models)
    timings = _changed("timings", before.timings, measured, wire.removed_timings)
    check_length("timings", len(timings), MAX_TIMINGS)
    changed = (*named, *wire.removed_models)
    pinned_bytes = before.pinned_bytes + sum(_pinned_bytes(models, name) - _pinned_bytes(before.models, name) for name in changed)
    changes = Changes(before.sequence, changed, (*measured, *wire.removed_timings), models, timings, pinned_bytes)
    return state_of(wire, models, timings, changes)


def _changed(field: str, before: Mapping[str, T], named: Mapping[str, T], removed: Sequence[str]) -> Mapping[str, T]:
    """What was known, changed; the same value where nothing was."""
    if not named and not removed:
        return before
    if len(set(removed)) != len(removed) or any(name in named for name in removed):
        raise InvalidField(f"removed_{field}", f"names one twice, or one that `{field}` lists")
    changed = {**before, **named}
    for name in removed:
        changed.pop(check_model_name(name, f"removed_{field}"), None)
    return MappingProxyType(changed)


def _pinned_bytes(models: Mapping[str, ModelStatus], name: str) -> int:
    status = models.get(name)
    return status.size_bytes if status is not None and status.is_pinned else 0
