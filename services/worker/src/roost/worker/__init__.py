"""The worker: holds models, runs requests on them. `WorkerNode` is the way to have one inside any Python program."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roost.worker.node import Action, NodeCannotStart, ScheduleResult, WorkerNode

__all__ = ["Action", "NodeCannotStart", "ScheduleResult", "WorkerNode"]


def __getattr__(name: str) -> object:
    """Looked up when first used: importing one module of the worker must not import gRPC and every engine."""
    if name in __all__:
        from roost.worker import node  # noqa: PLC0415 - the point of this function

        return getattr(node, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
