"""A worker's state as sidecars spread it: what changes seldom in records under keys, what changes all the time in a `Load`.

`records_of` makes the records of one worker, `told_by` takes them as another sidecar told them, and puts them together to a state. A record
that is out of its range cannot be made, and a state neither: each raises InvalidField and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, TypeVar

from roost.cluster.errors import InvalidField
from roost.cluster.names import check_model_name
from roost.cluster.worker_state import (
    MAX_FAILING,
    NOTHING_FAILS,
    CacheCounters,
    CatalogueModel,
    Failing,
    GpuSource,
    Liveness,
    ModelStatus,
    ModelTiming,
    WorkerState,
)
from roost.gossip.protocol.hot_state import Load
from roost.placement.failures import strikes

SIDECAR: Final = "s"
WORKER: Final = "w"
COUNTERS: Final = "n"
MODEL: Final = "m/"
TIMING: Final = "t/"
CATALOGUE: Final = "c/"
FAILING: Final = "f/"

MAX_TOLD_MODELS: Final = 500  # of one worker; with the next two, and as many deleted keys, half of what one owner may hold
MAX_TOLD_TIMINGS: Final = 64
MAX_TOLD_FAILING: Final = 32
MAX_TOLD_WHY: Final = 80  # characters, up to 320 bytes of the 512 that one record may have
MAX_TOLD_CATALOGUE: Final = 256  # a larger one is not told: the worker then counts as one that can load whatever is known
TIMING_STEP: Final = 1.1  # a measurement is told anew when it has moved by a tenth
SOONEST_READY_S: Final = 0.05  # a load that takes longer than expected is expected any moment


@dataclass(frozen=True, slots=True)
class SidecarRecord:
    """Where a sidecar serves gRPC, HOST:PORT."""

    grpc_address: str


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """One life of a worker. `catalogue_models` of its catalogue are told under keys of their own, None if it is not told."""

    presence: Liveness
    epoch: int
    address: str
    memory_capacity_bytes: int
    slots: int
    gpu_source: GpuSource
    catalogue_models: int | None


@dataclass(frozen=True, slots=True)
class CountersRecord:
    """What its cache has counted."""

    counters: CacheCounters


Record = SidecarRecord | WorkerRecord | CountersRecord | ModelStatus | ModelTiming | CatalogueModel | Failing
"""Under MODEL, TIMING, CATALOGUE and FAILING stand what the worker itself reports, by the model's name."""
R = TypeVar("R", SidecarRecord, WorkerRecord, CountersRecord, ModelStatus, ModelTiming, CatalogueModel, Failing)


def load_of(state: WorkerState, liveness: Liveness) -> Load:
    """What changes all the time. A worker that is away is said to take nothing new."""
    gpu = min(1.0, max(0.0, state.gpu_utilization))
    return Load(state.queue_depth, state.busy_slots, gpu, state.is_draining or liveness is not Liveness.LIVE)


# --- telling --------------------------------------------------------------------------------------


def records_of(state: WorkerState, liveness: Liveness, catalogue: tuple[CatalogueModel, ...] | None) -> dict[str, Record]:
    """Everything that is told of one worker. A worker that is gone has nothing resident."""
    told = catalogue if catalogue is not None and len(catalogue) <= MAX_TOLD_CATALOGUE else None
    records: dict[str, Record] = {
        WORKER: WorkerRecord(
            liveness,
            state.epoch,
            state.address,
            state.memory_capacity_bytes,
            state.slots,
            state.gpu_source,
            None if told is None else len(told),
        )
    }
    if state.cache is not None:
        records[COUNTERS] = CountersRecord(state.cache)
    records.update((CATALOGUE + model.name, model) for model in told or ())
    if liveness is not Liveness.DEAD:
        records.update((MODEL + status.name, _residency(status)) for status in _foremost(state))
        records.update((FAILING + name, each) for name, each in _failing(state))
    timings = [name for name in state.timings if name in state.models] + [name for name in state.timings if name not in state.models]
    records.update((TIMING + name, state.timings[name]) for name in timings[:MAX_TOLD_TIMINGS])
    return records


def _foremost(state: WorkerState) -> list[ModelStatus]:
    """The resident models, ready ones first, at most as many as are told."""
    return sorted(state.models.values(), key=lambda status: (not status.is_ready, status.name))[:MAX_TOLD_MODELS]


