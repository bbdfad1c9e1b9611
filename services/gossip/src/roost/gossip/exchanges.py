"""Streams between members: one request and one answer on a TCP connection of its own, each a length (4 bytes) and so many bytes.

Bounded in bytes, in number and in time, on both sides; what cannot be read is dropped and counted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import socket
from collections.abc import Callable
from typing import Final

from roost.gossip.protocol.config import Address
from roost.gossip.protocol.counters import Counters
from roost.gossip.protocol.events import StreamRequest

SERVE_S: Final = 5.0  # for a whole exchange that somebody else began: a member on a slow link sends 4 MiB in it
MAX_SERVED: Final = 32  # exchanges at once: a member begins one every 30 s
MAX_SERVED_BYTES: Final = 16 * 2**20  # of all requests being read together, whoever sends them
_LENGTH_BYTES: Final = 4

Answer = Callable[[bytes], bytes | None]


class Refused(Exception):
    """The other side sent what no exchange has; `reason` is a counter's name."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Exchanges:
    """State: how many exchanges are being served, and how many bytes of requests they may hold."""

    def __init__(self, own: Address, family: socket.AddressFamily, *, max_bytes: int, counters: Counters) -> None:
        self._own = own
        self._family = family
        self._max_bytes = max_bytes
        self._counters = counters
        self._served = 0
        self._held_bytes = 0

    # --- asked by others ----------------------------------------------------------------------------

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        """One exchange from its first byte to its end. Raises nothing that a peer can cause."""
        if self._served >= MAX_SERVED:
            self._counters.count("streams_crowded")
            writer.close()
            return
        self._served += 1
        try:
            async with asyncio.timeout(SERVE_S):
                await self._answer(reader, writer, answer)
        except Refused as refused:
            self._counters.count(refused.reason)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            self._counters.count("streams_broken")
        finally:
            self._served -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answer: Answer) -> None:
        length = await self._length(reader)
        if self._held_bytes + length > MAX_SERVED_BYTES:
            raise Refused("streams_crowded")
        self._held_bytes += length
        try:
            reply = answer(await reader.readexactly(length))
        finally:
            self._held_bytes -= length
        self._counters.count("stream_bytes_in", length)
        if reply is not None:
            await self._write(writer, reply)

    # --- asking others ------------------------------------------------------------------------------

    async def ask(self, request: StreamRequest[bytes]) -> bytes | None:
        """The answer, None if there was none in time."""
        try:
            async with asyncio.timeout(request.timeout_s):
                return await self._ask(request)
        except Refused as refused:
            self._counters.count(refused.reason)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, UnicodeError):  # the last: a host name that cannot be one
            pass
        return None

    async def _ask(self, request: StreamRequest[bytes]) -> bytes:
        addresses = await self._resolve(request.address)
        reader, writer = await first_connection(addresses, request.timeout_s)
        try:
            await self._write(writer, request.data)
            reply = await reader.readexactly(await self._length(reader))
        finally:
            writer.close()
        self._counters.count("stream_bytes_in", len(reply))
        return reply

    async def _resolve(self, address: Address) -> list[Address]:
        """The numeric addresses behind a seed, in random order, without our own."""
        host, port = address
        if is_numeric(host):
            return [address]
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, family=self._family, type=socket.SOCK_STREAM)
        numeric = {(str(each[4][0]), port) for each in found} - {self._own}
        if not numeric:
            raise OSError(f"{host} has no address but our own")
        shuffled = sorted(numeric)
        random.shuffle(shuffled)
        return shuffled

    # --- both ---------------------------------------------------------------------------------------

    async def _length(self, reader: asyncio.StreamReader) -> int:
        length = int.from_bytes(await reader.readexactly(_LENGTH_BYTES))
        if length > self._max_bytes:
            raise Refused("rejected_oversized")
        return length

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(len(data).to_bytes(_LENGTH_BYTES) + data)
        await writer.drain()
        self._counters.count("stream_bytes_out", len(data))


async def first_connection(addresses: list[Address], timeout_s: float) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """To the first that takes it, each given its share of the time. Raises OSError or TimeoutError of the last one."""
    for left, address in zip(range(len(addresses), 1, -1), addresses, strict=False):
        try:
            async with asyncio.timeout(timeout_s / left):
                return await asyncio.open_connection(*address)
        except (OSError, TimeoutError):
            continue
    return await asyncio.open_connection(*addresses[-1])


def is_numeric(host: str) -> bool:
    """True if the host is an address and no name."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
