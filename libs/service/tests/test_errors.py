from __future__ import annotations

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2

from roost.cluster import errors
from roost.cluster.errors import CommandFailed, InvalidField, NoCapacity, NoWorkers, RoostError, UnknownModel
from roost.service.errors import (
    DETAILS_KEY,
    DOMAIN,
    STATUS,
    RemoteError,
    from_refusal,
    from_rpc_error,
    internal_status,
    retry_after_s,
    status_of,
    status_table,
    to_refusal,
    to_rpc_status,
    to_trailers,
)

ONE_OF_EACH: list[RoostError] = [
    InvalidField("priority", "must be 0-9"),
    errors.UnknownModel("llama-8b", ("llama-7b", "llama-70b")),
    errors.UnknownModel("nothing-like-it"),
    errors.UnknownWorker("worker-9", ("worker-1",)),
    errors.UnknownRequest("r7", 1_000),
    errors.ModelTooLarge("llama-70b", 140_000_000_000, 300_000_000),
    errors.ModelInUse("llama-7b", 3),
    errors.StaleAttempt(1, 3),
    errors.ReaderStalled(60.0),
    errors.NoCapacity("the queue is full", 1.5),
    errors.NoWorkers("no worker is known"),
    errors.WorkerDraining("worker-1"),
    errors.HandedOver("worker-1"),
    errors.DeadlineImpossible(0.1, 3.25),
    errors.WorkerUnreachable("worker-1", "it holds no stream"),
    errors.WorkerSuperseded("worker-1", 1, 2),
    errors.NotServedHere("a sidecar takes no reports", "start it with --sidecar"),
    errors.ServerStopping("the coordinator"),
    errors.ModelLoadFailed("llama-7b", "no such file"),
    errors.EngineFailed("llama-7b", "its process died"),
    errors.CommandFailed("worker-1", 8, "NO_CAPACITY", "the load queue is full"),
]


def as_received(error: RoostError) -> grpc.aio.AioRpcError:
    status = to_rpc_status(error)
    return grpc.aio.AioRpcError(status_of(error), grpc.aio.Metadata(), grpc.aio.Metadata(*to_trailers(status)), status.message)


def test_every_refusal_has_a_row_in_the_table() -> None:
    kinds = {kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, RoostError) and kind is not RoostError}
    assert set(STATUS) == kinds
    assert {type(error) for error in ONE_OF_EACH} == kinds


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: error.reason)
def test_a_refusal_comes_back_as_what_was_raised(error: RoostError) -> None:
    received = from_rpc_error(as_received(error))
    assert type(received) is type(error)
    assert str(received) == str(error)
    assert {name: getattr(received, name) for name in STATUS[type(error)].attributes} == {
        name: getattr(error, name) for name in STATUS[type(error)].attributes
    }


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: error.reason)
def test_every_public_attribute_of_a_refusal_travels(error: RoostError) -> None:
    derived = {errors.WorkerUnreachable: {"why"}, errors.EngineFailed: {"is_model_lost"}}.get(type(error), set())  # the worker's own
    assert set(vars(error)) - derived == set(STATUS[type(error)].attributes)


def test_a_bad_field_is_named_in_bad_request() -> None:
    status = to_rpc_status(InvalidField("priority", "must be 0-9"))
    violations = error_details_pb2.BadRequest()
    assert status.details[1].Unpack(violations)
    assert [(violation.field, violation.description) for violation in violations.field_violations] == [("priority", "must be 0-9")]


def test_a_retry_time_travels_as_retry_info() -> None:
    retry = error_details_pb2.RetryInfo()
    assert to_rpc_status(NoCapacity("full", 1.25)).details[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 1250


def test_a_failed_command_ends_with_the_status_of_the_worker() -> None:
    assert status_of(CommandFailed("w", 8, "NO_CAPACITY", "full")) is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert status_of(CommandFailed("w", 0, "", "a worker that says OK to a failure")) is grpc.StatusCode.UNKNOWN
    assert status_of(CommandFailed("w", 99, "", "no such code")) is grpc.StatusCode.UNKNOWN


def test_a_refusal_that_is_missing_in_the_table_is_a_bug_of_ours() -> None:
    class Unlisted(RoostError):
        reason = "UNLISTED"

    assert status_of(Unlisted("?")) is grpc.StatusCode.INTERNAL


def test_the_trailers_of_the_longest_refusal_fit_eight_kilobytes() -> None:
    wide = "\U0001f9a4" * 128
    trailers = to_trailers(to_rpc_status(UnknownModel(wide, (wide, wide, wide))))
    message = to_rpc_status(UnknownModel(wide, (wide, wide, wide))).message
    on_the_wire = sum(len(key) + 4 * len(value) / 3 + 32 for key, value in trailers) + 3 * len(message.encode())
    assert on_the_wire < 8000


def test_other_statuses_become_remote_errors() -> None:
    plain = from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "gone"))
    assert isinstance(plain, RemoteError)
    assert (plain.code, plain.remote_reason, str(plain)) == (grpc.StatusCode.UNAVAILABLE, "", "UNAVAILABLE: gone")
    garbled = grpc.aio.Metadata((DETAILS_KEY, b"\xff\xff\xff"))
    assert isinstance(from_rpc_error(grpc.aio.AioRpcError(grpc.StatusCode.NOT_FOUND, grpc.aio.Metadata(), garbled, "?")), RemoteError)


def test_a_known_reason_with_unreadable_attributes_becomes_a_remote_error() -> None:
    status = to_rpc_status(NoWorkers("none"))
    status.details[0].Pack(error_details_pb2.ErrorInfo(reason="NO_WORKERS", domain=DOMAIN, metadata={"retry_after_s": "soon"}))
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(*to_trailers(status)), "none")
    received = from_rpc_error(error)
    assert isinstance(received, RemoteError)
    assert (received.remote_reason, retry_after_s(received)) == ("NO_WORKERS", 1.0)


def test_a_bug_tells_its_id_and_nothing_else() -> None:
    status = internal_status("ab12")
    assert status.message == "internal error ab12; the server's log has the details"
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, dict(info.metadata)) == ("INTERNAL", {"error_id": "ab12"})


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=lambda error: error.reason)
def test_a_stream_refuses_with_the_same_code_reason_and_retry_time(error: RoostError) -> None:
    refusal = to_refusal(error)
    assert (refusal.code, refusal.message, refusal.reason) == (status_of(error).value[0], str(error), error.reason)
    assert refusal.retry_after_s == retry_after_s(error)
    received = from_refusal(refusal)
    assert retry_after_s(received) == retry_after_s(error)
    assert type(received) is type(error) or isinstance(received, RemoteError)


def test_the_documented_table_lists_every_reason() -> None:
    table = status_table()
    assert all(f"| `{kind.reason}` | `{row.status.name}` |" in table for kind, row in STATUS.items())
    assert "| `INTERNAL` | `INTERNAL` |" in table
