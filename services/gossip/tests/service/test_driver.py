"""The driver: sockets and timers around a node, and what ends it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from roost.gossip.codec import BytesCodec
from roost.gossip.driver import Driver, Heard, driving
from roost.gossip.protocol.config import SERVING, Config
from roost.gossip.protocol.events import Event, Happening, MemberChanged
from roost.gossip.protocol.node import Node
from roost.gossip.sockets import bound, split

DEADLINE_S = 15.0


@asynccontextmanager
async def driven(name: str, heard: Heard = lambda event, now: None) -> AsyncIterator[Driver]:
    with bound("127.0.0.1", 0) as sockets:
        config = Config(name=name, address=("127.0.0.1", sockets.port), epoch=time.time_ns(), swim=SERVING)
        node = Node(config, random.Random(1), codec=BytesCodec("test"), now=time.monotonic())
        async with driving(node, sockets, clock=time.monotonic, heard=heard) as driver:
            yield driver


class Ears:
    """Hears what happens to members."""

    def __init__(self) -> None:
        self.happenings: list[tuple[str, Happening]] = []
        self._changed = asyncio.Event()

    def __call__(self, event: Event, now: float) -> None:
        if isinstance(event, MemberChanged):
            self.happenings.append((event.member.name, event.happening))
            self._changed.set()

    async def until(self, name: str, happening: Happening) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while (name, happening) not in self.happenings:
                self._changed.clear()
                await self._changed.wait()


async def test_two_nodes_meet_over_a_stream_and_part_with_a_goodbye() -> None:
    one_hears, two_hears = Ears(), Ears()
    async with driven("one", one_hears) as one, driven("two", two_hears) as two:
        two.join([one.node.config.address])
        await one_hears.until("two", Happening.JOINED)
        await two_hears.until("one", Happening.JOINED)
        assert two.counters["stream_bytes_out"] > 0
        await two.leave()
        await one_hears.until("two", Happening.LEFT)


async def test_a_loop_that_stood_still_reads_what_waited_before_it_judges_anybody() -> None:
    hears = Ears()
    async with driven("one") as one, driven("two", hears) as two:
        two.join([one.node.config.address])
        await hears.until("one", Happening.JOINED)
        for _ in range(3):
            time.sleep(1.2)  # noqa: ASYNC251 - standing still is the point: both nodes live on this loop
            await asyncio.sleep(0.05)
        assert ("one", Happening.SUSPECTED) not in hears.happenings
        assert two.node.counters["late_timers"] >= 1


async def test_a_bug_in_a_callback_ends_the_block_instead_of_being_logged_for_ever() -> None:
    def heard(event: Event, now: float) -> None:
        raise ZeroDivisionError

    async def live() -> None:
        async with driven("one") as one, driven("two", heard) as two:
            two.join([one.node.config.address])
            await asyncio.sleep(DEADLINE_S)

    with pytest.raises(BaseExceptionGroup) as ended:
        await live()
    assert ended.group_contains(ZeroDivisionError)


async def test_what_cannot_be_sent_is_counted() -> None:
    async with driven("one") as one:
        one._send(b"x" * 70_000, ("127.0.0.1", 9))
        assert one.counters["send_failed"] == 1


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("a:1", ("a", 1)),
        ("10.0.0.1", ("10.0.0.1", 7946)),
        ("[::1]:5", ("::1", 5)),
        ("[::1]", ("::1", 7946)),
        ("::1", ("::1", 7946)),
        ("sidecar.roost.svc:7000", ("sidecar.roost.svc", 7000)),
    ],
)
def test_addresses_are_read_with_and_without_a_port(text: str, address: tuple[str, int]) -> None:
    assert split(text, 7946) == address


@pytest.mark.parametrize("text", ["", ":1", "a:0", "a:65536", "a:b", "a:b:c", "[x]:y:1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the words are Python's where the address is IPv6
        split(text, 7946)
