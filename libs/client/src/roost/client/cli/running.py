"""Runs the async part of a verb, and turns what may go wrong into one line and an exit code."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress

import grpc
import typer

from roost.client.cli.exits import ExitCode, exit_code_of
from roost.client.errors import ClusterUnreachable, GenerationInterrupted
from roost.cluster.errors import InvalidField, RoostError
from roost.service.errors import RemoteError, retry_after_s

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

HINT_UNREACHABLE = 'Is the cluster up? Start one with "roost up", or say where it is with --coordinator HOST:PORT or ROOST_COORDINATOR.'


def run(main: Callable[[], Coroutine[None, None, ExitCode | None]], *, as_json: bool = False) -> None:
    """Runs a verb to its end and exits with its code. Errors with a name are shown as one line, others as they are."""
    try:
        code = asyncio.run(_interruptible(main())) or ExitCode.OK
        sys.stdout.flush()
    except RoostError as error:
        code = show_error(error, as_json=as_json)
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()
        code = ExitCode.BROKEN_PIPE
    raise typer.Exit(code)


async def _interruptible(verb: Coroutine[None, None, ExitCode | None]) -> ExitCode | None:
    """Ctrl-C cancels the verb, once; a second one is Python's again.

    `asyncio.run` does so too, but nothing wakes its loop: a signal that comes just before the loop waits is not seen while it does.
    """
    if threading.current_thread() is not threading.main_thread():
        return await verb
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    is_interrupted = False

    def interrupt() -> None:
        nonlocal is_interrupted
        is_interrupted = True
        loop.remove_signal_handler(signal.SIGINT)
        if task is not None:
            task.cancel()

    loop.add_signal_handler(signal.SIGINT, interrupt)
    try:
        return await verb
    except asyncio.CancelledError:
        if is_interrupted:
            return ExitCode.INTERRUPTED
        raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def show_error(error: RoostError, *, as_json: bool) -> ExitCode:
    """One line on stderr; with `as_json` also {"error": ...} on stdout."""
    with suppress(BrokenPipeError):
        say(f"roost: {error_text(error)}")
        if as_json:
            print_json({"error": error_json(error)})
    return exit_code_of(error)


def error_text(error: RoostError) -> str:
    """What went wrong, its machine-readable reason, and what to do where we know it. One line."""
    if isinstance(error, ClusterUnreachable):
        text = f"{error}. {HINT_UNREACHABLE}"
    elif isinstance(error, RemoteError) and error.code is grpc.StatusCode.UNIMPLEMENTED:
        text = f"what answers there does not serve this call: a worker, an older Roost, another service ({error}). {HINT_UNREACHABLE}"
    else:
        text = f"{error} [{reason_of(error)}]"
    return " ".join(text.split())


def reason_of(error: RoostError) -> str:
    """The word scripts may compare, such as UNKNOWN_MODEL."""
    return (error.remote_reason or error.code.name) if isinstance(error, RemoteError) else error.reason


def error_json(error: RoostError) -> dict[str, Json]:
    """The error for scripts; `field` and `retry_after_s` only where there are such."""
    view: dict[str, Json] = {"reason": reason_of(error), "message": str(error), "exit_code": int(exit_code_of(error))}
    if isinstance(error, InvalidField):
        view["field"] = error.field
    if wish_s := retry_after_s(error):
        view["retry_after_s"] = wish_s
    if isinstance(error, GenerationInterrupted):
        view["text"] = error.text
        view["worker_id"] = error.worker_id
    return view


def print_json(view: Json) -> None:
    """One line, flushed, so that a reader sees it when it happens."""
    print(json.dumps(view, ensure_ascii=False), flush=True)


def say(line: str) -> None:
    """A line for people, on stderr."""
    print(line, file=sys.stderr, flush=True)


def _silence_stdout() -> None:
    """The interpreter flushes stdout as it ends; with nobody reading, that goes nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
