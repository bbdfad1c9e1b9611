"""The processes of a local cluster: each in a group of its own with a log file of its own, and none left behind."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from roost.client.local import guard
from roost.client.local.guard import signal_group
from roost.client.local.plan import ProcessPlan
from roost.service.files import PRIVATE, open_file

WORKERS_STOP_S = 2.0  # between SIGTERM and SIGKILL; with the next, and 0.5 s for a last look at the state, the whole stop stays under 4.5 s
DECIDERS_STOP_S = 1.4
KILL_S = 1.0  # a killed process is gone in milliseconds; the bound is for a machine that is stuck
TAIL_LINES = 15  # of a log that are worth showing
TAIL_BYTES = 8192


class Child:
    """One process. State: its exit status (None while it runs), and whether its group was ended after that: such a group's number
    may belong to others by now and is never signalled again.
    """

    def __init__(self, plan: ProcessPlan, process: asyncio.subprocess.Process, log: Path) -> None:
        self.plan = plan
        self.log = log
        self._process = process
        self._is_swept = False

    @property
    def group(self) -> int:
        """Its process group, which has the processes it started too. Equal to its own number."""
        return self._process.pid

    @property
    def exit_status(self) -> int | None:
        return self._process.returncode

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    async def wait(self) -> int:
        return await self._process.wait()

    def end(self) -> None:
        """Asks it to stop."""
        if self.is_running:
            self._process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends it and whatever it started, now."""
        if not self._is_swept:
            is_over = not self.is_running
            signal_group(self.group, signal.SIGKILL)
            self._is_swept = is_over

    def tail(self) -> str:
        """The last lines of its log."""
        with self.log.open("rb") as file:
            file.seek(max(0, self.log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return "\n".join(f"  | {line}" for line in lines[-TAIL_LINES:])

    def ending(self) -> str:
        """How it ended, in words."""
        status = self.exit_status
        if status is None:
            return "runs"
        return f"was killed by signal {-status}" if status < 0 else f"ended with exit status {status}"

    def __repr__(self) -> str:
        return f"<Child {self.plan.name} pid={self.group} {self.ending()}>"


class Processes:
    """State: the children of this cluster, in the order they were started. Each is known to the guard while its group may live."""

    def __init__(self, log_dir: Path, guard_process: asyncio.subprocess.Process) -> None:
        self.children: list[Child] = []
        self._ended: list[Child] = []
        self.log_dir = log_dir
        self._guard = guard_process

    async def start(self, plan: ProcessPlan) -> Child:
        """Starts one. Its output goes to LOG_DIR/NAME.log."""
        log = self.log_dir / f"{plan.name}.log"
        with os.fdopen(open_file(log, os.O_WRONLY | os.O_APPEND, PRIVATE), "ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                plan.module,
                *plan.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
                process_group=0,  # Ctrl-C reaches only us, and we end them in order
            )
        child = Child(plan, process, log)
        self.children.append(child)
        self._tell_guard(f"+{child.group}\n")
        return child

    def sweep(self) -> list[Child]:
        """Children that have ended since the last sweep; what they had started is ended too."""
        ended = [child for child in self.children if not child.is_running and child not in self._ended]
        for child in ended:
            child.kill()
            self._tell_guard(f"-{child.group}\n")
        self._ended += ended
        return ended

    async def stop(self) -> None:
        """Workers first, so that they can say goodbye; then the coordinator or the sidecars; then whoever is left, by force. Under 4 s."""
        workers = [child for child in self.children if child.plan.is_worker]
        await _end(workers, WORKERS_STOP_S)
        await _end([child for child in self.children if not child.plan.is_worker], DECIDERS_STOP_S)
        self.kill()
        await _exited(self.children, KILL_S)
        self.sweep()

    def kill(self) -> None:
        """Ends every process and whatever they started, now."""
        for child in self.children:
            child.kill()

    def _tell_guard(self, line: str) -> None:
        if self._guard.stdin is not None and self._guard.returncode is None:
            self._guard.stdin.write(line.encode())

    def __repr__(self) -> str:
        return f"<Processes {self.children!r}>"


async def _end(children: Sequence[Child], bound_s: float) -> None:
    for child in children:
        child.end()
    await _exited(children, bound_s)


async def _exited(children: Sequence[Child], bound_s: float) -> None:
    """Returns when all have exited, or the time is up."""
    waits = [asyncio.ensure_future(child.wait()) for child in children if child.is_running]
    if waits:
        _, pending = await asyncio.wait(waits, timeout=bound_s)
        for wait in pending:
            wait.cancel()


@asynccontextmanager
async def local_processes(log_dir: Path) -> AsyncIterator[Processes]:
    """Processes that have all ended when the block does, and soon after if this process dies in it."""
    guard_process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(Path(guard.__file__)), stdin=asyncio.subprocess.PIPE, start_new_session=True
    )
    processes = Processes(log_dir, guard_process)
    try:
        yield processes
    finally:
        try:
            await processes.stop()
        finally:
            processes.kill()
            if guard_process.stdin is not None:
                guard_process.stdin.close()
            async with asyncio.timeout(guard.TERM_BOUND_S + KILL_S):
                await guard_process.wait()


def unusable_port(host: str, plans: Sequence[ProcessPlan]) -> str:
    """Why the first planned port that cannot be had cannot, in one sentence; empty if all can be had."""
    for plan in plans:
        for planned in plan.ports:
            problem = _problem_with(host, planned.port)
            if problem:
                return f"{plan.name} cannot listen on {host}:{planned.port}: {problem}; choose another with {planned.option}"
    return ""


def _problem_with(host: str, port: int) -> str:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that only waits out its last connections is free
            probe.bind(address)
    except OSError as error:
        return "the port is taken" if error.errno == errno.EADDRINUSE else (error.strerror or str(error))
    return ""
