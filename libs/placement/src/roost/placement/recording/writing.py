"""What happens to a decider, as lines of a recording.

State: of the file under way, each worker's last report and the catalogues, so that what repeats is not written again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from json import JSONEncoder
from types import MappingProxyType
from typing import Final, cast

from roost.cluster.view_snapshot import ViewSnapshot
from roost.cluster.worker_entry import WorkerEntry
from roost.cluster.worker_state import CatalogueModel, DecisionOutcome, WorkerState
from roost.placement.decision import Decision
from roost.placement.placer import PlacerSnapshot
from roost.placement.recording import events
from roost.placement.recording.worker_json import (
    Fields,
    Json,
    catalogue_to_json,
    counters_to_json,
    outcomes_to_json,
    request_to_json,
    state_to_json,
)

FORMAT: Final = 1
MARK: Final = "roost_recording"  # the first key of the first line
_to_text = JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class Writer:
    """Used by one thread. A `Beginning` begins a file."""

    def __init__(self) -> None:
        self._reports: dict[str, WorkerState] = {}
        self._outcomes: dict[str, tuple[DecisionOutcome, ...]] = {}
        self._catalogues: dict[tuple[CatalogueModel, ...], int] = {}
        self._kinds: Mapping[type, Callable[..., Fields]] = MappingProxyType(
            {
                events.Reported: self._reported,
                events.StreamLost: lambda event: {"op": "stream_lost", **event._asdict()},
                events.Judged: lambda event: {"op": "judge", **event._asdict(), "liveness": event.liveness.value},
                events.Forgotten: lambda event: {"op": "forget", **event._asdict()},
                events.LeftByItself: lambda event: {"op": "leave", **event._asdict()},
                events.SilenceJudged: lambda event: {"op": "silence", **event._asdict()},
                events.Settled: self._settled,
                events.Seen: lambda event: {"op": "seen", **event._asdict()},
                events.TimePassed: lambda event: {"op": "time", "now": event.now},
                events.Placed: _placed,
                events.BeganToWait: _began_to_wait,
                events.GaveUp: lambda event: {"op": "give_up", "waiter": event.number},
                events.WasBound: _was_bound,
            }
        )

    def line(self, event: events.Event) -> str:
        """With its end."""
        return _to_text(self._kinds[type(event)](event)) + "\n"

    def first_lines(self, beginning: events.Beginning) -> str:
        """The two lines that a file begins with: what it is, and what the decider knew."""
        self._reports = {entry.node_id: entry.state for entry in beginning.view.entries}
        self._outcomes = {}
        self._catalogues = {catalogue.source: number for number, catalogue in enumerate(beginning.view.shared)}
        head: Fields = {MARK: FORMAT, **beginning.terms._asdict(), "seed": beginning.seed}
        state: Fields = {
            "op": "state",
            "view": self._view(beginning.view),
            "placer": _placer(beginning.placer),
            "lines": [_line(line) for line in beginning.lines],
        }
        return f"{_to_text(head)}\n{_to_text(state)}\n"

    def _view(self, view: ViewSnapshot) -> Fields:
        return {
            "dead_after_s": view.dead_after_s,
            "forget_after_s": view.forget_after_s,
            "max_workers": view.max_workers,
            "own": catalogue_to_json(view.own),
            "shared": [catalogue_to_json(each.source) for each in view.shared],
            "seen": catalogue_to_json(view.seen),
            "entries": [self._entry(entry) for entry in view.entries],
            "alive": view.alive,
            "dead": view.dead,
            "now": view.now,
            "advanced_at": view.advanced_at,
            "silence_counts_from": view.silence_counts_from if math.isfinite(view.silence_counts_from) else None,
            "version": view.version,
        }

    def _entry(self, entry: WorkerEntry) -> Fields:
        return {
            "state": state_to_json(entry.state, None),
            "liveness": entry.liveness.value,
            "received_at": entry.received_at,
            "is_streamed": entry.is_streamed,
            "stream": entry.stream,
            "catalogue": None if entry.catalogue is None else self._catalogues[entry.catalogue.source],
            "earlier_epochs": counters_to_json(entry.earlier_epochs),
        }

    def _reported(self, event: events.Reported) -> Fields:
        state = event.state
        fields: Fields = {"op": "report", "now": event.now, **state_to_json(state, self._reports.get(state.node_id))}
        if event.is_streamed:
            fields["stream"] = event.stream
        if state.catalogue is not None:
            known = self._catalogues.get(state.catalogue)
            if known is None:
                known = self._catalogues[state.catalogue] = len(self._catalogues)
                fields["catalogue"] = catalogue_to_json(state.catalogue)
            else:
                fields["catalogue"] = known
        self._reports[state.node_id] = state
        self._outcomes[state.node_id] = state.outcomes
        return fields

    def _settled(self, event: events.Settled) -> Fields:
        fields: Fields = {"op": "settle", "now": event.now, "node_id": event.node_id}
        if event.outcomes != self._outcomes.get(event.node_id, ()):
            fields["outcomes"] = outcomes_to_json(event.outcomes)
        return fields


def _placed(event: events.Placed) -> Fields:
    return {"op": "place", "now": event.now, "request": request_to_json(event.request), "answer": _answer(event.answer)}


def _began_to_wait(event: events.BeganToWait) -> Fields:
    fields: Fields = {"op": "wait", "now": event.now, "request": request_to_json(event.request), "waiter": event.number}
    if event.refusal is not None:
        fields["answer"] = _answer(event.refusal)
    return fields


def _was_bound(event: events.WasBound) -> Fields:
    fields: Fields = {"op": "bind", "now": event.now}
    if event.changed:
        fields["node_id"] = event.changed
    if event.has_opened:
        fields["has_opened"] = True
    if event.answers:
        fields["answers"] = [(number, _answer(answer)) for number, answer in event.answers]
    return fields


def _answer(answer: events.Answer | None) -> Json:
    """A decision's fields but for those that stand elsewhere; a refusal's word and sentence; null for "wait"."""
    if isinstance(answer, Decision):
        fields: Fields = {
            "worker": answer.worker_id,
            "action": answer.action.value,
            "wait_s": answer.estimated_wait_s,
            "reason": answer.reason,
            "id": answer.decision_id,
            "address": answer.worker_address,
            "age_s": answer.view_age_s,
        }
        return {**fields, "waited_for_load": True} if answer.waited_for_load else fields
    return None if answer is None else {"refused": answer.reason, "message": answer.message}


def _line(line: events.WaitingLine) -> Fields:
    return {
        "waiters": [(each.number, request_to_json(each.request), each.since, each.found_ready) for each in line.waiters],
        "retry_at": line.retry_at if math.isfinite(line.retry_at) else None,
        "is_stuck": line.is_stuck,
    }


def _placer(placer: PlacerSnapshot) -> Fields:
    learned = placer.learned
    return {
        "decisions": placer.decisions,
        "now": placer.now,
        "reservations": [(name, *reservation) for name, reservation in placer.reservations],
        "service_time_s": cast("Sequence[Json]", learned.service_time_s),
        "load_time_s": cast("Sequence[Json]", learned.load_time_s),
        "service_sum_s": learned.service_sum_s,
        "demand_since": learned.demand.since,
        "demand": cast("Sequence[Json]", learned.demand.recent),
        "ready_since": cast("Sequence[Json]", placer.ready_since),
    }
