"""How a call fails on the caller's side of the wire. What servers refuse is in `roost.cluster.errors`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roost.cluster.errors import RoostError
from roost.flow.steps import Token


@dataclass(frozen=True, slots=True)
class Failure:
    """One thing that was asked and what became of it. `who` is an address or a worker's name."""

    who: str
    why: str

    def __str__(self) -> str:
        return f"{self.who}: {self.why}"


class ClusterUnreachable(RoostError):
    """No target answered; `tried` says what became of each."""

    reason = "CLUSTER_UNREACHABLE"

    def __init__(self, tried: Sequence[Failure]) -> None:
        super().__init__(f"no answer from {'; '.join(map(str, tried))}")
        self.tried = tuple(tried)


class CallTimedOut(RoostError):
    """The answer did not come within the time the caller gave; what was asked for may still happen."""

    reason = "TIMED_OUT"

    def __init__(self, what: str, timeout_s: float) -> None:
        super().__init__(f"{what} did not end within {timeout_s:g} s")
        self.timeout_s = timeout_s


class NoWorkerTookIt(RoostError):
    """Every attempt ended with a worker that refused or was lost; `failures` has one entry a worker asked."""

    reason = "NO_WORKER_TOOK_IT"

    def __init__(self, failures: Sequence[Failure], last: str) -> None:
        super().__init__(f"no worker took the request ({'; '.join(map(str, failures))}); {last}")
        self.failures = tuple(failures)


class GenerationInterrupted(RoostError):
    """It failed after the first token: its worker was lost and it could not or should not be continued, or time ran out.

    `text` and `tokens` are what arrived until then; the cause says what went wrong last.
    """

    reason = "GENERATION_INTERRUPTED"

    def __init__(self, worker_id: str, why: str, tokens: Sequence[Token]) -> None:
        super().__init__(f"{worker_id} was lost after {len(tokens)} tokens: {why}")
        self.worker_id = worker_id
        self.tokens = tuple(tokens)
        self.text = "".join(token.text for token in tokens)
