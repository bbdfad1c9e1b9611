"""How a caller wants a generation to be tried. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Final

from roost.cluster.errors import InvalidField
from roost.flow.backoff import Backoff
from roost.flow.steps import ResumePolicy

MAX_ATTEMPTS: Final = 4
MAX_WAITED_S: Final = 86_400.0  # the bound of the contract
REACH_TIMEOUT_S: Final = 4.5  # an address that takes longer is as good as down; below the channel's own 5 s, so that we know it was time
SILENCE_S: Final = 3.0  # a worker answers a request as it arrives, and then says something every second: one that does not is gone
MIN_SILENCE_S: Final = 1.5  # less, and living workers would be taken for lost ones
RETURN_S: Final = 10.0  # so long a stream waits for a worker that can go on with it, where there are others that cannot
MAX_RESUMES: Final = 16  # workers that may fail a generation after its first token, beside those that may before


@dataclass(frozen=True, slots=True)
class Terms:
    """`timeout_s` bounds the whole, every attempt and pause included; `is_told`: the caller set it, so deciders are told what is left.

    `max_attempts` bounds the workers called. `may_wait`: the request may wait in a decider. `answer_s`: what a decider has to answer in
    where nobody waits. `resume`: what becomes of it when its worker is lost after the first token; `silence_s`: how long a worker may say
    nothing before it is. Raises InvalidField.
    """

    timeout_s: float
    is_told: bool = False
    max_attempts: int = MAX_ATTEMPTS
    may_wait: bool = True
    answer_s: float = 10.0
    resume: ResumePolicy = ResumePolicy.FAST
    silence_s: float = SILENCE_S
    backoff: Backoff = field(default_factory=Backoff)

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s < math.inf:
            raise InvalidField("timeout_s", f"must be a number of seconds above 0 (got {self.timeout_s:g})")
        if self.max_attempts < 1:
            raise InvalidField("max_attempts", f"must be 1 or more (got {self.max_attempts})")
        if not MIN_SILENCE_S <= self.silence_s < math.inf:
            raise InvalidField("silence_s", f"must be {MIN_SILENCE_S:g} seconds or more (got {self.silence_s:g})")
