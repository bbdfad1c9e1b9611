"""Serial numbers in 16 bits (RFC 1982): a digest names a version by its low bits, and both sides still agree which is newer.

A real version's low 16 bits are never 0, so 0 can say "I have none".
"""

from __future__ import annotations

LOW_BITS = 0xFFFF
_HALF = 0x8000
MAX_VERSION = 2**32 - 1


def successor(version: int) -> int:
    """The next version whose low bits are not 0."""
    return version + 1 if (version + 1) & LOW_BITS else version + 2


def low(version: int) -> int:
    return version & LOW_BITS


def is_newer(mine: int, theirs: int) -> bool:
    """Whether low bits `mine` are ahead of low bits `theirs`; having something is ahead of having nothing."""
    if mine in (theirs, 0):
        return False
    return theirs == 0 or (mine - theirs) & LOW_BITS < _HALF


def expand(theirs: int, mine: int) -> int:
    """The full version behind low bits `theirs`, of one who is not ahead of our full version `mine`; 0 if it has none."""
    return 0 if theirs == 0 else max(0, mine - ((low(mine) - theirs) & LOW_BITS))
