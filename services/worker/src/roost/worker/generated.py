"""What a caller has of a generation already, as a value: validated field by field, in the words of worker.proto."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roost.cluster.errors import InvalidField
from roost.worker.engines.interface import Resume, ResumePolicy

MAX_TOKEN_ID: Final = 2**31 - 1
MAX_TOKENS: Final = 1_048_576  # of ids: the longest contexts of today
MAX_TEXT_BYTES: Final = 8 * 1024 * 1024  # half of what a gRPC message may hold; the prompt may be as long
MAX_FINGERPRINT: Final = 1_024
MAX_REASON: Final = 512
MAX_RESUMES: Final = 1_000_000
UNKNOWN_REASON: Final = "it was approximate before"


@dataclass(frozen=True, slots=True)
class Generated:
    """Each field means what Generated's comment says; `approximate_because` is empty as long as all was exact.

    Raises InvalidField if one is out of range. Without `tokens` and `ids` nothing was told, and the generation begins.
    """

    ids: tuple[int, ...] = ()
    text: str = ""
    tokens: int = 0
    fingerprint: str = ""
    resumes: int = 0
    approximate_because: str = ""

    def __post_init__(self) -> None:
        if len(self.ids) > MAX_TOKENS:
            raise InvalidField("generated.ids", f"has {len(self.ids)} entries; at most {MAX_TOKENS} are allowed")
        for at, token in enumerate(self.ids):
            if not 0 <= token <= MAX_TOKEN_ID:
                raise InvalidField(
                    f"generated.ids[{at}]", f"must be 0-{MAX_TOKEN_ID} (got {token}); leave all ids out where one is unknown"
                )
        if not 0 <= self.tokens <= MAX_TOKENS:
            raise InvalidField("generated.tokens", f"must be 0-{MAX_TOKENS} (got {self.tokens})")
        if self.ids and self.tokens not in (0, len(self.ids)):
            raise InvalidField("generated.tokens", f"is {self.tokens} beside {len(self.ids)} ids; give an id for every token, or no ids")
        if self.text and not self.first_index:
            raise InvalidField("generated.tokens", "is 0 although there is text; say how many tokens were told")
        if self.tokens and not self.ids and not self.text:
            raise InvalidField("generated.text", f"is empty although {self.tokens} tokens were told; give their text, or their ids")
        _check_lengths(self)

    @property
    def first_index(self) -> int:
        """The index of the token that follows."""
        return len(self.ids) or self.tokens

    def resume(self, policy: ResumePolicy) -> Resume | None:
        """What an engine is told; None where nothing was told yet."""
        if not self.first_index:
            return None
        return Resume(self.first_index, self.ids, self.text, self.fingerprint, policy)


def _check_lengths(generated: Generated) -> None:
    size_bytes = len(generated.text) if len(generated.text) > MAX_TEXT_BYTES else len(generated.text.encode("utf-8", "replace"))
    if size_bytes > MAX_TEXT_BYTES:
        raise InvalidField("generated.text", f"takes {size_bytes} bytes or more; at most {MAX_TEXT_BYTES} (8 MiB) are allowed")
    if len(generated.fingerprint) > MAX_FINGERPRINT:
        raise InvalidField("generated.fingerprint", f"has {len(generated.fingerprint)} characters; at most {MAX_FINGERPRINT} are allowed")
    if len(generated.approximate_because) > MAX_REASON:
        raise InvalidField(
            "generated.approximate_because", f"has {len(generated.approximate_because)} characters; at most {MAX_REASON} are allowed"
        )
    if not 0 <= generated.resumes <= MAX_RESUMES:
        raise InvalidField("generated.resumes", f"must be 0-{MAX_RESUMES} (got {generated.resumes})")


NOTHING: Final = Generated()
