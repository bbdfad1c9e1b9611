"""A cursor over untrusted bytes."""

from __future__ import annotations

import ipaddress
import struct

from roost.cluster.errors import InvalidField
from roost.cluster.names import check_worker_name
from roost.gossip.protocol.config import MAX_EPOCH, Address
from roost.gossip.protocol.wire import Rejected


class Reader:
    """Every step that would leave the bytes raises Rejected, and so does every value out of its range."""

    __slots__ = ("_at", "_bytes", "_end")

    def __init__(self, data: bytes, at: int = 0, end: int | None = None) -> None:
        self._bytes = data
        self._at = at
        self._end = len(data) if end is None else end

    @property
    def left(self) -> int:
        return self._end - self._at

    def take(self, size: int) -> bytes:
        return self._bytes[self._advance(size) : self._at]

    def within(self, size: int) -> Reader:
        start = self._advance(size)
        return Reader(self._bytes, start, self._at)

    def unpack(self, form: str) -> tuple[int, ...]:
        return struct.unpack_from(form, self._bytes, self._advance(struct.calcsize(form)))

    def packed(self, form: struct.Struct) -> tuple[int, ...]:
        return form.unpack_from(self._bytes, self._advance(form.size))

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def count(self, size: int, least_bytes: int) -> int:
        """A number of things, each of which takes at least `least_bytes` of what is left."""
        count = self.number(size)
        if count * least_bytes > self.left:
            raise Rejected("malformed")
        return count

    def name(self) -> str:
        try:
            return check_worker_name(self.take(self.number(1)).decode("ascii"))
        except (UnicodeDecodeError, InvalidField):
            raise Rejected("malformed") from None

    def address(self) -> Address:
        kind = self.number(1)
        if kind == 4:
            host = ".".join(map(str, self.take(4)))
        elif kind == 6:
            host = str(ipaddress.IPv6Address(self.take(16)))
        else:
            raise Rejected("malformed")
        return (host, self.number(2))

    def epoch(self) -> int:
        epoch = self.number(8)
        if not 1 <= epoch <= MAX_EPOCH:
            raise Rejected("malformed")
        return epoch

    def flag(self) -> bool:
        value = self.number(1)
        if value > 1:
            raise Rejected("malformed")
        return value == 1

    def end(self) -> None:
        if self.left:
            raise Rejected("malformed")

    def _advance(self, size: int) -> int:
        start = self._at
        if size > self._end - start:
            raise Rejected("malformed")
        self._at = start + size
        return start
