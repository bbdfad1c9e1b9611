"""Later lives that claim a name from another address while its holder is believed to live: one that moved, or a second one of that name.

Which of the two it is, the holder tells: one that answers keeps its name, one that is gone or does not answer gives it up. State: of each
such name the claim of the latest life, at most `capacity`; the one noted longest ago gives way.
"""

from __future__ import annotations

from roost.gossip.protocol.messages import Alive


class Contenders:
    """Claims that wait for the holder of their name to answer or to be gone."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._claims: dict[str, Alive] = {}

    def note(self, claim: Alive) -> None:
        """Keep it, unless a later life claims the name already."""
        held = self._claims.pop(claim.name, None)
        if held is None and len(self._claims) >= self._capacity:
            del self._claims[next(iter(self._claims))]
        self._claims[claim.name] = claim if held is None or (claim.epoch, claim.incarnation) > (held.epoch, held.incarnation) else held

    def get(self, name: str) -> Alive | None:
        return self._claims.get(name)

    def take(self, name: str) -> Alive | None:
        """The claim, which waits no longer."""
        return self._claims.pop(name, None)

    def __len__(self) -> int:
        return len(self._claims)

    def __repr__(self) -> str:
        return f"<Contenders for {', '.join(self._claims) or 'nothing'}>"
