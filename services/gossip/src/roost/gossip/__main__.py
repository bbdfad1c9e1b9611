"""`python -m roost.gossip`: one sidecar, until SIGINT, SIGTERM or `Gossip.Leave`. SIGHUP has it read its catalogue again."""

from __future__ import annotations

import asyncio
import sys

from roost.gossip.app import sidecar
from roost.gossip.settings import GossipSettings
from roost.service.logs import configure, get_logger
from roost.service.process import Signals, freeze_after_start, reloading, run
from roost.service.settings import command_line, read_settings

DESCRIPTION = """Spreads what its worker holds to the other sidecars, learns of theirs, and answers where a request should run from what it
knows: a cluster without a coordinator. Clients and operators call it as they call a coordinator. Every flag can also be set in the
environment; flags win."""


def main() -> int:
    settings = read_settings(GossipSettings, command_line(GossipSettings, sys.argv[1:], "python -m roost.gossip", DESCRIPTION))
    configure("gossip", verbose=settings.verbose, log_format=settings.log_format, log_file=settings.log_file)

    async def serve(signals: Signals) -> None:
        log = get_logger()
        async with sidecar(settings) as running, reloading(signals.hangup, running.reload):
            freeze_after_start()
            log.info(
                "sidecar_started",
                node_id=running.node_id,
                port=running.port,
                grpc_port=running.grpc_port,
                metrics_port=running.metrics_port,
                cluster=settings.cluster,
                encrypted=settings.key_file is not None,
            )
            await _first_of(signals.stop, running.left)
            log.info("sidecar_stopping")
        log.info("sidecar_stopped")

    return run(serve)


async def _first_of(*events: asyncio.Event) -> None:
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in waits:
        wait.cancel()


if __name__ == "__main__":
    sys.exit(main())
