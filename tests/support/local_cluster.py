"""A cluster of real processes on loopback, for tests that kill things.

Waiting is done on the coordinator's own WatchClusterState stream, never by sleeping, and every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc

from roost.client.local.ports import free_ports
from roost.v1 import scheduler_pb2, scheduler_pb2_grpc, worker_pb2, worker_pb2_grpc

START_DEADLINE_S = 30.0  # a Python process with grpc starts in under 2 s; a busy machine may take many times that
State = scheduler_pb2.GetClusterStateResponse


def free_port() -> int:
    """A port that nobody listens on now."""
    return free_ports(1)


def await_port(port: int, process: subprocess.Popen[bytes], deadline_s: float = START_DEADLINE_S) -> None:
    """Returns when the gRPC server behind `port` is serving; fails if its process ends first."""
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.max_reconnect_backoff_ms", 200)]) as channel:
        ready = grpc.channel_ready_future(channel)
        for _ in range(int(deadline_s / 0.2)):
            try:
                ready.result(timeout=0.2)
            except grpc.FutureTimeoutError:
                assert process.poll() is None, f"the process ended with {process.returncode} before it listened on {port}"
            else:
                return
    raise AssertionError(f"nothing listened on {port} within {deadline_s} s")


@dataclass
class LocalCluster:
    """A coordinator and workers, each a process of its own with its log under `folder`."""

    folder: Path
    models_file: Path | None = None
    policy: str = "weighted-score"
    coordinator_args: tuple[str, ...] = ()
    worker_args: tuple[str, ...] = ()
    port: int = field(default_factory=free_port)
    coordinator: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    worker_ports: dict[str, int] = field(default_factory=dict)
    metrics_ports: dict[str, int] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start_coordinator(self) -> None:
        options = {"--policy": self.policy}
        self.coordinator = self._spawn("coordinator", "roost.coordinator", self.port, options, self.coordinator_args)
        await_port(self.port, self.coordinator)

    def start_worker(self, node_id: str, *extra: str) -> None:
        port = self.worker_ports.setdefault(node_id, free_port())
        options = {"--node-id": node_id, "--coordinator-host": "127.0.0.1", "--coordinator-port": str(self.port)}
        self.workers[node_id] = self._spawn(node_id, "roost.worker", port, options, (*self.worker_args, *extra))
        await_port(port, self.workers[node_id])

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def state(self) -> State:
        with self.scheduler() as stub:
            return stub.GetClusterState(scheduler_pb2.GetClusterStateRequest(), timeout=5)

    def await_state(self, holds: Callable[[State], bool], deadline_s: float = 20.0) -> State:
        """The first state for which `holds`, as the coordinator streams them."""
        last = None
        with self.scheduler() as stub:
            try:
                for answer in stub.WatchClusterState(scheduler_pb2.WatchClusterStateRequest(interval_s=0.05), timeout=deadline_s):
                    last = answer.state
                    if holds(last):
                        return last
            except grpc.RpcError as error:
                raise AssertionError(f"the state did not come to hold within {deadline_s} s ({error}); last was:\n{last}") from error
        raise AssertionError(f"the watch ended; last was:\n{last}")

    def await_live(self, count: int, deadline_s: float = 20.0) -> State:
        return self.await_state(lambda state: live(state) == count, deadline_s)

    @contextlib.contextmanager
    def scheduler(self) -> Iterator[scheduler_pb2_grpc.SchedulerStub]:
        with grpc.insecure_channel(self.address) as channel:
            yield scheduler_pb2_grpc.SchedulerStub(channel)

    @contextlib.contextmanager
    def worker(self, node_id: str) -> Iterator[worker_pb2_grpc.WorkerStub]:
        with grpc.insecure_channel(f"127.0.0.1:{self.worker_ports[node_id]}") as channel:
            yield worker_pb2_grpc.WorkerStub(channel)

    def generate(
        self, model: str, prompt: str = "Once upon a time", max_tokens: int = 4
    ) -> tuple[scheduler_pb2.ScheduleResponse, worker_pb2.Completion]:
        """Schedules and generates as any gRPC client would."""
        with self.scheduler() as stub:
            decision = stub.Schedule(scheduler_pb2.ScheduleRequest(model_required=model), timeout=5)
        with grpc.insecure_channel(decision.worker_address) as channel:
            request = worker_pb2.GenerateRequest(model=model, prompt=prompt, max_tokens=max_tokens, decision_id=decision.decision_id)
            *_, last = worker_pb2_grpc.WorkerStub(channel).Generate(request, timeout=60)
        return decision, last.completion

    def kill(self, name: str) -> None:
        """kill -9, as power loss would."""
        process = self.coordinator if name == "coordinator" else self.workers[name]
        assert process is not None
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)

    def stop(self) -> None:
        processes = [*self.workers.values(), *([self.coordinator] if self.coordinator else [])]
        for process in processes:
            if process.poll() is None:
                process.terminate()
        for process in processes:
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(timeout=10)

    def _spawn(self, name: str, module: str, port: int, options: Mapping[str, str], extra: Sequence[str]) -> subprocess.Popen[bytes]:
        metrics_port = self.metrics_ports.setdefault(name, free_port())
        options = {"--host": "127.0.0.1", "--port": str(port), "--metrics-port": str(metrics_port), **options}
        if self.models_file is not None:
            options["--models"] = str(self.models_file)
        flags = [word for option in options.items() for word in option]
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", module, *flags, *extra], stdout=log, stderr=log, env=clean_environment())


def clean_environment() -> dict[str, str]:
    """This process's environment without any setting of Roost's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ROOST_")}


def live(state: State) -> int:
    return sum(worker.liveness == scheduler_pb2.LIVENESS_LIVE for worker in state.workers)


def liveness(state: State, node_id: str) -> str:
    """`LIVE`, `SUSPECT`, `DEAD`, or `absent`."""
    for worker in state.workers:
        if worker.report.node_id == node_id:
            return scheduler_pb2.Liveness.Name(worker.liveness).removeprefix("LIVENESS_")
    return "absent"
