"""Which processes a local cluster has, with which ports and arguments. Pure: nothing is started here."""

from __future__ import annotations

from dataclasses import dataclass

from roost.cluster.errors import InvalidField

MAX_WORKERS = 64  # more processes than this are a mistake on one machine
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}  # noqa: S104 - what to dial where a service listens everywhere
COORDINATOR = "coordinator"


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What `roost up` was asked for. Worker i (from 1) listens on base_worker_port + i and measures on metrics_port + i.

    `metrics_port` None: any free ports. Texts are handed to the services as they are; empty: the service's default.
    """

    workers: int
    host: str
    coordinator_port: int
    base_worker_port: int
    metrics_port: int | None
    models: str = ""
    policy: str = ""
    memory: str = ""
    slots: int | None = None
    is_verbose: bool = False

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MAX_WORKERS:
            raise InvalidField("workers", f"must be 1-{MAX_WORKERS} (got {self.workers})")
        for name, port, highest in (
            ("coordinator-port", self.coordinator_port, self.coordinator_port),
            ("base-worker-port", self.base_worker_port + 1, self.base_worker_port + self.workers),
            ("base-metrics-port", self.metrics_port or 1, (self.metrics_port or 1) + self.workers),
        ):
            if port < 1 or highest > 65535:
                raise InvalidField(name, f"needs the ports {port}-{highest}, and ports are 1-65535")

    @property
    def dialled_host(self) -> str:
        """The host by which this machine reaches the services."""
        return WILDCARDS.get(self.host, self.host)

    @property
    def coordinator_address(self) -> str:
        host = f"[{self.dialled_host}]" if ":" in self.dialled_host else self.dialled_host
        return f"{host}:{self.coordinator_port}"


@dataclass(frozen=True, slots=True)
class PlannedPort:
    """A port a process will listen on, and the option of `roost up` that moves it."""

    port: int
    option: str


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One process: its name, the module it runs and its arguments."""

    name: str
    module: str
    arguments: tuple[str, ...]
    ports: tuple[PlannedPort, ...]

    @property
    def is_worker(self) -> bool:
        return self.name != COORDINATOR


def plan_cluster(options: ClusterOptions) -> tuple[ProcessPlan, ...]:
    """The coordinator, then worker-1, worker-2, ... Raises InvalidField if two of their ports are the same."""
    plans = (_coordinator(options), *(_worker(options, number) for number in range(1, options.workers + 1)))
    owners: dict[int, str] = {}
    for plan in plans:
        for planned in plan.ports:
            if planned.port in owners:
                raise InvalidField(
                    planned.option.removeprefix("--"),
                    f"gives {plan.name} the port {planned.port}, which {owners[planned.port]} has already",
                )
            owners[planned.port] = plan.name
    return plans


def _flags(**values: str | int | None) -> list[str]:
    """--name value for each that says something."""
    return [text for name, value in values.items() if value not in {"", None} for text in (f"--{name.replace('_', '-')}", str(value))]


def _metrics(options: ClusterOptions, number: int) -> tuple[list[str], tuple[PlannedPort, ...]]:
    if options.metrics_port is None:
        return ["--metrics-port", "0"], ()
    port = options.metrics_port + number
    return _flags(metrics_host=options.host, metrics_port=port), (PlannedPort(port, "--base-metrics-port"),)


def _coordinator(options: ClusterOptions) -> ProcessPlan:
    metrics, metrics_ports = _metrics(options, 0)
    arguments = [
        *_flags(host=options.host, port=options.coordinator_port, policy=options.policy, models=options.models),
        *metrics,
        *(["--verbose"] if options.is_verbose else []),
    ]
    ports = (PlannedPort(options.coordinator_port, "--coordinator-port"), *metrics_ports)
    return ProcessPlan(COORDINATOR, "roost.coordinator", tuple(arguments), ports)


def _worker(options: ClusterOptions, number: int) -> ProcessPlan:
    metrics, metrics_ports = _metrics(options, number)
    name, port = f"worker-{number}", options.base_worker_port + number
    arguments = [
        *_flags(node_id=name, host=options.host, port=port),
        *_flags(coordinator_host=options.dialled_host, coordinator_port=options.coordinator_port),
        *_flags(memory=options.memory, slots=options.slots, models=options.models),
        *metrics,
        *(["--verbose"] if options.is_verbose else []),
    ]
    return ProcessPlan(name, "roost.worker", tuple(arguments), (PlannedPort(port, "--base-worker-port"), *metrics_ports))
