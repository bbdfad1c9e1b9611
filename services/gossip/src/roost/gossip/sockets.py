"""The two sockets of a member, UDP and TCP on one port number, and the address by which the others know it."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass

from roost.gossip.protocol.config import Address
from roost.service.addresses import check_free, join, reachable_host
from roost.service.startup import CannotStart, PortTaken

RECEIVE_BUFFER_BYTES = 4 * 2**20  # a stalled second of a large cluster; the kernel grants what it may
BACKLOG = 64
_ATTEMPTS = 32  # to find a number that is free for both kinds of socket, where any will do


@dataclass(frozen=True, slots=True)
class Sockets:
    """Bound and not blocking; the TCP one listens."""

    udp: socket.socket
    tcp: socket.socket
    port: int

    @property
    def family(self) -> socket.AddressFamily:
        return self.udp.family


@contextlib.contextmanager
def bound(host: str, port: int) -> Iterator[Sockets]:
    """Both sockets for as long as the block lasts. Port 0 takes a free one. Raises PortTaken."""
    with contextlib.ExitStack() as open_sockets:
        yield _bind(host, port, open_sockets)


def _bind(host: str, port: int, open_sockets: contextlib.ExitStack) -> Sockets:
    numeric = check_free(host, port)
    for _ in range(_ATTEMPTS):
        udp = _socket(numeric, socket.SOCK_DGRAM)
        try:
            udp.bind((numeric, port))
            taken = int(udp.getsockname()[1])
            tcp = _socket(numeric, socket.SOCK_STREAM)
        except OSError as error:
            udp.close()
            raise PortTaken(join(host, port), _why(error)) from error
        try:
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind((numeric, taken))
            tcp.listen(BACKLOG)
        except OSError as error:
            udp.close()
            tcp.close()
            if port or error.errno != errno.EADDRINUSE:
                raise PortTaken(join(host, taken), _why(error)) from error
            continue
        udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        open_sockets.enter_context(udp)
        open_sockets.enter_context(tcp)
        return Sockets(udp, tcp, taken)
    raise PortTaken(join(host, port), "no number is free for UDP and TCP")


def _socket(numeric: str, kind: socket.SocketKind) -> socket.socket:
    family = socket.AF_INET6 if ":" in numeric else socket.AF_INET
    made = socket.socket(family, kind)
    made.setblocking(False)
    if family is socket.AF_INET6:
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return made


def _why(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "another process has this UDP or TCP port; stop it, or choose another one with --port"
    return error.strerror or str(error)


def advertised(wanted: str, host: str, sockets: Sockets, seeds: tuple[Address, ...]) -> Address:
    """The numeric address that others are told: `wanted` (HOST or HOST:PORT), else the one listened on, else the one that reaches a seed.

    Raises CannotStart if none can be found.
    """
    name, port = split(wanted, sockets.port) if wanted else (host, sockets.port)
    try:
        numeric = str(socket.getaddrinfo(name, port, sockets.family, socket.SOCK_DGRAM)[0][4][0])
    except OSError as error:
        raise CannotStart(f"advertise (--advertise): the host {name!r} is not known here: {error.strerror}") from error
    return reachable_host(numeric, towards=seeds), port


def split(text: str, default_port: int) -> Address:
    """HOST, HOST:PORT or [IPv6]:PORT. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if ":" in host:
        ipaddress.IPv6Address(host)  # raises ValueError
    if not host or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"must be HOST:PORT (got {text[:80]!r})")
    return host, int(port)
