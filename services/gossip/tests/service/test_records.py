"""A worker's state as records and back, and which changes are told."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.errors import InvalidField
from roost.cluster.worker_state import (
    CacheCounters,
    CatalogueModel,
    Failing,
    GpuSource,
    Liveness,
    ModelStatus,
    ModelTiming,
    Phase,
    WorkerState,
)
from roost.gossip.core.publishing import Publishing
from roost.gossip.core.records import MODEL, SIDECAR, Record, load_of, records_of, told_by
from roost.gossip.protocol.cold_state import MAX_COLD_VALUE_BYTES, ColdLimit, ColdState
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.hot_state import Load
from roost.gossip.record_format import record_from_bytes, record_to_bytes

names = st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20)
seconds = st.floats(0, 1e4)
statuses = st.builds(ModelStatus, names, st.sampled_from(Phase), st.integers(0, 2**50), is_pinned=st.booleans())
states = st.builds(
    lambda models, timings, **fields: WorkerState("worker-1", {each.name: each for each in models}, timings=timings, **fields),
    models=st.lists(statuses, max_size=5),
    timings=st.dictionaries(names, st.builds(ModelTiming, seconds, seconds), max_size=5),
    epoch=st.integers(0, 2**63),
    address=st.sampled_from(["", "10.0.0.1:8001", "[::1]:8001"]),
    memory_capacity_bytes=st.integers(0, 2**60),
    slots=st.integers(1, 4096),
    cache=st.none() | st.builds(CacheCounters, *[st.integers(0, 2**64 - 1)] * 5),
    gpu_source=st.sampled_from(GpuSource),
    failing=st.dictionaries(names, st.builds(Failing, st.integers(1, 2**32 - 1), st.integers(0, 2**32 - 1), st.text(max_size=80))),
)
catalogues = st.none() | st.lists(
    st.builds(CatalogueModel, names, names, st.integers(0, 2**60)), max_size=5, unique_by=lambda m: m.name
).map(lambda models: tuple(sorted(models, key=lambda model: model.name)))


def written(records: Mapping[str, Record]) -> dict[str, bytes]:
    return {key: record_to_bytes(record) for key, record in records.items()}


def read(records: Mapping[str, bytes]) -> dict[str, Record]:
    found = ((key, record_from_bytes(key, data)) for key, data in records.items())
    return {key: record for key, record in found if record is not None}


@given(states, catalogues, st.sampled_from([Liveness.LIVE, Liveness.SUSPECT]))
def test_what_is_told_is_what_is_heard(state: WorkerState, catalogue: tuple[CatalogueModel, ...] | None, liveness: Liveness) -> None:
    told = told_by("worker-1", read(written(records_of(state, liveness, catalogue))))
    assert told is not None
    assert told.liveness is liveness
    used_bytes = sum(model.size_bytes for model in state.models.values())
    assert told.state == replace(state, catalogue=catalogue, memory_used_bytes=used_bytes)


@given(states, catalogues)
def test_every_record_fits_a_packet(state: WorkerState, catalogue: tuple[CatalogueModel, ...] | None) -> None:
    assert all(len(value) <= MAX_COLD_VALUE_BYTES for value in written(records_of(state, Liveness.LIVE, catalogue)).values())


@given(st.dictionaries(st.sampled_from(["w", "m/a", "t/a", "c/a", "f/a", "s", "x", "m/"]), st.binary(max_size=40)))
def test_whatever_another_member_tells_is_read_or_refused(records: Mapping[str, bytes]) -> None:
    with contextlib.suppress(InvalidField):
        told_by("worker-1", read(records))


def state(**fields: object) -> WorkerState:
    models = {"sim-a": ModelStatus("sim-a", Phase.LOADING, 100, ready_in_s=2.0)}
    return WorkerState("worker-1", **{"models": models, "epoch": 1, **fields})  # type: ignore[arg-type]


def test_a_worker_that_is_gone_holds_nothing_and_one_that_is_away_takes_nothing() -> None:
    assert not any(key.startswith(MODEL) for key in records_of(state(), Liveness.DEAD, None))
    assert load_of(state(), Liveness.LIVE) == Load()
    assert load_of(state(), Liveness.SUSPECT) == Load(is_draining=True)


def test_a_load_comes_nearer_to_its_end_while_nothing_is_told() -> None:
    told = told_by("worker-1", records_of(state(), Liveness.LIVE, None))
    assert told is not None
    nearer = told.with_load(Load(queue_depth=2), timestamp=5.0, told_for_s=0.5)
    assert (nearer.models["sim-a"].ready_in_s, nearer.queue_depth, nearer.timestamp) == (1.5, 2, 5.0)
    assert told.with_load(Load(), timestamp=5.0, told_for_s=99).models["sim-a"].ready_in_s == pytest.approx(0.05)


def test_a_catalogue_that_has_not_arrived_as_a_whole_is_not_taken_for_the_whole() -> None:
    records = records_of(state(), Liveness.LIVE, (CatalogueModel("a", "simulated", 1), CatalogueModel("b", "simulated", 1)))
    del records["c/a"]
    told = told_by("worker-1", records)
    assert told is not None
    assert told.state.catalogue is None


class Replica:
    """What the node would hold."""

    def __init__(self) -> None:
        self.cold = ColdState(1)
        self.writes: list[Mapping[str, bytes | None]] = []

    def publish(self, changes: Mapping[str, bytes | None]) -> None:
        self.cold.write(changes)
        self.writes.append(changes)


def test_only_what_changed_is_told_and_what_is_gone_is_deleted() -> None:
    replica, counters = Replica(), Counters()
    publishing = Publishing(replica.publish, counters, write=record_to_bytes)
    publishing.introduce("127.0.0.1:7846")
    publishing.tell(state(), Liveness.LIVE, 0.0)
    publishing.tell(state(queue_depth=7, sequence=2), Liveness.LIVE, 0.0)
    publishing.tell(state(models={"sim-a": ModelStatus("sim-a", Phase.LOADING, 100, ready_in_s=1.0)}), Liveness.LIVE, 0.0)
    assert [sorted(write) for write in replica.writes] == [[SIDECAR], ["m/sim-a", "w"]]
    publishing.tell(state(models={}), Liveness.LIVE, 0.0)
    assert replica.writes[-1] == {"m/sim-a": None}
    publishing.tell(state(models={}), Liveness.SUSPECT, 0.0)
    assert list(replica.writes[-1]) == ["w"]


def test_a_measurement_is_told_anew_when_it_has_moved_by_a_tenth() -> None:
    replica = Replica()
    publishing = Publishing(replica.publish, Counters(), write=record_to_bytes)
    for service_time_s in (1.0, 1.05, 1.09, 1.2):
        publishing.tell(state(timings={"sim-a": ModelTiming(service_time_s)}), Liveness.LIVE, 0.0)
    assert ["t/sim-a" in write for write in replica.writes] == [True, True]


def test_what_fails_is_told_when_it_is_enough_to_ask_elsewhere_and_with_each_strike_more() -> None:
    replica = Replica()
    publishing = Publishing(replica.publish, Counters(), write=record_to_bytes)
    for loads, calls in ((0, 2), (0, 3), (0, 3), (1, 3), (0, 0)):
        publishing.tell(state(failing={"sim-a": Failing(loads, calls)} if loads or calls else {}), Liveness.LIVE, 0.0)
    assert ["f/sim-a" in write for write in replica.writes] == [False, True, True, True]
    assert replica.writes[-1] == {"f/sim-a": None}


def test_only_so_much_is_told_of_failures_as_fits() -> None:
    failing = {f"model-{number:04}": Failing(1, 0, "é" * 200) for number in range(256)}
    replica, counters = Replica(), Counters()
    Publishing(replica.publish, counters, write=record_to_bytes).tell(state(failing=failing), Liveness.LIVE, 0.0)
    told = told_by("worker-1", read(replica.cold.items()))
    assert told is not None
    assert (len(told.state.failing), counters["publish_too_large"]) == (32, 0)


def test_what_is_too_much_to_tell_is_left_out_and_counted() -> None:
    counters = Counters()
    told: list[Mapping[str, bytes | None]] = []

    def publish(changes: Mapping[str, bytes | None]) -> None:
        if any(key.startswith("t/") for key in changes):
            raise ColdLimit
        told.append(changes)

    Publishing(publish, counters, write=record_to_bytes).tell(state(timings={"sim-a": ModelTiming(1.0)}), Liveness.LIVE, 0.0)
    assert (sorted(told[0]), counters["publish_too_large"]) == (["m/sim-a", "w"], 1)


def test_a_worker_with_thousands_of_models_is_told_as_far_as_it_fits() -> None:
    models = {f"model-{number:04}": ModelStatus(f"model-{number:04}", Phase.READY, 1) for number in range(3000)}
    catalogue = tuple(CatalogueModel(name, "simulated", 1) for name in models)
    replica = Replica()
    Publishing(replica.publish, Counters(), write=record_to_bytes).tell(state(models=models, catalogue=catalogue), Liveness.LIVE, 0.0)
    told = told_by("worker-1", read(replica.cold.items()))
    assert told is not None
    assert (len(told.state.models), told.state.catalogue) == (500, None)


def test_counts_are_told_at_most_every_five_seconds() -> None:
    replica = Replica()
    publishing = Publishing(replica.publish, Counters(), write=record_to_bytes)
    for number, now in enumerate((0.0, 1.0, 4.9, 5.0, 6.0)):
        publishing.tell(state(cache=CacheCounters(hits=number)), Liveness.LIVE, now)
    publishing.tell(state(models={}, cache=CacheCounters(hits=5)), Liveness.LIVE, 7.0)
    assert [sorted(write) for write in replica.writes] == [["m/sim-a", "n", "w"], ["n"], ["m/sim-a"]]
