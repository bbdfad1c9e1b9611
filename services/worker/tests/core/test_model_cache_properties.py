"""Whatever happens in whatever order: the budget holds, nothing in use leaves, loads are single, nobody is forgotten."""

from __future__ import annotations

from collections import Counter

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from roost.cluster.errors import ModelInUse, ModelLoadFailed, NoCapacity
from roost.worker.core.model_cache import ModelCache
from roost.worker.core.residency import CacheEffect, Close, Lease, RefuseLeases, Residency, Stage, StartLoad
from roost.worker.core.victims import CostAware, LeastRecentlyUsed, VictimOrder

BUDGET = 100
SIZES = {"tiny": 10, "small": 30, "half": 50, "large": 70, "whole": 100, "remote": 0}
names = st.sampled_from(sorted(SIZES))


class CacheWorld(RuleBasedStateMachine):
    """Plays the shell: loads and closes end when hypothesis says so, and holders come and go."""

    @staticmethod
    def victims() -> VictimOrder:
        return LeastRecentlyUsed()

    def __init__(self) -> None:
        super().__init__()
        self.cache = ModelCache(BUDGET, victims=self.victims())
        self.leases: list[Lease] = []
        self.loading: list[Residency] = []
        self.closing: list[Residency] = []

    def act(self, effects: tuple[CacheEffect, ...]) -> None:
        for effect in effects:
            if isinstance(effect, StartLoad):
                self.loading.append(effect.residency)
            elif isinstance(effect, Close):
                assert not (effect.is_eviction and effect.residency.leases), "something in use was evicted"
                assert effect.residency not in self.closing, "closed twice"
                if effect.residency in self.loading:
                    self.loading.remove(effect.residency)
                self.closing.append(effect.residency)
            else:
                assert isinstance(effect, RefuseLeases)
                for lease in effect.leases:
                    self.leases.remove(lease)

    @rule(name=names)
    def arrive(self, name: str) -> None:
        try:
            acquired = self.cache.acquire(name, SIZES[name], 0.0)
        except NoCapacity:
            assert self.cache.pinned_bytes > 0
            return
        self.leases.append(acquired.lease)
        self.act(acquired.effects)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def run(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        if not lease.is_running and lease.residency.can_run:
            self.cache.start(lease)

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from(self.leases))
        self.leases.remove(lease)
        self.act(self.cache.release(lease, 0.0))

    @precondition(lambda self: self.loading)
    @rule(data=st.data(), ending=st.sampled_from(["good", "bad"]))
    def end_load(self, data: st.DataObject, ending: str) -> None:
        residency = data.draw(st.sampled_from(self.loading))
        self.loading.remove(residency)
        if ending == "good":
            self.act(self.cache.loaded(residency, 2, 0.0))
        else:
            self.act(self.cache.load_failed(residency, ModelLoadFailed(residency.name, "drawn"), 0.0))

    @precondition(lambda self: self.closing)
    @rule(data=st.data())
    def end_close(self, data: st.DataObject) -> None:
        residency = data.draw(st.sampled_from(self.closing))
        self.closing.remove(residency)
        self.act(self.cache.closed(residency, 0.0))

    @rule(name=names)
    def unload(self, name: str) -> None:
        try:
            self.act(self.cache.unload(name, 0.0).effects)
        except ModelInUse:
            assert any(lease.residency.name == name for lease in self.leases)

    @precondition(lambda self: any(lease.residency.stage is Stage.READY for lease in self.leases))
    @rule(data=st.data())
    def pin(self, data: st.DataObject) -> None:
        lease = data.draw(st.sampled_from([lease for lease in self.leases if lease.residency.stage is Stage.READY]))
        self.act(self.cache.pin(lease, 0.0))

    @rule(data=st.data())
    def lose(self, data: st.DataObject) -> None:
        ready = [residency for residency in self.cache.resident if residency.stage is Stage.READY]
        if ready:
            self.act(self.cache.lost(data.draw(st.sampled_from(ready)), 0.0))

    @invariant()
    def the_budget_holds(self) -> None:
        assert self.cache.used_bytes == sum(residency.size_bytes for residency in self.cache.resident) <= BUDGET

    @invariant()
    def loads_are_single(self) -> None:
        coming = Counter(
            residency.name for residency in (*self.cache.resident, *self.cache.waiting) if residency.stage is not Stage.CLOSING
        )
        ready = Counter(residency.name for residency in self.cache.resident if residency.stage is Stage.READY)
        assert all(count - ready[name] <= 1 for name, count in coming.items())

    @invariant()
    def nobody_is_forgotten(self) -> None:
        held = [lease for residency in (*self.cache.resident, *self.cache.waiting) for lease in residency.leases]
        attached = [lease for lease in self.leases if lease.residency.stage is not Stage.GONE]
        assert Counter(map(id, held)) == Counter(map(id, attached))
        assert all(lease.is_running for lease in self.leases if lease.residency.stage is Stage.GONE), "a waiter is on a dead residency"

    @invariant()
    def the_line_moves_or_waits_for_something_that_will_end(self) -> None:
        if list(self.cache.waiting):
            assert self.loading or self.closing or any(residency.is_retiring for residency in self.cache.resident)

    def teardown(self) -> None:
        """Every load and close ends and every holder is served in turn: then nobody waits and nothing is owed."""
        for _ in range(10_000):
            if self.loading:
                self.act(self.cache.loaded(self.loading.pop(), 2, 0.0))
            elif self.closing:
                self.act(self.cache.closed(self.closing.pop(), 0.0))
            elif self.leases:
                able = [lease for lease in self.leases if lease.is_running or lease.residency.stage is Stage.READY]
                assert able, f"nobody can go on: {self.cache!r}"
                self.leases.remove(able[0])
                self.act(self.cache.release(able[0], 0.0))
            else:
                break
        assert not self.leases
        assert not list(self.cache.waiting)


class CostAwareCacheWorld(CacheWorld):
    """The same, whatever leaves first."""

    @staticmethod
    def victims() -> VictimOrder:
        return CostAware(lambda name: 1.0 + SIZES[name])


TestCostAwareCacheWorld = CostAwareCacheWorld.TestCase
TestCostAwareCacheWorld.settings = settings(max_examples=30, stateful_step_count=40, deadline=None)
TestCacheWorld = CacheWorld.TestCase
TestCacheWorld.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
