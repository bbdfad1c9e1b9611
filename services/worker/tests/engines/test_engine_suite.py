"""What every engine must do: one suite for the simulated, the llamacpp and the openai engine (the last against a real server)."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest
from engine_subjects import Subject, events_of, text_in, tokens_in

from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed
from roost.worker.engines.interface import Engine, Finished, FinishReason, GeneratedToken, LoadedModel, PromptRead, Sampling


async def generate_into(events: asyncio.Queue[object], model: LoadedModel, prompt: str, sampling: Sampling) -> None:
    async with aclosing(model.generate(prompt, sampling)) as generation:
        async for event in generation:
            events.put_nowait(event)


async def test_the_prompt_is_read_first_then_come_tokens_then_the_end(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    first, *tokens, last = await events_of(model, subject.prompt, Sampling(max_tokens=5))
    assert isinstance(first, PromptRead)
    assert isinstance(last, Finished)
    assert all(isinstance(token, GeneratedToken) for token in tokens)


async def test_the_length_of_the_prompt_is_told_at_the_start_or_at_the_end(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    first, *_, last = await events_of(model, subject.prompt, Sampling(max_tokens=2))
    assert isinstance(first, PromptRead)
    assert isinstance(last, Finished)
    assert max(first.prompt_tokens, last.prompt_tokens) > 0


@pytest.mark.parametrize("max_tokens", [1, 7])
async def test_no_more_tokens_come_than_were_asked_for(engine: Engine, subject: Subject, max_tokens: int) -> None:
    model = await engine.load(subject.spec)
    events = await events_of(model, subject.prompt, Sampling(max_tokens=max_tokens))
    assert len(tokens_in(events)) == max_tokens
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.LENGTH


async def test_greedy_text_is_the_same_each_time(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    first = await events_of(model, subject.prompt, Sampling(max_tokens=20))
    await events_of(model, "something else between", Sampling(max_tokens=3))
    assert tokens_in(await events_of(model, subject.prompt, Sampling(max_tokens=20))) == tokens_in(first)


async def test_a_seed_makes_sampled_text_the_same(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    sampling = Sampling(max_tokens=20, temperature=1.0, top_p=0.9, top_k=50, seed=7)
    first = text_in(await events_of(model, subject.prompt, sampling))
    assert text_in(await events_of(model, subject.prompt, sampling)) == first


async def test_different_seeds_make_different_text(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    texts = {text_in(await events_of(model, subject.prompt, Sampling(max_tokens=20, temperature=1.5, seed=seed))) for seed in (1, 2, 3)}
    assert len(texts) > 1


async def test_text_ends_before_a_stop_string(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    whole = text_in(await events_of(model, subject.prompt, Sampling(max_tokens=30)))
    stop = whole[len(whole) // 2 :][:3]
    events = await events_of(model, subject.prompt, Sampling(max_tokens=30, stop=("\x00never", stop)))
    assert text_in(events) == whole[: whole.index(stop)]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason is FinishReason.STOP


async def test_a_stop_string_that_never_comes_takes_nothing_away(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    whole = text_in(await events_of(model, subject.prompt, Sampling(max_tokens=20)))
    held = whole[-2:] + "\x00"
    assert text_in(await events_of(model, subject.prompt, Sampling(max_tokens=20, stop=(held,)))) == whole


async def test_after_a_cancel_the_next_generations_work(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    for _ in range(model.max_parallel * 2):
        async with aclosing(model.generate(subject.prompt, Sampling(max_tokens=200))) as events:
            async for event in events:
                if isinstance(event, GeneratedToken):
                    break
    assert len(tokens_in(await events_of(model, subject.prompt, Sampling(max_tokens=5)))) == 5


async def test_a_generation_whose_task_is_cancelled_frees_its_place(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    events: asyncio.Queue[object] = asyncio.Queue()
    for _ in range(model.max_parallel * 2):
        task = asyncio.create_task(generate_into(events, model, subject.prompt, Sampling(max_tokens=200)))
        await events.get()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(tokens_in(await events_of(model, subject.prompt, Sampling(max_tokens=5)))) == 5


async def test_as_many_generations_run_at_once_as_it_says(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    prompts = [f"{subject.prompt} {number}" for number in range(model.max_parallel)]
    alone = [text_in(await events_of(model, prompt, Sampling(max_tokens=20))) for prompt in prompts]
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(events_of(model, prompt, Sampling(max_tokens=20))) for prompt in prompts]
    assert [text_in(task.result()) for task in running] == alone


async def test_a_prompt_longer_than_the_context_is_refused(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    with pytest.raises(InvalidField) as refusal:
        await events_of(model, subject.prompt * 400, Sampling(max_tokens=5))
    assert refusal.value.field == "prompt"
    assert tokens_in(await events_of(model, subject.prompt, Sampling(max_tokens=5)))


async def test_an_empty_prompt_is_refused(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    with pytest.raises(InvalidField, match="empty"):
        await events_of(model, "", Sampling(max_tokens=5))


async def test_every_character_may_stand_in_a_prompt(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    assert tokens_in(await events_of(model, 'naïve \U0001f600 "\\ \n\t \x01 漢字', Sampling(max_tokens=3)))


async def test_closing_a_model_ends_what_runs_on_it(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    async with aclosing(model.generate(subject.prompt, Sampling(max_tokens=200))) as events:
        await anext(events)
        await model.close()
        with pytest.raises(EngineFailed):
            async for _ in events:
                pass


async def test_a_closed_model_generates_no_more_and_closes_again(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    await model.close()
    await model.close()
    with pytest.raises(EngineFailed):
        await events_of(model, subject.prompt, Sampling(max_tokens=1))


async def test_closing_the_engine_closes_its_models(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    await engine.close()
    with pytest.raises(EngineFailed):
        await events_of(model, subject.prompt, Sampling(max_tokens=1))


async def test_a_model_is_not_lost_while_nothing_happens_to_it(engine: Engine, subject: Subject) -> None:
    model = await engine.load(subject.spec)
    waiting = asyncio.ensure_future(model.wait_lost())
    await events_of(model, subject.prompt, Sampling(max_tokens=5))
    assert not waiting.done()
    waiting.cancel()


async def test_a_bad_source_is_told_and_the_engine_lives_on(engine: Engine, subject: Subject) -> None:
    for spec in subject.bad_specs:
        with pytest.raises(ModelLoadFailed) as refusal:
            await engine.load(spec)
        assert refusal.value.name == spec.name
    model = await engine.load(subject.spec)
    assert tokens_in(await events_of(model, subject.prompt, Sampling(max_tokens=1)))


async def test_a_load_can_be_cancelled(engine: Engine, subject: Subject) -> None:
    loading = asyncio.create_task(engine.load(subject.spec))
    await asyncio.sleep(0)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    model = await engine.load(subject.spec)
    assert tokens_in(await events_of(model, subject.prompt, Sampling(max_tokens=1)))
