"""One model in a process of its own: `python -m roost.worker.engines.llamacpp_child`, started by the llamacpp engine only.

Reads frames from stdin and writes frames to stdout (what libraries print goes to stderr). Running generations take turns: one chunk
of prompt or one token each, so that each gives the text it would give alone and a cancel is seen within one turn. The end of stdin,
which is also the death of the worker, ends the process.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from roost.worker.engines.frames import FrameReader, Message, encode, text_of, whole_of
from roost.worker.engines.interface import FinishReason, GeneratedToken
from roost.worker.engines.llama import UNFINISHED, Context, Sampler, Weights
from roost.worker.engines.text import StopFilter

READ_BYTES: Final = 1024 * 1024
SAMPLED_CHARACTERS_PER_TOKEN: Final = 8  # about twice what ordinary text has
MOST_CHARACTERS_PER_TOKEN: Final = 256  # the longest tokens of real vocabularies are long runs of spaces, below this
CUT_TOKENS: Final = 16  # by how much the beginning of a text may have more tokens than the same part of the whole
MAX_PENDING_TOKENS: Final = 8  # a character is at most four byte tokens; what is incomplete after this never completes


class Pipe:
    """Frames over two file descriptors, which it keeps apart from what libraries print."""

    def __init__(self) -> None:
        self._input = os.dup(0)
        self._output = os.dup(1)
        os.dup2(2, 1)
        self._reader = FrameReader()

    def receive(self, *, wait: bool) -> Iterator[Message]:
        """What has arrived; waits for something if told to. Raises EOFError when the worker is gone."""
        readable, _, _ = select.select([self._input], [], [], None if wait else 0)
        if readable:
            received = os.read(self._input, READ_BYTES)
            if not received:
                raise EOFError
            yield from self._reader.feed(received)

    def first(self) -> Message:
        """The first message. Raises EOFError when the worker is gone."""
        while True:
            for message in self.receive(wait=True):
                return message

    def send(self, message: Message) -> None:
        """Waits while the worker does not read. Raises BrokenPipeError when it is gone."""
        rest = memoryview(encode(message))
        while rest:
            rest = rest[os.write(self._output, rest) :]


class Generation:
    """One prompt on its way to text. Each `advance` is one turn; the context is its own until it is over."""

    def __init__(self, order: Message, prompt: list[int], weights: Weights, context: Context) -> None:
        self.id = whole_of(order, "id")
        self.is_over = False
        self.context = context
        self._weights = weights
        self._prompt_tokens = len(prompt)
        self._unread = prompt
        self._left = min(whole_of(order, "max_tokens"), weights.context_tokens - len(prompt))
        self._pending: list[int] = []
        self._stop = StopFilter(_texts(order, "stop"))
        seed = order.get("seed")
        self._sampler = Sampler(
            temperature=_number(order, "temperature"),
            top_p=_number(order, "top_p"),
            top_k=whole_of(order, "top_k"),
            seed=seed if isinstance(seed, int) else secrets.randbits(32),
        )

    def advance(self) -> Iterator[Message]:
        """Reads one chunk, and when everything is read tells one token."""
        chunk, self._unread = self._unread[: self._weights.batch_tokens], self._unread[self._weights.batch_tokens :]
        self.context.read(chunk)
        if self._unread:
            return
        if self.context.position == self._prompt_tokens:
            yield {"is": "prompt_read", "id": self.id, "tokens": self._prompt_tokens}
        yield from self._tell_next() if self._left > 0 else self._finish(FinishReason.LENGTH)

    def _tell_next(self) -> Iterator[Message]:
        token = self.context.next_token(self._sampler)
        if self._weights.ends(token):
            yield from self._finish(FinishReason.STOP)
            return
        self._unread = [token]
        self._left -= 1
        for known in self._stop.push(GeneratedToken(token, self._certain_text(token))):
            yield self._told(known)
        if self._stop.is_stopped:
            yield from self._finish(FinishReason.STOP)
        elif self._left == 0:
            yield from self._finish(FinishReason.LENGTH)

    def _certain_text(self, token: int) -> str:
        """The text of the tokens since the last whole character; empty while one is incomplete."""
        self._pending.append(token)
        text = self._weights.text(self._pending)
        if text.endswith(UNFINISHED) and len(self._pending) < MAX_PENDING_TOKENS:
            return ""
        self._pending.clear()
        return text

    def _finish(self, reason: FinishReason) -> Iterator[Message]:
        for known in self._stop.flush():
            yield self._told(known)
        yield {"is": "finished", "id": self.id, "reason": reason.value}
        self.is_over = True

    def _told(self, token: GeneratedToken) -> Message:
        return {"is": "token", "id": self.id, "token": token.id, "text": token.text}


class UnreadablePrompt(Exception):
    """The prompt cannot be continued within the context; the text says why."""


def read_prompt(weights: Weights, prompt: str) -> list[int]:
    """The prompt's tokens, at least 1 and fewer than the context holds. Raises UnreadablePrompt.

    Cutting text into tokens takes longer than linear time (2 MB: many seconds, in which nothing else runs here), so a prompt that is
    far too long is recognised by its beginning.
    """
    limit = weights.context_tokens
    beginning = prompt[: limit * SAMPLED_CHARACTERS_PER_TOKEN]
    if len(prompt) > limit * MOST_CHARACTERS_PER_TOKEN or (
        len(prompt) > len(beginning) and len(weights.tokenize(beginning)) > limit + CUT_TOKENS
    ):
        raise UnreadablePrompt(f"has {len(prompt)} characters, more than {limit} tokens; the context holds {limit}, prompt and answer")
    tokens = weights.tokenize(prompt)
    if not tokens:
        raise UnreadablePrompt("has no tokens; there is nothing to continue")
    if len(tokens) >= limit:
        raise UnreadablePrompt(f"has {len(tokens)} tokens; the context holds {limit}, prompt and answer")
    return tokens


class Child:
    """The weights, the contexts that are free, and the generations that take turns. At most `parallel` contexts are ever made."""

    def __init__(self, pipe: Pipe, weights: Weights, parallel: int) -> None:
        self._pipe = pipe
        self._weights = weights
        self._free = [weights.open_context() for _ in range(parallel)]
        self._waiting: deque[Message] = deque()
        self._running: deque[Generation] = deque()

    def run(self) -> None:
        """Until the worker closes the pipe, which raises EOFError."""
        while True:
            for message in self._pipe.receive(wait=not self._running and not self._waiting):
                self._obey(message)
            self._start_waiting()
            if self._running:
                self._take_turn(self._running.popleft())

    def _obey(self, message: Message) -> None:
        if message.get("do") == "start":
            self._waiting.append(message)
        else:
            self._cancel(whole_of(message, "id"))

    def _cancel(self, generation_id: int) -> None:
        self._waiting = deque(order for order in self._waiting if order.get("id") != generation_id)
        for generation in [generation for generation in self._running if generation.id == generation_id]:
            self._running.remove(generation)
            self._release(generation)

    def _start_waiting(self) -> None:
        while self._waiting and self._free:
            order = self._waiting.popleft()
            try:
                prompt = read_prompt(self._weights, text_of(order, "prompt"))
                self._running.append(Generation(order, prompt, self._weights, self._free[-1]))
                self._free.pop()
            except UnreadablePrompt as refusal:
                self._pipe.send({"is": "refused", "id": order["id"], "why": str(refusal)})
            except (ValueError, RuntimeError) as error:
                self._pipe.send({"is": "failed", "id": order["id"], "why": str(error)})

    def _take_turn(self, generation: Generation) -> None:
        try:
            for message in generation.advance():
                self._pipe.send(message)
        except (ValueError, RuntimeError) as error:
            self._pipe.send({"is": "failed", "id": generation.id, "why": str(error)})
            generation.is_over = True
        if generation.is_over:
            self._release(generation)
        else:
            self._running.append(generation)

    def _release(self, generation: Generation) -> None:
        generation.context.clear()
        self._free.append(generation.context)


def _number(message: Message, key: str) -> float:
    value = message.get(key)
    return float(value) if isinstance(value, int | float) else 0.0


def _texts(message: Message, key: str) -> list[str]:
    value = message.get(key)
    return value if isinstance(value, list) else []


def main() -> int:
    """Loads what the first frame names, then serves until stdin ends."""
    pipe = Pipe()
    with contextlib.suppress(EOFError, BrokenPipeError):
        order = pipe.first()
        try:
            weights = Weights(
                Path(text_of(order, "path")),
                context_tokens=whole_of(order, "context_tokens"),
                batch_tokens=whole_of(order, "batch_tokens"),
                threads=whole_of(order, "threads"),
            )
            child = Child(pipe, weights, whole_of(order, "parallel"))
        except (ValueError, RuntimeError, OSError, MemoryError) as error:
            pipe.send({"is": "load_failed", "why": str(error)})
            return 1
        pipe.send({"is": "ready", "version": weights.engine_version})
        child.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
