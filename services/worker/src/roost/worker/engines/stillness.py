"""Whether a process that owes an answer has stopped working: it says nothing and uses no processor time. Pure."""

from __future__ import annotations

import math

CHECK_S = 0.5  # how often it is looked at


class Stillness:
    """State: what was seen at the last look, and at how many looks in a row since then nothing had changed.

    Looks are counted, not seconds, so that a machine that was stopped as a whole, looker included, does not count as a still process.
    A process whose processor time cannot be seen never counts as still: it may be at one long step.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_looks = math.ceil(patience_s / CHECK_S)
        self._seen: tuple[int, int] | None = None
        self._still_looks = 0

    def look(self, *, owes: bool, messages: int, processor_ticks: int | None) -> bool:
        """To be called every CHECK_S seconds. True once nothing has changed for the whole patience although an answer is owed."""
        seen = None if processor_ticks is None or not owes else (messages, processor_ticks)
        self._still_looks = self._still_looks + 1 if seen is not None and seen == self._seen else 0
        self._seen = seen
        return self._still_looks >= self._patience_looks

    def __repr__(self) -> str:
        return f"<Stillness {self._still_looks}/{self._patience_looks} looks>"
