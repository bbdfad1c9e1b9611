"""The life of a process: signals ask it to stop, a second one ends it at once, and its exit code says what happened.

SIGHUP never ends it: a terminal that closed is no reason to stop serving, and operators use it to have files read again.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from roost.service import logs
from roost.service.startup import EXIT_CANNOT_START, CannotStart

EXIT_OK: Final = 0
EXIT_BUG: Final = 1
LAST_WORDS_S: Final = 0.2  # what a second signal still waits for the log


@dataclass(frozen=True, slots=True)
class Signals:
    """What the process was asked to do: `stop` by SIGINT or SIGTERM, once; `hangup` by SIGHUP, cleared by whoever acts on it."""

    stop: asyncio.Event = field(default_factory=asyncio.Event)
    hangup: asyncio.Event = field(default_factory=asyncio.Event)


Main = Callable[[Signals], Awaitable[None]]


def run(main: Main) -> int:
    """Runs `main(signals)` and returns the exit code: 0 when it returned, 2 when it could not start (CannotStart), 1 on a bug (logged).

    The first SIGINT or SIGTERM sets `stop`, and `main` is to end by itself; the second exits at once with 128 + its number.
    """
    log = logs.get_logger()
    try:
        asyncio.run(_until_stopped(main))
    except KeyboardInterrupt:  # before the handlers were in place, or after they were gone
        return 128 + signal.SIGINT
    except Exception as error:
        causes = list(_leaves(error))
        if all(isinstance(cause, CannotStart) for cause in causes):
            for cause in causes:
                sys.stderr.write(f"{cause}\n")
            return EXIT_CANNOT_START
        log.exception("process_failed")
        return EXIT_BUG
    finally:
        logs.flush()
    return EXIT_OK


def freeze_after_start() -> None:
    """Takes what the start made out of the garbage collector's sight: a full collection then looks only at what came since."""
    gc.collect()
    gc.freeze()


@asynccontextmanager
async def reloading(hangup: asyncio.Event, reload: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """While the block runs, each `hangup` calls `reload`, one at a time."""

    async def obey() -> None:
        while True:
            await hangup.wait()
            hangup.clear()
            await reload()

    async with asyncio.TaskGroup() as tasks:
        obeying = tasks.create_task(obey(), name="reload")
        yield
        obeying.cancel()


async def _until_stopped(main: Main) -> None:
    signals = Signals()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_signal, number, signals.stop)
    loop.add_signal_handler(signal.SIGHUP, signals.hangup.set)
    await main(signals)


def _on_signal(number: signal.Signals, stop: asyncio.Event) -> None:
    log = logs.get_logger()
    if stop.is_set():
        log.warning("stopped_at_once", signal=number.name)
        logs.flush(LAST_WORDS_S)
        os._exit(128 + number)
    log.info("stopping", signal=number.name)
    stop.set()


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
