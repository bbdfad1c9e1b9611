"""The simulator's front door: say what a cluster and its load are like, run it, read what became of the requests."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Literal

from roost.cluster.catalogue import ModelSpec
from roost.placement.registry import DEFAULT_POLICY
from roost.sim import central, gossip
from roost.sim.agenda import Agenda
from roost.sim.arrivals import Arrivals, ClosedLoop, Renewal
from roost.sim.checks import check, check_arrivals, in_order, seconds
from roost.sim.clients import NO_DELAYS, Clients, Delays, Manners
from roost.sim.distributions import Distribution
from roost.sim.faults import FailingLoads, Fault
from roost.sim.fleet_of import build_of, catalogue_of, equal_models, speeds_of
from roost.sim.flight import Flight
from roost.sim.ledger import Ledger
from roost.sim.links import Reports
from roost.sim.machine import UNBOUNDED, Machine
from roost.sim.mishaps import Mishaps, Sampler, let_fail
from roost.sim.plane_of import Deciders, GossipSetting, PlaneParts, knowing
from roost.sim.popularity import Popularity, uniform
from roost.sim.run import Run
from roost.sim.seeds import rng_for
from roost.sim.work import DrawnWork, TokenWork, Work
from roost.sim.workload import Ask, Drawn, Tokens, drawn_asks, with_service

DRAIN_S = 600.0  # after the last arrival of a timed run: what has not ended by then never will
LOOK_EVERY = 256  # events between two looks at whether it is over

Progress = Callable[[float, int], None]
"""Called now and then with the virtual time and the number of requests so far."""


class Simulation:
    """One cluster, one load, one seed. `run` may be called once.

    Rates are a second, times seconds. A plain number where a distribution is wanted stands for itself. See docs/simulator.md.
    Raises ValueError or InvalidField, naming what is wrong.
    """

    def __init__(  # noqa: PLR0913  # the whole of an experiment is said in one place
        self,
        *,
        workers: int = 1,
        slots: int = 1,
        arrivals: Arrivals | ClosedLoop | Distribution | None = None,
        trace: Iterable[Ask] | None = None,
        service: Distribution | float | Literal["trace"] | None = None,
        tokens: Tokens | None = None,
        policy: str = DEFAULT_POLICY,
        plane: str = "central",
        seed: int = 1,
        models: int | Sequence[ModelSpec] = 1,
        popularity: Popularity | None = None,
        cache_models: int | None = None,
        memory_bytes: int | None = None,
        load: Distribution | float | None = None,
        time_scale: float = 1.0,
        warm: bool | None = None,
        eviction: str = "lru",
        queue_capacity: int = UNBOUNDED,
        staleness_s: float = 0.0,
        counts_own_decisions: bool = True,
        reports: Reports | None = None,
        delays: Delays = NO_DELAYS,
        may_queue: bool = False,
        max_attempts: int = 4,
        timeout_s: float | None = None,
        first_token_share: float = 0.0,
        faults: Iterable[Fault] = (),
        failing_loads: Iterable[FailingLoads] = (),
        sample_s: float = 0.0,
        entries: int = 0,
        gossip_model: str = "auto",
        gossip_interval_s: float = 0.0,
    ) -> None:
        check(
            workers=workers,
            slots=slots,
            queue_capacity=queue_capacity,
            max_attempts=max_attempts,
            entries=entries,
            staleness_s=staleness_s,
            sample_s=sample_s,
            gossip_interval_s=gossip_interval_s,
            time_scale=time_scale,
            timeout_s=timeout_s,
            first_token_share=first_token_share,
            plane=plane,
            eviction=eviction,
            gossip_model=gossip_model,
            reports=reports,
            delays=delays,
            tokens=tokens,
            popularity=popularity,
        )
        check_arrivals(arrivals, trace)
        faults = tuple(faults)
        if unknown := sorted({number for fault in faults for number in fault.workers if not 0 <= number < workers}):
            raise ValueError(f"faults name worker {unknown[0]} and there are {workers}, numbered from 0")
        self.plane_name, self.policy, self.seed, self.slots = plane, policy, seed, slots
        deciders = Deciders(policy, seed)
        known = knowing(plane, faults, reports, staleness_s, counts_own=counts_own_decisions)
        warm_s = gossip.WARM_S if plane != "central" else 0.0 if known.reports is None else central.WARM_S
        self.agenda = Agenda(begins_at=-warm_s)
        specs = equal_models(models, slots) if isinstance(models, int) else tuple(models)
        self.models = specs
        self.is_served_by_tokens = service is None
        if service == "trace" and trace is None:
            raise ValueError("service='trace' takes each request's service_s from a trace; give one")
        drawn_service = None if service is None or service == "trace" else seconds("service", service)
        build = build_of(
            specs,
            slots=slots,
            cache_models=cache_models,
            memory_bytes=memory_bytes,
            warm=warm,
            eviction=eviction,
            queue_capacity=queue_capacity,
        )
        speeds = speeds_of(specs, time_scale)
        loads, load_rng = None if load is None else seconds("load", load), rng_for(seed, "loads")
        work: Work = (
            TokenWork(self.agenda, loads, load_rng, speeds)
            if self.is_served_by_tokens
            else DrawnWork(self.agenda, loads, load_rng, speeds, first_share=first_token_share)
        )
        catalogue = catalogue_of(specs)
        width = len(str(workers - 1))
        self.machines = [Machine(f"worker-{number:0{width}}", number, build, catalogue, work, self.agenda) for number in range(workers)]
        let_fail(self.machines, failing_loads, [spec.name for spec in specs])
        self.ledger = Ledger([spec.name for spec in specs], [machine.node_id for machine in self.machines])
        self.events: list[tuple[float, str]] = []
        setting = GossipSetting(entries, gossip_model, gossip_interval_s)
        self.plane = PlaneParts(self.agenda, self.machines, known, deciders, self.note).plane(plane, setting)
        self._clients = Clients(
            self.agenda,
            self.plane,
            self.machines,
            self.ledger,
            rng_for(seed, "clients"),
            rng_for(seed, "delays"),
            delays=delays,
            manners=Manners(max_attempts, timeout_s, may_queue),
            ended=self._ended,
        )
        self._mishaps = Mishaps(self.agenda, self.machines, self.plane, self._clients, faults, self.note)
        self._sampler = Sampler(self.agenda, self.machines, slots=slots, every_s=sample_s)
        popularity = popularity or uniform(len(specs))
        if len(popularity.shares) != len(specs):
            raise ValueError(f"popularity is of {len(popularity.shares)} models and there are {len(specs)}")
        lengths = (tokens or Tokens()) if self.is_served_by_tokens else tokens
        self._drawn = Drawn(seed, popularity, lengths, drawn_service)
        self._loop = arrivals if isinstance(arrivals, ClosedLoop) else None
        self._asks: Iterator[Ask] = iter(())
        if trace is not None:
            self._asks = with_service(in_order(trace, len(specs)), drawn_service, seed)
        elif arrivals is not None and not isinstance(arrivals, ClosedLoop):
            stream = Renewal(arrivals) if isinstance(arrivals, Distribution) else arrivals
            self._asks = drawn_asks(stream, rng_for(seed, "arrivals"), self._drawn)
        self._think_rng = rng_for(seed, "think")
        self._most = 0
        self._last_s = float("inf")
        self._is_asking = True
        self._has_run, self._is_of_trace = False, trace is not None
        self._homes = min(workers, setting.entries_of(workers))

    # --- running ----------------------------------------------------------------------------------

    def run(self, *, requests: int | None = None, duration_s: float | None = None, progress: Progress | None = None) -> Run:
        """Until so many requests have arrived, or for so long, and until they have ended. A trace alone ends by itself.

        Raises ValueError for what cannot be, a trace's requests included, and at a second call.
        """
        check(requests=requests, duration_s=duration_s)
        if requests is None and duration_s is None and not self._is_of_trace:
            raise ValueError("say how many requests or how long: only a trace ends by itself")
        if self._has_run:
            raise ValueError("a simulation runs once; make another one")
        self._has_run = True
        self._most = requests if requests is not None else 1 << 62
        self._last_s = duration_s if duration_s is not None else float("inf")
        self.plane.start()
        self._mishaps.start()
        self._sampler.start(self._last_s, lambda: not self._is_asking and self.ledger.closed == len(self.ledger))
        self._begin()
        is_over = partial(self._is_over, progress)
        with _rare_collections():
            self.agenda.run_until(self._last_s, is_over, look_every=LOOK_EVERY)
            self._is_asking = False
            self.agenda.run_until(self._last_s + DRAIN_S, is_over, look_every=LOOK_EVERY)
        ran_s = duration_s if duration_s is not None else self.agenda.now
        totals = {
            "events": float(self.agenda.handled),
            "loads": float(sum(machine.all_loads for machine in self.machines)),
            "failed_loads": float(sum(machine.failed_loads for machine in self.machines)),
            "evictions": float(sum(machine.all_evictions for machine in self.machines)),
            "busy_slot_s": math.fsum(machine.busy_s for machine in self.machines),
            "open": float(len(self.ledger) - self.ledger.closed),
        }
        return Run(self.plane_name, self.policy, self.seed, ran_s, self.ledger, tuple(self._sampler.samples), tuple(self.events), totals)

    def _is_over(self, progress: Progress | None) -> bool:
        if progress is not None:
            progress(self.agenda.now, len(self.ledger))
        if self._is_asking or self.ledger.closed < len(self.ledger):
            return False
        return self._last_s == float("inf") or self.agenda.now >= self._last_s

    def _begin(self) -> None:
        if self._loop is None:
            self._next_arrival()
            return
        for client in range(self._loop.clients):
            self.agenda.at(self._loop.ramp_s * client / self._loop.clients, self._client_asks, client)

    # --- arrivals ---------------------------------------------------------------------------------

    def _next_arrival(self) -> None:
        ask = next(self._asks, None)
        if ask is None or ask.at_s > self._last_s or len(self.ledger) >= self._most:
            self._is_asking = False
            return
        self.agenda.arrival(ask.at_s, self._arrive, ask)

    def _arrive(self, ask: Ask) -> None:
        self._start(ask, -1)
        self._next_arrival()

    def _client_asks(self, client: int) -> None:
        if len(self.ledger) >= self._most or self.agenda.now >= self._last_s or not self._is_asking:
            self._is_asking = False
            return
        self._start(self._drawn.ask(self.agenda.now), client)

    def _start(self, ask: Ask, client: int) -> None:
        number = self.ledger.open(ask.at_s, ask.model)
        flight = Flight(number, self.models[ask.model].name, ask.at_s, ask.service_s, ask.prompt_tokens, ask.output_tokens, client)
        flight.priority = ask.priority
        if self.plane_name != "central":
            flight.home = (number if client < 0 else client) % self._homes  # each by the next sidecar in turn; a client by its own
        self._clients.begin(flight)

    def _ended(self, flight: Flight) -> None:
        if flight.client >= 0 and self._loop is not None:
            self.agenda.at(self.agenda.now + self._loop.think.sample(self._think_rng), self._client_asks, flight.client)

    def note(self, what: str) -> None:
        """Something happened that a reader of the run wants to know."""
        self.events.append((self.agenda.now, what))

    def __repr__(self) -> str:
        return f"<Simulation {self.plane_name} {self.policy} seed {self.seed}, {len(self.machines)} workers, {self.agenda!r}>"


@contextmanager
def _rare_collections() -> Iterator[None]:
    """What a run drops is free at once, because it leaves no cycles: looking for some takes a tenth of its time."""
    before = gc.get_threshold()
    gc.set_threshold(100_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*before)
