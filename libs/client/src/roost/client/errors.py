"""How a call can fail on the client's side of the wire. What servers refuse comes back as `roost.cluster.errors`."""

from __future__ import annotations

from collections.abc import Sequence

from roost.cluster.errors import RoostError
from roost.flow.errors import CallTimedOut, ClusterUnreachable, Failure, GenerationInterrupted, NoWorkerTookIt

__all__ = ["CallTimedOut", "ClusterUnreachable", "Failure", "GenerationInterrupted", "NoWorkerTookIt", "NotRecorded"]


class NotRecorded(RoostError):
    """No decision on a request of that name is in the recording; its files hold `decisions`."""

    reason = "UNKNOWN_REQUEST"

    def __init__(self, request_id: str, files: Sequence[str], decisions: int) -> None:
        super().__init__(f"no decision on request {request_id!r} is among the {decisions} in {' and '.join(files)}; older ones are gone")
        self.request_id = request_id
        self.decisions = decisions
