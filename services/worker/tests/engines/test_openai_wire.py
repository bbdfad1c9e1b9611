"""What OpenAI-compatible servers say, in all the shapes in which they say it."""

from __future__ import annotations

import pytest
from engine_subjects import openai_spec

from roost.cluster.errors import EngineFailed, InvalidField, NoCapacity
from roost.worker.engines.interface import Finished, FinishReason, Sampling
from roost.worker.engines.openai_wire import Answer, Server, listed_models, refusal, request_body
from roost.worker.engines.sse import Chunk, error_text, read_line

SPEC = openai_spec("http://10.0.0.1:8000")


def chunk(text: str, finish: str = "null") -> str:
    return f'data: {{"choices": [{{"text": "{text}", "finish_reason": {finish}}}]}}'


def read(lines: list[str], sampling: Sampling) -> tuple[str, Finished]:
    answer = Answer("remote", sampling)
    text = ""
    for line in [*lines, "data: [DONE]"]:
        read_chunk = read_line(line)
        if read_chunk is not None and not answer.is_over:
            text += "".join(token.text for token in answer.take(read_chunk))
    return text, answer.finished()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", None),
        (": ping", None),
        ("event: message", None),
        ("id: 7", None),
        ("data:", None),
        ("data: [DONE]", Chunk(is_done=True)),
        ("data:[DONE]", Chunk(is_done=True)),
        (chunk(" hi"), Chunk(text=" hi")),
        (chunk("", '"length"'), Chunk(finish_reason="length")),
        ('data: {"choices": []}', Chunk()),
        ('data: {"choices": [], "usage": {"prompt_tokens": 9}}', Chunk(prompt_tokens=9)),
        ('data: {"choices": [{"text": null}], "usage": null}', Chunk()),
        ('data: {"choices": 3}', Chunk()),
        ("data: {}", Chunk()),
        ('data: {"error": {"message": "out of memory"}}', Chunk(error="out of memory")),
        ('error: {"message": "out of memory", "code": 500}', Chunk(error="out of memory")),
        ("data: [1]", Chunk(error="an event that is not an object: [1]")),
        ("data: {half", Chunk(error="an event that is not JSON: {half")),
    ],
)
def test_a_line_of_the_stream_is_read(line: str, expected: Chunk | None) -> None:
    assert read_line(line) == expected


def test_text_usage_and_reason_are_read_in_any_order() -> None:
    usage = 'data: {"choices": [], "usage": {"prompt_tokens": 4}}'
    lines = [usage, chunk(" a"), chunk(" b", '"stop"'), chunk("ignored")]
    assert read(lines, Sampling(max_tokens=9)) == (" a b", Finished(FinishReason.STOP, 4))


def test_a_stream_that_ends_with_all_its_tokens_and_no_reason_ended_by_length() -> None:
    assert read([chunk("a"), chunk("b")], Sampling(max_tokens=2)) == ("ab", Finished(FinishReason.LENGTH))


def test_a_stream_that_ends_early_without_a_reason_has_failed() -> None:
    with pytest.raises(EngineFailed, match="before the text was complete"):
        read([chunk("a")], Sampling(max_tokens=2))


def test_a_server_that_knows_no_max_tokens_is_cut_short() -> None:
    assert read([chunk("a"), chunk("b"), chunk("c")], Sampling(max_tokens=2)) == ("ab", Finished(FinishReason.LENGTH))


def test_a_server_that_knows_no_stop_strings_is_cut_at_them() -> None:
    sampling = Sampling(max_tokens=9, stop=("b c",))
    assert read([chunk("a "), chunk("b "), chunk("c "), chunk("d", '"length"')], sampling) == ("a ", Finished(FinishReason.STOP))


def test_an_error_in_the_stream_is_told() -> None:
    with pytest.raises(EngineFailed, match="out of memory"):
        read([chunk("a"), 'data: {"error": "out of memory"}'], Sampling(max_tokens=2))


@pytest.mark.parametrize(
    ("status", "said", "error"),
    [
        (400, "request exceeds the available context size", InvalidField("prompt", "")),
        (400, "top_k is negative", InvalidField("request", "")),
        (413, "", InvalidField("prompt", "")),
        (422, "temperature", InvalidField("request", "")),
        (401, "no key", EngineFailed("remote", "")),
        (403, "", EngineFailed("remote", "")),
        (404, "no such model", EngineFailed("remote", "")),
        (429, "slow down", NoCapacity("", 3.0)),
        (503, "loading", NoCapacity("", 3.0)),
        (500, "", EngineFailed("remote", "")),
    ],
)
def test_a_status_becomes_the_refusal_that_says_who_must_act(status: int, said: str, error: Exception) -> None:
    answer = refusal(SPEC, status, said, "3")
    assert type(answer) is type(error)
    assert f"{status}" in str(answer)
    assert said in str(answer)
    assert getattr(answer, "field", None) == getattr(error, "field", None)
    assert getattr(answer, "retry_after_s", None) == getattr(error, "retry_after_s", None)


def test_a_refused_key_names_the_variable() -> None:
    assert "TEST_KEY" in str(refusal(SPEC, 401, "no key", ""))


@pytest.mark.parametrize(
    ("body", "text"),
    [({"error": {"message": "m"}}, "m"), ({"error": "m"}, "m"), ({"detail": "m"}, "m"), ({"message": "m"}, "m"), ("m", "m"), ([1], "[1]")],
)
def test_an_error_answer_is_read_in_every_usual_shape(body: object, text: str) -> None:
    assert error_text(body) == text


def test_only_what_was_asked_for_is_sent() -> None:
    assert set(request_body("m", "p", Sampling(max_tokens=1))) == {
        "model",
        "prompt",
        "max_tokens",
        "temperature",
        "stream",
        "stream_options",
    }
    sampled = request_body("m", "p", Sampling(max_tokens=1, temperature=0.5, top_p=0.9, top_k=4, seed=1))
    assert (sampled["top_p"], sampled["top_k"], sampled["seed"]) == (0.9, 4, 1)


def test_the_models_of_a_server_are_listed_if_it_lists_them() -> None:
    assert listed_models('{"data": [{"id": "a"}, {"id": "b"}]}') == {"a", "b"}
    assert listed_models("<html>") == listed_models("{}") == listed_models("[]") == set()


def test_residency_follows_the_documented_calls() -> None:
    vllm = Server.of(openai_spec("http://h:1", residency="vllm-sleep"))
    assert vllm.residency_call(is_wanted=True) == ("http://h:1/wake_up", {})
    assert vllm.residency_call(is_wanted=False) == ("http://h:1/sleep?level=1", {})
    ollama = Server.of(openai_spec("http://h:1", "llama3", residency="ollama"))
    assert ollama.residency_call(is_wanted=True) == ("http://h:1/api/generate", {"model": "llama3", "keep_alive": -1})
    assert ollama.residency_call(is_wanted=False) == ("http://h:1/api/generate", {"model": "llama3", "keep_alive": 0})
    assert Server.of(SPEC).residency_call(is_wanted=True) is None
