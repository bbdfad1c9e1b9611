"""The sidecar's metrics, all of them. Counts are the node's and its driver's own, read once a second as the gauges are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from roost.cluster.worker_state import Liveness
from roost.gossip.protocol.messages import Status
from roost.gossip.protocol.wire import REJECTIONS
from roost.service.operating.metrics import CommandMetrics
from roost.service.scheduler.metrics import DecisionMetrics

# What the node and the driver count, by what the count means. Everything else that they count is in roost_gossip_events_total.
_DATAGRAMS: Final = {"in": "datagrams_in", "out": "datagrams_out"}
_BYTES: Final = {
    ("in", "udp"): "bytes_in",
    ("out", "udp"): "bytes_out",
    ("in", "tcp"): "stream_bytes_in",
    ("out", "tcp"): "stream_bytes_out",
}
_REJECTED: Final = "rejected_"
_DROPS: Final = (
    "packets_of_my_name", "send_blocked", "send_failed", "receive_failed", "outbox_full", "frame_too_large", "streams_full",
    "streams_crowded", "streams_broken", "streams_failed", "streams_unexpected", "records_of_strangers", "deltas_of_strangers",
    "relays_full", "events_lost", "records_invalid", "view_full", "publish_too_large",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """What the metrics show, at one moment. `counts` are all counters by name."""

    members: Mapping[Status, int]
    workers: Mapping[Liveness, int]
    ages_s: Sequence[float]
    health_score: int
    bytes_per_s: float
    interval_s: float
    reservations: int
    view_version: int
    is_worker_here: bool
    counts: Mapping[str, int]


class GossipMetrics(DecisionMetrics):
    """State: the collectors, registered once, and what was last seen."""

    def __init__(self, registry: CollectorRegistry, policy: str) -> None:
        super().__init__(registry, policy)
        self.commands = CommandMetrics(registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"roost_{name}", text, labels, registry=registry)

        members = gauge("gossip_members", "Members of the cluster by what is believed of their life, this one included.", "status")
        self._members = {status: members.labels(status.name.lower()) for status in Status}
        workers = gauge("workers", "Known workers by what is believed of their life.", "liveness")
        self._workers = {liveness: workers.labels(liveness.value) for liveness in Liveness}
        ages = gauge("gossip_view_age_seconds", "Age of the load records of members that are alive, by their owners' writing.", "stat")
        self._ages = {stat: ages.labels(stat) for stat in ("median", "p99", "max")}
        self._health = gauge("gossip_health_score", "Local health by Lifeguard: 0 is well; probes wait (score + 1) times as long.")
        self._rate = gauge("gossip_state_bytes_per_second", "Datagram bytes this member sends, smoothed, as its budget counts them.")
        self._interval = gauge("gossip_state_interval_seconds", "Time between rounds of state exchange; grows where the budget is short.")
        self._reservations = gauge("reservations", "Decisions that no report has shown yet.")
        self._view_version = gauge("view_version", "Visible changes of the view since the sidecar started.")
        self._worker_connected = gauge("gossip_worker_connected", "1 while this sidecar's own worker reports to it.")
        self._counts = _Counts()
        registry.register(self._counts)

    def measure(self, seen: Seen) -> None:
        """Shows what was seen, until this is called again."""
        self._counts.seen = seen.counts
        for status, gauge in self._members.items():
            gauge.set(seen.members.get(status, 0))
        for liveness, gauge in self._workers.items():
            gauge.set(seen.workers.get(liveness, 0))
        ages = sorted(seen.ages_s)
        for stat, share in (("median", 0.5), ("p99", 0.99), ("max", 1.0)):
            self._ages[stat].set(ages[min(len(ages) - 1, int(share * len(ages)))] if ages else 0.0)
        self._health.set(seen.health_score)
        self._rate.set(seen.bytes_per_s)
        self._interval.set(seen.interval_s)
        self._reservations.set(seen.reservations)
        self._view_version.set(seen.view_version)
        self._worker_connected.set(seen.is_worker_here)


class _Counts(Collector):
    """Counters that the node and the driver keep themselves, as of the last look: scrapes come from another thread.

    Their names come from the code, so the labels are bounded.
    """

    def __init__(self) -> None:
        self.seen: Mapping[str, int] = {}

    def collect(self) -> Iterable[Metric]:
        counts = dict(self.seen)
        packets = CounterMetricFamily("roost_gossip_datagrams", "Datagrams sent and received.", labels=["direction"])
        for direction, name in _DATAGRAMS.items():
            packets.add_metric([direction], counts.pop(name, 0))
        volume = CounterMetricFamily("roost_gossip_bytes", "Bytes sent and received.", labels=["direction", "transport"])
        for (direction, transport), name in _BYTES.items():
            volume.add_metric([direction, transport], counts.pop(name, 0))
        drops = CounterMetricFamily("roost_gossip_drops", "What was dropped, by why; never logged one by one.", labels=["reason"])
        for reason in REJECTIONS:
            drops.add_metric([reason], counts.pop(_REJECTED + reason, 0))
        for name in _DROPS:
            drops.add_metric([name], counts.pop(name, 0))
        events = CounterMetricFamily("roost_gossip_events", "Everything else that the protocol counts.", labels=["event"])
        for name in sorted(counts):
            events.add_metric([name], counts[name])
        return (packets, volume, drops, events)
