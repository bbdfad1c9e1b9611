"""Lines of a recording, read back. What cannot be understood is an error that names its line; a torn last line is only noted."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, cast

from roost.cluster.errors import InvalidField
from roost.cluster.known_models import SharedCatalogue
from roost.cluster.view_snapshot import ViewSnapshot
from roost.cluster.worker_entry import WorkerEntry
from roost.cluster.worker_state import CatalogueModel, DecisionOutcome, Liveness, WorkerState
from roost.placement.decision import Action, Decision
from roost.placement.demand import DemandSnapshot
from roost.placement.estimates import LearnedSnapshot
from roost.placement.placer import PlacerSnapshot
from roost.placement.recording import events
from roost.placement.recording.worker_json import (
    Fields,
    catalogue_from_json,
    counters_from_json,
    outcomes_from_json,
    request_from_json,
    state_from_json,
)
from roost.placement.recording.writing import FORMAT, MARK
from roost.placement.reservations import Reservation

Row = Sequence[object]
_TERMS: Final = events.Terms._fields


class BadRecording(InvalidField):
    """What was read is no recording, or not one that can be replayed. The message says where and why."""

    def __init__(self, problem: str) -> None:
        super().__init__("file", problem)


class Reader:
    """Reads one file. State: what its lines so far have told, as `Writer` has it; `note` says how the file ended, "" if as it should."""

    def __init__(self) -> None:
        self.note = ""
        self.line = 0  # the number of the line read last, from 1
        self._policy = ""
        self._ids: dict[int, str] = {}  # the request_id of each waiter, which answers do not repeat
        self._reports: dict[str, WorkerState] = {}
        self._outcomes: dict[str, tuple[DecisionOutcome, ...]] = {}
        self._catalogues: list[tuple[CatalogueModel, ...]] = []
        self._kinds: Mapping[str, Callable[[Fields], events.Event]] = MappingProxyType(
            {
                "report": self._reported,
                "stream_lost": _plain(events.StreamLost),
                "judge": lambda fields: events.Judged(str(fields["node_id"]), Liveness(fields["liveness"]), _number(fields["now"])),
                "forget": _plain(events.Forgotten),
                "leave": _plain(events.LeftByItself),
                "silence": _plain(events.SilenceJudged),
                "settle": self._settled,
                "seen": _plain(events.Seen),
                "time": _plain(events.TimePassed),
                "place": self._placed,
                "wait": self._began_to_wait,
                "give_up": lambda fields: events.GaveUp(cast("int", fields["waiter"])),
                "bind": self._was_bound,
            }
        )

    def read(self, lines: Iterable[str]) -> Iterator[events.Beginning | events.Event]:
        """The beginning, then what happened. Raises BadRecording."""
        numbered = iter(lines)
        yield self._beginning(self._next(numbered), self._next(numbered))
        for text in numbered:
            self.line += 1
            fields = self._fields(text, is_last_chance=not text.endswith("\n"))
            if fields is None:
                return
            if fields.get("op") == "end":
                self.note = str(fields.get("why", ""))
                continue
            yield self._event(fields)

    def _next(self, lines: Iterator[str]) -> str:
        self.line += 1
        return next(lines, "")

    def _beginning(self, head: str, state: str) -> events.Beginning:
        terms, seed = self._head(head)
        if not state.endswith("\n"):
            raise BadRecording("was cut off before all that its decider knew was written; nothing can be replayed")
        fields = self._fields(state)
        if fields is None or fields.get("op") != "state":
            raise BadRecording("line 2: is not what the decider knew")
        try:
            return self._state(terms, seed, fields)
        except (KeyError, TypeError, ValueError, IndexError, InvalidField) as error:
            raise self._bad(error) from error

    def _head(self, text: str) -> tuple[events.Terms, int]:
        try:
            head = json.loads(text)
        except ValueError:
            head = None
        if not isinstance(head, dict) or MARK not in head:
            raise BadRecording("is not a recording of decisions; those are made by --record of the coordinator or of a sidecar")
        if head[MARK] != FORMAT:
            raise BadRecording(f"is of format {head[MARK]}, and this version of Roost reads format {FORMAT}; use the one that wrote it")
        try:
            terms = events.Terms(*(head[name] for name in _TERMS))
            self._policy = terms.policy
            return terms, int(head["seed"])
        except (KeyError, TypeError, ValueError) as error:
            raise self._bad(error) from error

    def _fields(self, text: str, *, is_last_chance: bool = False) -> Fields | None:
        """None for a line that was not written to its end: the last one of a process that was killed."""
        try:
            fields = json.loads(text)
        except ValueError as error:
            if is_last_chance:
                self.note = f"line {self.line} was not written to its end; it is left out"
                return None
            raise self._bad(error) from error
        if not isinstance(fields, dict):
            raise BadRecording(f"line {self.line}: is no object")
        return fields

    def _event(self, fields: Fields) -> events.Event:
        kind = self._kinds.get(str(fields.pop("op", "")))
        if kind is None:
            raise BadRecording(f"line {self.line}: is of no kind that is known here")
        try:
            return kind(fields)
        except (KeyError, TypeError, ValueError, IndexError, InvalidField) as error:
            raise self._bad(error) from error

    def _bad(self, error: Exception) -> BadRecording:
        return BadRecording(f"line {self.line}: cannot be understood ({type(error).__name__}: {error})")

    # --- events -------------------------------------------------------------------------------------

    def _reported(self, fields: Fields) -> events.Reported:
        node_id, catalogue = str(fields["node_id"]), None
        if "catalogue" in fields:
            told = fields["catalogue"]
            if not isinstance(told, int):
                self._catalogues.append(catalogue_from_json(told))
            catalogue = self._catalogues[told if isinstance(told, int) else -1]
        state = state_from_json(fields, self._reports.get(node_id), catalogue)
        self._reports[node_id], self._outcomes[node_id] = state, state.outcomes
        return events.Reported(state, _number(fields["now"]), "stream" in fields, cast("int", fields.get("stream", 0)))

    def _settled(self, fields: Fields) -> events.Settled:
        node_id = str(fields["node_id"])
        outcomes = outcomes_from_json(fields["outcomes"]) if "outcomes" in fields else self._outcomes.get(node_id, ())
        return events.Settled(node_id, outcomes, _number(fields["now"]))

    def _placed(self, fields: Fields) -> events.Placed:
        request = request_from_json(fields["request"])
        return events.Placed(request, _number(fields["now"]), self._answer(fields["answer"], request.request_id))

    def _began_to_wait(self, fields: Fields) -> events.BeganToWait:
        request, number = request_from_json(fields["request"]), cast("int", fields["waiter"])
        self._ids[number] = request.request_id
        refusal = self._answer(fields.get("answer"), request.request_id)
        return events.BeganToWait(request, _number(fields["now"]), number, refusal if isinstance(refusal, events.Refusal) else None)

    def _was_bound(self, fields: Fields) -> events.WasBound:
        answers: list[tuple[int, events.Answer]] = []
        for number, told in cast("Sequence[tuple[int, Fields]]", fields.get("answers", ())):
            answer = self._answer(told, self._ids.pop(number, ""))
            if answer is not None:
                answers.append((number, answer))
        return events.WasBound(_number(fields["now"]), str(fields.get("node_id", "")), bool(fields.get("has_opened")), tuple(answers))

    def _answer(self, told: object, request_id: str) -> events.Answer | None:
        if told is None:
            return None
        fields = cast("Mapping[str, str]", told)
        if "refused" in fields:
            return events.Refusal(fields["refused"], fields["message"])
        return Decision(
            fields["id"],
            request_id,
            fields["worker"],
            fields["address"],
            Action(fields["action"]),
            _number(fields["wait_s"]),
            fields["reason"],
            _number(fields["age_s"]),
            self._policy,
            bool(fields.get("waited_for_load")),
        )

    # --- the beginning ------------------------------------------------------------------------------

    def _state(self, terms: events.Terms, seed: int, fields: Fields) -> events.Beginning:
        view = self._view(cast("Fields", fields["view"]))
        lines = tuple(self._waiting_line(line) for line in cast("Sequence[Fields]", fields["lines"]))
        return events.Beginning(terms, seed, view, _placer(cast("Fields", fields["placer"])), lines)

    def _view(self, fields: Fields) -> ViewSnapshot:
        shared = tuple(SharedCatalogue(catalogue_from_json(rows)) for rows in cast("Sequence[Sequence[Fields]]", fields["shared"]))
        self._catalogues = [each.source for each in shared]
        entries = tuple(self._entry(entry, shared) for entry in cast("Sequence[Fields]", fields["entries"]))
        self._reports = {entry.node_id: entry.state for entry in entries}
        silence = fields["silence_counts_from"]
        return ViewSnapshot(
            _number(fields["dead_after_s"]),
            _number(fields["forget_after_s"]),
            cast("int", fields["max_workers"]),
            catalogue_from_json(fields["own"]),
            shared,
            catalogue_from_json(fields["seen"]),
            entries,
            tuple(cast("Sequence[str]", fields["alive"])),
            tuple(cast("Sequence[str]", fields["dead"])),
            _number(fields["now"]),
            _number(fields["advanced_at"]),
            -math.inf if silence is None else _number(silence),
            cast("int", fields["version"]),
        )

    def _entry(self, fields: Fields, shared: Sequence[SharedCatalogue]) -> WorkerEntry:
        number = fields["catalogue"]
        catalogue = None if number is None else shared[cast("int", number)]
        if catalogue is not None:
            catalogue.users += 1
        return WorkerEntry(
            state_from_json(cast("Fields", fields["state"]), None, None),
            Liveness(fields["liveness"]),
            _number(fields["received_at"]),
            bool(fields["is_streamed"]),
            cast("int", fields["stream"]),
            catalogue,
            counters_from_json(fields["earlier_epochs"]),
        )

    def _waiting_line(self, fields: Fields) -> events.WaitingLine:
        waiters = tuple(
            events.NumberedWaiter(number, request_from_json(request), since, found_ready)
            for number, request, since, found_ready in cast("Sequence[tuple[int, Fields, float, bool]]", fields["waiters"])
        )
        self._ids.update((each.number, each.request.request_id) for each in waiters)
        retry_at = fields["retry_at"]
        return events.WaitingLine(waiters, math.inf if retry_at is None else _number(retry_at), bool(fields["is_stuck"]))


def _placer(fields: Fields) -> PlacerSnapshot:
    demand = cast("Sequence[tuple[str, float, float]]", fields["demand"])
    since = fields["demand_since"]
    return PlacerSnapshot(
        cast("int", fields["decisions"]),
        _number(fields["now"]),
        tuple((name, Reservation(*row)) for name, *row in cast("Sequence[tuple[str, str, str, int, float]]", fields["reservations"])),  # type: ignore[arg-type]  # as they were written
        LearnedSnapshot(
            _pairs(fields["service_time_s"]),
            _pairs(fields["load_time_s"]),
            _number(fields["service_sum_s"]),
            DemandSnapshot(None if since is None else _number(since), tuple((model, faded, as_of) for model, faded, as_of in demand)),
        ),
        tuple((name, _pairs(rows)) for name, rows in cast("Sequence[tuple[str, object]]", fields["ready_since"])),
    )


def _pairs(rows: object) -> tuple[tuple[str, float], ...]:
    return tuple((name, seconds) for name, seconds in cast("Sequence[tuple[str, float]]", rows))


def _number(value: object) -> float:
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _plain(kind: Callable[..., events.Event]) -> Callable[[Fields], events.Event]:
    """An event whose fields are written as they are."""
    return lambda fields: kind(**fields)
