"""Hostile packets, made by hand: at least one for each place that rejects, and some that no codec can reject.

`corpus.txt` holds their bytes; `python -m services.gossip.tests.fuzz.hostile` prints it anew. A line is: door, what it must come to
("accepted" or a reason), name, bytes. Bytes are hexadecimal pieces with + between them; HEX*N is HEX, N times over. Entries are tried in
order by one receiver: a replay needs its original before it.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from roost.gossip.codec import BytesCodec
from roost.gossip.frame_format import encode_frame
from roost.gossip.protocol.config import MAX_EPOCH
from roost.gossip.protocol.messages import (
    Ack,
    Alive,
    ColdDelta,
    ColdEntry,
    Dead,
    Digest,
    Frame,
    HotRecord,
    HotRecords,
    IndirectPing,
    Left,
    Nack,
    Packet,
    Ping,
    PushPull,
    StreamAck,
    StreamMessage,
    Suspect,
    Want,
)

from .doors import CLUSTER, ring

CORPUS = Path(__file__).with_name("corpus.txt")
ACCEPTED = "accepted"
TARGET = "target"  # the node that the packets are meant for
ADDRESS = ("10.9.0.1", 7946)
VICTIM = ("192.0.2.7", 53)
U16, U32 = 2**16 - 1, 2**32 - 1
_PLAIN = BytesCodec(CLUSTER)
_HEAD = _PLAIN.encode(Packet("a", 1, ()), 0.0)
_STREAM_HEAD = _PLAIN.encode_stream(StreamMessage("a", 1, StreamAck(1)), 0.0)[:-5]


@dataclass(frozen=True, slots=True)
class Entry:
    door: str
    outcome: str
    name: str
    pieces: tuple[tuple[bytes, int], ...]

    @property
    def data(self) -> bytes:
        return b"".join(piece * times for piece, times in self.pieces)

    def line(self) -> str:
        pieces = "+".join(piece.hex() + (f"*{times}" if times > 1 else "") for piece, times in self.pieces) or "-"
        return f"{self.door} {self.outcome} {self.name} {pieces}\n"


def read_corpus() -> list[Entry]:
    return [_entry(line) for line in CORPUS.read_text().splitlines() if line and not line.startswith("#")]


def _entry(line: str) -> Entry:
    door, outcome, name, text = line.split(" ")
    pieces = [piece.partition("*") for piece in text.split("+")] if text != "-" else []
    return Entry(door, outcome, name, tuple((bytes.fromhex(piece), int(times or 1)) for piece, _, times in pieces))


def hostile() -> Iterator[Entry]:
    yield from _datagrams()
    yield from _deltas()
    yield from _streams()
    yield from _sealed()
    yield from _lawful()


def _entry_of(door: str, outcome: str, name: str, data: bytes) -> Entry:
    return Entry(door, outcome, name, ((data, 1),) if data else ())


def _frame(kind: int, body: bytes) -> bytes:
    return struct.pack(">BH", kind, len(body)) + body


def _datagrams() -> Iterator[Entry]:
    head, life = _HEAD, struct.pack(">QI", 1, 0)
    other = BytesCodec("other").encode(Packet("a", 1, ()), 0.0)
    cases = {
        "empty": b"",
        "cut-in-the-head": head[:-1],
        "name-longer-than-the-packet": head[:5] + b"\xff" + head[6:],
        "name-of-no-characters": head[:5] + b"\x00" + bytes(8),
        "name-with-a-newline": head[:5] + b"\x01\n" + head[7:],
        "name-of-65-characters": head[:5] + b"\x41" + b"a" * 65 + head[7:],
        "name-not-in-ascii": head[:5] + b"\x02\xc3\xa9" + head[7:],
        "epoch-zero": head[:-8] + bytes(8),
        "epoch-beyond-its-range": head[:-8] + (MAX_EPOCH + 1).to_bytes(8, "big"),
        "frame-longer-than-the-packet": head + b"\x03\xff\xff",
        "frame-longer-than-its-body": head + _frame(3, bytes(5)),
        "frame-shorter-than-its-body": head + _frame(3, bytes(3)),
        "good-frame-then-a-cut-one": head + encode_frame(Ack(1)) + b"\x03\x00",
        "address-of-no-family": head + _frame(2, bytes(4) + b"\x01b\x05" + bytes(6)),
        "address-cut": head + _frame(5, b"\x01b\x06" + bytes(4) + life),
        "claim-of-epoch-zero": head + _frame(8, b"\x01b" + bytes(12)),
        "records-65535-in-no-bytes": head + _frame(9, b"\xff\xff"),
        "digest-65535-in-no-bytes": head + _frame(10, b"\xff\xff"),
        "want-131070-in-no-bytes": head + _frame(11, b"\xff" * 4),
    }
    for name, data in cases.items():
        yield _entry_of("datagram", "malformed", name, data)
    yield _entry_of("datagram", "version", "version-of-tomorrow", b"\x02" + head[1:])
    yield _entry_of("datagram", "version", "sealed-packet-in-a-plain-cluster", ring(3).seal(head, b"datagram", 0.0))
    yield _entry_of("datagram", "wrong_cluster", "other-cluster", other)
    yield Entry("datagram", "oversized", "one-byte-too-long", ((head, 1), (b"\xc8\x05\x6a", 1), (b"\x00", 1_401 - len(head) - 3)))


def _deltas() -> Iterator[Entry]:
    def delta(*entries: bytes, version: int = 9, after: int = 0, floor: int = 0, flag: int = 0, count: int | None = None) -> bytes:
        counted = len(entries) if count is None else count
        return _HEAD + _frame(12, struct.pack(">IIIIBH", 1, after, version, floor, flag, counted) + b"".join(entries))

    def entry(key: bytes, version: int = 5, value: bytes = b"v") -> bytes:
        return struct.pack(">H", len(key)) + key + struct.pack(">IH", version, len(value)) + value

    cases = {
        "delta-flag-of-two": delta(flag=2),
        "delta-65535-entries-in-no-bytes": delta(count=U16),
        "delta-key-empty": delta(entry(b"")),
        "delta-key-not-utf8": delta(entry(b"\xff\xfe")),
        "delta-key-too-long": delta(entry(b"k" * 521)),
        "delta-value-too-long": delta(entry(b"k", value=bytes(513))),
        "delta-value-beyond-the-frame": delta(struct.pack(">H", 1) + b"k" + struct.pack(">IH", 5, 500)),
        "delta-out-of-order": delta(entry(b"a", 5), entry(b"b", 4)),
        "delta-one-key-twice": delta(entry(b"a", 5), entry(b"a", 6)),
        "delta-entry-beyond-its-version": delta(entry(b"a", 5), version=4),
        "delta-entry-not-after-its-start": delta(entry(b"a", 5), after=5),
        "delta-complete-from-the-middle": delta(after=1, flag=1),
        "delta-floor-above-its-version": delta(floor=10, flag=1),
    }
    for name, data in cases.items():
        yield _entry_of("datagram", "malformed", name, data)


def _streams() -> Iterator[Entry]:
    head, count = _STREAM_HEAD, b"\xff" * 4
    nothing = bytes(4)
    row = b"\x01b\x04" + bytes(6) + struct.pack(">QI", 1, 0)
    cases = {
        "body-missing": head,
        "body-of-no-kind": head + b"\x00" + nothing,
        "body-with-a-tail": head + b"\x02" + nothing + b"x",
        "rows-four-billion": head + b"\x03" + nothing + count,
        "row-of-no-status": head + b"\x03" + nothing + b"\x00\x00\x00\x01" + row + b"\x04",
        "records-four-billion": head + b"\x03" + nothing * 2 + count,
        "pairs-four-billion": head + b"\x03" + nothing * 3 + count,
        "deltas-four-billion": head + b"\x05" + nothing + count,
    }
    for name, data in cases.items():
        yield _entry_of("stream", "malformed", name, data)
    yield _entry_of("stream", "version", "version-zero", b"\x00" + head[1:])
    yield _entry_of("stream", "wrong_cluster", "other-cluster", head[:1] + bytes(4) + head[5:])
    yield Entry("stream", "oversized", "four-megabytes-and-one", ((b"\x01", 1), (b"\x00", 4 * 2**20)))


def _sealed() -> Iterator[Entry]:
    sender = ring(1)
    good = sender.seal(_HEAD + encode_frame(Ack(1)), b"datagram", 0.0)
    inner = sender.seal(_HEAD[:-1], b"datagram", 0.0)
    for outcome, name, data in (
        ("malformed", "shorter-than-a-seal", good[:42]),
        ("version", "plain-packet-in-an-encrypted-cluster", _HEAD + bytes(47)),
        ("wrong_key", "unknown-key", ring(1, key=bytes(32)).seal(_HEAD, b"datagram", 0.0)),
        ("wrong_key", "other-cluster", ring(1, cluster="other").seal(_HEAD, b"datagram", 0.0)),
        ("wrong_key", "tag-flipped", good[:-1] + bytes((good[-1] ^ 1,))),
        ("wrong_key", "counter-moved", good[:22] + b"\x7f" + good[23:]),
        ("wrong_key", "boot-invented", good[:5] + bytes(12) + good[17:]),
        ("skewed", "sent-31-seconds-ago", ring(4, wall_offset_s=1_000_000.0 - 31.0).seal(_HEAD, b"datagram", 0.0)),
        ("skewed", "sent-in-31-seconds", ring(4, wall_offset_s=1_000_000.0 + 31.0).seal(_HEAD, b"datagram", 0.0)),
        (ACCEPTED, "the-original", good),
        ("replayed", "the-original-again", good),
        ("malformed", "sealed-nonsense", inner),
        ("oversized", "sealed-and-too-long", sender.seal(_HEAD + _frame(200, bytes(1_400)), b"datagram", 0.0)),
    ):
        yield _entry_of("sealed-datagram", outcome, name, data)
    yield _entry_of("sealed-stream", "wrong_key", "datagram-replayed-as-a-stream", sender.seal(_HEAD, b"datagram", 0.0))


def _lawful() -> Iterator[Entry]:
    """What any codec must let through: here it is the node that has to stay whole."""
    cases: dict[str, tuple[Frame, ...]] = {
        "every-frame-at-its-extreme": (
            Ping(U32, "x"), Nack(U32), HotRecords((HotRecord(U32, U32, U16, U16, 255),)), Digest((U32,), (U16,), (U16,)),
            Want((U32,), ((U32, U32),)), ColdDelta(U32, 0, U32, U32, True, ()),
        ),
        "accuses-the-target-of-its-last-incarnation": (Suspect(TARGET, 1, U32, "a"), Dead(TARGET, 1, U32, "a")),
        "claims-the-targets-last-epoch": (Alive(TARGET, ("10.9.0.250", 7946), MAX_EPOCH, U32), Left(TARGET, MAX_EPOCH, U32)),
        "claims-the-targets-name-elsewhere": (Alive(TARGET, VICTIM, 2, 0),),
        "asks-for-pings-to-a-victim": tuple(IndirectPing(n, "v", VICTIM) for n in range(60)),
        "invents-members": tuple(Alive(f"m{n}", VICTIM, 1, 0) for n in range(40)),
        "asks-for-everything": (Digest(tuple(range(150)), (0,) * 150, (0,) * 150),),
        "one-ping-sixty-times": tuple(Ping(n, TARGET) for n in range(60)),
    }  # fmt: skip
    for name, frames in cases.items():
        yield _entry_of("datagram", ACCEPTED, name, _PLAIN.encode(Packet("a", 1, frames), 0.0))
    yield _entry_of("datagram", ACCEPTED, "speaks-in-the-targets-name", _PLAIN.encode(Packet(TARGET, 9, (Ping(1, TARGET),)), 0.0))
    yield _entry_of("datagram", ACCEPTED, "frame-of-a-later-version", _HEAD + _frame(200, b"xyz"))
    yield _entry_of(
        "stream", ACCEPTED, "asks-for-the-state-of-all", _PLAIN.encode_stream(StreamMessage("a", 1, PushPull(1, (), (), ())), 0.0)
    )
    delta = ColdDelta(1, 0, 5, 0, True, (ColdEntry("k", 5, b"v"),))
    yield _entry_of("datagram", ACCEPTED, "state-of-a-stranger", _PLAIN.encode(Packet("a", 1, (delta,)), 0.0))


if __name__ == "__main__":
    sys.stdout.writelines(["# door, outcome, name, bytes; see hostile.py\n", *(entry.line() for entry in hostile())])
