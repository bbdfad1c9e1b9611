"""How long news takes in the gossip plane: what the large-cluster model draws from.

The quantiles were measured on the protocol itself in virtual time (`python -m roost.sim.measure_ageing`), from the moment in which a
worker's record is written to the moment in which another sidecar has it: rounds every 200 ms, fan-out 2, six members told at once. Between
and beyond the measured sizes they are interpolated in the logarithm of the size. What the model leaves out: delays of different listeners
are independent here, while in the protocol those who hear from each other hear together; and byte budgets, which stretch rounds in clusters
of many hundreds. Silence is noticed after a delay of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from roost.placement.rng import Rng

SHARES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
HEARS_AFTER_S: dict[int, tuple[float, ...]] = {
    5: (0.0002, 0.0003, 0.0007, 0.0010, 0.0015, 0.0019, 0.0020),
    10: (0.0002, 0.0003, 0.0008, 0.0014, 0.0171, 0.0943, 0.2019),
    25: (0.0002, 0.0006, 0.0019, 0.0592, 0.1194, 0.1976, 0.3918),
    50: (0.0002, 0.0009, 0.0476, 0.1098, 0.1736, 0.2622, 0.4867),
    100: (0.0002, 0.0017, 0.0954, 0.1631, 0.2281, 0.3162, 0.5381),
    200: (0.0002, 0.0339, 0.1672, 0.2515, 0.3315, 0.4511, 0.9993),
}
NOTICES_AFTER_S: dict[int, tuple[float, ...]] = {
    5: (1.0082, 1.0176, 1.0352, 1.0536, 1.0857, 1.0976, 1.0978),
    10: (1.0497, 1.0512, 1.1911, 1.1987, 1.2547, 1.5580, 1.6631),
    25: (1.1757, 1.2357, 1.2675, 1.4824, 1.5698, 1.6468, 1.6992),
    50: (1.1050, 1.1311, 1.1656, 1.2006, 1.2370, 1.2900, 1.3763),
    100: (1.1222, 1.1655, 1.2238, 1.2643, 1.3159, 1.3855, 1.4444),
    200: (1.0859, 1.1711, 1.2406, 1.3063, 1.7231, 1.8567, 1.9885),
}


class Ageing:
    """For a cluster of `nodes`."""

    def __init__(self, nodes: int) -> None:
        self._hears = between(HEARS_AFTER_S, nodes)
        self._notices = between(NOTICES_AFTER_S, nodes)

    def hears_after_s(self, rng: Rng) -> float:
        """From writing to hearing."""
        return drawn(self._hears, rng)

    def notices_after_s(self, rng: Rng) -> float:
        """From silence to suspicion."""
        return drawn(self._notices, rng)


def between(table: dict[int, tuple[float, ...]], nodes: int) -> tuple[float, ...]:
    """The quantiles for a size, on a straight line in its logarithm through the two nearest; below the smallest size, as there."""
    sizes = sorted(table)
    if nodes <= sizes[0]:
        return table[sizes[0]]
    above = next((size for size in sizes if size >= nodes), sizes[-1])
    low = sizes[sizes.index(above) - 1]
    place = (math.log(nodes) - math.log(low)) / (math.log(above) - math.log(low))
    return tuple(max(0.0, a + place * (b - a)) for a, b in zip(table[low], table[above], strict=True))


def drawn(quantiles: Sequence[float], rng: Rng) -> float:
    """A value with those quantiles at SHARES, on straight lines between them."""
    share = rng.random()
    for left in range(len(SHARES) - 1):
        if share <= SHARES[left + 1]:
            low, high = quantiles[left], quantiles[left + 1]
            return low + (high - low) * (share - SHARES[left]) / (SHARES[left + 1] - SHARES[left])
    return quantiles[-1]
