"""Every way Roost says no, named by who must act. One table (`roost.service.errors`) maps them to gRPC.

Domain code raises these and nothing else; servicers let them pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class RoostError(Exception):
    """Base of all refusals. `reason` is the machine-readable word that travels in `google.rpc.ErrorInfo`."""

    reason: ClassVar[str] = "INTERNAL"


# --- the caller must change something -------------------------------------------------------------


class InvalidField(RoostError):
    """One field of a request is out of its range; the message names the field and the fix."""

    reason = "INVALID_FIELD"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem


class UnknownModel(RoostError):
    """No catalogue knows the model; `nearest` are the names that look most like it."""

    reason = "UNKNOWN_MODEL"

    def __init__(self, name: str, nearest: Sequence[str] = ()) -> None:
        hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
        super().__init__(f"no catalogue knows a model named {name!r}{hint}")
        self.name = name
        self.nearest = tuple(nearest)


class UnknownWorker(RoostError):
    """No worker of that name is known; `nearest` are the names that look most like it."""

    reason = "UNKNOWN_WORKER"

    def __init__(self, name: str, nearest: Sequence[str] = ()) -> None:
        hint = f"; did you mean {', '.join(nearest)}?" if nearest else ""
        super().__init__(f"no worker named {name!r} is known{hint}")
        self.name = name
        self.nearest = tuple(nearest)


class UnknownRequest(RoostError):
    """No decision on a request of that name is remembered; the decider remembers its last `remembered` decisions."""

    reason = "UNKNOWN_REQUEST"

    def __init__(self, request_id: str, remembered: int) -> None:
        kept = f"the last {remembered} are remembered" if remembered else "none are remembered (--remember 0)"
        super().__init__(f"no decision on request {request_id!r} is remembered here; of this decider's decisions {kept}")
        self.request_id = request_id
        self.remembered = remembered


class ModelTooLarge(RoostError):
    """The model does not fit the memory budget even when everything else is out."""

    reason = "MODEL_TOO_LARGE"

    def __init__(self, name: str, size_bytes: int, budget_bytes: int) -> None:
        super().__init__(f"{name} takes {size_bytes} bytes and the memory budget is {budget_bytes} bytes")
        self.name = name
        self.size_bytes = size_bytes
        self.budget_bytes = budget_bytes


class ModelInUse(RoostError):
    """The model cannot be put out while requests use it."""

    reason = "MODEL_IN_USE"

    def __init__(self, name: str, requests: int) -> None:
        super().__init__(f"{name} is in use by {requests} request(s); try again when they have ended")
        self.name = name
        self.requests = requests


class StaleAttempt(RoostError):
    """A call that is not the last attempt of its generation: a later one has come, or this one was made before."""

    reason = "STALE_ATTEMPT"

    def __init__(self, attempt: int, last_attempt: int) -> None:
        super().__init__(f"attempt {attempt} of this generation is over: attempt {last_attempt} has come; to go on, send a higher one")
        self.attempt = attempt
        self.last_attempt = last_attempt


class ReaderStalled(RoostError):
    """The caller took nothing of its stream for so long that its slot was given to others; it may resume from what it has."""

    reason = "READER_STALLED"

    def __init__(self, stalled_s: float) -> None:
        super().__init__(f"nothing was read of the stream for {stalled_s:.0f} s, and its slot was freed; resume from what was read")
        self.stalled_s = stalled_s


# --- nobody's mistake: there is no room, or no one, now -------------------------------------------


class NoCapacity(RoostError):
    """A bounded queue or table is full; a retry after `retry_after_s` may succeed."""

    reason = "NO_CAPACITY"

    def __init__(self, what: str, retry_after_s: float) -> None:
        super().__init__(f"{what}; retry in {retry_after_s:.1f} s")
        self.retry_after_s = retry_after_s


class NoWorkers(RoostError):
    """No worker may take the request: none is known, or all are suspect, dead, draining or excluded."""

    reason = "NO_WORKERS"

    def __init__(self, why: str, retry_after_s: float = 1.0) -> None:
        super().__init__(why)
        self.retry_after_s = retry_after_s


class WorkerDraining(RoostError):
    """The worker takes no new requests; another one should be asked."""

    reason = "WORKER_DRAINING"

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"{worker_id} is draining and takes no new requests; ask the scheduler for another worker")
        self.worker_id = worker_id


class HandedOver(RoostError):
    """The worker drains and its time for what runs there is over: the generation goes on elsewhere from the last token."""

    reason = "HANDED_OVER"

    def __init__(self, worker_id: str) -> None:
        super().__init__(f"{worker_id} is draining and hands its generations over; go on elsewhere from the last token")
        self.worker_id = worker_id


class DeadlineImpossible(RoostError):
    """The request cannot start within the time its caller allows; `estimate_s` is what it would take."""

    reason = "DEADLINE_IMPOSSIBLE"

    def __init__(self, deadline_s: float, estimate_s: float) -> None:
        super().__init__(f"the request may wait {deadline_s:.3g} s and would wait about {estimate_s:.3g} s")
        self.deadline_s = deadline_s
        self.estimate_s = estimate_s


# --- a peer, a file or an engine misbehaved -------------------------------------------------------


class WorkerUnreachable(RoostError):
    """The worker holds no command stream, or did not answer a command in time."""

    reason = "WORKER_UNREACHABLE"

    def __init__(self, worker_id: str, why: str) -> None:
        super().__init__(f"{worker_id} cannot be reached: {why}")
        self.worker_id = worker_id


class WorkerSuperseded(RoostError):
    """A stream of an earlier life of the worker; a later life, or a newer stream of the same one, has taken its place."""

    reason = "WORKER_SUPERSEDED"

    def __init__(self, worker_id: str, epoch: int, current_epoch: int) -> None:
        super().__init__(
            f"{worker_id} has a newer stream (epoch {current_epoch}; this one is of epoch {epoch}); two workers must not share a name"
        )
        self.worker_id = worker_id
        self.epoch = epoch
        self.current_epoch = current_epoch


class NotServedHere(RoostError):
    """The service is served here, but not this call of it; the message names who is to call whom instead."""

    reason = "NOT_SERVED_HERE"

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}; {fix}")
        self.fix = fix


class ServerStopping(RoostError):
    """The process is shutting down; another one, or its next life, will answer."""

    reason = "SERVER_STOPPING"

    def __init__(self, what: str, retry_after_s: float = 1.0) -> None:
        super().__init__(f"{what} is stopping; try another one, or again when it is back")
        self.retry_after_s = retry_after_s


class ModelLoadFailed(RoostError):
    """The engine could not load the model: missing or corrupt file, wrong format, server refused."""

    reason = "MODEL_LOAD_FAILED"

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} could not be loaded: {why}")
        self.name = name
        self.why = why


class EngineFailed(RoostError):
    """The engine broke while it served the request; another worker may succeed.

    `is_model_lost`: the weights are gone with it, and so is what else runs on them; else only this request has failed.
    """

    reason = "ENGINE_FAILED"

    def __init__(self, name: str, why: str, *, is_model_lost: bool = False) -> None:
        super().__init__(f"the engine of {name} failed: {why}")
        self.name = name
        self.why = why
        self.is_model_lost = is_model_lost


class CommandFailed(RoostError):
    """A worker answered a command with a refusal; `code` is its google.rpc.Code and `worker_reason` its word."""

    reason = "COMMAND_FAILED"

    def __init__(self, worker_id: str, code: int, worker_reason: str, message: str) -> None:
        super().__init__(f"{worker_id}: {message}")
        self.worker_id = worker_id
        self.code = code
        self.worker_reason = worker_reason
