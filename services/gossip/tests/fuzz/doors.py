"""The four doors by which bytes from outside come in: datagrams and streams, of a cluster without keys and of one with keys."""

from __future__ import annotations

from roost.gossip.codec import BytesCodec
from roost.gossip.keyring import Keyring
from roost.gossip.protocol.messages import Packet, StreamMessage

CLUSTER = "fuzz"
KEY = bytes(range(32))
WALL_S = 1_000_000.0
DOORS = ("datagram", "stream", "sealed-datagram", "sealed-stream")


def ring(boot: int, *, key: bytes = KEY, cluster: str = CLUSTER, wall_offset_s: float = WALL_S) -> Keyring:
    return Keyring((key,), cluster=cluster, boot=boot.to_bytes(12, "big"), wall_offset_s=wall_offset_s)


class Doors:
    """One receiver behind each door; what was opened once is remembered, so that a second time is a replay."""

    def __init__(self) -> None:
        self.ring = ring(2**32)
        self.plain = BytesCodec(CLUSTER)
        self.sealed = BytesCodec(CLUSTER, keyring=self.ring)

    def codec(self, door: str) -> BytesCodec:
        return self.sealed if door.startswith("sealed") else self.plain

    def open(self, door: str, data: bytes, now: float = 0.0) -> Packet | StreamMessage:
        """Raises Rejected."""
        codec = self.codec(door)
        return codec.decode_stream(data, now) if door.endswith("stream") else codec.decode(data, now)
