"""How long a client waits before it asks again: exponential with full jitter, no less than the server wishes, bounded. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from roost.placement.rng import Rng


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits grow from `first_s` by doubling to `most_s`; a server's own wish is kept up to `most_server_s`."""

    first_s: float = 0.05
    most_s: float = 2.0
    most_server_s: float = 10.0  # a client that is told to wait longer would rather tell its user

    def wait_s(self, retry: int, rng: Rng, *, server_wish_s: float = 0.0) -> float:
        """Seconds before retry number `retry` (from 0). With a wish: the wish and up to a quarter more, so that refused callers spread."""
        ceiling = min(self.most_s, self.first_s * 2.0 ** min(retry, 30))
        jittered = ceiling * rng.random()
        wish = min(self.most_server_s, server_wish_s)
        return max(jittered, wish * (1.0 + rng.random() / 4)) if wish > 0 else jittered
