"""Keys, strangers and hostile bytes against real sidecars: dropped, counted, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import secrets
import socket
import stat
import urllib.request
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from grpc import aio

from roost.gossip.exchanges import MAX_SERVED
from roost.gossip.keys import read_key_file
from roost.service.startup import CannotStart
from roost.v1 import gossip_pb2

from .sidecars import DEADLINE_S, Member, running


def key_file(folder: Path, *keys: bytes, name: str = "key") -> Path:
    path = folder / name
    path.write_text("# the keys of a test\n" + "".join(f"{base64.b64encode(key).decode()}\n" for key in keys))
    return path


async def until(holds: Callable[[], bool]) -> None:
    """For facts that nothing streams: counters."""
    async with asyncio.timeout(DEADLINE_S):
        while not holds():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_sidecars_with_the_same_key_form_a_cluster(tmp_path: Path) -> None:
    path = key_file(tmp_path, secrets.token_bytes(32))
    async with running("worker-1", key_file=path) as one, running("worker-2", one, key_file=path) as two, two.worker():
        await one.await_live("worker-2")


async def test_another_key_is_dropped_and_counted(tmp_path: Path) -> None:
    mine, theirs = (key_file(tmp_path, secrets.token_bytes(32), name=name) for name in ("mine", "theirs"))
    async with running("worker-1", key_file=mine) as one, running("worker-2", one, key_file=theirs) as two:
        await until(lambda: one.count("rejected_wrong_key") > 0)
        assert (await one.members(), await two.members()) == ({"worker-1": "alive"}, {"worker-2": "alive"})
        assert 'roost_gossip_drops_total{reason="wrong_key"}' in await metrics(one)


async def test_a_plain_cluster_of_another_name_is_dropped_and_counted() -> None:
    async with running("worker-1", cluster="red") as one, running("worker-2", one, cluster="blue"):
        await until(lambda: one.count("rejected_wrong_cluster") > 0)
        assert await one.members() == {"worker-1": "alive"}


async def test_keys_are_rotated_without_losing_anybody(tmp_path: Path) -> None:
    old, new = secrets.token_bytes(32), secrets.token_bytes(32)
    paths = [key_file(tmp_path, old, name=name) for name in ("one", "two")]
    async with running("worker-1", key_file=paths[0]) as one, running("worker-2", one, key_file=paths[1]) as two:
        await one.await_members(worker_2="alive")
        for member in (one, two):
            installed = await member.gossip.InstallKey(gossip_pb2.InstallKeyRequest(key=new), timeout=DEADLINE_S)
            assert installed.saved
        for member in (one, two):
            await member.gossip.UseKey(gossip_pb2.UseKeyRequest(key_id=installed.key_id), timeout=DEADLINE_S)
        [old_id] = [key.key_id for key in (await keys(one)).keys if not key.in_use]
        for member in (one, two):
            await member.gossip.RemoveKey(gossip_pb2.RemoveKeyRequest(key_id=old_id), timeout=DEADLINE_S)
        async with two.worker():
            await one.await_live("worker-2")
        assert [(key.key_id, key.in_use) for key in (await keys(one)).keys] == [(installed.key_id, True)]
        assert (one.count("rejected_wrong_key"), two.count("rejected_wrong_key")) == (0, 0)
    assert [read_key_file(path) for path in paths] == [(new,), (new,)]


async def keys(member: Member) -> gossip_pb2.ListKeysResponse:
    return await member.gossip.ListKeys(gossip_pb2.ListKeysRequest(), timeout=DEADLINE_S)


async def test_a_key_in_use_stays_and_bad_ones_are_refused(tmp_path: Path) -> None:
    async with running("worker-1", key_file=key_file(tmp_path, secrets.token_bytes(32))) as one, running("worker-2") as plain:
        in_use = (await keys(one)).keys[0].key_id
        for member, call in (
            (one, one.gossip.RemoveKey(gossip_pb2.RemoveKeyRequest(key_id=in_use), timeout=DEADLINE_S)),
            (one, one.gossip.UseKey(gossip_pb2.UseKeyRequest(key_id="00000000"), timeout=DEADLINE_S)),
            (one, one.gossip.InstallKey(gossip_pb2.InstallKeyRequest(key=b"short"), timeout=DEADLINE_S)),
            (plain, plain.gossip.InstallKey(gossip_pb2.InstallKeyRequest(key=bytes(32)), timeout=DEADLINE_S)),
        ):
            with pytest.raises(aio.AioRpcError) as refused:
                await call
            assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT, member.node_id
        assert not (await keys(plain)).keys


@pytest.mark.parametrize(("text", "said"), [("", "has 0 keys"), ("not base64!\n", "line 1"), ("AAAA\n", "this has 3")])
def test_a_bad_key_file_names_the_line_and_not_the_key(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(CannotStart, match=said) as refused:
        read_key_file(tmp_path / "key")
    assert "AAAA" not in str(refused.value)


async def test_hostile_bytes_are_counted_and_nobody_answers_them() -> None:
    rng = random.Random(3)
    async with running("worker-1") as one, running("worker-2", one) as two, two.worker():
        await one.await_live("worker-2")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            stranger.setblocking(False)
            for size in (0, 1, 3, 17, 200, 1_400, 1_401, 9_000):
                for _ in range(25):
                    stranger.sendto(rng.randbytes(size), ("127.0.0.1", one.running.port))
            await until(lambda: one.count("rejected_oversized") >= 50 and rejected(one) >= 180)
            with pytest.raises(BlockingIOError):
                stranger.recv(1)
        assert (await one.members())["worker-2"] == "alive"
        await one.await_live("worker-2")


def rejected(member: Member) -> int:
    return sum(count for name, count in member.running.driver.node.counters.all.items() if name.startswith("rejected_"))


async def test_hostile_streams_are_bounded_in_bytes_in_number_and_in_time() -> None:
    async with running("worker-1") as one, contextlib.AsyncExitStack() as stack:

        async def send(data: bytes) -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection("127.0.0.1", one.running.port)
            stack.callback(writer.close)
            writer.write(data)
            return reader

        for data in ((2**31).to_bytes(4), (5).to_bytes(4) + b"hello", b"GET / HTTP/1.1\r\n\r\n"):
            async with asyncio.timeout(DEADLINE_S):
                assert await (await send(data)).read() == b""
        assert one.count("rejected_oversized") == 2
        for _ in range(MAX_SERVED + 5):
            await send(b"")
        await until(lambda: one.count("streams_crowded") >= 5)
        async with running("worker-2", one) as two:
            await two.await_members(worker_1="alive")  # as soon as the silent streams have run out of time
        assert one.count("streams_broken") >= MAX_SERVED


async def metrics(member: Member) -> str:
    """The exposition."""
    url = f"http://127.0.0.1:{member.running.metrics_port}/metrics"

    def read() -> str:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return str(answer.read().decode())

    return await asyncio.to_thread(read)


@pytest.mark.parametrize(("before", "after"), [(0o600, 0o600), (0o640, 0o640), (0o644, 0o640)])
async def test_a_key_file_that_is_written_anew_keeps_its_mode_and_its_link_but_is_nobody_elses(
    tmp_path: Path, before: int, after: int
) -> None:
    real, link = key_file(tmp_path, secrets.token_bytes(32), name="real"), tmp_path / "link"
    real.chmod(before)
    link.symlink_to(real)
    async with running("worker-1", key_file=link) as one:
        await one.gossip.InstallKey(gossip_pb2.InstallKeyRequest(key=secrets.token_bytes(32)), timeout=DEADLINE_S)
    assert len(read_key_file(real)) == 2
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == after
