"""The life of a local cluster as `roost up` tells it: start, first request, watching, stop, summary."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from roost.client.cli.asking import stream_text
from roost.client.cli.exits import ExitCode
from roost.client.cli.json_views import generation_json, state_json
from roost.client.cli.running import Json, print_json, say
from roost.client.cli.screens import Screen, screen_for
from roost.client.cli.tables import console_for, summary_table, totals_line
from roost.client.client import RoostClient
from roost.client.local.cluster import StartFailed, start, state_or_none, wait_registered
from roost.client.local.plan import SIDECAR_METRICS_OFFSET, WILDCARDS, ClusterOptions, Mode, ProcessPlan
from roost.client.local.processes import Child, Processes, local_processes
from roost.client.results import ClusterState, Generation
from roost.client.targets import DEFAULT_TARGET
from roost.service.addresses import join
from roost.service.files import FOLDER, PRIVATE_FOLDER, make_folder

WATCH_S = 1.0  # between looks at a running cluster
ANSWER_S = 1.0  # a local decider that takes longer to answer is shown as not answering
LAST_ANSWER_S = 0.5  # Ctrl-C waits for this one; without it the summary shows the last state that was seen, a second old


@dataclass(frozen=True, slots=True)
class UpOptions:
    """What `roost up` does beside the cluster itself. `duration_s` 0.0: until Ctrl-C. `model` empty: no first request."""

    duration_s: float
    start_timeout_s: float
    log_dir: Path | None
    model: str
    prompt: str
    max_tokens: int
    as_json: bool


@dataclass(slots=True)
class Story:
    """What has happened so far, for the summary."""

    started_at: float = 0.0
    ended_at: float = 0.0
    state: ClusterState | None = None
    first: Generation | None = None
    ended_early: list[str] = field(default_factory=list)


class Interruption:
    """Ctrl-C, SIGTERM and SIGHUP. The first ends the watching and begins the stop; from the second on everything is killed.

    State: how many came, and whether the watching (which the first one cancels) is still going on.
    """

    def __init__(self, watching: asyncio.Task[None], processes: Processes) -> None:
        self._watching = watching
        self._processes = processes
        self.count = 0

    def __call__(self) -> None:
        self.count += 1
        if self.count == 1:
            self._watching.cancel()
        else:
            self._processes.kill()


def example_model(state: ClusterState) -> str:
    """A model to try: one that really generates, if the cluster knows any."""
    names = [snapshot.model.name for snapshot in sorted(state.models, key=lambda snapshot: snapshot.model.is_simulated)]
    return names[0] if names else "MODEL"


@contextmanager
def handled_by(interruption: Interruption) -> Iterator[None]:
    """Signals go to `interruption` inside the block."""
    loop = asyncio.get_running_loop()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        loop.add_signal_handler(number, interruption)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


def make_log_dir(wanted: Path | None) -> Path:
    """The folder for logs, made if it is not there. Raises StartFailed."""
    if wanted is not None:
        return made_folder(wanted, "log-dir")
    try:
        place = Path(tempfile.gettempdir())
    except OSError as error:  # TMPDIR, /tmp and the working folder alike
        raise StartFailed(
            f"log-dir: no folder for temporary files can be written ({error.strerror or error}); name one by --log-dir"
        ) from error
    return made_folder(place / f"roost-up-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}", "log-dir", PRIVATE_FOLDER)


def made_folder(folder: Path, option: str, mode: int = FOLDER) -> Path:
    """Makes it if it is not there. Raises StartFailed, which names the option."""
    try:
        make_folder(folder, mode)
    except OSError as error:
        raise StartFailed(f"{option}: the folder {folder} cannot be made: {error.strerror}") from error
    return folder.resolve()


class ClusterLife:
    """Owns the story; everything else is passed in."""

    def __init__(self, cluster: ClusterOptions, plans: tuple[ProcessPlan, ...], options: UpOptions) -> None:
        self._cluster = cluster
        self._plans = plans
        self._options = options
        self._story = Story()
        self._console = console_for(sys.stderr if options.as_json else sys.stdout)

    async def run(self) -> ExitCode:
        """From the first process to the summary. Raises StartFailed and what the first request fails with, all stopped."""
        log_dir = make_log_dir(self._options.log_dir)
        if self._cluster.record_dir:
            made_folder(Path(self._cluster.record_dir), "record")
        interruption: Interruption | None = None
        try:
            async with local_processes(log_dir) as processes:
                watching = asyncio.ensure_future(self._until_the_end(processes))
                interruption = Interruption(watching, processes)
                with handled_by(interruption):
                    await asyncio.wait([watching])
                    if not watching.cancelled():
                        watching.result()
                    if interruption.count < 2:
                        self._line("Stopping …")
                        await processes.stop()
        except StartFailed as failure:
            if failure.log_tail:
                say(failure.log_tail)
            raise
        self._summary(log_dir)
        if interruption is not None and interruption.count > 1:
            return ExitCode.INTERRUPTED
        return ExitCode.FAILED if self._is_deserted else ExitCode.OK

    @property
    def _deciders(self) -> str:
        workers = self._cluster.workers
        return "a coordinator" if self._cluster.mode is Mode.CENTRAL else f"{workers} sidecar{'s' * (workers != 1)}"

    def _where_metrics_are(self, first_port: int) -> str:
        host, workers = self._cluster.dialled_host, self._cluster.workers
        if self._cluster.mode is Mode.CENTRAL:
            return f"http://{host}:{first_port}/metrics (coordinator) to port {first_port + workers}"
        sidecar_port = first_port + SIDECAR_METRICS_OFFSET + 1
        return f"http://{host}:{first_port + 1}/metrics (worker-1) and up, http://{host}:{sidecar_port}/metrics (its sidecar) and up"

    @property
    def _is_deserted(self) -> bool:
        return len(self._story.ended_early) == len(self._plans)

    async def _until_the_end(self, processes: Processes) -> None:
        async with RoostClient(self._cluster.targets, timeout_s=ANSWER_S) as client:
            try:
                await self._start(processes, client)
                if self._options.model:
                    await self._first_request(client)
                with screen_for(self._console) as screen:
                    await self._watch(processes, client, screen)
            finally:
                if self._story.started_at:
                    await self._note_the_end(client)

    async def _note_the_end(self, client: RoostClient) -> None:
        self._story.ended_at = time.monotonic()
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_ANSWER_S):
                self._story.state = await state_or_none(client) or self._story.state

    async def _start(self, processes: Processes, client: RoostClient) -> None:
        workers = self._cluster.workers
        self._line(f"Starting {self._deciders} and {workers} worker{'s' * (workers != 1)}; logs in {processes.log_dir}")
        await start(processes, self._plans, self._cluster.host)
        with self._console.status(f"0 of {workers} workers have registered") as status:
            state = self._story.state = await wait_registered(
                processes,
                client,
                bound_s=self._options.start_timeout_s,
                on_progress=lambda live: status.update(f"{live} of {workers} workers have registered"),
            )
        self._story.started_at = time.monotonic()
        self._line(f"Ready: {workers} of {workers} workers have registered. The cluster is called at {self._cluster.coordinator_address}")
        if self._cluster.host in WILDCARDS:
            port = self._cluster.calling_port
            self._line(f"Other machines call it at {join(self._cluster.advertised_host, port)}; nobody is asked who they are")
        if self._cluster.metrics_port is not None:
            self._line(f"Metrics: {self._where_metrics_are(self._cluster.metrics_port)}")
        if not self._options.model:
            self._line(f"Try: {self.command_line('generate', example_model(state), 'Once upon a time')}")

    async def _first_request(self, client: RoostClient) -> None:
        self._line(f"First request, to {self._options.model}: {self._options.prompt!r}")
        self._story.first = await stream_text(
            client,
            self._options.model,
            self._options.prompt,
            {"max_tokens": self._options.max_tokens},
            is_shown=not self._options.as_json,
            is_explained=True,
        )
        self._line(f"Call it again: {self.command_line('generate', self._options.model, self._options.prompt)}")

    async def _watch(self, processes: Processes, client: RoostClient, screen: Screen) -> None:
        """Until the duration is over or nothing is left running."""
        ends_at = self._story.started_at + (self._options.duration_s or float("inf"))
        while (now := time.monotonic()) < ends_at:
            for child in processes.sweep():
                self._note_end(child, screen)
            if self._is_deserted:
                screen.line("Nothing is left running.")
                return
            state = await state_or_none(client)
            self._story.state = state or self._story.state
            screen.show(state, now)
            await asyncio.sleep(min(WATCH_S, max(0.0, ends_at - time.monotonic())))

    def _note_end(self, child: Child, screen: Screen) -> None:
        text = f"{child.plan.name} {child.ending()}; it is not started again; the log is {child.log}"
        self._story.ended_early.append(text)
        screen.line(text)

    def command_line(self, *words: str) -> str:
        """The command as this shell would call it again."""
        called = Path(sys.argv[0])
        own = "roost"
        if called.name == "roost" and called.is_absolute() and called.is_relative_to(Path.cwd()):
            own = str(called.relative_to(Path.cwd()))
        elif called.name == "roost" and not called.is_absolute():
            own = str(called)
        address = self._cluster.coordinator_address
        place = [] if address == DEFAULT_TARGET else ["--coordinator", address]
        return shlex.join([own, *words, *place])

    def _line(self, text: str) -> None:
        self._console.print(text, markup=False, soft_wrap=True)

    def _summary(self, log_dir: Path) -> None:
        story = self._story
        if self._options.as_json:
            print_json(self._summary_json(log_dir))
            return
        self._line("Stopped.")
        if story.started_at:
            self._line(f"Ran for {story.ended_at - story.started_at:.1f} s")
        if story.state is not None:
            self._line(totals_line(story.state))
            self._console.print(summary_table(story.state.workers))
        for text in story.ended_early:
            self._line(text)
        self._line(f"Logs: {log_dir}")

    def _summary_json(self, log_dir: Path) -> dict[str, Json]:
        story = self._story
        return {
            "coordinator": self._cluster.coordinator_address,
            "targets": list(self._cluster.targets),
            "log_dir": str(log_dir),
            "ran_s": story.ended_at - story.started_at,
            "ended_early": list(story.ended_early),
            "first_request": generation_json(story.first) if story.first is not None else None,
            "state": state_json(story.state) if story.state is not None else None,
        }
