"""A storm of damaged packets against the decoders and against a node: `python -m services.gossip.tests.fuzz.storm --inputs 1000000`.

Each input is a packet of the corpus or a lawful one, damaged in up to four places, or nonsense; it is tried at all four doors, and
at the plain ones a node takes in what they let through. Only Rejected may come out of a door, with a reason of the fixed set; nothing at
all may come out of the node, which has to stay within its bounds.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from roost.gossip.codec import BytesCodec
from roost.gossip.protocol.config import Bounds, Config
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.messages import (
    Ack,
    Alive,
    ColdDelta,
    ColdEntry,
    ColdPush,
    Dead,
    Digest,
    HotRecord,
    HotRecords,
    IndirectPing,
    MemberEntry,
    Packet,
    Ping,
    PushPull,
    PushPullReply,
    Status,
    StreamBody,
    StreamMessage,
    StreamPing,
    Suspect,
    Want,
)
from roost.gossip.protocol.node import Node
from roost.gossip.protocol.wire import REJECTIONS, Rejected

from ..simulation.checkers import Bounded  # noqa: TID252 - its name from the root differs between pytest and python -m
from .doors import CLUSTER, DOORS, Doors, ring
from .hostile import ADDRESS, TARGET, read_corpus

BOUNDS = Bounds(members=300, tombstones=200, rumours=200, relays=64, outbox_frames=1_024, events=500, streams=16, conflicts=32)
CHECK_EVERY = 256
_TICK_S = 0.01
_LAWFUL_SHARE = 8  # copies of each lawful packet in the pool: what is hostile already is seldom let in


@dataclass(slots=True)
class Report:
    """What came of a storm. `rss_growth_bytes`: of the process, from a tenth of the inputs to the end."""

    inputs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    rss_growth_bytes: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0
    node: str = ""


class Target:
    """A node of a plain cluster that takes in whatever comes, and its clock."""

    def __init__(self, seed: int) -> None:
        config = Config(name=TARGET, address=ADDRESS, epoch=1, bounds=BOUNDS)
        self.node = Node(config, random.Random(seed), codec=BytesCodec(CLUSTER, bounds=BOUNDS), now=0.0)
        self.now = 0.0
        self.node.publish_load(Load(1, 1, 0.5), 0.0)
        self.node.publish_keys({"m/model": b"ready", "w": b"x" * 200}, 0.0)

    def take(self, data: bytes, source: int) -> None:
        """The bytes as a datagram and as a stream, from one of many addresses."""
        self.now += _TICK_S
        self.node.receive_datagram(data, (f"10.8.{source % 200}.{source // 200 % 200}", 7946), self.now)
        self.node.receive_stream(data, self.now)

    def settle(self) -> int:
        """Let time do its work; the bytes it sends. Raises Violation."""
        node = self.node
        node.handle_timer(self.now)
        sent = sum(len(datagram.data) for datagram in node.datagrams_to_send(self.now))
        for request in node.stream_requests(self.now):
            node.stream_failed(request.request)
        while node.next_event() is not None:
            pass
        Bounded().check(node, self.now)
        return sent


def lawful() -> list[bytes]:
    """Packets of every kind that a member might send."""
    delta = ColdDelta(7, 0, 5, 0, True, (ColdEntry("m/a", 4, b"v" * 30), ColdEntry("w", 5, None)))
    row = MemberEntry("b", ("10.0.0.2", 7946), 3, 1, Status.SUSPECT)
    packets = (
        (Ping(1, TARGET), Suspect(TARGET, 1, 0, "b")),
        (Ack(1), HotRecords((HotRecord(7, 70, 1, 2, 3), HotRecord(8, 70, 1, 2, 3)))),
        (IndirectPing(1, "b", ("fe80::1", 7946)), Alive("b", ("10.0.0.2", 7946), 3, 0), Dead("c", 1, 0, "b")),
        (Digest((7, 8, 9), (1, 2, 3), (0, 0, 5)), Want((7, 8), ((7, 0), (9, 4))), delta),
    )
    bodies: tuple[StreamBody, ...] = (
        StreamPing(1, TARGET),
        PushPull(2, (row, row), (HotRecord(7, 70, 1, 2, 3),), ((7, 3),)),
        PushPullReply(3, (row,), (), (delta,), ((7, 0),)),
        ColdPush(4, (delta,)),
    )
    plain, sealed = BytesCodec(CLUSTER), BytesCodec(CLUSTER, keyring=ring(5))
    datagrams = [codec.encode(Packet("a", 2, frames), 0.0) for frames in packets for codec in (plain, sealed)]
    return datagrams + [codec.encode_stream(StreamMessage("a", 2, body), 0.0) for body in bodies for codec in (plain, sealed)]


def _flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _overwrite(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _drop(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 8)]


def _repeat(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = data[at : at + rng.randint(1, 64)]


def _insert(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.randint(1, 8))


_DAMAGES: tuple[Callable[[random.Random, bytearray], None], ...] = (_flip, _overwrite, _overwrite, _cut, _drop, _repeat, _insert)


def invented(rng: random.Random) -> bytes:
    """Claims about members that do not exist: more of them than a node may hold."""

    def claim() -> Alive | Suspect | Dead:
        name, epoch, incarnation = f"m{rng.randrange(2_000)}", rng.randint(1, 3), rng.randrange(4)
        kind = rng.random()
        if kind < 0.6:
            return Alive(name, (f"10.7.0.{rng.randrange(256)}", 7946), epoch, incarnation)
        return (Suspect if kind < 0.8 else Dead)(name, epoch, incarnation, f"m{rng.randrange(2_000)}")

    return BytesCodec(CLUSTER).encode(Packet(f"m{rng.randrange(2_000)}", rng.randint(1, 3), tuple(claim() for _ in range(20))), 0.0)


def damaged(rng: random.Random, pool: list[bytes]) -> bytes:
    """One input."""
    kind = rng.random()
    if kind < 0.05:
        return rng.randbytes(rng.randint(0, 200))
    data = bytearray(invented(rng) if kind > 0.95 else rng.choice(pool))
    if kind < 0.15:
        data += rng.choice(pool)
    for _ in range(rng.randint(0, 4)):
        if data:
            rng.choice(_DAMAGES)(rng, data)
    return bytes(data)


def storm(inputs: int, seed: int) -> Report:
    """Raises whatever is not to be raised; the input that did it is in the notes of the exception."""
    rng = random.Random(seed)
    pool = [*lawful() * _LAWFUL_SHARE, *(entry.data for entry in read_corpus() if len(entry.pieces) == 1)]
    doors, target, report = Doors(), Target(seed), Report()
    began, rss = time.perf_counter(), 0
    for number in range(inputs):
        data = damaged(rng, pool)
        try:
            _try(doors, data, report.outcomes)
            target.take(data, rng.randrange(40_000))
            report.bytes_in += len(data)
            if number % CHECK_EVERY == 0:
                report.bytes_out += target.settle()
        except Exception as error:
            error.add_note(f"seed {seed}, input {number}: {data.hex()}")
            raise
        if number == inputs // 10:
            rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report.inputs = inputs
    report.seconds = round(time.perf_counter() - began, 1)
    report.rss_growth_bytes = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - rss)
    report.node = repr(target.node)
    return report


def _try(doors: Doors, data: bytes, outcomes: Counter[str]) -> None:
    for door in DOORS:
        try:
            doors.open(door, data)
        except Rejected as rejected:
            if rejected.reason not in REJECTIONS:
                raise
            outcomes[rejected.reason] += 1
        else:
            outcomes["accepted"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    report = storm(arguments.inputs, arguments.seed)
    row = {
        "inputs": report.inputs, "seed": arguments.seed, "seconds": report.seconds, "outcomes": dict(report.outcomes),
        "rss_growth_bytes": report.rss_growth_bytes, "bytes_in": report.bytes_in, "bytes_out": report.bytes_out, "node": report.node,
    }  # fmt: skip
    sys.stdout.write(json.dumps(row) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
