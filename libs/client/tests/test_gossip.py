"""The verbs of the gossip plane against a stand-in sidecar: members and keys."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import pytest
from client_peers import Roost
from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from roost.client.gossip import GossipClient, MemberStatus, WorkerPresence
from roost.cluster.errors import InvalidField
from roost.service.errors import status_of, to_rpc_status, to_trailers
from roost.v1 import gossip_pb2
from roost.v1.gossip_pb2_grpc import GossipServicer, add_GossipServicer_to_server

Context = grpc.aio.ServicerContext[object, object]


@dataclass
class StandInSidecar(GossipServicer):
    """Knows itself and a dead neighbour; takes any key but b"bad..."."""

    address: str = ""
    keys: list[str] = field(default_factory=lambda: ["0a0b0c0d"])
    statuses: list[gossip_pb2.MemberStatus.ValueType] = field(default_factory=lambda: [gossip_pb2.MEMBER_STATUS_DEAD])

    def members(self, status: gossip_pb2.MemberStatus.ValueType) -> gossip_pb2.GetMembersResponse:
        own = gossip_pb2.Member(
            node_id="worker-1",
            address="127.0.0.1:7946",
            status=gossip_pb2.MEMBER_STATUS_ALIVE,
            epoch=7,
            grpc_address=self.address,
            worker=gossip_pb2.WORKER_PRESENCE_HERE,
            age_s=0.5,
            is_self=True,
        )
        other = gossip_pb2.Member(node_id="worker-2", address="127.0.0.1:7947", status=status, epoch=8)
        return gossip_pb2.GetMembersResponse(cluster="roost", members=[own, other])

    async def CommandWorker(self, request: gossip_pb2.CommandWorkerRequest, context: Context) -> gossip_pb2.CommandWorkerResponse:
        raise NotImplementedError

    async def GetMembers(self, request: gossip_pb2.GetMembersRequest, context: Context) -> gossip_pb2.GetMembersResponse:
        return self.members(self.statuses[-1])

    async def WatchMembers(
        self, request: gossip_pb2.WatchMembersRequest, context: Context
    ) -> AsyncIterator[gossip_pb2.WatchMembersResponse]:
        for status in self.statuses:
            yield gossip_pb2.WatchMembersResponse(state=self.members(status))
        await asyncio.Event().wait()

    async def ListKeys(self, request: gossip_pb2.ListKeysRequest, context: Context) -> gossip_pb2.ListKeysResponse:
        keys = [gossip_pb2.KeyView(key_id=key, in_use=number == 0) for number, key in enumerate(self.keys)]
        return gossip_pb2.ListKeysResponse(keys=keys)

    async def InstallKey(self, request: gossip_pb2.InstallKeyRequest, context: Context) -> gossip_pb2.InstallKeyResponse:
        self.keys.append(request.key.hex()[:8])
        return gossip_pb2.InstallKeyResponse(key_id=self.keys[-1], saved=True)

    async def UseKey(self, request: gossip_pb2.UseKeyRequest, context: Context) -> gossip_pb2.UseKeyResponse:
        if request.key_id not in self.keys:
            status = to_rpc_status(InvalidField("key_id", "names no key of this sidecar"))
            await context.abort(status_of(InvalidField("key_id", "")), status.message, to_trailers(status))
        return gossip_pb2.UseKeyResponse(saved=False)

    async def RemoveKey(self, request: gossip_pb2.RemoveKeyRequest, context: Context) -> gossip_pb2.RemoveKeyResponse:
        self.keys.remove(request.key_id)
        return gossip_pb2.RemoveKeyResponse(saved=True)

    async def Join(self, request: gossip_pb2.JoinRequest, context: Context) -> gossip_pb2.JoinResponse:
        raise NotImplementedError

    async def Leave(self, request: gossip_pb2.LeaveRequest, context: Context) -> gossip_pb2.LeaveResponse:
        raise NotImplementedError

    def Publish(
        self, request_iterator: AsyncIterator[gossip_pb2.PublishRequest], context: Context
    ) -> AsyncIterator[gossip_pb2.PublishResponse]:
        raise NotImplementedError


@pytest.fixture
async def sidecar() -> AsyncIterator[StandInSidecar]:
    made = StandInSidecar()
    server = grpc.aio.server()
    add_GossipServicer_to_server(made, server)
    made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield made
    await server.stop(0)


async def test_members_are_typed(sidecar: StandInSidecar) -> None:
    async with GossipClient(sidecar.address) as client:
        own, other = (await client.members()).members
    assert (own.node_id, own.status, own.worker, own.is_self, own.age_s) == (
        "worker-1",
        MemberStatus.ALIVE,
        WorkerPresence.HERE,
        True,
        0.5,
    )
    assert (other.status, other.worker, other.grpc_address) == (MemberStatus.DEAD, WorkerPresence.NONE, "")


async def test_a_watcher_is_told_of_each_change(sidecar: StandInSidecar) -> None:
    sidecar.statuses = [gossip_pb2.MEMBER_STATUS_ALIVE, gossip_pb2.MEMBER_STATUS_SUSPECT, gossip_pb2.MEMBER_STATUS_DEAD]
    seen = []
    async with GossipClient(sidecar.address) as client:
        async for membership in client.watch_members():
            seen.append(membership.members[1].status.value)
            if len(seen) == 3:
                break
    assert seen == ["alive", "suspect", "dead"]


async def test_the_members_verb_shows_a_table_or_json(roost: Roost, sidecar: StandInSidecar) -> None:
    shown, told = await asyncio.gather(
        roost("members", "-c", sidecar.address), roost("members", "--json", env={"ROOST_COORDINATOR": sidecar.address})
    )
    assert (shown.code, told.code) == (0, 0)
    assert "worker-1 (asked)" in shown.out
    assert "dead" in shown.out
    view = json.loads(told.out)
    assert [(member["node_id"], member["status"], member["worker"]) for member in view["members"]] == [
        ("worker-1", "alive", "here"),
        ("worker-2", "dead", "none"),
    ]


async def test_keys_are_changed_on_every_sidecar_that_is_alive(roost: Roost, sidecar: StandInSidecar) -> None:
    key = base64.b64encode(bytes(range(32))).decode()
    installed = await roost("keys", "install", key, "-c", sidecar.address, "--json")
    assert json.loads(installed.out) == {"results": {"worker-1": "done"}, "failed": []}
    assert sidecar.keys == ["0a0b0c0d", "00010203"]
    listed, used = await asyncio.gather(
        roost("keys", "list", "-c", sidecar.address), roost("keys", "use", "00010203", "--here", "-c", sidecar.address)
    )
    assert "0a0b0c0d (in use), 00010203" in listed.out
    assert "could not be written" in used.out
    removed = await roost("keys", "remove", "0a0b0c0d", "-c", sidecar.address)
    assert (removed.code, sidecar.keys) == (0, ["00010203"])


async def test_a_failure_on_one_sidecar_is_shown_and_is_the_exit_code(roost: Roost, sidecar: StandInSidecar) -> None:
    refused, bad = await asyncio.gather(
        roost("keys", "use", "ffffffff", "-c", sidecar.address), roost("keys", "install", "c2hvcnQ=", "-c", sidecar.address)
    )
    assert (refused.code, "names no key of this sidecar" in refused.out) == (1, True)
    assert (bad.code, "has 5 bytes" in bad.out + bad.err) == (1, True)


async def test_a_generated_key_is_one_that_can_be_installed(roost: Roost) -> None:
    made = await roost("keys", "generate")
    assert len(base64.b64decode(made.out, validate=False)) == 32


@pytest.mark.parametrize(("service", "words"), [("roost.v1.Coordinator", "this is a coordinator"), ("roost.v1.Worker", "this is a worker")])
async def test_what_is_no_sidecar_says_what_it_is(roost: Roost, service: str, words: str) -> None:
    health = health_aio.HealthServicer()
    await health.set(service, health_pb2.HealthCheckResponse.SERVING)
    server = grpc.aio.server()
    add_HealthServicer_to_server(health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    answer = await roost("members", "-c", f"127.0.0.1:{port}")
    await server.stop(None)
    assert answer.code != 0
    assert words in answer.err
    assert "NOT_SERVED_HERE" in answer.err
