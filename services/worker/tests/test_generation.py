"""Requests for text are checked field by field."""

from __future__ import annotations

import math

import pytest

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import InvalidField
from roost.worker.generation import GenerationRequest

SPEC = ModelSpec(name="m", engine="simulated", source="published", size_bytes=1, default_max_tokens=7, max_tokens=64)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("model", ""),
        ("model", "x" * 129),
        ("request_id", "x" * 129),
        ("prompt", ""),
        ("prompt", "x" * (8 * 1024 * 1024 + 1)),
        ("prompt", "é" * (4 * 1024 * 1024 + 1)),
        ("priority", 11),
        ("priority", -1),
        ("max_tokens", -1),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", -0.1),
        ("temperature", 2.1),
        ("top_p", 1.1),
        ("top_p", -0.1),
        ("top_p", math.nan),
        ("top_k", -1),
        ("top_k", 1001),
        ("stop", ("x",) * 9),
        ("decision_id", "x" * 129),
    ],
)
def test_a_bad_field_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(InvalidField) as refused:
        GenerationRequest(**{"model": "m", "prompt": "hello", field: value})  # type: ignore[arg-type]
    assert refused.value.field == field


@pytest.mark.parametrize("stop", ["", "x" * 65])
def test_a_bad_stop_is_refused_by_its_place(stop: str) -> None:
    with pytest.raises(InvalidField) as refused:
        GenerationRequest(model="m", prompt="hello", stop=("ok", stop))
    assert refused.value.field == "stop[1]"


def test_the_largest_prompt_is_taken() -> None:
    assert GenerationRequest(model="m", prompt="x" * (8 * 1024 * 1024)).prompt


def test_zero_means_the_models_default() -> None:
    sampling = GenerationRequest(model="m", prompt="hello").sampling_for(SPEC)
    assert (sampling.max_tokens, sampling.top_p, sampling.temperature, sampling.seed) == (7, 1.0, 0.0, None)


def test_more_tokens_than_the_models_limit_are_refused_naming_it() -> None:
    with pytest.raises(InvalidField, match="max_tokens: must be at most 64, the limit of m"):
        GenerationRequest(model="m", prompt="hello", max_tokens=65).sampling_for(SPEC)
