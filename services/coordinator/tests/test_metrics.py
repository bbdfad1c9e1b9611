"""The names, labels and help texts of the coordinator's metrics, as Prometheus sees them."""

from __future__ import annotations

import random

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from roost.cluster.errors import InvalidField, UnknownModel, WorkerSuperseded, WorkerUnreachable
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import ModelStatus, Phase, WorkerState
from roost.coordinator.metrics import CoordinatorMetrics
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.dispatcher import Ticket
from roost.placement.effects import Answered
from roost.placement.facts import Reported, StreamLost, TimePassed
from roost.placement.request import PlacementRequest
from roost.placement.terms import Terms

GOLDEN = """\
# HELP roost_decisions_total Requests given a worker, by what it will do.
# TYPE roost_decisions_total counter
roost_decisions_total{action="serve",policy="weighted-score"} 2.0
roost_decisions_total{action="cold_start",policy="weighted-score"} 0.0
roost_decisions_total{action="migrate",policy="weighted-score"} 0.0
# HELP roost_refusals_total Requests given no worker, by reason.
# TYPE roost_refusals_total counter
roost_refusals_total{reason="UNKNOWN_MODEL"} 1.0
# HELP roost_decision_seconds Time one decision took, without the call around it.
# TYPE roost_decision_seconds histogram
roost_decision_seconds_bucket{le="1e-06"} 0.0
roost_decision_seconds_bucket{le="2e-06"} 0.0
roost_decision_seconds_bucket{le="5e-06"} 1.0
roost_decision_seconds_bucket{le="1e-05"} 1.0
roost_decision_seconds_bucket{le="2e-05"} 1.0
roost_decision_seconds_bucket{le="5e-05"} 1.0
roost_decision_seconds_bucket{le="0.0001"} 1.0
roost_decision_seconds_bucket{le="0.0002"} 1.0
roost_decision_seconds_bucket{le="0.0005"} 1.0
roost_decision_seconds_bucket{le="0.001"} 1.0
roost_decision_seconds_bucket{le="0.002"} 1.0
roost_decision_seconds_bucket{le="0.005"} 1.0
roost_decision_seconds_bucket{le="0.01"} 1.0
roost_decision_seconds_bucket{le="+Inf"} 1.0
roost_decision_seconds_count 1.0
roost_decision_seconds_sum 3e-06
# HELP roost_decider_wait_seconds Time requests waited in the decider before they were bound to a worker; without those decided at once.
# TYPE roost_decider_wait_seconds histogram
roost_decider_wait_seconds_bucket{le="0.005",priority="3"} 0.0
roost_decider_wait_seconds_bucket{le="0.01",priority="3"} 0.0
roost_decider_wait_seconds_bucket{le="0.025",priority="3"} 0.0
roost_decider_wait_seconds_bucket{le="0.05",priority="3"} 0.0
roost_decider_wait_seconds_bucket{le="0.1",priority="3"} 0.0
roost_decider_wait_seconds_bucket{le="0.25",priority="3"} 1.0
roost_decider_wait_seconds_bucket{le="0.5",priority="3"} 1.0
roost_decider_wait_seconds_bucket{le="1.0",priority="3"} 1.0
roost_decider_wait_seconds_bucket{le="2.5",priority="3"} 1.0
roost_decider_wait_seconds_bucket{le="5.0",priority="3"} 1.0
roost_decider_wait_seconds_bucket{le="10.0",priority="3"} 1.0
roost_decider_wait_seconds_bucket{le="30.0",priority="3"} 1.0
roost_decider_wait_seconds_bucket{le="+Inf",priority="3"} 1.0
roost_decider_wait_seconds_count{priority="3"} 1.0
roost_decider_wait_seconds_sum{priority="3"} 0.25
# HELP roost_recording 1 while decisions are written to the file of --record.
# TYPE roost_recording gauge
roost_recording 1.0
# HELP roost_recorded_bytes_total Bytes written to the file of --record.
# TYPE roost_recorded_bytes_total counter
roost_recorded_bytes_total 120.0
# HELP roost_workers Known workers by what is believed of their life.
# TYPE roost_workers gauge
roost_workers{liveness="live"} 1.0
roost_workers{liveness="suspect"} 1.0
roost_workers{liveness="dead"} 0.0
# HELP roost_report_age_seconds Age of the oldest last report among live workers.
# TYPE roost_report_age_seconds gauge
roost_report_age_seconds 1.5
# HELP roost_reports_total Reports received, by what became of them.
# TYPE roost_reports_total counter
roost_reports_total{result="accepted"} 1.0
roost_reports_total{result="stale"} 1.0
roost_reports_total{result="invalid"} 1.0
# HELP roost_superseded_streams_total Workers' streams refused or ended because a newer one of that name exists.
# TYPE roost_superseded_streams_total counter
roost_superseded_streams_total 2.0
# HELP roost_reservations Decisions that no report has shown yet.
# TYPE roost_reservations gauge
roost_reservations 1.0
# HELP roost_view_version Visible changes of the view since the coordinator started.
# TYPE roost_view_version gauge
roost_view_version 3.0
# HELP roost_commands_total Commands to workers, by what became of them.
# TYPE roost_commands_total counter
roost_commands_total{command="load_model",result="ok"} 1.0
roost_commands_total{command="drain",result="worker_unreachable"} 1.0
"""


def test_the_exposition_is_as_documented() -> None:
    registry = CollectorRegistry()
    metrics = CoordinatorMetrics(registry, "weighted-score")
    decider = Decider(ClusterView(), Terms("c", "weighted-score"), rng=random.Random(1))
    for number in (1, 2):
        state = WorkerState(f"worker-{number}", {"sim-a": ModelStatus("sim-a", Phase.READY)}, epoch=1, sequence=1)
        decider.hear(Reported(state, is_streamed=True, stream=number), 0.5)
    decider.hear(StreamLost("worker-2", 1, 2), 1.0)

    request = PlacementRequest("r", "sim-a", 3)
    decision = decider.ask(request, 1.0)
    metrics.asked(request, 1.0, decision, 3e-6)
    metrics.asked(request, 1.0, UnknownModel("sim-x"), 1e-6)
    assert isinstance(decision, Decision)
    metrics.heard(TimePassed(), 1.25, [Answered(Ticket(1, request, 1.0, found_ready=True), decision)])
    metrics.recorded(True, 120)
    metrics.reported(is_accepted=True)
    metrics.reported(is_accepted=False)
    with pytest.raises(InvalidField), metrics.counting_bad_reports():
        raise InvalidField("gpu_utilization", "is wrong")
    superseded = WorkerSuperseded("worker-1", 1, 2)
    for ended_with in (superseded, ExceptionGroup("a stream's tasks", [superseded])):
        with pytest.raises(ExceptionGroup), metrics.counting_superseded():
            raise ended_with
    with metrics.counting_superseded():
        pass
    metrics.commands.commanded("load_model", "done")
    metrics.commands.commanded("drain", WorkerUnreachable("worker-1", "it is gone"))
    metrics.measure(decider, 2.0)

    lines = generate_latest(registry).decode().splitlines(keepends=True)
    of_others = [f'priority="{priority}"' for priority in range(10) if priority != 3]  # all there from the start, and 0
    assert "".join(line for line in lines if "_created" not in line and not any(other in line for other in of_others)) == GOLDEN
