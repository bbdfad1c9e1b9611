"""Ports that nobody listens on."""

from __future__ import annotations

import contextlib
import random
import socket


def free_ports(count: int) -> int:
    """The first of `count` neighbouring ports that nobody listens on now, below those that outgoing connections take.

    Raises OSError where there are none.
    """
    start = random.randrange(20_000, 31_000)  # noqa: S311 - keeps callers apart, guards nothing
    for first in range(start, start + 1_000):
        with contextlib.ExitStack() as probes, contextlib.suppress(OSError):
            for port in range(first, first + count):
                probe = probes.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
            return first
    raise OSError(f"no {count} neighbouring ports are free")
