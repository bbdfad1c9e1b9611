"""How a decider comes to know of a worker: at once, from a board that is renewed now and then, or by reports as workers send them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from roost.cluster.worker_state import WorkerState
from roost.placement.rng import Rng
from roost.sim.agenda import Agenda
from roost.sim.machine import Machine
from roost.worker.core.outcomes import Outcomes
from roost.worker.core.pace import Backoff, ReportPace


@dataclass(frozen=True, slots=True)
class Reports:
    """As workers report: on change, but not more often than every 50 ms, and every `interval_s` at least. Each takes `delay_s`."""

    interval_s: float = 1.0
    delay_s: float = 0.0005

    def __post_init__(self) -> None:
        if self.interval_s <= 0 or self.delay_s < 0:
            raise ValueError("interval_s must be more than 0 and delay_s 0 or more")


class Hears(Protocol):
    """Who takes reports."""

    @property
    def is_up(self) -> bool: ...

    def report(self, state: WorkerState, stream: int) -> None: ...

    def stream_lost(self, node_id: str, epoch: int, stream: int) -> None: ...


class ReportLink:
    """One worker's stream to one decider.

    State: whether it stands, its number, when it was last heard and when its next change is. Invariant: what was put down for another time,
    or for another stream, is void.
    """

    def __init__(
        self, machine: Machine, hears: Hears, reports: Reports, agenda: Agenda, rng: Rng, *, outcomes: Callable[[], Outcomes]
    ) -> None:
        self.is_open = False
        self.is_cut = False
        self._machine = machine
        self._hears = hears
        self._reports = reports
        self._agenda = agenda
        self._outcomes = outcomes
        self._backoff = Backoff(rng)
        self._pace = ReportPace(reports.interval_s)
        self._stream = 0
        self._last = 0  # the number of the last report on this stream
        self._sent_at = 0.0
        self._due_at = -1.0
        self._retry_at = -1.0
        machine.on_change.append(self.changed)
        machine.on_arrival.append(self.changed)

    def connect(self) -> None:
        """Dials now; tries again later if nobody is there."""
        if not self._machine.is_up or self.is_open:
            return
        if not self._hears.is_up or self.is_cut:
            self._retry_at = self._agenda.now + self._backoff.next_wait_s()
            self._agenda.at(self._retry_at, self._retry, self._retry_at)
            return
        self._backoff.succeeded()
        self.is_open = True
        self._stream += 1
        self._last = 0
        self._pace = ReportPace(self._reports.interval_s)
        self._send(has_catalogue=True)
        self._agenda.at(self._agenda.now + self._reports.interval_s, self._beat, self._stream)

    def lost(self) -> None:
        """The stream broke: by a fall of either side, or of what lies between."""
        if not self.is_open:
            return
        self.is_open = False
        self._due_at = -1.0
        self._outcomes().stream_lost(self._agenda.now)
        if self._hears.is_up and not self.is_cut:
            told = (self._machine.node_id, self._machine.lives, self._stream)
            self._agenda.at(self._agenda.now + self._reports.delay_s, self._tell_lost, told)
        self.connect()

    def changed(self) -> None:
        """The worker changed."""
        if self.is_open and self._pace.changed():
            now = self._agenda.now
            self._due_at = now + self._pace.due_in(now)
            self._agenda.at(self._due_at, self._due, self._due_at)

    def _retry(self, at: float) -> None:
        if at == self._retry_at:
            self.connect()

    def _tell_lost(self, told: tuple[str, int, int]) -> None:
        self._hears.stream_lost(*told)

    def _due(self, at: float) -> None:
        if at == self._due_at and self.is_open:
            self._send()

    def _beat(self, stream: int) -> None:
        """A report after a time without any."""
        if stream != self._stream or not self.is_open:
            return
        now = self._agenda.now
        due_at = self._sent_at + self._reports.interval_s
        if due_at <= now:
            self._send()
            due_at = now + self._reports.interval_s
        self._agenda.at(due_at, self._beat, stream)

    def _send(self, *, has_catalogue: bool = False) -> None:
        now, outcomes = self._agenda.now, self._outcomes()
        unsent = outcomes.unsent()
        state = self._machine.next_report(has_catalogue=has_catalogue, outcomes=unsent, follows=self._last)
        self._last = state.sequence
        outcomes.sent(len(unsent), now)
        self._pace.sent(now)
        self._sent_at, self._due_at = now, -1.0
        if not self.is_cut:
            self._agenda.at(now + self._reports.delay_s, self._deliver, (state, self._stream))

    def _deliver(self, sent: tuple[WorkerState, int]) -> None:
        if self._hears.is_up:
            self._hears.report(*sent)


class Board:
    """Everything known at once: `renew` shows the state of each worker that changed. `every_s` 0: before each look, else every so often.

    State: who changed since, in the order in which they did. A decider that counts its own decisions knows of an arrival before the worker
    does: those may stay unshown for `arrivals_later_s`, which changes no load it sees and halves what there is to show.
    """

    def __init__(self, agenda: Agenda, hears: Hears, *, every_s: float, arrivals_later_s: float = 0.0) -> None:
        self._agenda = agenda
        self._hears = hears
        self._every_s = every_s
        self._later_s = arrivals_later_s
        self._changed: dict[int, Machine] = {}
        self._arrived: dict[int, float] = {}  # since when an arrival is unshown, oldest first
        self._machines: dict[int, Machine] = {}
        self._shown: dict[int, int] = {}  # the number of each one's last report
        if every_s > 0:
            agenda.at(every_s, self._renew_again, None)

    @property
    def is_fresh(self) -> bool:
        return self._every_s <= 0

    def add(self, machine: Machine) -> None:
        """Shows the worker, now and later."""
        changed, arrived, agenda, number = self._changed, self._arrived, self._agenda, machine.number
        self._machines[number] = machine

        def note() -> None:
            changed[number] = machine

        def note_arrival() -> None:
            if number not in changed:
                arrived.setdefault(number, agenda.now)

        machine.on_change.append(note)
        machine.on_arrival.append(note_arrival if self._later_s else note)
        self.show(machine, has_catalogue=True)

    def renew(self) -> None:
        """Shows what changed."""
        arrived = self._arrived
        if arrived:
            until = self._agenda.now - self._later_s
            for number in list(self._old(until)):
                self._changed[number] = self._machines[number]
        if self._changed:
            machines = list(self._changed.values())
            self._changed.clear()
            for machine in machines:
                arrived.pop(machine.number, None)
                if machine.is_up:
                    self.show(machine)

    def _old(self, until: float) -> Iterator[int]:
        for number, since in self._arrived.items():
            if since > until:
                return
            yield number

    def show(self, machine: Machine, *, has_catalogue: bool = False) -> None:
        outcomes = machine.outcomes
        unsent = outcomes.unsent()
        state = machine.next_report(has_catalogue=has_catalogue, outcomes=unsent, follows=self._shown.get(machine.number, 0))
        self._shown[machine.number] = state.sequence
        outcomes.sent(len(unsent), self._agenda.now)
        self._hears.report(state, machine.lives)

    def _renew_again(self, _: None) -> None:
        self.renew()
        self._agenda.at(self._agenda.now + self._every_s, self._renew_again, None)
