"""The clients: each asks where to go, goes there, and on refusal or loss before the first token asks again without that worker.

State: the requests whose answers lie behind a cut network, and who is cut off since when. The rules of asking again are the product's own
(`roost.client.attempts`); what is here is when each step takes place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from roost.client.attempts import Attempts, Setback
from roost.client.backoff import Backoff
from roost.client.client import MAX_ATTEMPTS
from roost.client.generation import ACCEPT_TIMEOUT_S
from roost.cluster.errors import NoCapacity, NoWorkers, RoostError
from roost.cluster.worker_state import CacheResult
from roost.placement.decision import Decision
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng
from roost.sim.agenda import Agenda
from roost.sim.flight import FRESH, Flight
from roost.sim.ledger import Ledger
from roost.sim.machine import Machine
from roost.sim.planes import Plane
from roost.sim.records import FAILED, REFUSED


@dataclass(frozen=True, slots=True)
class Delays:
    """What the network and the processes on both sides take, in seconds.

    `ask_s`: to ask where to go and hear it; `send_s`: until the worker has the request; `reply_s`: until the client has what was sent.
    """

    ask_s: float = 0.0
    send_s: float = 0.0
    reply_s: float = 0.0

    def __post_init__(self) -> None:
        for name in ("ask_s", "send_s", "reply_s"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more (got {getattr(self, name)})")


NO_DELAYS = Delays()


@dataclass(frozen=True, slots=True)
class Manners:
    """How clients ask. `may_queue`: their requests may wait in the scheduler the first time they ask."""

    max_attempts: int = MAX_ATTEMPTS
    timeout_s: float = 300.0
    may_queue: bool = False


class Clients:
    """`ended` is called with each request that is over."""

    def __init__(  # noqa: PLR0913  # who talks to everybody
        self,
        agenda: Agenda,
        plane: Plane,
        machines: Sequence[Machine],
        ledger: Ledger,
        rng: Rng,
        *,
        delays: Delays,
        manners: Manners,
        ended: Callable[[Flight], None],
    ) -> None:
        self._agenda = agenda
        self._plane = plane
        self._machines: Mapping[str, Machine] = {machine.node_id: machine for machine in machines}
        self._ledger = ledger
        self._rng = rng
        self._delays = delays
        self._manners = manners
        self._ended = ended
        self._requests: dict[tuple[str, int, bool], PlacementRequest] = {}
        self._cut: dict[int, float] = {}
        self._held: list[Flight] = []
        for machine in machines:
            machine.ended = self.served
            machine.refused = self._lost_place

    def begin(self, flight: Flight) -> None:
        """A client has this request."""
        if self._delays.ask_s:
            self._agenda.at(self._agenda.now + self._delays.ask_s, self._ask, flight)
        else:
            self._ask(flight)

    def _ask(self, flight: Flight) -> None:
        self._plane.ask(flight, self._request(flight), self)

    def _request(self, flight: Flight) -> PlacementRequest:
        if flight.excluded:
            return PlacementRequest("", flight.model, flight.priority, excluded=flight.excluded)
        may_queue = self._manners.may_queue and flight.may_wait
        key = (flight.model, flight.priority, may_queue)
        request = self._requests.get(key)
        if request is None:
            request = self._requests[key] = PlacementRequest("", flight.model, flight.priority, may_queue=may_queue)
        return request

    # --- what the plane says (`Asker`) ------------------------------------------------------------

    def decided(self, flight: Flight, decision: Decision) -> None:
        machine = self._machines[decision.worker_id]
        flight.decision_id = decision.decision_id
        flight.tries += 1
        self._ledger.sent(flight.number, machine.number, decision.action)
        if self._delays.send_s:
            self._agenda.at(self._agenda.now + self._delays.send_s, self._reach, (flight, machine))
        else:
            self._reach((flight, machine))

    def refused(self, flight: Flight, error: RoostError) -> None:
        if not isinstance(error, NoWorkers | NoCapacity):
            self._close(flight, REFUSED)
            return
        if isinstance(error, NoWorkers):  # as `RoostClient` does: nobody waits twice for a worker that did not come
            flight.may_wait = flight.may_wait and bool(flight.excluded)
        attempts = self._attempts(flight)
        self._again(flight, attempts.scheduler_refused(server_wish_s=error.retry_after_s), REFUSED)

    def unreachable(self, flight: Flight) -> None:
        self._close(flight, FAILED)

    # --- at the worker ----------------------------------------------------------------------------

    def _reach(self, sent: tuple[Flight, Machine]) -> None:
        flight, machine = sent
        if machine.number in self._cut:
            self._agenda.at(self._agenda.now + ACCEPT_TIMEOUT_S, self._unanswered, sent)
            return
        if not machine.is_up:
            self._setback(flight, machine, Setback.LOST)
            return
        try:
            machine.arrive(flight)
        except NoCapacity as error:
            self._setback(flight, machine, Setback.BUSY, error.retry_after_s)
        except RoostError:
            self._close(flight, REFUSED)

    def _unanswered(self, sent: tuple[Flight, Machine]) -> None:
        self._setback(*sent, Setback.LOST)

    def _lost_place(self, flight: Flight, error: RoostError) -> None:
        del error
        machine = self._machines[self._ledger.workers[self._ledger.worker[flight.number]]]
        self._setback(flight, machine, Setback.BUSY)

    def crashed(self, machine: Machine, lost: Sequence[Flight]) -> None:
        """A worker died with these requests: those that had a token are over, the others begin anew."""
        now = self._agenda.now
        for flight in lost:
            if flight.job is not None and flight.job.granted_at is not None and 0 <= flight.first_at <= now:
                self._close(flight, FAILED)
            else:
                self._setback(flight, machine, Setback.LOST)

    def _setback(self, flight: Flight, machine: Machine, setback: Setback, wish_s: float = 0.0) -> None:
        flight.job, flight.first_at = None, -1.0
        attempts = self._attempts(flight)
        wait_s = attempts.worker_failed(machine.node_id, setback, server_wish_s=wish_s)
        self._again(flight, wait_s, REFUSED if setback is Setback.BUSY else FAILED)

    def _attempts(self, flight: Flight) -> Attempts:
        if flight.attempts is None:
            flight.attempts = Attempts(self._manners.max_attempts, self._rng, Backoff())
        return flight.attempts

    def _again(self, flight: Flight, wait_s: float | None, otherwise: str) -> None:
        now = self._agenda.now
        if wait_s is None or now + wait_s >= flight.arrival_s + self._manners.timeout_s:
            self._close(flight, otherwise)
            return
        excluded = self._attempts(flight).excluded
        flight.excluded = frozenset(excluded) if excluded else FRESH
        self._agenda.at(now + wait_s + self._delays.ask_s, self._ask, flight)

    # --- the end ----------------------------------------------------------------------------------

    def served(self, flight: Flight) -> None:
        """The worker has sent the last token."""
        job, ledger, number = flight.job, self._ledger, flight.number
        if job is None or job.granted_at is None:
            raise AssertionError("a request that never ran was served")
        if self._cut and ledger.worker[number] in self._cut:
            self._held.append(flight)
            return
        reply_s, arrival_s = self._delays.reply_s, flight.arrival_s
        ledger.wait_s[number] = job.granted_at - arrival_s
        ledger.ttft_s[number] = flight.first_at - arrival_s + reply_s
        queue_s = job.granted_at - job.accepted_at
        if job.cache_result is not CacheResult.HIT:
            load_s = min(queue_s, max(0.0, job.lease.residency.ready_at - job.accepted_at))
            ledger.load_s[number] = load_s
            queue_s -= load_s
        ledger.queue_s[number] = queue_s
        self._close(flight, job.cache_result.value, reply_s)

    def _close(self, flight: Flight, result: str, reply_s: float = 0.0) -> None:
        flight.job = None
        self._ledger.close(flight.number, result, self._agenda.now - flight.arrival_s + reply_s, flight.tries)
        self._ended(flight)

    # --- cut networks -----------------------------------------------------------------------------

    def part(self, numbers: Sequence[int]) -> None:
        """Nothing goes to these workers or comes from them."""
        for number in numbers:
            self._cut[number] = self._agenda.now

    def heal(self, numbers: Sequence[int]) -> None:
        """What they have sent meanwhile arrives."""
        cut_at = {number: self._cut.pop(number) for number in numbers if number in self._cut}
        held, self._held = self._held, []
        for flight in held:
            since = cut_at.get(self._ledger.worker[flight.number])
            if since is not None and flight.first_at >= since:
                flight.first_at = self._agenda.now
            self.served(flight)

    def __repr__(self) -> str:
        return f"<Clients {self._ledger!r}, {len(self._cut)} workers cut off>"
