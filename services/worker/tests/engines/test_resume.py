"""What every engine must do with a generation that another run began; beside `test_engine_suite.py`."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from engine_subjects import Subject, events_of, text_in, tokens_in

from roost.cluster.errors import InvalidField
from roost.worker.engines.interface import (
    Engine,
    Finished,
    FinishReason,
    GeneratedToken,
    GenerationEvent,
    LoadedModel,
    PromptRead,
    Resume,
    ResumePolicy,
    Sampling,
)
from roost.worker.engines.replay import WEIGHTS, parts_of

GREEDY = Sampling(max_tokens=16)
SAMPLED = Sampling(max_tokens=16, temperature=0.8, top_p=0.9, top_k=50, seed=7)
SETTINGS = {
    "greedy": GREEDY,
    "sampled": SAMPLED,
    "greedy with penalties": replace(GREEDY, presence_penalty=0.5, frequency_penalty=0.3, repeat_penalty=1.2),
    "sampled with penalties": replace(SAMPLED, presence_penalty=0.5, frequency_penalty=0.3, repeat_penalty=1.2),
}


def told(tokens: list[GeneratedToken], fingerprint: str, policy: ResumePolicy = ResumePolicy.EXACT) -> Resume:
    ids = tuple(token.id for token in tokens if token.id >= 0)
    return Resume(len(tokens), ids, "".join(token.text for token in tokens), fingerprint, policy)


def because(events: list[GenerationEvent]) -> str:
    return next(event.approximate_because for event in events if isinstance(event, PromptRead))


def needs_ids(subject: Subject) -> None:
    if subject.spec.engine == "openai":
        pytest.skip("its server tells no ids")


async def second_model(engine: Engine, subject: Subject) -> LoadedModel:
    """What a worker elsewhere has: the same weights, loaded by themselves."""
    return await engine.load(subject.spec)


async def test_a_fingerprint_names_engine_and_weights_and_is_the_same_wherever_they_are(engine: Engine, subject: Subject) -> None:
    model, second = await engine.load(subject.spec), await second_model(engine, subject)
    assert model.fingerprint == second.fingerprint
    parts = parts_of(model.fingerprint)
    assert parts["engine"] == subject.spec.engine
    assert parts[WEIGHTS]


@pytest.mark.parametrize("sampling", SETTINGS.values(), ids=SETTINGS)
async def test_a_generation_goes_on_exactly_wherever_it_was_cut(engine: Engine, subject: Subject, sampling: Sampling) -> None:
    needs_ids(subject)
    model, second = await engine.load(subject.spec), await second_model(engine, subject)
    whole = await events_of(model, subject.prompt, sampling)
    tokens = tokens_in(whole)
    for cut in (0, 1, 2, 7, len(tokens) - 1, len(tokens)):
        rest = await events_of(second, subject.prompt, sampling, told(tokens[:cut], model.fingerprint))
        assert tokens_in(rest) == tokens[cut:]
        assert because(rest) == ""
        assert rest[-1] == whole[-1]


async def test_a_resumed_generation_can_be_resumed_again(engine: Engine, subject: Subject) -> None:
    needs_ids(subject)
    model = await engine.load(subject.spec)
    tokens = tokens_in(await events_of(model, subject.prompt, SAMPLED))
    so_far: list[GeneratedToken] = []
    while len(so_far) < len(tokens):
        rest = tokens_in(await events_of(model, subject.prompt, SAMPLED, told(so_far, model.fingerprint, ResumePolicy.FAST)))
        so_far += rest[:3]
    assert so_far == tokens


async def test_a_stop_string_that_began_before_the_cut_ends_the_text(engine: Engine, subject: Subject) -> None:
    needs_ids(subject)
    model = await engine.load(subject.spec)
    tokens = tokens_in(await events_of(model, subject.prompt, GREEDY))
    ends = "".join(token.text for token in tokens[4:7])
    sampling = replace(GREEDY, stop=(ends, "\x00never"))
    whole = await events_of(model, subject.prompt, sampling)
    assert isinstance(whole[-1], Finished)
    assert whole[-1].reason is FinishReason.STOP
    for cut in range(len(tokens_in(whole)) + 1):
        rest = await events_of(model, subject.prompt, sampling, told(tokens_in(whole)[:cut], model.fingerprint))
        assert text_in(rest) == text_in(whole)[len("".join(token.text for token in tokens_in(whole)[:cut])) :]
        assert rest[-1] == whole[-1]


async def test_what_was_told_as_text_goes_on_numbered_and_is_told_as_approximate(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    whole = await events_of(model, subject.prompt, GREEDY)
    for cut in (1, 5, 15):
        resume = replace(told(tokens_in(whole)[:cut], model.fingerprint), ids=())
        rest = await events_of(model, subject.prompt, GREEDY, resume)
        assert because(rest) == "what was told is known by its text only"
        assert len(tokens_in(rest)) == 16 - cut
        assert isinstance(rest[-1], Finished)


async def test_the_prompt_counts_as_it_was_written_however_much_was_told(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)

    def prompt_tokens(events: list[GenerationEvent]) -> int:
        return max(event.prompt_tokens for event in events if isinstance(event, PromptRead | Finished))

    whole = await events_of(model, subject.prompt, GREEDY)
    rest = await events_of(model, subject.prompt, GREEDY, told(tokens_in(whole)[:8], model.fingerprint))
    # A server counts what it reads, told text included, and may cut that text into other tokens than it was generated in.
    assert abs(prompt_tokens(rest) - prompt_tokens(whole)) <= (16 if subject.spec.engine == "openai" else 0)


async def test_another_fingerprint_makes_a_continuation_approximate(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    tokens = tokens_in(await events_of(model, subject.prompt, GREEDY))
    rest = await events_of(model, subject.prompt, GREEDY, told(tokens[:5], f"{model.fingerprint};more=1"))
    assert "more was 1 and is none" in because(rest)
    assert len(tokens_in(rest)) == len(tokens) - 5


async def test_where_all_was_told_only_the_end_is_left(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    tokens = tokens_in(await events_of(model, subject.prompt, GREEDY))
    first, *rest = await events_of(model, subject.prompt, GREEDY, told(tokens, model.fingerprint))
    assert isinstance(first, PromptRead)
    assert [event.reason for event in rest if isinstance(event, Finished)] == [FinishReason.LENGTH]
    assert len(rest) == 1


async def test_ids_that_are_no_tokens_are_refused(engine: Engine, subject: Subject) -> None:
    needs_ids(subject)
    model = await engine.load(subject.spec)
    for unknown in (2**31 - 1, 1_000_000):
        with pytest.raises(InvalidField, match=r"is no token of|is \d+ is no token") as refusal:
            await events_of(model, subject.prompt, GREEDY, Resume(2, (5, unknown), "", model.fingerprint))
        assert refusal.value.field.startswith("generated.ids")
    assert tokens_in(await events_of(model, subject.prompt, GREEDY))


async def test_ids_of_other_weights_are_refused_where_there_is_no_text(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    with pytest.raises(InvalidField) as refusal:
        await events_of(model, subject.prompt, GREEDY, Resume(2, (5, 6), "", f"engine=x;{WEIGHTS}=other"))
    assert refusal.value.field == "generated.text"


async def test_resuming_and_generating_go_on_side_by_side(engine: Engine, subject: Subject) -> None:
    needs_ids(subject)
    model = await engine.load(subject.spec)
    tokens = tokens_in(await events_of(model, subject.prompt, SAMPLED))
    async with asyncio.TaskGroup() as group:
        running = [
            group.create_task(events_of(model, subject.prompt, SAMPLED, told(tokens[:cut], model.fingerprint) if cut else None))
            for cut in range(model.max_parallel)
        ]
    assert [tokens_in(task.result()) for task in running] == [tokens[cut:] for cut in range(model.max_parallel)]
