"""What the head of a GGUF file says of the model, read without loading it: shape, vocabulary, and how long the file must be.

The format: github.com/ggml-org/ggml/blob/master/docs/gguf.md. Only little-endian files of versions 2 and 3 are read.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAGIC: Final = b"GGUF"
VERSIONS: Final = (2, 3)
MAX_ENTRIES: Final = 1_000_000  # of metadata or tensors; the largest models have some thousands
MAX_KEY_BYTES: Final = 65_535  # the format's own limit
MAX_DIMENSIONS: Final = 8
TOKENS: Final = "tokenizer.ggml.tokens"

_STRING, _ARRAY = 8, 9
_SCALARS: Final = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
# (weights in a block, bytes of a block) by ggml's number of the type: ggml.h and ggml-common.h
_BLOCKS: Final = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36), 10: (256, 84), 11: (256, 110),
    12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50),
    20: (32, 18), 21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8),
    29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
_PART: Final = re.compile(r"^(.*)-00001-of-(\d{5})\.gguf$")

Scalar = str | int | float | bool


class BadGguf(ValueError):
    """The file is no GGUF file, or not a whole one. The message says where it stops making sense."""


@dataclass(frozen=True, slots=True)
class Array:
    """An array by its length; of numbers, also what it holds."""

    length: int
    numbers: tuple[int | float, ...] = ()


@dataclass(frozen=True, slots=True)
class Header:
    """`needed_bytes`: how long the file must be at least; 0 where only the metadata was read."""

    metadata: Mapping[str, Scalar | Array]
    needed_bytes: int = 0

    def whole(self, key: str, default: int = 0) -> int:
        """A number of the model's architecture, such as "block_count"; of an array, its largest."""
        value = self.metadata.get(f"{self.metadata.get('general.architecture', '')}.{key}", default)
        if isinstance(value, Array):
            value = max(value.numbers, default=default)
        return int(value) if isinstance(value, int | float) else default

    def wholes(self, key: str) -> tuple[int, ...]:
        """What an array says for each layer; empty where it is one number."""
        value = self.metadata.get(f"{self.metadata.get('general.architecture', '')}.{key}")
        return tuple(map(int, value.numbers)) if isinstance(value, Array) else ()

    @property
    def vocabulary(self) -> int:
        """Tokens; 0 where the file does not say."""
        tokens = self.metadata.get(TOKENS)
        return tokens.length if isinstance(tokens, Array) else self.whole("vocab_size")


def read_shape(path: Path) -> Header:
    """The metadata up to the vocabulary, which comes after the shape and is long: a millisecond. Raises BadGguf, OSError."""
    with _Mapped(path) as reader:
        return Header(dict(reader.metadata(up_to=TOKENS)))


def read_header(path: Path) -> Header:
    """All of the head: a tenth of a second where the vocabulary is large. Raises BadGguf, OSError."""
    with _Mapped(path) as reader:
        metadata = dict(reader.metadata())
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0:
            raise BadGguf(f"its alignment is {alignment!r}")
        ends = [reader.tensor_end() for _ in range(reader.tensors)]
        data_at = -(-reader.at // alignment) * alignment
        return Header(metadata, data_at + max(ends) if ends else reader.at)


def parts_of(path: Path) -> tuple[Path, ...]:
    """The files of a model that was split, the first of which is `path`; that alone where it was not."""
    found = _PART.match(path.name)
    if found is None:
        return (path,)
    return tuple(path.with_name(f"{found[1]}-{part:05d}-of-{found[2]}.gguf") for part in range(1, int(found[2]) + 1))


class _Reader:
    """State: the position in the mapped file."""

    def __init__(self, content: mmap.mmap) -> None:
        self._content = content
        self.at = 0
        if self._take(4) != MAGIC:
            raise BadGguf(f"it is not a GGUF file: it begins with {bytes(content[:4])!r}, not {MAGIC!r}")
        version = self._number("<I")
        if version not in VERSIONS:
            raise BadGguf(f"its version is {version}; {' and '.join(map(str, VERSIONS))} can be read")
        self.tensors = self._count()
        self._entries = self._count()

    def metadata(self, up_to: str = "") -> Iterator[tuple[str, Scalar | Array]]:
        """Each entry; ends after the beginning of the array named `up_to`."""
        for _ in range(self._entries):
            key = self._string(MAX_KEY_BYTES)
            kind = int(self._number("<I"))
            if key == up_to and kind == _ARRAY:
                self._number("<I")
                yield key, Array(int(self._number("<Q")))
                return
            yield key, self._value(kind)

    def tensor_end(self) -> int:
        """Where the next tensor ends, counted from the beginning of the data; where it begins, if its type is not known here."""
        self._string(MAX_KEY_BYTES)
        dimensions = int(self._number("<I"))
        if dimensions > MAX_DIMENSIONS:
            raise BadGguf(f"a tensor has {dimensions} dimensions")
        weights = 1
        for _ in range(dimensions):
            weights *= int(self._number("<Q"))
        block = _BLOCKS.get(int(self._number("<I")))
        begins_at = int(self._number("<Q"))
        return begins_at if block is None else begins_at + weights // block[0] * block[1]

    def _value(self, kind: int) -> Scalar | Array:
        if kind == _STRING:
            return self._string(len(self._content))
        if kind == _ARRAY:
            return self._array()
        if kind not in _SCALARS:
            raise BadGguf(f"a value has the unknown type {kind}")
        return self._number(_SCALARS[kind])

    def _array(self) -> Array:
        kind, length = int(self._number("<I")), int(self._number("<Q"))
        if kind == _STRING:
            for _ in range(length):
                self._skip(int(self._number("<Q")))
            return Array(length)
        if kind not in _SCALARS:
            raise BadGguf(f"an array holds the unknown type {kind}")
        form = _SCALARS[kind]
        size = struct.calcsize(form) * length
        if length > MAX_DIMENSIONS * 1024:  # of tokens, not of layers
            self._skip(size)
            return Array(length)
        return Array(length, struct.unpack(f"<{length}{form[1]}", self._take(size)))

    def _count(self) -> int:
        count = int(self._number("<Q"))
        if count > MAX_ENTRIES:
            raise BadGguf(f"it would have {count} entries")
        return count

    def _string(self, longest: int) -> str:
        length = int(self._number("<Q"))
        if length > longest:
            raise BadGguf(f"a text would have {length} bytes")
        return self._take(length).decode("utf-8", "replace")

    def _number(self, form: str) -> int | float | bool:
        value: int | float | bool = struct.unpack(form, self._take(struct.calcsize(form)))[0]
        return value

    def _take(self, size: int) -> bytes:
        begins_at = self.at
        self._skip(size)
        return self._content[begins_at : self.at]

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self._content):
            raise BadGguf(f"it ends after {len(self._content)} bytes, in the middle of its head: it is not whole")


class _Mapped:
    """A reader over a mapped file, for the length of a block."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content: mmap.mmap | None = None

    def __enter__(self) -> _Reader:
        with self._path.open("rb") as file:
            try:
                self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:  # an empty file cannot be mapped
                raise BadGguf("it is empty") from error
        try:
            return _Reader(self._content)
        except BaseException:
            self._content.close()
            raise

    def __exit__(self, *_: object) -> None:
        if self._content is not None:
            self._content.close()
