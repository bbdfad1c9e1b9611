"""What a worker's report and the reservations since say of its slots and its queue, without any estimate."""

from __future__ import annotations

import math

from roost.placement.candidate import Candidate


def ahead_and_free(candidate: Candidate, priority: int) -> tuple[int, int]:
    """Waiting and reserved requests that are served before a new one of this priority; slots that are idle and stay so until it comes.

    A reserved request of a lower priority gets there first, and takes one. Where requests wait while nothing runs and nothing loads, the
    worker is a simple reporter that counts no slots: none is idle.
    """
    state, reserved = candidate.state, candidate.reserved
    at_or_above = reserved.at_or_above(priority) if priority else reserved.count
    waiting = sum(state.queue_by_priority[priority:]) if state.queue_by_priority else state.queue_depth
    free = state.slots - state.busy_slots - (reserved.count - at_or_above)
    if free <= 0 or (state.queue_depth and not state.busy_slots and len(state.models) == len(candidate.ready)):
        free = 0
    return waiting + at_or_above, free


def held_up_requests(candidate: Candidate) -> int:
    """Waiting requests that a slot cannot serve yet, because their model is loading or runs all it can: a ready model's request passes."""
    held_up = candidate.held_up
    if held_up is None:
        held_up = 0
        if candidate.state.queue_depth:
            for status in candidate.state.models.values():
                if status.queued and (not status.is_ready or 0 < status.max_parallel <= status.in_flight):
                    held_up += status.queued
        candidate.keep_held_up(held_up)
    return held_up


def mean_service_s(candidate: Candidate) -> float:
    """Weighted by what is there; 0.0 if nothing of it was measured."""
    state = candidate.state
    measured = {name: timing.service_time_s for name, timing in state.timings.items() if timing.service_time_s}
    requests = 0
    total_s = 0.0
    for name, service_s in measured.items():
        status = state.models.get(name)
        if status is not None and (weight := status.in_flight + status.queued):
            requests += weight
            total_s += weight * service_s
    if requests:
        return total_s / requests
    return math.fsum(measured.values()) / len(measured) if measured else 0.0
