"""Which hosts are reached without a proxy."""

from __future__ import annotations

import pytest

from roost.worker.engines.nearness import is_near, is_near_url

NEAR = """127.0.0.1 127.9.9.9 ::1 10.1.2.3 192.168.0.7 172.31.0.1 169.254.1.1 100.64.0.5 fd00::1 fe80::1%eth0 ::ffff:10.0.0.1
localhost LOCALHOST box.localhost localhost."""


@pytest.mark.parametrize("host", NEAR.split())
async def test_this_machine_and_this_network_are_near(host: str) -> None:
    assert await is_near(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "2606:4700::1111", "no-such-host.invalid", "a" * 300, "xn--\udcff"])
async def test_public_and_unknown_hosts_are_far(host: str) -> None:
    assert not await is_near(host)


async def test_what_an_address_names_is_near_or_far() -> None:
    assert await is_near_url("http://127.0.0.1:8000/v1")
    assert await is_near_url("http://[::1]:8000/v1")
    assert not await is_near_url("https://8.8.8.8/v1")
    assert not await is_near_url("/v1")
