"""Membership and spread records in, a view to place by out; time is an argument and the cluster is a dictionary."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from roost.cluster.errors import NoWorkers
from roost.cluster.view import ClusterView
from roost.cluster.worker_state import CatalogueModel, Liveness, ModelStatus, Phase, WorkerState
from roost.gossip.core.local_view import ARRIVAL_S, NEVER_S, LocalView, sidecar_terms
from roost.gossip.core.records import records_of
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.events import ColdChanged, Happening, HotChanged, MemberChanged, Peer
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.messages import Status
from roost.gossip.record_format import record_from_bytes, record_to_bytes
from roost.placement.decider import Decider
from roost.placement.decision import Decision
from roost.placement.effects import Answered
from roost.placement.request import PlacementRequest


@dataclass
class World:
    """What the node would know, and the view made of it."""

    loads: dict[str, tuple[Load, float]] = field(default_factory=dict)
    records: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    counters: Counters = field(default_factory=Counters)

    def __post_init__(self) -> None:
        view = ClusterView(dead_after_s=NEVER_S, catalogue=[CatalogueModel("a", "simulated", 100)])
        self.decider = Decider(view, sidecar_terms("g", "expected-wait"), rng=random.Random(1))
        self.local = LocalView(self.decider.hear, view.entries, self, self.counters, read=record_from_bytes, wall_offset_s=1000.0)

    def peers(self) -> tuple[Peer, ...]:
        return ()

    def load_of(self, name: str, now: float) -> tuple[Load, float] | None:
        load = self.loads.get(name)
        return None if load is None else (load[0], now - load[1])

    def keys_of(self, name: str) -> Mapping[str, bytes]:
        return self.records.get(name, {})

    def member(self, happening: Happening, status: Status, name: str = "worker-1") -> None:
        self.local.happened(MemberChanged(happening, Peer(name, ("127.0.0.1", 1), 1, 0, status)))

    def tells(self, name: str = "worker-1", *, liveness: Liveness = Liveness.LIVE, **fields: object) -> None:
        state = WorkerState(name, {"a": ModelStatus("a", Phase.READY)}, **{"epoch": 1, **fields})  # type: ignore[arg-type]
        self.records[name] = {key: record_to_bytes(record) for key, record in records_of(state, liveness, None).items()}
        self.local.happened(ColdChanged(name))

    def load(self, load: Load, at: float, name: str = "worker-1") -> None:
        self.loads[name] = load, at
        self.local.happened(HotChanged((name,)))

    def liveness(self, now: float, name: str = "worker-1") -> Liveness | None:
        self.local.refresh(now)
        entry = self.decider.view.entries.get(name)
        return None if entry is None else entry.liveness

    def decide(self, now: float) -> str:
        self.local.refresh(now)
        return self.decider.placer.decide(PlacementRequest("r", "a"), now).worker_id


def world_with_worker() -> World:
    world = World()
    world.member(Happening.JOINED, Status.ALIVE)
    world.tells()
    world.load(Load(), 10.0)
    return world


def test_the_age_of_an_entry_counts_from_when_its_sidecar_wrote_it_down() -> None:
    world = world_with_worker()
    world.local.refresh(11.5)
    [entry] = world.decider.view.entries.values()
    assert (entry.age_s(12.0), entry.state.timestamp) == (2.0, 1010.0)


@pytest.mark.parametrize(
    ("happening", "status", "after"),
    [
        (Happening.SUSPECTED, Status.SUSPECT, Liveness.SUSPECT),
        (Happening.DIED, Status.DEAD, Liveness.DEAD),
        (Happening.LEFT, Status.LEFT, None),
    ],
)
def test_what_members_believe_of_a_sidecar_holds_for_its_worker(happening: Happening, status: Status, after: Liveness | None) -> None:
    world = world_with_worker()
    assert world.decide(10.1) == "worker-1"
    world.member(happening, status)
    world.load(Load(), 10.2)  # a late record brings nobody back
    assert world.liveness(10.3) is after
    with pytest.raises(NoWorkers):
        world.decide(10.4)


def test_a_refuted_suspicion_gives_the_worker_back_at_once() -> None:
    world = world_with_worker()
    world.member(Happening.SUSPECTED, Status.SUSPECT)
    assert world.liveness(10.3) is Liveness.SUSPECT
    world.member(Happening.RECOVERED, Status.ALIVE)
    assert world.decide(10.4) == "worker-1"


def test_a_sidecars_word_on_its_own_worker_holds() -> None:
    world = world_with_worker()
    for liveness in (Liveness.SUSPECT, Liveness.DEAD, Liveness.LIVE):
        world.tells(liveness=liveness)
        assert world.liveness(10.5) is liveness


def test_a_member_without_a_worker_is_no_worker() -> None:
    world = World()
    world.member(Happening.JOINED, Status.ALIVE)
    assert world.liveness(1.0) is None


def test_a_worker_whose_load_is_not_known_yet_takes_nothing() -> None:
    world = World()
    world.member(Happening.JOINED, Status.ALIVE)
    world.tells()
    with pytest.raises(NoWorkers, match="1 draining"):
        world.decide(1.0)


def test_a_sidecar_that_restarted_without_its_worker_offers_none() -> None:
    world = world_with_worker()
    world.local.refresh(10.1)
    world.records.clear()
    world.member(Happening.RESTARTED, Status.ALIVE)
    assert world.liveness(10.2) is Liveness.SUSPECT
    world.tells(epoch=2)
    assert world.liveness(10.3) is Liveness.LIVE


def test_a_worker_whose_clock_went_back_is_believed_because_its_sidecar_says_so() -> None:
    world = world_with_worker()
    world.tells(epoch=9)
    assert world.liveness(10.1) is Liveness.LIVE
    world.tells(epoch=3)
    assert world.liveness(10.2) is Liveness.LIVE
    assert world.decider.view.entries["worker-1"].state.epoch == 3


def test_reservations_end_with_a_load_that_was_written_after_the_request_arrived() -> None:
    world = world_with_worker()
    world.decide(10.1)
    world.load(Load(busy_slots=1), 10.1 + ARRIVAL_S / 2)
    world.local.refresh(11.0)
    assert world.decider.placer.reserved("worker-1") == 1
    world.load(Load(busy_slots=1), 10.2 + ARRIVAL_S)
    world.local.refresh(11.0)
    assert world.decider.placer.reserved("worker-1") == 0


def test_who_waits_is_decided_when_a_member_that_has_a_worker_is_heard_of() -> None:
    world = World()
    waits = world.decider.ask(PlacementRequest("r", "a", may_queue=True), 10.0)
    world.member(Happening.JOINED, Status.ALIVE)
    world.tells()
    world.local.refresh(10.1)  # nothing is known of its load yet
    world.load(Load(), 10.2)
    world.local.refresh(10.3)
    [answered] = [each for each in world.decider.effects() if isinstance(each, Answered)]
    assert answered.ticket is waits
    assert isinstance(answered.result, Decision)
    assert answered.result.worker_id == "worker-1"


def test_records_that_cannot_be_read_are_counted_and_their_worker_gets_nothing() -> None:
    world = world_with_worker()
    world.local.refresh(10.1)
    world.records["worker-1"] = {"w": b"\xff\xff"}
    world.local.happened(ColdChanged("worker-1"))
    assert world.liveness(10.2) is Liveness.SUSPECT
    assert world.counters["records_invalid"] == 1


def test_a_member_that_the_node_has_forgotten_is_forgotten() -> None:
    world = world_with_worker()
    world.local.refresh(10.1)
    world.local.forget_pruned(["worker-2"], "worker-9", 10.2)
    assert world.liveness(10.2) is None
