"""How long a caller waits before it asks again: exponential with full jitter, no less than the server wishes, bounded. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from roost.placement.rng import Rng


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits grow from `first_s` by doubling to `most_s`, and in the first `young_s` of an outage only to `young_most_s`: most outages are
    restarts, and over in a second. A server's own wish is kept up to `most_server_s`.
    """

    first_s: float = 0.05
    most_s: float = 2.0
    young_s: float = 10.0
    young_most_s: float = 0.5
    most_server_s: float = 10.0  # a caller that is told to wait longer looks again meanwhile

    def wait_s(self, retry: int, rng: Rng, *, age_s: float = 0.0, server_wish_s: float = 0.0) -> float:
        """Seconds before retry number `retry` (from 0), `age_s` after the trouble began. With a wish: the wish and up to a quarter more,
        so that refused callers spread.
        """
        most_s = self.young_most_s if age_s < self.young_s else self.most_s
        jittered = min(most_s, self.first_s * 2.0 ** min(retry, 30)) * rng.random()
        wish = min(self.most_server_s, server_wish_s)
        return max(jittered, wish * (1.0 + rng.random() / 4)) if wish > 0 else jittered
