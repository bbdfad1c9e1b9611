"""What a sidecar knows, in two ways: by the protocol itself, or by records that reach it after a delay drawn from what the protocol takes.

Both tell the product's decider, when somebody asks. The second way is for large clusters, where n nodes that each
keep n records would cost n² of everything: see `Ageing` for what it leaves out.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from roost.cluster.worker_entry import WorkerEntry
from roost.cluster.worker_state import Liveness, WorkerState
from roost.gossip.core.local_view import ARRIVAL_S, Hear, LocalView
from roost.gossip.core.publishing import Changes, Publishing
from roost.gossip.core.records import load_of
from roost.gossip.protocol.config import StateParameters
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.events import Event
from roost.gossip.record_format import record_from_bytes, record_to_bytes
from roost.placement.facts import Judged, Reported, Told
from roost.placement.rng import Rng
from roost.sim.ageing import Ageing
from roost.sim.agenda import Agenda
from roost.sim.gossip_network import GossipNetwork
from roost.sim.machine import WALL_OFFSET_S

PUBLISH = StateParameters()


class Known(Protocol):
    """One sidecar's knowledge, in one life."""

    def own_report(self, state: WorkerState, stream: int) -> None:
        """Our own worker said something: taken in, and told to the others, unless it is old."""

    def own_lost(self, node_id: str) -> None:
        """Our own worker's stream broke."""

    def refresh(self) -> None:
        """Tell the decider what has changed."""


class ProtocolKnown:
    """By the protocol: the sidecar's own parts around one node of the network."""

    def __init__(self, number: int, hear: Hear, entries: Mapping[str, WorkerEntry], network: GossipNetwork, agenda: Agenda) -> None:
        node = network.nodes[number]
        if node is None:
            raise AssertionError("the node must live before its view")
        self._number = number
        self._node = node
        self._network = network
        self._agenda = agenda
        self._hear = hear
        self.local = LocalView(hear, entries, node, Counters(), read=record_from_bytes, wall_offset_s=WALL_OFFSET_S)
        self._publishing = Publishing(self._publish, Counters(), write=record_to_bytes)
        self._last: WorkerState | None = None

    def happened(self, event: Event) -> None:
        self.local.happened(event)

    def own_report(self, state: WorkerState, stream: int) -> None:
        if self._hear(Reported(state, is_streamed=True, stream=stream), self._agenda.now):
            self._last = state
            self._tell(state, Liveness.LIVE)

    def own_lost(self, node_id: str) -> None:
        self._hear(Judged(node_id, Liveness.SUSPECT), self._agenda.now)
        if self._last is not None:
            self._tell(self._last, Liveness.SUSPECT)

    def refresh(self) -> None:
        self.local.refresh(self._agenda.now)

    def _tell(self, state: WorkerState, liveness: Liveness) -> None:
        now = self._agenda.now
        self._publishing.tell(state, liveness, now)
        self._node.publish_load(load_of(state, liveness), now)
        self._network.settle(self._number)

    def _publish(self, changes: Changes) -> None:
        self._node.publish_keys(changes, self._agenda.now)


class Rumours:
    """Where records are put down for those who will hear them. State: each listener's inbox, ordered by when a record reaches it."""

    def __init__(self, agenda: Agenda, ageing: Ageing, rng: Rng) -> None:
        self.cut: set[int] = set()
        self._agenda = agenda
        self._ageing = ageing
        self._rng = rng
        self._listeners: dict[int, RumouredKnown] = {}
        self._tickets = 0

    def listen(self, number: int, known: RumouredKnown) -> None:
        self._listeners[number] = known

    def leave(self, number: int) -> None:
        self._listeners.pop(number, None)

    def tell(self, number: int, state: WorkerState) -> None:
        """Everybody who is reached hears it, each at a time of its own."""
        now, draw = self._agenda.now, self._ageing.hears_after_s
        for other, known in self._listeners.items():
            if other != number and (other in self.cut) is (number in self.cut):
                self._tickets += 1
                known.will_hear(now + draw(self._rng), self._tickets, now, state)

    def miss(self, numbers: Sequence[int], *, among: Sequence[int] | None = None) -> None:
        """These went silent: each of the others (or of `among`) notices at a time of its own."""
        now, draw = self._agenda.now, self._ageing.notices_after_s
        for other, known in self._listeners.items():
            if among is None or other in among:
                for number in numbers:
                    if number != other:
                        self._tickets += 1
                        known.will_hear(now + draw(self._rng), self._tickets, now, number)


