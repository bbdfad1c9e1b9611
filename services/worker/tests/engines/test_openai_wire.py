"""What OpenAI-compatible servers say, in all the shapes in which they say it."""

from __future__ import annotations

import pytest
from engine_subjects import openai_spec

from roost.cluster.errors import EngineFailed, InvalidField, NoCapacity
from roost.worker.engines.interface import Finished, FinishReason, Sampling
from roost.worker.engines.openai_wire import Answer, Server, listed_models, refusal, request_body, retry_after_s
from roost.worker.engines.sse import MAX_EVENT_BYTES, Chunk, EventTooLong, Tidy, error_text, read_event

SPEC = openai_spec("http://10.0.0.1:8000")


def chunk(text: str, finish: str = "null") -> str:
    return f'{{"choices": [{{"text": "{text}", "finish_reason": {finish}}}]}}'


def read(events: list[str], sampling: Sampling) -> tuple[str, Finished]:
    answer = Answer("remote", sampling)
    text = ""
    for event in [*events, "[DONE]"]:
        for read_chunk in read_event("", event):
            if not answer.is_over:
                text += "".join(token.text for token in answer.take(read_chunk))
    return text, answer.finished()


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("", "", []),
        ("", "[DONE]", [Chunk(is_done=True)]),
        ("message", " [DONE] ", [Chunk(is_done=True)]),
        ("", chunk(" hi"), [Chunk(text=" hi")]),
        ("", chunk("", '"length"'), [Chunk(finish_reason="length")]),
        ("", '{"choices": []}', [Chunk()]),
        ("", '{"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2}}', [Chunk(prompt_tokens=9, completion_tokens=2)]),
        ("", '{"choices": [{"text": null}], "usage": null}', [Chunk()]),
        ("", '{"choices": 3}', [Chunk()]),
        ("", "{}", [Chunk()]),
        ("", '{"error": {"message": "out of memory"}}', [Chunk(error="out of memory")]),
        ("", '{"object": "error", "message": "out of memory"}', [Chunk(error="out of memory")]),
        ("", '{"choices": [{"text": "", "finish_reason": "error", "error": {"message": "gone"}}]}', [Chunk(error="gone")]),
        ("", chunk("", '"abort"'), [Chunk(error='the text ended for the reason "abort"')]),
        ("error", '{"message": "out of memory", "code": 500}', [Chunk(error="out of memory")]),
        ("error", "out of memory", [Chunk(error="out of memory")]),
        ("ping", "2026-11-30 10:00:00", []),
        ("", "[1]", [Chunk(error="an event that is not an object: [1]")]),
        ("", "{half", [Chunk(error="an event that is not JSON: {half")]),
        ("", "[" * 100_000, [Chunk(error="an event that is not JSON: " + "[" * 120)]),
        ("", f"{chunk('a')}\n{chunk('b')}", [Chunk(text="a"), Chunk(text="b")]),
        ("", '{"choices": [{"text": "a",\n "finish_reason": null}]}', [Chunk(text="a")]),
    ],
)
def test_an_event_of_the_stream_is_read(name: str, data: str, expected: list[Chunk]) -> None:
    assert list(read_event(name, data)) == expected


@pytest.mark.parametrize("count", ["-1", "true", '"7"', "1.5", "NaN", "Infinity", "1e400", "99999999999999999999", "null", "[]"])
def test_a_count_of_tokens_that_is_none_is_not_taken(count: str) -> None:
    (chunk_read,) = read_event("", f'{{"choices": [], "usage": {{"prompt_tokens": {count}, "completion_tokens": {count}}}}}')
    assert (chunk_read.prompt_tokens, chunk_read.completion_tokens) == (-1, -1)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_lines_are_passed_on_whole_however_they_arrive(size: int, end: bytes) -> None:
    sent = b"\xef\xbb\xbf" + end.join([b"data: {1}", b"", "data: \u2028é".encode(), b"", b"data: last"])
    tidy = Tidy()
    passed = [tidy.feed(sent[at : at + size]) for at in range(0, len(sent), size)]
    assert b"".join(passed) + tidy.end() == sent.removeprefix(b"\xef\xbb\xbf") + b"\n\n"
    assert all(lines.endswith((b"\n", b"\r")) for lines in passed if lines)


def test_an_error_line_becomes_an_error_event() -> None:
    assert Tidy().feed(b'data: 1\n\nerror: {"code": 500}\n\n') == b'data: 1\n\nevent: error\ndata: {"code": 500}\n\n'


