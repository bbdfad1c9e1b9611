"""Waiting that a `close` elsewhere can end, without a task of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

T = TypeVar("T")


class LifelineCut(Exception):
    """`cut` was called while or before something was awaited."""


class Lifeline:
    """Everything that waits through one lifeline ends with LifelineCut once it is cut. Belongs to one event loop."""

    def __init__(self) -> None:
        self._waiting: set[asyncio.Timeout] = set()
        self.is_cut = False

    async def wait(self, awaitable: Awaitable[T], timeout_s: float) -> T:
        """The awaitable's value. Raises LifelineCut, or TimeoutError after `timeout_s` seconds."""
        scope: asyncio.Timeout | None = None
        try:
            async with asyncio.timeout(0.0 if self.is_cut else timeout_s) as scope:
                self._waiting.add(scope)
                return await awaitable
        except TimeoutError:
            if self.is_cut:
                raise LifelineCut from None
            raise
        finally:
            if scope is not None:
                self._waiting.discard(scope)

    def cut(self) -> None:
        """End every wait now and all later ones at their first suspension. Idempotent."""
        self.is_cut = True
        for scope in self._waiting:
            if not scope.expired():
                scope.reschedule(asyncio.get_running_loop().time())
