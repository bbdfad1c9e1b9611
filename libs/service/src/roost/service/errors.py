"""The one table from `roost.cluster.errors` to gRPC statuses, and back. Details travel as `google.rpc.Status`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from roost.cluster import errors
from roost.cluster.errors import CommandFailed, InvalidField, RoostError
from roost.v1 import scheduler_pb2

DOMAIN: Final = "roost"
DETAILS_KEY: Final = "grpc-status-details-bin"
PUSHBACK_KEY: Final = "grpc-retry-pushback-ms"  # negative: gRPC's own retries would only repeat the question
MAX_TEXT_BYTES: Final = 800  # a message travels up to three times in 8 KiB of trailers, and percent-encoded in one of them
MAX_VALUE_BYTES: Final = 256
_NAMES_SEPARATOR: Final = ", "

Parse = Callable[[str], object]


def _names(joined: str) -> tuple[str, ...]:
    return tuple(joined.split(_NAMES_SEPARATOR)) if joined else ()


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of refusal: its status, who must act, what it means, and which attributes travel in ErrorInfo.metadata."""

    status: grpc.StatusCode
    who_acts: str
    meaning: str
    attributes: Mapping[str, Parse]


_CALLER = "the caller"
_RETRY = "nobody: retry later"
_ELSEWHERE = "the caller: ask the scheduler for another worker"
_OPERATOR = "the operator"
_CODE = grpc.StatusCode

