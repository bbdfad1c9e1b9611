"""The names and labels of the sidecar's metrics, as Prometheus sees them."""

from __future__ import annotations

import re

from prometheus_client import CollectorRegistry, generate_latest

from roost.cluster.worker_state import Liveness
from roost.gossip.metrics import GossipMetrics, Seen
from roost.gossip.protocol.messages import Status

GOLDEN = """\
roost_decider_wait_seconds_count{priority="0"} 0.0
roost_decider_wait_seconds_sum{priority="0"} 0.0
roost_decision_seconds_count 0.0
roost_decision_seconds_sum 0.0
roost_decisions_total{action="cold_start",policy="random"} 0.0
roost_decisions_total{action="migrate",policy="random"} 0.0
roost_decisions_total{action="serve",policy="random"} 0.0
roost_gossip_bytes_total{direction="in",transport="tcp"} 0.0
roost_gossip_bytes_total{direction="in",transport="udp"} 500.0
roost_gossip_bytes_total{direction="out",transport="tcp"} 0.0
roost_gossip_bytes_total{direction="out",transport="udp"} 300.0
roost_gossip_datagrams_total{direction="in"} 5.0
roost_gossip_datagrams_total{direction="out"} 3.0
roost_gossip_drops_total{reason="wrong_key"} 2.0
roost_gossip_events_total{event="probes_failed"} 1.0
roost_gossip_health_score 2.0
roost_gossip_members{status="alive"} 3.0
roost_gossip_members{status="dead"} 0.0
roost_gossip_members{status="left"} 0.0
roost_gossip_members{status="suspect"} 1.0
roost_gossip_state_bytes_per_second 1500.0
roost_gossip_state_interval_seconds 0.2
roost_gossip_view_age_seconds{stat="max"} 3.0
roost_gossip_view_age_seconds{stat="median"} 0.5
roost_gossip_view_age_seconds{stat="p99"} 3.0
roost_gossip_worker_connected 1.0
roost_recorded_bytes_total 0.0
roost_recording 0.0
roost_reservations 7.0
roost_view_version 9.0
roost_workers{liveness="dead"} 0.0
roost_workers{liveness="live"} 3.0
roost_workers{liveness="suspect"} 0.0
"""


def exposition(registry: CollectorRegistry) -> str:
    """Without the drops that are zero, one for each reason there is, and the priorities but one."""
    lines = sorted(generate_latest(registry).decode().splitlines())
    return "".join(f"{line}\n" for line in lines if not re.search(r"^#|_bucket|_created|drops_total.* 0\.0$|priority=\"[1-9]", line))


def test_the_exposition_is_as_documented() -> None:
    registry = CollectorRegistry()
    metrics = GossipMetrics(registry, "random")
    metrics.measure(
        Seen(
            members={Status.ALIVE: 3, Status.SUSPECT: 1},
            workers={Liveness.LIVE: 3},
            ages_s=[0.5, 3.0, 0.1],
            health_score=2,
            bytes_per_s=1500.0,
            interval_s=0.2,
            reservations=7,
            view_version=9,
            is_worker_here=True,
            counts={"datagrams_in": 5, "datagrams_out": 3, "bytes_in": 500, "bytes_out": 300, "rejected_wrong_key": 2, "probes_failed": 1},
        )
    )
    assert exposition(registry) == GOLDEN
