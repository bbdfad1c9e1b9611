"""What a generation does after a setback: which workers it leaves out, how long it waits, when it gives up. Pure."""

from __future__ import annotations

import enum

from roost.client.backoff import Backoff
from roost.placement.request import MAX_EXCLUDED
from roost.placement.rng import Rng


class Setback(enum.Enum):
    """Why a worker did not do it; another one may."""

    BUSY = "busy"  # its queue is full: it may take the request a moment later
    REFUSED = "refused"  # it takes no requests now (draining)
    LOST = "lost"  # it was not reached, or broke before the first token


class Attempts:
    """State: the attempts made, and the workers that are left out of the next one.

    Invariants: `made` never passes `most`; `excluded` holds only workers that failed since it was last cleared.
    """

    def __init__(self, most: int, rng: Rng, backoff: Backoff) -> None:
        self._most = most
        self._rng = rng
        self._backoff = backoff
        self.made = 0
        self.excluded: set[str] = set()
        self._busy_wish_s: float | None = None

    def worker_failed(self, worker_id: str, setback: Setback, *, server_wish_s: float = 0.0) -> float | None:
        """Seconds to wait before another worker is asked for; None: that was the last attempt.

        A worker's wish concerns that worker alone, so it is kept for the case that nobody else is left.
        """
        self.made += 1
        if len(self.excluded) < MAX_EXCLUDED:
            self.excluded.add(worker_id)
        if setback is Setback.BUSY:
            self._busy_wish_s = min(server_wish_s, self._busy_wish_s) if self._busy_wish_s is not None else server_wish_s
        return None if self.made >= self._most else self._backoff.wait_s(self.made - 1, self._rng)

    def scheduler_refused(self, *, server_wish_s: float = 0.0) -> float | None:
        """Seconds to wait before the scheduler is asked again; None: that was the last attempt.

        Where a left-out worker was only busy, the exclusions end and this costs no attempt: it is worth asking that worker again.
        """
        if self._busy_wish_s is not None:
            wish_s, self._busy_wish_s = self._busy_wish_s, None
            self.excluded.clear()
            return self._backoff.wait_s(self.made, self._rng, server_wish_s=wish_s)
        self.made += 1
        return None if self.made >= self._most else self._backoff.wait_s(self.made - 1, self._rng, server_wish_s=server_wish_s)

    def __repr__(self) -> str:
        return f"<Attempts {self.made}/{self._most}, without {', '.join(sorted(self.excluded)) or '-'}>"
