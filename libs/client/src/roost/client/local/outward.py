"""The address by which other machines reach this one."""

from __future__ import annotations

import socket

from roost.client.local.plan import WILDCARDS

# Documentation addresses (RFC 5737, RFC 3849). Nothing is sent: connecting a UDP socket only asks the system which way it would go.
_SOMEWHERE = {socket.AF_INET: "192.0.2.1", socket.AF_INET6: "2001:db8::1"}


def advertised_host(host: str, wanted: str = "") -> str:
    """How workers that listen on `host` are to be called: `wanted`, else `host`, else (where that is every address) this machine's own."""
    if wanted or host not in WILDCARDS:
        return wanted or host
    family = socket.AF_INET if host == "0.0.0.0" else socket.AF_INET6  # noqa: S104 - compared with, not bound
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((_SOMEWHERE[family], 9))
            return str(probe.getsockname()[0])
    except OSError:
        return WILDCARDS[host]  # no network: nobody else can call
