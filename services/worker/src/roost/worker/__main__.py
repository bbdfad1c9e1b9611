"""`python -m roost.worker`: one worker, until SIGINT or SIGTERM. `python -m roost.worker prepare [MODEL...]`: makes model files ready."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from roost.cluster.errors import RoostError
from roost.service.catalogue_file import read_catalogue
from roost.service.logs import configure, get_logger
from roost.service.process import Signals, freeze_after_start, reloading, run
from roost.service.settings import command_line, read_settings
from roost.service.startup import CannotStart, refuse_to_start
from roost.worker.app import MODELS_VARIABLE, worker
from roost.worker.model_store import prepare_models
from roost.worker.settings import WorkerSettings

PROGRAM = "python -m roost.worker"
DESCRIPTION = """Holds models and runs requests on them, and tells a coordinator or its gossip sidecar, or both, what it holds.
`prepare [MODEL...]` in place of flags makes model files ready beforehand. Every flag can also be set in the environment; flags win."""


def main(argv: Sequence[str]) -> int:
    """Returns the exit code."""
    return prepare(argv[1:]) if argv[:1] == ["prepare"] else serve(argv)


def serve(argv: Sequence[str]) -> int:
    """Runs a worker until it is asked to stop."""
    settings = read_settings(WorkerSettings, command_line(WorkerSettings, argv, PROGRAM, DESCRIPTION))
    configure("worker", verbose=settings.verbose, log_format=settings.log_format, log_file=settings.log_file)

    async def live(signals: Signals) -> None:
        log = get_logger()
        async with worker(settings) as running, reloading(signals.hangup, running.reload):
            freeze_after_start()
            log.info(
                "worker_started",
                node_id=running.node_id,
                address=running.address,
                metrics_port=running.metrics_port,
                coordinator=settings.coordinator,
                sidecar=settings.sidecar,
                memory_bytes=settings.memory_budget_bytes,
                slots=settings.slots,
            )
            await signals.stop.wait()
        log.info("worker_stopped", node_id=running.node_id)

    return run(live)


def prepare(argv: Sequence[str]) -> int:
    """Makes the files of the named models ready, of all where none is named, and says so step by step. 0: all are; 1: one cannot be."""
    parser = argparse.ArgumentParser(prog=f"{PROGRAM} prepare", description="Makes model files ready, so that no request waits for it.")
    parser.add_argument("names", metavar="MODEL", nargs="*", help="catalogue name; without one, every model that has a file")
    parser.add_argument("--models", default=argparse.SUPPRESS, metavar="FILE", help="model catalogue, instead of the one that ships")
    parser.add_argument("--models-dir", default=argparse.SUPPRESS, metavar="DIR", help="folder of model files")
    given = vars(parser.parse_args(argv))
    names = given.pop("names")
    settings = read_settings(WorkerSettings, given)
    try:
        prepare_models(read_catalogue(settings.models, MODELS_VARIABLE), names, settings.models_dir.expanduser(), _say)
    except CannotStart as error:
        refuse_to_start([str(error)])
    except RoostError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _say(sentence: str) -> None:
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
