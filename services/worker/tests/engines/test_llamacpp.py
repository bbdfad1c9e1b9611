"""The llamacpp engine: its child process, its text, and what happens when either side dies."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
from engine_subjects import events_of, llamacpp_engine, llamacpp_spec, needs_cyllama, text_in, tokens_in
from tiny_gguf import write_tiny_gguf

from roost.cluster.catalogue import Catalogue
from roost.cluster.errors import EngineFailed, InvalidField, ModelLoadFailed
from roost.worker.engines.frames import Message, encode
from roost.worker.engines.interface import Finished, FinishReason, PromptRead, Resume, ResumePolicy, Sampling
from roost.worker.engines.llamacpp import LlamaCppEngine
from roost.worker.engines.replay import difference
from roost.worker.model_store import ModelStore

pytestmark = needs_cyllama


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LlamaCppEngine]:
    engine = llamacpp_engine(tmp_path)
    yield engine
    await engine.close()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_the_end_token_ends_the_text(engine: LlamaCppEngine, tiny_model: Path, tmp_path: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model))
    tokens = tokens_in(await events_of(model, "the cat", Sampling(max_tokens=10)))
    ends_at = next(at for at, token in enumerate(tokens) if at > 2 and token.id not in {seen.id for seen in tokens[:at]})
    ending = await engine.load(llamacpp_spec(write_tiny_gguf(tmp_path / "ending.gguf", end_token=tokens[ends_at].id)))
    events = await events_of(ending, "the cat", Sampling(max_tokens=10))
    assert tokens_in(events) == tokens[:ends_at]
    assert events[-1] == Finished(FinishReason.STOP)


async def test_the_end_of_the_context_ends_the_text(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model, context_tokens=64))
    events = await events_of(model, "the cat", Sampling(max_tokens=1000))
    assert isinstance(events[0], PromptRead)
    assert len(tokens_in(events)) == 64 - events[0].prompt_tokens
    assert events[-1] == Finished(FinishReason.LENGTH)


async def test_the_longest_prompt_is_read_in_batches_and_one_token_more_is_refused(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model, context_tokens=256, options={"batch_tokens": 32}))
    longest = "z" * 253  # each a token, after the beginning mark and the space before the first
    first = (await events_of(model, longest, Sampling(max_tokens=5)))[0]
    assert first == PromptRead(255)
    with pytest.raises(InvalidField, match="256 tokens"):
        await events_of(model, longest + "z", Sampling(max_tokens=5))


@pytest.mark.parametrize("prompt", ["z" * 3000, "the cat " * 10_000, " " * 200_000])
async def test_a_prompt_far_too_long_is_refused_by_its_beginning(engine: LlamaCppEngine, tiny_model: Path, prompt: str) -> None:
    model = await engine.load(llamacpp_spec(tiny_model, context_tokens=256))
    with pytest.raises(InvalidField, match=rf"has {len(prompt)} characters, more than 256 tokens"):
        await events_of(model, prompt, Sampling(max_tokens=5))


async def test_half_a_surrogate_pair_is_refused(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model))
    with pytest.raises(InvalidField, match="surrogate"):
        await events_of(model, "the \ud83d cat", Sampling(max_tokens=5))


async def test_the_shape_of_prompt_batches_does_not_change_which_tokens_are_told(engine: LlamaCppEngine, tiny_model: Path) -> None:
    wide = await engine.load(llamacpp_spec(tiny_model, options={"batch_tokens": 256}))
    narrow = await engine.load(llamacpp_spec(tiny_model, options={"batch_tokens": 16}))
    prompt = "the cat sat on the mat and " * 4
    assert text_in(await events_of(wide, prompt, Sampling(max_tokens=20))) == text_in(
        await events_of(narrow, prompt, Sampling(max_tokens=20))
    )


async def test_more_generations_than_places_wait_their_turn(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model, max_parallel=1))
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(events_of(model, "the cat", Sampling(max_tokens=9))) for _ in range(5)]
    assert {len(tokens_in(task.result())) for task in running} == {9}


async def test_a_killed_child_is_told_and_ends_what_ran(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model))
    async with aclosing(model.generate("the cat", Sampling(max_tokens=200))) as events:
        await anext(events)
        os.kill(model.pid, signal.SIGKILL)
        with pytest.raises(EngineFailed, match="SIGKILL"):
            async for _ in events:
                pass
    assert "SIGKILL" in await model.wait_lost()
    with pytest.raises(EngineFailed, match="SIGKILL"):
        await events_of(model, "the cat", Sampling(max_tokens=1))
    assert tokens_in(await events_of(await engine.load(llamacpp_spec(tiny_model)), "the cat", Sampling(max_tokens=1)))


async def test_a_child_that_stands_still_while_it_owes_an_answer_is_lost(tiny_model: Path, tmp_path: Path) -> None:
    engine = LlamaCppEngine(ModelStore(Catalogue(), tmp_path), patience_s=1.0)
    model = await engine.load(llamacpp_spec(tiny_model))
    lost = asyncio.create_task(model.wait_lost())
    os.kill(model.pid, signal.SIGSTOP)
    with pytest.raises(EngineFailed, match="did nothing for 1 s") as failure:
        await events_of(model, "the cat", Sampling(max_tokens=200))
    assert failure.value.is_model_lost
    assert "did nothing for 1 s" in await lost
    pid = model.pid
    await model.close()
    assert not is_alive(pid)


async def test_a_child_that_stands_still_while_it_loads_fails_the_load(tiny_model: Path, tmp_path: Path) -> None:
    engine = LlamaCppEngine(ModelStore(Catalogue(), tmp_path), patience_s=0.1)  # ten times that while loading
    before = children()
    loading = asyncio.create_task(engine.load(llamacpp_spec(tiny_model)))
    while children() == before:
        await asyncio.to_thread(os.sched_yield)
    for pid in children() - before:
        os.kill(int(pid), signal.SIGSTOP)
    with pytest.raises(ModelLoadFailed, match="did nothing for 1 s"):
        await loading
    assert children() == before


async def test_a_child_that_owes_nothing_may_stand_still(tiny_model: Path, tmp_path: Path) -> None:
    engine = LlamaCppEngine(ModelStore(Catalogue(), tmp_path), patience_s=0.5)
    model = await engine.load(llamacpp_spec(tiny_model))
    await events_of(model, "the cat", Sampling(max_tokens=5))
    os.kill(model.pid, signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await model.wait_lost()
    os.kill(model.pid, signal.SIGCONT)
    assert tokens_in(await events_of(model, "the cat", Sampling(max_tokens=5)))
    await engine.close()


async def test_a_closed_model_leaves_no_process(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model))
    pid = model.pid
    assert is_alive(pid)
    await model.close()
    assert not is_alive(pid)


def test_a_child_ends_with_its_worker(tiny_model: Path) -> None:
    command = [sys.executable, "-m", "roost.worker.engines.llamacpp_child"]
    order: Message = {"do": "load", "path": str(tiny_model), "context_tokens": 64, "batch_tokens": 16, "threads": 1, "parallel": 1}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(encode(order))
        child.stdin.flush()
        assert b"ready" in child.stdout.read(20)
        child.stdin.close()
        assert child.wait(timeout=10) == 0


async def test_a_load_that_fails_says_why_in_the_words_of_llama_cpp(engine: LlamaCppEngine, tiny_model: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing.gguf"
    nothing.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(16))
    with pytest.raises(ModelLoadFailed) as refusal:
        await engine.load(llamacpp_spec(nothing))
    assert str(nothing) in str(refusal.value)
    assert "corrupt" in str(refusal.value)


@pytest.mark.parametrize("kept", [0.0001, 0.01, 0.8, 0.999])
async def test_a_file_that_was_cut_is_told_before_anything_is_loaded(
    engine: LlamaCppEngine, tiny_model: Path, tmp_path: Path, kept: float
) -> None:
    cut = tmp_path / "cut.gguf"
    whole = tiny_model.read_bytes()  # noqa: ASYNC240 - half a megabyte
    cut.write_bytes(whole[: int(len(whole) * kept)])
    before = children()
    with pytest.raises(ModelLoadFailed, match=r"cut\.gguf: it .* not whole"):
        await engine.check(llamacpp_spec(cut))
    assert children() == before


async def test_a_check_finds_a_file_that_is_mended(engine: LlamaCppEngine, tiny_model: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    with pytest.raises(ModelLoadFailed, match="is missing"):
        await engine.check(llamacpp_spec(path))
    path.write_bytes(tiny_model.read_bytes())  # noqa: ASYNC240 - half a megabyte
    await engine.check(llamacpp_spec(path))


async def test_garbage_behind_the_right_first_letters_is_refused(engine: LlamaCppEngine, tmp_path: Path) -> None:
    for size in (0, 4, 20, 4000):
        garbage = tmp_path / f"{size}.gguf"
        garbage.write_bytes((b"GGUF\x03\x00\x00\x00" + bytes(range(256)) * 16)[:size])
        with pytest.raises(ModelLoadFailed, match=garbage.name):
            await engine.load(llamacpp_spec(garbage))


async def test_a_context_longer_than_the_model_was_trained_for_is_refused(engine: LlamaCppEngine, tiny_model: Path) -> None:
    with pytest.raises(ModelLoadFailed, match=r"is 4096 and .* was trained for 512"):
        await engine.load(llamacpp_spec(tiny_model, context_tokens=4096))


async def test_a_cancelled_load_leaves_no_process(engine: LlamaCppEngine, tiny_model: Path) -> None:
    before = children()
    loading = asyncio.create_task(engine.load(llamacpp_spec(tiny_model)))
    while children() == before and not loading.done():
        await asyncio.to_thread(os.sched_yield)
    loading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert children() == before


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


async def test_a_tiny_temperature_is_greedy(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model))
    greedy = text_in(await events_of(model, "the cat", Sampling(max_tokens=20)))
    assert text_in(await events_of(model, "the cat", Sampling(max_tokens=20, temperature=1e-30, seed=3))) == greedy


async def test_a_resume_that_does_not_fit_the_context_is_refused_and_one_that_fills_it_is_over(
    engine: LlamaCppEngine, tiny_model: Path
) -> None:
    model = await engine.load(llamacpp_spec(tiny_model, context_tokens=64))
    first, *tokens, _ = await events_of(model, "the cat", Sampling(max_tokens=1000))
    assert isinstance(first, PromptRead)
    ids = tuple(token.id for token in tokens_in(list(tokens)))
    full = Resume(len(ids), ids, "", model.fingerprint)
    assert await events_of(model, "the cat", Sampling(max_tokens=1000), full) == [first, Finished(FinishReason.LENGTH)]
    with pytest.raises(InvalidField, match="the context holds 64, both") as refusal:
        await events_of(model, "the cat", Sampling(max_tokens=1000), Resume(len(ids) + 1, (*ids, ids[0]), "", model.fingerprint))
    assert refusal.value.field == "generated.ids"


async def test_a_text_that_fills_the_context_is_over(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model, context_tokens=64))
    first, *rest = await events_of(model, "the cat", Sampling(max_tokens=1000), Resume(60, (), " z" * 60, "engine=other"))
    assert isinstance(first, PromptRead)
    assert rest == [Finished(FinishReason.LENGTH)]


async def test_another_width_of_batches_is_another_fingerprint(engine: LlamaCppEngine, tiny_model: Path) -> None:
    narrow = await engine.load(llamacpp_spec(tiny_model, options={"batch_tokens": 16}))
    wide = await engine.load(llamacpp_spec(tiny_model, options={"batch_tokens": 64}))
    assert difference(narrow.fingerprint, wide.fingerprint) == ("batch",)
    tokens = tokens_in(await events_of(narrow, "the cat", Sampling(max_tokens=20)))
    resume = Resume(5, tuple(token.id for token in tokens[:5]), "", narrow.fingerprint, ResumePolicy.EXACT)
    first, *_ = await events_of(wide, "the cat", Sampling(max_tokens=20), resume)
    assert isinstance(first, PromptRead)
    assert first == PromptRead(first.prompt_tokens, "another engine began: batch was 16 and is 64")


async def test_a_text_with_half_a_surrogate_pair_cannot_be_resumed(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model))
    with pytest.raises(InvalidField, match="surrogate") as refusal:
        await events_of(model, "the cat", Sampling(max_tokens=5), Resume(1, (), "\ud83d", ""))
    assert refusal.value.field == "generated.text"


# --- the real model ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(max_tokens=24),
        Sampling(max_tokens=24, temperature=0.8, top_p=0.9, top_k=40, seed=2024),
        Sampling(max_tokens=24, temperature=0.8, seed=7, presence_penalty=0.5, frequency_penalty=0.3, repeat_penalty=1.2),
    ],
    ids=["greedy", "sampled", "with penalties"],
)
async def test_the_real_model_goes_on_exactly_in_another_process(gemma: tuple[Catalogue, Path], sampling: Sampling) -> None:
    """A few cuts; `python bench/bench_resume.py` makes many."""
    catalogue, folder = gemma
    engine = LlamaCppEngine(ModelStore(catalogue, folder))
    spec = catalogue.get("gemma-3-270m")
    first, second = await engine.load(spec), await engine.load(spec)
    for prompt in ("Party tonight! \U0001f389\U0001f389 Who is coming? \U0001f600", "The history of bread begins " * 20):
        tokens = tokens_in(await events_of(first, prompt, sampling))
        for cut in (1, 9, 20):
            resume = Resume(cut, tuple(token.id for token in tokens[:cut]), "", first.fingerprint, ResumePolicy.EXACT)
            rest = await events_of(second, prompt, sampling, resume)
            assert tokens_in(rest) == tokens[cut:]
            assert [event.approximate_because for event in rest if isinstance(event, PromptRead)] == [""]
    await engine.close()


@pytest.mark.slow
async def test_the_real_model_continues_a_sentence(gemma: tuple[Catalogue, Path]) -> None:
    catalogue, folder = gemma
    engine = LlamaCppEngine(ModelStore(catalogue, folder))
    model = await engine.load(catalogue.get("gemma-3-270m"))
    text = text_in(await events_of(model, "The capital of France is", Sampling(max_tokens=16)))
    await engine.close()
    assert text.startswith(" the capital of")
    assert "France" in text


@pytest.mark.slow
async def test_generations_that_take_turns_give_the_text_they_give_alone(gemma: tuple[Catalogue, Path]) -> None:
    catalogue, folder = gemma
    engine = LlamaCppEngine(ModelStore(catalogue, folder))
    shipped = catalogue.get("gemma-3-270m")
    model = await engine.load(llamacpp_spec(await ModelStore(catalogue, folder).file_of(shipped), context_tokens=512, max_parallel=2))
    prompts = ["Once upon a time there was", "The first rule of cooking is that " * 12]
    alone = [await events_of(model, prompt, Sampling(max_tokens=40)) for prompt in prompts]
    async with asyncio.TaskGroup() as group:
        together = [group.create_task(events_of(model, prompt, Sampling(max_tokens=40))) for prompt in prompts]
    await engine.close()
    assert [task.result() for task in together] == alone


@pytest.mark.slow
async def test_emoji_of_the_real_model_arrive_whole(gemma: tuple[Catalogue, Path]) -> None:
    catalogue, folder = gemma
    engine = LlamaCppEngine(ModelStore(catalogue, folder))
    model = await engine.load(catalogue.get("gemma-3-270m"))
    text = text_in(await events_of(model, "\U0001f9a9" * 7, Sampling(max_tokens=24)))
    await engine.close()
    assert "\ufffd" not in text.rstrip("\ufffd")
    assert max(text) > "\U0001f000"


@pytest.mark.slow
async def test_a_cancel_in_the_middle_of_a_long_prompt_frees_the_model_within_a_chunk(gemma: tuple[Catalogue, Path]) -> None:
    catalogue, folder = gemma
    engine = LlamaCppEngine(ModelStore(catalogue, folder))
    model = await engine.load(catalogue.get("gemma-3-270m"))
    long = "The quick brown fox jumps over the lazy dog. " * 60
    started = time.monotonic()
    await events_of(model, long, Sampling(max_tokens=1))
    whole_s = time.monotonic() - started
    reading = asyncio.create_task(events_of(model, long, Sampling(max_tokens=1)))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    started = time.monotonic()
    await events_of(model, "Hello", Sampling(max_tokens=1))
    await engine.close()
    assert time.monotonic() - started < whole_s / 2  # of ten chunks at most one was still read


async def test_text_held_back_for_a_stop_string_arrives_token_by_token_at_the_end(engine: LlamaCppEngine, tiny_model: Path) -> None:
    model = await engine.load(llamacpp_spec(tiny_model))
    whole = await events_of(model, "the cat", Sampling(max_tokens=12))
    held = text_in(whole)[-3:] + "\x00"
    assert await events_of(model, "the cat", Sampling(max_tokens=12, stop=(held,))) == whole


def test_a_load_is_expected_to_take_a_process_start_and_a_second_a_gigabyte(tmp_path: Path) -> None:
    assert llamacpp_engine(tmp_path).expected_load_s(llamacpp_spec(tmp_path, size_bytes=3 * 10**9)) == pytest.approx(4.0)
