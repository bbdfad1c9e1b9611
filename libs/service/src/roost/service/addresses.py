"""Whether an address can be listened on, asked before it is done: gRPC says only that it failed, and is content with one of several."""

from __future__ import annotations

import errno
import os
import socket

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
