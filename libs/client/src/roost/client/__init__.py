"""The client of a Roost cluster: `RoostClient`, what it returns and how it fails."""

from roost.client.client import RoostClient
from roost.client.errors import CallTimedOut, ClusterUnreachable, Failure, GenerationInterrupted, NoWorkerTookIt
from roost.client.results import (
    Accepted,
    ClusterState,
    Completed,
    Decision,
    Event,
    FinishReason,
    Generation,
    ModelSnapshot,
    Plane,
    Scheduled,
    Timings,
    Token,
    Usage,
    WorkerOutcome,
    WorkerSnapshot,
)
from roost.flow.effects import Pause

__all__ = [
    "Accepted",
    "CallTimedOut",
    "ClusterState",
    "ClusterUnreachable",
    "Completed",
    "Decision",
    "Event",
    "Failure",
    "FinishReason",
    "Generation",
    "GenerationInterrupted",
    "ModelSnapshot",
    "NoWorkerTookIt",
    "Pause",
    "Plane",
    "RoostClient",
    "Scheduled",
    "Timings",
    "Token",
    "Usage",
    "WorkerOutcome",
    "WorkerSnapshot",
]
