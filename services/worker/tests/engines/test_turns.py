"""A long prompt stops nobody."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from roost.worker.engines.turns import Turns


@dataclass(eq=False)
class Taker:
    name: str
    is_reading: bool = False


def taken(turns: Turns[Taker], count: int, *, piece_s: float = 1.0, token_s: float = 0.1) -> str:
    """The names of those who had the next turns, in order."""
    names = ""
    for _ in range(count):
        taker = turns.next()
        turns.took(piece_s if taker.is_reading else token_s, was_reading=taker.is_reading)
        turns.add(taker)
        names += taker.name
    return names


def turns_of(*takers: Taker) -> Turns[Taker]:
    turns: Turns[Taker] = Turns()
    for taker in takers:
        turns.add(taker)
    return turns


def test_those_who_write_have_as_much_time_as_those_who_read() -> None:
    assert taken(turns_of(Taker("P", is_reading=True), Taker("a")), 22).count("P") == 2


def test_several_who_write_take_turns_and_so_do_several_who_read() -> None:
    names = taken(turns_of(Taker("P", is_reading=True), Taker("Q", is_reading=True), Taker("a"), Taker("b")), 33)
    assert [name for name in names if name in "PQ"][:2] == ["P", "Q"]
    assert "ababab" in names


def test_one_kind_alone_has_all_turns_and_owes_nothing_later() -> None:
    reader = Taker("P", is_reading=True)
    turns = turns_of(reader)
    assert taken(turns, 50) == "P" * 50
    turns.add(Taker("a"))
    assert taken(turns, 3) == "Paa"


def test_who_has_read_its_prompt_writes() -> None:
    reader = Taker("P", is_reading=True)
    turns = turns_of(reader, Taker("a"))
    assert turns.next() is reader
    reader.is_reading = False
    turns.took(1.0, was_reading=True)
    turns.add(reader)
    assert taken(turns, 4) == "aPaP"


def test_who_is_removed_has_no_turn() -> None:
    reader, writer = Taker("P", is_reading=True), Taker("a")
    turns = turns_of(reader, writer)
    turns.remove(reader)
    assert list(turns) == [writer]
    turns.remove(writer)
    assert not turns
    with pytest.raises(ValueError, match="not in"):
        turns.remove(writer)
