"""Recorded requests: the formats that are read, told apart by their columns. Files may be gzipped. docs/simulator.md shows each.

A trace is a list of `TraceRow`, in order of arrival, the first at 0 s or later. What a format does not say is 0 or "".
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import IO, Final, NamedTuple

from roost.cluster.names import MAX_MODEL_NAME
from roost.sim.seeds import rng_for

MAX_ROWS: Final = 20_000_000  # some 2 GB; a longer trace is better cut by its owner
MINUTE_S: Final = 60.0
PROMPT_TOKENS: Final = 200  # where a format tells no tokens
OUTPUT_TOKENS: Final = 100


class TraceRow(NamedTuple):
    """One request. `service_s` is 0.0 where the format does not say how long it ran."""

    arrival_s: float
    model: str
    prompt_tokens: int
    output_tokens: int
    service_s: float = 0.0


class UnreadableTrace(ValueError):
    """A file is no trace that can be read, or a line of it is not."""

    def __init__(self, path: Path, line: int, problem: str) -> None:
        super().__init__(f"{path} line {line}: {problem}")
        self.line = line


Row = Mapping[str, str]
Reads = Callable[[Row], TraceRow]


def read_trace(path: Path, *, limit: int = MAX_ROWS, seed: int = 1) -> list[TraceRow]:
    """Up to `limit` rows, ordered by arrival. `seed` places the calls of formats that tell only how many there were in a minute.

    Raises UnreadableTrace, OSError.
    """
    with closing(_opened(path)) as file:
        rows = list(_json_rows(path, file)) if ".jsonl" in path.suffixes else list(_csv_rows(path, file, limit, seed))
    if not rows:
        raise UnreadableTrace(path, 1, "holds no requests")
    rows.sort(key=lambda row: row.arrival_s)
    del rows[limit:]
    first_s = rows[0].arrival_s
    return [row._replace(arrival_s=row.arrival_s - first_s) for row in rows] if first_s > 86_400.0 or first_s < 0 else rows


def _opened(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8", newline="")
    return path.open(encoding="utf-8", newline="")


# --- one request a line ---------------------------------------------------------------------------


def _csv_rows(path: Path, file: IO[str], limit: int, seed: int) -> Iterator[TraceRow]:
    reader = csv.DictReader(file)
    columns = tuple(reader.fieldnames or ())
    if "HashFunction" in columns and "1" in columns:
        yield from _azure_functions(path, reader, limit, seed)
        return
    reads = _reads_of(path, columns)
    for row in reader:
        try:
            parsed = reads(row)
        except (ValueError, TypeError, KeyError) as error:
            raise UnreadableTrace(path, reader.line_num, f"cannot be read: {error}") from error
        if parsed.output_tokens >= 0:
            yield parsed


def _reads_of(path: Path, columns: Sequence[str]) -> Reads:
    for needed, reads in _FORMATS:
        if set(needed) <= set(columns):
            return reads
    known = "; ".join(", ".join(needed) for needed, _ in _FORMATS)
    raise UnreadableTrace(
        path, 1, f"the columns {', '.join(columns) or '(none)'} are of no format that is known: {known}; or Mooncake's .jsonl"
    )


def _roost(row: Row) -> TraceRow:
    return TraceRow(_seconds(row["arrival_s"]), _model(row["model"]), int(row["prompt_tokens"]), int(row["output_tokens"]))


def _azure_llm(row: Row) -> TraceRow:
    return TraceRow(_moment_s(row["TIMESTAMP"]), "", int(row["ContextTokens"]), int(row["GeneratedTokens"]))


def _burst_gpt(row: Row) -> TraceRow:
    """A response of 0 tokens is a request that failed there, and is left out."""
    answered = int(float(row["Response tokens"]))
    return TraceRow(_seconds(row["Timestamp"]), _model(row["Model"]), int(float(row["Request tokens"])), answered or -1)


def _azure_functions_2021(row: Row) -> TraceRow:
    """One invocation a line, told at its end."""
    service_s = float(row["duration"])
    name = f"{row['app'][:12]}-{row['func'][:12]}"
    return TraceRow(max(0.0, float(row["end_timestamp"]) - service_s), name, PROMPT_TOKENS, OUTPUT_TOKENS, service_s)


_FORMATS: Final[tuple[tuple[tuple[str, ...], Reads], ...]] = (
    (("arrival_s", "model", "prompt_tokens", "output_tokens"), _roost),
    (("TIMESTAMP", "ContextTokens", "GeneratedTokens"), _azure_llm),
    (("Timestamp", "Model", "Request tokens", "Response tokens"), _burst_gpt),
    (("app", "func", "end_timestamp", "duration"), _azure_functions_2021),
)


def _json_rows(path: Path, file: IO[str]) -> Iterator[TraceRow]:
    """Mooncake: {"timestamp": ms, "input_length": n, "output_length": n, "hash_ids": [...]} a line."""
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            told = json.loads(text)
            yield TraceRow(_seconds(told["timestamp"]) / 1000.0, "", int(told["input_length"]), int(told["output_length"]))
        except (ValueError, TypeError, KeyError) as error:
            raise UnreadableTrace(path, line, f"is no line of a Mooncake trace: {error}") from error


# --- counts by the minute -------------------------------------------------------------------------


def _azure_functions(path: Path, reader: csv.DictReader[str], limit: int, seed: int) -> Iterator[TraceRow]:
    """Azure Functions 2019: a function a line, its invocations in each minute of a day; each falls anywhere within its minute."""
    rng, told = rng_for(seed, "calls within their minute"), 0
    minutes = sorted((column for column in reader.fieldnames or () if column.isdecimal()), key=int)
    for row in reader:
        name = f"{row['HashApp'][:12]}-{row['HashFunction'][:12]}" if "HashApp" in row else row["HashFunction"][:25]
        for minute in minutes:
            try:
                calls = int(row[minute] or 0)
            except ValueError as error:
                raise UnreadableTrace(path, reader.line_num, f"minute {minute}: {error}") from error
            told += calls
            if told > MAX_ROWS:
                raise UnreadableTrace(path, reader.line_num, f"more than {MAX_ROWS} calls; cut the file (limit {limit})")
            for _ in range(calls):
                yield TraceRow((int(minute) - 1 + rng.random()) * MINUTE_S, name, PROMPT_TOKENS, OUTPUT_TOKENS)


# --- fields ---------------------------------------------------------------------------------------


def _seconds(text: str | float) -> float:
    seconds = float(text)
    if not 0.0 <= seconds < 1e12:
        raise ValueError(f"{text!r} is no time in seconds")
    return seconds


def _moment_s(text: str) -> float:
    """Seconds since 1970 of "2023-11-16 18:15:46.6805900": seven decimals, of which Python reads six."""
    whole, _, fraction = text.partition(".")
    moment = datetime.fromisoformat(f"{whole}+00:00")
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


def _model(text: str) -> str:
    name = text.strip().replace(" ", "-")
    if not name or len(name) > MAX_MODEL_NAME:
        raise ValueError(f"{text!r} is no name of a model")
    return name


# --- one model's trace for many models --------------------------------------------------------------


class Skew(NamedTuple):
    """How unlike the models of a trace are: `top_share` of the most popular one, and the CV of their shares (0: all alike)."""

    models: int
    top_share: float
    cv: float


def skew_of(rows: Iterable[TraceRow]) -> Skew:
    """Of the requests of each model."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.model] = counts.get(row.model, 0) + 1
    total, models = sum(counts.values()), len(counts)
    if not total:
        raise ValueError("a trace without requests has no skew")
    mean = total / models
    variance = math.fsum((count - mean) ** 2 for count in counts.values()) / models
    return Skew(models, max(counts.values()) / total, variance**0.5 / mean)


