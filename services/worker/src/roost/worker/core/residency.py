"""The words of the model cache: a residency (one stay of a model in memory), the leases on it, and what it asks to be done."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from roost.cluster.errors import RoostError


class Stage(enum.Enum):
    """A residency only moves down this list. Memory is counted from LOADING until CLOSING has ended."""

    WAITING = "waiting"  # for memory; none is counted yet
    LOADING = "loading"
    READY = "ready"
    CLOSING = "closing"  # no longer usable, memory not yet free
    GONE = "gone"


# An enum's member is looked up in Python each time it is named: too slow for what is asked of each residency with each request.
_LOADING, _READY, _CLOSING = Stage.LOADING, Stage.READY, Stage.CLOSING


@dataclass(eq=False, slots=True)
class Residency:
    """One stay of a model: written by ModelCache only, read by everyone. Times are the caller's clock, 0.0 where not yet reached.

    A retiring residency serves whom it has promised, takes nobody new, and is evicted when the last of them is done.
    """

    key: int
    name: str
    size_bytes: int
    stage: Stage = Stage.WAITING
    leases: set[Lease] = field(default_factory=set)
    running: int = 0
    max_parallel: int = 1
    is_pinned: bool = False
    is_retiring: bool = False
    last_use: int = 0
    load_started_at: float = 0.0
    ready_at: float = 0.0

    @property
    def is_in_use(self) -> bool:
        return bool(self.leases)

    @property
    def has_memory(self) -> bool:
        return self.stage in (_LOADING, _READY, _CLOSING)

    @property
    def can_run(self) -> bool:
        """True if one more request may start on it now."""
        return self.stage is _READY and self.running < self.max_parallel

    @property
    def takes_new_requests(self) -> bool:
        return self.stage is _READY and not self.is_retiring

    def __repr__(self) -> str:
        marks = f"{' pinned' if self.is_pinned else ''}{' retiring' if self.is_retiring else ''}"
        return f"<{self.name}#{self.key} {self.stage.value} {self.size_bytes} B, {len(self.leases)} leases, {self.running} running{marks}>"


@dataclass(eq=False, slots=True)
class Lease:
    """One holder's claim on a residency, from arrival until release.

    `residency` changes when the cache moves a waiting holder to another stay of the same model (the first was lost).
    """

    residency: Residency
    is_running: bool = False

    def __repr__(self) -> str:
        return f"<Lease on {self.residency!r}{' running' if self.is_running else ''}>"


@dataclass(frozen=True, slots=True)
class StartLoad:
    """Load the weights, then call `loaded` or `load_failed`."""

    residency: Residency


@dataclass(frozen=True, slots=True)
class Close:
    """Stop a load under way, or free the weights; then call `closed`. `is_eviction` tells making room from every other cause."""

    residency: Residency
    is_eviction: bool


@dataclass(frozen=True, slots=True)
class RefuseLeases:
    """These holders will never get the model; their leases are released already."""

    leases: tuple[Lease, ...]
    error: RoostError


CacheEffect = StartLoad | Close | RefuseLeases
