"""How long things take on a worker: drawn from distributions, or computed as the simulated engine computes them.

Drawn: a request holds its slot for the `service_s` that was drawn when it arrived. Computed: the prompt is read at the speed of the moment
in which it begins, and tokens follow at a pace that changes whenever a generation of the same model begins or ends beside it. The engine
asks for its pace anew at each token; here it changes between two tokens, which differs by less than one token's time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from typing import TYPE_CHECKING, Protocol

from roost.cluster.catalogue import ModelSpec
from roost.sim.agenda import Agenda
from roost.sim.distributions import Distribution
from roost.sim.flight import Flight
from roost.worker.core.residency import Residency
from roost.worker.engines.published import SimulatedSpeed

if TYPE_CHECKING:
    from roost.sim.machine import Machine


class Work(Protocol):
    """What machines ask of time."""

    def load_s(self, spec: ModelSpec) -> float:
        """Of a load that begins now."""

    def expected_load_s(self, spec: ModelSpec) -> float:
        """What a worker that never loaded it expects."""

    def started(self, machine: Machine, flight: Flight, residency: Residency) -> None:
        """The request holds its slot from now on: put down when it will be done."""

    def stopped(self, machine: Machine, flight: Flight, residency: Residency) -> None:
        """It holds it no longer."""

    def broke_off(self, flight: Flight) -> None:
        """Its worker dies now: note how much of it was told, which is not made again elsewhere."""

    def forget(self, machine: Machine) -> None:
        """Nothing runs there."""


class Loads:
    """Load times: of one distribution for all models, or by their size and where they are read from."""

    def __init__(self, drawn: Distribution | None, rng: Random, speeds: Mapping[str, SimulatedSpeed]) -> None:
        self._drawn = drawn
        self._rng = rng
        self._load_s = {name: speed.load_s() for name, speed in speeds.items()}

    def load_s(self, spec: ModelSpec) -> float:
        return self._load_s[spec.name] if self._drawn is None else self._drawn.sample(self._rng)

    def expected_load_s(self, spec: ModelSpec) -> float:
        return self._load_s[spec.name] if self._drawn is None else self._drawn.mean


class DrawnWork(Loads):
    """`first_share` of the service time lies before the first token."""

    def __init__(
        self, agenda: Agenda, loads: Distribution | None, rng: Random, speeds: Mapping[str, SimulatedSpeed], *, first_share: float
    ) -> None:
        super().__init__(loads, rng, speeds)
        self._agenda = agenda
        self._first_share = first_share

    def started(self, machine: Machine, flight: Flight, residency: Residency) -> None:
        del residency
        now = self._agenda.now
        if flight.told_share == 0:
            flight.first_at = now + self._first_share * flight.service_s
        flight.due_at = due_at = now + (1.0 - flight.told_share) * flight.service_s
        self._agenda.at(due_at, machine.finish, flight)

    def broke_off(self, flight: Flight) -> None:
        now = self._agenda.now
        if flight.due_at >= now >= flight.first_at and flight.service_s > 0:
            flight.told_share = 1.0 - (flight.due_at - now) / flight.service_s

    def stopped(self, machine: Machine, flight: Flight, residency: Residency) -> None:
        """Nobody beside it feels it."""

    def forget(self, machine: Machine) -> None:
        """Nothing is kept."""


class TokenWork(Loads):
    """State: for each residency, the generations that run on it, in the order in which they began."""

    def __init__(self, agenda: Agenda, loads: Distribution | None, rng: Random, speeds: Mapping[str, SimulatedSpeed]) -> None:
        super().__init__(loads, rng, speeds)
        self._agenda = agenda
        self._speeds = speeds
        self._running: dict[tuple[int, int], list[tuple[Machine, Flight]]] = {}

    def started(self, machine: Machine, flight: Flight, residency: Residency) -> None:
        beside = self._running.setdefault((machine.number, residency.key), [])
        beside.append((machine, flight))
        speed, now = self._speeds[residency.name], self._agenda.now
        whole = max(1, flight.output_tokens)
        told = round(flight.told_share * whole)
        flight.tokens_left = float(whole - told)
        flight.as_of = now + speed.prefill_s(max(1, flight.prompt_tokens) + told, len(beside))
        if not told:
            flight.first_at = -1.0
        self._pace(beside, speed)

    def stopped(self, machine: Machine, flight: Flight, residency: Residency) -> None:
        key = (machine.number, residency.key)
        beside = [pair for pair in self._running.get(key, ()) if pair[1] is not flight]
        if beside:
            self._running[key] = beside
            if residency.max_parallel > 1:
                self._pace(beside, self._speeds[residency.name])
        else:
            self._running.pop(key, None)

    def broke_off(self, flight: Flight) -> None:
        now, whole = self._agenda.now, max(1, flight.output_tokens)
        if flight.as_of < now and flight.token_s > 0:
            left = max(0.0, flight.tokens_left - (now - flight.as_of) / flight.token_s)
            flight.told_share = math.floor(whole - left) / whole

    def forget(self, machine: Machine) -> None:
        for key in [key for key in self._running if key[0] == machine.number]:
            del self._running[key]

    def _pace(self, beside: list[tuple[Machine, Flight]], speed: SimulatedSpeed) -> None:
        """Everyone's remaining tokens at the pace of as many as run now."""
        now, token_s = self._agenda.now, speed.decode_s(len(beside))
        for machine, flight in beside:
            whole = max(1, flight.output_tokens)
            if flight.as_of < now:  # it has its prompt read, and some tokens
                if flight.token_s > 0:
                    flight.tokens_left = max(0.0, flight.tokens_left - (now - flight.as_of) / flight.token_s)
                flight.as_of = now
            if flight.tokens_left > whole - 1:
                flight.first_at = flight.as_of + (flight.tokens_left - (whole - 1)) * token_s
            flight.token_s = token_s
            due_at = flight.as_of + flight.tokens_left * token_s
            if due_at != flight.due_at:
                flight.due_at = max(now, due_at)
                self._agenda.at(flight.due_at, machine.finish, flight)
