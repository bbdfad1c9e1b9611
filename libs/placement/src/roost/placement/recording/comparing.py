"""Runs recorded requests through another policy and sets both beside each other.

It is open-loop: the reports are those of the cluster that followed the recorded decisions. The other policy's decisions count as on their
way, until their requests' recorded outcomes or the bound, but no worker ever gets the requests it would have been sent. So this tells how
two policies judge the same situations, and not what a cluster under the other policy would have come to; the simulator tells that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from roost.cluster.errors import RoostError
from roost.cluster.worker_state import DecisionOutcome
from roost.placement import facts
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered
from roost.placement.recording import earlier, events
from roost.placement.recording.journal import written
from roost.placement.recording.retelling import MakeRng, decider_of
from roost.placement.request import PlacementRequest


@dataclass(slots=True)
class Fate:
    """What became of one request under one policy. `answer` None: it gave up, or still waited at the end."""

    answer: events.Answer | None = None
    waited_s: float = 0.0
    gave_up: bool = False

    @property
    def expected_wait_s(self) -> float | None:
        """From its coming until it runs, as its decider expected: waited there, and estimated for the worker. None if none took it."""
        return self.waited_s + self.answer.estimated_wait_s if isinstance(self.answer, Decision) else None


@dataclass(frozen=True, slots=True)
class Both:
    """One recorded request, and both fates."""

    request: PlacementRequest
    since: float
    recorded: Fate
    other: Fate


class Comparison:
    """One file. State: every request so far; who of them waits under which policy; which decision of each is which of the other.

    The other policy's decider is driven as a service would: told each fact, and woken when its own time has come.
    """

    def __init__(self, beginning: events.Beginning, make_rng: MakeRng, policy: str) -> None:
        """Raises InvalidField if there is no such policy."""
        self._decider = decider_of(beginning, make_rng, policy=policy)
        self.asked: list[Both] = []
        self._recorded: dict[int, int] = {}  # the recorded ticket's number -> its place in `asked`
        self._other: dict[Ticket, int] = {}  # likewise
        self._asked_by: dict[str, int] = {}  # recorded decision -> likewise
        self._now = beginning.state.placer.now
        for line in beginning.state.lines:
            for ticket in line.tickets:
                self._recorded[ticket.number] = self._other[ticket] = self._new(ticket.request, ticket.since)

    def _new(self, request: PlacementRequest, since: float) -> int:
        self.asked.append(Both(request, since, Fate(), Fate()))
        return len(self.asked) - 1

    def take(self, event: events.Event) -> None:
        """The next one."""
        self._pass(event.now)
        match event:
            case events.Heard(fact, now, answers):
                self._heard(fact, now)
                self._were_answered(answers)
            case events.Asked():
                self._was_asked(event)
            case events.Previewed():
                pass  # no request came of it
            case events.GaveUp(number):
                self._gave_up(number)
            case events.TimerRang(_, answers):
                self._were_answered(answers)

    def _pass(self, now: float) -> None:
        """The other decider's own times up to then."""
        while (at := self._decider.next_timer()) is not None and at <= now:
            self._now = max(self._now, at)
            self._decider.handle_timer(self._now)
            self._settle()
        self._now = now

    def _heard(self, fact: facts.Fact, now: float) -> None:
        if isinstance(fact, facts.Reported) and fact.state.outcomes:
            fact = fact._replace(state=replace(fact.state, outcomes=self._as_other(fact.state.outcomes)))
        try:
            self._decider.hear(fact, now)
        except RoostError:  # a full table refuses
            return
        self._settle()

    def _was_asked(self, event: events.Asked) -> None:
        position = self._new(event.request, event.now)
        if isinstance(event.answer, int):
            self._recorded[event.answer] = position
        else:
            self._was_answered(position, event.answer)
        other = self.asked[position].other
        try:
            answer = self._decider.ask(event.request, event.now)
        except RoostError as refusal:
            other.answer = written(refusal)
            return
        if isinstance(answer, Ticket):
            self._other[answer] = position
        else:
            other.answer = answer

    def _settle(self) -> None:
        """What the other decider answered to those who waited."""
        for effect in self._decider.effects():
            if isinstance(effect, Answered):
                asked = self.asked[self._other.pop(effect.ticket)]
                asked.other.answer, asked.other.waited_s = written(effect.result), self._now - asked.since

    def _were_answered(self, answers: events.Answers) -> None:
        for number, answer in answers:
            position = self._recorded.pop(number, None)
            if position is not None:
                self._was_answered(position, answer)

    def _was_answered(self, position: int, answer: events.Answer) -> None:
        asked = self.asked[position]
        asked.recorded.answer, asked.recorded.waited_s = answer, self._now - asked.since
        if isinstance(answer, Decision):
            self._asked_by[answer.decision_id] = position

    def _gave_up(self, number: int) -> None:
        position = self._recorded.pop(number, None)
        if position is None:
            return
        asked = self.asked[position]
        asked.recorded.gave_up, asked.recorded.waited_s = True, self._now - asked.since
        ticket = next((each for each, its in self._other.items() if its == position), None)
        if ticket is not None and self._decider.give_up(ticket, self._now):
            del self._other[ticket]
            asked.other.gave_up, asked.other.waited_s = True, self._now - asked.since

    def _as_other(self, outcomes: Iterable[DecisionOutcome]) -> tuple[DecisionOutcome, ...]:
        """Which of the other policy's decisions have reached a worker, as far as their requests were decided at all."""
        found: list[DecisionOutcome] = []
        for outcome in outcomes:
            position = self._asked_by.pop(outcome.decision_id, None)
            if position is None:
                found.append(outcome)
                continue
            answer = self.asked[position].other.answer
            if isinstance(answer, Decision):
                found.append(DecisionOutcome(answer.decision_id, outcome.cache_result))
        return tuple(found)


def compare(happened: Iterable[events.Beginning | events.Event | earlier.Event], make_rng: MakeRng, policy: str) -> list[Both]:
    """One file from its beginning to its end. Raises InvalidField if there is no such policy, and what reading it raises."""
    comparison: Comparison | None = None
    for each in earlier.as_today(happened):
        if isinstance(each, events.Beginning):
            comparison = Comparison(each, make_rng, policy)
        elif comparison is not None:
            comparison.take(each)
    return [] if comparison is None else comparison.asked
