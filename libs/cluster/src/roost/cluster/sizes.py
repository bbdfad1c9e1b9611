"""Sizes in bytes as people write and read them: "300MB", "13.48GB", "2GiB"."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

from roost.cluster.errors import InvalidField

MAX_SIZE_BYTES: Final = 2**63 - 1  # what every language's wire types can hold

_FACTORS: Final = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1000**power for power, letter in enumerate("KMGTP", start=1)},
    **{f"{letter}iB": 1024**power for power, letter in enumerate("KMGTP", start=1)},
}
_FACTOR_BY_FOLDED: Final = {unit.casefold(): factor for unit, factor in _FACTORS.items()}
_WRITTEN: Final = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([A-Za-z]*)")
_HINT: Final = 'write bytes or a number with a unit, such as 253113024, "300MB", "13.48GB" or "2GiB"'


def parse_size(written: str | int, field: str = "size") -> int:
    """Bytes of "300MB" (powers of 1000), "2GiB" (powers of 1024) or plain bytes; a part of a byte is dropped.

    Units are read in any case. Raises InvalidField, naming `field`.
    """
    if isinstance(written, int):
        return _checked(written, field, str(written))
    match = _WRITTEN.fullmatch(written.strip())
    if match is None or not match[0].isascii():
        raise InvalidField(field, f"{written[:80]!r} is not a size; {_HINT}")
    factor = _FACTOR_BY_FOLDED.get(match[2].casefold())
    if factor is None:
        raise InvalidField(field, f"{match[2]!r} is not a unit of size; {_HINT}")
    return _checked(int(Decimal(match[1]) * factor), field, written)


def _checked(size_bytes: int, field: str, written: str) -> int:
    if not 0 <= size_bytes <= MAX_SIZE_BYTES:
        raise InvalidField(field, f"must be 0 to {MAX_SIZE_BYTES} bytes (got {written[:80]})")
    return size_bytes


def format_size(size_bytes: int) -> str:
    """The size for a reader, in powers of 1000 with three significant digits: "253 MB", "13.5 GB", "512 B"."""
    amount, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB", "PB"):
        if abs(amount) < 999.5:
            break
        amount, unit = amount / 1000, larger
    decimals = 0 if unit == "B" or abs(amount) >= 99.95 else 1 if abs(amount) >= 9.995 else 2
    return f"{amount:.{decimals}f} {unit}"
