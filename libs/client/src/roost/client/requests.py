"""What a caller asks of a generation, checked before anything is sent: the wire would refuse it with fewer words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypedDict

from roost.client.codec import RESUME_POLICIES
from roost.cluster.errors import InvalidField
from roost.flow.effects import Pause
from roost.flow.steps import ResumePolicy
from roost.v1 import worker_pb2

MAX_PROMPT_BYTES = 8 * 1024 * 1024  # the contract's bound; more would not pass a server's message limit
MAX_INT32 = 2**31 - 1
MAX_UINT32 = 2**32 - 1


class GenerateOptions(TypedDict, total=False):
    """Everything optional about a generation. 0 (for `seed`: None) leaves the choice to the worker.

    `max_attempts` bounds the workers asked (4 by default); `timeout_s` bounds the whole, waits and attempts included: schedulers are told
    of it, and refuse what cannot begin in time. `allow_queueing` (True by default): the request may wait in the scheduler where that is
    better than any worker now. `on_pause` is called with each pause that is made before a scheduler is asked again.

    `resume` (FAST by default): what becomes of it when its worker is lost after the first token. `silence_s` (3 by default, 1.5 or more): a
    worker that says nothing for so long is lost.
    """

    max_tokens: int
    temperature: float
    top_p: float
    top_k: int
    seed: int | None
    stop: Sequence[str]
    priority: int
    request_id: str
    max_attempts: int
    timeout_s: float | None
    allow_queueing: bool
    on_pause: Callable[[Pause], None]
    resume: ResumePolicy
    silence_s: float


def generate_request(
    model: str, prompt: str, request_id: str, options: GenerateOptions, generation_id: bytes = b""
) -> worker_pb2.GenerateRequest:
    """The wire's request, without a decision and what an attempt adds. Raises InvalidField for what cannot be written at all."""
    check_prompt(prompt)
    for name, value, bound in (
        ("max_tokens", options.get("max_tokens", 0), MAX_INT32),
        ("top_k", options.get("top_k", 0), MAX_INT32),
        ("priority", options.get("priority", 0), MAX_INT32),
        ("seed", options.get("seed") or 0, MAX_UINT32),
    ):
        if not 0 <= value <= bound:
            raise InvalidField(name, f"must be 0-{bound} (got {value})")
    try:
        return worker_pb2.GenerateRequest(
            request_id=request_id,
            model=model,
            prompt=prompt,
            priority=options.get("priority", 0),
            max_tokens=options.get("max_tokens", 0),
            temperature=options.get("temperature", 0.0),
            top_p=options.get("top_p", 0.0),
            top_k=options.get("top_k", 0),
            seed=options.get("seed"),
            stop=options.get("stop", ()),
            generation_id=generation_id,
            resume_policy=RESUME_POLICIES[options.get("resume", ResumePolicy.FAST)],
        )
    except UnicodeEncodeError as error:
        raise InvalidField("request", f"has text that is not valid Unicode: {error.object[:40]!r}") from error


def check_prompt(prompt: str) -> None:
    """Raises InvalidField if the prompt is empty, too long or no text."""
    if not prompt:
        raise InvalidField("prompt", "is empty; give the text to continue")
    try:
        size_bytes = len(prompt.encode())
    except UnicodeEncodeError as error:
        raise InvalidField("prompt", "is not valid Unicode text") from error
    if size_bytes > MAX_PROMPT_BYTES:
        raise InvalidField("prompt", f"has {size_bytes} bytes; at most {MAX_PROMPT_BYTES} are allowed")
