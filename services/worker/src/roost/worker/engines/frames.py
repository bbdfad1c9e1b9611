"""Messages between a worker and its model child: four bytes of length (big-endian), then one JSON object in UTF-8. Sans IO."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from typing import Final, cast

MAX_FRAME_BYTES: Final = 64 * 1024 * 1024  # the longest prompt is 8 MiB, and JSON may write a character as six

_LENGTH: Final = struct.Struct(">I")

Value = str | int | float | bool | list[str] | list[int] | None
Message = Mapping[str, Value]


class BadFrame(ValueError):
    """The bytes cannot be a message: the other side is not ours, or something else wrote to the pipe."""


def encode(message: Message) -> bytes:
    """One frame."""
    body = json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode()
    return _LENGTH.pack(len(body)) + body


class FrameReader:
    """Bytes in, messages out; keeps what is not yet a whole frame."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, received: bytes) -> Iterator[Message]:
        """Every message that is whole now. Raises BadFrame."""
        self._buffer += received
        while len(self._buffer) >= _LENGTH.size:
            (size,) = _LENGTH.unpack_from(self._buffer)
            if size > MAX_FRAME_BYTES:
                raise BadFrame(f"a frame of {size} bytes; at most {MAX_FRAME_BYTES} are sent")
            end = _LENGTH.size + size
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH.size : end])
            del self._buffer[:end]
            yield _decode(body)


def _decode(body: bytes) -> Message:
    try:
        message = json.loads(body)
    except ValueError as error:
        raise BadFrame(f"a frame that is not JSON: {body[:40]!r}") from error
    if not isinstance(message, dict):
        raise BadFrame(f"a frame that is not an object: {body[:40]!r}")
    return message


def text_of(message: Message, key: str) -> str:
    """A text of a message. Raises BadFrame if it is absent or no text."""
    value = message.get(key)
    if not isinstance(value, str):
        raise BadFrame(f"{key} is {value!r}, not a text")
    return value


def whole_of(message: Message, key: str) -> int:
    """A whole number of a message. Raises BadFrame if it is absent or none."""
    value = message.get(key)
    if not isinstance(value, int):
        raise BadFrame(f"{key} is {value!r}, not a whole number")
    return value


def number_of(message: Message, key: str) -> float:
    """A number of a message. Raises BadFrame if it is absent or none."""
    value = message.get(key)
    if not isinstance(value, int | float):
        raise BadFrame(f"{key} is {value!r}, not a number")
    return float(value)


def wholes_of(message: Message, key: str) -> list[int]:
    """A list of whole numbers of a message. Raises BadFrame if it is absent or something else."""
    values = message.get(key)
    if not isinstance(values, list) or not all(isinstance(value, int) for value in values):
        raise BadFrame(f"{key} is no list of whole numbers")
    return cast("list[int]", values)


def texts_of(message: Message, key: str) -> list[str]:
    """A list of texts of a message. Raises BadFrame if it is absent or something else."""
    values = message.get(key)
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise BadFrame(f"{key} is no list of texts")
    return cast("list[str]", values)
