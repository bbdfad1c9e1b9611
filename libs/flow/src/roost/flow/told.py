"""What the caller has of a generation: enough to go on with it elsewhere. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from roost.flow.steps import Accepted, Exactness, ResumePolicy, Started, Token


@dataclass(frozen=True, slots=True)
class Told:
    """What a worker is told that goes on with a generation. `fingerprint` is that of the worker that began, "" if it told none.

    `resumes`: how often it was continued before; `exactness` and `approximate_because` are what was said of it last.
    """

    tokens: tuple[Token, ...]
    fingerprint: str
    resumes: int
    exactness: Exactness
    approximate_because: str

    @property
    def ids(self) -> tuple[int, ...]:
        """One for every token, or none at all where an engine did not tell one."""
        ids = tuple(token.id for token in self.tokens)
        return () if any(one < 0 for one in ids) else ids

    @property
    def text(self) -> str:
        return "".join(token.text for token in self.tokens)


class Tale:
    """State: the tokens told, and what they depend on. Invariants: tokens are numbered from 0 without gaps; fingerprint and seed are those
    of the worker that told the first of them; what is approximate stays so.
    """

    __slots__ = ("approximate_because", "exactness", "fingerprint", "resumes", "seed", "tokens")

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self.seed: int | None = None
        self.fingerprint = ""
        self.resumes = 0
        self.exactness = Exactness.UNKNOWN
        self.approximate_because = ""

    def accepted(self, step: Accepted) -> None:
        """A worker has it."""
        if not self.tokens:
            self.seed, self.fingerprint = step.seed, step.fingerprint

    def started(self, step: Started) -> None:
        """Its engine has begun, or goes on."""
        if not self.tokens:
            self.fingerprint = step.fingerprint or self.fingerprint
        else:
            self.resumes += 1
        self.exactness, self.approximate_because = step.exactness, step.approximate_because

    def misfit(self, step: Accepted | Started, policy: ResumePolicy) -> str:
        """Why the worker would not go on as it is wanted to; "" if it would."""
        told = len(self.tokens)
        if isinstance(step, Accepted):
            return "" if step.resumed_from == told else f"it would begin at token {step.resumed_from} where {told} is due"
        if told and policy is ResumePolicy.EXACT and step.exactness is not Exactness.EXACT:
            return f"it cannot go on exactly: {step.approximate_because or 'it does not say why'}"
        return ""

    def told(self) -> Told | None:
        """None while there is no token."""
        if not self.tokens:
            return None
        return Told(tuple(self.tokens), self.fingerprint, self.resumes, self.exactness, self.approximate_because)

    def __repr__(self) -> str:
        return f"<Tale {len(self.tokens)} tokens, {self.resumes} resumes, {self.exactness.value}>"
