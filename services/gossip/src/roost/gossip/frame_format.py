"""How frames look as bytes; their sizes are known without writing them.

    frame = kind 1 | length 2 | body          a frame of an unknown kind is skipped, so that versions can live together

Integers are big-endian, records are in columns. Readers raise Rejected and nothing else.
"""

from __future__ import annotations

import ipaddress
import itertools
import struct
from collections.abc import Callable, Iterable, Mapping

from roost.gossip.protocol.anti_entropy import HOT_RECORD_BYTES
from roost.gossip.protocol.cold_state import ENTRY_OVERHEAD_BYTES, MAX_COLD_KEY_BYTES, MAX_COLD_VALUE_BYTES, entry_bytes
from roost.gossip.protocol.config import Address
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
    Ping,
    Suspect,
    Want,
)
from roost.gossip.protocol.wire import Rejected
from roost.gossip.reader import Reader

_FRAME_HEAD = struct.Struct(">BH")
_TOMBSTONE = 0xFFFF  # in place of a value's length


def name_size(name: str) -> int:
    return 1 + len(name)  # names are ASCII


def _address_size(address: Address) -> int:
    return 19 if ":" in address[0] else 7


def _delta_size(delta: ColdDelta) -> int:
    return 19 + sum(ENTRY_OVERHEAD_BYTES + entry_bytes(entry) for entry in delta.entries)


_BODY_SIZE: Mapping[type[Frame], Callable[..., int]] = {
    Ping: lambda f: 4 + name_size(f.target),
    IndirectPing: lambda f: 4 + name_size(f.target) + _address_size(f.address),
    Ack: lambda _: 4,
    Nack: lambda _: 4,
    Alive: lambda f: 12 + name_size(f.name) + _address_size(f.address),
    Suspect: lambda f: 12 + name_size(f.name) + name_size(f.accuser),
    Dead: lambda f: 12 + name_size(f.name) + name_size(f.accuser),
    Left: lambda f: 12 + name_size(f.name),
    HotRecords: lambda f: 2 + HOT_RECORD_BYTES * len(f.records),
    Digest: lambda f: 2 + 8 * len(f.owners),
    Want: lambda f: 4 + 4 * len(f.hot) + 8 * len(f.cold),
    ColdDelta: _delta_size,
}


def frame_size(frame: Frame) -> int:
    """Bytes of `frame` in a packet, its head included."""
    return _FRAME_HEAD.size + _BODY_SIZE[type(frame)](frame)


def name_bytes(name: str) -> bytes:
    encoded = name.encode()
    return bytes((len(encoded),)) + encoded


def address_bytes(address: Address) -> bytes:
    packed = ipaddress.ip_address(address[0]).packed
    return (b"\x04" if len(packed) == 4 else b"\x06") + packed + address[1].to_bytes(2, "big")


def life_bytes(epoch: int, incarnation: int) -> bytes:
    return struct.pack(">QI", epoch, incarnation)


def record_bytes(records: tuple[HotRecord, ...]) -> bytes:
    n = len(records)
    if not n:
        return b""
    owners, versions, queues, slots, gpus = zip(*records, strict=True)
    return struct.pack(f">{n}I{n}I{n}H{n}H{n}B", *owners, *versions, *queues, *slots, *gpus)


def _hot_records(frame: HotRecords) -> bytes:
    return struct.pack(">H", len(frame.records)) + record_bytes(frame.records)


def _digest(frame: Digest) -> bytes:
    n = len(frame.owners)
    return struct.pack(f">H{n}I{n}H{n}H", n, *frame.owners, *frame.hot, *frame.cold)


def pair_bytes(pairs: Iterable[tuple[int, int]]) -> bytes:
    return b"".join(struct.pack(">II", owner, version) for owner, version in pairs)


def _want(frame: Want) -> bytes:
    n = len(frame.hot)
    return struct.pack(f">HH{n}I", n, len(frame.cold), *frame.hot) + pair_bytes(frame.cold)


def _entry(entry: ColdEntry) -> bytes:
    key = entry.key.encode()
    length = _TOMBSTONE if entry.value is None else len(entry.value)
    return struct.pack(">H", len(key)) + key + struct.pack(">IH", entry.version, length) + (entry.value or b"")


def delta_bytes(delta: ColdDelta) -> bytes:
    head = struct.pack(">IIIIBH", delta.owner, delta.after, delta.version, delta.floor, delta.is_complete, len(delta.entries))
    return head + b"".join(map(_entry, delta.entries))


def _accusation(frame: Suspect | Dead) -> bytes:
    return name_bytes(frame.name) + life_bytes(frame.epoch, frame.incarnation) + name_bytes(frame.accuser)


def _sequence(frame: Ack | Nack) -> bytes:
    return struct.pack(">I", frame.sequence)


