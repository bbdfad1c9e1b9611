"""What the exit code of the command means: one table, shown in --help and used everywhere."""

from __future__ import annotations

import enum

import grpc

from roost.client.errors import ClusterUnreachable, NotRecorded, NoWorkerTookIt
from roost.cluster.errors import (
    CommandFailed,
    InvalidField,
    NoCapacity,
    NoWorkers,
    RoostError,
    UnknownModel,
    UnknownRequest,
    UnknownWorker,
    WorkerDraining,
)
from roost.service.errors import RemoteError


class ExitCode(enum.IntEnum):
    """Codes that scripts may rely on."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    UNKNOWN_NAME = 4
    NO_CAPACITY = 5
    INTERRUPTED = 130
    BROKEN_PIPE = 141


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "refused or failed",
    ExitCode.USAGE: "wrong usage, or a value out of its range",
    ExitCode.UNREACHABLE: "the cluster was not reached",
    ExitCode.UNKNOWN_NAME: "no such model, worker or request",
    ExitCode.NO_CAPACITY: "no worker, or none has room now",
    ExitCode.INTERRUPTED: "ended by Ctrl-C",
    ExitCode.BROKEN_PIPE: "the reader of the output went away",
}

_BY_ERROR: tuple[tuple[tuple[type[RoostError], ...], ExitCode], ...] = (
    ((InvalidField,), ExitCode.USAGE),
    ((ClusterUnreachable,), ExitCode.UNREACHABLE),
    ((UnknownModel, UnknownWorker, UnknownRequest, NotRecorded), ExitCode.UNKNOWN_NAME),
    ((NoCapacity, NoWorkers, WorkerDraining, NoWorkerTookIt), ExitCode.NO_CAPACITY),
)

_BY_STATUS = {
    grpc.StatusCode.INVALID_ARGUMENT: ExitCode.USAGE,
    grpc.StatusCode.UNIMPLEMENTED: ExitCode.UNREACHABLE,
    grpc.StatusCode.NOT_FOUND: ExitCode.UNKNOWN_NAME,
    grpc.StatusCode.RESOURCE_EXHAUSTED: ExitCode.NO_CAPACITY,
    grpc.StatusCode.UNAVAILABLE: ExitCode.NO_CAPACITY,
}

_BY_WORKER_REASON = {
    InvalidField.reason: ExitCode.USAGE,
    UnknownModel.reason: ExitCode.UNKNOWN_NAME,
    NoCapacity.reason: ExitCode.NO_CAPACITY,
}


def exit_code_of(error: RoostError) -> ExitCode:
    """The code for an error that was expected to be possible."""
    if isinstance(error, RemoteError):
        return _BY_STATUS.get(error.code, ExitCode.FAILED)
    if isinstance(error, CommandFailed):
        return _BY_WORKER_REASON.get(error.worker_reason, ExitCode.FAILED)
    return next((code for kinds, code in _BY_ERROR if isinstance(error, kinds)), ExitCode.FAILED)


def exit_codes_help() -> str:
    """The table as lines for --help."""
    return "Exit codes:\n" + "\n".join(f"{code.value:>5} {meaning}" for code, meaning in MEANINGS.items())
