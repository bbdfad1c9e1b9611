"""The verbs that ask for work: schedule and generate."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import aclosing
from typing import Annotated

import typer

from roost.client.cli.connection import Connection, calls_cluster
from roost.client.cli.exits import ExitCode
from roost.client.cli.json_views import cache_json, decision_json, generation_json
from roost.client.cli.options import (
    USE,
    AsJson,
    LongTimeout,
    Model,
    Priority,
    RequestId,
    Timeout,
    examples,
    finite,
)
from roost.client.cli.running import print_json, run, say
from roost.client.client import RoostClient
from roost.client.errors import ClusterUnreachable
from roost.client.gathering import Gathering
from roost.client.requests import GenerateOptions
from roost.client.results import Decision, Event, Exactness, Generation, Resumed, ResumePolicy, Scheduled, Token
from roost.cluster.errors import InvalidField
from roost.flow.effects import Pause


def register(app: typer.Typer) -> None:
    app.command(
        rich_help_panel=USE,
        epilog=examples(
            'roost generate gemma-3-270m "Once upon a time" --max-tokens 40',
            "roost generate gemma-3-270m - < prompt.txt",
            'roost generate gemma-3-270m "The capital of France is" --verbose --max-tokens 8',
        ),
    )(generate)
    app.command(
        rich_help_panel=USE,
        epilog=examples("roost schedule gemma-3-270m", "roost schedule llama-7b --priority 5 --json", "roost schedule llama-7b --reserve"),
    )(schedule)


@calls_cluster
def schedule(
    model: Model,
    *,
    connection: Connection,
    priority: Priority = 0,
    request_id: RequestId = "",
    exclude: Annotated[list[str] | None, typer.Option("--exclude", metavar="WORKER", help="A worker not to choose; repeatable.")] = None,
    deadline: Annotated[
        float,
        typer.Option(
            "--deadline", metavar="S", callback=finite, help="Seconds you can wait for the first token; 0: no bound.", show_default=False
        ),
    ] = 0.0,
    reserve: Annotated[
        bool, typer.Option("--reserve", metavar="", help="Reserve a place there and count the decision, as for a request that follows.")
    ] = False,
    timeout: Timeout = 10.0,
    as_json: AsJson = False,
) -> None:
    """Ask where a request for MODEL would run, and why. Nothing is run, reserved or counted."""

    async def main() -> None:
        async with connection.client(timeout_s=timeout) as client:
            decision = await client.schedule(
                model, priority=priority, request_id=request_id, excluded=exclude or (), deadline_s=deadline, dry_run=not reserve
            )
        if as_json:
            print_json(decision_json(decision))
        else:
            print(f"{decision.worker_id}  {decision.action.name}  {decision.estimated_wait_time:.3f} s  {decision.worker_address or '-'}")
            print(decision.reason)
            print(what_was_done(decision))
        if not (reserve or decision.is_dry_run):
            say("roost: the scheduler is of an earlier version, which knows no dry run: it reserved a place and counted the decision")

    run(main, as_json=as_json)


@calls_cluster
def generate(
    model: Model,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help='The text to continue; "-" reads it from stdin.', show_default=False)],
    *,
    connection: Connection,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", metavar="N", help="Tokens at most; 0: the model's default.", show_default=False)
    ] = 0,
    temperature: Annotated[
        float,
        typer.Option(
            "--temperature",
            metavar="T",
            callback=finite,
            help="0-2; 0, the default, takes the most likely token each time.",
            show_default=False,
        ),
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option("--top-p", metavar="P", callback=finite, help="Nucleus sampling, 0-1; 0: no cut.", show_default=False)
    ] = 0.0,
    top_k: Annotated[int, typer.Option("--top-k", metavar="K", help="Only the K most likely tokens; 0: no cut.", show_default=False)] = 0,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="Seed of the sampler.", show_default=False)] = None,
    stop: Annotated[list[str] | None, typer.Option("--stop", metavar="TEXT", help="End before this text; repeatable.")] = None,
    priority: Priority = 0,
    request_id: RequestId = "",
    max_attempts: Annotated[int, typer.Option("--max-attempts", metavar="N", help="Workers to ask at most.")] = 4,
    resume: Annotated[
        ResumePolicy,
        typer.Option(
            "--resume",
            help="When its worker is lost: go on elsewhere with the very text that it would have been (exact), exactly where that is quick "
            "(fast), or not at all (never).",
        ),
    ] = ResumePolicy.FAST,
    timeout: LongTimeout = 600.0,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", metavar="", help="Say on stderr which worker was chosen and why, and the timings.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Generate text with MODEL and stream it. Only the text is printed on stdout."""
    options = GenerateOptions(
        max_tokens=max_tokens,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        seed=seed,
        stop=stop or (),
        priority=priority,
        request_id=request_id,
        max_attempts=max_attempts,
        resume=resume,
        timeout_s=timeout,
    )

    async def main() -> ExitCode:
        text = read_prompt(prompt)
        async with connection.client(timeout_s=min(timeout, 10.0)) as client:
            generation = await stream_text(client, model, text, options, is_shown=not as_json, is_explained=verbose)
        if as_json:
            print_json(generation_json(generation))
        return ExitCode.OK

    run(main, as_json=as_json)


