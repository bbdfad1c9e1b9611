"""The worker's exposition, held by a golden text."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry, generate_latest

from roost.cluster.worker_state import CacheResult, GpuSource, ModelStatus, Phase, WorkerState
from roost.worker.core.effects import Close, Grant
from roost.worker.core.jobs import Job
from roost.worker.core.residency import Lease, Residency
from roost.worker.metrics import LOOKUP_RESULTS, MAX_MODEL_LABELS, WorkerMetrics

GOLDEN = """\
roost_busy_slots 1.0
roost_cache_bytes 40.0
roost_cache_capacity_bytes 100.0
roost_cache_lookups_total{model="a",result="hit"} 1.0
roost_cache_lookups_total{model="a",result="join"} 1.0
roost_cache_lookups_total{model="a",result="miss"} 1.0
roost_decider_connected{decider="coordinator"} 1.0
roost_draining 0.0
roost_evictions_total{model="a"} 1.0
roost_gpu_utilization_ratio{source="busy_slots"} 0.5
roost_model_load_seconds_count{model="a"} 1.0
roost_model_load_seconds_sum{model="a"} 0.3
roost_model_loads_total{model="a",result="failed"} 1.0
roost_model_loads_total{model="a",result="ok"} 1.0
roost_queue_depth{priority="0"} 2.0
roost_queue_depth{priority="1"} 0.0
roost_queue_depth{priority="2"} 0.0
roost_queue_depth{priority="3"} 0.0
roost_queue_depth{priority="4"} 0.0
roost_queue_depth{priority="5"} 0.0
roost_queue_depth{priority="6"} 0.0
roost_queue_depth{priority="7"} 0.0
roost_queue_depth{priority="8"} 0.0
roost_queue_depth{priority="9"} 1.0
roost_queue_wait_seconds_count{priority="0"} 1.0
roost_queue_wait_seconds_sum{priority="0"} 0.25
roost_request_duration_seconds_count{model="a"} 1.0
roost_request_duration_seconds_sum{model="a"} 2.0
roost_requests_total{model="a",result="cancelled"} 1.0
roost_requests_total{model="a",result="failed"} 1.0
roost_requests_total{model="a",result="ok"} 1.0
roost_requests_total{model="a",result="refused"} 1.0
roost_resident_models{phase="loading"} 0.0
roost_resident_models{phase="ready"} 1.0
roost_resumes_total{exactness="approximate",model="a"} 1.0
roost_resumes_total{exactness="exact",model="a"} 2.0
roost_slots 2.0
roost_time_to_first_token_seconds_count{cache="hit",model="a"} 1.0
roost_time_to_first_token_seconds_sum{cache="hit",model="a"} 0.5
roost_tokens_generated_total{model="a"} 1.0
"""


def exposition(registry: CollectorRegistry) -> str:
    lines = generate_latest(registry).decode().splitlines()
    return "".join(f"{line}\n" for line in sorted(lines) if not re.search(r"^#|_bucket|_created", line))


def state(source: GpuSource = GpuSource.BUSY_SLOTS) -> WorkerState:
    return WorkerState(
        node_id="w",
        models={"a": ModelStatus("a", Phase.READY, 40)},
        queue_depth=3,
        queue_by_priority=(2, 0, 0, 0, 0, 0, 0, 0, 0, 1),
        gpu_utilization=0.5,
        gpu_source=source,
        memory_capacity_bytes=100,
        memory_used_bytes=40,
        slots=2,
        busy_slots=1,
    )


def evicted(name: str) -> Close:
    return Close(Residency(1, name, 40), is_eviction=True)


def test_the_exposition_is_what_dashboards_rely_on() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    for result in LOOKUP_RESULTS:
        metrics.looked_up("a", result)
    metrics.load_ended("a", is_ok=True, seconds=0.3)
    metrics.load_ended("a", is_ok=False, seconds=0.0)
    metrics.watch(evicted("a"))
    residency = Residency(1, "a", 40)
    metrics.watch(Grant(Job("a", 0, 1.0, CacheResult.HIT, Lease(residency), granted_at=1.25)))
    metrics.watch(Close(residency, is_eviction=False))
    metrics.first_token("a", CacheResult.HIT, 0.5)
    metrics.generated("a")
    for is_exact in (True, True, False):
        metrics.resumed("a", is_exact=is_exact)
    for ended in ("ok", "cancelled", "failed"):
        metrics.request_ended("a", ended, 2.0)
    metrics.refused("a")
    metrics.connected("coordinator", is_connected=True)
    metrics.show(state())
    assert exposition(registry) == GOLDEN


def test_only_the_source_that_is_in_use_is_shown() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    metrics.show(state(GpuSource.BUSY_SLOTS))
    metrics.show(state(GpuSource.NVML))
    shown = [line for line in exposition(registry).splitlines() if line.startswith("roost_gpu")]
    assert shown == ['roost_gpu_utilization_ratio{source="nvml"} 0.5']


def test_beyond_sixty_four_models_the_rest_are_other() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    for number in range(MAX_MODEL_LABELS + 10):
        metrics.watch(evicted(f"m{number}"))
    shown = [line for line in exposition(registry).splitlines() if line.startswith("roost_evictions_total")]
    assert len(shown) == MAX_MODEL_LABELS + 1
    assert 'roost_evictions_total{model="other"} 10.0' in shown
