"""Requests survive the wire."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.errors import InvalidField
from roost.cluster.worker_state import CacheResult
from roost.v1 import worker_pb2
from roost.worker.codec import (
    generated_from_wire,
    generation_event_to_wire,
    generation_request_from_wire,
    generation_request_to_wire,
    standing_to_wire,
)
from roost.worker.core.standing import GenerationPhase, Standing
from roost.worker.engines.interface import FinishReason, ResumePolicy
from roost.worker.generated import UNKNOWN_REASON, Generated
from roost.worker.generation import Accepted, Completed, GenerationRequest, PhaseTimes, Started

names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=20)
texts = st.text(st.characters(codec="utf-8"), max_size=50)
told = st.lists(st.integers(0, 2**31 - 1), max_size=8).flatmap(
    lambda ids: st.builds(
        Generated,
        ids=st.just(tuple(ids)),
        text=texts if ids else st.just(""),
        tokens=st.sampled_from([0, len(ids)]),
        fingerprint=texts,
        resumes=st.integers(0, 1_000_000),
        approximate_because=texts,
    )
)
requests = st.builds(
    GenerationRequest,
    model=names,
    prompt=st.text(st.characters(codec="utf-8"), min_size=1, max_size=50),
    request_id=st.text(st.characters(codec="utf-8"), max_size=128),
    priority=st.integers(0, 9),
    max_tokens=st.integers(0, 2**31 - 1),
    temperature=st.floats(0.0, 2.0),
    top_p=st.floats(0.0, 1.0),
    top_k=st.integers(0, 1000),
    seed=st.none() | st.integers(0, 2**32 - 1),
    stop=st.lists(names, max_size=8).map(tuple),
    decision_id=st.text(st.characters(codec="utf-8"), max_size=128),
    waited_s=st.floats(0.0, 86_400.0),
    generated=told,
    generation_id=st.binary(min_size=16, max_size=16),
    attempt=st.integers(0, 1_000_000),
    resume_policy=st.sampled_from([ResumePolicy.EXACT, ResumePolicy.FAST]),
    presence_penalty=st.floats(-2.0, 2.0),
    frequency_penalty=st.floats(-2.0, 2.0),
    repeat_penalty=st.floats(0.0, 2.0),
)


@settings(deadline=None)
@given(requests)
def test_a_request_is_the_same_after_the_wire(request: GenerationRequest) -> None:
    wire = worker_pb2.GenerateRequest.FromString(generation_request_to_wire(request).SerializeToString())
    assert generation_request_from_wire(wire) == request


@pytest.mark.parametrize("seed", [None, 0, 7])
def test_an_absent_seed_is_not_a_seed_of_zero(seed: int | None) -> None:
    wire = worker_pb2.GenerateRequest(model="m", prompt="x", seed=seed)
    assert generation_request_from_wire(wire).seed == seed


def test_an_absent_policy_is_fast_and_an_unknown_one_is_refused() -> None:
    wire = worker_pb2.GenerateRequest(model="m", prompt="x")
    assert generation_request_from_wire(wire).resume_policy is ResumePolicy.FAST
    wire.resume_policy = 9  # type: ignore[assignment]  # as a newer client may
    with pytest.raises(InvalidField) as refusal:
        generation_request_from_wire(wire)
    assert refusal.value.field == "resume_policy"


def test_what_was_approximate_needs_no_reason_to_stay_so() -> None:
    wire = worker_pb2.Generated(ids=[1], exactness=worker_pb2.EXACTNESS_APPROXIMATE)
    assert generated_from_wire(wire).approximate_because == UNKNOWN_REASON
    assert generated_from_wire(worker_pb2.Generated(ids=[1], approximate_because="ignored where it is exact")).approximate_because == ""


def test_what_a_generation_is_told_of_itself() -> None:
    accepted = generation_event_to_wire(Accepted("r", "w", CacheResult.HIT, 3, seed=0, fingerprint="engine=x", resumed_from=7)).accepted
    assert (accepted.HasField("seed"), accepted.seed, accepted.fingerprint, accepted.resumed_from) == (True, 0, "engine=x", 7)
    assert not generation_event_to_wire(Accepted("r", "w", CacheResult.HIT, 3)).accepted.HasField("seed")
    started = generation_event_to_wire(Started("engine=x", "a reason")).started
    assert (started.exactness, started.approximate_because) == (worker_pb2.EXACTNESS_APPROXIMATE, "a reason")
    completed = Completed(FinishReason.STOP, 1, 2, PhaseTimes(0.0, 0.0, 0.0, 0.0), CacheResult.HIT, resumes=2)
    completion = generation_event_to_wire(completed).completion
    assert (completion.resumes, completion.exactness) == (2, worker_pb2.EXACTNESS_EXACT)
    progress = standing_to_wire(Standing(GenerationPhase.LOADING, fraction=0.25, eta_s=3.0)).progress
    assert progress == worker_pb2.Progress(phase=worker_pb2.GENERATION_PHASE_LOADING, fraction=0.25, eta_s=3.0)