def what_was_done(decision: Decision) -> str:
    """Whether the decision left anything behind."""
    if decision.is_dry_run:
        return "a dry run: nothing is reserved or counted (--reserve does both)"
    return f"reserved and counted as {decision.decision_id}"


def read_prompt(prompt: str) -> str:
    """The prompt itself, or stdin for "-". Raises InvalidField if stdin is no text."""
    if prompt != "-":
        return prompt
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InvalidField("prompt", f"on stdin is not UTF-8 text: {error}") from error


async def stream_text(
    client: RoostClient, model: str, prompt: str, options: GenerateOptions, *, is_shown: bool, is_explained: bool
) -> Generation:
    """Generates, with the text on stdout as it comes (one newline at its end) and the explanations on stderr."""
    gathering = Gathering()
    has_text = False
    if is_shown:
        options = {**options, "on_pause": Waits(say).note}
    try:
        async with aclosing(client.generate(model, prompt, **options)) as events:
            async for event in events:
                gathering.add(event)
                if is_explained and isinstance(event, Scheduled):
                    _explain_choice(event)
                if isinstance(event, Resumed):
                    say(resumed_line(event))
                if is_shown and isinstance(event, Token):
                    print(event.text, end="", flush=True)
                    has_text = has_text or bool(event.text)
    finally:
        if is_shown and has_text:
            print(flush=True)
    generation = gathering.generation()
    if is_shown and not has_text:
        print(flush=True)
    if is_explained:
        say(footer(generation))
    return generation


class Waits:
    """Says why a request waits, once for each reason in a row. State: the last one."""

    def __init__(self, say_it: Callable[[str], None]) -> None:
        self._say_it = say_it
        self._last = ""

    def note(self, pause: Pause) -> None:
        if pause.cause is None:  # a worker did not do it: `attempt` lines tell of that
            return
        if isinstance(pause.cause, ClusterUnreachable):
            line = f"roost: waiting for a scheduler: {pause.cause}"
        else:
            line = f"roost: waiting: {pause.cause}"
        if line != self._last:
            self._last = line
            self._say_it(line)


def _explain_choice(event: Event) -> None:
    if isinstance(event, Scheduled):
        if event.previous:
            say(f"attempt {event.attempt}, because {event.previous}")
        say(header(event.decision))


def resumed_line(event: Resumed) -> str:
    """Who goes on for whom, and whether the text may differ."""
    how = f" (approximately: {event.approximate_because})" if event.exactness is Exactness.APPROXIMATE else ""
    return f"roost: {event.from_worker} was lost; {event.to_worker} goes on from token {event.index}{how}"


def header(decision: Decision) -> str:
    """Which worker, what it will do, and why."""
    return f"→ {decision.worker_id}  {decision.action.name}: {decision.reason}"


def footer(generation: Generation) -> str:
    """How fast it was, and where the time went."""
    timings, tokens = generation.timings, generation.usage.completion_tokens
    rate = f" at {(tokens - 1) / timings.decode_s:.1f} tokens/s" if tokens > 1 and timings.decode_s > 0 else ""
    return (
        f"← {generation.worker_id}  {cache_json(generation.cache)}: {tokens} tokens{rate}, "
        f"prompt {generation.usage.prompt_tokens} tokens; "
        f"queued {timings.queued_s:.3f} s, load {timings.load_s:.3f} s, prefill {timings.prefill_s:.3f} s, "
        f"decode {timings.decode_s:.3f} s; "
        f"ended by {generation.finish_reason.value}"
    )
