"""The two lines that a recording begins with, read: what it is, and what its decider knew."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields as fields_of
from typing import Final, cast

from roost.cluster.known_models import SharedCatalogue
from roost.cluster.view_snapshot import ViewSnapshot
from roost.cluster.worker_entry import WorkerEntry
from roost.cluster.worker_state import Failing, Liveness
from roost.placement.decider import DeciderSnapshot
from roost.placement.demand import DemandSnapshot
from roost.placement.dispatcher import LineSnapshot, Ticket
from roost.placement.estimates import LearnedSnapshot
from roost.placement.failures import Bar
from roost.placement.placer import PlacerSnapshot
from roost.placement.recording import earlier, events
from roost.placement.recording.lines import number
from roost.placement.recording.worker_json import (
    Fields,
    Json,
    catalogue_from_json,
    counters_from_json,
    request_from_json,
    state_from_json,
)
from roost.placement.reservations import Reservation
from roost.placement.terms import Terms

_TERMS: Final = tuple(each.name for each in fields_of(Terms))


def terms_of(head: Fields, file_format: int) -> Terms:
    """In format 1 sidecars let nobody wait who could be placed, and no setting reached the aging and the longest wait."""
    if file_format == earlier.FORMAT:
        told = {name: head[name] for name in _TERMS if name in head}
        told["lets_wait"] = not head["is_view_shared"]
    else:
        told = {name: head[name] for name in _TERMS if name in head}
        told["plans"] = tuple(cast("Sequence[str]", told["plans"]))
    told.setdefault("waiting_per_slot", 0)  # before there was one
    return Terms(**told)  # type: ignore[arg-type]  # it checks what it is given


def origin_of(head: Fields) -> events.Origin:
    return events.Origin(str(head["plane"]), cast("int", head["remember"]), number(head["wall_offset_s"]))


def snapshot_of(fields: Fields) -> DeciderSnapshot:
    """What the decider knew, in either format."""
    lines = tuple(_line(line) for line in cast("Sequence[Fields]", fields["lines"]))
    most = max((ticket.number for line in lines for ticket in line.tickets), default=0)
    given = cast("int", fields.get("given", most))
    return DeciderSnapshot(_view(cast("Fields", fields["view"])), _placer(cast("Fields", fields["placer"])), lines, given)


def _view(fields: Fields) -> ViewSnapshot:
    shared = tuple(SharedCatalogue(catalogue_from_json(rows)) for rows in cast("Sequence[Json]", fields["shared"]))
    silence = fields["silence_counts_from"]
    return ViewSnapshot(
        number(fields["dead_after_s"]),
        number(fields["forget_after_s"]),
        cast("int", fields["max_workers"]),
        catalogue_from_json(fields["own"]),
        shared,
        catalogue_from_json(fields["seen"]),
        tuple(_entry(entry, shared) for entry in cast("Sequence[Fields]", fields["entries"])),
        tuple(cast("Sequence[str]", fields["alive"])),
        tuple(cast("Sequence[str]", fields["dead"])),
        number(fields["now"]),
        number(fields["advanced_at"]),
        -math.inf if silence is None else number(silence),
        cast("int", fields["version"]),
    )


def _entry(fields: Fields, shared: Sequence[SharedCatalogue]) -> WorkerEntry:
    position = fields["catalogue"]
    catalogue = None if position is None else shared[cast("int", position)]
    if catalogue is not None:
        catalogue.users += 1
    return WorkerEntry(
        state_from_json(cast("Fields", fields["state"]), None, None),
        Liveness(fields["liveness"]),
        number(fields["received_at"]),
        bool(fields["is_streamed"]),
        cast("int", fields["stream"]),
        catalogue,
        counters_from_json(fields["earlier_epochs"]),
    )


def _line(fields: Fields) -> LineSnapshot:
    rows = cast("Sequence[tuple[int, Fields, float, bool]]", fields["tickets"] if "tickets" in fields else fields["waiters"])
    retry_at = fields["retry_at"]
    return LineSnapshot(
        tuple(Ticket(its, request_from_json(request), since, found_ready) for its, request, since, found_ready in rows),
        math.inf if retry_at is None else number(retry_at),
        bool(fields["is_stuck"]),
    )


def _placer(fields: Fields) -> PlacerSnapshot:
    demand = cast("Sequence[tuple[str, float, float]]", fields["demand"])
    since = fields["demand_since"]
    return PlacerSnapshot(
        cast("int", fields["decisions"]),
        number(fields["now"]),
        tuple((name, Reservation(*row)) for name, *row in cast("Sequence[tuple[str, str, str, int, float]]", fields["reservations"])),  # type: ignore[arg-type]  # as they were written
        LearnedSnapshot(
            _pairs(fields["service_time_s"]),
            _pairs(fields["load_time_s"]),
            number(fields["service_sum_s"]),
            DemandSnapshot(None if since is None else number(since), tuple((model, faded, as_of) for model, faded, as_of in demand)),
        ),
        tuple((name, _pairs(rows)) for name, rows in cast("Sequence[tuple[str, object]]", fields["ready_since"])),
        tuple(map(_bar, cast("Sequence[tuple[str, str, int, int, str, float]]", fields.get("bars", ())))),
    )


def _bar(row: tuple[str, str, int, int, str, float]) -> tuple[str, str, Bar]:
    model, node_id, failed_loads, lost_calls, why, until = row
    return model, node_id, Bar(Failing(failed_loads, lost_calls, why), number(until))


def _pairs(rows: object) -> tuple[tuple[str, float], ...]:
    return tuple((name, seconds) for name, seconds in cast("Sequence[tuple[str, float]]", rows))
