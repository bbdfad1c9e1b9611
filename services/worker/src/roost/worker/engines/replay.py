"""How a generation is brought back to where it was: what is read again, in which pieces, and whether that is exact. Pure.

What a model says depends on the shape of the batches in which it read. A prompt read in the source's chunks and the generated tokens
one by one leave the model exactly as it was; all of it in chunks is several times as fast, and now and then the text goes another way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from roost.cluster.errors import InvalidField
from roost.worker.engines.interface import Resume, ResumePolicy

FAST_REPLAY_S: Final = 2.0  # longer, and a reader would rather have approximate text than wait for exact text
SAMPLED_TOKENS: Final = 4  # replayed before the rest is foretold: the first ones are slower than those that follow

WEIGHTS: Final = "model"  # the part of a fingerprint that names the weights, and with them the vocabulary


@dataclass(frozen=True, slots=True)
class Replay:
    """What is read after the prompt: ids, or else text. One by one if that takes `exactly_within_s` at most.

    `approximate_because` is why the continuation is approximate in any case; empty: it is exact if the ids are read one by one.
    """

    ids: tuple[int, ...] = ()
    text: str = ""
    exactly_within_s: float = math.inf
    approximate_because: str = ""


NOTHING: Final = Replay()


def replay_of(resume: Resume | None, fingerprint: str) -> Replay:
    """How an engine of this fingerprint resumes. Raises InvalidField where what was told cannot be read here."""
    if resume is None or resume.first_index == 0:
        return NOTHING
    differs = difference(resume.fingerprint, fingerprint)
    knows_ids = WEIGHTS not in differs
    if not resume.ids or (resume.text and not knows_ids):
        why = _begun_elsewhere(resume, fingerprint, differs) if differs else "what was told is known by its text only"
        return Replay(text=resume.text, exactly_within_s=0.0, approximate_because=why)
    if not knows_ids:
        raise InvalidField("generated.text", "is needed beside generated.ids, which are of other weights than this worker has")
    if differs:
        why = _begun_elsewhere(resume, fingerprint, differs)
        return Replay(ids=resume.ids, exactly_within_s=0.0, approximate_because=why)
    within_s = math.inf if resume.policy is ResumePolicy.EXACT else FAST_REPLAY_S
    return Replay(ids=resume.ids, exactly_within_s=within_s)


def parts_of(fingerprint: str) -> dict[str, str]:
    """A fingerprint's values by name."""
    return {name: value for name, _, value in (part.partition("=") for part in fingerprint.split(";")) if name}


def difference(begun_by: str, continued_by: str) -> tuple[str, ...]:
    """The names of the parts in which two fingerprints differ, ordered. One that is not known differs in "fingerprint" alone."""
    if not begun_by:
        return ("fingerprint",)
    first, second = parts_of(begun_by), parts_of(continued_by)
    return tuple(sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name)))


def _begun_elsewhere(resume: Resume, fingerprint: str, differs: Sequence[str]) -> str:
    if not resume.fingerprint:
        return "the fingerprint of the engine that began is not given"
    first, second = parts_of(resume.fingerprint), parts_of(fingerprint)
    told = ", ".join(f"{name} was {first.get(name, 'none')[:40]} and is {second.get(name, 'none')[:40]}" for name in differs[:4])
    return f"another engine began: {told}"


def too_long(tokens: int, seconds: float) -> str:
    """Why a replay was not exact."""
    return f"reading {tokens} generated tokens again one by one would take about {seconds:.1f} s; resume_policy EXACT does"


class ReadingPlan:
    """The pieces in which a prompt and what was generated after it are read.

    State: how far it is, and since when it replays. Invariants: no piece is longer than `batch_tokens`; the prompt's pieces are those
    of a generation that is not resumed; the ids come one by one until it is clear that this takes too long.
    """

    def __init__(self, prompt: Sequence[int], replay: Replay, *, batch_tokens: int) -> None:
        self._prompt = prompt
        self._replay = replay
        self._batch_tokens = batch_tokens
        self._replaying_since: float | None = None
        self._is_one_by_one = replay.exactly_within_s > 0
        self.approximate_because = replay.approximate_because
        self.read = 0
        self.of = len(prompt) + len(replay.ids)

    @property
    def is_done(self) -> bool:
        return self.read == self.of

    def next_piece(self, now: float) -> Sequence[int]:
        """What is to be read now; call it again when that was read. Times are any clock's seconds."""
        if self.read < len(self._prompt):
            piece = self._prompt[self.read : self.read + self._batch_tokens]
        else:
            replayed = self.read - len(self._prompt)
            piece = self._replay.ids[replayed : replayed + self._next_size(replayed, now)]
        self.read += len(piece)
        return piece

    def _next_size(self, replayed: int, now: float) -> int:
        if self._is_one_by_one:
            self._foretell(replayed, now)
        return 1 if self._is_one_by_one else self._batch_tokens

    def _foretell(self, replayed: int, now: float) -> None:
        """Gives up reading one by one where, at the pace so far, it would take longer than it may."""
        if self._replaying_since is None:
            self._replaying_since = now
        if replayed < SAMPLED_TOKENS:
            return
        expected_s = (now - self._replaying_since) / replayed * len(self._replay.ids)
        if expected_s > self._replay.exactly_within_s:
            self._is_one_by_one = False
            self.approximate_because = too_long(len(self._replay.ids), expected_s)

    def __repr__(self) -> str:
        how = "one by one" if self._is_one_by_one else "in chunks"
        return f"<ReadingPlan {self.read}/{self.of} read, generated tokens {how}>"
