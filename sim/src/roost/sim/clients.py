"""The clients: each drives the product's own flow (`roost.flow`) through a generation. What is here is when each step takes place.

State: the requests whose answers lie behind a cut network, who is cut off since when, and how long generations have taken.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from roost.cluster.errors import NoCapacity, RoostError
from roost.cluster.worker_state import CacheResult
from roost.flow.effects import Ask, Call, Effect, Fail, Pause
from roost.flow.errors import Failure
from roost.flow.flow import Flow
from roost.flow.heard import Decided, Declined, Heard, Lost, Refused, Unreachable
from roost.flow.served_times import ServedTimes
from roost.flow.setbacks import Setback, setback_of
from roost.flow.steps import Completed, FinishReason, Timings, Token, Usage
from roost.flow.terms import MAX_ATTEMPTS, SILENCE_S, Terms
from roost.placement.decision import Decision
from roost.placement.request import PlacementRequest
from roost.placement.rng import Rng
from roost.sim.agenda import Agenda
from roost.sim.flight import Flight
from roost.sim.ledger import Ledger
from roost.sim.machine import Machine
from roost.sim.planes import Plane
from roost.sim.records import FAILED, REFUSED
from roost.worker.core.jobs import Job


@dataclass(frozen=True, slots=True)
class Delays:
    """What the network and the processes on both sides take, in seconds.

    `ask_s`: to ask where to go and hear it; `send_s`: until the worker has the request; `reply_s`: until the client has what was sent.
    The first two are drawn for each message, evenly from 1 - `spread` to 1 + `spread` times these: two runs of one trace with different
    seeds then differ in the order of their events.
    """

    ask_s: float = 0.0
    send_s: float = 0.0
    reply_s: float = 0.0
    spread: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.spread <= 1.0:
            raise ValueError(f"spread must be 0-1 (got {self.spread})")
        for name in ("ask_s", "send_s", "reply_s"):
            if not 0.0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 or more (got {getattr(self, name)})")


NO_DELAYS = Delays()


USUAL_TIMEOUT_S = 300.0
_TARGETS = ("plane",)
_COMPLETED = Completed(FinishReason.LENGTH, Usage(), Timings(), None)
_FIRST_TOKEN = Token(0, -1, "")
_DIED = Lost("the worker died")
_UNREACHABLE = Unreachable(Failure(_TARGETS[0], "nobody who decides was reached"))


@dataclass(frozen=True, slots=True)
class Manners:
    """How clients ask. `may_queue`: their requests may wait in the scheduler. `timeout_s`: what they give a request, of which schedulers
    are told; None: USUAL_TIMEOUT_S, of which they are not.
    """

    max_attempts: int = MAX_ATTEMPTS
    timeout_s: float | None = None
    may_queue: bool = False

    def terms(self) -> Terms:
        """Of each of their requests."""
        return Terms(
            self.timeout_s or USUAL_TIMEOUT_S,
            is_told=self.timeout_s is not None,
            max_attempts=self.max_attempts,
            may_wait=self.may_queue,
        )


class Clients:
    """`ended` is called with each request that is over."""

    def __init__(  # noqa: PLR0913  # who talks to everybody
        self,
        agenda: Agenda,
        plane: Plane,
        machines: Sequence[Machine],
        ledger: Ledger,
        rng: Rng,
        delay_rng: Rng,
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
        self._delay_rng = delay_rng
        self._delays = delays
        self._terms = manners.terms()
        self._served_times = ServedTimes()
        self._ended = ended
        self._requests: dict[tuple[str, int, bool], PlacementRequest] = {}
        self._cut: dict[int, float] = {}
        self._held: list[Flight] = []
        for machine in machines:
            machine.ended = self.served
            machine.refused = self._lost_place

    def begin(self, flight: Flight) -> None:
        """A client has this request."""
        terms, served_s = self._terms, 0.0
        if terms.is_told:
            served_s = self._served_times.expected_s((flight.model, flight.output_tokens))
            self._agenda.at(flight.arrival_s + terms.timeout_s, self._time_out, flight)
        flow: Flow[str, Decision] = Flow(terms, _TARGETS, self._rng, self._agenda.now, served_s=served_s)
        flight.flow = flow
        self._do(flight, flow.begin(), FAILED)

    def _do(self, flight: Flight, effect: Effect[str, Decision], otherwise: str) -> None:
        """What the flow wants; `otherwise` is what the request has come to if it wants nothing more."""
        now, delays = self._agenda.now, self._delays
        match effect:
            case Ask():
                if delays.ask_s:
                    self._agenda.at(now + self._drawn_s(delays.ask_s), self._ask, (flight, effect))
                else:
                    self._ask((flight, effect))
            case Call(decision):
                machine = self._machines[decision.worker_id]
                flight.decision_id = decision.decision_id
                self._ledger.sent(flight.number, machine.number, decision.action)
                if delays.send_s:
                    self._agenda.at(now + self._drawn_s(delays.send_s), self._reach, (flight, machine))
                else:
                    self._reach((flight, machine))
            case Pause(wait_s):
                self._agenda.at(now + wait_s, self._wake, flight)
            case Fail():
                self._close(flight, otherwise)

    def _drawn_s(self, mean_s: float) -> float:
        spread = self._delays.spread
        return mean_s if not spread else mean_s * (1.0 + spread * (2.0 * self._delay_rng.random() - 1.0))

    def _hear(self, flight: Flight, heard: Heard[Decision], otherwise: str) -> None:
        flow = flight.flow
        assert flow is not None  # noqa: S101  # it has begun
        if not flow.is_over:  # else its client has gone, and nobody reads the answer
            self._do(flight, flow.hear(heard, self._agenda.now), otherwise)

    def _wake(self, flight: Flight) -> None:
        assert flight.flow is not None  # noqa: S101  # it has begun
        self._do(flight, flight.flow.handle_timer(self._agenda.now), FAILED)

    def _time_out(self, flight: Flight) -> None:
        """The client's time is up: it goes, and its request with it."""
        flow = flight.flow
        if flow is None or flow.is_over:
            return
        if flight.machine is not None:
            flight.machine.leave(flight, is_ok=False)
        self._do(flight, flow.handle_timer(self._agenda.now), FAILED)

    def _ask(self, asked: tuple[Flight, Ask[str]]) -> None:
        self._plane.ask(asked[0], self._request(*asked), self)

    def _request(self, flight: Flight, ask: Ask[str]) -> PlacementRequest:
        if ask.excluded or ask.deadline_s:
            return PlacementRequest(
                "", flight.model, flight.priority, deadline_s=ask.deadline_s, excluded=ask.excluded, may_queue=ask.may_wait
            )
        key = (flight.model, flight.priority, ask.may_wait)
        request = self._requests.get(key)
        if request is None:
            request = self._requests[key] = PlacementRequest("", flight.model, flight.priority, may_queue=ask.may_wait)
        return request

    # --- what the plane says (`Asker`) ------------------------------------------------------------

    def decided(self, flight: Flight, decision: Decision) -> None:
        self._hear(flight, Decided(decision), FAILED)

    def refused(self, flight: Flight, error: RoostError) -> None:
        self._hear(flight, Refused(error), REFUSED)

    def unreachable(self, flight: Flight) -> None:
        self._hear(flight, _UNREACHABLE, FAILED)

    # --- at the worker ----------------------------------------------------------------------------

    def _reach(self, sent: tuple[Flight, Machine]) -> None:
        flight, machine = sent
        if flight.flow is None or flight.flow.is_over:
            return
        if machine.number in self._cut:
            self._agenda.at(self._agenda.now + SILENCE_S, self._unanswered, flight)
            return
        if not machine.is_up:
            self._hear(flight, _DIED, FAILED)
            return
        try:
            machine.arrive(flight)
        except NoCapacity as error:
            self._hear(flight, Declined(error, Setback.BUSY, error.retry_after_s), REFUSED)
        except RoostError as error:
            self._hear(flight, Declined(error, setback_of(error)), REFUSED)

    def _unanswered(self, flight: Flight) -> None:
        self._hear(flight, Lost("it took the call and did not answer"), FAILED)

    def _lost_place(self, flight: Flight, error: RoostError) -> None:
        flight.job, flight.first_at = None, -1.0 if flight.told_share == 0 else flight.first_at
        self._hear(flight, Declined(error, setback_of(error)), REFUSED)

    def crashed(self, lost: Sequence[Flight]) -> None:
        """A worker died with these requests: those that had a token go on elsewhere from the last one, the others begin anew."""
        for flight in lost:
            if flight.told_share == 0:
                flight.first_at = -1.0
            elif flight.job is not None and flight.flow is not None and not flight.flow.told:
                self._note_wait(flight, flight.job)
                self._hear(flight, _FIRST_TOKEN, FAILED)
            flight.job = None
            self._hear(flight, _DIED, FAILED)

    # --- the end ----------------------------------------------------------------------------------

    def served(self, flight: Flight) -> None:
        """The worker has sent the last token."""
        job, ledger, number = flight.job, self._ledger, flight.number
        if job is None or job.granted_at is None:
            raise AssertionError("a request that never ran was served")
        if self._cut and ledger.worker[number] in self._cut:
            self._held.append(flight)
            return
        reply_s, is_resumed = self._delays.reply_s, flight.told_share > 0
        ledger.ttft_s[number] = flight.first_at - flight.arrival_s + reply_s
        if not is_resumed:
            self._note_wait(flight, job)
        self._hear(flight, _COMPLETED, FAILED)
        if self._terms.is_told and not is_resumed:
            self._served_times.note((flight.model, flight.output_tokens), self._agenda.now - job.granted_at)
        self._close(flight, job.cache_result.value, reply_s)

    def _note_wait(self, flight: Flight, job: Job) -> None:
        """Of the worker that told its first token."""
        ledger, number = self._ledger, flight.number
        if job.granted_at is None:
            raise AssertionError("a request that never ran has no token")
        ledger.wait_s[number] = job.granted_at - flight.arrival_s
        queue_s = job.granted_at - job.accepted_at
        if job.cache_result is not CacheResult.HIT:
            load_s = min(queue_s, max(0.0, job.lease.residency.ready_at - job.accepted_at))
            ledger.load_s[number] = load_s
            queue_s -= load_s
        ledger.queue_s[number] = queue_s

    def _close(self, flight: Flight, result: str, reply_s: float = 0.0) -> None:
        flight.job = None
        attempts = 0 if flight.flow is None else flight.flow.attempt
        self._ledger.close(flight.number, result, self._agenda.now - flight.arrival_s + reply_s, attempts)
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
            if flight.flow is None or flight.flow.is_over:  # its client did not wait for so long
                continue
            since = cut_at.get(self._ledger.worker[flight.number])
            if since is not None and flight.first_at >= since:
                flight.first_at = self._agenda.now
            self.served(flight)

    def __repr__(self) -> str:
        return f"<Clients {self._ledger!r}, {len(self._cut)} workers cut off>"
