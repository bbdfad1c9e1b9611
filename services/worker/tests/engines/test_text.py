"""Cutting text at stop strings, however it falls into tokens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.worker.engines.interface import GeneratedToken
from roost.worker.engines.text import StopFilter, Telling

PIECES = st.lists(st.text(alphabet="ab", max_size=3), max_size=12)
STOPS = st.lists(st.text(alphabet="ab", min_size=1, max_size=4), max_size=3)


def run(pieces: list[str], stops: list[str]) -> tuple[list[GeneratedToken], bool]:
    told: list[GeneratedToken] = []
    stop = StopFilter(stops)
    for number, piece in enumerate(pieces):
        told += stop.push(GeneratedToken(number, piece))
        if stop.is_stopped:
            return told, True
    return told + stop.flush(), False


def text_before_the_first_stop(text: str, stops: list[str]) -> str | None:
    """By the slow way: grow the text a character at a time and look."""
    for end in range(len(text) + 1):
        starts = [end - len(stop) for stop in stops if text[:end].endswith(stop)]
        if starts:
            return text[: min(starts)]
    return None


@given(PIECES, STOPS)
def test_text_ends_before_the_first_stop_string_to_be_complete(pieces: list[str], stops: list[str]) -> None:
    told, is_stopped = run(pieces, stops)
    expected = text_before_the_first_stop("".join(pieces), stops)
    assert is_stopped == (expected is not None)
    assert "".join(token.text for token in told) == ("".join(pieces) if expected is None else expected)


@given(PIECES, STOPS)
def test_tokens_come_out_in_order_and_without_gaps(pieces: list[str], stops: list[str]) -> None:
    told, _ = run(pieces, stops)
    assert [token.id for token in told] == list(range(len(told)))


@given(PIECES)
def test_without_stop_strings_nothing_is_held_back(pieces: list[str]) -> None:
    stop = StopFilter([])
    for number, piece in enumerate(pieces):
        assert stop.push(GeneratedToken(number, piece)) == [GeneratedToken(number, piece)]


def test_what_may_begin_a_stop_string_is_held_until_it_cannot() -> None:
    stop = StopFilter(["\n\nQ:"])
    assert stop.push(GeneratedToken(1, "yes\n")) == []
    assert stop.push(GeneratedToken(2, "\n")) == []
    assert stop.push(GeneratedToken(3, "A:")) == [GeneratedToken(1, "yes\n"), GeneratedToken(2, "\n"), GeneratedToken(3, "A:")]


@given(PIECES, STOPS, st.integers(0, 12))
def test_a_text_that_was_told_in_part_goes_on_where_it_was_and_tells_nothing_twice(pieces: list[str], stops: list[str], cut: int) -> None:
    tokens = [GeneratedToken(number, piece) for number, piece in enumerate(pieces)]
    whole = told_by(Telling(stops), tokens)
    cut = min(cut, len(whole))
    resumed = Telling(stops)
    for token in tokens[:cut]:
        resumed.was_told(token)
    assert told_by(resumed, tokens[cut:]) == whole[cut:]


def told_by(telling: Telling, tokens: list[GeneratedToken]) -> list[GeneratedToken]:
    told: list[GeneratedToken] = []
    for token in tokens:
        if telling.is_stopped:
            return told
        told += telling.push(token)
    return told + telling.flush()


def test_a_stop_string_may_begin_in_text_that_is_known_as_a_whole() -> None:
    telling = Telling(["END"])
    telling.was_told(GeneratedToken(-1, "some text, E"))
    assert telling.push(GeneratedToken(1, "ND and more")) == []
    assert telling.is_stopped
