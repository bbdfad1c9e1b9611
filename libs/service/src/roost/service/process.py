"""The life of a process: signals ask it to stop, a second one ends it at once, and its exit code says what happened."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from roost.service import logs
from roost.service.startup import EXIT_CANNOT_START, CannotStart

EXIT_OK: Final = 0
EXIT_BUG: Final = 1
LAST_WORDS_S: Final = 0.2  # what a second signal still waits for the log


def run(main: Callable[[asyncio.Event], Awaitable[None]]) -> int:
    """Runs `main(stop)` and returns the exit code: 0 when it returned, 2 when it could not start (CannotStart), 1 on a bug (logged).

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


async def _until_stopped(main: Callable[[asyncio.Event], Awaitable[None]]) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _on_signal, number, stop)
    await main(stop)


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
