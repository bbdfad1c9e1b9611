"""Chance: one source for each purpose, all from one seed, so that a change in how one is used leaves the others as they were."""

from __future__ import annotations

import random


def rng_for(seed: int, purpose: str) -> random.Random:
    """The same numbers for the same two, on every machine and in every process."""
    return random.Random(f"{seed}/{purpose}")  # noqa: S311  # repeatable numbers are what is wanted
