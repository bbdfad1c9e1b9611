"""The channels a client has open: one an address, shared by its calls, bounded, and closed when nobody needs them."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

CAPACITY = 64  # addresses kept connected; a larger cluster reconnects to those it called longest ago
_SETTLED = (grpc.ChannelConnectivity.READY, grpc.ChannelConnectivity.TRANSIENT_FAILURE)


class CannotConnect(Exception):
    """The first attempt to connect failed, or took too long: then `is_timeout`."""

    def __init__(self, why: str, *, is_timeout: bool = False) -> None:
        super().__init__(why)
        self.is_timeout = is_timeout


async def connect(channel: grpc.aio.Channel, timeout_s: float) -> None:
    """Returns when the channel is connected. Raises CannotConnect, sooner than a call would fail: gRPC tries calls several times."""
    try:
        if await _settled(channel, timeout_s) is not grpc.ChannelConnectivity.READY:
            raise CannotConnect("cannot be connected")
    except TimeoutError as error:
        raise CannotConnect("could not be connected in time", is_timeout=True) from error


async def _settled(channel: grpc.aio.Channel, timeout_s: float) -> grpc.ChannelConnectivity:
    state = channel.get_state(try_to_connect=True)
    async with asyncio.timeout(timeout_s):
        while state not in _SETTLED:
            await channel.wait_for_state_change(state)
            state = channel.get_state(try_to_connect=True)
    return state


@dataclass(slots=True)
class _Kept:
    channel: grpc.aio.Channel
    users: int = 0


class ChannelCache:
    """State: address -> channel, the longest unused first. A channel in use is never closed by another call; at most `capacity`
    are kept (more only while more are in use at once); a forgotten one is closed when its last user leaves; `close` closes all.
    """

    def __init__(self, open_channel: Callable[[str], grpc.aio.Channel], *, capacity: int = CAPACITY) -> None:
        self._open_channel = open_channel
        self._capacity = capacity
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    @asynccontextmanager
    async def lease(self, address: str) -> AsyncIterator[grpc.aio.Channel]:
        """The channel to `address`, not closed by this cache before the block ends."""
        kept = self._kept.get(address)
        if kept is None:
            kept = self._kept[address] = _Kept(self._open_channel(address))
        self._kept.move_to_end(address)
        kept.users += 1
        try:
            await self._close_surplus()
            yield kept.channel
        finally:
            kept.users -= 1
            if kept.users == 0 and self._kept.get(address) is not kept:
                await kept.channel.close()
            await self._close_surplus()

    def forget(self, address: str) -> None:
        """The address failed: the next lease dials it anew instead of waiting out the old channel's backoff. Call it inside the lease."""
        self._kept.pop(address, None)

    async def close(self) -> None:
        """Closes every channel; calls still running on them end."""
        kept, self._kept = self._kept, OrderedDict()
        for one in kept.values():
            await one.channel.close()

    async def _close_surplus(self) -> None:
        while len(self._kept) > self._capacity:
            idle = next((address for address, kept in self._kept.items() if kept.users == 0), None)
            if idle is None:
                return
            await self._kept.pop(idle).channel.close()

    def __len__(self) -> int:
        return len(self._kept)

    def __repr__(self) -> str:
        return f"<ChannelCache {len(self)}/{self._capacity}, {sum(kept.users > 0 for kept in self._kept.values())} in use>"
