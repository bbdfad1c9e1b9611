"""The PEM files of one side of a connection, read and checked once when it opens."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

import grpc

from roost.service.startup import CannotStart


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """`certificate` and `key` name this side (a server has both); `authority` is what the other side's certificate is checked against.

    A client without `authority` trusts the system's authorities; a server without it does not ask clients for a certificate.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None


def server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Raises CannotStart if a file cannot be read or holds something else."""
    key, certificate, authority = _checked(tls)
    if key is None or certificate is None:
        raise CannotStart("TLS needs both a certificate and a key: set tls_certificate and tls_key")
    return grpc.ssl_server_credentials([(key, certificate)], authority, require_client_auth=authority is not None)


def channel_credentials(tls: TlsFiles) -> grpc.ChannelCredentials:
    """Raises CannotStart if a file cannot be read or holds something else."""
    key, certificate, authority = _checked(tls)
    return grpc.ssl_channel_credentials(authority, key, certificate)


def _checked(tls: TlsFiles) -> tuple[bytes | None, bytes | None, bytes | None]:
    """Key, certificate and authority. Python's own TLS looks at them first: gRPC would not say which is wrong, nor how."""
    contents = _read(tls.key), _read(tls.certificate), _read(tls.authority)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        if tls.certificate is not None and tls.key is not None:
            context.load_cert_chain(tls.certificate, tls.key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        raise CannotStart(f"TLS certificate {tls.certificate} and key {tls.key} do not make a pair: {error}") from error
    try:
        if tls.authority is not None:
            context.load_verify_locations(tls.authority)
    except ssl.SSLError as error:
        raise CannotStart(f"TLS authority {tls.authority} holds no certificate: {error}") from error
    return contents


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a password")


def _read(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        return path.read_bytes()
    except OSError as error:
        raise CannotStart(f"TLS file {path} cannot be read: {error.strerror}") from error
