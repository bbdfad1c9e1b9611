"""Drives the core: the one place where its effects are taken. Whoever carries one out, or watches, is a tap."""

from __future__ import annotations

from collections.abc import Callable

from roost.worker.core.effects import Effect
from roost.worker.core.worker_core import WorkerCore

Tap = Callable[[Effect], None]


class Driver:
    """State: who taps, in the order in which they are told of each effect, and whether effects are being told now."""

    def __init__(self, core: WorkerCore) -> None:
        self.core = core
        self._taps: list[Tap] = []
        self._is_telling = False

    def tap(self, tap: Tap) -> None:
        """`tap` is told of every effect from now on. It may tell the core further facts; their effects follow the ones under way."""
        self._taps.append(tap)

    def carry_out(self) -> None:
        """To be called after each fact that the core was told."""
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while effects := self.core.effects():
                for effect in effects:
                    for tap in self._taps:
                        tap(effect)
        finally:
            self._is_telling = False
