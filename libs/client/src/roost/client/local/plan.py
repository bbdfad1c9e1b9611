"""Which processes a local cluster has, with which ports and arguments. Pure: nothing is started here."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import PurePath

from roost.cluster.errors import InvalidField
from roost.service.addresses import join

MAX_WORKERS = 64  # more processes than this are a mistake on one machine
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "[::]": "::1"}  # noqa: S104 - what to dial where a service listens everywhere
COORDINATOR = "coordinator"
WORKER_MODULE = "roost.worker"
SIDECAR_METRICS_OFFSET = 100  # beyond the workers' metrics ports
MAX_SEEDS = 3  # a few members that all others ask first; after that anybody knows everybody


class Mode(enum.StrEnum):
    """Who decides."""

    CENTRAL = "central"
    GOSSIP = "gossip"


@dataclass(frozen=True, slots=True)
class ClusterOptions:
    """What `roost up` was asked for. Worker i (from 1) listens on base_worker_port + i and measures on metrics_port + i; in gossip mode
    there is no coordinator, and beside worker i a sidecar gossips on base_gossip_port + i and serves on base_sidecar_port + i.

    `metrics_port` None: any free ports. Texts are handed to the services as they are; empty: the service's default. `advertised_host`
    is where clients, wherever they are, reach the workers; empty: `host`. `record_dir`: where each decider records its decisions, as
    coordinator.jsonl or sidecar-1.jsonl, ...; empty: nowhere. `aging_s`: for the deciders' waiting requests and the workers' alike.
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
    advertised_host: str = ""
    is_verbose: bool = False
    mode: Mode = Mode.CENTRAL
    base_gossip_port: int = 7945
    base_sidecar_port: int = 7845
    record_dir: str = ""
    aging_s: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.workers <= MAX_WORKERS:
            raise InvalidField("workers", f"must be 1-{MAX_WORKERS} (got {self.workers})")
        for name, port, highest in (
            ("coordinator-port", self.coordinator_port, self.coordinator_port),
            ("base-worker-port", self.base_worker_port + 1, self.base_worker_port + self.workers),
            ("base-metrics-port", self.metrics_port or 1, (self.metrics_port or 1) + self._highest_metrics_offset),
            ("base-gossip-port", self.base_gossip_port + 1, self.base_gossip_port + self.workers),
            ("base-sidecar-port", self.base_sidecar_port + 1, self.base_sidecar_port + self.workers),
        ):
            if port < 1 or highest > 65535:
                raise InvalidField(name, f"needs the ports {port}-{highest}, and ports are 1-65535")

    @property
    def _highest_metrics_offset(self) -> int:
        return self.workers + (SIDECAR_METRICS_OFFSET if self.mode is Mode.GOSSIP else 0)

    @property
    def dialled_host(self) -> str:
        """The host by which this machine reaches the services."""
        return WILDCARDS.get(self.host, self.host)

    @property
    def calling_port(self) -> int:
        """Where the cluster is called: the coordinator's port, or the first sidecar's."""
        return self.coordinator_port if self.mode is Mode.CENTRAL else self.base_sidecar_port + 1

    @property
    def coordinator_address(self) -> str:
        """HOST:PORT on this machine: of the coordinator, or of the first sidecar."""
        return join(self.dialled_host, self.calling_port)

    @property
    def targets(self) -> tuple[str, ...]:
        """Every address on this machine at which the cluster can be called."""
        if self.mode is Mode.CENTRAL:
            return (self.coordinator_address,)
        return tuple(self.sidecar_address(number) for number in range(1, self.workers + 1))

    def sidecar_address(self, number: int) -> str:
        return join(self.dialled_host, self.base_sidecar_port + number)

    @property
    def seeds(self) -> str:
        """Sidecars that the others ask first."""
        return ",".join(join(self.dialled_host, self.base_gossip_port + number) for number in range(1, min(self.workers, MAX_SEEDS) + 1))


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
        return self.module == WORKER_MODULE


def plan_cluster(options: ClusterOptions) -> tuple[ProcessPlan, ...]:
    """The coordinator or sidecar-1, sidecar-2, ..., then worker-1, worker-2, ... Raises InvalidField if two of their ports are the same."""
    numbers = range(1, options.workers + 1)
    deciders = (_coordinator(options),) if options.mode is Mode.CENTRAL else tuple(_sidecar(options, number) for number in numbers)
    plans = (*deciders, *(_worker(options, number) for number in numbers))
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


def _flags(**values: str | float | None) -> list[str]:
    """--name value for each that says something."""
    return [text for name, value in values.items() if value not in {"", None} for text in (f"--{name.replace('_', '-')}", str(value))]


def _metrics(options: ClusterOptions, number: int) -> tuple[list[str], tuple[PlannedPort, ...]]:
    if options.metrics_port is None:
        return ["--metrics-port", "0"], ()
    port = options.metrics_port + number
    return _flags(metrics_host=options.host, metrics_port=port), (PlannedPort(port, "--base-metrics-port"),)


def _recording(options: ClusterOptions, decider: str) -> list[str]:
    return _flags(record=str(PurePath(options.record_dir, f"{decider}.jsonl"))) if options.record_dir else []


def _coordinator(options: ClusterOptions) -> ProcessPlan:
    metrics, metrics_ports = _metrics(options, 0)
    arguments = [
        *_flags(host=options.host, port=options.coordinator_port, policy=options.policy, models=options.models, aging=options.aging_s),
        *_recording(options, COORDINATOR),
        *metrics,
        *(["--verbose"] if options.is_verbose else []),
    ]
    ports = (PlannedPort(options.coordinator_port, "--coordinator-port"), *metrics_ports)
    return ProcessPlan(COORDINATOR, "roost.coordinator", tuple(arguments), ports)


def _worker(options: ClusterOptions, number: int) -> ProcessPlan:
    metrics, metrics_ports = _metrics(options, number)
    name, port = f"worker-{number}", options.base_worker_port + number
    arguments = [
        *_flags(node_id=name, host=options.host, port=port, advertise=options.advertised_host),
        *_told_where(options, number),
        *_flags(memory=options.memory, slots=options.slots, models=options.models, aging=options.aging_s),
        *metrics,
        *(["--verbose"] if options.is_verbose else []),
    ]
    return ProcessPlan(name, WORKER_MODULE, tuple(arguments), (PlannedPort(port, "--base-worker-port"), *metrics_ports))


def _told_where(options: ClusterOptions, number: int) -> list[str]:
    """Whom a worker reports to."""
    if options.mode is Mode.CENTRAL:
        return _flags(coordinator_host=options.dialled_host, coordinator_port=options.coordinator_port)
    return ["--coordinator-host", "", "--sidecar", options.sidecar_address(number)]


def _sidecar(options: ClusterOptions, number: int) -> ProcessPlan:
    metrics, metrics_ports = _metrics(options, SIDECAR_METRICS_OFFSET + number)
    name, port, grpc_port = f"sidecar-{number}", options.base_gossip_port + number, options.base_sidecar_port + number
    arguments = [
        *_flags(node_id=f"worker-{number}", host=options.host, port=port, grpc_port=grpc_port),
        *_flags(advertise=options.dialled_host, seeds=options.seeds, policy=options.policy, models=options.models),
        *_flags(aging=options.aging_s),
        *_recording(options, name),
        *metrics,
        *(["--verbose"] if options.is_verbose else []),
    ]
    ports = (PlannedPort(port, "--base-gossip-port"), PlannedPort(grpc_port, "--base-sidecar-port"), *metrics_ports)
    return ProcessPlan(name, "roost.gossip", tuple(arguments), ports)
