"""The coordinator's settings: read once, in `__main__`, from flags and from the environment (`ROOST_COORDINATOR_*`).

The variable `ROOST_COORDINATOR` itself is not one of them: it tells clients where coordinators are.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from roost.placement.dispatcher import AGING_S
from roost.placement.plans.registry import DEFAULT_PLANS, plan_names, plans_named
from roost.placement.records import DEFAULT_CAPACITY
from roost.placement.registry import DEFAULT_POLICY, policy_factory, policy_names
from roost.service.scheduler.recorder import DEFAULT_BYTES, LEAST_BYTES
from roost.service.settings import ServiceSettings


class CoordinatorSettings(ServiceSettings):
    """Frozen. The common fields (host, TLS, logging) are `ServiceSettings`'."""

    model_config = SettingsConfigDict(env_prefix="ROOST_COORDINATOR_")

    port: int = Field(default=9000, ge=0, le=65535, description="gRPC port; 0 for any free one")
    metrics_port: int = Field(default=9100, ge=0, le=65535, description="port of /metrics; 0 for any free one")
    policy: str = Field(
        default=DEFAULT_POLICY, min_length=1, max_length=64, description=f"how a worker is chosen: {', '.join(policy_names())}"
    )
    plans: str = Field(
        default=",".join(DEFAULT_PLANS),
        max_length=256,
        description=f"which loads are begun without being asked for, with commas, empty for none: {', '.join(plan_names())}",
    )
    models: Path | None = Field(
        default=None,
        description="file (models.toml) of the models that are known before any worker connects, instead of the one that ships",
    )
    dead_after_s: float = Field(
        default=10.0,
        ge=0.05,
        le=3600,
        json_schema_extra={"flag": "--dead-after"},
        description="seconds of silence after which a worker is listed dead; by default, ten missed reports",
    )
    max_workers: int = Field(default=20_000, ge=1, le=1_000_000, description="workers that are known at once; further ones are refused")
    remember: int = Field(
        default=DEFAULT_CAPACITY,
        ge=0,
        le=100_000,
        description="decisions kept for roost explain, the last ones; each keeps what was known of up to eight workers; 0 for none",
    )
    aging_s: float = Field(
        default=AGING_S,
        gt=0,
        le=3600,
        json_schema_extra={"flag": "--aging"},
        description="seconds of waiting that raise a waiting request's priority by one, here as on the workers; at 9 the order is that of "
        "arrival",
    )
    record: Path | None = Field(
        default=None, description="file to record decisions to, with all that they were made of, for roost replay; empty for none"
    )
    record_bytes: int = Field(
        default=DEFAULT_BYTES,
        ge=LEAST_BYTES,
        le=1_000_000_000_000,
        description="size at which that file becomes FILE.1, in place of the one before, and a new one begins; the disk needs twice that",
    )
    command_timeout_s: float = Field(
        default=300.0,
        gt=0,
        le=86_400,
        json_schema_extra={"flag": "--command-timeout"},
        description="seconds a worker has to load, unload or drain where the caller sets no deadline; large models load for minutes",
    )

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
