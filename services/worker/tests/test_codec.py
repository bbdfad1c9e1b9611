"""Requests survive the wire."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.v1 import worker_pb2
from roost.worker.codec import generation_request_from_wire, generation_request_to_wire
from roost.worker.generation import GenerationRequest

names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=20)
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
