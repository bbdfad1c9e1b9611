"""The sidecar's settings: read once, in `__main__`, from flags and from the environment (`ROOST_GOSSIP_*`)."""

from __future__ import annotations

import re
import socket
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from roost.cluster.names import MAX_WORKER_NAME, check_worker_name
from roost.gossip.protocol.config import LAN, SERVING, Address, SwimParameters
from roost.gossip.sockets import split
from roost.placement.dispatcher import AGING_S
from roost.placement.plans.registry import DEFAULT_PLANS, plan_names, plans_named
from roost.placement.records import DEFAULT_CAPACITY
from roost.placement.registry import DEFAULT_POLICY, policy_factory, policy_names
from roost.service.addresses import is_every_address
from roost.service.scheduler.recorder import DEFAULT_BYTES, LEAST_BYTES
from roost.service.settings import ServiceSettings
from roost.service.tls import TlsFiles

GOSSIP_PORT = 7946
MAX_SEEDS = 64


class GossipSettings(ServiceSettings):
    """Frozen. The common fields (host, TLS, logging) are `ServiceSettings`'."""

    model_config = SettingsConfigDict(env_prefix="ROOST_GOSSIP_")

    node_id: str = Field(
        "", max_length=MAX_WORKER_NAME, description="this member's name, which must be its worker's node_id too; empty for the host's name"
    )
    port: int = Field(GOSSIP_PORT, ge=0, le=65535, description="UDP and TCP port of the gossip; 0 for any free one")
    grpc_port: int = Field(7846, ge=0, le=65535, description="gRPC port for clients and the worker; 0 for any free one")
    metrics_port: int = Field(9201, ge=0, le=65535, description="port of /metrics; 0 for any free one")
    advertise: str = Field(
        "",
        max_length=261,
        description="HOST or HOST:PORT by which other sidecars reach this one; empty for its own host, or where that is every interface "
        "for the address that reaches a seed",
    )
    grpc_advertise: str = Field(
        "", max_length=261, description="HOST or HOST:PORT by which clients reach its gRPC port; empty for the host of --advertise"
    )
    seeds: str = Field(
        "",
        max_length=16_384,
        description="HOST:PORT of some other sidecars, with commas between; names are looked up at each attempt; empty to begin a cluster",
    )
    cluster: str = Field("roost", min_length=1, max_length=64, description="name of the cluster; packets of another one are dropped")
    key_file: Path | None = Field(None, description="file with the cluster's keys, one a line; empty for a cluster that is not encrypted")
    profile: Literal["lan", "serving"] = Field(
        "lan", description="how fast failures are looked for: a probe every second, or every half a second"
    )
    policy: str = Field(DEFAULT_POLICY, min_length=1, max_length=64, description=f"how a worker is chosen: {', '.join(policy_names())}")
    plans: str = Field(
        default=",".join(DEFAULT_PLANS),
        max_length=256,
        description=f"which loads are begun without being asked for, with commas, empty for none: {', '.join(plan_names())}",
    )
    models: Path | None = Field(
        None, description="file (models.toml) of the models that are known before any worker told of its own, instead of the one that ships"
    )
    dead_after_s: float = Field(
        4.0,
        ge=0.05,
        le=3600,
        json_schema_extra={"flag": "--dead-after"},
        description="seconds after which a worker that left its sidecar, or fell silent, is listed dead; it gets no new work before that",
    )
    command_timeout_s: float = Field(
        300.0,
        gt=0,
        le=86_400,
        json_schema_extra={"flag": "--command-timeout"},
        description="seconds a worker has to load, unload or drain where the caller sets no deadline; large models load for minutes",
    )
    peer_tls_authority: Path | None = Field(
        None,
        description="PEM file of the authority that signed the other sidecars' certificates, where this one speaks TLS: commands for their "
        "workers are sent to them; empty for the file of --tls-authority, or without one for the system's authorities",
    )

    remember: int = Field(
        DEFAULT_CAPACITY,
        ge=0,
        le=100_000,
        description="decisions kept for roost explain, the last ones; each keeps what was known of up to eight workers; 0 for none",
    )

    aging_s: float = Field(
        AGING_S,
        gt=0,
        le=3600,
        json_schema_extra={"flag": "--aging"},
        description="seconds of waiting that raise a waiting request's priority by one, here as on the workers; at 9 the order is that of "
        "arrival",
    )

    record: Path | None = Field(
        None, description="file to record decisions to, with all that they were made of, for roost replay; empty for none"
    )
    record_bytes: int = Field(
        DEFAULT_BYTES,
        ge=LEAST_BYTES,
        le=1_000_000_000_000,
        description="size at which that file becomes FILE.1, in place of the one before, and a new one begins; the disk needs twice that",
    )

    @field_validator("node_id")
    @classmethod
    def _check_node_id(cls, node_id: str) -> str:
        return check_worker_name(node_id) if node_id else node_id

    @field_validator("seeds")
    @classmethod
    def _check_seeds(cls, seeds: str) -> str:
        if len(parse_seeds(seeds)) > MAX_SEEDS:
            raise ValueError(f"names more than {MAX_SEEDS} sidecars; a few are enough")
        return seeds

    @field_validator("advertise", "grpc_advertise")
    @classmethod
    def _check_advertise(cls, advertise: str) -> str:
        if advertise and is_every_address(split(advertise, GOSSIP_PORT)[0]):
            raise ValueError("is what is listened on, which nobody can dial; give an address by which others reach it")
        return advertise

    @field_validator("plans")
    @classmethod
    def _check_plans(cls, plans: str) -> str:
        plans_named(plans)  # raises InvalidField, with the names there are
        return plans

    @field_validator("policy")
    @classmethod
    def _check_policy(cls, policy: str) -> str:
        policy_factory(policy)  # raises InvalidField, with the names there are
        return policy

    @property
    def name(self) -> str:
        """This member's name."""
        return self.node_id or re.sub(r"[^A-Za-z0-9._-]", "-", socket.gethostname())[:MAX_WORKER_NAME] or "sidecar"

    @property
    def peer_tls(self) -> TlsFiles | None:
        """How the other sidecars are spoken to: as they speak to us."""
        if self.tls is None:
            return None
        return replace(self.tls, authority=self.peer_tls_authority or self.tls_authority)

    @property
    def seed_addresses(self) -> tuple[Address, ...]:
        return parse_seeds(self.seeds)

    @property
    def swim(self) -> SwimParameters:
        return SERVING if self.profile == "serving" else LAN


def parse_seeds(text: str) -> tuple[Address, ...]:
    """HOST:PORT with commas or spaces between; the port may be left out where it is 7946. Raises ValueError."""
    return tuple(split(seed, GOSSIP_PORT) for seed in text.replace(",", " ").split())
