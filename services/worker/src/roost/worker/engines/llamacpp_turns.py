"""One generation of a llama.cpp model, turn by turn: what its prompt and its past are, what it reads next, what it tells.

Runs in the model's child process and knows neither pipe nor other generations.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from roost.worker.engines.frames import Message, number_of, text_of, texts_of, whole_of, wholes_of
from roost.worker.engines.interface import FinishReason, GeneratedToken, Sampling
from roost.worker.engines.llama import UNFINISHED, Context, Sampler, Weights
from roost.worker.engines.replay import ReadingPlan, Replay
from roost.worker.engines.text import MOST_CHARACTERS_PER_TOKEN, Telling

SAMPLED_CHARACTERS_PER_TOKEN: Final = 8  # about twice what ordinary text has
CUT_TOKENS: Final = 16  # by how much the beginning of a text may have more tokens than the same part of the whole
MAX_PENDING_TOKENS: Final = 8  # a character is at most four byte tokens; what is incomplete after this never completes
READING_S: Final = 0.5  # how far apart it is told that the prompt is still being read

_UNKNOWN_ID: Final = -1


class Unreadable(Exception):
    """What is to be continued cannot be, within the context; `field` of the request is at fault and the text says why."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(why)
        self.field = field


def read_prompt(weights: Weights, prompt: str) -> list[int]:
    """The prompt's tokens, at least 1 and fewer than the context holds. Raises Unreadable.

    Cutting text into tokens takes longer than linear time (2 MB: many seconds, in which nothing else runs here), so a prompt that is
    far too long is recognised by its beginning.
    """
    limit = weights.context_tokens
    beginning = prompt[: limit * SAMPLED_CHARACTERS_PER_TOKEN]
    if len(prompt) > limit * MOST_CHARACTERS_PER_TOKEN or (
        len(prompt) > len(beginning) and len(weights.tokenize(beginning)) > limit + CUT_TOKENS
    ):
        raise Unreadable("prompt", f"has {len(prompt)} characters, more than {limit} tokens; the context holds {limit}, prompt and answer")
    tokens = weights.tokenize(prompt)
    if not tokens:
        raise Unreadable("prompt", "has no tokens; there is nothing to continue")
    if len(tokens) >= limit:
        raise Unreadable("prompt", f"has {len(tokens)} tokens; the context holds {limit}, prompt and answer")
    return tokens


@dataclass(frozen=True, slots=True)
class Past:
    """What a generation goes on from. `prompt` and what `replay` has are read; `told` of them are generated tokens, some by text only.

    `prompt_tokens` is the length of the prompt that its caller wrote; `first_index` the index of the token that follows. `is_whole`: the
    context has no room for another one.
    """

    prompt: list[int]
    prompt_tokens: int
    replay: Replay
    told: list[int]
    first_index: int
    is_whole: bool = False

    @property
    def tokens(self) -> int:
        """How many of the context's places it takes."""
        return len(self.prompt) + len(self.replay.ids)


def past_of(order: Message, weights: Weights) -> Past:
    """Raises Unreadable."""
    text, ids = text_of(order, "text"), wholes_of(order, "ids")
    prompt = read_prompt(weights, text_of(order, "prompt"))
    replay = Replay(tuple(ids), text, number_of(order, "exactly_within_s"), text_of(order, "approximate_because"))
    if unknown := [token for token in ids if not weights.has(token)]:
        raise Unreadable("generated.ids", f"has {unknown[0]}, which is no token of this model")
    if len(prompt) + len(ids) > weights.context_tokens:
        raise Unreadable(
            "generated.ids", f"are {len(ids)} after a prompt of {len(prompt)} tokens; the context holds {weights.context_tokens}, both"
        )
    if not text:
        return Past(prompt, len(prompt), replay, ids, whole_of(order, "first_index"))
    try:
        whole = read_prompt(weights, text_of(order, "prompt") + text)
    except Unreadable:  # the prompt alone has room: what was told fills the context
        return Past(prompt, len(prompt), replay, [], whole_of(order, "first_index"), is_whole=True)
    return Past(whole, len(prompt), replay, whole[len(prompt) :], whole_of(order, "first_index"))