STATUS: Final[Mapping[type[RoostError], Row]] = {
    InvalidField: Row(
        _CODE.INVALID_ARGUMENT, _CALLER, "A field is out of its range; BadRequest names the field.", {"field": str, "problem": str}
    ),
    errors.UnknownModel: Row(
        _CODE.NOT_FOUND, _CALLER, "No catalogue knows the model; the nearest names are given.", {"name": str, "nearest": _names}
    ),
    errors.UnknownWorker: Row(
        _CODE.NOT_FOUND, _CALLER, "No such worker is known; the nearest names are given.", {"name": str, "nearest": _names}
    ),
    errors.UnknownRequest: Row(
        _CODE.NOT_FOUND,
        _CALLER,
        "No decision on that request is remembered by this decider (any more).",
        {"request_id": str, "remembered": int},
    ),
    errors.ModelTooLarge: Row(
        _CODE.FAILED_PRECONDITION,
        _OPERATOR,
        "The model does not fit the memory budget even alone; both numbers are given.",
        {"name": str, "size_bytes": int, "budget_bytes": int},
    ),
    errors.ModelInUse: Row(
        _CODE.FAILED_PRECONDITION, _CALLER, "The model serves requests and cannot be put out now.", {"name": str, "requests": int}
    ),
    errors.StaleAttempt: Row(
        _CODE.ABORTED,
        _CALLER,
        "A later attempt of the generation has come, or this one was made before.",
        {"attempt": int, "last_attempt": int},
    ),
    errors.ReaderStalled: Row(
        _CODE.ABORTED,
        _CALLER,
        "Its stream was not read for too long, and its slot was freed; it can be resumed.",
        {"stalled_s": float},
    ),
    errors.NoCapacity: Row(
        _CODE.RESOURCE_EXHAUSTED, _RETRY, "A bounded queue or table is full; RetryInfo says when to retry.", {"retry_after_s": float}
    ),
    errors.NoWorkers: Row(
        _CODE.UNAVAILABLE, _RETRY, "No worker may take the request now; RetryInfo says when to retry.", {"retry_after_s": float}
    ),
    errors.WorkerDraining: Row(_CODE.UNAVAILABLE, _ELSEWHERE, "The worker takes no new requests.", {"worker_id": str}),
    errors.HandedOver: Row(
        _CODE.UNAVAILABLE,
        _ELSEWHERE,
        "The worker drains and its grace is over; another one goes on from the last token.",
        {"worker_id": str},
    ),
    errors.DeadlineImpossible: Row(
        _CODE.DEADLINE_EXCEEDED,
        _CALLER,
        "The request cannot start within its `deadline_s`; the estimate is given.",
        {"deadline_s": float, "estimate_s": float},
    ),
    errors.WorkerUnreachable: Row(
        _CODE.UNAVAILABLE, _RETRY, "The worker holds no command stream, or did not answer in time.", {"worker_id": str}
    ),
    errors.WorkerSuperseded: Row(
        _CODE.ABORTED,
        _OPERATOR,
        "A later life of the worker, or a newer stream of this one, has taken its place.",
        {"worker_id": str, "epoch": int, "current_epoch": int},
    ),
    errors.NotServedHere: Row(_CODE.UNIMPLEMENTED, _OPERATOR, "The call belongs to another process; the message says which.", {"fix": str}),
    errors.ServerStopping: Row(
        _CODE.UNAVAILABLE, _RETRY, "The process is shutting down; RetryInfo says when to retry.", {"retry_after_s": float}
    ),
    errors.ModelLoadFailed: Row(
        _CODE.FAILED_PRECONDITION,
        _OPERATOR,
        "The engine could not load the model: its file or server is at fault.",
        {"name": str, "why": str},
    ),
    errors.EngineFailed: Row(_CODE.ABORTED, _ELSEWHERE, "The engine broke while it served the request.", {"name": str, "why": str}),
    CommandFailed: Row(
        _CODE.UNKNOWN,
        _CALLER,
        "A worker refused a command; the status is the worker's own, `worker_reason` its reason.",
        {"worker_id": str, "code": int, "worker_reason": str},
    ),
}
_INTERNAL: Final = Row(_CODE.INTERNAL, "us: please report it", "A bug; the server's log has the details.", {})
_KIND_BY_REASON: Final[Mapping[str, type[RoostError]]] = {kind.reason: kind for kind in STATUS}
_CODE_BY_NUMBER: Final[Mapping[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


class RemoteError(RoostError):
    """A server's status that is none of the known refusals. `remote_reason` is its ErrorInfo reason, empty if it gave none."""

    reason = "REMOTE_ERROR"

    def __init__(self, code: grpc.StatusCode, message: str, remote_reason: str = "", retry_after_s: float = 0.0) -> None:
        super().__init__(f"{code.name}: {message}" if message else code.name)
        self.code = code
        self.remote_reason = remote_reason
        self.retry_after_s = retry_after_s


# --- domain to wire -------------------------------------------------------------------------------


def row_of(error: RoostError) -> Row:
    """The table's row; a kind that is not in the table is a bug of ours."""
    for kind in type(error).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return _INTERNAL


def status_of(error: RoostError) -> grpc.StatusCode:
    """The status it travels as."""
    if isinstance(error, CommandFailed):
        code = _CODE_BY_NUMBER.get(error.code, _CODE.UNKNOWN)
        return _CODE.UNKNOWN if code is _CODE.OK else code
    return row_of(error).status


def retry_after_s(error: RoostError) -> float:
    """Seconds after which a retry may succeed, 0.0 if a retry will not help by itself."""
    seconds = getattr(error, "retry_after_s", 0.0)
    return float(seconds) if isinstance(seconds, int | float) else 0.0


def to_rpc_status(error: RoostError) -> status_pb2.Status:
    """Status with ErrorInfo; BadRequest where a field is at fault; RetryInfo where a retry may help."""
    status = status_pb2.Status(code=status_of(error).value[0], message=_cut(str(error), MAX_TEXT_BYTES))
    metadata = {name: _cut(_written(getattr(error, name)), MAX_VALUE_BYTES) for name in row_of(error).attributes}
    _add(status, error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=metadata))
    if isinstance(error, InvalidField):
        violation = error_details_pb2.BadRequest.FieldViolation(
            field=_cut(error.field, 128), description=_cut(error.problem, MAX_VALUE_BYTES)
        )
        _add(status, error_details_pb2.BadRequest(field_violations=[violation]))
    if seconds := retry_after_s(error):
        delay = Duration()
        delay.FromNanoseconds(round(seconds * 1e9))
        _add(status, error_details_pb2.RetryInfo(retry_delay=delay))
    return status


def to_trailers(status: status_pb2.Status) -> tuple[tuple[str, str | bytes], ...]:
    """What a call is ended with: the details, and the wish that gRPC does not repeat by itself what was refused."""
    return ((DETAILS_KEY, status.SerializeToString()), (PUSHBACK_KEY, "-1"))


def internal_status(error_id: str) -> status_pb2.Status:
    """What a caller hears of a bug: nothing but the id under which the log has it."""
    status = status_pb2.Status(code=_CODE.INTERNAL.value[0], message=f"internal error {error_id}; the server's log has the details")
    _add(status, error_details_pb2.ErrorInfo(reason=RoostError.reason, domain=DOMAIN, metadata={"error_id": error_id}))
    return status


def to_refusal(error: RoostError) -> scheduler_pb2.Refusal:
    """The same answer on a scheduling stream, where one refusal does not end the stream."""
    return scheduler_pb2.Refusal(
        code=status_of(error).value[0],
        message=_cut(str(error), MAX_TEXT_BYTES),
        reason=error.reason,
        retry_after_s=retry_after_s(error),
    )


def _add(
    status: status_pb2.Status, detail: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo
) -> None:
    packed = AnyMessage()
    packed.Pack(detail)
    status.details.append(packed)


def _written(value: object) -> str:
    return _NAMES_SEPARATOR.join(map(str, value)) if isinstance(value, tuple) else str(value)


def _cut(text: str, max_bytes: int) -> str:
    encoded = text.encode("utf-8", "replace")
    return encoded.decode() if len(encoded) <= max_bytes else encoded[: max_bytes - 3].decode("utf-8", "ignore") + "…"


# --- wire to domain -------------------------------------------------------------------------------


def from_rpc_error(error: grpc.aio.AioRpcError) -> RoostError:
    """What the server meant: the refusal it raised, or RemoteError for everything else."""
    serialized = next((value for key, value in error.trailing_metadata() or () if key == DETAILS_KEY), None)
    message = error.details() or ""
    if not isinstance(serialized, bytes):
        return RemoteError(error.code(), message)
    try:
        return _from_status(error.code(), status_pb2.Status.FromString(serialized))
    except DecodeError:  # not one of our servers
        return RemoteError(error.code(), message)


def from_refusal(refusal: scheduler_pb2.Refusal) -> RoostError:
    """The typed refusal as far as its reason, message and retry time tell."""
    code = _CODE_BY_NUMBER.get(refusal.code, _CODE.UNKNOWN)
    kind = _KIND_BY_REASON.get(refusal.reason)
    if kind is not None and STATUS[kind].attributes.keys() <= {"retry_after_s"}:
        return _rebuilt(kind, refusal.message, {"retry_after_s": refusal.retry_after_s})
    return RemoteError(code, refusal.message, refusal.reason, refusal.retry_after_s)


def _from_status(code: grpc.StatusCode, status: status_pb2.Status) -> RoostError:
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(retry)
    kind = _KIND_BY_REASON.get(info.reason) if info.domain == DOMAIN else None
    remote = RemoteError(code, status.message, info.reason, retry.retry_delay.ToTimedelta().total_seconds())
    if kind is None:
        return remote
    try:
        attributes = {name: parse(info.metadata[name]) for name, parse in STATUS[kind].attributes.items() if name in info.metadata}
    except ValueError:  # a number that is none: another version's words
        return remote
    return _rebuilt(kind, status.message, attributes) if attributes.keys() == STATUS[kind].attributes.keys() else remote


def _rebuilt(kind: type[RoostError], message: str, attributes: Mapping[str, object]) -> RoostError:
    """The error as it was raised. Its constructor writes the message; here the message is already written."""
    error = kind.__new__(kind, message)
    for name, value in attributes.items():
        setattr(error, name, value)
    return error


# --- documentation --------------------------------------------------------------------------------


def status_table() -> str:
    """Markdown rows of every refusal: reason, status, who acts, meaning."""
    rows = [f"| `{kind.reason}` | `{row.status.name}` | {row.who_acts} | {row.meaning} |" for kind, row in STATUS.items()]
    rows.append(f"| `{RoostError.reason}` | `{_INTERNAL.status.name}` | {_INTERNAL.who_acts} | {_INTERNAL.meaning} |")
    return "\n".join(["| Reason | Status | Who acts | Meaning |", "| --- | --- | --- | --- |", *rows])
