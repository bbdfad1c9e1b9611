"""When a worker would have memory for one more model, if it holds more than is free and what it holds is loading or in use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from roost.cluster.worker_state import ModelStatus, WorkerState


class Victim(NamedTuple):
    """A model that a worker could put out, in the order in which it would."""

    is_held: bool  # in use, or so young that it stays
    cost_per_byte: float
    model: str
    size_bytes: int
    cost_s: float
    leaves_in_s: float


class Residents(NamedTuple):
    """What the models on a worker come to, `as_of` then: what it could put out, first to go first, and the slots they keep busy."""

    as_of: float
    victims: tuple[Victim, ...]
    busy_slots: float


class Room(NamedTuple):
    """Seconds until there is memory for a load, and seconds that others are expected to wait because of what leaves."""

    memory_s: float
    eviction_s: float


class Weighed:
    """What loads on one worker come to by one report and the reservations since, worked out when it is needed, `as_of` then.

    `rooms` by the size of what would be loaded; `busy_slots` are kept so on average by what is there or on its way.
    """

    __slots__ = ("as_of", "busy_slots", "free_bytes", "rooms")

    def __init__(self, as_of: float) -> None:
        self.as_of = as_of
        self.rooms: dict[int, Room] = {}
        self.free_bytes: float | None = None
        self.busy_slots: float | None = None


@dataclass(frozen=True, slots=True)
class HeldMemory:
    """A worker's memory by one report: what a load can have at once, and what it can have later, soonest first.

    `leaving` are seconds after the report and bytes. Pinned models leave never.
    """

    free_bytes: int
    leaving: tuple[tuple[float, int], ...]

    def seconds_until(self, size_bytes: int) -> float:
        """Until that much is free; where it never is by what is known, until all that can leave has left."""
        short = size_bytes - self.free_bytes
        if short <= 0:
            return 0.0
        for seconds, leaving_bytes in self.leaving:
            short -= leaving_bytes
            if short <= 0:
                return seconds
        return self.leaving[-1][0] if self.leaving else 0.0


def held_memory(
    state: WorkerState, *, size_of: Callable[[str], int], load_s: Callable[[ModelStatus], float], service_s: float
) -> HeldMemory:
    """One pass over what is resident. `size_of` a model that waits for memory itself, `load_s` left of a loading one.

    A model that is in use leaves one service time after it is ready: it takes no new requests once it has to go.
    """
    free = state.memory_capacity_bytes
    listed = 0
    leaving: list[tuple[float, int]] = []
    for status in state.models.values():
        size = status.size_bytes
        listed += size
        if not status.is_ready:
            size = size or size_of(status.name)
        elif not (status.in_flight or status.queued or status.is_pinned):
            continue
        free -= size
        if not status.is_pinned:
            left_s = 0.0 if status.is_ready else load_s(status)
            leaving.append((left_s + (service_s if status.in_flight or status.queued else 0.0), size))
    unlisted = state.memory_used_bytes - listed
    if unlisted > 0:  # models on their way out, which no report lists
        free -= unlisted
        leaving.append((service_s, unlisted))
    return HeldMemory(free, tuple(sorted(leaving)))
