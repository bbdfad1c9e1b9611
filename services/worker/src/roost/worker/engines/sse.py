"""Server-sent events as OpenAI-compatible servers send them, line by line. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DONE: Final = "[DONE]"


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event of a completion says; every part may be absent. `error` is the server's own sentence."""

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = -1
    is_done: bool = False
    error: str = ""


def read_line(line: str) -> Chunk | None:
    """The chunk on one line of the stream; None for comments, blank lines and fields that say nothing of the text."""
    field, separator, value = line.partition(":")
    value = value.strip()
    if not separator or field not in ("data", "error") or not value:
        return None
    if value == DONE:
        return Chunk(is_done=True)
    try:
        event = json.loads(value)
    except ValueError:
        return Chunk(error=f"an event that is not JSON: {value[:120]}")
    if not isinstance(event, dict):
        return Chunk(error=f"an event that is not an object: {value[:120]}")
    if field == "error" or event.get("error"):
        return Chunk(error=error_text(event))
    return _read_event(event)


def _read_event(event: Mapping[str, object]) -> Chunk:
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    text, finish_reason = choice.get("text"), choice.get("finish_reason")
    usage = event.get("usage")
    prompt_tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return Chunk(
        text=text if isinstance(text, str) else "",
        finish_reason=finish_reason if isinstance(finish_reason, str) else "",
        prompt_tokens=prompt_tokens if isinstance(prompt_tokens, int) else -1,
    )


def error_text(answer: object) -> str:
    """The sentence in an error answer, whichever of the usual shapes it has."""
    if isinstance(answer, dict):
        inner = answer.get("error", answer)
        if isinstance(inner, dict):
            inner = inner.get("message") or inner.get("detail") or inner
        return str(inner)[:500]
    return str(answer)[:500]
