"""A worker's state as sidecars spread it: what changes seldom in records under keys, what changes all the time in a `Load`.

`records_of` writes the records of one worker, `told_by` reads them as another sidecar told them. Reading goes through the same checks as
a worker's own report, and raises InvalidField and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.message import DecodeError, Message

from roost.cluster.errors import InvalidField
from roost.cluster.worker_state import CatalogueModel, Liveness, ModelStatus, ModelTiming, WorkerState
from roost.gossip.protocol.hot_state import Load
from roost.service.codec import GPU_SOURCES, PHASES, catalogue_model_to_wire, counters_to_wire, state_from_wire
from roost.v1 import gossip_pb2, state_pb2

SIDECAR: Final = "s"
WORKER: Final = "w"
COUNTERS: Final = "n"
MODEL: Final = "m/"
TIMING: Final = "t/"
CATALOGUE: Final = "c/"

MAX_TOLD_MODELS: Final = 500  # of one worker; with the next two, and as many deleted keys, half of what one owner may hold
MAX_TOLD_TIMINGS: Final = 64
MAX_TOLD_CATALOGUE: Final = 256  # a larger one is not told: the worker then counts as one that can load whatever is known
TIMING_STEP: Final = 1.1  # a measurement is told anew when it has moved by a tenth
SOONEST_READY_S: Final = 0.05  # a load that takes longer than expected is expected any moment

PRESENCES: Final[Mapping[Liveness, gossip_pb2.WorkerPresence.ValueType]] = {
    Liveness.LIVE: gossip_pb2.WORKER_PRESENCE_HERE,
    Liveness.SUSPECT: gossip_pb2.WORKER_PRESENCE_AWAY,
    Liveness.DEAD: gossip_pb2.WORKER_PRESENCE_GONE,
}
_LIVENESS_OF: Final = {presence: liveness for liveness, presence in PRESENCES.items()}


def load_of(state: WorkerState, liveness: Liveness) -> Load:
    """What changes all the time. A worker that is away is said to take nothing new."""
    gpu = min(1.0, max(0.0, state.gpu_utilization))
    return Load(state.queue_depth, state.busy_slots, gpu, state.is_draining or liveness is not Liveness.LIVE)


# --- telling --------------------------------------------------------------------------------------


def records_of(state: WorkerState, liveness: Liveness, catalogue: tuple[CatalogueModel, ...] | None) -> dict[str, bytes]:
    """Everything that is told of one worker. A worker that is gone has nothing resident."""
    is_told = catalogue is not None and len(catalogue) <= MAX_TOLD_CATALOGUE
    told = catalogue if is_told and catalogue is not None else ()
    worker = gossip_pb2.WorkerRecord(
        presence=PRESENCES[liveness],
        epoch=state.epoch,
        address=state.address,
        memory_capacity_bytes=state.memory_capacity_bytes,
        slots=state.slots,
        gpu_source=GPU_SOURCES[state.gpu_source],
        catalogue_models=len(told),
        has_catalogue=is_told,
    )
    records: dict[str, Message] = {WORKER: worker}
    if state.cache is not None:
        records[COUNTERS] = gossip_pb2.CountersRecord(counters=counters_to_wire(state.cache))
    records.update((CATALOGUE + model.name, _nameless(model)) for model in told)
    if liveness is not Liveness.DEAD:
        records.update((MODEL + status.name, _residency(status)) for status in _foremost(state))
    timings = [name for name in state.timings if name in state.models] + [name for name in state.timings if name not in state.models]
    records.update((TIMING + name, _timing(state.timings[name])) for name in timings[:MAX_TOLD_TIMINGS])
    return {key: record.SerializeToString(deterministic=True) for key, record in records.items()}


def _foremost(state: WorkerState) -> list[ModelStatus]:
    """The resident models, ready ones first, at most as many as are told."""
    return sorted(state.models.values(), key=lambda status: (not status.is_ready, status.name))[:MAX_TOLD_MODELS]


def _nameless(model: CatalogueModel) -> state_pb2.CatalogueModel:
    wire = catalogue_model_to_wire(model)
    wire.ClearField("name")
    return wire


def _residency(status: ModelStatus) -> gossip_pb2.ResidencyRecord:
    return gossip_pb2.ResidencyRecord(
        phase=PHASES[status.phase], size_bytes=status.size_bytes, pinned=status.is_pinned, ready_in_s=round(status.ready_in_s, 1)
    )


def _timing(timing: ModelTiming) -> gossip_pb2.TimingRecord:
    return gossip_pb2.TimingRecord(service_time_s=timing.service_time_s, load_time_s=timing.load_time_s)


def is_worth_telling(key: str, before: bytes, after: bytes) -> bool:
    """False for a change that the others can do without: a load that goes on, a measurement that hardly moved."""
    if before == after:
        return False
    if key.startswith(MODEL):
        old, new = gossip_pb2.ResidencyRecord.FromString(before), gossip_pb2.ResidencyRecord.FromString(after)
        return (old.phase, old.size_bytes, old.pinned) != (new.phase, new.size_bytes, new.pinned)
    if key.startswith(TIMING):
        one, other = gossip_pb2.TimingRecord.FromString(before), gossip_pb2.TimingRecord.FromString(after)
        return _has_moved(one.service_time_s, other.service_time_s) or _has_moved(one.load_time_s, other.load_time_s)
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


def told_by(node_id: str, records: Mapping[str, bytes]) -> Told | None:
    """What the sidecar of that name tells; None if it has told of no worker. Raises InvalidField."""
    if WORKER not in records:
        return None
    try:
        worker = gossip_pb2.WorkerRecord.FromString(records[WORKER])
        report = _report(node_id, worker, records)
    except DecodeError as error:
        raise InvalidField("record", f"of {node_id} cannot be read") from error
    liveness = _LIVENESS_OF.get(worker.presence)
    if liveness is None:
        raise InvalidField("presence", f"of {node_id} is none that this version knows ({worker.presence})")
    return Told(state_from_wire(report), liveness)


def _report(node_id: str, worker: gossip_pb2.WorkerRecord, records: Mapping[str, bytes]) -> state_pb2.WorkerLoadReport:
    report = state_pb2.WorkerLoadReport(
        node_id=node_id,
        epoch=worker.epoch,
        address=worker.address,
        memory_capacity_bytes=worker.memory_capacity_bytes,
        slots=worker.slots,
        gpu_source=worker.gpu_source,
    )
    for name, value in _under(MODEL, records):
        told = gossip_pb2.ResidencyRecord.FromString(value)
        report.models.add(name=name, phase=told.phase, size_bytes=told.size_bytes, pinned=told.pinned, ready_in_s=told.ready_in_s)
    for name, value in _under(TIMING, records):
        timing = gossip_pb2.TimingRecord.FromString(value)
        report.timings.add(name=name, service_time_s=timing.service_time_s, load_time_s=timing.load_time_s)
    report.memory_used_bytes = sum(model.size_bytes for model in report.models)
    if COUNTERS in records:
        report.cache.CopyFrom(gossip_pb2.CountersRecord.FromString(records[COUNTERS]).counters)
    catalogue = [(name, state_pb2.CatalogueModel.FromString(value)) for name, value in _under(CATALOGUE, records)]
    if worker.has_catalogue and len(catalogue) == worker.catalogue_models:  # else a part of it is still on its way
        report.catalogue.SetInParent()
        for name, model in sorted(catalogue, key=lambda each: each[0]):
            model.name = name
            report.catalogue.models.append(model)
    return report


def _under(prefix: str, records: Mapping[str, bytes]) -> Iterator[tuple[str, bytes]]:
    return ((key.removeprefix(prefix), value) for key, value in records.items() if key.startswith(prefix))


def grpc_address(records: Mapping[str, bytes]) -> str:
    """Where a sidecar serves gRPC; empty if it has not told, or not so that it can be read."""
    try:
        return gossip_pb2.SidecarRecord.FromString(records.get(SIDECAR, b"")).grpc_address
    except DecodeError:
        return ""


def presence_of(records: Mapping[str, bytes]) -> gossip_pb2.WorkerPresence.ValueType:
    """What a sidecar tells of its worker's presence, as on the wire."""
    try:
        return gossip_pb2.WorkerRecord.FromString(records.get(WORKER, b"")).presence
    except DecodeError:
        return gossip_pb2.WORKER_PRESENCE_UNSPECIFIED
