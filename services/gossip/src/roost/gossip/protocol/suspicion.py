"""How long a suspect may take to answer for itself: Lifeguard's shrinking timeout (Dadgar, Phillips, Currey 2018, section IV-B).

A lone accuser may be the one that is ill, so it has to wait long; each independent confirmation shortens the wait towards the minimum.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


def minimum_timeout_s(alpha: int, members: int, probe_interval_s: float) -> float:
    """α · max(1, log10 n) · probe interval."""
    return alpha * max(1.0, math.log10(max(1, members))) * probe_interval_s


def expected_confirmations(alpha: int, members: int) -> int:
    """K = α − 2, or 0 where fewer than K others (all but the suspect and ourselves) could confirm."""
    wanted = max(0, alpha - 2)
    return 0 if members - 2 < wanted else wanted


def timeout_s(minimum_s: float, maximum_s: float, confirmations: int, expected: int) -> float:
    """The value of max − (max − min) · ln(c + 1) / ln(K + 1), never below min; min itself where nobody could confirm."""
    if expected < 1:
        return minimum_s
    share = math.log(confirmations + 1) / math.log(expected + 1)
    return max(minimum_s, maximum_s - (maximum_s - minimum_s) * share)


@dataclass(slots=True)
class Suspicion:
    """One running suspicion of one incarnation. The first accuser does not count as a confirmation; each accuser counts once."""

    incarnation: int
    started_at: float
    minimum_s: float
    maximum_s: float
    expected: int
    first_accuser: str
    confirmers: dict[str, None] = field(default_factory=dict)  # at most `expected`

    def confirm(self, accuser: str) -> bool:
        """Count `accuser`; False if it was counted before or no more are needed."""
        if accuser == self.first_accuser or accuser in self.confirmers or len(self.confirmers) >= self.expected:
            return False
        self.confirmers[accuser] = None
        return True

    def postpone(self, lateness_s: float) -> None:
        """Our own process stood still that long: the suspect could not have been heard meanwhile."""
        self.started_at += lateness_s

    @property
    def deadline(self) -> float:
        return self.started_at + timeout_s(self.minimum_s, self.maximum_s, len(self.confirmers), self.expected)
