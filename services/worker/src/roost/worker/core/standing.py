"""Where a request stands, as its caller is told while there is no token to tell. Pure."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from roost.worker.core.jobs import Job
from roost.worker.core.residency import Stage
from roost.worker.core.worker_core import WorkerCore

ALMOST: Final = 0.99  # what takes longer than expected is not done for that


class GenerationPhase(enum.Enum):
    """See GenerationPhase in worker.proto."""

    QUEUED = "queued"
    LOADING = "loading"
    PREFILL = "prefill"
    DECODE = "decode"


@dataclass(frozen=True, slots=True)
class Standing:
    """See Progress in worker.proto. `fraction` is 0.0-1.0 of the phase, `eta_s` seconds until it is expected to end; 0.0: not known."""

    phase: GenerationPhase
    ahead: int = 0
    fraction: float = 0.0
    eta_s: float = 0.0


def waiting(core: WorkerCore, job: Job, now: float) -> Standing:
    """Where a job stands that holds no slot yet. `now` is the core's clock."""
    residency = job.lease.residency
    if residency.stage is Stage.READY:
        ahead = core.slots.ahead(job, now)
        return Standing(GenerationPhase.QUEUED, ahead=ahead, eta_s=core.times.mean_service_s() * (ahead + 1) / core.slots.slots)
    expected_s = core.expected.load_s(job.model)
    if residency.stage is not Stage.LOADING:  # there is no memory for it yet
        return Standing(GenerationPhase.LOADING, eta_s=expected_s)
    loading_s = now - residency.load_started_at
    fraction = min(ALMOST, loading_s / expected_s) if expected_s > 0 else 0.0
    return Standing(GenerationPhase.LOADING, fraction=fraction, eta_s=max(0.0, expected_s - loading_s))


def reading(read: int, of: int, reading_s: float) -> Standing:
    """So many of so many tokens were read in so many seconds."""
    if not (0 < read <= of):
        return Standing(GenerationPhase.PREFILL)
    return Standing(GenerationPhase.PREFILL, fraction=read / of, eta_s=reading_s * (of - read) / read)