class RumouredKnown:
    """By delayed records. `publish` of our own follows the protocol's pace: on change, at most twice a second, at least every 5 s."""

    def __init__(self, number: int, names: Sequence[str], hear: Hear, rumours: Rumours, agenda: Agenda, *, is_listening: bool) -> None:
        self._number = number
        self._names = names
        self._hear = hear
        self._rumours = rumours
        self._agenda = agenda
        self._inbox: list[tuple[float, int, float, WorkerState | int]] = []
        self._heard_at: dict[str, float] = {}
        self._state: WorkerState | None = None
        self._written_at = -math.inf
        self._due_at = math.inf
        self._is_here = True
        if is_listening:
            rumours.listen(number, self)

    def will_hear(self, at: float, ticket: int, written_at: float, what: WorkerState | int) -> None:
        """A record of another worker, or its number where it was missed."""
        heapq.heappush(self._inbox, (at, ticket, written_at, what))

    def refresh(self) -> None:
        now = self._agenda.now
        newest: dict[str, tuple[float, WorkerState | int]] = {}
        while self._inbox and self._inbox[0][0] <= now:
            _, _, written_at, what = heapq.heappop(self._inbox)
            name = self._names[what] if isinstance(what, int) else what.node_id
            if written_at >= self._heard_at.get(name, -math.inf):
                self._heard_at[name] = written_at
                newest[name] = (written_at, what)
        for name, (written_at, what) in newest.items():
            if isinstance(what, int):
                self._hear(Judged(name, Liveness.SUSPECT), now)
            else:
                liveness = Liveness.SUSPECT if what.is_draining else Liveness.LIVE
                self._hear(Told(what, liveness, written_at, written_at - ARRIVAL_S), now)

    def own_report(self, state: WorkerState, stream: int) -> None:
        if self._hear(Reported(state, is_streamed=True, stream=stream), self._agenda.now):
            self._is_here = True
            self._note(replace(state, outcomes=(), catalogue=None if self._state is not None else state.catalogue))

    def own_lost(self, node_id: str) -> None:
        self._hear(Judged(node_id, Liveness.SUSPECT), self._agenda.now)
        self._is_here = False
        if self._state is not None:
            self._note(replace(self._state, is_draining=True))

    def _note(self, state: WorkerState) -> None:
        """Our own worker's record is out of date."""
        gap_s = PUBLISH.min_publish_s
        if self._state is not None and _held(self._state) != _held(state):
            gap_s = 0.0  # who holds what travels in records of its own, which wait for nothing
        elif self._state is not None and _load(self._state) == _load(state):
            gap_s = PUBLISH.heartbeat_s
        if self._state is not None and state.catalogue is None and self._state.catalogue is not None and self._written_at == -math.inf:
            state = replace(state, catalogue=self._state.catalogue)
        self._state = state
        due_at = max(self._agenda.now, self._written_at + gap_s)
        if due_at < self._due_at:
            self._due_at = due_at
            self._agenda.at(due_at, self._write, due_at)

    def _write(self, at: float) -> None:
        if at != self._due_at or self._state is None:
            return
        self._written_at, self._due_at = self._agenda.now, math.inf
        self._rumours.tell(self._number, self._state)
        self._note(self._state)

    def fall(self) -> None:
        """The process is gone."""
        self._due_at = math.inf
        self._state = None
        self._rumours.leave(self._number)


def _load(state: WorkerState) -> tuple[object, ...]:
    return (state.queue_depth, state.busy_slots, state.is_draining)


def _held(state: WorkerState) -> tuple[object, ...]:
    return tuple((status.name, status.phase) for status in state.models.values())
