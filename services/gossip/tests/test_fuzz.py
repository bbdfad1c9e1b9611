from __future__ import annotations

import ast
import contextlib
import inspect
import random
import traceback
import tracemalloc
from types import ModuleType

import pytest

from roost.gossip import codec, frame_format, keyring, reader, stream_format
from roost.gossip.codec import BytesCodec
from roost.gossip.keyring import MAX_BOOTS
from roost.gossip.protocol.config import Config
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.messages import Ack, Packet
from roost.gossip.protocol.node import Node
from roost.gossip.protocol.wire import REJECTIONS, Rejected

from .fuzz.doors import CLUSTER, Doors, ring
from .fuzz.hostile import ACCEPTED, ADDRESS, TARGET, Entry, hostile, read_corpus
from .fuzz.storm import BOUNDS, Target, damaged, lawful, storm
from .simulation.checkers import Bounded

CORPUS = read_corpus()
DECODERS = (codec, frame_format, keyring, reader, stream_format)
NOT_BYTES = {"ObjectCodec"}  # takes objects of the simulation
FILLED = ("keyring", "_remember")  # rejects when the table of boots is full: has a test of its own
STRANGERS = tuple((f"10.6.0.{n}", 7946) for n in range(1, 201))


def outcomes() -> list[tuple[Entry, Rejected | None]]:
    doors, came = Doors(), list[tuple[Entry, Rejected | None]]()
    for entry in CORPUS:
        try:
            doors.open(entry.door, entry.data)
        except Rejected as rejected:
            came.append((entry, rejected))
        else:
            came.append((entry, None))
    return came


def test_each_hostile_packet_comes_to_what_the_corpus_says() -> None:
    wrong = [
        (entry.door, entry.name, rejected.reason if rejected else ACCEPTED)
        for entry, rejected in outcomes()
        if entry.outcome != (rejected.reason if rejected else ACCEPTED)
    ]
    assert wrong == []


def places_that_reject(module: ModuleType) -> set[tuple[str, str, int]]:
    """(module, function, line) of each `raise Rejected(...)`."""
    short, found = module.__name__.rpartition(".")[2], set()
    tree = ast.parse(inspect.getsource(module))
    skipped = {id(node) for each in tree.body if isinstance(each, ast.ClassDef) and each.name in NOT_BYTES for node in ast.walk(each)}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef) and id(function) not in skipped:
            raises = [node for node in ast.walk(function) if isinstance(node, ast.Raise) and "Rejected" in ast.dump(node)]
            found |= {(short, function.name, node.lineno) for node in raises}
    return found


def test_the_corpus_reaches_every_place_that_rejects() -> None:
    places = set[tuple[str, str, int]]().union(*(places_that_reject(module) for module in DECODERS))
    reached = set()
    for _, rejected in outcomes():
        if rejected is not None:
            last = traceback.extract_tb(rejected.__traceback__)[-1]
            reached.add((last.filename.rpartition("/")[2].removesuffix(".py"), last.name, last.lineno))
    assert len(places) > 15
    assert {place for place in places - reached if place[:2] != FILLED} == set()


def test_the_stored_corpus_is_what_its_makers_write() -> None:
    assert list(hostile()) == CORPUS  # where the format changed on purpose: write it anew, see hostile.py


def test_every_reason_but_a_crowd_is_in_the_corpus() -> None:
    assert {entry.outcome for entry in CORPUS} == {*REJECTIONS, ACCEPTED} - {"crowded"}


def test_more_boots_than_the_table_holds_are_a_crowd_and_it_grows_no_further() -> None:
    receiver = Doors()
    packet = BytesCodec(CLUSTER).encode(Packet("a", 1, (Ack(1),)), 0.0)
    for boot in range(1, MAX_BOOTS + 1):
        receiver.open("sealed-datagram", ring(boot).seal(packet, b"datagram", 0.0))
    with pytest.raises(Rejected, match="crowded"):
        receiver.open("sealed-datagram", ring(2**40).seal(packet, b"datagram", 0.0))
    assert receiver.ring.boots == MAX_BOOTS


