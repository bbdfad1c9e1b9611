"""Addresses of this machine: whether one can be listened on, and by which one others reach what listens on all of them.

Whether it can be listened on is asked before it is done: gRPC says only that it failed, and is content with one of several.
"""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Iterable, Iterator

from roost.service.startup import PortTaken


def check_free(host: str, port: int, *, flag: str = "--port") -> str:
    """The first numeric address of `host`. Raises PortTaken, naming `flag`, if it or any other address of it cannot be listened on."""
    name = join(host, port)
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else "no such host"
        raise PortTaken(name, f"{why}; give an address of this machine") from error
    for family, kind, protocol, _, address in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family is socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
        except OSError as error:
            raise PortTaken(name, _why(error, flag)) from error
    return str(found[0][4][0])


# Documentation addresses (RFC 5737, RFC 3849). Nothing is sent: connecting a UDP socket only asks the system which way it would go.
_SOMEWHERE = {socket.AF_INET: ("192.0.2.1", 9), socket.AF_INET6: ("2001:db8::1", 9)}


def is_every_address(host: str) -> bool:
    """Whether it stands for all addresses of a machine ("0.0.0.0", "::", however written): it can be listened on and not dialled."""
    digits = host.strip("[]").lower().removeprefix("::ffff:")
    return ("0" in digits or ":" in digits) and not digits.strip("0x.:")


def reachable_host(host: str, *, towards: Iterable[tuple[str, int]] = (), by_name: bool = False) -> str:
    """How others call what listens on `host`: by `host`, or where that is every address by the one that this machine speaks from.

    `towards` are (host, port) of peers, asked for first: of several networks theirs is meant. `by_name` prefers the machine's name if
    it is known to the resolver, for certificates that have names. A machine without a network calls itself loopback. Blocking: names
    are looked up.
    """
    if not is_every_address(host):
        return host
    if by_name and _is_known_elsewhere(socket.gethostname()):
        return socket.gethostname()
    family, loopback = (socket.AF_INET6, "::1") if ":" in host else (socket.AF_INET, "127.0.0.1")
    found = (address for address in _own_addresses(family, towards) if not ipaddress.ip_address(address).is_loopback)
    return next(found, loopback)


def _is_known_elsewhere(name: str) -> bool:
    """Debian gives a machine its own name on loopback, which says nothing of other machines."""
    try:
        found = socket.getaddrinfo(name, None)
    except (OSError, UnicodeError):
        return False
    return all(not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)


def _own_addresses(family: socket.AddressFamily, towards: Iterable[tuple[str, int]]) -> Iterator[str]:
    for target in (*towards, _SOMEWHERE[family], (socket.gethostname(), 9)):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as probe:
                probe.connect(target)
                yield str(probe.getsockname()[0]).partition("%")[0]
        except (OSError, UnicodeError):
            continue


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def join(host: str, port: int) -> str:
    """HOST:PORT, with the brackets that IPv6 needs."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _why(error: OSError, flag: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"another process listens there; stop it, or choose another port with {flag}"
    if error.errno == errno.EACCES:
        return f"ports below 1024 need privileges; choose a higher one with {flag}"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"it is no address of this machine; use 127.0.0.1, 0.0.0.0 or another one with {flag.replace('port', 'host')}"
    return f"{os.strerror(error.errno or 0)}; choose another address with {flag}"
