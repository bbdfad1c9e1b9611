"""The worker's settings: read once, in `__main__`, from flags and from the environment (`ROOST_WORKER_*`)."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from roost.cluster.errors import InvalidField
from roost.cluster.names import MAX_WORKER_NAME, check_worker_name
from roost.cluster.sizes import MAX_SIZE_BYTES, parse_size
from roost.service.addresses import join, reachable_host
from roost.service.codec import check_address
from roost.service.machine import model_memory_bytes
from roost.service.settings import ServiceSettings
from roost.service.tls import TlsFiles


class WorkerSettings(ServiceSettings):
    """Frozen. The common fields (host, TLS, logging) are `ServiceSettings`'."""

    model_config = SettingsConfigDict(env_prefix="ROOST_WORKER_")

    node_id: str = Field("", max_length=MAX_WORKER_NAME, description="the worker's name, unique in the cluster; empty for HOSTNAME-PROCESS")
    port: int = Field(8001, ge=0, le=65535, description="gRPC port; 0 for any free one")
    metrics_port: int = Field(9101, ge=0, le=65535, description="port of /metrics; 0 for any free one")
    advertise: str = Field(
        "",
        max_length=261,
        description="HOST:PORT or HOST by which clients reach this worker; empty for its own host and port, or where that is every "
        "interface for the address that reaches its coordinator or sidecar",
    )
    coordinator_host: str = Field("127.0.0.1", max_length=253, description="where the coordinator is; empty for a cluster without one")
    coordinator_port: int = Field(9000, ge=1, le=65535, description="gRPC port of the coordinator")
    coordinator_tls_authority: Path | None = Field(
        None, description="PEM file of the authority that signed the coordinator's certificate; turns TLS to it on"
    )
    sidecar: str = Field("", max_length=261, description="HOST:PORT of the gRPC port of this worker's gossip sidecar; empty for none")
    sidecar_tls_authority: Path | None = Field(
        None, description="PEM file of the authority that signed the sidecar's certificate; turns TLS to it on"
    )
    memory: int = Field(
        0,
        ge=0,
        le=MAX_SIZE_BYTES,
        description='bytes for models, as a number or like "300MB" or "2GiB"; 0 for 60% of what this machine or container has',
    )
    eviction: Literal["lru", "cost-aware"] = Field(
        "lru",
        description="which idle model leaves memory first: the least recently used, or the one whose absence is expected to cost least",
    )
    slots: int = Field(4, ge=1, le=4096, description="requests that run at once")
    queue_capacity: int = Field(
        256, ge=1, le=100_000, description="requests that wait at most; more would wait longer than it takes to ask another worker"
    )
    request_memory: int = Field(
        256_000_000,
        ge=1_000_000,
        le=MAX_SIZE_BYTES,
        description='bytes that requests may take while they wait or run, as a number or like "256MB"; each takes three times its length',
    )
    aging_s: float = Field(
        10.0,
        gt=0,
        le=3600,
        json_schema_extra={"flag": "--aging"},
        description="seconds of waiting that count as one priority",
    )
    models: Path | None = Field(None, description="model catalogue (models.toml), instead of the one that ships")
    models_dir: Path = Field(
        Path("~/.cache/roost/models"), validation_alias="roost_models_dir", description="folder of model files; made where it is missing"
    )
    threads: int = Field(1, ge=1, le=256, description="threads of each llama.cpp model; more only help where cores are idle")
    time_scale: float = Field(1.0, gt=0, le=1000, description="factor on the times of simulated models; 0.01 is a hundred times faster")
    report_interval_s: float = Field(
        1.0, ge=0.05, le=60, json_schema_extra={"flag": "--report-interval"}, description="seconds between reports when nothing changes"
    )
    load_timeout_s: float = Field(
        600.0, gt=0, le=86_400, json_schema_extra={"flag": "--load-timeout"}, description="seconds after which a load has failed"
    )
    engine_silence_s: float = Field(
        3.0,
        ge=1,
        le=3600,
        json_schema_extra={"flag": "--engine-silence"},
        description="seconds after which a llama.cpp process that owes an answer, says nothing and uses no processor time is killed",
    )
    reader_timeout_s: float = Field(
        60.0,
        ge=1,
        le=86_400,
        json_schema_extra={"flag": "--reader-timeout"},
        description="seconds that a caller may take nothing of its stream before its slot is freed; half of it while others wait for one",
    )
    drain_timeout_s: float = Field(
        30.0,
        ge=0,
        le=3600,
        json_schema_extra={"flag": "--drain-timeout"},
        description="seconds that accepted requests have to end when stopping",
    )

    @field_validator("memory", "request_memory", mode="before")
    @classmethod
    def _parse_memory(cls, written: object, info: ValidationInfo) -> object:
        return parse_size(written, info.field_name or "") if isinstance(written, str) else written

    @field_validator("node_id")
    @classmethod
    def _check_node_id(cls, node_id: str) -> str:
        return check_worker_name(node_id) if node_id else node_id

    @property
    def name(self) -> str:
        """The worker's name, made up from the host and the process where none was given."""
        if self.node_id:
            return self.node_id
        suffix = f"-{os.getpid()}"
        host = re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname()) or "worker"
        return host[: MAX_WORKER_NAME - len(suffix)] + suffix

    @property
    def memory_budget_bytes(self) -> int:
        return self.memory or model_memory_bytes()

    @field_validator("advertise")
    @classmethod
    def _check_advertise(cls, advertise: str) -> str:
        try:
            check_address(_advertised(advertise, 1) if advertise else "")  # else deciders would refuse each report
        except InvalidField as error:
            raise ValueError(f"must be HOST:PORT or HOST, as clients reach it, with a port of 1-65535: {error.problem}") from error
        return advertise

    @field_validator("sidecar")
    @classmethod
    def _check_sidecar(cls, sidecar: str) -> str:
        if sidecar and not re.fullmatch(r"(\[[^\]]+\]|[^:\[\]\s/]+):\d{1,5}", sidecar):
            raise ValueError("must be HOST:PORT, or [ADDRESS]:PORT for IPv6")
        return sidecar

    @property
    def coordinator(self) -> str:
        """HOST:PORT, empty where there is none."""
        return self.coordinator_host and join(self.coordinator_host, self.coordinator_port)

    @property
    def coordinator_tls(self) -> TlsFiles | None:
        """None where the coordinator is spoken to in plain text."""
        return self._tls_to(self.coordinator_tls_authority)

    @property
    def sidecar_tls(self) -> TlsFiles | None:
        """None where the sidecar is spoken to in plain text."""
        return self._tls_to(self.sidecar_tls_authority)

    def _tls_to(self, authority: Path | None) -> TlsFiles | None:
        if authority is None:
            return None
        return TlsFiles(certificate=self.tls_certificate, key=self.tls_key, authority=authority)

    def address(self, port: int) -> str:
        """HOST:PORT as clients must dial it, with the port that was really taken. Blocking where it must be found out."""
        if self.advertise:
            return _advertised(self.advertise, port)
        towards = [*([(self.coordinator_host, self.coordinator_port)] if self.coordinator_host else []), *self._sidecar_address()]
        return join(reachable_host(self.host, towards=towards, by_name=self.tls is not None), port)

    def _sidecar_address(self) -> list[tuple[str, int]]:
        host, _, port = self.sidecar.rpartition(":")
        return [(host.strip("[]"), int(port))] if host else []


def _advertised(advertise: str, port: int) -> str:
    """HOST:PORT as given, or HOST with `port`."""
    if re.fullmatch(r".+:\d+", advertise) and (advertise.count(":") == 1 or "]:" in advertise):
        return advertise
    return join(advertise.strip("[]"), port)