def node_with_keys() -> Node[bytes]:
    config = Config(name=TARGET, address=ADDRESS, epoch=1, bounds=BOUNDS)
    node = Node(config, random.Random(1), codec=BytesCodec(CLUSTER, keyring=ring(7), bounds=BOUNDS), now=0.0)
    node.publish_load(Load(1, 1, 0.5), 0.0)
    return node


def without_seal(count: int) -> list[bytes]:
    """What somebody without a key can send: the corpus, whatever it is made into, and forged seals."""
    rng, forged = random.Random(3), [entry.data for entry in CORPUS if len(entry.data) < 2_000 and "sealed" not in entry.door + entry.name]
    stranger = ring(9, key=bytes(32))
    return [*forged, *(stranger.seal(data, b"datagram", 0.0) for data in forged), *(damaged(rng, forged) for _ in range(count))]


def test_who_has_no_key_gets_no_answer_and_leaves_nothing_behind() -> None:
    node = node_with_keys()
    inputs = without_seal(2_000)
    for number, data in enumerate(inputs):
        node.receive_datagram(data, STRANGERS[number % 200], 0.0)
        assert node.receive_stream(data, 0.0) is None
    assert node.datagrams_to_send(0.0) == []
    assert node.stream_requests(0.0) == []
    assert node.next_event() is None
    assert (len(node.members), len(node.state.hot)) == (0, 1)
    rejected = sum(count for name, count in node.counters.all.items() if name.startswith("rejected_"))
    assert rejected == 2 * len(inputs)


def test_a_member_that_replays_what_it_heard_gets_no_second_answer() -> None:
    node = node_with_keys()
    sealed = BytesCodec(CLUSTER, keyring=ring(8)).encode(Packet("a", 1, ()), 0.0)
    for _ in range(100):
        node.receive_datagram(sealed, STRANGERS[0], 0.0)
    assert node.counters["rejected_replayed"] == 99


def test_a_node_outlives_the_corpus_within_its_bounds() -> None:
    target = Target(1)
    for _ in range(20):
        for number, entry in enumerate(CORPUS):
            target.take(entry.data, number)
        target.settle()
    assert len(target.node.members) <= BOUNDS.members
    assert target.node.identity.name == TARGET


def test_what_a_node_without_keys_sends_is_bounded_by_its_budget() -> None:
    target = Target(1)
    target.now = 1.0
    digest = next(entry.data for entry in CORPUS if entry.name == "asks-for-everything")
    sent = 0
    for number in range(2_000):  # in 20 s: 2.5 MB come in
        target.take(digest, number)
        sent += target.settle() if number % 50 == 0 else 0
    assert sent < len(digest) * 2_000 / 5


def test_the_decoders_build_no_more_than_a_few_times_their_input() -> None:
    doors, inputs = Doors(), [entry for entry in CORPUS if len(entry.data) < 2_000]
    tracemalloc.start()
    try:
        for entry in inputs:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            with contextlib.suppress(Rejected):
                doors.open(entry.door, entry.data)
            _, peak = tracemalloc.get_traced_memory()
            assert peak - before < 64_000, entry.name
    finally:
        tracemalloc.stop()


def test_lawful_packets_are_let_in() -> None:
    doors, opened = Doors(), 0
    for data in lawful():
        for door in ("datagram", "stream", "sealed-datagram", "sealed-stream"):
            try:
                doors.open(door, data)
            except Rejected:
                continue
            opened += 1
    assert opened == len(lawful())


def test_a_storm_raises_nothing_and_stays_within_bounds() -> None:
    report = storm(5_000, seed=2)
    assert report.inputs == 5_000
    assert set(report.outcomes) >= {*REJECTIONS, ACCEPTED} - {"crowded"}
    assert report.bytes_out < report.bytes_in


def test_the_check_of_bounds_would_notice() -> None:
    target = Target(1)
    target.node.outbox.put(ADDRESS, Ack(1))
    with pytest.raises(Exception, match="outbox"):
        Bounded().check(target.node, 0.0)
