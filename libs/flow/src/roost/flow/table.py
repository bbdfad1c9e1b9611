"""A generation as a table: in which state, upon which event, it goes to which state, and what is done. `docs/flow.md` shows it.

Two events come from the flow itself, when what the row before said cannot be done: `ALL_TRIED` (no decider is left to be asked now) and
`GAVE_UP` (there is no time, or no attempt, for another try, or none is wanted). Whatever fails it after the first token, the caller is told
GenerationInterrupted, with the tokens so far.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final, NamedTuple


class State(StrEnum):
    """Where a generation is."""

    ASKING = "ASKING"
    WAITING = "WAITING"
    CALLING = "CALLING"
    ACCEPTED = "ACCEPTED"
    STREAMING = "STREAMING"
    RESUMING = "RESUMING"
    DONE = "DONE"
    FAILED = "FAILED"


MEANINGS: Final[Mapping[State, str]] = {
    State.ASKING: "a decider has been asked for a worker",
    State.WAITING: "a pause before a decider is asked again",
    State.CALLING: "a worker has been called and has not answered yet",
    State.ACCEPTED: "it has the request; no token yet",
    State.STREAMING: "tokens come",
    State.RESUMING: "its worker is lost; a pause before a decider is asked for another one, which goes on from the last token",
    State.DONE: "completed",
    State.FAILED: "the caller was told why not",
}


class Happening(StrEnum):
    """The kinds of events."""

    DECIDED = "decided"
    REFUSED = "refused for now"
    DENIED = "refused for good"
    UNREACHABLE = "unreachable"
    ALL_TRIED = "all deciders tried"
    PAUSE_OVER = "pause over"
    GAVE_UP = "no time or attempt left"
    ACCEPTED = "accepted"
    TOKEN = "token"  # noqa: S105  # no secret
    STARTED = "started"
    PROGRESS = "progress"
    COMPLETED = "completed"
    DECLINED = "declined"
    LOST = "lost"
    DEADLINE = "deadline"


class Act(StrEnum):
    """What is done: the method of `Flow` by that name."""

    ASK = "ask the first decider"
    ASK_NEXT = "ask the next decider"
    PAUSE = "pause"
    PAUSE_UNREACHED = "pause, then ask the first decider again"
    LEAVE_OUT = "leave the worker out, pause"
    CALL = "call the worker"
    EMIT = "hand it on to the caller"
    BEGIN = "note what the text depends on; tell the caller if it goes on"
    RESUME = "leave the worker out, pause, unless it is not to be continued"
    FAIL = "fail: as it was refused"
    TIME_OUT = "fail: timed out"
    GIVE_UP = "fail: what went wrong last"
    INTERRUPT = "fail: interrupted"


class Row(NamedTuple):
    """The next state, and what is done in it."""

    to: State
    act: Act


_S, _H, _A = State, Happening, Act

TABLE: Final[Mapping[tuple[State, Happening], Row]] = {
    (_S.ASKING, _H.DECIDED): Row(_S.CALLING, _A.CALL),
    (_S.ASKING, _H.REFUSED): Row(_S.WAITING, _A.PAUSE),
    (_S.ASKING, _H.DENIED): Row(_S.FAILED, _A.FAIL),
    (_S.ASKING, _H.UNREACHABLE): Row(_S.ASKING, _A.ASK_NEXT),
    (_S.ASKING, _H.ALL_TRIED): Row(_S.WAITING, _A.PAUSE_UNREACHED),
    (_S.ASKING, _H.DEADLINE): Row(_S.FAILED, _A.TIME_OUT),
    (_S.WAITING, _H.PAUSE_OVER): Row(_S.ASKING, _A.ASK),
    (_S.WAITING, _H.GAVE_UP): Row(_S.FAILED, _A.GIVE_UP),
    (_S.CALLING, _H.ACCEPTED): Row(_S.ACCEPTED, _A.EMIT),
    (_S.CALLING, _H.STARTED): Row(_S.CALLING, _A.BEGIN),
    (_S.CALLING, _H.PROGRESS): Row(_S.CALLING, _A.EMIT),
    (_S.CALLING, _H.TOKEN): Row(_S.STREAMING, _A.EMIT),
    (_S.CALLING, _H.COMPLETED): Row(_S.DONE, _A.EMIT),
    (_S.CALLING, _H.DECLINED): Row(_S.WAITING, _A.LEAVE_OUT),
    (_S.CALLING, _H.LOST): Row(_S.WAITING, _A.LEAVE_OUT),
    (_S.CALLING, _H.DENIED): Row(_S.FAILED, _A.FAIL),
    (_S.CALLING, _H.DEADLINE): Row(_S.FAILED, _A.TIME_OUT),
    (_S.ACCEPTED, _H.STARTED): Row(_S.ACCEPTED, _A.BEGIN),
    (_S.ACCEPTED, _H.PROGRESS): Row(_S.ACCEPTED, _A.EMIT),
    (_S.ACCEPTED, _H.TOKEN): Row(_S.STREAMING, _A.EMIT),
    (_S.ACCEPTED, _H.COMPLETED): Row(_S.DONE, _A.EMIT),
    (_S.ACCEPTED, _H.DECLINED): Row(_S.WAITING, _A.LEAVE_OUT),
    (_S.ACCEPTED, _H.LOST): Row(_S.WAITING, _A.LEAVE_OUT),
    (_S.ACCEPTED, _H.DENIED): Row(_S.FAILED, _A.FAIL),
    (_S.ACCEPTED, _H.DEADLINE): Row(_S.FAILED, _A.TIME_OUT),
    (_S.STREAMING, _H.STARTED): Row(_S.STREAMING, _A.BEGIN),
    (_S.STREAMING, _H.PROGRESS): Row(_S.STREAMING, _A.EMIT),
    (_S.STREAMING, _H.TOKEN): Row(_S.STREAMING, _A.EMIT),
    (_S.STREAMING, _H.COMPLETED): Row(_S.DONE, _A.EMIT),
    (_S.STREAMING, _H.DECLINED): Row(_S.RESUMING, _A.RESUME),
    (_S.STREAMING, _H.LOST): Row(_S.RESUMING, _A.RESUME),
    (_S.STREAMING, _H.DENIED): Row(_S.FAILED, _A.FAIL),
    (_S.STREAMING, _H.DEADLINE): Row(_S.FAILED, _A.TIME_OUT),
    (_S.RESUMING, _H.PAUSE_OVER): Row(_S.ASKING, _A.ASK),
    (_S.RESUMING, _H.GAVE_UP): Row(_S.FAILED, _A.INTERRUPT),
}


class NoRow(Exception):
    """Something happened that cannot happen in this state: a bug of ours."""

    def __init__(self, state: State, happening: Happening) -> None:
        super().__init__(f"a generation that is {state.value} cannot hear {happening.value!r}")
        self.state = state
        self.happening = happening


def row_of(state: State, happening: Happening) -> Row:
    """Raises NoRow."""
    row = TABLE.get((state, happening))
    if row is None:
        raise NoRow(state, happening)
    return row


def diagram() -> str:
    """The table as a Mermaid state diagram; events that lead the same way by the same deed share an arrow."""
    arrows: dict[tuple[State, State, Act], list[str]] = {}
    for (state, happening), row in TABLE.items():
        arrows.setdefault((state, row.to, row.act), []).append(happening.value)
    lines = ["stateDiagram-v2", *(f"    {state.value}: {state.value}<br/>{meaning}" for state, meaning in MEANINGS.items())]
    lines.append(f"    [*] --> {State.ASKING.value}: {Act.ASK.value}")
    for (state, to, act), happenings in arrows.items():
        lines.append(f"    {state.value} --> {to.value}: {' | '.join(happenings)} / {act.value.replace(':', ',')}")
    lines += [f"    {state.value} --> [*]" for state in (State.DONE, State.FAILED)]
    return "\n".join(["```mermaid", *lines, "```"])


def rows_table() -> str:
    """Markdown rows of the whole table."""
    rows = [f"| `{state.value}` | {happening.value} | `{row.to.value}` | {row.act.value} |" for (state, happening), row in TABLE.items()]
    return "\n".join(["| In | Upon | To | Does |", "| --- | --- | --- | --- |", *rows])
