"""Whether a host is near: on this machine or in this network, where no proxy stands between."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from typing import Final
from urllib.parse import urlsplit

RESOLVE_TIMEOUT_S: Final = 5.0  # a resolver that takes longer says nothing that a connection could use


async def is_near_url(url: str) -> bool:
    """Whether what the address names must be reached without the proxy that the environment names."""
    host = urlsplit(url).hostname
    return bool(host) and await is_near(str(host))


async def is_near(host: str) -> bool:
    """True for loopback, private and link-local addresses and for names of nothing else. A name that nobody here knows is far."""
    if host.lower().rstrip(".").endswith("localhost"):
        return True
    try:
        return _is_local(host)
    except ValueError:
        pass
    try:
        async with asyncio.timeout(RESOLVE_TIMEOUT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError, TimeoutError):
        return False
    return bool(found) and all(_is_local(str(address[0])) for *_, address in found)


def _is_local(address: str) -> bool:
    """Raises ValueError for what is no address."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return not ip.is_global
