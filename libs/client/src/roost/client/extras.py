"""Which extra of the distribution brings what a part of Roost imports, so that a part that is not installed is told and not a traceback."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

# A package that only the part's own extra brings stands for all of that extra.
_SERVICE: Final = ("grpc_health", "grpc_reflection", "grpc_status", "prometheus_client", "pydantic_settings")
_NEEDS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = MappingProxyType(
    {
        "roost.client.cli": ("cli", ("grpc_health", "rich", "typer")),
        "roost.coordinator": ("coordinator", _SERVICE),
        "roost.gossip": ("gossip", (*_SERVICE, "cryptography")),
        "roost.worker": ("worker", (*_SERVICE, "httpx", "httpx_sse", "pynvml")),
        "roost.sim": ("sim", ("matplotlib", "scipy")),
        "roost.sim.experiments": ("sim", ("matplotlib", "scipy")),
    }
)


def missing_extra(package: str) -> str | None:
    """The extra to install for `package` to run here; None where it can. Nothing is imported."""
    extra, needs = _NEEDS[package]
    return extra if any(importlib.util.find_spec(name) is None for name in needs) else None


def advice(extras: set[str]) -> str:
    """One line for stderr. It names no command: the source to install from is the one that Roost came from here."""
    return f"roost: not installed here; install it with the extras [{','.join(sorted(extras))}] from where it came from."
