"""What a new request would find of each model, kept up to date by what changes: a look at it costs what changed, not what is resident."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from roost.cluster.catalogue import Catalogue
from roost.cluster.worker_state import ModelStatus, Phase
from roost.worker.core.change_log import ChangeLog
from roost.worker.core.expectations import Expectations
from roost.worker.core.model_cache import ModelCache
from roost.worker.core.residency import Residency, Stage
from roost.worker.core.slots import Slots

SOONEST_READY_S = 0.05  # said of a load that takes longer than expected, or no time: it is not ready, so it is not 0
# Members of enums that every report names: to look them up by their class is slow.
_READY, _COMING, _LOADING_STAGE = Phase.READY, Phase.LOADING, Stage.LOADING


class Statuses:
    """State: the status of each model that is ready or coming, when each has changed, and the stays that are neither ready nor gone.

    Invariant: after `refresh` they are what one pass over cache and slots would find. A retiring model is neither ready nor coming; it is
    listed while its next load waits.
    """

    def __init__(self, catalogue: Catalogue, cache: ModelCache, slots: Slots, expected: Expectations) -> None:
        self.log = ChangeLog()
        self.pinned_bytes = 0  # of what is listed
        self._catalogue = catalogue
        self._cache = cache
        self._slots = slots
        self._expected = expected
        self._models: dict[str, ModelStatus] = {}
        self._unsettled: dict[str, Residency] = {}
        self._shown: Mapping[str, ModelStatus] = MappingProxyType({})
        self._shown_version = 0

    def refresh(self, now: float) -> Mapping[str, ModelStatus]:
        """Every model that is ready or coming, as a value that does not change; the same one while nothing does."""
        touched = self._cache.take_changed()
        touched |= self._slots.take_changed()
        absent = [name for name in touched if not self._settle(name)]
        coming = {status.name: status for status in self._coming(now)}
        for name in absent:
            if name not in coming:
                self._remove(name)
        for status in coming.values():
            self._set(status)
        if self._shown_version != self.log.version:
            self._shown, self._shown_version = MappingProxyType(self._models.copy()), self.log.version
        return self._shown

    def _settle(self, name: str) -> bool:
        """Looks at one model anew: True if it is ready for everybody."""
        residency = self._cache.get(name)
        if residency is not None and residency.takes_new_requests:
            self._unsettled.pop(name, None)
            self._set(self._status(residency, _READY, 0.0, residency.max_parallel))
            return True
        if residency is not None and (residency.is_retiring or residency.stage is _LOADING_STAGE):
            self._unsettled[name] = residency
        else:
            self._unsettled.pop(name, None)
        return False

    def _coming(self, now: float) -> Iterator[ModelStatus]:
        """What is loading, then what waits for memory, with the time until each is expected to be ready."""
        expected, waiting_s, service_s = self._expected, 0.0, 0.0
        for residency in self._unsettled.values():
            if residency.is_retiring:
                service_s = max(service_s, expected.service_s(residency.name))
                continue
            remaining_s = max(SOONEST_READY_S, residency.load_started_at + expected.load_s(residency.name) - now)
            waiting_s = max(waiting_s, remaining_s)
            yield self._status(residency, _COMING, remaining_s, self._catalogue.get(residency.name).max_parallel)
        waiting_s += service_s
        for residency in self._cache.waiting:
            waiting_s += max(SOONEST_READY_S, expected.load_s(residency.name))
            yield self._status(residency, _COMING, waiting_s, self._catalogue.get(residency.name).max_parallel)

    def _status(self, residency: Residency, phase: Phase, ready_in_s: float, max_parallel: int) -> ModelStatus:
        name, slots = residency.name, self._slots
        size_bytes = residency.size_bytes if residency.has_memory else 0
        return ModelStatus(name, phase, size_bytes, slots.running(name), slots.queued(name), ready_in_s, residency.is_pinned, max_parallel)

    def _set(self, status: ModelStatus) -> None:
        before = self._models.get(status.name)
        if before != status:
            self._models[status.name] = status
            self._count_pinned(before, status)
            self.log.changed(status.name)

    def _remove(self, name: str) -> None:
        before = self._models.pop(name, None)
        if before is not None:
            self._count_pinned(before, None)
            self.log.changed(name)

    def _count_pinned(self, before: ModelStatus | None, after: ModelStatus | None) -> None:
        if before is not None and before.is_pinned:
            self.pinned_bytes -= before.size_bytes
        if after is not None and after.is_pinned:
            self.pinned_bytes += after.size_bytes
