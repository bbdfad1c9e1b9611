"""How long workers have been silent, and since when this decider was there to hear them.

State: every known worker once, either among the alive (live or suspect) or among the dead, in both the longest silent first, so that a
question costs what is silent and not what is known. Times are the caller's and never go back.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping

from roost.cluster.worker_entry import WorkerEntry
from roost.cluster.worker_state import Liveness

# Silence after which a worker is suspect, whether it streams or not: a process that is stopped, or a machine that is gone without a word,
# keeps its stream open. Workers report at least once a second: two late reports are a busy machine or network, three are not.
SUSPECT_AFTER_S = 3.0
# How late a timer may be before the decider is taken to have stood still itself. The last report of a healthy worker is up to a second
# older than such a pause, and must not look like 3 s of silence when the pause ends.
STOOD_STILL_S = 1.5
_DEAD = Liveness.DEAD  # to look it up by its class takes a part of the time of a report


class Silence:
    """Mutable, one owner (the view). `alive` and `dead` hold when each worker was last heard, by node_id; not to be written."""

    def __init__(self) -> None:
        self.alive: OrderedDict[str, float] = OrderedDict()
        self.dead: OrderedDict[str, float] = OrderedDict()
        self.advanced_at = 0.0
        self.counts_from = -math.inf  # when this decider last came back from standing still

    def restore(self, entries: Mapping[str, WorkerEntry], alive: tuple[str, ...], dead: tuple[str, ...]) -> None:
        """In these orders."""
        self.alive.update((node_id, entries[node_id].received_at) for node_id in alive)
        self.dead.update((node_id, entries[node_id].received_at) for node_id in dead)

    def placed(self, before: WorkerEntry | None, after: WorkerEntry) -> None:
        """The worker's entry is `after` now."""
        node_id, heard_at = after.state.node_id, after.received_at
        order = self._order(after)
        if before is not None and self._order(before) is not order:
            del self._order(before)[node_id]
        order[node_id] = heard_at
        if before is None or before.received_at != heard_at:
            order.move_to_end(node_id)

    def dropped(self, entry: WorkerEntry) -> None:
        """The worker was forgotten."""
        del self._order(entry)[entry.node_id]

    def time_passed(self, now: float, expected_interval_s: float | None) -> None:
        """`expected_interval_s`: since the last call, if nothing held up the caller's timer; None: late is not odd.

        If it is later by more than STOOD_STILL_S, the process or its machine stood still: reports lie unread, and silence counts from now.
        """
        if expected_interval_s is not None and now - self.advanced_at > expected_interval_s + STOOD_STILL_S:
            self.counts_from = now
        self.advanced_at = now

    def alive_for(self, bound_s: float, now: float) -> list[str]:
        """Those that are not dead and were silent for longer than that, as far as this decider was there to hear them."""
        heard_before = now - bound_s
        return _silent(self.alive, heard_before) if heard_before > self.counts_from else []

    def dead_for(self, bound_s: float, now: float) -> list[str]:
        """The dead that were silent for longer than that."""
        return _silent(self.dead, now - bound_s)

    def longest_dead(self) -> str | None:
        return next(iter(self.dead), None)

    def _order(self, entry: WorkerEntry) -> OrderedDict[str, float]:
        return self.dead if entry.liveness is _DEAD else self.alive

    def __repr__(self) -> str:
        return f"<Silence of {len(self.alive)} alive and {len(self.dead)} dead, counted from {self.counts_from:.1f}>"


def _silent(order: Mapping[str, float], heard_before: float) -> list[str]:
    """Those at the front of `order` that were last heard before then."""
    found: list[str] = []
    for node_id, heard_at in order.items():
        if heard_at >= heard_before:
            break
        found.append(node_id)
    return found