def round_robin(rows: Sequence[TraceRow], models: int) -> list[TraceRow]:
    """Request i goes to model i mod `models` (AlpaServe, Li et al., OSDI 2023, section 6.2): all alike popular, each less bursty."""
    return [row._replace(model=_named(number % models, models)) for number, row in enumerate(rows)]


def stripe(rows: Sequence[TraceRow], models: int, period_s: float = MINUTE_S) -> list[TraceRow]:
    """The time in pieces of `period_s`, piece i to model i mod `models`: the load moves from model to model, each bursty at its turn.

    Within one period one model has everything; over the whole trace the shares differ as the load of their pieces does.
    """
    if period_s <= 0:
        raise ValueError(f"period_s must be more than 0 (got {period_s})")
    return [row._replace(model=_named(int(row.arrival_s / period_s) % models, models)) for row in rows]


def _named(number: int, models: int) -> str:
    return f"model-{number:0{len(str(models - 1))}}"


# --- into a run -------------------------------------------------------------------------------------


def models_of(rows: Iterable[TraceRow]) -> tuple[str, ...]:
    """Their names, most asked for first; a trace that names none is of one model, "model"."""
    counts: dict[str, int] = {}
    for row in rows:
        name = row.model or "model"
        counts[name] = counts.get(name, 0) + 1
    return tuple(sorted(counts, key=lambda name: (-counts[name], name)))


def scaled(rows: Iterable[TraceRow], speed: float) -> list[TraceRow]:
    """As if all arrivals came `speed` times as fast."""
    if not speed > 0:
        raise ValueError(f"speed must be more than 0 (got {speed})")
    return [row._replace(arrival_s=row.arrival_s / speed) for row in rows]
