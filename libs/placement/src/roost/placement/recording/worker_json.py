"""Workers' reports, catalogues and requests as JSON values, and back. What is at its default, or as it was, is left out.

Sequences stand for records where there are many of a kind; their order is that of the fields.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from typing import Final, TypeVar, cast

from roost.cluster.worker_state import (
    NOTHING_FAILS,
    CacheCounters,
    CacheResult,
    CatalogueModel,
    DecisionOutcome,
    Failing,
    GpuSource,
    ModelStatus,
    ModelTiming,
    Phase,
    WorkerState,
)
from roost.placement.request import PlacementRequest

Json = None | bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"]
Fields = dict[str, Json]

_REPEATED: Final = (
    "queue_depth",
    "gpu_utilization",
    "timestamp",
    "epoch",
    "sequence",
    "address",
    "memory_capacity_bytes",
    "memory_used_bytes",
    "slots",
    "busy_slots",
    "queue_by_priority",
    "is_draining",
)
_BLANK: Final = WorkerState("blank")
V = TypeVar("V")


def state_to_json(state: WorkerState, before: WorkerState | None) -> Fields:
    """All but the catalogue. `before` is the worker's report that the reader has read last, None if it has read none."""
    known = before or _BLANK
    fields: Fields = {"node_id": state.node_id}
    for name in _REPEATED:
        value = getattr(state, name)
        if value != getattr(known, name):
            fields[name] = value
    if not _is_same(state.models, known.models):
        fields["models"] = [
            (name, each.phase.value, each.size_bytes, each.in_flight, each.queued, each.ready_in_s, each.is_pinned, each.max_parallel)
            for name, each in state.models.items()
        ]
    if not _is_same(state.timings, known.timings):
        fields["timings"] = [(name, each.service_time_s, each.load_time_s) for name, each in state.timings.items()]
    if state.gpu_source is not known.gpu_source:
        fields["gpu_source"] = state.gpu_source.value
    if state.cache != known.cache:
        fields["cache"] = None if state.cache is None else counters_to_json(state.cache)
    if state.failing != known.failing:
        fields["failing"] = [(name, *astuple(each)) for name, each in state.failing.items()]
    if state.outcomes:
        fields["outcomes"] = outcomes_to_json(state.outcomes)
    return fields


def state_from_json(fields: Fields, before: WorkerState | None, catalogue: tuple[CatalogueModel, ...] | None) -> WorkerState:
    known = before or _BLANK
    plain = {name: fields.get(name, getattr(known, name)) for name in _REPEATED}
    plain["queue_by_priority"] = tuple(cast("Sequence[int]", plain["queue_by_priority"]))
    cache = fields.get("cache")
    return WorkerState(
        node_id=cast("str", fields["node_id"]),
        models=_models(fields["models"]) if "models" in fields else known.models,
        timings=_timings(fields["timings"]) if "timings" in fields else known.timings,
        gpu_source=GpuSource(fields["gpu_source"]) if "gpu_source" in fields else known.gpu_source,
        catalogue=catalogue,
        outcomes=outcomes_from_json(fields.get("outcomes", ())),
        failing=_failing(fields["failing"]) if "failing" in fields else known.failing,
        cache=known.cache if "cache" not in fields else None if cache is None else counters_from_json(cache),
        **plain,
    )


def _models(rows: Json) -> Mapping[str, ModelStatus]:
    return {row[0]: ModelStatus(row[0], Phase(row[1]), *row[2:]) for row in cast("Sequence[tuple[str, str, int, int, int, float]]", rows)}


def _failing(rows: Json) -> Mapping[str, Failing]:
    told = {name: Failing(loads, calls, why) for name, loads, calls, why in cast("Sequence[tuple[str, int, int, str]]", rows)}
    return told or NOTHING_FAILS


def _timings(rows: Json) -> Mapping[str, ModelTiming]:
    return {name: ModelTiming(service_s, load_s) for name, service_s, load_s in cast("Sequence[tuple[str, float, float]]", rows)}


def _is_same(one: Mapping[str, V], other: Mapping[str, V]) -> bool:
    """Their order counts, because sums are added up in it."""
    return one is other or (one == other and list(one) == list(other))


def outcomes_to_json(outcomes: Sequence[DecisionOutcome]) -> Json:
    return [(each.decision_id, each.cache_result.value) for each in outcomes]


def outcomes_from_json(rows: Json) -> tuple[DecisionOutcome, ...]:
    return tuple(DecisionOutcome(name, CacheResult(result)) for name, result in cast("Sequence[tuple[str, str]]", rows))


def counters_to_json(counters: CacheCounters) -> Json:
    return astuple(counters)


def counters_from_json(row: Json) -> CacheCounters:
    return CacheCounters(*cast("Sequence[int]", row))


def catalogue_to_json(catalogue: Sequence[CatalogueModel]) -> Json:
    return [(each.name, each.engine, each.size_bytes, each.is_simulated, each.context_tokens, each.load_time_s) for each in catalogue]


def catalogue_from_json(rows: Json) -> tuple[CatalogueModel, ...]:
    return tuple(CatalogueModel(*row) for row in cast("Sequence[tuple[str, str, int]]", rows))


def request_to_json(request: PlacementRequest) -> Fields:
    fields: Fields = {"id": request.request_id, "model": request.model}
    for name in ("priority", "prompt_tokens", "max_tokens", "deadline_s", "may_queue"):
        if value := getattr(request, name):
            fields[name] = value
    if request.excluded:
        fields["excluded"] = sorted(request.excluded)
    return fields


def request_from_json(value: Json) -> PlacementRequest:
    fields = dict(cast("Fields", value))
    excluded = frozenset(cast("Sequence[str]", fields.pop("excluded", ())))
    return PlacementRequest(fields.pop("id"), excluded=excluded, **fields)  # type: ignore[arg-type]  # it checks what it is given
