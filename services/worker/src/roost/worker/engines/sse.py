"""What the events of a completion say, as OpenAI-compatible servers send them, and the bytes that need tidying before. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

DONE: Final = "[DONE]"
MAX_EVENT_BYTES: Final = 4 * 1024 * 1024  # far beyond any token, and below what would hurt the worker
MAX_TOKENS_TOLD: Final = 2**31 - 1  # what a count on the wire holds

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_ERROR_FIELD: Final = re.compile(rb"(?m)^error:")  # llama-server before autumn 2025; the standard would have it ignored
_EVENT_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")
_TEXT_EVENTS: Final = ("", "message", "completion")
_BROKEN: Final = ("error", "abort", "aborted", "cancelled", "canceled")  # reasons that say that the text is not whole


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one event of a completion says; every part may be absent (-1: no count). `error` is the server's own sentence."""

    text: str = ""
    finish_reason: str = ""
    prompt_tokens: int = -1
    completion_tokens: int = -1
    is_done: bool = False
    error: str = ""


class EventTooLong(ValueError):
    """An event that does not end."""


class Tidy:
    """Passes whole lines on, in the form in which a reader of server-sent events takes them; bounds what one event may take.

    The mark that some editors and frameworks put at the beginning of a stream goes, and "error:" lines become error events.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._event_bytes = 0
        self._has_begun = False

    def feed(self, block: bytes) -> bytes:
        """The lines that became whole. Raises EventTooLong."""
        held = self._rest + block
        if not self._has_begun:
            if len(held) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(held):
                self._rest = held
                return b""
            self._has_begun, held = True, held.removeprefix(_BYTE_ORDER_MARK)
        end = max(held.rfind(b"\n"), held.rfind(b"\r")) + 1
        lines, self._rest = held[:end], held[end:]
        self._count(lines)
        return _tidied(lines)

    def end(self) -> bytes:
        """What is left when the stream ends: the last event, also where its blank line is missing."""
        return _tidied(self._rest) + b"\n\n"

    def _count(self, lines: bytes) -> None:
        ends = [found.end() for found in _EVENT_END.finditer(lines)]
        self._event_bytes = len(lines) - ends[-1] if ends else self._event_bytes + len(lines)
        if self._event_bytes + len(self._rest) > MAX_EVENT_BYTES:
            raise EventTooLong(f"an event of more than {MAX_EVENT_BYTES} bytes")


def _tidied(lines: bytes) -> bytes:
    return _ERROR_FIELD.sub(b"event: error\ndata:", lines)


def read_event(name: str, said: str) -> tuple[Chunk, ...]:
    """The chunks in one event named `name` ("" where it has no name); none where it says nothing of the text."""
    data = said.strip()
    if not data:
        return ()
    if data == DONE:
        return (Chunk(is_done=True),)
    event = _json(data)
    if event is None and "\n" in data:  # events that no blank line keeps apart: each line is one
        return tuple(chunk for line in data.split("\n") for chunk in read_event(name, line))
    if name == "error":
        return (Chunk(error=error_text(data if event is None else event)),)
    if not isinstance(event, dict):
        problem = "JSON" if event is None else "an object"
        return (Chunk(error=f"an event that is not {problem}: {data[:120]}"),) if name in _TEXT_EVENTS else ()
    return (_chunk(event),)


def _json(data: str) -> object | None:
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    return value


def _chunk(event: Mapping[str, object]) -> Chunk:
    if event.get("error") or event.get("object") == "error" or event.get("error_code"):
        return Chunk(error=error_text(event))
    choices = event.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    text, finish_reason = choice.get("text"), choice.get("finish_reason")
    if choice.get("error") or finish_reason in _BROKEN:
        return Chunk(error=error_text(choice) if choice.get("error") else f'the text ended for the reason "{finish_reason}"')
    usage = event.get("usage")
    counts = usage if isinstance(usage, dict) else {}
    return Chunk(
        text=text if isinstance(text, str) else "",
        finish_reason=finish_reason if isinstance(finish_reason, str) else "",
        prompt_tokens=_count(counts.get("prompt_tokens")),
        completion_tokens=_count(counts.get("completion_tokens")),
    )


def _count(value: object) -> int:
    """A count of tokens, or -1 for whatever is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MAX_TOKENS_TOLD:
        return -1
    return int(value) if value == int(value) else -1


def error_text(answer: object) -> str:
    """The sentence in an error answer, whichever of the usual shapes it has."""
    if isinstance(answer, dict):
        inner = answer.get("error", answer)
        if isinstance(inner, dict):
            inner = inner.get("message") or inner.get("detail") or inner
        return str(inner)[:500]
    return str(answer)[:500]
