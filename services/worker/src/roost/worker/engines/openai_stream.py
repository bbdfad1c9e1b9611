"""The chunks of one answer as they arrive: the connection's bytes, tidied, through httpx-sse."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Final

import httpx
from httpx_sse import EventSource

from roost.worker.engines.sse import MAX_EVENT_BYTES, Chunk, EventTooLong, Tidy, read_event

_EVENTS: Final = {"content-type": "text/event-stream; charset=utf-8"}  # events are UTF-8, whatever a server says of its answers


class NoEvents(ValueError):
    """The answer is of a kind that has no text for us. The message says of which."""


class _Tidied(httpx.AsyncByteStream):
    def __init__(self, response: httpx.Response, heard: Callable[[], None]) -> None:
        self._response = response
        self._heard = heard

    async def __aiter__(self) -> AsyncIterator[bytes]:
        tidy = Tidy()
        async for block in self._response.aiter_bytes():
            self._heard()
            if lines := tidy.feed(block):
                yield lines
        yield tidy.end()


async def chunks_of(response: httpx.Response, heard: Callable[[], None]) -> AsyncGenerator[Chunk, None]:
    """Each chunk; `heard` is called for all bytes, comments included.

    A server that does not stream answers with one object, which is read as if it had. Raises httpx.HTTPError where the connection
    breaks, NoEvents for an answer that is a page, EventTooLong.
    """
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/json":
        for chunk in (*read_event("", await read_text(response, MAX_EVENT_BYTES)), Chunk(is_done=True)):
            yield chunk
        return
    if kind == "text/html":
        raise NoEvents(f"it is a page, not text: {(await read_text(response, 4096))[:120]}")
    events = EventSource(httpx.Response(response.status_code, headers=_EVENTS, stream=_Tidied(response, heard))).aiter_sse()
    async with aclosing(events):
        async for event in events:
            for chunk in read_event(event.event, event.data):
                yield chunk


async def read_text(response: httpx.Response, limit: int) -> str:
    """The body as text; what goes beyond `limit` bytes is not read."""
    body = bytearray()
    async for block in response.aiter_bytes():
        body += block
        if len(body) > limit:
            break
    return body[:limit].decode("utf-8-sig", "replace")


__all__ = ["EventTooLong", "NoEvents", "chunks_of", "read_text"]
