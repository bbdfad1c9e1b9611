"""How every Roost process calls another: one place for keepalive, message size and retries."""

from __future__ import annotations

import json
from typing import Final

import grpc

from roost.service.tls import TlsFiles, channel_credentials

MAX_MESSAGE_BYTES: Final = 16 << 20  # a prompt may have 8 MiB; the report of a worker with 10,000 models has 1 MiB
KEEPALIVE_S: Final = 20.0  # a connection on which nothing came for so long is tried with a ping; servers allow one ping in 10 s
KEEPALIVE_TIMEOUT_S: Final = 5.0  # for the answer to that ping: a silent peer is noticed within the sum of both, 25 s
RETRIES: Final = 4  # after the first attempt; gRPC allows no more
RECONNECT_S: Final = (0.1, 2.0)  # first and longest pause between attempts to connect: a restarted peer is back in use at once
CONNECT_TIMEOUT_S: Final = 5.0  # an address that does not answer the handshake by then counts as down

_SERVICE_CONFIG: Final = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": RETRIES + 1,
                "initialBackoff": "0.05s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def keepalive_options(every_s: float, timeout_s: float) -> tuple[tuple[str, int], ...]:
    """What makes either end of a connection notice, within the sum of both times, that the other one has vanished without a word.

    In grpcio 1.85 `keepalive_timeout_ms` alone does not decide that: a ping without an answer ends the connection only after the
    ping's own timeout, which is a minute unless it is set too. That timeout holds for every ping, also for those by which gRPC
    measures bandwidth whenever data comes: a machine that pauses for a little longer would lose every stream it reads, within
    `timeout_s` and not within the sum. So there are none of these.
    """
    return (
        ("grpc.keepalive_time_ms", round(every_s * 1000)),
        ("grpc.keepalive_timeout_ms", round(timeout_s * 1000)),
        ("grpc.http2.ping_timeout_ms", round(timeout_s * 1000)),
        ("grpc.http2.bdp_probe", 0),  # nor do calls that nobody reads yet send megabytes ahead; what is read comes as fast
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),  # an idle stream is still to be watched
    )


_OPTIONS: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    *keepalive_options(KEEPALIVE_S, KEEPALIVE_TIMEOUT_S),
    ("grpc.initial_reconnect_backoff_ms", round(RECONNECT_S[0] * 1000)),
    ("grpc.max_reconnect_backoff_ms", round(RECONNECT_S[1] * 1000)),
    ("grpc.min_reconnect_backoff_ms", round(CONNECT_TIMEOUT_S * 1000)),  # gRPC's name for the timeout of one attempt
    ("grpc.use_local_subchannel_pool", 1),  # a new channel dials anew, whatever happened to an older one to the same address
    ("grpc.enable_http_proxy", 0),  # members of a cluster reach each other directly, whatever the shell's proxy settings are
)
_RETRY_OPTIONS: Final = (("grpc.service_config", json.dumps(_SERVICE_CONFIG)),)


def open_channel(target: str, *, tls: TlsFiles | None = None, has_retries: bool = True) -> grpc.aio.Channel:
    """A channel to `target` ("HOST:PORT"), which connects when it is first used. The caller closes it.

    Calls that fail with UNAVAILABLE before an answer began are tried again, at most RETRIES times, unless the server itself refused
    them (then it says so in `grpc-retry-pushback-ms`). `has_retries` False: the caller hears of it at once, because it would rather
    ask somebody else. Raises CannotStart if a TLS file cannot be read.
    """
    options = (*_OPTIONS, *_RETRY_OPTIONS) if has_retries else _OPTIONS
    if tls is None:
        return grpc.aio.insecure_channel(target, options=options)
    return grpc.aio.secure_channel(target, channel_credentials(tls), options=options)
