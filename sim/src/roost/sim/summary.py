"""Numbers of a run: hit rate, quantiles, evenness, throughput. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev

from roost.sim.records import HIT, RequestRecord, RunRecord, WorkerSample

NAN = float("nan")


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lie, interpolated between neighbours; NaN of nothing."""
    if not 0.0 <= share <= 1.0:
        raise ValueError(f"share must be 0.0-1.0 (got {share})")
    ordered = sorted(values)
    if not ordered:
        return NAN
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def mean(values: Sequence[float]) -> float:
    """NaN of nothing."""
    return fmean(values) if values else NAN


def jains_index(values: Sequence[float]) -> float:
    """(Σx)² / (n Σx²): 1.0 if all are equal, 1/n if one has everything (Jain, Chiu, Hawe, 1984). 1.0 of nothing and of zeros."""
    squares = math.fsum(value * value for value in values)  # not `sum`, which rounds otherwise since Python 3.12
    return math.fsum(values) ** 2 / (len(values) * squares) if squares else 1.0


def hit_rate(requests: Iterable[RequestRecord]) -> float:
    """Hits among those that were served; NaN if none was."""
    served = [request.result for request in requests if request.is_served]
    return served.count(HIT) / len(served) if served else NAN


def success_rate(requests: Sequence[RequestRecord]) -> float:
    """Served ones among all; NaN of none."""
    return sum(request.is_served for request in requests) / len(requests) if requests else NAN


def throughput(run: RunRecord) -> float:
    """Requests served to the end within the duration, a second."""
    ended = sum(request.is_served and request.arrival_s + request.sojourn_s <= run.duration_s for request in run.requests)
    return ended / run.duration_s if run.duration_s > 0 else NAN


@dataclass(frozen=True, slots=True)
class Evenness:
    """How evenly the workers were used: of the mean over time of each, the spread over workers."""

    mean: float
    standard_deviation: float
    jain: float


def evenness(by_worker: Mapping[str, float]) -> Evenness:
    values = list(by_worker.values())
    return Evenness(mean(values), pstdev(values) if values else NAN, jains_index(values))


def mean_by_worker(samples: Iterable[WorkerSample], what: str) -> dict[str, float]:
    """The mean over time of one field of the samples ("queue_depth", "busy_slots", "gpu_utilization"), by worker."""
    found: dict[str, list[float]] = {}
    for sample in samples:
        found.setdefault(sample.worker, []).append(float(getattr(sample, what)))
    return {worker: fmean(values) for worker, values in found.items()}


def requests_by_worker(run: RunRecord) -> dict[str, float]:
    """How many requests each worker served, those included that served none."""
    counts = dict.fromkeys(run.workers, 0.0)
    for request in run.requests:
        if request.is_served:
            counts[request.worker] = counts.get(request.worker, 0.0) + 1.0
    return counts


@dataclass(frozen=True, slots=True)
class Summary:
    """The line of a table. Seconds; NaN where nothing was measured."""

    plane: str
    policy: str
    seed: int
    requests: int
    served: int
    success_rate: float
    hit_rate: float
    ttft_p50_s: float
    ttft_p95_s: float
    ttft_p99_s: float
    wait_mean_s: float
    sojourn_p50_s: float
    sojourn_p95_s: float
    throughput_per_s: float
    evenness_of_requests: float
    evenness_of_utilization: float


def summarize(run: RunRecord) -> Summary:
    served = [request for request in run.requests if request.is_served]
    first = sorted(request.ttft_s for request in served)
    whole = sorted(request.sojourn_s for request in served)
    return Summary(
        plane=run.plane,
        policy=run.policy,
        seed=run.seed,
        requests=len(run.requests),
        served=len(served),
        success_rate=success_rate(run.requests),
        hit_rate=hit_rate(served),
        ttft_p50_s=quantile(first, 0.5),
        ttft_p95_s=quantile(first, 0.95),
        ttft_p99_s=quantile(first, 0.99),
        wait_mean_s=mean([request.wait_s for request in served]),
        sojourn_p50_s=quantile(whole, 0.5),
        sojourn_p95_s=quantile(whole, 0.95),
        throughput_per_s=throughput(run),
        evenness_of_requests=jains_index(list(requests_by_worker(run).values())),
        evenness_of_utilization=jains_index(list(mean_by_worker(run.samples, "gpu_utilization").values())),
    )
