"""Runs recorded requests through another policy and sets both beside each other.

It is open-loop: the reports are those of the cluster that followed the recorded decisions. The other policy's decisions count as on their
way, until their requests' recorded outcomes or the bound, but no worker ever gets the requests it would have been sent. So this tells how
two policies judge the same situations, and not what a cluster under the other policy would have come to; the simulator tells that.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from roost.cluster.worker_state import DecisionOutcome
from roost.placement.decision import Decision
from roost.placement.recording import events
from roost.placement.recording.decider import Decider, MakeRng
from roost.placement.request import PlacementRequest

LONGEST_WAIT_S = 30.0  # how long a decider lets a request wait for a worker that has no deadline


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
class Asked:
    """One recorded request, and both fates."""

    request: PlacementRequest
    since: float
    recorded: Fate
    other: Fate


class Comparison:
    """One file. State: every request so far; who of them waits under which policy; which decision of each is which of the other.

    The other policy is asked again as a service would: after each report, and when its own time has come.
    """

    def __init__(self, beginning: events.Beginning, make_rng: MakeRng, policy: str) -> None:
        """Raises InvalidField if there is no such policy."""
        self._decider = Decider(beginning, make_rng, policy=policy)
        self.asked: list[Asked] = []
        self._unplaced: dict[PlacementRequest, int] = {}  # recorded as better to wait; its waiter's number comes with the next event
        self._waiting: dict[int, int] = {}  # recorded waiter -> its place in `asked`
        self._asked_by: dict[str, int] = {}  # recorded decision -> likewise
        self._now = beginning.placer.now
        waiters = self._decider.waiters  # by recorded number; here they are known by their places
        self._decider.waiters = {self._began(each): waiters[each.number] for line in beginning.lines for each in line.waiters}

    def _began(self, waiter: events.NumberedWaiter) -> int:
        position = self._new(waiter.request, waiter.since)
        self._waiting[waiter.number] = position
        return position

    def _new(self, request: PlacementRequest, since: float) -> int:
        self.asked.append(Asked(request, since, Fate(), Fate()))
        return len(self.asked) - 1

    def take(self, event: events.Event) -> None:
        """The next one."""
        self._now = getattr(event, "now", self._now)
        match event:
            case events.Settled(node_id, outcomes, now):
                self._decider.hear(events.Settled(node_id, self._as_other(outcomes), now))
            case events.Placed():
                self._placed(event)
            case events.BeganToWait():
                self._began_to_wait(event)
            case events.GaveUp(number):
                self._gave_up(number)
            case events.WasBound():
                self._was_bound(event)
            case _:
                self._decider.hear(event)
        self._bind(event.state.node_id if isinstance(event, events.Reported) else "")

    def _placed(self, event: events.Placed) -> None:
        position = self._new(event.request, event.now)
        if event.answer is None:
            self._unplaced[event.request] = position
        else:
            self._recorded(position, event.answer)
        answer = self._decider.place(event.request, event.now)
        if answer is None:
            answer = self._decider.wait(event.request, event.now, position)
        self.asked[position].other.answer = answer

    def _recorded(self, position: int, answer: events.Answer) -> None:
        asked = self.asked[position]
        asked.recorded.answer = answer
        asked.recorded.waited_s = self._now - asked.since
        if isinstance(answer, Decision):
            self._asked_by[answer.decision_id] = position

    def _began_to_wait(self, event: events.BeganToWait) -> None:
        position = self._unplaced.pop(event.request, None)
        if position is None:
            return
        if event.refusal is not None:
            self._recorded(position, event.refusal)
        else:
            self._waiting[event.number] = position

    def _gave_up(self, number: int) -> None:
        position = self._waiting.pop(number, None)
        if position is not None:
            asked = self.asked[position]
            asked.recorded.gave_up, asked.recorded.waited_s = True, self._now - asked.since
            self._give_up(position)

    def _give_up(self, position: int) -> None:
        if self._decider.give_up(position):
            asked = self.asked[position]
            asked.other.gave_up, asked.other.waited_s = True, self._now - asked.since

    def _was_bound(self, event: events.WasBound) -> None:
        for number, answer in event.answers:
            position = self._waiting.pop(number, None)
            if position is not None:
                self._recorded(position, answer)

    def _bind(self, changed: str) -> None:
        decider = self._decider
        if not decider.waiters:
            return
        if changed or decider.dispatcher.next_timer() <= self._now:
            for position, answer in decider.bind(self._now, changed, has_opened=bool(changed)):
                asked = self.asked[position]
                asked.other.answer, asked.other.waited_s = answer, self._now - asked.since
        for position, waiter in list(decider.waiters.items()):
            if self._now - waiter.since > min(waiter.request.deadline_s or LONGEST_WAIT_S, LONGEST_WAIT_S):
                self._give_up(position)

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


def compare(happened: Iterable[events.Beginning | events.Event], make_rng: MakeRng, policy: str) -> list[Asked]:
    """One file from its beginning to its end. Raises InvalidField if there is no such policy, and what reading it raises."""
    comparison: Comparison | None = None
    for each in happened:
        if isinstance(each, events.Beginning):
            comparison = Comparison(each, make_rng, policy)
        elif comparison is not None:
            comparison.take(each)
    return [] if comparison is None else comparison.asked
