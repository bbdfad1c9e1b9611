"""What happens to a decider, as lines of a recording.

State: of the file under way, each worker's last report and the catalogues, so that what repeats is not written again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, astuple
from json import JSONEncoder
from types import MappingProxyType
from typing import Final, cast

from roost.cluster.view_snapshot import ViewSnapshot
from roost.cluster.worker_entry import WorkerEntry
from roost.cluster.worker_state import CatalogueModel, WorkerState
from roost.placement import facts
from roost.placement.decision import Decision
from roost.placement.dispatcher import LineSnapshot
from roost.placement.placer import PlacerSnapshot
from roost.placement.recording import events
from roost.placement.recording.worker_json import (
    Fields,
    Json,
    catalogue_to_json,
    counters_to_json,
    request_to_json,
    state_to_json,
)

FORMAT: Final = 2
MARK: Final = "roost_recording"  # the first key of the first line
_to_text = JSONEncoder(ensure_ascii=False, separators=(",", ":"), check_circular=False).encode


class Writer:
    """Used by one thread. A `Beginning` begins a file."""

    def __init__(self) -> None:
        self._reports: dict[str, WorkerState] = {}
        self._catalogues: dict[tuple[CatalogueModel, ...], int] = {}
        self._kinds: Mapping[type, Callable[..., Fields]] = MappingProxyType(
            {
                facts.Reported: self._reported,
                facts.Told: self._told,
                facts.StreamLost: lambda fact: {"op": "stream_lost", **fact._asdict()},
                facts.StreamEnded: lambda fact: {"op": "stream_ended", **fact._asdict()},
                facts.Judged: lambda fact: {"op": "judge", **fact._asdict(), "liveness": fact.liveness.value},
                facts.Forgotten: lambda fact: {"op": "forget", **fact._asdict()},
                facts.TimePassed: lambda _fact: {"op": "time"},
                facts.SilenceJudged: lambda fact: {"op": "silence", **fact._asdict()},
                facts.Catalogued: lambda fact: {"op": "catalogue", "catalogue": catalogue_to_json(fact.catalogue)},
                facts.Stopping: lambda fact: {"op": "stop", **fact._asdict()},
            }
        )

    def line(self, event: events.Event) -> str:
        """With its end."""
        match event:
            case events.Heard(fact, now, answers):
                fields = {**self._kinds[type(fact)](fact), "now": now, **_answers(answers)}
            case events.Asked(request, now, answer):
                fields = {"op": "ask", "request": request_to_json(request), "now": now, **_asked(answer)}
            case events.Previewed(request, now, answer):
                fields = {"op": "preview", "request": request_to_json(request), "now": now, **_asked(answer)}
            case events.GaveUp(number, now):
                fields = {"op": "give_up", "ticket": number, "now": now}
            case events.TimerRang(now, answers):
                fields = {"op": "timer", "now": now, **_answers(answers)}
        return _to_text(fields) + "\n"

    def first_lines(self, beginning: events.Beginning) -> str:
        """The two lines that a file begins with: what it is, and what the decider knew."""
        known = beginning.state
        self._reports = {entry.node_id: entry.state for entry in known.view.entries}
        self._catalogues = {catalogue.source: number for number, catalogue in enumerate(known.view.shared)}
        head: Fields = {MARK: FORMAT, **asdict(beginning.terms), **beginning.origin._asdict(), "seed": beginning.seed}
        state: Fields = {
            "op": "state",
            "view": self._view(known.view),
            "placer": _placer(known.placer),
            "lines": [_line(line) for line in known.lines],
            "given": known.given,
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

    def _reported(self, fact: facts.Reported) -> Fields:
        fields: Fields = {"op": "report", **self._state(fact.state)}
        if fact.is_streamed:
            fields["stream"] = fact.stream
        return fields

    def _told(self, fact: facts.Told) -> Fields:
        times: Fields = {"written_at": fact.written_at, "arrived_before": fact.arrived_before}
        return {"op": "told", **self._state(fact.state), "liveness": fact.liveness.value, **times}

    def _state(self, state: WorkerState) -> Fields:
        fields = state_to_json(state, self._reports.get(state.node_id))
        if state.catalogue is not None:
            known = self._catalogues.get(state.catalogue)
            if known is None:
                known = self._catalogues[state.catalogue] = len(self._catalogues)
                fields["catalogue"] = catalogue_to_json(state.catalogue)
            else:
                fields["catalogue"] = known
        self._reports[state.node_id] = state
        return fields


def _asked(answer: events.Answer | int) -> Fields:
    return {"ticket": answer} if isinstance(answer, int) else {"answer": _answer(answer)}


def _answers(answers: events.Answers) -> Fields:
    return {"answers": [(number, _answer(answer)) for number, answer in answers]} if answers else {}


def _answer(answer: events.Answer) -> Json:
    """A decision's fields but for those that stand elsewhere; a refusal's word and sentence."""
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
    return {"refused": answer.reason, "message": answer.message}


def _line(line: LineSnapshot) -> Fields:
    return {
        "tickets": [(each.number, request_to_json(each.request), each.since, each.found_ready) for each in line.tickets],
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
        "bars": [(model, name, *astuple(bar.failing), bar.until) for model, name, bar in placer.bars],
    }