def _failing(state: WorkerState) -> list[tuple[str, Failing]]:
    """Of what deciders ask elsewhere for, what failed last: at most as many as are told."""
    last = [(name, each) for name, each in state.failing.items() if strikes(each)][-MAX_TOLD_FAILING:]
    return [(name, replace(each, why=each.why[:MAX_TOLD_WHY])) for name, each in last]


def _residency(status: ModelStatus) -> ModelStatus:
    """What is told of it: its requests come and go too fast."""
    return ModelStatus(status.name, status.phase, status.size_bytes, ready_in_s=round(status.ready_in_s, 1), is_pinned=status.is_pinned)


def is_worth_telling(before: Record, after: Record) -> bool:
    """False for a change that the others can do without: a load that goes on, a measurement that hardly moved."""
    if before == after:
        return False
    if isinstance(before, ModelStatus) and isinstance(after, ModelStatus):
        return (before.phase, before.size_bytes, before.is_pinned) != (after.phase, after.size_bytes, after.is_pinned)
    if isinstance(before, ModelTiming) and isinstance(after, ModelTiming):
        return _has_moved(before.service_time_s, after.service_time_s) or _has_moved(before.load_time_s, after.load_time_s)
    if isinstance(before, Failing) and isinstance(after, Failing):
        return strikes(before) != strikes(after)
    return True


def _has_moved(before: float, after: float) -> bool:
    return not before / TIMING_STEP <= after <= before * TIMING_STEP


# --- being told -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Told:
    """What a sidecar tells of its worker. `state` has no load; `liveness` is the sidecar's own judgement."""

    state: WorkerState
    liveness: Liveness

    def with_load(self, load: Load, *, timestamp: float, told_for_s: float, has_catalogue: bool = True) -> WorkerState:
        """The worker's state under that load. `timestamp`: when the load was written; `told_for_s`: how long this is known.

        `has_catalogue` False: as a report that leaves the catalogue as it was.
        """
        return replace(
            self.state,
            models=_nearer(self.state.models, told_for_s),
            queue_depth=load.queue_depth,
            busy_slots=load.busy_slots,
            gpu_utilization=load.gpu_utilization,
            is_draining=load.is_draining,
            timestamp=timestamp,
            catalogue=self.state.catalogue if has_catalogue else None,
        )


def _nearer(models: Mapping[str, ModelStatus], by_s: float) -> Mapping[str, ModelStatus]:
    """The models, with loads that much nearer to their end."""
    if not any(status.ready_in_s for status in models.values()):
        return models
    return {
        name: replace(status, ready_in_s=max(SOONEST_READY_S, status.ready_in_s - by_s)) if status.ready_in_s else status
        for name, status in models.items()
    }


def told_by(node_id: str, records: Mapping[str, Record]) -> Told | None:
    """What the sidecar of that name tells; None if it has told of no worker. Raises InvalidField."""
    worker = records.get(WORKER)
    if worker is None:
        return None
    if not isinstance(worker, WorkerRecord):
        raise InvalidField("record", f"of {node_id} is no worker's")
    models = dict(_under(MODEL, records, ModelStatus))
    counters = records.get(COUNTERS)
    catalogue = dict(_under(CATALOGUE, records, CatalogueModel))
    is_whole = worker.catalogue_models == len(catalogue)  # else a part of it is still on its way
    return Told(
        WorkerState(
            node_id,
            models,
            epoch=worker.epoch,
            address=worker.address,
            memory_capacity_bytes=worker.memory_capacity_bytes,
            memory_used_bytes=sum(status.size_bytes for status in models.values()),
            slots=worker.slots or 1,
            timings=dict(_under(TIMING, records, ModelTiming)),
            gpu_source=worker.gpu_source,
            catalogue=tuple(catalogue[name] for name in sorted(catalogue)) if is_whole else None,
            failing=dict(islice(_under(FAILING, records, Failing), MAX_FAILING)) or NOTHING_FAILS,
            cache=counters.counters if isinstance(counters, CountersRecord) else None,
        ),
        worker.presence,
    )


def _under(prefix: str, records: Mapping[str, Record], kind: type[R]) -> Iterator[tuple[str, R]]:
    for key, record in records.items():
        if key.startswith(prefix):
            if not isinstance(record, kind):
                raise InvalidField("record", f"{key!r} is of another kind")
            yield check_model_name(key.removeprefix(prefix), "record"), record
