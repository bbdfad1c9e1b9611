"""How the bodies of stream messages look as bytes.

body = kind 1 | request 4 | lists (count 4, items)
"""

from __future__ import annotations

import struct

from roost.gossip.frame_format import (
    address_bytes,
    delta_bytes,
    life_bytes,
    name_bytes,
    pair_bytes,
    read_delta,
    read_pairs,
    read_records,
    record_bytes,
)
from roost.gossip.protocol.anti_entropy import HOT_RECORD_BYTES
from roost.gossip.protocol.messages import (
    ColdDelta,
    ColdPush,
    HotRecord,
    MemberEntry,
    PushPull,
    PushPullReply,
    Status,
    StreamAck,
    StreamBody,
    StreamPing,
)
from roost.gossip.protocol.wire import Rejected
from roost.gossip.reader import Reader

_ROW_BYTES = 22  # at least
_DELTA_BYTES = 19  # at least


def _row(row: MemberEntry) -> bytes:
    return name_bytes(row.name) + address_bytes(row.address) + life_bytes(row.epoch, row.incarnation) + bytes((row.status,))


def _list(items: list[bytes]) -> bytes:
    return struct.pack(">I", len(items)) + b"".join(items)


def _hot_list(records: tuple[HotRecord, ...]) -> bytes:
    return struct.pack(">I", len(records)) + record_bytes(records)


def _pair_list(pairs: tuple[tuple[int, int], ...]) -> bytes:
    return struct.pack(">I", len(pairs)) + pair_bytes(pairs)


def encode_body(body: StreamBody) -> bytes:
    head = struct.pack(">I", body.request)
    match body:
        case StreamPing():
            return b"\x01" + head + name_bytes(body.target)
        case StreamAck():
            return b"\x02" + head
        case PushPull():
            return b"\x03" + head + _list([_row(row) for row in body.members]) + _hot_list(body.hot) + _pair_list(body.cold)
        case PushPullReply():
            rows = _list([_row(row) for row in body.members])
            deltas = _list([delta_bytes(delta) for delta in body.deltas])
            return b"\x04" + head + rows + _hot_list(body.hot) + deltas + _pair_list(body.wanted)
        case ColdPush():
            return b"\x05" + head + _list([delta_bytes(delta) for delta in body.deltas])


def _read_row(reader: Reader) -> MemberEntry:
    name, address, epoch, incarnation = reader.name(), reader.address(), reader.epoch(), reader.number(4)
    status = reader.number(1)
    if status > max(Status):
        raise Rejected("malformed")
    return MemberEntry(name, address, epoch, incarnation, Status(status))


def _read_rows(reader: Reader) -> tuple[MemberEntry, ...]:
    return tuple([_read_row(reader) for _ in range(reader.count(4, _ROW_BYTES))])


def _read_deltas(reader: Reader) -> tuple[ColdDelta, ...]:
    return tuple([read_delta(reader) for _ in range(reader.count(4, _DELTA_BYTES))])


def _read_hot_list(reader: Reader) -> tuple[HotRecord, ...]:
    return read_records(reader, reader.count(4, HOT_RECORD_BYTES))


def _read_pair_list(reader: Reader) -> tuple[tuple[int, int], ...]:
    return read_pairs(reader, reader.count(4, 8))


def read_body(reader: Reader) -> StreamBody:
    kind, request = reader.number(1), reader.number(4)
    match kind:
        case 1:
            return StreamPing(request, reader.name())
        case 2:
            return StreamAck(request)
        case 3:
            return PushPull(request, _read_rows(reader), _read_hot_list(reader), _read_pair_list(reader))
        case 4:
            rows, hot = _read_rows(reader), _read_hot_list(reader)
            return PushPullReply(request, rows, hot, _read_deltas(reader), _read_pair_list(reader))
        case 5:
            return ColdPush(request, _read_deltas(reader))
        case _:
            raise Rejected("malformed")
