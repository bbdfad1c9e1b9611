"""What became of scheduling decisions, kept until a coordinator has surely heard it. Pure."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable
from itertools import islice

from roost.cluster.worker_state import MAX_OUTCOMES, CacheResult, DecisionOutcome

MAX_DECISION_ID = 128  # characters, as a report may carry them
UNSURE_S = 30.0  # above the 25 s in which a dead connection is noticed (`roost.service.channels`): what was written before may be lost


class Outcomes:
    """State: outcomes not yet sent, and those sent so lately that they may be lost, both in order and both at most 4,096.

    A decider ignores an outcome that it has counted, so one that may be lost is sent again on the next stream.
    """

    def __init__(self) -> None:
        self.lookups: Counter[CacheResult] = Counter()
        self.dropped = 0
        self._unsent: deque[DecisionOutcome] = deque()
        self._unsure: deque[tuple[float, DecisionOutcome]] = deque(maxlen=MAX_OUTCOMES)

    def looked_up(self, result: CacheResult) -> None:
        """A request was accepted, with or without a decision behind it."""
        self.lookups[result] += 1

    def arrived(self, outcome: DecisionOutcome) -> None:
        """The request of a decision has arrived. With 4,096 unsent, the oldest is dropped and counted: its reservation ends by itself."""
        if len(self._unsent) >= MAX_OUTCOMES:
            self._unsent.popleft()
            self.dropped += 1
        self._unsent.append(outcome)

    def unsent(self) -> tuple[DecisionOutcome, ...]:
        return tuple(self._unsent)

    def sent(self, count: int, now: float) -> None:
        """The first `count` unsent ones were written to a stream."""
        for outcome in tuple(islice(self._unsent, count)):
            self._unsent.popleft()
            self._unsure.append((now, outcome))
        self._forget(now)

    def stream_lost(self, now: float) -> None:
        """What may not have arrived is unsent again, before the rest."""
        self._forget(now)
        again: Iterable[DecisionOutcome] = [outcome for _, outcome in self._unsure]
        self._unsure.clear()
        self._unsent.extendleft(reversed(list(again)))
        while len(self._unsent) > MAX_OUTCOMES:
            self._unsent.popleft()
            self.dropped += 1

    def _forget(self, now: float) -> None:
        while self._unsure and self._unsure[0][0] < now - UNSURE_S:
            self._unsure.popleft()
