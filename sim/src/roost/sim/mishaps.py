"""Faults as they happen, and what is seen of the workers meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from roost.sim.agenda import Agenda
from roost.sim.clients import Clients
from roost.sim.faults import FailingLoads, Fault, Kind
from roost.sim.machine import FailsAfter, Machine
from roost.sim.planes import Plane
from roost.sim.records import WorkerSample


class Mishaps:
    """Carries out faults at their times: on the machines, and told to the plane and the clients."""

    def __init__(  # who is struck and who is told
        self,
        agenda: Agenda,
        machines: Sequence[Machine],
        plane: Plane,
        clients: Clients,
        faults: Sequence[Fault],
        note: Callable[[str], None],
    ) -> None:
        self._agenda = agenda
        self._machines = machines
        self._plane = plane
        self._clients = clients
        self._faults = sorted(faults, key=lambda fault: fault.at_s)
        self._note = note

    def start(self) -> None:
        for fault in self._faults:
            self._agenda.at(fault.at_s, self._happen, fault)

    def _happen(self, fault: Fault) -> None:
        names = ", ".join(self._machines[number].node_id for number in fault.workers)
        self._note(f"{names} {fault.kind.value}".strip())
        match fault.kind:
            case Kind.KILL_COORDINATOR:
                self._plane.crash_decider()
            case Kind.RESTART_COORDINATOR:
                self._plane.boot_decider()
            case Kind.KILL_WORKER:
                for number in fault.workers:
                    self._kill(number)
            case Kind.RESTART_WORKER:
                for number in fault.workers:
                    self._restart(number)
            case Kind.PART:
                self._clients.part(fault.workers)
                self._plane.part(frozenset(fault.workers))
            case Kind.HEAL:
                self._clients.heal(fault.workers)
                self._plane.heal(frozenset(fault.workers))

    def _kill(self, number: int) -> None:
        machine = self._machines[number]
        if machine.is_up:
            lost = machine.crash()
            self._plane.worker_crashed(number)
            self._clients.crashed(lost)

    def _restart(self, number: int) -> None:
        machine = self._machines[number]
        if not machine.is_up:
            machine.boot()
            self._plane.worker_booted(number)


class Sampler:
    """Looks at every worker each `every_s` (0: never) until a time. State: the samples, and each worker's work at the last look."""

    def __init__(self, agenda: Agenda, machines: Sequence[Machine], *, slots: int, every_s: float) -> None:
        self.samples: list[WorkerSample] = []
        self._agenda = agenda
        self._machines = machines
        self._slots = slots
        self._every_s = every_s
        self._busy_before = [0.0] * len(machines)
        self._until_s = 0.0
        self._is_over: Callable[[], bool] = lambda: False

    def start(self, until_s: float, is_over: Callable[[], bool]) -> None:
        """Ends at that time, or, if that is infinite, when `is_over()`."""
        self._until_s, self._is_over = until_s, is_over
        if self._every_s > 0:
            for machine in self._machines:
                machine.count_busy()
                self._busy_before[machine.number] = machine.busy_s
            self._agenda.at(self._every_s, self._look, None)

    def _look(self, _: None) -> None:
        now = self._agenda.now
        for machine in self._machines:
            machine.count_busy()
            before, self._busy_before[machine.number] = self._busy_before[machine.number], machine.busy_s
            share = (machine.busy_s - before) / (self._every_s * self._slots)
            depth, busy = (machine.slots.queue_depth, machine.slots.busy) if machine.is_up else (0, 0)
            self.samples.append(WorkerSample(now, machine.node_id, depth, busy, self._slots, min(1.0, max(0.0, share))))
        if now + self._every_s <= self._until_s and not (self._until_s == float("inf") and self._is_over()):
            self._agenda.at(now + self._every_s, self._look, None)


def let_fail(machines: Sequence[Machine], failing_loads: Iterable[FailingLoads], models: Sequence[str]) -> None:
    """From now on these loads fail, whatever else befalls the machines. Raises ValueError for a worker or a model that there is not."""
    failing = tuple(failing_loads)
    for each in failing:
        if not 0 <= each.worker < len(machines):
            raise ValueError(f"failing_loads name worker {each.worker} and there are {len(machines)}, numbered from 0")
        if unknown := [model for model in each.models or () if not 0 <= model < len(models)]:
            raise ValueError(f"failing_loads name model {unknown[0]} and there are {len(models)}, numbered from 0")
    numbers = {name: number for number, name in enumerate(models)}

    def fails_after_s(worker: int) -> FailsAfter:
        return lambda model, now: next((each.after_s for each in failing if each.hits(worker, numbers[model], now)), None)

    for worker in {each.worker for each in failing}:
        machines[worker].fails_after_s = fails_after_s(worker)
