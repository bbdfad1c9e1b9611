"""What the protocol asks of a codec: whether packets travel as bytes or as objects is a layer, not a matter of the core."""

from __future__ import annotations

from typing import Protocol, TypeVar

from roost.gossip.protocol.messages import Frame, Packet, StreamMessage

D = TypeVar("D")


class Rejected(Exception):
    """A peer (or whoever wrote this datagram) misbehaved. `reason` is a word of a fixed set, fit for a metric's label."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


REJECTIONS = ("malformed", "oversized", "version", "wrong_cluster", "wrong_key", "replayed", "skewed", "crowded")


class Codec(Protocol[D]):
    """Packets to `D` and back. The decoders raise Rejected and nothing else, whatever they are given."""

    def room(self, sender: str) -> int:
        """Bytes left for frames in one datagram, after every header and seal."""
        ...

    def frame_size(self, frame: Frame) -> int:
        """Bytes that `frame` takes in a packet."""
        ...

    def encode(self, packet: Packet, now: float) -> D: ...

    def decode(self, datagram: D, now: float) -> Packet: ...

    def encode_stream(self, message: StreamMessage, now: float) -> D: ...

    def decode_stream(self, blob: D, now: float) -> StreamMessage: ...

    def set_keys(self, keys: tuple[bytes, ...]) -> None:
        """Accept these keys; seal with the first. Raises ValueError for a key that is no key."""
        ...
