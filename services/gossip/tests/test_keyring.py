from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.gossip.keyring import MAX_BOOTS, SEAL_BYTES, WINDOW, Keyring, _Boot, key_id
from roost.gossip.protocol.wire import Rejected

A, B, C = (bytes([n]) * 32 for n in (1, 2, 3))
KIND = b"datagram"


def ring(*keys: bytes, boot: int = 1, cluster: str = "c", wall_offset_s: float = 1_000_000.0) -> Keyring:
    return Keyring(keys or (A,), cluster=cluster, boot=boot.to_bytes(12, "big"), wall_offset_s=wall_offset_s)


def reason_of(keyring: Keyring, sealed: bytes, now: float = 0.0, kind: bytes = KIND) -> str:
    with pytest.raises(Rejected) as caught:
        keyring.open(sealed, kind, now)
    return caught.value.reason


@given(st.binary(max_size=200))
def test_what_is_sealed_opens(plain: bytes) -> None:
    sealed = ring(boot=1).seal(plain, KIND, 0.0)
    assert ring(boot=2).open(sealed, KIND, 0.0) == plain
    assert len(sealed) == len(plain) + SEAL_BYTES


def test_the_same_text_never_looks_the_same_twice() -> None:
    sender = ring()
    assert sender.seal(b"x", KIND, 0.0)[27:] != sender.seal(b"x", KIND, 0.0)[27:]
    assert ring(boot=1).seal(b"x", KIND, 0.0)[27:] != ring(boot=2).seal(b"x", KIND, 0.0)[27:]


@pytest.mark.parametrize(
    ("receiver", "reason"),
    [(ring(B, boot=9), "wrong_key"), (ring(cluster="other", boot=9), "wrong_key"), (ring(boot=9, wall_offset_s=1_000_031.5), "skewed")],
)
def test_a_stranger_is_turned_away_by_name(receiver: Keyring, reason: str) -> None:
    assert reason_of(receiver, ring().seal(b"x", KIND, 0.0)) == reason


def test_a_datagram_cannot_be_replayed_as_a_stream() -> None:
    assert reason_of(ring(boot=2), ring().seal(b"x", KIND, 0.0), kind=b"stream") == "wrong_key"


@given(st.data())
def test_not_one_bit_can_be_changed(data: st.DataObject) -> None:
    sealed = bytearray(ring().seal(b"some words", KIND, 0.0))
    sealed[data.draw(st.integers(0, len(sealed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    assert reason_of(ring(boot=2), bytes(sealed)) in {"wrong_key", "skewed", "version"}


def test_a_replay_is_recognised_in_and_behind_the_window() -> None:
    sender, receiver = ring(boot=1), ring(boot=2)
    packets = [sender.seal(b"x", KIND, 0.0) for _ in range(WINDOW + 10)]
    for i in (5, 3, 4, WINDOW + 9):
        receiver.open(packets[i], KIND, 0.0)
    assert [reason_of(receiver, packets[i]) for i in (5, 3, WINDOW + 9, 0)] == ["replayed"] * 4
    receiver.open(packets[100], KIND, 0.0)  # late, yet in the window and new


@given(st.lists(st.integers(0, 40), max_size=80))
def test_each_packet_is_accepted_exactly_once(order: list[int]) -> None:
    sender, receiver = ring(boot=1), ring(boot=2)
    packets = [sender.seal(b"x", KIND, 0.0) for _ in range(41)]
    seen: set[int] = set()
    for i in order:
        if i in seen:
            assert reason_of(receiver, packets[i]) == "replayed"
        else:
            receiver.open(packets[i], KIND, 0.0)
        seen.add(i)


def test_keys_rotate_without_a_gap() -> None:
    one, two = ring(A, boot=1), ring(A, boot=2)
    steps: list[tuple[Callable[[Keyring, bytes], None], bytes]] = [(Keyring.install, B), (Keyring.use, B), (Keyring.remove, A)]
    for (step, key), keyring in itertools.product(steps, (one, two)):
        step(keyring, key)
        assert two.open(one.seal(b"x", KIND, 0.0), KIND, 0.0) == b"x"
        assert one.open(two.seal(b"y", KIND, 0.0), KIND, 0.0) == b"y"
    assert reason_of(one, ring(A, boot=3).seal(b"x", KIND, 0.0)) == "wrong_key"


def test_a_key_that_is_used_cannot_be_removed_and_one_that_is_not_installed_cannot_be_used() -> None:
    keyring = ring(A, B)
    steps: list[tuple[Callable[[Keyring, bytes], None], bytes]] = [(Keyring.remove, A), (Keyring.use, C), (Keyring.install, b"short")]
    for step, key in steps:
        with pytest.raises(ValueError, match="key"):
            step(keyring, key)
    with pytest.raises(ValueError, match="1-8 keys"):
        keyring.set_keys(())
    assert keyring.keys == (A, B)


def test_forged_packets_leave_nothing_in_memory() -> None:
    receiver, rng = ring(boot=2), random.Random(1)
    real = ring(boot=1).seal(b"x", KIND, 0.0)
    for _ in range(200):
        forged = real[:5] + rng.randbytes(12) + real[17:]
        assert reason_of(receiver, forged) == "wrong_key"
    assert receiver.boots == 0


def test_a_table_of_boots_that_is_full_turns_newcomers_away_until_others_are_long_silent() -> None:
    receiver = ring(boot=2**40)
    for boot in range(MAX_BOOTS):
        receiver._remember(boot.to_bytes(12, "big"), _Boot(), 1_000_000.0)
    newcomer = ring(boot=2**41)
    assert reason_of(receiver, newcomer.seal(b"x", KIND, 0.0)) == "crowded"
    assert receiver.open(newcomer.seal(b"x", KIND, 61.0), KIND, 61.0) == b"x"
    assert receiver.boots == MAX_BOOTS


def test_a_key_is_named_without_being_told() -> None:
    assert key_id(A) != key_id(B)
    assert key_id(A) not in A
    assert A.hex() not in repr(ring(A))
