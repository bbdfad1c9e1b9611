"""Reading recorded requests."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from roost.sim.traces import TraceRow, UnreadableTrace, models_of, read_trace, round_robin, scaled, skew_of, stripe

TRACES = Path(__file__).parents[2].parent / "shared/traces"
needs_traces = pytest.mark.skipif(not TRACES.is_dir(), reason=f"no traces at {TRACES}")


def written(folder: Path, name: str, *lines: str) -> Path:
    path = folder / name
    text = "".join(f"{line}\n" for line in lines)
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def test_our_own_format_is_read_whatever_else_a_line_has(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", "req_id,arrival_s,model,prompt_tokens,output_tokens", "0,0.5,llama,13,199", "1,0.25,gemma,36,137")
    assert read_trace(path) == [TraceRow(0.25, "gemma", 36, 137), TraceRow(0.5, "llama", 13, 199)]


def test_azure_traces_of_language_models_are_read_zipped_or_not(tmp_path: Path) -> None:
    lines = "TIMESTAMP,ContextTokens,GeneratedTokens", "2023-11-16 18:15:46.6805900,374,44", "2023-11-16 18:15:50.9951690,396,109"
    for name in ("t.csv", "t.csv.gz"):
        first, second = read_trace(written(tmp_path, name, *lines))
        assert first == TraceRow(0.0, "", 374, 44)
        assert second.arrival_s == pytest.approx(4.314579, abs=1e-5)


def test_burst_gpt_is_read_without_the_requests_that_failed(tmp_path: Path) -> None:
    columns = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"
    path = written(tmp_path, "t.csv", columns, "5,ChatGPT,472,18,490,Conversation log", "45,GPT-4,1087,0,1087,API log")
    assert read_trace(path) == [TraceRow(5.0, "ChatGPT", 472, 18)]


def test_mooncake_is_read_in_milliseconds(tmp_path: Path) -> None:
    line = '{"timestamp": 1500, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}'
    assert read_trace(written(tmp_path, "t.jsonl", line)) == [TraceRow(1.5, "", 6758, 500)]


def test_azure_functions_by_the_minute_put_each_call_into_its_minute(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", "HashOwner,HashApp,HashFunction,Trigger,1,2,3", "o,a,f,http,2,0,1", "o,a,g,timer,0,1,0")
    rows = read_trace(path, seed=4)
    assert [(int(row.arrival_s // 60), row.model) for row in rows] == [(0, "a-f"), (0, "a-f"), (1, "a-g"), (2, "a-f")]
    assert read_trace(path, seed=4) == rows != read_trace(path, seed=5)


def test_azure_functions_by_the_call_say_how_long_each_ran(tmp_path: Path) -> None:
    path = written(tmp_path, "t.csv", "app,func,end_timestamp,duration", "a,f,10.5,0.5")
    assert read_trace(path) == [TraceRow(10.0, "a-f", 200, 100, 0.5)]


@pytest.mark.parametrize(
    ("name", "lines", "told"),
    [
        ("t.csv", ["a,b", "1,2"], r"line 1: the columns a, b are of no format that is known"),
        ("t.csv", ["arrival_s,model,prompt_tokens,output_tokens", "0,m,1,1", "x,m,1,1"], "line 3: cannot be read: could not convert"),
        ("t.csv", ["arrival_s,model,prompt_tokens,output_tokens", "-1,m,1,1"], "line 2: .* is no time in seconds"),
        ("t.csv", ["arrival_s,model,prompt_tokens,output_tokens", "0,,1,1"], "line 2: .* is no name of a model"),
        ("t.csv", ["arrival_s,model,prompt_tokens,output_tokens"], "line 1: holds no requests"),
        ("t.jsonl", ["{}"], "line 1: is no line of a Mooncake trace"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_line(tmp_path: Path, name: str, lines: list[str], told: str) -> None:
    with pytest.raises(UnreadableTrace, match=told):
        read_trace(written(tmp_path, name, *lines))


def test_round_robin_makes_all_models_alike_and_stripe_gives_each_its_time() -> None:
    rows = [TraceRow(float(at), "", 1, 1) for at in range(240)]
    even, turns = round_robin(rows, 4), stripe(rows, 4, period_s=60.0)
    assert [row.model for row in even[:5]] == ["model-0", "model-1", "model-2", "model-3", "model-0"]
    assert {row.model for row in turns[:60]} == {"model-0"}
    assert skew_of(even) == skew_of(turns) == (4, 0.25, 0.0)


def test_stripe_keeps_the_unevenness_of_its_pieces() -> None:
    rows = [TraceRow(at / 10, "", 1, 1) for at in range(600)] + [TraceRow(60.0 + at, "", 1, 1) for at in range(60)]
    skew = skew_of(stripe(rows, 2))
    assert skew.top_share == pytest.approx(600 / 660)
    assert skew.cv > 0.8


def test_models_are_ordered_by_how_often_they_are_asked_for() -> None:
    rows = [TraceRow(0, "b", 1, 1), TraceRow(1, "a", 1, 1), TraceRow(2, "b", 1, 1), TraceRow(3, "", 1, 1)]
    assert models_of(rows) == ("b", "a", "model")
    assert [row.arrival_s for row in scaled(rows, 2.0)] == [0.0, 0.5, 1.0, 1.5]


@needs_traces
def test_the_recorded_traces_are_read_whole() -> None:
    arena = read_trace(TRACES / "lmsys_arena_vtc/arena27_trace.csv")
    assert len(arena) == 1_500
    assert skew_of(arena).models == 27
    folder = TRACES / "azure_llm_2023"
    assert len(read_trace(folder / "AzureLLMInferenceTrace_code.csv.gz")) == 8_819
    assert len(read_trace(folder / "AzureLLMInferenceTrace_conv.csv.gz")) == 19_366
