"""The addresses by which others reach this machine."""

from __future__ import annotations

import ipaddress

import pytest

from roost.cluster.errors import InvalidField
from roost.service.addresses import is_every_address, reachable_host
from roost.service.codec import check_address


@pytest.mark.parametrize("host", ["0.0.0.0", "0", "::", "[::]", "0:0:0:0:0:0:0:0", "::0", "0x0", "::ffff:0.0.0.0"])
def test_every_way_to_write_all_addresses_is_known(host: str) -> None:
    assert is_every_address(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.0.0.0", "::1", "[fd00::]", "x", "0.example", "", "localhost"])
def test_an_address_that_can_be_dialled_is_none_of_them(host: str) -> None:
    assert not is_every_address(host)
    assert reachable_host(host) == host


@pytest.mark.parametrize(("host", "version"), [("0.0.0.0", 4), ("::", 6), ("0", 4)])
def test_what_listens_everywhere_is_called_by_an_address_of_this_machine(host: str, version: int) -> None:
    address = ipaddress.ip_address(reachable_host(host, towards=[("no-such-host.invalid", 1), ("127.0.0.1", 9000)]))
    assert address.version == version
    assert not address.is_unspecified


def test_the_network_of_the_peer_is_preferred() -> None:
    own = reachable_host("0.0.0.0")
    assert reachable_host("0.0.0.0", towards=[(own, 9)]) == own


@pytest.mark.parametrize("address", ["0.0.0.0:8001", "[::]:8001", "0:8001"])
def test_nobody_is_told_an_address_that_nobody_can_dial(address: str) -> None:
    with pytest.raises(InvalidField, match="nobody can dial"):
        check_address(address)
