"""What a decider can ask of a worker, and what the worker answers. Values; the wire's form is in `codec`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Make a model ready; a pinned one is not evicted to make room."""

    model: str
    is_pinned: bool = False
    kind = "load_model"


@dataclass(frozen=True, slots=True)
class UnloadModel:
    """Put a model out that nothing uses; `when_free`: as soon as nothing does, else it is refused meanwhile."""

    model: str
    when_free: bool = False
    kind = "unload_model"


@dataclass(frozen=True, slots=True)
class UnpinModel:
    """Let a pinned model be evicted again."""

    model: str
    kind = "unpin_model"


@dataclass(frozen=True, slots=True)
class Drain:
    """Take no new requests; or, with `is_resume`, take them again.

    `grace_s`: what has not ended after that goes on on other workers; None: all may end here, however long they take.
    """

    is_resume: bool = False
    grace_s: float | None = None
    kind = "drain"


@dataclass(frozen=True, slots=True)
class Cancel:
    """Call off the command of that id, if it is still under way."""

    command_id: str
    kind = "cancel"


Action = LoadModel | UnloadModel | UnpinModel | Drain | Cancel


@dataclass(frozen=True, slots=True)
class Command:
    """One action under way. `command_id` is unique in the life of who sends it."""

    command_id: str
    action: Action


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What became of a command. `code` is a google.rpc.Code, 0 when done; `reason` is the worker's machine-readable word.

    `unfinished`: after a drain, requests that the worker still has to finish; None where it did not say.
    """

    command_id: str
    code: int = 0
    message: str = ""
    reason: str = ""
    elapsed_s: float = 0.0
    unfinished: int | None = None
