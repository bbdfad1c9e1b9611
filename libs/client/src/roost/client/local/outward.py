"""The address by which other machines reach this one."""

from __future__ import annotations

from roost.service.addresses import reachable_host


def advertised_host(host: str, wanted: str = "") -> str:
    """How workers that listen on `host` are to be called: `wanted`, else `host`, else (where that is every address) this machine's own."""
    return wanted or reachable_host(host)
