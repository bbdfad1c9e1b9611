"""The core, with time passed in: what reports, silence and lost streams do to the view and to decisions."""

from __future__ import annotations

import random
from types import MappingProxyType

import pytest

from roost.cluster.errors import NoWorkers, UnknownModel
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CacheResult, CatalogueModel, DecisionOutcome, Liveness, ModelStatus, Phase, WorkerState
from roost.coordinator.central import Central, Change
from roost.placement.placer import Placer
from roost.placement.request import PlacementRequest

MODELS = (CatalogueModel("sim-a", "simulated", 100), CatalogueModel("sim-b", "simulated", 100))


def make_central() -> Central:
    view = ClusterView(dead_after_s=10.0, catalogue=MODELS)
    return Central(view, Placer(view, "weighted-score", rng=random.Random(1), decider="c"))


def state(node_id: str = "worker-1", *, epoch: int = 1, sequence: int = 1, ready: tuple[str, ...] = (), **fields: object) -> WorkerState:
    models = MappingProxyType({name: ModelStatus(name, Phase.READY) for name in ready})
    return WorkerState(node_id, models=models, epoch=epoch, sequence=sequence, slots=4, **fields)  # type: ignore[arg-type]


def request(model: str = "sim-a", **fields: object) -> PlacementRequest:
    return PlacementRequest("r", model, **fields)  # type: ignore[arg-type]


def test_a_worker_joins_restarts_and_returns() -> None:
    central = make_central()
    changes = [
        central.report(state(), 0.0, is_streamed=True, stream=1).change,
        central.report(state(sequence=2), 1.0, is_streamed=True, stream=1).change,
        central.report(state(epoch=2), 2.0, is_streamed=True, stream=2).change,
    ]
    assert central.stream_lost("worker-1", 2, 3.0, stream=2)
    changes.append(central.report(state(epoch=2, sequence=2), 4.0, is_streamed=True, stream=3).change)
    assert changes == [Change.JOINED, None, Change.RESTARTED, Change.RETURNED]


def test_a_suspect_worker_gets_no_work_and_a_silent_one_dies() -> None:
    central = make_central()
    central.report(state(ready=("sim-a",)), 0.0, is_streamed=True, stream=1)
    assert central.decide(request(), 0.1).worker_id == "worker-1"
    central.stream_lost("worker-1", 1, 1.0, stream=1)
    with pytest.raises(NoWorkers):
        central.decide(request(), 1.1)
    assert central.advance(9.0) == []
    [change] = central.advance(10.5)
    assert (change.node_id, change.after) == ("worker-1", Liveness.DEAD)


def test_an_older_life_is_told_which_later_one_is_known() -> None:
    central = make_central()
    central.report(state(epoch=7), 0.0, is_streamed=True, stream=1)
    reported = central.report(state(epoch=6, sequence=99), 1.0, is_streamed=True, stream=2)
    assert (reported.is_accepted, reported.later_epoch) == (False, 7)
    reported = central.report(state(epoch=7, sequence=1), 1.0, is_streamed=True, stream=1)
    assert (reported.is_accepted, reported.later_epoch) == (False, 0)


def test_an_outcome_drops_the_reservation_and_corrects_the_statistics() -> None:
    central = make_central()
    central.report(state(ready=("sim-a",)), 0.0, is_streamed=True, stream=1)
    decision = central.decide(request(), 0.1)
    assert central.placer.reserved("worker-1") == 1
    outcome = DecisionOutcome(decision.decision_id, CacheResult.COLD_START)
    central.report(state(sequence=2, ready=("sim-a",), outcomes=(outcome,)), 0.2, is_streamed=True, stream=1)
    statistics = central.placer.statistics
    assert central.placer.reserved("worker-1") == 0
    assert (statistics.hits, statistics.cold_starts, statistics.total_requests) == (0, 1, 1)


def test_a_stale_report_settles_nothing() -> None:
    central = make_central()
    central.report(state(sequence=5, ready=("sim-a",)), 0.0, is_streamed=True, stream=1)
    decision = central.decide(request(), 0.1)
    outcome = DecisionOutcome(decision.decision_id, CacheResult.HIT)
    central.report(state(sequence=4, outcomes=(outcome,)), 0.2, is_streamed=True, stream=1)
    assert central.placer.reserved("worker-1") == 1


def test_reservations_expire_with_time_alone() -> None:
    central = make_central()
    central.report(state(ready=("sim-a",)), 0.0, is_streamed=True, stream=1)
    central.decide(request(), 0.1)
    central.advance(9.0)
    assert central.placer.reservations == 0


def test_what_a_watcher_sees_changes_the_mark_and_nothing_else_does() -> None:
    central = make_central()
    marks = [central.mark]
    central.report(state(ready=("sim-a",)), 0.0, is_streamed=True, stream=1)
    marks.append(central.mark)
    central.decide(request(), 0.1)
    marks.append(central.mark)
    assert len(set(marks)) == 3
    central.report(state(sequence=2, ready=("sim-a",)), 1.0, is_streamed=True, stream=1)
    with pytest.raises(UnknownModel):
        central.decide(request("sim-x"), 1.1)
    assert central.mark == marks[-1]


def test_a_worker_may_take_what_it_can_load_while_it_is_live_and_not_draining() -> None:
    central = make_central()
    central.report(state(), 0.0, is_streamed=True, stream=1)
    assert central.may_take("worker-1", request())
    assert not central.may_take("worker-1", request("sim-x"))
    assert not central.may_take("worker-1", request(excluded=frozenset({"worker-1"})))
    assert not central.may_take("worker-9", request())
    central.report(state(sequence=2, is_draining=True), 1.0, is_streamed=True, stream=1)
    assert not central.may_take("worker-1", request())
    assert central.report(state(sequence=3), 2.0, is_streamed=True, stream=1).has_opened
