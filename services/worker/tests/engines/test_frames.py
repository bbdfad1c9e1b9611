"""Frames between a worker and its model child."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.worker.engines.frames import MAX_FRAME_BYTES, BadFrame, FrameReader, Message, encode, text_of, whole_of

VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.text(), max_size=3)
MESSAGES = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=5)


@given(MESSAGES, st.integers(min_value=1, max_value=50))
def test_messages_arrive_whole_however_the_bytes_are_cut(messages: list[Message], step: int) -> None:
    sent = b"".join(encode(message) for message in messages)
    reader = FrameReader()
    received = [message for at in range(0, len(sent), step) for message in reader.feed(sent[at : at + step])]
    assert received == messages


@pytest.mark.parametrize(
    "junk", [b"GET / HTTP/1.1\r\n", b"\x00\x00\x00\x02[]", b"\x00\x00\x00\x03xyz", (MAX_FRAME_BYTES + 1).to_bytes(4, "big")]
)
def test_bytes_that_are_no_frame_are_refused(junk: bytes) -> None:
    with pytest.raises(BadFrame):
        list(FrameReader().feed(junk))


def test_a_message_without_the_expected_value_is_refused() -> None:
    with pytest.raises(BadFrame):
        text_of({"why": 3}, "why")
    with pytest.raises(BadFrame):
        whole_of({}, "id")
