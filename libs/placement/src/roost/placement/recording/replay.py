"""Replays recorded decisions with the policy that made them, and finds whether they come out the same: worker, action, wait and reason."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from roost.placement.recording import earlier, events
from roost.placement.recording.retelling import MakeRng, Retelling, Told
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
    """One file. State: how far it agreed. `records`: where its decisions are kept, to be explained."""

    def __init__(self, beginning: events.Beginning, make_rng: MakeRng, *, records: DecisionRecords | None = None) -> None:
        self._retelling = Retelling(beginning, make_rng, records=records)
        self._earlier = earlier.EarlierRetelling(self._retelling.decider, beginning)
        self._decisions = 0
        self._identical = 0
        self._difference: Difference | None = None

    def take(self, event: events.Event | earlier.Event) -> None:
        """The next one."""
        if self._difference is not None:
            self._decisions += _answers_in(event)
            return
        told = self._earlier.tell(event) if isinstance(event, earlier.KINDS) else self._retelling.tell(event)
        for each in told:
            self._compare(each)

    def result(self) -> Verified:
        return Verified(self._decisions, self._identical, self._difference)

    def _compare(self, told: Told) -> None:
        request_id, recorded, again = told
        if recorded is not None:
            self._decisions += 1
        if self._difference is not None:
            return
        if recorded != again:
            self._difference = Difference(max(1, self._decisions), request_id, recorded, again)
        elif recorded is not None:
            self._identical += 1


def _answers_in(event: events.Event | earlier.Event) -> int:
    match event:
        case events.Heard(answers=answers) | events.TimerRang(answers=answers) | earlier.WasBound(answers=answers):
            return len(answers)
        case events.Asked(answer=answer):
            return not isinstance(answer, int)
        case events.Previewed():
            return 1
        case earlier.Placed(answer=answer):
            return answer is not None
        case earlier.BeganToWait(refusal=refusal):
            return refusal is not None
        case _:
            return 0


def verify(
    happened: Iterable[events.Beginning | events.Event | earlier.Event], make_rng: MakeRng, *, records: DecisionRecords | None = None
) -> Verified:
    """One file from its beginning to its end. Raises InvalidField if its policy is not known here, and what reading it raises."""
    replay: Replay | None = None
    for each in happened:
        if isinstance(each, events.Beginning):
            replay = Replay(each, make_rng, records=records)
        elif replay is not None:
            replay.take(each)
    return Verified() if replay is None else replay.result()
