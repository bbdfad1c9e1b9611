"""What a run leaves behind, as immutable values: one record a request, one sample a worker and moment, and the run that holds them.

Runs of the simulator and runs on real processes are written down in the same words, so that one summary serves both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

HIT: Final = "hit"  # the model was ready when the request reached the worker
COLD_START: Final = "cold_start"  # the request caused a load
JOIN: Final = "join"  # it waited for a load already under way
FAILED: Final = "failed"  # it was begun and lost, or nobody could be asked
REFUSED: Final = "refused"  # nobody would take it
RESULTS: Final = (HIT, COLD_START, JOIN, FAILED, REFUSED)
SERVED: Final = (HIT, COLD_START, JOIN)

_NO_TOTALS: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request, as its client saw it. Times in seconds of the run.

    `wait_s` from arrival to the start of service, `ttft_s` to the first token, `sojourn_s` to the last; each 0.0 where it never came to
    that, but a failed request's `sojourn_s` is how long it took to fail. `queue_s` and `load_s` are the parts of the wait at the worker:
    for a slot, and for the model. `action` is what the last decision expected, "" if there was none; `worker` likewise.
    """

    request_id: int
    arrival_s: float
    model: str
    worker: str
    action: str
    result: str
    wait_s: float
    ttft_s: float
    sojourn_s: float
    attempts: int
    queue_s: float
    load_s: float

    @property
    def is_served(self) -> bool:
        return self.result in SERVED


@dataclass(frozen=True, slots=True)
class WorkerSample:
    """One worker at one moment. `gpu_utilization` 0.0-1.0 is that of the time since the sample before."""

    at_s: float
    worker: str
    queue_depth: int
    busy_slots: int
    slots: int
    gpu_utilization: float


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run. `plane` is central, gossip or hybrid; `events` are (at_s, what) of faults and of what was noticed of them.

    `requests` are in order of arrival, `samples` in order of time. `totals` are counts and seconds by name.
    """

    plane: str
    policy: str
    seed: int
    duration_s: float
    workers: tuple[str, ...]
    requests: tuple[RequestRecord, ...]
    samples: tuple[WorkerSample, ...] = ()
    events: tuple[tuple[float, str], ...] = ()
    totals: Mapping[str, float] = field(default_factory=lambda: _NO_TOTALS)
