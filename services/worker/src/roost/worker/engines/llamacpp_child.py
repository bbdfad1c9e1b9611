"""One model in a process of its own: `python -m roost.worker.engines.llamacpp_child`, started by the llamacpp engine only.

Reads frames from stdin and writes frames to stdout (what libraries print goes to stderr). Running generations take turns: one chunk
of prompt or one token each, so that each gives the text it would give alone and a cancel is seen within one turn. The end of stdin,
which is also the death of the worker, ends the process.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from roost.worker.engines.frames import FrameReader, Message, encode, text_of, whole_of
from roost.worker.engines.llama import Weights
from roost.worker.engines.llamacpp_turns import Generation, Unreadable, begin
from roost.worker.engines.turns import Turns

READ_BYTES: Final = 1024 * 1024


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


class Child:
    """The weights, the contexts that are free, and the generations that take turns. At most `parallel` contexts are ever made."""

    def __init__(self, pipe: Pipe, weights: Weights, parallel: int, *, clock: Callable[[], float]) -> None:
        self._pipe = pipe
        self._clock = clock
        self._weights = weights
        self._free = [weights.open_context() for _ in range(parallel)]
        self._waiting: deque[Message] = deque()
        self._running: Turns[Generation] = Turns()

    def run(self) -> None:
        """Until the worker closes the pipe, which raises EOFError."""
        while True:
            for message in self._pipe.receive(wait=not self._running and not self._waiting):
                self._obey(message)
            self._start_waiting()
            if self._running:
                self._take_turn(self._running.next())

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
                self._running.add(begin(order, self._weights, self._free[-1]))
                self._free.pop()
            except Unreadable as refusal:
                self._pipe.send({"is": "refused", "id": order["id"], "field": refusal.field, "why": str(refusal)})
            except (ValueError, RuntimeError) as error:
                self._pipe.send({"is": "failed", "id": order["id"], "why": str(error)})

    def _take_turn(self, generation: Generation) -> None:
        began_at, was_reading = self._clock(), generation.is_reading
        try:
            for message in generation.advance(began_at):
                self._pipe.send(message)
        except (ValueError, RuntimeError) as error:
            self._pipe.send({"is": "failed", "id": generation.id, "why": str(error)})
            generation.is_over = True
        self._running.took(self._clock() - began_at, was_reading=was_reading)
        if generation.is_over:
            self._release(generation)
        else:
            self._running.add(generation)

    def _release(self, generation: Generation) -> None:
        generation.context.clear()
        self._free.append(generation.context)


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
            child = Child(pipe, weights, whole_of(order, "parallel"), clock=time.monotonic)
        except (ValueError, RuntimeError, OSError, MemoryError) as error:
            pipe.send({"is": "load_failed", "why": str(error)})
            return 1
        pipe.send({"is": "ready", "fingerprint": weights.fingerprint})
        child.run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
