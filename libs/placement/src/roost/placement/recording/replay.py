"""Replays recorded decisions with the policy that made them, and finds whether they come out the same: worker, action, wait and reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from roost.placement.recording import events
from roost.placement.recording.decider import Decider, MakeRng
from roost.placement.records import DecisionRecords


class Difference(NamedTuple):
    """Where a replay came out otherwise first: `number` of the decision it would have been, and both answers (None: to wait)."""

    number: int
    request_id: str
    recorded: events.Answer | None
    replayed: events.Answer | None


class Verified(NamedTuple):
    """Decisions and refusals that came out the same, of so many; nothing after a difference is looked at, but counted."""

    decisions: int = 0
    identical: int = 0
    difference: Difference | None = None

    def __add__(self, other: object) -> Verified:
        if not isinstance(other, Verified):
            return NotImplemented
        return Verified(
            self.decisions + other.decisions,
            self.identical + other.identical,
            self.difference or (other.difference and other.difference._replace(number=self.decisions + other.difference.number)),
        )


class Replay:
    """One file. State: the decider, and how far it agreed. `records`: where its decisions are kept, to be explained."""

    def __init__(self, beginning: events.Beginning, make_rng: MakeRng, *, records: DecisionRecords | None = None) -> None:
        self._decider = Decider(beginning, make_rng, records=records)
        self._decisions = 0
        self._identical = 0
        self._difference: Difference | None = None

    def take(self, event: events.Event) -> None:
        """The next one."""
        if self._difference is not None:
            self._decisions += _answers_in(event)
            return
        if self._decider.hear(event):
            return
        match event:
            case events.Placed(request, now, answer):
                self._compare(request.request_id, answer, self._decider.place(request, now))
            case events.BeganToWait(request, now, number, refusal):
                self._compare(request.request_id, refusal, self._decider.wait(request, now, number))
            case events.GaveUp(number):
                self._decider.give_up(number)
            case events.WasBound(now, changed, has_opened, answers):
                self._compare_bound(answers, self._decider.bind(now, changed, has_opened=has_opened))

    def result(self) -> Verified:
        return Verified(self._decisions, self._identical, self._difference)

    def _compare_bound(self, recorded: tuple[tuple[int, events.Answer], ...], replayed: tuple[tuple[int, events.Answer], ...]) -> None:
        for (number, answer), (again, other) in zip(recorded, replayed, strict=False):
            self._compare(_request_id(answer, other), answer, other if number == again else None)
        if len(recorded) != len(replayed):
            missing, extra = recorded[len(replayed) :], replayed[len(recorded) :]
            self._compare(
                _request_id(*(answer for _, answer in (*missing, *extra))),
                missing[0][1] if missing else None,
                extra[0][1] if extra else None,
            )

    def _compare(self, request_id: str, recorded: events.Answer | None, replayed: events.Answer | None) -> None:
        if self._difference is not None:
            self._decisions += recorded is not None
            return
        if recorded is not None:
            self._decisions += 1
        if recorded != replayed:
            self._difference = Difference(max(1, self._decisions), request_id, recorded, replayed)
        elif recorded is not None:
            self._identical += 1


def _request_id(*answers: events.Answer) -> str:
    return next((answer.request_id for answer in answers if not isinstance(answer, events.Refusal)), "")


def _answers_in(event: events.Event) -> int:
    match event:
        case events.Placed(answer=answer):
            return answer is not None
        case events.BeganToWait(refusal=refusal):
            return refusal is not None
        case events.WasBound(answers=answers):
            return len(answers)
        case _:
            return 0


def verify(happened: Iterable[events.Beginning | events.Event], make_rng: MakeRng, *, records: DecisionRecords | None = None) -> Verified:
    """One file from its beginning to its end. Raises InvalidField if its policy is not known here, and what reading it raises."""
    replay: Replay | None = None
    for each in happened:
        if isinstance(each, events.Beginning):
            replay = Replay(each, make_rng, records=records)
        elif replay is not None:
            replay.take(each)
    return Verified() if replay is None else replay.result()
