"""The seed of each drawn token: a function of the generation's seed and the token's index, so that nothing of a sampler has to travel."""

from __future__ import annotations

from typing import Final

UNSEEDED: Final = 2**32 - 1  # llama.cpp takes this seed for "draw one"
_MASK: Final = 2**64 - 1


def token_seed(seed: int, index: int) -> int:
    """A 32-bit seed for token `index`, never UNSEEDED. Seeds and indexes that are near each other give seeds that are not.

    The finaliser of SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
    """
    mixed = ((seed << 32 | (index & 0xFFFFFFFF)) + 0x9E3779B97F4A7C15) & _MASK
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _MASK
    return ((mixed ^ mixed >> 31) >> 32) % UNSEEDED
