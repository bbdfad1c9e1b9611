"""Every metric of the worker. Labels are bounded: beyond 64 models the rest are counted as `other`."""

from __future__ import annotations

from collections import Counter as Tally

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from roost.cluster.names import PRIORITIES
from roost.cluster.worker_state import CacheResult, GpuSource, Phase, WorkerState
from roost.worker.core.effects import Close, Effect, Grant

MAX_MODEL_LABELS = 64
OTHER = "other"
LOOKUP_RESULTS = {CacheResult.HIT: "hit", CacheResult.COLD_START: "miss", CacheResult.JOIN: "join"}

# From a hit on an idle worker (milliseconds) to a long answer of a big model or a load from a slow disk (minutes).
LATENCY_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)


class WorkerMetrics:
    """Owns the worker's metrics in `registry`. State: which model names have a label of their own, at most 64, never taken back."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._labels: set[str] = set()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"roost_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"roost_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"roost_{name}", text, labels, registry=registry, buckets=LATENCY_BUCKETS)

        self._lookups = counter("cache_lookups_total", "What requests found when they reached the model cache.", "model", "result")
        self._loads = counter("model_loads_total", "Loads that ended.", "model", "result")
        self._load_seconds = histogram("model_load_seconds", "From the start of a load to a ready model.", "model")
        self._evictions = counter("evictions_total", "Models put out to make room.", "model")
        self._cache_bytes = gauge("cache_bytes", "Bytes held by resident models.")
        self._cache_capacity = gauge("cache_capacity_bytes", "The memory budget.")
        self._resident = gauge("resident_models", "Resident models.", "phase")
        self._queue_depth = gauge("queue_depth", "Requests accepted and not yet running.", "priority")
        self._queue_wait = histogram("queue_wait_seconds", "From acceptance to holding a slot.", "priority")
        self._slots = gauge("slots", "Requests the worker can run at once.")
        self._busy_slots = gauge("busy_slots", "Requests running.")
        self._gpu = gauge("gpu_utilization_ratio", "Share of the accelerator in use.", "source")
        self._requests = counter("requests_total", "Requests that ended.", "model", "result")
        self._duration = histogram("request_duration_seconds", "From acceptance to the last token.", "model")
        self._first_token = histogram("time_to_first_token_seconds", "From acceptance to the first token.", "model", "cache")
        self._tokens = counter("tokens_generated_total", "Tokens generated.", "model")
        self._resumes = counter("resumes_total", "Generations that were continued here.", "model", "exactness")
        self._connected = gauge("decider_connected", "1 while the coordinator or the sidecar takes this worker's reports.", "decider")
        self._draining = gauge("draining", "1 while the worker takes no new requests.")

    def looked_up(self, model: str, result: CacheResult) -> None:
        self._lookups.labels(self._label(model), LOOKUP_RESULTS[result]).inc()

    def load_ended(self, model: str, *, is_ok: bool, seconds: float) -> None:
        """`seconds` counts for loads that ended with a ready model only."""
        self._loads.labels(self._label(model), "ok" if is_ok else "failed").inc()
        if is_ok:
            self._load_seconds.labels(self._label(model)).observe(seconds)

    def watch(self, effect: Effect) -> None:
        """Counts what the core's effects tell."""
        match effect:
            case Grant(job) if job.granted_at is not None:
                self._queue_wait.labels(str(job.priority)).observe(job.granted_at - job.accepted_at)
            case Close(residency, True):
                self._evictions.labels(self._label(residency.name)).inc()

    def generated(self, model: str, tokens: int = 1) -> None:
        self._tokens.labels(self._label(model)).inc(tokens)

    def resumed(self, model: str, *, is_exact: bool) -> None:
        """A generation that another run began goes on here."""
        self._resumes.labels(self._label(model), "exact" if is_exact else "approximate").inc()

    def first_token(self, model: str, result: CacheResult, seconds: float) -> None:
        self._first_token.labels(self._label(model), LOOKUP_RESULTS[result]).observe(seconds)

    def request_ended(self, model: str, result: str, seconds: float) -> None:
        """`result` is ok, cancelled, failed or refused; durations are those of the ok ones."""
        self._requests.labels(self._label(model), result).inc()
        if result == "ok":
            self._duration.labels(self._label(model)).observe(seconds)

    def refused(self, model: str) -> None:
        """A request was not accepted. Names that no catalogue knows are the caller's, so they count as `other`."""
        self._requests.labels(self._label(model), "refused").inc()

    def connected(self, decider: str, *, is_connected: bool) -> None:
        """`decider` is coordinator or sidecar; one that was never told of has no series."""
        self._connected.labels(decider).set(is_connected)

    def show(self, state: WorkerState) -> None:
        """Sets every gauge to what a report says."""
        self._cache_bytes.set(state.memory_used_bytes)
        self._cache_capacity.set(state.memory_capacity_bytes)
        phases = Tally(status.phase for status in state.models.values())
        for phase in Phase:
            self._resident.labels(phase.value).set(phases[phase])
        for priority in range(PRIORITIES):
            self._queue_depth.labels(str(priority)).set(state.queue_by_priority[priority])
        self._slots.set(state.slots)
        self._busy_slots.set(state.busy_slots)
        for source in (GpuSource.NVML, GpuSource.BUSY_SLOTS):
            if source is state.gpu_source:
                self._gpu.labels(source.value).set(state.gpu_utilization)
            else:
                self._gpu.remove(source.value)
        self._draining.set(state.is_draining)

    def _label(self, model: str) -> str:
        if model in self._labels:
            return model
        if len(self._labels) < MAX_MODEL_LABELS:
            self._labels.add(model)
            return model
        return OTHER
