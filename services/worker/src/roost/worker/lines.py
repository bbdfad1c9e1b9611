"""The two kinds of peer that a worker reports to, and what is said on a stream to each: a coordinator commands, a sidecar only listens."""

from __future__ import annotations

from collections.abc import Callable

import grpc

from roost.cluster.errors import InvalidField, NoCapacity, RoostError
from roost.cluster.names import check_model_name
from roost.service.errors import to_refusal
from roost.service.logs import get_logger
from roost.v1 import coordinator_pb2, coordinator_pb2_grpc, gossip_pb2, gossip_pb2_grpc, state_pb2
from roost.worker.runtime import Runtime

MAX_COMMANDS = 64  # run at once; an operator's wishes, never load

CoordinatorCall = grpc.aio.StreamStreamCall[coordinator_pb2.ConnectRequest, coordinator_pb2.ConnectResponse]
SidecarCall = grpc.aio.StreamStreamCall[gossip_pb2.PublishRequest, gossip_pb2.PublishResponse]
log = get_logger()


class CoordinatorLine:
    """`roost.v1.Coordinator.Connect`. State: how many commands are under way."""

    name = "coordinator"
    down = coordinator_pb2.ConnectResponse

    def __init__(self, runtime: Runtime, *, clock: Callable[[], float]) -> None:
        self._runtime = runtime
        self._clock = clock
        self._under_way = 0

    def open(self, channel: grpc.aio.Channel) -> CoordinatorCall:
        return coordinator_pb2_grpc.CoordinatorStub(channel).Connect()

    def report(self, report: state_pb2.WorkerLoadReport) -> coordinator_pb2.ConnectRequest:
        return coordinator_pb2.ConnectRequest(report=report)

    async def obey(self, message: coordinator_pb2.ConnectResponse) -> coordinator_pb2.ConnectRequest | None:
        """Carries a command out and answers it, whatever came of it."""
        if message.WhichOneof("message") != "command":
            return None
        self._under_way += 1
        try:
            return coordinator_pb2.ConnectRequest(result=await self._execute(message.command))
        finally:
            self._under_way -= 1

    async def _execute(self, command: coordinator_pb2.Command) -> coordinator_pb2.CommandResult:
        started = self._clock()
        result = coordinator_pb2.CommandResult(command_id=command.command_id)
        try:
            if self._under_way > MAX_COMMANDS:
                raise NoCapacity(f"{MAX_COMMANDS} commands are under way", 1.0)
            await self._carry_out(command)
        except RoostError as error:
            refusal = to_refusal(error)
            result.code, result.message, result.reason = refusal.code, refusal.message, refusal.reason
        result.elapsed_s = self._clock() - started
        log.info("command_done", command=command.WhichOneof("action"), code=result.code, message=result.message)
        return result

    async def _carry_out(self, command: coordinator_pb2.Command) -> None:
        match command.WhichOneof("action"):
            case "load_model":
                await self._runtime.load(check_model_name(command.load_model.model), is_pinned=command.load_model.pin)
            case "unload_model":
                await self._runtime.unload(check_model_name(command.unload_model.model))
            case "drain":
                self._runtime.drain(resume=command.drain.resume)
            case _:
                raise InvalidField("action", "is none that this version of the worker knows")


class SidecarLine:
    """`roost.v1.Gossip.Publish`."""

    name = "sidecar"
    down = gossip_pb2.PublishResponse

    def open(self, channel: grpc.aio.Channel) -> SidecarCall:
        return gossip_pb2_grpc.GossipStub(channel).Publish()

    def report(self, report: state_pb2.WorkerLoadReport) -> gossip_pb2.PublishRequest:
        return gossip_pb2.PublishRequest(report=report)

    async def obey(self, message: gossip_pb2.PublishResponse) -> None:
        """A sidecar's welcome asks for nothing."""
