"""The coordinator's own messages, to and from the wire. What both planes share is in `roost.service`."""

from __future__ import annotations

from roost.cluster.errors import InvalidField
from roost.coordinator.connections import Downward, Welcome
from roost.service.operating.codec import command_to_wire, result_from_wire
from roost.service.operating.serving import Upward
from roost.service.report_changes import ReportReader
from roost.v1 import coordinator_pb2


def upward_from_wire(message: coordinator_pb2.ConnectRequest, reports: ReportReader) -> Upward:
    """`reports` are those of the message's stream. Raises InvalidField."""
    if message.HasField("report"):
        return reports.read(message.report)
    if message.HasField("result"):
        return result_from_wire(message.result)
    raise InvalidField("message", "is empty; it must be a report or a result")


def downward_to_wire(message: Downward) -> coordinator_pb2.ConnectResponse:
    if isinstance(message, Welcome):
        welcome = coordinator_pb2.Welcome(
            coordinator_epoch=message.coordinator_epoch, dead_after_s=message.dead_after_s, takes_changes=True
        )
        return coordinator_pb2.ConnectResponse(welcome=welcome)
    return coordinator_pb2.ConnectResponse(command=command_to_wire(message))
