"""What a decider knows of the cluster, as told by the workers' reports.

State: one `WorkerEntry` for each worker that was ever heard of and not forgotten. Invariants: an entry only moves forward (epoch, then
sequence); every worker is in exactly one liveness, and only LIVE ones may get new work; at most `max_workers` entries exist; time is the
caller's and never goes back; each change is told to the listeners before the call that made it returns. Silence is judged by `advance`
alone, and never the silence of a time in which this decider itself stood still.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from roost.cluster.errors import NoCapacity, NoWorkers, UnknownWorker
from roost.cluster.known_models import KnownModels, SharedCatalogue, nearest_among
from roost.cluster.silence import SUSPECT_AFTER_S, Silence
from roost.cluster.view_snapshot import ViewSnapshot
from roost.cluster.worker_entry import (
    Applied,
    ClusterTotals,
    LivenessChange,
    Residency,
    WorkerEntry,
    earlier_epochs,
    fits,
    is_later_life,
    is_newer,
    looks_different,
    room_bytes,
)
from roost.cluster.worker_state import CatalogueModel, Liveness, WorkerState

__all__ = ["Applied", "ClusterTotals", "ClusterView", "LivenessChange", "Residency", "ViewListener", "WorkerEntry", "fits"]

_LIVE = Liveness.LIVE  # to look it up by its class takes a part of the time of a report


ViewListener = Callable[[WorkerEntry | None, WorkerEntry | None], None]
"""Called as listener(before, after); before is None for a worker that is new, after is None for one that was dropped."""


MAX_WORKERS: Final = 20_000  # known at once, unless somebody says otherwise: 40 MB, and a second of reports


class ClusterView:
    """Mutable, one owner, no IO."""

    def __init__(
        self,
        *,
        dead_after_s: float = 10.0,
        forget_after_s: float = 3600.0,
        max_workers: int = MAX_WORKERS,
        catalogue: Iterable[CatalogueModel] = (),
    ) -> None:
        self._dead_after_s = dead_after_s
        self._suspect_after_s = min(SUSPECT_AFTER_S, dead_after_s)
        self._forget_after_s = max(forget_after_s, dead_after_s)
        self._max_workers = max_workers
        self._entries: dict[str, WorkerEntry] = {}
        self._models = KnownModels(catalogue)
        self._silence = Silence()
        self._counts = dict.fromkeys(Liveness, 0)
        self._listeners: list[ViewListener] = []
        self._now = 0.0
        self.version = 0
        self.entries: Mapping[str, WorkerEntry] = MappingProxyType(self._entries)

    # --- what arrives -----------------------------------------------------------------------------

    def take_catalogue(self, catalogue: tuple[CatalogueModel, ...]) -> bool:
        """The view's own catalogue is another one. False if it says what the one before did."""
        if catalogue == self._models.own():
            return False
        self._models.become(catalogue)
        self.version += 1
        return True

    def apply(self, state: WorkerState, now: float, *, is_streamed: bool, stream: int = 0) -> Applied:
        """Take a report received at `now`, or leave it if something newer of that worker is known.

        `stream` numbers the stream it came on, growing with each stream that is opened, so that the loss of an older stream of the same
        epoch is told apart from the loss of the current one. A report without a stream is left while a live worker streams: it comes
        from somebody else, or from its past, and would take away its address. Raises NoCapacity if the table is full of living workers.
        """
        self._now = max(self._now, now)
        if not is_streamed:
            stream = 0
        before = self._entries.get(state.node_id)
        if before is None:
            self._make_room()
        elif not is_newer(state, before, stream) or (before.is_streamed and not is_streamed and before.liveness is _LIVE):
            return Applied(is_accepted=False, is_new_epoch=False, became_live=False, entry=before)
        is_new_epoch = before is None or is_later_life(before.state, state)
        entry = WorkerEntry(
            state=state,
            liveness=_LIVE,
            received_at=now,
            is_streamed=is_streamed,
            stream=stream,
            catalogue=self._catalogue_after(before, state, is_new_epoch=is_new_epoch),
            earlier_epochs=earlier_epochs(before, is_new_epoch=is_new_epoch),
        )
        said = None if before is None else state.changes_from(before.state)
        among = None if said is None else said.changed_models
        self._models.residents_changed(before.state.models if before else {}, state.models, among)
        self._replace(before, entry)
        became_live = before is None or before.liveness is not _LIVE
        return Applied(is_accepted=True, is_new_epoch=is_new_epoch, became_live=became_live, entry=entry)

    def stream_lost(self, node_id: str, epoch: int, now: float, *, stream: int = 0) -> bool:
        """A worker's stream broke: suspect it at once. False if it is not live, or has reported since in a newer epoch or stream."""
        self._now = max(self._now, now)
        entry = self._entries.get(node_id)
        if entry is None or entry.liveness is not _LIVE or not entry.is_streamed:
            return False
        if entry.state.epoch != epoch or entry.stream > stream > 0:
            return False
        self._replace(entry, replace(entry, liveness=Liveness.SUSPECT))
        return True

    def judge(self, node_id: str, liveness: Liveness, now: float) -> bool:
        """Somebody else's judgement of a worker's life, such as a failure detector's. False if it is not known or was judged so before."""
        self._now = max(self._now, now)
        entry = self._entries.get(node_id)
        if entry is None or entry.liveness is liveness:
            return False
        self._replace(entry, replace(entry, liveness=liveness))
        return True

    def forget(self, node_id: str) -> bool:
        """The worker said goodbye, or is told of by nobody any more. False if it is not known."""
        entry = self._entries.get(node_id)
        if entry is None:
            return False
        self._forget(entry)
        return True

    def leave(self, node_id: str, epoch: int, stream: int) -> bool:
        """A worker ended its stream itself: one whose last report was a draining one has left, and is forgotten at once.

        False if it is not known or not draining, or has reported since in a newer epoch or stream.
        """
        entry = self._entries.get(node_id)
        if entry is None or not entry.state.is_draining or entry.state.epoch != epoch or entry.stream > stream:
            return False
        self._forget(entry)
        return True

    def advance(self, now: float, *, expected_interval_s: float | None = None) -> list[LivenessChange]:
        """Let time pass: the silent become suspect, then dead, then are forgotten. Costs what is silent, not what is known.

        `expected_interval_s`: how long after its last call the caller's timer should have called. If it is much later, this process stood
        still, and silence is counted from now (`Silence.time_passed`). None: late is not odd.
        """
        self._now = max(self._now, now)
        silence, entries = self._silence, self._entries
        silence.time_passed(now, expected_interval_s)
        changes = [self._change(entries[node_id], Liveness.DEAD, now) for node_id in silence.alive_for(self._dead_after_s, now)]
        quiet = [entries[node_id] for node_id in silence.alive_for(self._suspect_after_s, now)]
        changes += [self._change(entry, Liveness.SUSPECT, now) for entry in quiet if entry.liveness is _LIVE]
        for entry in [entries[node_id] for node_id in silence.dead_for(self._forget_after_s, now)]:
            self._forget(entry)
            changes.append(LivenessChange(entry.node_id, Liveness.DEAD, None, entry.age_s(now)))
        return changes

    def subscribe(self, listener: ViewListener) -> None:
        """Call `listener(before, after)` at each change, and now for each worker that is already known."""
        self._listeners.append(listener)
        for entry in self._entries.values():
            listener(None, entry)

    # --- what is known ----------------------------------------------------------------------------

    def entry(self, node_id: str) -> WorkerEntry:
        """Raises UnknownWorker, with the names most like it."""
        entry = self._entries.get(node_id)
        if entry is None:
            raise UnknownWorker(node_id, nearest_among(node_id, self._entries))
        return entry

    def counts(self) -> Mapping[Liveness, int]:
        """Workers by liveness."""
        return MappingProxyType(self._counts)

    def catalogue(self) -> Mapping[str, CatalogueModel]:
        """Every known model by name, ordered. A model only seen resident has an empty engine and the size last reported (0: not known)."""
        return self._models.union()

    def model(self, name: str) -> CatalogueModel | None:
        """What is known of a model, None if nothing."""
        return self._models.get(name)

    def check_known(self, model: str) -> None:
        """Raises UnknownModel, with the names most like it; NoWorkers while no worker is live, because any that comes may know it."""
        if model not in self._models:
            if not self._counts[Liveness.LIVE]:
                raise NoWorkers(f"no live worker is known yet that could have {model!r} in its catalogue")
            self._models.check(model)

    def can_load(self, node_id: str, model: str) -> bool:
        """True if the model is resident there, or may be loaded there and has room beside what is pinned. Raises UnknownWorker."""
        entry = self.entry(node_id)
        if model in entry.state.models:
            return True
        known = self._models.get(model) if entry.catalogue is None else entry.catalogue.models.get(model)
        return known is not None and fits(known.size_bytes, room_bytes(entry.state))

    def totals(self) -> ClusterTotals:
        """One pass over the workers."""
        live = [entry.state for entry in self._entries.values() if entry.liveness is _LIVE]
        return ClusterTotals(
            active_workers=sum(not state.is_draining for state in live),
            average_gpu_utilization=sum(state.gpu_utilization for state in live) / len(live) if live else 0.0,
            total_queue_depth=sum(state.queue_depth for state in live),
        )

    def residency(self) -> Mapping[str, Residency]:
        """Where each resident model is, by name; live workers only. One pass over the workers."""
        found: dict[str, Residency] = {}
        for node_id in sorted(self._entries):
            entry = self._entries[node_id]
            if entry.liveness is _LIVE:
                for status in entry.state.models.values():
                    where = found.setdefault(status.name, Residency())
                    (where.ready_on if status.is_ready else where.loading_on).append(node_id)
        return found

    # --- how it is written down and taken up again ---------------------------------------------------

    def snapshot(self) -> ViewSnapshot:
        """All of it, as values that never change."""
        return ViewSnapshot(
            self._dead_after_s,
            self._forget_after_s,
            self._max_workers,
            self._models.own(),
            self._models.shared(),
            self._models.seen(),
            tuple(self._entries.values()),
            tuple(self._silence.alive),
            tuple(self._silence.dead),
            self._now,
            self._silence.advanced_at,
            self._silence.counts_from,
            self.version,
        )

    @classmethod
    def restored(cls, snapshot: ViewSnapshot) -> ClusterView:
        """A view that goes on exactly as the one that was written down would; nobody listens to it yet."""
        view = cls(
            dead_after_s=snapshot.dead_after_s,
            forget_after_s=snapshot.forget_after_s,
            max_workers=snapshot.max_workers,
            catalogue=snapshot.own,
        )
        view._entries.update((entry.node_id, entry) for entry in snapshot.entries)
        view._take_up(snapshot)
        return view

    def _take_up(self, snapshot: ViewSnapshot) -> None:
        self._models.restore(snapshot.shared, snapshot.seen, snapshot.resident_on())
        self._silence.restore(self._entries, snapshot.alive, snapshot.dead)
        for entry in snapshot.entries:
            self._counts[entry.liveness] += 1
        self._now = snapshot.now
        self._silence.advanced_at, self._silence.counts_from = snapshot.advanced_at, snapshot.silence_counts_from
        self.version = snapshot.version

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {liveness.value}" for liveness, count in self._counts.items())
        oldest = max((entry.age_s(self._now) for entry in self._entries.values() if entry.liveness is _LIVE), default=0.0)
        return f"<ClusterView v={self.version}, {counts}, {len(self.catalogue())} models, oldest live {oldest:.1f} s>"

    # --- how it changes ---------------------------------------------------------------------------

    def _replace(self, before: WorkerEntry | None, after: WorkerEntry) -> None:
        """Put `after` in place of `before`, and tell the listeners."""
        self._entries[after.state.node_id] = after
        self._silence.placed(before, after)
        if before is not None:
            self._counts[before.liveness] -= 1
        self._counts[after.liveness] += 1
        if before is None or looks_different(before, after):
            self.version += 1
        for listener in self._listeners:
            listener(before, after)

    def _change(self, entry: WorkerEntry, liveness: Liveness, now: float) -> LivenessChange:
        self._replace(entry, replace(entry, liveness=liveness))
        return LivenessChange(entry.node_id, entry.liveness, liveness, entry.age_s(now))

    def _make_room(self) -> None:
        """Drop the worker that is dead longest if the table is full. Raises NoCapacity if none is dead."""
        if len(self._entries) < self._max_workers:
            return
        longest_dead = self._silence.longest_dead()
        if longest_dead is None:
            raise NoCapacity(f"the view holds {self._max_workers} workers and none of them is dead", self._dead_after_s)
        self._forget(self._entries[longest_dead])

    def _forget(self, entry: WorkerEntry) -> None:
        del self._entries[entry.node_id]
        self._silence.dropped(entry)
        self._counts[entry.liveness] -= 1
        self._models.residents_changed(entry.state.models, {})
        self._models.release(entry.catalogue)
        self.version += 1
        for listener in self._listeners:
            listener(entry, None)

    def _catalogue_after(self, before: WorkerEntry | None, state: WorkerState, *, is_new_epoch: bool) -> SharedCatalogue | None:
        held = None if before is None else before.catalogue
        if state.catalogue is not None:
            return self._models.share(state.catalogue, held)
        if is_new_epoch and held is not None:  # a new life says anew what it can load
            self._models.release(held)
            return None
        return held
