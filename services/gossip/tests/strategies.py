"""Anything that may travel, for property tests."""

from __future__ import annotations

import ipaddress
from itertools import accumulate

from hypothesis import strategies as st

from roost.gossip.protocol.config import MAX_EPOCH
from roost.gossip.protocol.messages import (
    Ack,
    Alive,
    ColdDelta,
    ColdEntry,
    ColdPush,
    Dead,
    Digest,
    Frame,
    HotRecord,
    HotRecords,
    IndirectPing,
    Left,
    MemberEntry,
    Nack,
    Packet,
    Ping,
    PushPull,
    PushPullReply,
    Status,
    StreamAck,
    StreamBody,
    StreamMessage,
    StreamPing,
    Suspect,
    Want,
)

u8, u16, u32 = st.integers(0, 2**8 - 1), st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
epochs = st.integers(1, MAX_EPOCH)
names = st.text("abcXYZ019._-", min_size=1, max_size=64)
hosts = st.integers(0, 2**32 - 1).map(lambda n: str(ipaddress.IPv4Address(n))) | st.integers(0, 2**128 - 1).map(
    lambda n: str(ipaddress.IPv6Address(n))
)
addresses = st.tuples(hosts, u16)
records = st.builds(HotRecord, u32, u32, u16, u16, u8)
pairs = st.tuples(u32, u32)


@st.composite
def digests(draw: st.DrawFn) -> Digest:
    rows = draw(st.lists(st.tuples(u32, u16, u16), max_size=20))
    owners, hot, cold = zip(*rows, strict=True) if rows else ((), (), ())
    return Digest(tuple(owners), tuple(hot), tuple(cold))


@st.composite
def deltas(draw: st.DrawFn) -> ColdDelta:
    keys = draw(st.lists(st.text(min_size=1, max_size=20), max_size=6, unique=True))
    is_complete = draw(st.booleans())
    after = 0 if is_complete else draw(st.integers(0, 1000))
    versions = list(accumulate(draw(st.lists(st.integers(1, 100), min_size=len(keys), max_size=len(keys))), initial=after))[1:]
    entries = tuple(ColdEntry(k, v, draw(st.none() | st.binary(max_size=40))) for k, v in zip(keys, versions, strict=True))
    version = max([after, *versions]) + draw(st.integers(0, 9))
    return ColdDelta(draw(u32), after, version, draw(st.integers(0, version)), is_complete, entries)


frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(Ping, u32, names),
    st.builds(IndirectPing, u32, names, addresses),
    st.builds(Ack, u32),
    st.builds(Nack, u32),
    st.builds(Alive, names, addresses, epochs, u32),
    st.builds(Suspect, names, epochs, u32, names),
    st.builds(Dead, names, epochs, u32, names),
    st.builds(Left, names, epochs, u32),
    st.builds(HotRecords, st.lists(records, max_size=20).map(tuple)),
    digests(),
    st.builds(Want, st.lists(u32, max_size=20).map(tuple), st.lists(pairs, max_size=10).map(tuple)),
    deltas(),
)
packets = st.builds(Packet, names, epochs, st.lists(frames, max_size=4).map(tuple))
rows = st.builds(MemberEntry, names, addresses, epochs, u32, st.sampled_from(Status))


def tuples_of(items: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(items, max_size=5).map(tuple)


bodies: st.SearchStrategy[StreamBody] = st.one_of(
    st.builds(StreamPing, u32, names),
    st.builds(StreamAck, u32),
    st.builds(PushPull, u32, tuples_of(rows), tuples_of(records), tuples_of(pairs)),
    st.builds(PushPullReply, u32, tuples_of(rows), tuples_of(records), tuples_of(deltas()), tuples_of(pairs)),
    st.builds(ColdPush, u32, tuples_of(deltas())),
)
messages = st.builds(StreamMessage, names, epochs, bodies)
