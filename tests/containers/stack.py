"""The compose file's stack under a project name, ports, volumes and image tag of its own, for tests that run beside anything else."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

WORKSPACE = Path(__file__).parents[2]
ROOST = str(Path(sys.executable).with_name("roost"))
WORKERS = ("worker-1", "worker-2", "worker-3")
SIDECARS = ("sidecar-1", "sidecar-2", "sidecar-3")
BUILT_IMAGES = ("roost-coordinator", "roost-worker", "roost-prepare-models", "roost-client", "roost-gossip")
BUILD_DEADLINE_S = 600.0
START_DEADLINE_S = 300.0  # the model is unpacked and quantised three times
COMMAND_DEADLINE_S = 120.0
POLL_S = 0.5

T = TypeVar("T")


def run(
    *command: str, deadline_s: float = COMMAND_DEADLINE_S, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Runs a command in the workspace; its output is text and its exit code is the caller's to judge."""
    return subprocess.run(
        command, cwd=WORKSPACE, env=environment, capture_output=True, text=True, timeout=deadline_s, check=False, stdin=subprocess.DEVNULL
    )


def succeed(*command: str, deadline_s: float = COMMAND_DEADLINE_S, environment: Mapping[str, str] | None = None) -> str:
    """Stdout of a command that must exit 0."""
    done = run(*command, deadline_s=deadline_s, environment=environment)
    assert done.returncode == 0, f"{' '.join(command)} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def eventually(look: Callable[[], T | None], *, deadline_s: float, what: str) -> T:
    """What `look` returns once that is not None. Polls, because what it looks at is outside this process and tells nobody."""
    ends = time.monotonic() + deadline_s
    while time.monotonic() < ends:
        found = look()
        if found is not None:
            return found
        time.sleep(POLL_S)
    raise AssertionError(f"not within {deadline_s:.0f} s: {what}")


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now; all are held until the last is found, so they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]
    finally:
        for probe in sockets:
            probe.close()


@dataclass(frozen=True, slots=True)
class Sample:
    """One element of an instant vector."""

    labels: Mapping[str, str]
    value: float


@dataclass(frozen=True)
class Plan:
    """A compose file, and of it the variables that move published ports, those that clients call, and what is started.

    Grafana's image cannot be had everywhere, so it is not.
    """

    file: str
    ports: tuple[str, ...]
    called: tuple[str, ...]
    services: tuple[str, ...]


_COMMON_PORTS = ("ROOST_WORKER_1_PORT", "ROOST_WORKER_2_PORT", "ROOST_WORKER_3_PORT", "ROOST_PROMETHEUS_PORT")
_SIDECAR_PORTS = ("ROOST_SIDECAR_1_PORT", "ROOST_SIDECAR_2_PORT", "ROOST_SIDECAR_3_PORT")
CENTRAL = Plan("docker-compose.yml", ("ROOST_PORT", *_COMMON_PORTS), ("ROOST_PORT",), ("coordinator", *WORKERS, "prometheus"))
GOSSIP = Plan(
    "docker-compose.gossip.yml",
    (*_SIDECAR_PORTS, *_COMMON_PORTS),
    _SIDECAR_PORTS,
    (*SIDECARS, *WORKERS, "pod-1", "pod-2", "pod-3", "prometheus"),
)


@dataclass(frozen=True)
class Stack:
    """A compose project. `up` builds and starts it, `remove` leaves nothing behind but the engine's build cache."""

    plan: Plan = CENTRAL
    project: str = field(default_factory=lambda: f"roost-test-{secrets.token_hex(3)}")
    ports: list[int] = field(default_factory=lambda: free_ports(7))

    @property
    def targets(self) -> list[str]:
        """Where the cluster is called."""
        return [f"127.0.0.1:{self.port(name)}" for name in self.plan.called]

    def port(self, name: str) -> int:
        """The published port that the variable `name` moves."""
        return self.ports[self.plan.ports.index(name)]

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ROOST_", "COMPOSE_"))}
        ports = {name: str(self.port(name)) for name in self.plan.ports}
        compose = {"COMPOSE_FILE": self.plan.file, "COMPOSE_PROJECT_NAME": self.project, "COMPOSE_ANSI": "never"}
        return {**inherited, **ports, **compose, "ROOST_TAG": self.project}

    def compose(self, *arguments: str, deadline_s: float = COMMAND_DEADLINE_S, settings: Mapping[str, str] | None = None) -> str:
        """Stdout of `docker compose ...`, which must succeed; `settings` are further variables of the compose file."""
        return succeed("docker", "compose", *arguments, deadline_s=deadline_s, environment={**self.environment, **(settings or {})})

    def up(self) -> None:
        self.compose("--profile", "load", "build", "--quiet", deadline_s=BUILD_DEADLINE_S)
        self.compose("up", "--detach", "--wait", "--no-build", *self.plan.services, deadline_s=START_DEADLINE_S)

    def remove(self) -> None:
        self.compose("--profile", "load", "down", "--volumes", "--remove-orphans", "--timeout", "5")
        run("docker", "image", "rm", *(self.image(name) for name in BUILT_IMAGES))

    def logs(self) -> str:
        """The end of every log, and what the health checks said."""
        logs = run("docker", "compose", "logs", "--no-color", "--tail", "60", environment=self.environment).stdout
        containers = run("docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={self.project}").stdout.split()
        healths = "{{.Name}} {{if .State.Health}}{{json .State.Health}}{{end}}"
        return logs + run("docker", "inspect", "--format", healths, *containers).stdout

    def image(self, name: str) -> str:
        return f"{name}:{self.project}"

    def container(self, service: str) -> str:
        return f"{self.project}-{service}-1"

    def inspect(self, service: str, template: str) -> str:
        return succeed("docker", "inspect", "--format", template, self.container(service)).strip()

    @property
    def client_environment(self) -> dict[str, str]:
        return {**self.environment, "ROOST_COORDINATOR": " ".join(self.targets)}

    def roost(self, *arguments: str, deadline_s: float = COMMAND_DEADLINE_S) -> subprocess.CompletedProcess[str]:
        """The `roost` command on the host, against the published ports."""
        return run(ROOST, *arguments, deadline_s=deadline_s, environment=self.client_environment)

    def streaming(self, *arguments: str) -> subprocess.Popen[str]:
        """The same, with its output to be read while it comes."""
        return subprocess.Popen(
            [ROOST, *arguments], cwd=WORKSPACE, env=self.client_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def state(self, through: str = "") -> dict[str, object]:
        """What `roost state` says, of the target `through` or of whichever answers first."""
        done = self.roost("state", "--json", *(("--coordinator", through) if through else ()))
        assert done.returncode == 0, done.stderr
        state: dict[str, object] = json.loads(done.stdout)
        return state

    def query(self, expression: str) -> list[Sample]:
        """The instant vector (or scalar) that Prometheus answers with."""
        result = self.prometheus("query", query=expression)
        assert isinstance(result, dict)
        if result["resultType"] == "scalar":
            return [Sample({}, float(result["result"][1]))]
        return [Sample(element["metric"], float(element["value"][1])) for element in result["result"]]

    def value(self, expression: str) -> float | None:
        """The one number an expression gives, None where it gives none."""
        samples = self.query(expression)
        assert len(samples) <= 1, f"{expression} gives {len(samples)} series"
        return samples[0].value if samples else None

    def prometheus(self, endpoint: str, **parameters: str) -> object:
        """`data` of a Prometheus API answer."""
        url = f"http://127.0.0.1:{self.port('ROOST_PROMETHEUS_PORT')}/api/v1/{endpoint}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.loads(answer.read())["data"]
