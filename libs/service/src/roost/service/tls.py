"""The PEM files of one side of a connection: read and checked when it opens, by a server again when they were replaced."""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import grpc

from roost.service.logs import get_logger
from roost.service.startup import CannotStart

log = get_logger()

# What a failed handshake's words mean for whoever must act. The first that is found holds.
_TLS_FAILURES: Final = (
    ("WRONG_VERSION_NUMBER", "it speaks plain text there and TLS here: turn TLS on there (tls_certificate, tls_key) or off here"),
    ("certificate has expired", "its certificate has expired; replace it, it is read again without a restart"),
    ("certificate is not yet valid", "its certificate is not valid yet; compare the clocks of both machines"),
    ("is not in peer certificate", "its certificate is for other names than the one that it is called by here"),
    ("Hostname Verification", "its certificate is for other names than the one that it is called by here"),
    ("CERTIFICATE_VERIFY_FAILED", "its certificate is not from the authority that is trusted here (tls_authority)"),
    ("CERTIFICATE_REQUIRED", "it wants a certificate from here (tls_certificate, tls_key)"),
    ("UNKNOWN_CA", "it does not trust the authority that the certificate here is from"),
    ("handshake failed", "the TLS handshake failed"),
)
_CLOSED: Final = ("Socket closed", "Connection reset", "EOF")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """`certificate` and `key` name this side (a server has both); `authority` is what the other side's certificate is checked against.

    A client without `authority` trusts the system's authorities; a server without it does not ask clients for a certificate.
    """

    certificate: Path | None = None
    key: Path | None = None
    authority: Path | None = None


def server_credentials(tls: TlsFiles) -> grpc.ServerCredentials:
    """Raises CannotStart if a file cannot be read or holds something else. Files that are replaced count from the next connection on."""
    current = _CurrentFiles(tls)
    fetch = cast("Callable[[], grpc.ServerCertificateConfiguration]", current.changed)  # None is "as before", which its types do not say
    return grpc.dynamic_ssl_server_credentials(current.first, fetch, require_client_authentication=tls.authority is not None)


class _CurrentFiles:
    """State: the files as they were last looked at. New ones that make no sense, or not yet, change nothing, and are told once."""

    def __init__(self, tls: TlsFiles) -> None:
        """Raises CannotStart."""
        self._tls = tls
        self._lock = threading.Lock()  # gRPC asks from threads of its own
        self._seen = self._versions()
        self.first = _configuration(tls)

    def changed(self) -> grpc.ServerCertificateConfiguration | None:
        """What is new for the handshake that begins; None if nothing is."""
        with self._lock:
            versions = self._versions()
            if versions == self._seen:
                return None
            self._seen = versions
            try:
                found = _configuration(self._tls)
            except CannotStart as error:
                log.error("certificate_not_reloaded", why=str(error))  # noqa: TRY400 - a mistake of whoever wrote the files, not ours
                return None
            log.info("certificate_reloaded", certificate=str(self._tls.certificate))
            return found

    def _versions(self) -> tuple[tuple[int, int, int] | None, ...]:
        return tuple(_version(path) for path in (self._tls.certificate, self._tls.key, self._tls.authority))


def _version(path: Path | None) -> tuple[int, int, int] | None:
    with contextlib.suppress(OSError):
        if path is not None:
            found = path.stat()
            return found.st_ino, found.st_size, found.st_mtime_ns
    return None


def _configuration(tls: TlsFiles) -> grpc.ServerCertificateConfiguration:
    key, certificate, authority = _checked(tls)
    if key is None or certificate is None:
        raise CannotStart("TLS needs both a certificate and a key: set tls_certificate and tls_key")
    return grpc.ssl_server_certificate_configuration([(key, certificate)], authority)


def explained(why: str, *, has_tls: bool) -> str:
    """`why` a connection failed, in gRPC's words, with what it means before it where TLS may be the reason."""
    meaning = next((meaning for words, meaning in _TLS_FAILURES if words in why), "")
    if not meaning and any(words in why for words in _CLOSED):
        wanted = "it may want a certificate from here, or one of another authority" if has_tls else "it may speak TLS, which is off here"
        meaning = f"it closed the connection at once: {wanted}"
    return f"{meaning} ({why})" if meaning else why


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
