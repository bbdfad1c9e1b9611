"""A task group whose single failure is raised as itself, so that callers can name what they catch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


@asynccontextmanager
async def task_scope() -> AsyncIterator[asyncio.TaskGroup]:
    """Like asyncio.TaskGroup; a lone exception, of the body or of a task, is not wrapped in a group."""
    try:
        async with asyncio.TaskGroup() as tasks:
            yield tasks
    except BaseExceptionGroup as group:
        if len(group.exceptions) == 1:
            raise group.exceptions[0] from None
        raise


async def until(event: asyncio.Event, work: Coroutine[None, None, T]) -> T | None:
    """The result of `work`, or None if the event came first; then `work` was cancelled and has ended."""
    task = asyncio.ensure_future(work)
    waiter = asyncio.ensure_future(event.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiter.cancel()
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
    return None if task.cancelled() else task.result()