def sampling_of(order: Message) -> Sampling:
    """How tokens are chosen, as the order says."""
    seed = order.get("seed")
    return Sampling(
        max_tokens=whole_of(order, "max_tokens"),
        temperature=number_of(order, "temperature"),
        top_p=number_of(order, "top_p"),
        top_k=whole_of(order, "top_k"),
        seed=seed if isinstance(seed, int) else secrets.randbits(32),
        stop=tuple(texts_of(order, "stop")),
        presence_penalty=number_of(order, "presence_penalty"),
        frequency_penalty=number_of(order, "frequency_penalty"),
        repeat_penalty=number_of(order, "repeat_penalty"),
    )


def begin(order: Message, weights: Weights, context: Context) -> Generation:
    """A generation that has not taken a turn yet. Raises Unreadable."""
    return Generation(whole_of(order, "id"), past_of(order, weights), sampling_of(order), weights, context)


class Generation:
    """One prompt on its way to text. Each `advance` is one turn; the context is its own until it is over.

    State: how far it has read, what it has generated, and what of that is not yet told.
    """

    def __init__(self, number: int, past: Past, sampling: Sampling, weights: Weights, context: Context) -> None:
        self.id = number
        self.is_over = False
        self.context = context
        self._weights = weights
        self._past = past
        self._plan = ReadingPlan(past.prompt, past.replay, batch_tokens=weights.batch_tokens)
        self._index = past.first_index
        room = 0 if past.is_whole else weights.context_tokens - past.tokens
        self._left = max(0, min(sampling.max_tokens - past.first_index, room))
        self._next: int | None = None
        self._pending: list[int] = []
        self._telling = Telling(sampling.stop)
        self._sampler = Sampler(sampling, sampling.seed or 0, context_tokens=weights.context_tokens)
        self._spoken_at: float | None = None
        self._recall()

    def _recall(self) -> None:
        """Brings the stop filter, the unfinished character and the penalties to where they were when the last token was told."""
        for token in self._past.told:
            self._sampler.accept(token)
        if self._past.replay.text:
            self._telling.was_told(GeneratedToken(_UNKNOWN_ID, self._past.replay.text))
            return
        for token in self._past.replay.ids:
            self._telling.was_told(GeneratedToken(token, self._certain_text(token)))

    @property
    def is_reading(self) -> bool:
        """Whether the next turn reads a piece, which takes as long as many tokens."""
        return self._next is None

    def advance(self, now: float) -> Iterator[Message]:
        """Reads one piece, and when everything is read tells one token. `now` is any clock's seconds."""
        if self._next is not None:
            self.context.read([self._next])
            yield from self._tell_next()
        elif self._telling.is_stopped or self._left == 0:  # the last token was told, and not that it was the last
            yield self._prompt_read()
            yield from self._finish(FinishReason.STOP if self._telling.is_stopped else FinishReason.LENGTH)
        else:
            self.context.read(self._plan.next_piece(now))
            yield from self._go_on(now)

    def _go_on(self, now: float) -> Iterator[Message]:
        if self._plan.is_done:
            yield self._prompt_read()
            yield from self._tell_next()
        elif self._spoken_at is None:
            self._spoken_at = now
        elif now - self._spoken_at >= READING_S:
            self._spoken_at = now
            yield {"is": "reading", "id": self.id, "read": self._plan.read, "of": self._plan.of}

    def _tell_next(self) -> Iterator[Message]:
        token = self.context.next_token(self._sampler, self._index)
        if self._weights.ends(token):
            yield from self._finish(FinishReason.STOP)
            return
        self._next = token
        self._index += 1
        self._left -= 1
        for known in self._telling.push(GeneratedToken(token, self._certain_text(token))):
            yield self._told(known)
        if self._telling.is_stopped:
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
        for known in self._telling.flush():
            yield self._told(known)
        yield {"is": "finished", "id": self.id, "reason": reason.value}
        self.is_over = True

    def _prompt_read(self) -> Message:
        because = self._plan.approximate_because
        return {"is": "prompt_read", "id": self.id, "tokens": self._past.prompt_tokens, "approximate_because": because}

    def _told(self, token: GeneratedToken) -> Message:
        return {"is": "token", "id": self.id, "token": token.id, "text": token.text}
