"""What the lines of a recording tell, in each format that is read.

State: what the lines so far have told, as `Writer` has it: each worker's last report, the catalogues, and who waits under which number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TypeVar, cast

from roost.cluster.worker_entry import WorkerEntry
from roost.cluster.worker_state import CatalogueModel, DecisionOutcome, Liveness, WorkerState
from roost.placement import facts
from roost.placement.decision import Action, Decision
from roost.placement.dispatcher import LineSnapshot
from roost.placement.recording import earlier, events
from roost.placement.recording.worker_json import Fields, catalogue_from_json, outcomes_from_json, request_from_json, state_from_json

K = TypeVar("K")
Kinds = Mapping[str, Callable[[Fields], events.Event | earlier.Event]]


class Lines:
    """`kinds` understands one line of the format, by its "op". What cannot be understood raises what Python raises, or InvalidField."""

    def __init__(self, policy: str, file_format: int) -> None:
        self._policy = policy
        self._ids: dict[int, str] = {}  # the request_id of each ticket, which answers do not repeat
        self._reports: dict[str, WorkerState] = {}
        self._outcomes: dict[str, tuple[DecisionOutcome, ...]] = {}
        self._catalogues: list[tuple[CatalogueModel, ...]] = []
        self.kinds: Kinds = self._earlier_kinds() if file_format == earlier.FORMAT else self._kinds()

    def begin(
        self, entries: Iterable[WorkerEntry], catalogues: Iterable[tuple[CatalogueModel, ...]], lines: Iterable[LineSnapshot]
    ) -> None:
        """What the beginning of the file has told."""
        self._catalogues = list(catalogues)
        self._reports = {entry.node_id: entry.state for entry in entries}
        self._ids = {ticket.number: ticket.request.request_id for line in lines for ticket in line.tickets}

    # --- as it is written ---------------------------------------------------------------------------

    def _kinds(self) -> Kinds:
        return MappingProxyType(
            {
                "report": self._heard(
                    lambda fields: facts.Reported(self._state(fields), "stream" in fields, cast("int", fields.get("stream", 0)))
                ),
                "told": self._heard(self._told),
                "stream_lost": self._heard(_plain(facts.StreamLost)),
                "stream_ended": self._heard(_plain(facts.StreamEnded)),
                "judge": self._heard(lambda fields: facts.Judged(str(fields["node_id"]), Liveness(fields["liveness"]))),
                "forget": self._heard(_plain(facts.Forgotten)),
                "time": self._heard(_plain(facts.TimePassed)),
                "silence": self._heard(_plain(facts.SilenceJudged)),
                "catalogue": self._heard(lambda fields: facts.Catalogued(catalogue_from_json(fields["catalogue"]))),
                "stop": self._heard(_plain(facts.Stopping)),
                "ask": self._asked,
                "preview": self._previewed,
                "give_up": lambda fields: events.GaveUp(cast("int", fields["ticket"]), number(fields["now"])),
                "timer": lambda fields: events.TimerRang(number(fields["now"]), self._answers(fields)),
            }
        )

    def _heard(self, fact_of: Callable[[Fields], facts.Fact]) -> Callable[[Fields], events.Heard]:
        def heard(fields: Fields) -> events.Heard:
            now, answers = number(fields.pop("now")), self._answers(fields)
            fields.pop("answers", None)
            return events.Heard(fact_of(fields), now, answers)

        return heard

    def _told(self, fields: Fields) -> facts.Told:
        liveness = Liveness(fields["liveness"])
        return facts.Told(self._state(fields), liveness, number(fields["written_at"]), number(fields["arrived_before"]))

    def _asked(self, fields: Fields) -> events.Asked:
        request = request_from_json(fields["request"])
        if "ticket" in fields:
            ticket = cast("int", fields["ticket"])
            self._ids[ticket] = request.request_id
            return events.Asked(request, number(fields["now"]), ticket)
        return events.Asked(request, number(fields["now"]), self._answer(fields["answer"], request.request_id))

    def _previewed(self, fields: Fields) -> events.Previewed:
        request = request_from_json(fields["request"])
        return events.Previewed(request, number(fields["now"]), self._answer(fields["answer"], request.request_id))

    def _answers(self, fields: Fields) -> events.Answers:
        told = cast("Sequence[tuple[int, Fields]]", fields.get("answers", ()))
        return tuple((ticket, self._answer(answer, self._ids.pop(ticket, ""))) for ticket, answer in told)

    # --- as it was written in format 1 --------------------------------------------------------------

    def _earlier_kinds(self) -> Kinds:
        return MappingProxyType(
            {
                "report": self._reported,
                "stream_lost": _plain(earlier.StreamLost),
                "judge": lambda fields: earlier.Judged(str(fields["node_id"]), Liveness(fields["liveness"]), number(fields["now"])),
                "forget": _plain(earlier.Forgotten),
                "leave": _plain(earlier.LeftByItself),
                "silence": _plain(earlier.SilenceJudged),
                "settle": self._settled,
                "seen": _plain(earlier.Seen),
                "time": _plain(earlier.TimePassed),
                "place": self._placed,
                "wait": self._began_to_wait,
                "give_up": lambda fields: earlier.GaveUp(cast("int", fields["waiter"])),
                "bind": self._was_bound,
            }
        )

    def _reported(self, fields: Fields) -> earlier.Reported:
        now, is_streamed, stream = number(fields["now"]), "stream" in fields, cast("int", fields.get("stream", 0))
        state = self._state(fields)
        self._outcomes[state.node_id] = state.outcomes
        return earlier.Reported(state, now, is_streamed, stream)

    def _settled(self, fields: Fields) -> earlier.Settled:
        node_id = str(fields["node_id"])
        outcomes = outcomes_from_json(fields["outcomes"]) if "outcomes" in fields else self._outcomes.get(node_id, ())
        return earlier.Settled(node_id, outcomes, number(fields["now"]))

    def _placed(self, fields: Fields) -> earlier.Placed:
        request, told = request_from_json(fields["request"]), fields["answer"]
        return earlier.Placed(request, number(fields["now"]), None if told is None else self._answer(told, request.request_id))

    def _began_to_wait(self, fields: Fields) -> earlier.BeganToWait:
        request, ticket, told = request_from_json(fields["request"]), cast("int", fields["waiter"]), fields.get("answer")
        self._ids[ticket] = request.request_id
        refusal = None if told is None else self._answer(told, request.request_id)
        return earlier.BeganToWait(request, number(fields["now"]), ticket, refusal if isinstance(refusal, events.Refusal) else None)

    def _was_bound(self, fields: Fields) -> earlier.WasBound:
        changed, has_opened = str(fields.get("node_id", "")), bool(fields.get("has_opened"))
        return earlier.WasBound(number(fields["now"]), changed, has_opened, self._answers(fields))

    # --- in both ------------------------------------------------------------------------------------

    def _state(self, fields: Fields) -> WorkerState:
        node_id, catalogue = str(fields["node_id"]), None
        if "catalogue" in fields:
            told = fields["catalogue"]
            if not isinstance(told, int):
                self._catalogues.append(catalogue_from_json(told))
            catalogue = self._catalogues[told if isinstance(told, int) else -1]
        state = self._reports[node_id] = state_from_json(fields, self._reports.get(node_id), catalogue)
        return state

    def _answer(self, told: object, request_id: str) -> events.Answer:
        fields = cast("Mapping[str, str]", told)
        if "refused" in fields:
            return events.Refusal(fields["refused"], fields["message"])
        return Decision(
            fields["id"],
            request_id,
            fields["worker"],
            fields["address"],
            Action(fields["action"]),
            number(fields["wait_s"]),
            fields["reason"],
            number(fields["age_s"]),
            self._policy,
            bool(fields.get("waited_for_load")),
        )


def number(value: object) -> float:
    """Raises TypeError if it is none."""
    if not isinstance(value, int | float):
        raise TypeError(f"{value!r} is no number")
    return value


def _plain(kind: Callable[..., K]) -> Callable[[Fields], K]:
    """One whose fields are written as they are."""
    return lambda fields: kind(**fields)
