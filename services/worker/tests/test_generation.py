"""Requests for text are checked field by field."""

from __future__ import annotations

import math

import pytest

from roost.cluster.catalogue import ModelSpec
from roost.cluster.errors import InvalidField
from roost.worker.engines.interface import Resume, ResumePolicy
from roost.worker.generated import MAX_TOKENS, Generated
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
        ("generation_id", b"short"),
        ("attempt", 1),  # of what
        ("attempt", 1_000_001),
        ("presence_penalty", 2.1),
        ("presence_penalty", math.nan),
        ("frequency_penalty", -2.1),
        ("repeat_penalty", -0.1),
        ("repeat_penalty", math.inf),
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


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("generated.ids[1]", {"ids": (3, -1)}),
        ("generated.ids[0]", {"ids": (2**31,)}),
        ("generated.ids", {"ids": (1,) * (MAX_TOKENS + 1)}),
        ("generated.tokens", {"ids": (1, 2), "tokens": 3}),
        ("generated.tokens", {"tokens": -1}),
        ("generated.tokens", {"text": "so many words"}),
        ("generated.text", {"tokens": 3}),
        ("generated.text", {"ids": (1,), "text": "x" * (8 * 1024 * 1024 + 1)}),
        ("generated.fingerprint", {"fingerprint": "x" * 1025}),
        ("generated.approximate_because", {"approximate_because": "x" * 513}),
        ("generated.resumes", {"resumes": 1_000_001}),
    ],
)
def test_what_was_told_is_checked_field_by_field(field: str, fields: dict[str, object]) -> None:
    with pytest.raises(InvalidField) as refused:
        Generated(**fields)  # type: ignore[arg-type]
    assert refused.value.field == field


def test_a_generation_of_which_nothing_was_told_begins() -> None:
    assert GenerationRequest(model="m", prompt="hello", generated=Generated(fingerprint="engine=x", resumes=2)).resume is None


def test_a_generation_goes_on_after_what_was_told() -> None:
    by_ids = GenerationRequest(model="m", prompt="hello", generated=Generated(ids=(5, 6), fingerprint="engine=x"))
    assert by_ids.resume == Resume(2, (5, 6), "", "engine=x", ResumePolicy.FAST)
    by_text = GenerationRequest(model="m", prompt="hello", generated=Generated(text=" a b", tokens=2), resume_policy=ResumePolicy.EXACT)
    assert by_text.resume == Resume(2, (), " a b", "", ResumePolicy.EXACT)


def test_what_must_not_be_resumed_is_not() -> None:
    with pytest.raises(InvalidField, match="resume_policy: is NEVER although there is something to continue"):
        GenerationRequest(model="m", prompt="hello", generated=Generated(ids=(5,)), resume_policy=ResumePolicy.NEVER)


def test_no_more_can_have_been_told_than_may_be_generated() -> None:
    whole = GenerationRequest(model="m", prompt="hello", generated=Generated(ids=(5,) * 7))
    assert whole.sampling_for(SPEC).max_tokens == 7
    with pytest.raises(InvalidField, match=r"generated\.tokens: are 8, more than the 7 of max_tokens"):
        GenerationRequest(model="m", prompt="hello", generated=Generated(ids=(5,) * 8)).sampling_for(SPEC)


def test_penalties_reach_the_engine_and_zero_is_none() -> None:
    sampling = GenerationRequest(model="m", prompt="hello", presence_penalty=0.5, frequency_penalty=-1.0, repeat_penalty=1.1).sampling_for(
        SPEC
    )
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repeat_penalty, sampling.has_penalties) == (
        0.5,
        -1.0,
        1.1,
        True,
    )
    assert not GenerationRequest(model="m", prompt="hello").sampling_for(SPEC).has_penalties
