"""What this sidecar tells of its own worker: which records have to change so that the others know what the worker last said.

State: the records as they were last told, and the worker's catalogue, which its reports do not repeat. Invariant: `told` is what the
node holds under our name, because it changes only when the node has taken the changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

from roost.cluster.worker_state import CatalogueModel, Liveness, WorkerState
from roost.gossip.core.records import CATALOGUE, COUNTERS, MODEL, SIDECAR, TIMING, Record, SidecarRecord, is_worth_telling, records_of
from roost.gossip.protocol.cold_state import ColdLimit
from roost.gossip.protocol.counters import Counters

Changes = Mapping[str, bytes | None]
Said = tuple[WorkerState, Liveness]
COUNTERS_EVERY_S = 5.0  # people read them; nothing is decided by them


class Publishing:
    """`publish` hands changes to the node; it raises ColdLimit if they are too many. `write` makes a record's bytes."""

    def __init__(self, publish: Callable[[Changes], None], counters: Counters, *, write: Callable[[Record], bytes]) -> None:
        self._publish = publish
        self._write = write
        self._counters = counters
        self._told: dict[str, Record] = {}
        self._catalogue: tuple[CatalogueModel, ...] | None = None
        self._epoch = 0
        self._last: Said | None = None
        self._counted_at = -math.inf

    def introduce(self, grpc_address: str) -> None:
        """Tell where this sidecar serves gRPC."""
        self._tell({SIDECAR: SidecarRecord(grpc_address)})

    def tell(self, state: WorkerState, liveness: Liveness, now: float) -> None:
        """Tell what changed. Where the whole is too much, what others need least is left out: measurements, then the catalogue."""
        if state.catalogue is not None or state.epoch != self._epoch:
            self._catalogue, self._epoch, self._last = state.catalogue, state.epoch, None
        is_recount_due = now - self._counted_at >= COUNTERS_EVERY_S and (self._last is None or self._last[0].cache != state.cache)
        if self._last is not None and not is_recount_due and _is_alike(self._last, (state, liveness)):
            return
        wanted = records_of(state, liveness, self._catalogue)
        if is_recount_due or COUNTERS not in self._told:
            self._counted_at = now
            self._last = state, liveness
        else:
            wanted[COUNTERS] = self._told[COUNTERS]
            self._last = replace(state, cache=self._last[0].cache if self._last else None), liveness
        for left_out in ((), (TIMING,), (TIMING, CATALOGUE), (TIMING, CATALOGUE, MODEL)):
            kept = {key: value for key, value in wanted.items() if not key.startswith(left_out)} if left_out else wanted
            try:
                self._tell(self._changes_to(kept))
            except ColdLimit:
                self._counters.count("publish_too_large")
                continue
            return

    def _changes_to(self, wanted: Mapping[str, Record]) -> Mapping[str, Record | None]:
        changed = {key: value for key, value in wanted.items() if key not in self._told or is_worth_telling(self._told[key], value)}
        gone = [key for key in self._told if key not in wanted and key != SIDECAR]
        return {**dict.fromkeys(gone), **changed}

    def _tell(self, changes: Mapping[str, Record | None]) -> None:
        if not changes:
            return
        self._publish({key: None if record is None else self._write(record) for key, record in changes.items()})
        for key, value in changes.items():
            if value is None:
                del self._told[key]
            else:
                self._told[key] = value

    def __repr__(self) -> str:
        return f"<Publishing {len(self._told)} records of epoch {self._epoch}>"


def _is_alike(one: Said, other: Said) -> bool:
    """True if nothing has changed that records tell: most reports differ in their load alone."""
    (before, liveness), (after, liveness_after) = one, other
    return (
        liveness is liveness_after
        and before.models == after.models
        and before.timings == after.timings
        and before.failing == after.failing
        and (before.address, before.memory_capacity_bytes, before.slots, before.gpu_source)
        == (after.address, after.memory_capacity_bytes, after.slots, after.gpu_source)
    )
