"""The coordinator's metrics, all of them. Called from outside the decision code; gauges are set about once a second by `measure`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge

from roost.cluster.errors import InvalidField, WorkerSuperseded
from roost.cluster.worker_state import Liveness
from roost.placement.decider import Decider
from roost.service.operating.metrics import CommandMetrics
from roost.service.scheduler.metrics import DecisionMetrics


class CoordinatorMetrics(DecisionMetrics):
    """State: the collectors, registered once. `policy` is the label of every decision."""

    def __init__(self, registry: CollectorRegistry, policy: str) -> None:
        super().__init__(registry, policy)
        workers = Gauge("roost_workers", "Known workers by what is believed of their life.", ["liveness"], registry=registry)
        self._workers = {liveness: workers.labels(liveness.value) for liveness in Liveness}
        self._report_age = Gauge("roost_report_age_seconds", "Age of the oldest last report among live workers.", registry=registry)
        reports = Counter("roost_reports", "Reports received, by what became of them.", ["result"], registry=registry)
        self._accepted_reports = reports.labels("accepted")
        self._stale_reports = reports.labels("stale")
        self._invalid_reports = reports.labels("invalid")
        self._superseded = Counter(
            "roost_superseded_streams", "Workers' streams refused or ended because a newer one of that name exists.", registry=registry
        )
        self._reservations = Gauge("roost_reservations", "Decisions that no report has shown yet.", registry=registry)
        self._view_version = Gauge("roost_view_version", "Visible changes of the view since the coordinator started.", registry=registry)
        self.commands = CommandMetrics(registry)

    def reported(self, *, is_accepted: bool) -> None:
        (self._accepted_reports if is_accepted else self._stale_reports).inc()

    def counting_bad_reports(self) -> contextlib.AbstractContextManager[object]:
        """Around the reading of a report: counts it if it is refused as invalid."""
        return self._invalid_reports.count_exceptions(InvalidField)

    @contextlib.contextmanager
    def counting_superseded(self) -> Iterator[None]:
        """Around a worker's stream: counts it if it ends, alone or in a group, with WorkerSuperseded."""
        try:
            yield
        except* WorkerSuperseded:
            self._superseded.inc()
            raise

    def measure(self, decider: Decider, now: float) -> None:
        """One pass over the workers."""
        for liveness, count in decider.view.counts().items():
            self._workers[liveness].set(count)
        live = [entry for entry in decider.view.entries.values() if entry.liveness is Liveness.LIVE]
        self._report_age.set(max((entry.age_s(now) for entry in live), default=0.0))
        self._reservations.set(decider.placer.reservations)
        self._view_version.set(decider.view.version)
