"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.errors import InvalidField
from roost.cluster.sizes import MAX_SIZE_BYTES, format_size, parse_size


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("0", 0),
        ("253113024", 253_113_024),
        (253_113_024, 253_113_024),
        ("512B", 512),
        ("1KB", 1_000),
        ("1kb", 1_000),
        ("1KiB", 1_024),
        ("300MB", 300_000_000),
        ("300 MB", 300_000_000),
        (" 2GiB ", 2_147_483_648),
        ("13.48GB", 13_480_000_000),
        ("0.1GB", 100_000_000),
        ("1.5TiB", 1_649_267_441_664),
        ("1.9B", 1),
    ],
)
def test_a_size_is_read_exactly(written: str | int, size_bytes: int) -> None:
    assert parse_size(written) == size_bytes


@pytest.mark.parametrize(
    "written", ["", "GB", "-1", "-1GB", "1e9", "nan", "inf", "1,5GB", "1.GB", "3 XB", "300M B", "٣GB", "1GB 2GB", -1, 2**63, "9999999PB"]
)
def test_what_is_not_a_size_is_refused_naming_the_field(written: str | int) -> None:
    with pytest.raises(InvalidField) as refusal:
        parse_size(written, "memory")
    assert refusal.value.field == "memory"


@given(st.integers(min_value=0, max_value=MAX_SIZE_BYTES))
def test_plain_bytes_are_read_back_as_they_are(size_bytes: int) -> None:
    assert parse_size(str(size_bytes)) == size_bytes


@given(st.integers(min_value=0, max_value=10**18))
def test_a_written_size_is_within_a_hundredth_of_what_is_read_back(size_bytes: int) -> None:
    assert abs(parse_size(format_size(size_bytes)) - size_bytes) <= size_bytes / 100


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1_000, "1.00 kB"), (253_113_024, "253 MB"), (13_480_000_000, "13.5 GB"), (999_600_000, "1.00 GB")],
)
def test_a_size_is_written_with_three_digits(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text
