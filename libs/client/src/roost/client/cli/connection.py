"""Which cluster a verb calls, and how: the options that all such verbs share, added to each by one decorator."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass

from roost.client.cli.options import DEFAULT_TARGETS, Coordinators, TlsAuthority, TlsCertificate, TlsKey
from roost.client.client import RoostClient
from roost.client.gossip import DEFAULT_SIDECAR, GossipClient
from roost.cluster.errors import InvalidField
from roost.service.startup import CannotStart
from roost.service.tls import TlsFiles, channel_credentials


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the cluster is called, and with which TLS files; None: in plain text."""

    targets: list[str]
    tls: TlsFiles | None

    def client(self, *, timeout_s: float = 10.0, long_timeout_s: float = 600.0) -> RoostClient:
        """A client that nothing has been asked of. Raises InvalidField for an address or a TLS file that cannot be used."""
        if self.tls is not None:
            _check(self.tls)
        return RoostClient(self.targets, timeout_s=timeout_s, long_timeout_s=long_timeout_s, tls=self.tls)

    def sidecars(self, *, timeout_s: float = 10.0) -> GossipClient:
        """A client of the gossip plane; where no address was given, of the sidecar on this machine."""
        if self.tls is not None:
            _check(self.tls)
        return GossipClient(DEFAULT_SIDECAR if self.targets == DEFAULT_TARGETS else self.targets, timeout_s=timeout_s, tls=self.tls)


def connection_of(
    *,
    coordinator: Coordinators = DEFAULT_TARGETS,
    tls_authority: TlsAuthority = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
) -> Connection:
    """Its parameters are the options."""
    files = TlsFiles(certificate=tls_certificate, key=tls_key, authority=tls_authority)
    return Connection(coordinator, None if files == TlsFiles() else files)


def calls_cluster(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with the options of `connection_of` in the place of its parameter `connection`, as Typer reads them."""
    make: Callable[..., Connection] = connection_of
    own = inspect.signature(verb, eval_str=True)
    shared = inspect.signature(make, eval_str=True).parameters
    parameters = [*(parameter for parameter in own.parameters.values() if parameter.name != "connection"), *shared.values()]

    @functools.wraps(verb)
    def called(**options: object) -> None:
        connection = make(**{name: options.pop(name) for name in shared})
        verb(**options, connection=connection)

    called.__dict__["__signature__"] = own.replace(parameters=parameters)
    called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return called


def _check(tls: TlsFiles) -> None:
    if (tls.certificate is None) != (tls.key is None):
        raise InvalidField("tls", "a certificate and its key belong together; give --tls-certificate and --tls-key")
    try:
        channel_credentials(tls)
    except CannotStart as error:
        raise InvalidField("tls", str(error)) from error
