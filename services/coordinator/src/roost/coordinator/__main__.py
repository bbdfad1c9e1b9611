"""`python -m roost.coordinator`: one coordinator, until SIGINT or SIGTERM. SIGHUP has it read its catalogue again."""

from __future__ import annotations

import sys

from roost.coordinator.app import coordinator
from roost.coordinator.settings import CoordinatorSettings
from roost.service.logs import configure, get_logger
from roost.service.process import Signals, freeze_after_start, reloading, run
from roost.service.settings import command_line, read_settings

DESCRIPTION = """Routes inference requests to the worker that already holds the model. Workers connect to it and report what they hold;
clients ask it where a request should run. Every flag can also be set in the environment; flags win."""


def main() -> int:
    settings = read_settings(
        CoordinatorSettings, command_line(CoordinatorSettings, sys.argv[1:], "python -m roost.coordinator", DESCRIPTION)
    )
    configure("coordinator", verbose=settings.verbose, log_format=settings.log_format, log_file=settings.log_file)

    async def serve(signals: Signals) -> None:
        log = get_logger()
        async with coordinator(settings) as running, reloading(signals.hangup, running.reload):
            freeze_after_start()
            log.info(
                "coordinator_started", host=settings.host, port=running.port, metrics_port=running.metrics_port, policy=settings.policy
            )
            await signals.stop.wait()
            log.info("coordinator_stopping")
        log.info("coordinator_stopped")

    return run(serve)


if __name__ == "__main__":
    sys.exit(main())
