"""Whatever happens in whatever order: each job ends once, slots are counted right, and what a report tells anew is followed by a `Say`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from core_player import MB, Request
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roost.cluster.catalogue import Catalogue, ModelSpec
from roost.cluster.errors import ModelInUse, ModelLoadFailed, ModelTooLarge, NoCapacity, RoostError, WorkerDraining
from roost.cluster.worker_state import CacheResult, ModelStatus, Phase, WorkerState
from roost.worker.core.effects import Close, Grant, Ready, Refuse, Say, StartLoad
from roost.worker.core.jobs import Holder, Job
from roost.worker.core.reports import Reports
from roost.worker.core.residency import Residency, Stage
from roost.worker.core.statuses import SOONEST_READY_S
from roost.worker.core.worker_core import Capacity, WorkerCore

SIZES = {"tiny": 10, "small": 30, "half": 50, "large": 70, "whole": 100, "remote": 0, "huge": 101}
CATALOGUE = Catalogue(
    ModelSpec(name, "simulated" if size else "openai", "published" if size else "http://127.0.0.1:9/v1#m", size * MB, max_parallel=2)
    for name, size in SIZES.items()
)
names = st.sampled_from(sorted(SIZES))


def one_pass(core: WorkerCore, now: float) -> Iterator[ModelStatus]:
    """The statuses, worked out anew from all that is there."""

    def status(residency: Residency, phase: Phase, ready_in_s: float) -> ModelStatus:
        name, size_bytes = residency.name, residency.size_bytes if residency.has_memory else 0
        running, queued = core.slots.running(name), core.slots.queued(name)
        parallel = residency.max_parallel if phase is Phase.READY else core.catalogue.get(name).max_parallel
        return ModelStatus(name, phase, size_bytes, running, queued, ready_in_s, residency.is_pinned, parallel)

    waiting_s = 0.0
    for residency in core.cache.resident:
        if residency.takes_new_requests:
            yield status(residency, Phase.READY, 0.0)
        elif residency.stage is Stage.LOADING:
            remaining_s = max(SOONEST_READY_S, residency.load_started_at + core.expected.load_s(residency.name) - now)
            waiting_s = max(waiting_s, remaining_s)
            yield status(residency, Phase.LOADING, remaining_s)
    waiting_s += max((core.expected.service_s(each.name) for each in core.cache.resident if each.is_retiring), default=0.0)
    for residency in core.cache.waiting:
        waiting_s += max(SOONEST_READY_S, core.expected.load_s(residency.name))
        yield status(residency, Phase.LOADING, waiting_s)


def differing(before: Mapping[str, object], after: Mapping[str, object]) -> set[str]:
    return {name for name in {*before, *after} if before.get(name) != after.get(name)}


class CoreWorld(RuleBasedStateMachine):
    """Plays the driver: loads and closes end when hypothesis says so, and holders come and go."""

    eviction = "lru"

    def __init__(self) -> None:
        super().__init__()
        capacity = Capacity(100 * MB, slots=3, queue_capacity=4, eviction=self.eviction)
        self.core = WorkerCore("worker-1", CATALOGUE, capacity, unmeasured_load_s=lambda spec: spec.size_bytes / MB / 40)
        self.reports = Reports(self.core, epoch=1)
        self.now = 0.0
        self.holders: list[Holder] = []
        self.running: set[Job] = set()
        self.loading: list[Residency] = []
        self.closing: list[Residency] = []
        self.arrived = 0
        self.read: dict[str, WorkerState] = {}  # the last report, by reader
        self.told = self.seen()

    def seen(self) -> WorkerState:
        """What a report tells now, but for what passes with time."""
        state = self.reports.state(self.now, 0.0)
        assert dict(state.models) == {status.name: status for status in one_pass(self.core, self.now)}
        assert self.core.statuses.pinned_bytes == sum(status.size_bytes for status in state.models.values() if status.is_pinned)
        still = {name: replace(status, ready_in_s=float(status.ready_in_s > 0)) for name, status in state.models.items()}
        return replace(state, models=still, outcomes=self.core.outcomes.unsent(), sequence=0)

    def act(self) -> None:
        effects = list(self.core.effects())
        for effect in effects:
            match effect:
                case Grant(job):
                    assert job in self.holders
                    assert job not in self.running, "granted twice"
                    assert job.lease.residency.ready_at <= self.now
                    self.running.add(job)
                case Ready(preload):
                    self.holders.remove(preload)
                case Refuse(holder, _):
                    assert holder not in self.running, "what ran was refused"
                    self.holders.remove(holder)
                case StartLoad(residency):
                    self.loading.append(residency)
                case Close(residency, _):
                    if residency in self.loading:
                        self.loading.remove(residency)
                    self.closing.append(residency)
        says = [effect for effect in effects if isinstance(effect, Say)]
        assert len(says) <= 1
        assert not says or effects[-1] is says[0]
        seen = self.seen()
        assert says or seen == self.told, "a report would tell something new, and nobody was told to say it"
        if says and says[0].is_load_only:
            assert seen.ready_models == self.told.ready_models
        self.told = seen

    @rule(name=names, priority=st.integers(0, 9), has_waited=st.booleans())
    def arrive(self, name: str, priority: int, has_waited: bool) -> None:  # noqa: FBT001  # hypothesis names it
        found = self.core.cache.find(name)
        try:
            job = self.core.arrive(Request(name, priority, f"d-{self.arrived}", has_waited), self.now, waited_s=3.0 * has_waited)
        except (NoCapacity, ModelTooLarge, WorkerDraining):
            assert self.core.outcomes.unsent()[-1].cache_result is CacheResult.REFUSED
        else:
            assert job.cache_result is (CacheResult.JOIN if has_waited and found is CacheResult.HIT else found)
            self.holders.append(job)
        self.arrived += 1
        self.act()

    @rule(name=names, is_pinned=st.booleans())
    def preload(self, name: str, is_pinned: bool) -> None:  # noqa: FBT001  # as above
        try:
            self.holders.append(self.core.preload(name, self.now, is_pinned=is_pinned))
        except RoostError:
            assert SIZES[name] > 100 or self.core.is_draining or self.core.cache.pinned_bytes
        self.act()

    @precondition(lambda self: self.holders)
    @rule(data=st.data(), is_ok=st.booleans())
    def leave(self, data: st.DataObject, is_ok: bool) -> None:  # noqa: FBT001  # as above
        holder = data.draw(st.sampled_from(self.holders))
        self.holders.remove(holder)
        if isinstance(holder, Job):
            self.running.discard(holder)
        self.core.leave(holder, self.now, is_ok=is_ok)
        self.core.leave(holder, self.now, is_ok=is_ok)  # the second time is nothing
        self.act()

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), is_ok=st.booleans(), parallel=st.integers(1, 3))
    def end_load(self, data: st.DataObject, is_ok: bool, parallel: int) -> None:  # noqa: FBT001  # as above
        residency = data.draw(st.sampled_from(self.loading))
        self.loading.remove(residency)
        if is_ok:
            self.core.loaded(residency, parallel, self.now)
        else:
            self.core.failed(residency, ModelLoadFailed(residency.name, "told to"), self.now)
        self.act()

    @precondition(lambda self: self.closing)
    @rule(data=st.data())
    def end_close(self, data: st.DataObject) -> None:
        residency = data.draw(st.sampled_from(self.closing))
        self.closing.remove(residency)
        self.core.closed(residency, self.now)
        self.act()

    @rule(name=names)
    def lose(self, name: str) -> None:
        for residency in [each for each in self.core.cache.resident if each.name == name]:
            self.core.lost(residency, self.now)
            for job in [each for each in self.running if each.lease.residency is residency]:
                self.running.discard(job)
                self.holders.remove(job)
                self.core.leave(job, self.now)
        self.act()

    @rule(name=names)
    def unpin(self, name: str) -> None:
        self.core.unpin(name, self.now)
        self.act()

    @rule(name=names)
    def call_off(self, name: str) -> None:
        self.core.call_off(name, self.now)
        self.act()

    @rule(name=names)
    def unload(self, name: str) -> None:
        try:
            self.core.unload(name, self.now)
        except ModelInUse:
            assert any(holder.model == name for holder in self.holders)
        self.act()

    @rule(resume=st.booleans())
    def drain(self, resume: bool) -> None:  # noqa: FBT001  # as above
        assert self.core.drain(resume=resume) == sum(isinstance(holder, Job) for holder in self.holders)
        self.act()

    @rule(reader=st.sampled_from(["coordinator", "sidecar"]))
    def report(self, reader: str) -> None:
        """What a report says of its changes covers what a reader of the one before finds by comparing."""
        before = self.read.get(reader)
        follows = 0 if before is None else before.sequence
        state = self.reports.next_report(self.now, 0.0, None, has_catalogue=False, outcomes=(), follows=follows)
        self.read[reader] = state
        if before is None:
            assert state.changes is None
            return
        changes = state.changes_from(before)
        assert changes is not None
        assert differing(before.models, state.models) <= set(changes.changed_models)
        assert differing(before.timings, state.timings) <= set(changes.changed_timings)

    @rule(seconds=st.floats(0.0, 5.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def slots_are_those_of_who_runs(self) -> None:
        assert self.core.slots.busy == len(self.running) <= self.core.slots.slots
        assert self.core.slots.unfinished == sum(isinstance(holder, Job) for holder in self.holders)

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Whoever waits, waits for a load, for memory, for a slot, or for a place on its model."""
        if self.loading or self.closing or self.running:
            return
        assert not self.holders


class CostAwareCoreWorld(CoreWorld):
    """The same laws where victims are chosen by what their absence costs."""

    eviction = "cost-aware"


TestCoreWorld = CoreWorld.TestCase
TestCoreWorld.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestCostAwareCoreWorld = CostAwareCoreWorld.TestCase
TestCostAwareCoreWorld.settings = settings(max_examples=20, stateful_step_count=40, deadline=None)
