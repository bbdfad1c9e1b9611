"""Packets as bytes (`BytesCodec`), or as they are (`ObjectCodec`, for fast simulations with the same sizes).

    datagram = version 1 | cluster 4 | sender (length 1, bytes) | epoch 8 | frames
    stream   = version 1 | cluster 4 | sender (length 1, bytes) | epoch 8 | body

The same inside a seal, if there is a keyring. Decoders raise Rejected and nothing else, and never build more than their bytes can carry.
"""

from __future__ import annotations

import zlib

from roost.gossip.frame_format import encode_frame, frame_size, name_bytes, name_size, read_frames
from roost.gossip.keyring import SEAL_BYTES, Keyring
from roost.gossip.protocol.config import Bounds
from roost.gossip.protocol.messages import Frame, Packet, StreamMessage
from roost.gossip.protocol.wire import Rejected
from roost.gossip.reader import Reader
from roost.gossip.stream_format import encode_body, read_body

VERSION = 1
_DATAGRAM = b"datagram"
_STREAM = b"stream"


def cluster_mark(cluster: str) -> bytes:
    """Four bytes by which a plain packet of another cluster is recognised (a sealed one fails its seal)."""
    return zlib.crc32(cluster.encode()).to_bytes(4, "big")


def header_size(sender: str) -> int:
    return 1 + 4 + name_size(sender) + 8


class BytesCodec:
    """Packets as bytes, sealed if there is a keyring."""

    def __init__(self, cluster: str, *, keyring: Keyring | None = None, bounds: Bounds | None = None) -> None:
        self._mark = cluster_mark(cluster)
        self._keyring = keyring
        self._bounds = bounds or Bounds()

    def room(self, sender: str) -> int:
        return self._bounds.datagram_bytes - header_size(sender) - (SEAL_BYTES if self._keyring is not None else 0)

    def frame_size(self, frame: Frame) -> int:
        return frame_size(frame)

    def encode(self, packet: Packet, now: float) -> bytes:
        plain = self._head(packet.sender, packet.epoch) + b"".join(map(encode_frame, packet.frames))
        return plain if self._keyring is None else self._keyring.seal(plain, _DATAGRAM, now)

    def decode(self, datagram: bytes, now: float) -> Packet:
        if len(datagram) > self._bounds.datagram_bytes:
            raise Rejected("oversized")
        reader = Reader(datagram if self._keyring is None else self._keyring.open(datagram, _DATAGRAM, now))
        sender, epoch = self._read_head(reader)
        return Packet(sender, epoch, read_frames(reader))

    def encode_stream(self, message: StreamMessage, now: float) -> bytes:
        plain = self._head(message.sender, message.epoch) + encode_body(message.body)
        return plain if self._keyring is None else self._keyring.seal(plain, _STREAM, now)

    def decode_stream(self, blob: bytes, now: float) -> StreamMessage:
        if len(blob) > self._bounds.stream_bytes:
            raise Rejected("oversized")
        reader = Reader(blob if self._keyring is None else self._keyring.open(blob, _STREAM, now))
        sender, epoch = self._read_head(reader)
        body = read_body(reader)
        reader.end()
        return StreamMessage(sender, epoch, body)

    def set_keys(self, keys: tuple[bytes, ...]) -> None:
        if self._keyring is None:
            raise ValueError("this cluster is not encrypted; restart it with a key")
        self._keyring.set_keys(keys)

    def _head(self, sender: str, epoch: int) -> bytes:
        return bytes((VERSION,)) + self._mark + name_bytes(sender) + epoch.to_bytes(8, "big")

    def _read_head(self, reader: Reader) -> tuple[str, int]:
        if reader.number(1) != VERSION:
            raise Rejected("version")
        if reader.take(4) != self._mark:
            raise Rejected("wrong_cluster")
        return reader.name(), reader.epoch()


class ObjectCodec:
    """Packets as they are, with the sizes they would have in bytes: for simulations that want speed."""

    def __init__(self, bounds: Bounds | None = None) -> None:
        self._bounds = bounds or Bounds()

    def room(self, sender: str) -> int:
        return self._bounds.datagram_bytes - header_size(sender) - SEAL_BYTES

    def frame_size(self, frame: Frame) -> int:
        return frame_size(frame)

    def encode(self, packet: Packet, now: float) -> Packet | StreamMessage:  # noqa: ARG002 - time matters to seals only
        return packet

    def decode(self, datagram: Packet | StreamMessage, now: float) -> Packet:  # noqa: ARG002 - as above
        if not isinstance(datagram, Packet):
            raise Rejected("malformed")
        return datagram

    def encode_stream(self, message: StreamMessage, now: float) -> Packet | StreamMessage:  # noqa: ARG002 - as above
        return message

    def decode_stream(self, blob: Packet | StreamMessage, now: float) -> StreamMessage:  # noqa: ARG002 - as above
        if not isinstance(blob, StreamMessage):
            raise Rejected("malformed")
        return blob

    def set_keys(self, keys: tuple[bytes, ...]) -> None:
        """Objects have no seals."""
