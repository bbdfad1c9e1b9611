"""Asks a gRPC server for its health and says so by exit code: what a container's health check runs.

`python -m roost.service.healthcheck HOST:PORT [--service NAME] [--tls-authority FILE]` exits 0 where the server (or the named service)
is serving, 1 where it is not or does not answer, 2 where the arguments make no sense.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2

from roost.service.tls import TlsFiles, channel_credentials

DEADLINE_S = 2.0  # a healthy server answers in milliseconds; half of a common 4 s container timeout
SERVING = health_pb2.HealthCheckResponse.ServingStatus.Value("SERVING")


@dataclass(frozen=True, slots=True)
class Health:
    """What the server said: `status` is a name of grpc.health.v1.ServingStatus or the gRPC code of the failed call."""

    is_serving: bool
    status: str


def check_health(target: str, *, service: str = "", tls: TlsFiles | None = None, deadline_s: float = DEADLINE_S) -> Health:
    """Health of `target` ("HOST:PORT"); the empty service name means the whole server. Raises CannotStart for a missing PEM file."""
    with _channel(target, tls) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=deadline_s)
        except grpc.RpcError as error:
            return Health(is_serving=False, status=error.code().name)
    return Health(is_serving=answer.status == SERVING, status=health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints one line, which the container engine keeps as the check's output. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m roost.service.healthcheck", description="Exit 0 where a gRPC server is serving.")
    parser.add_argument("target", metavar="HOST:PORT")
    parser.add_argument("--service", default="", help="fully qualified service name; without it, the server as a whole")
    parser.add_argument("--tls-authority", type=Path, help="PEM file of the authority that signed the server's certificate; turns TLS on")
    parser.add_argument("--tls-certificate", type=Path, help="PEM file with a client certificate, where the server asks for one")
    parser.add_argument("--tls-key", type=Path, help="PEM file with the client certificate's key")
    options = parser.parse_args(arguments)
    tls = TlsFiles(options.tls_certificate, options.tls_key, options.tls_authority) if options.tls_authority else None
    health = check_health(options.target, service=options.service, tls=tls)
    sys.stdout.write(f"{options.target} {health.status}\n")
    return 0 if health.is_serving else 1


def _channel(target: str, tls: TlsFiles | None) -> grpc.Channel:
    options = (("grpc.enable_http_proxy", 0),)  # what is checked is reached directly, whatever the environment's proxy settings are
    if tls is None:
        return grpc.insecure_channel(target, options=options)
    return grpc.secure_channel(target, channel_credentials(tls), options=options)


if __name__ == "__main__":
    sys.exit(main())