@pytest.mark.parametrize("filler", [b"x", b"data: x\n"])
def test_an_event_without_an_end_is_not_held_for_ever(filler: bytes) -> None:
    block = filler * (MAX_EVENT_BYTES // len(filler))
    tidy = Tidy()
    tidy.feed(block)
    with pytest.raises(EventTooLong):
        tidy.feed(filler * 2)


def test_many_events_may_be_longer_together() -> None:
    tidy = Tidy()
    block = b"data: x\n\n" * 100_000
    for _ in range(MAX_EVENT_BYTES // len(block) + 2):
        assert tidy.feed(block) == block


def test_text_usage_and_reason_are_read_in_any_order() -> None:
    usage = '{"choices": [], "usage": {"prompt_tokens": 4}}'
    lines = [usage, chunk(" a"), chunk(" b", '"stop"'), chunk("ignored")]
    assert read(lines, Sampling(max_tokens=9)) == (" a b", Finished(FinishReason.STOP, 4))


def test_a_stream_that_ends_with_all_its_tokens_and_no_reason_ended_by_length() -> None:
    assert read([chunk("a"), chunk("b")], Sampling(max_tokens=2)) == ("ab", Finished(FinishReason.LENGTH))


def test_a_stream_that_ends_early_without_a_reason_has_failed() -> None:
    with pytest.raises(EngineFailed, match="before the text was complete"):
        read([chunk("a")], Sampling(max_tokens=2))


def test_a_server_that_knows_no_max_tokens_is_cut_short() -> None:
    assert read([chunk("a"), chunk("b"), chunk("c")], Sampling(max_tokens=2)) == ("ab", Finished(FinishReason.LENGTH))


def test_the_servers_count_is_told_where_it_sends_several_tokens_at_once() -> None:
    usage = '{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 8}}'
    events = [chunk("one two three four"), chunk(" five six seven eight", '"length"'), usage]
    assert read(events, Sampling(max_tokens=8)) == ("one two three four five six seven eight", Finished(FinishReason.LENGTH, 5, 8))


def test_a_stream_that_counts_all_its_tokens_and_gives_no_reason_ended_by_length() -> None:
    usage = '{"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 8}}'
    assert read([chunk("all of it"), usage], Sampling(max_tokens=8)) == ("all of it", Finished(FinishReason.LENGTH, 5, 8))


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (["\\ud83d", "\\ude00!"], "\U0001f600!"),
        (["a\\ud83d", "b"], "a\ufffdb"),
        (["a\\ude00"], "a\ufffd"),
        (["a\\ud83d"], "a\ufffd"),
        (["\\ud83d\\ude00"], "\U0001f600"),
    ],
)
def test_halves_of_a_character_are_joined_or_shown_as_unreadable(parts: list[str], text: str) -> None:
    assert read([*map(chunk, parts), chunk("", '"stop"')], Sampling(max_tokens=9))[0] == text


def test_an_error_after_the_whole_text_takes_nothing_back() -> None:
    assert read([chunk("a", '"stop"'), '{"error": "late"}'], Sampling(max_tokens=9)) == ("a", Finished(FinishReason.STOP))


def test_a_server_that_knows_no_stop_strings_is_cut_at_them() -> None:
    sampling = Sampling(max_tokens=9, stop=("b c",))
    assert read([chunk("a "), chunk("b "), chunk("c "), chunk("d", '"length"')], sampling) == ("a ", Finished(FinishReason.STOP))


def test_an_error_in_the_stream_is_told() -> None:
    with pytest.raises(EngineFailed, match="out of memory"):
        read([chunk("a"), '{"error": "out of memory"}'], Sampling(max_tokens=2))


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
    answer = refusal(SPEC, status, said, 3.0)
    assert type(answer) is type(error)
    assert f"{status}" in str(answer)
    assert said in str(answer)
    assert getattr(answer, "field", None) == getattr(error, "field", None)
    assert getattr(answer, "retry_after_s", None) == getattr(error, "retry_after_s", None)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("0.5", 0.5),
        ("-3", 0.0),
        ("99999999", 3600.0),
        ("nan", 1.0),
        ("inf", 1.0),
        ("1e999", 1.0),
        ("soon", 1.0),
        ("", 1.0),
        ("Mon, 30 Nov 2026 10:00:30 GMT", 30.0),
        ("Mon, 30 Nov 2026 09:00:00 GMT", 0.0),
        ("Mon, 99 Nov 2026 09:00:00 GMT", 1.0),
    ],
)
def test_the_time_to_come_again_is_a_number_a_date_or_a_second(value: str, seconds: float) -> None:
    assert retry_after_s({"retry-after": value, "date": "Mon, 30 Nov 2026 10:00:00 GMT"}) == seconds


def test_a_date_beside_none_is_no_time() -> None:
    assert retry_after_s({"retry-after": "Mon, 30 Nov 2026 10:00:30 GMT"}) == 1.0
    assert retry_after_s({"retry-after": "Mon, 30 Nov 2026 10:00:30", "date": "Mon, 30 Nov 2026 10:00:00 GMT"}) == 1.0


def test_a_refused_key_names_the_variable() -> None:
    assert "TEST_KEY" in str(refusal(SPEC, 401, "no key"))


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
