"""A plan in the simulator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from roost.cluster.catalogue import ModelSpec
from roost.sim.clients import Delays
from roost.sim.experiments.plan import CENTRAL, GOSSIP, MODEL_BYTES, PROFILE, TIER, Fault, Plan, Setup
from roost.sim.faults import Fault as SimulatedFault
from roost.sim.faults import kill_coordinator, kill_worker, restart_coordinator, restart_worker
from roost.sim.links import Reports
from roost.sim.records import RunRecord
from roost.sim.simulation import Simulation
from roost.sim.workload import Ask

SAMPLE_S = 0.5
CHANCE_STEP = 1_000_003  # beyond all seeds of plans
TIMEOUT_S = 60.0  # as long as the clients of real runs wait
# Of one request on loopback, by three processes of CPython on a machine that is not busy: what `roost experiment reality` measures there.
LOOPBACK = Delays(ask_s=0.003, send_s=0.002, reply_s=0.001)


def carry(plan: Plan, *, delays: Delays = LOOPBACK, chance: int = 0, on_progress: Callable[[float], None] = lambda _: None) -> RunRecord:
    """Carries the plan out. The same plan gives the same record; `chance` other than 0 changes all but the requests."""
    setup = plan.setup
    is_board = plan.plane == CENTRAL and plan.told_every_s > 0
    simulation = Simulation(
        workers=setup.workers,
        slots=setup.slots,
        trace=_asks(plan),
        policy=setup.policy,
        plane=plan.plane,
        seed=plan.seed + CHANCE_STEP * chance,
        models=_models(setup),
        memory_bytes=setup.memory_bytes,
        warm=False,
        staleness_s=plan.told_every_s if is_board else 0.0,
        gossip_interval_s=plan.told_every_s if plan.plane == GOSSIP else 0.0,
        reports=None if is_board else Reports(delay_s=delays.send_s),  # a message from process to process
        delays=delays,
        may_queue=True,
        timeout_s=TIMEOUT_S,
        faults=[step for fault in plan.faults for step in _steps(setup, fault)],
        sample_s=SAMPLE_S,
    )
    record = simulation.run(duration_s=setup.duration_s, progress=lambda now, _: on_progress(now)).record()
    return replace(record, seed=plan.seed)


def _models(setup: Setup) -> tuple[ModelSpec, ...]:
    options: dict[str, str | int | float | bool] = {"tier": TIER, "profile": PROFILE, "time_scale": setup.time_scale}
    return tuple(
        ModelSpec(name, "simulated", "published", size_bytes=MODEL_BYTES, max_parallel=setup.slots, context_tokens=8192, options=options)
        for name in setup.model_names
    )


def _asks(plan: Plan) -> Iterator[Ask]:
    number_of = {name: number for number, name in enumerate(plan.setup.model_names)}
    for ask in plan.asks():
        yield Ask(ask.arrival_s, number_of[ask.model], ask.prompt_tokens, ask.output_tokens)


def _steps(setup: Setup, fault: Fault) -> Iterator[SimulatedFault]:
    back_at_s = fault.at_s + fault.back_after_s
    if fault.victim in setup.worker_names:
        number = setup.worker_names.index(fault.victim)
        yield from kill_worker(fault.at_s, number)
        yield from restart_worker(back_at_s, number)
    else:
        yield from kill_coordinator(fault.at_s)
        yield from restart_coordinator(back_at_s)