_FRAME_WRITERS: Mapping[type[Frame], tuple[int, Callable[..., bytes]]] = {
    Ping: (1, lambda f: struct.pack(">I", f.sequence) + name_bytes(f.target)),
    IndirectPing: (2, lambda f: struct.pack(">I", f.sequence) + name_bytes(f.target) + address_bytes(f.address)),
    Ack: (3, _sequence),
    Nack: (4, _sequence),
    Alive: (5, lambda f: name_bytes(f.name) + address_bytes(f.address) + life_bytes(f.epoch, f.incarnation)),
    Suspect: (6, _accusation),
    Dead: (7, _accusation),
    Left: (8, lambda f: name_bytes(f.name) + life_bytes(f.epoch, f.incarnation)),
    HotRecords: (9, _hot_records),
    Digest: (10, _digest),
    Want: (11, _want),
    ColdDelta: (12, delta_bytes),
}


def encode_frame(frame: Frame) -> bytes:
    kind, write = _FRAME_WRITERS[type(frame)]
    body = write(frame)
    return _FRAME_HEAD.pack(kind, len(body)) + body


def read_records(reader: Reader, n: int) -> tuple[HotRecord, ...]:
    columns = reader.unpack(f">{n}I{n}I{n}H{n}H{n}B") if n else ()
    return tuple(map(HotRecord, columns[:n], columns[n : 2 * n], columns[2 * n : 3 * n], columns[3 * n : 4 * n], columns[4 * n :]))


def _read_hot_records(reader: Reader) -> HotRecords:
    return HotRecords(read_records(reader, reader.count(2, HOT_RECORD_BYTES)))


def _read_digest(reader: Reader) -> Digest:
    n = reader.count(2, 8)
    columns = reader.unpack(f">{n}I{n}H{n}H")
    return Digest(columns[:n], columns[n : 2 * n], columns[2 * n :])


def read_pairs(reader: Reader, n: int) -> tuple[tuple[int, int], ...]:
    flat = reader.unpack(f">{2 * n}I")
    return tuple(zip(flat[::2], flat[1::2], strict=True))


def _read_want(reader: Reader) -> Want:
    hot, cold = reader.unpack(">HH")
    if 4 * hot + 8 * cold > reader.left:
        raise Rejected("malformed")
    return Want(reader.unpack(f">{hot}I"), read_pairs(reader, cold))


def _read_entry(reader: Reader) -> ColdEntry:
    try:
        key = reader.take(reader.number(2)).decode()
    except UnicodeDecodeError:
        raise Rejected("malformed") from None
    version, length = reader.unpack(">IH")
    value = None if length == _TOMBSTONE else reader.take(length)
    if not key or len(key.encode()) > MAX_COLD_KEY_BYTES or len(value or b"") > MAX_COLD_VALUE_BYTES:
        raise Rejected("malformed")
    return ColdEntry(key, version, value)


def read_delta(reader: Reader) -> ColdDelta:
    owner, after, version, floor = reader.unpack(">IIII")
    is_complete = reader.flag()
    entries = tuple([_read_entry(reader) for _ in range(reader.count(2, ENTRY_OVERHEAD_BYTES))])
    versions = [after, *(entry.version for entry in entries)]
    is_ordered = all(a < b for a, b in itertools.pairwise(versions))
    has_each_key_once = len({entry.key for entry in entries}) == len(entries)
    if not is_ordered or not has_each_key_once or versions[-1] > version or (is_complete and (after or floor > version)):
        raise Rejected("malformed")
    return ColdDelta(owner, after, version, floor, is_complete, entries)


def _read_ping(reader: Reader) -> Ping:
    return Ping(reader.number(4), reader.name())


def _read_indirect_ping(reader: Reader) -> IndirectPing:
    return IndirectPing(reader.number(4), reader.name(), reader.address())


def _read_ack(reader: Reader) -> Ack:
    return Ack(reader.number(4))


def _read_nack(reader: Reader) -> Nack:
    return Nack(reader.number(4))


def _read_alive(reader: Reader) -> Alive:
    return Alive(reader.name(), reader.address(), reader.epoch(), reader.number(4))


def _read_suspect(reader: Reader) -> Suspect:
    return Suspect(reader.name(), reader.epoch(), reader.number(4), reader.name())


def _read_dead(reader: Reader) -> Dead:
    return Dead(reader.name(), reader.epoch(), reader.number(4), reader.name())


def _read_left(reader: Reader) -> Left:
    return Left(reader.name(), reader.epoch(), reader.number(4))


_FRAME_READERS: Mapping[int, Callable[[Reader], Frame]] = {
    1: _read_ping,
    2: _read_indirect_ping,
    3: _read_ack,
    4: _read_nack,
    5: _read_alive,
    6: _read_suspect,
    7: _read_dead,
    8: _read_left,
    9: _read_hot_records,
    10: _read_digest,
    11: _read_want,
    12: read_delta,
}


def read_frames(reader: Reader) -> tuple[Frame, ...]:
    frames: list[Frame] = []
    while reader.left:
        kind, length = reader.packed(_FRAME_HEAD)
        body = reader.within(length)
        read = _FRAME_READERS.get(kind)
        if read is None:
            continue  # of a later version
        frames.append(read(body))
        body.end()
    return tuple(frames)
