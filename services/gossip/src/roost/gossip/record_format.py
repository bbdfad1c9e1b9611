"""Records as they travel: one small protobuf message each, under a key. What cannot be read raises InvalidField and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from google.protobuf.message import DecodeError, Message

from roost.cluster.errors import InvalidField
from roost.cluster.worker_state import CatalogueModel, Failing, GpuSource, Liveness, ModelStatus, ModelTiming
from roost.gossip.core.records import (
    CATALOGUE,
    COUNTERS,
    FAILING,
    MODEL,
    SIDECAR,
    TIMING,
    WORKER,
    CountersRecord,
    Record,
    SidecarRecord,
    WorkerRecord,
)
from roost.service.codec import (
    GPU_SOURCES,
    PHASES,
    catalogue_model_from_wire,
    catalogue_model_to_wire,
    check_address,
    counters_from_wire,
    counters_to_wire,
    model_from_wire,
)
from roost.v1 import gossip_pb2, state_pb2

PRESENCES: Final[Mapping[Liveness, gossip_pb2.WorkerPresence.ValueType]] = {
    Liveness.LIVE: gossip_pb2.WORKER_PRESENCE_HERE,
    Liveness.SUSPECT: gossip_pb2.WORKER_PRESENCE_AWAY,
    Liveness.DEAD: gossip_pb2.WORKER_PRESENCE_GONE,
}
_LIVENESS_OF: Final = {presence: liveness for liveness, presence in PRESENCES.items()}
_SOURCE_OF: Final = {number: source for source, number in GPU_SOURCES.items()}


def record_to_bytes(record: Record) -> bytes:
    """The same bytes for the same record, in every process."""
    return _to_wire(record).SerializeToString(deterministic=True)


def _to_wire(record: Record) -> Message:  # noqa: PLR0911  # one for each kind
    match record:
        case SidecarRecord(grpc_address):
            return gossip_pb2.SidecarRecord(grpc_address=grpc_address)
        case CountersRecord(counters):
            return gossip_pb2.CountersRecord(counters=counters_to_wire(counters))
        case ModelTiming(service_time_s, load_time_s):
            return gossip_pb2.TimingRecord(service_time_s=service_time_s, load_time_s=load_time_s)
        case Failing(failed_loads, lost_calls, why):
            return gossip_pb2.FailingRecord(failed_loads=failed_loads, lost_calls=lost_calls, why=why)
        case CatalogueModel():
            wire = catalogue_model_to_wire(record)
            wire.ClearField("name")
            return wire
        case ModelStatus():
            return gossip_pb2.ResidencyRecord(
                phase=PHASES[record.phase], size_bytes=record.size_bytes, pinned=record.is_pinned, ready_in_s=record.ready_in_s
            )
        case WorkerRecord():
            return gossip_pb2.WorkerRecord(
                presence=PRESENCES[record.presence],
                epoch=record.epoch,
                address=record.address,
                memory_capacity_bytes=record.memory_capacity_bytes,
                slots=record.slots,
                gpu_source=GPU_SOURCES[record.gpu_source],
                catalogue_models=record.catalogue_models or 0,
                has_catalogue=record.catalogue_models is not None,
            )


def record_from_bytes(key: str, data: bytes) -> Record | None:
    """None for a key that this version does not know: a later one may tell more. Raises InvalidField."""
    try:
        return _from_bytes(key, data)
    except DecodeError as error:
        raise InvalidField("record", f"{key!r} cannot be read") from error


def _from_bytes(key: str, data: bytes) -> Record | None:
    kind, slash, name = key.partition("/")
    read = _READ.get(kind + slash)
    return None if read is None else read(data, name)


def _residency(data: bytes, name: str) -> ModelStatus:
    told = gossip_pb2.ResidencyRecord.FromString(data)
    return model_from_wire(
        state_pb2.ModelStatus(name=name, phase=told.phase, size_bytes=told.size_bytes, pinned=told.pinned, ready_in_s=told.ready_in_s)
    )


def _timing(data: bytes, _name: str) -> ModelTiming:
    timing = gossip_pb2.TimingRecord.FromString(data)
    return ModelTiming(timing.service_time_s, timing.load_time_s)


def _failing(data: bytes, _name: str) -> Failing:
    told = gossip_pb2.FailingRecord.FromString(data)
    return Failing(told.failed_loads, told.lost_calls, told.why)


def _model(data: bytes, name: str) -> CatalogueModel:
    model = state_pb2.CatalogueModel.FromString(data)
    model.name = name
    return catalogue_model_from_wire(model)


def _worker_of(data: bytes, _name: str) -> WorkerRecord:
    return _worker(gossip_pb2.WorkerRecord.FromString(data))


def _sidecar(data: bytes, _name: str) -> SidecarRecord:
    return SidecarRecord(gossip_pb2.SidecarRecord.FromString(data).grpc_address)


def _counters(data: bytes, _name: str) -> CountersRecord:
    return CountersRecord(counters_from_wire(gossip_pb2.CountersRecord.FromString(data).counters))


_READ: Final[Mapping[str, Callable[[bytes, str], Record]]] = {
    WORKER: _worker_of,
    SIDECAR: _sidecar,
    COUNTERS: _counters,
    MODEL: _residency,
    TIMING: _timing,
    CATALOGUE: _model,
    FAILING: _failing,
}


def _worker(wire: gossip_pb2.WorkerRecord) -> WorkerRecord:
    presence = _LIVENESS_OF.get(wire.presence)
    if presence is None:
        raise InvalidField("presence", f"is none that this version knows ({wire.presence})")
    check_address(wire.address)
    return WorkerRecord(
        presence,
        wire.epoch,
        wire.address,
        wire.memory_capacity_bytes,
        wire.slots,
        _SOURCE_OF.get(wire.gpu_source, GpuSource.UNKNOWN),
        wire.catalogue_models if wire.has_catalogue else None,
    )


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
