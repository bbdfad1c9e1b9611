from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.gossip.codec import BytesCodec, ObjectCodec
from roost.gossip.frame_format import encode_frame, frame_size
from roost.gossip.keyring import Keyring
from roost.gossip.protocol.config import Bounds
from roost.gossip.protocol.messages import Ack, Alive, ColdDelta, ColdEntry, Frame, Packet, Ping, StreamMessage
from roost.gossip.protocol.wire import REJECTIONS, Rejected

from .strategies import frames, messages, packets

WIDE = Bounds(datagram_bytes=2**16)
PLAIN = BytesCodec("test", bounds=WIDE)
KEY = bytes(range(32))


def sealed(boot: int = 1, *, cluster: str = "test", key: bytes = KEY) -> BytesCodec:
    ring = Keyring((key,), cluster=cluster, boot=boot.to_bytes(12, "big"), wall_offset_s=1_000_000.0)
    return BytesCodec(cluster, keyring=ring, bounds=WIDE)


@given(packets)
def test_packets_survive_the_wire(packet: Packet) -> None:
    assert PLAIN.decode(PLAIN.encode(packet, 0.0), 0.0) == packet
    assert sealed(2).decode(sealed(1).encode(packet, 5.0), 5.0) == packet


@given(messages)
def test_stream_messages_survive_the_wire(message: StreamMessage) -> None:
    assert PLAIN.decode_stream(PLAIN.encode_stream(message, 0.0), 0.0) == message
    assert sealed(2).decode_stream(sealed(1).encode_stream(message, 5.0), 5.0) == message


@given(frames)
def test_the_size_of_a_frame_is_known_without_writing_it(frame: Frame) -> None:
    assert frame_size(frame) == len(encode_frame(frame))


@given(packets)
def test_the_room_of_a_packet_is_what_headers_and_seals_leave(packet: Packet) -> None:
    for codec in (PLAIN, sealed()):
        overhead = WIDE.datagram_bytes - codec.room(packet.sender)
        assert len(codec.encode(packet, 0.0)) == overhead + sum(map(frame_size, packet.frames))
    assert ObjectCodec(WIDE).room(packet.sender) == sealed().room(packet.sender)


def reject_or_decode(codec: BytesCodec, blob: bytes) -> None:
    for decode in (codec.decode, codec.decode_stream):
        try:
            decode(blob, 0.0)
        except Rejected as rejected:
            if rejected.reason not in REJECTIONS:
                raise


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_arbitrary_bytes_are_rejected_by_name_or_decoded(blob: bytes) -> None:
    reject_or_decode(PLAIN, blob)
    reject_or_decode(sealed(), blob)
    reject_or_decode(PLAIN, PLAIN.encode(Packet("a", 1, ()), 0.0) + blob)


@settings(max_examples=300)
@given(packets, messages, st.data())
def test_damaged_messages_are_rejected_by_name_or_decoded(packet: Packet, message: StreamMessage, data: st.DataObject) -> None:
    for blob in (PLAIN.encode(packet, 0.0), PLAIN.encode_stream(message, 0.0)):
        damaged = bytearray(blob)
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        reject_or_decode(PLAIN, bytes(damaged))
        reject_or_decode(PLAIN, blob[: data.draw(st.integers(0, len(blob)))])


def test_a_storm_of_damaged_packets_raises_nothing_else() -> None:
    rng = random.Random(5)
    packet = Packet("node", 7, (Ping(1, "b"), Alive("b", ("10.0.0.1", 1), 1, 1), ColdDelta(1, 0, 5, 0, True, (ColdEntry("k", 5, b"v"),))))
    blob = PLAIN.encode(packet, 0.0)
    for _ in range(5_000):
        damaged = bytearray(blob)
        for _ in range(rng.randint(1, 3)):
            damaged[rng.randrange(14, len(damaged))] = rng.randrange(256)
        reject_or_decode(PLAIN, bytes(damaged))


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "malformed"),
        (b"\x02" + bytes(30), "version"),
        (BytesCodec("other").encode(Packet("a", 1, ()), 0.0), "wrong_cluster"),
        (bytes(1_401), "oversized"),
        (BytesCodec("test").encode(Packet("a", 1, ()), 0.0)[:-1], "malformed"),
        (BytesCodec("test").encode(Packet("a b", 1, ()), 0.0), "malformed"),
        (BytesCodec("test").encode(Packet("a", 0, ()), 0.0), "malformed"),
        (BytesCodec("test").encode(Packet("a", 1, (Ack(1),)), 0.0) + b"\x0a\x00\x02\xff\xff", "malformed"),  # a digest of 65,535 owners
    ],
)
def test_a_bad_datagram_is_rejected_by_its_reason(blob: bytes, reason: str) -> None:
    with pytest.raises(Rejected) as caught:
        BytesCodec("test").decode(blob, 0.0)
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    "delta",
    [
        ColdDelta(1, 5, 9, 0, False, (ColdEntry("a", 5, b""),)),  # not after
        ColdDelta(1, 0, 9, 0, False, (ColdEntry("a", 5, b""), ColdEntry("b", 4, b""))),  # not in order
        ColdDelta(1, 0, 9, 0, False, (ColdEntry("a", 5, b""), ColdEntry("a", 6, b""))),  # one key twice
        ColdDelta(1, 0, 4, 0, False, (ColdEntry("a", 5, b""),)),  # beyond its version
        ColdDelta(1, 1, 4, 0, True, ()),  # complete from the middle
        ColdDelta(1, 0, 4, 5, True, ()),  # a floor above the version
    ],
)
def test_a_delta_that_no_owner_could_have_written_is_malformed(delta: ColdDelta) -> None:
    with pytest.raises(Rejected, match="malformed"):
        PLAIN.decode(PLAIN.encode(Packet("a", 1, (delta,)), 0.0), 0.0)


def test_frames_of_a_later_version_are_skipped() -> None:
    head = PLAIN.encode(Packet("a", 1, (Ack(7),)), 0.0)
    assert PLAIN.decode(head + b"\xc8\x00\x03xyz" + encode_frame(Ack(8)), 0.0).frames == (Ack(7), Ack(8))
