"""All that a decider knows, as `GetClusterState` and `WatchClusterState` tell it, and who is passed over."""

from __future__ import annotations

from collections.abc import Iterable

from roost.cluster.view import ClusterView, Residency, WorkerEntry
from roost.cluster.worker_state import CatalogueModel
from roost.placement.failures import PassedOver
from roost.placement.placer import Placer
from roost.service.codec import LIVENESSES, catalogue_model_to_wire, state_to_wire
from roost.v1 import scheduler_pb2


def cluster_state_to_wire(
    view: ClusterView, placer: Placer, now: float, plane: scheduler_pb2.Plane.ValueType
) -> scheduler_pb2.GetClusterStateResponse:
    """Workers ordered by node_id, models by name."""
    totals, statistics, residency = view.totals(), placer.statistics, view.residency()
    return scheduler_pb2.GetClusterStateResponse(
        cache_hit_rate=statistics.cache_hit_rate,
        total_requests=statistics.total_requests,
        active_workers=totals.active_workers,
        average_gpu_utilization=totals.average_gpu_utilization,
        total_queue_depth=min(totals.total_queue_depth, 2**32 - 1),
        workers=[_worker_to_wire(view.entries[node_id], placer, now) for node_id in sorted(view.entries)],
        models=[
            _model_view_to_wire(model, residency.get(name, Residency()), placer.failures.told(name), now)
            for name, model in view.catalogue().items()
        ],
        cache_hits=statistics.hits,
        cold_starts=statistics.cold_starts,
        joins=statistics.joins,
        policy=placer.policy,
        plane=plane,
        version=view.version,
    )


def _worker_to_wire(entry: WorkerEntry, placer: Placer, now: float) -> scheduler_pb2.WorkerView:
    return scheduler_pb2.WorkerView(
        report=state_to_wire(entry.state),
        liveness=LIVENESSES[entry.liveness],
        age_s=entry.age_s(now),
        reservations=placer.reserved(entry.node_id),
    )


def _model_view_to_wire(model: CatalogueModel, where: Residency, passed_over: Iterable[PassedOver], now: float) -> scheduler_pb2.ModelView:
    return scheduler_pb2.ModelView(
        model=catalogue_model_to_wire(model),
        ready_on=where.ready_on,
        loading_on=where.loading_on,
        passed_over=[passed_over_to_wire(each, now) for each in passed_over],
    )


def passed_over_to_wire(passed_over: PassedOver, now: float) -> scheduler_pb2.PassedOverWorker:
    return scheduler_pb2.PassedOverWorker(worker_id=passed_over.node_id, why=passed_over.why, retry_in_s=max(0.0, passed_over.until - now))
