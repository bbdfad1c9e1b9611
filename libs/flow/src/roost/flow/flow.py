"""One generation, from the first question to its last token: an automaton that walks `table`, and does no IO.

State: where it is, the deciders not asked yet in this round, the workers left out, the tokens told, what went wrong. Invariants: every
event has a row or is an error that names it; tokens are told once each, in order, over all workers that make them; nothing happens after
DONE and FAILED; it ends by its deadline, provided that it is told of the time that `next_timer` names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Generic

from roost.cluster.errors import NoCapacity, NoWorkers, RoostError
from roost.flow.effects import Ask, Call, Effect, Emit, Fail, GoOn, Pause, TargetT
from roost.flow.errors import CallTimedOut, ClusterUnreachable, Failure, GenerationInterrupted
from roost.flow.heard import Decided, DecisionT, Declined, Heard, Lost, Refused, Unreachable
from roost.flow.setbacks import Setback, Setbacks
from roost.flow.steps import Accepted, Completed, Progress, Resumed, ResumePolicy, Started, Token
from roost.flow.table import Act, Happening, State, row_of
from roost.flow.terms import MAX_RESUMES, MAX_WAITED_S, REACH_TIMEOUT_S, RETURN_S, Terms
from roost.flow.told import Tale
from roost.placement.rng import Rng

LEAST_S: Final = 0.001  # no call is made with no time at all
LATEST_START: Final = 0.5  # of what is left: at most so much is kept for the generation itself, whatever others of its kind took
_NOBODY: Final[frozenset[str]] = frozenset()
_OVER: Final = frozenset({State.DONE, State.FAILED})
_PAUSES: Final = frozenset({State.WAITING, State.RESUMING})
_TAKEN: Final = frozenset({State.ACCEPTED, State.STREAMING})
_METHODS: Final[Mapping[Act, str]] = {act: f"_{act.name.lower()}" for act in Act}  # each deed is the method of its name
_HAPPENINGS: Final[Mapping[type, Happening]] = {
    Decided: Happening.DECIDED,
    Unreachable: Happening.UNREACHABLE,
    Lost: Happening.LOST,
    Accepted: Happening.ACCEPTED,
    Started: Happening.STARTED,
    Progress: Happening.PROGRESS,
    Token: Happening.TOKEN,
    Completed: Happening.COMPLETED,
}


class Flow(Generic[TargetT, DecisionT]):
    """`targets`: the deciders, in the order in which they are asked. `served_s`: how long such a generation holds a worker's slot, 0.0
    where that is not known; so long before the deadline it must have begun.
    """

    __slots__ = (
        "_asked",
        "_asking_since",
        "_began_at",
        "_cause",
        "_deadline",
        "_decision",
        "_heard_at",
        "_is_watched",
        "_lost_worker",
        "_may_wait",
        "_pause_until",
        "_retries",
        "_rng",
        "_served_s",
        "_setbacks",
        "_tale",
        "_targets",
        "_terms",
        "_unreached",
        "attempt",
        "state",
    )

    def __init__(self, terms: Terms, targets: Sequence[TargetT], rng: Rng, now: float, *, served_s: float = 0.0) -> None:
        self.state = State.ASKING
        self._terms = terms
        self._targets = targets
        self._rng = rng
        self._served_s = served_s
        self._began_at = now
        self._deadline = now + terms.timeout_s
        self._asking_since = now  # no worker has been called since
        self._retries = 0  # pauses since then
        self._may_wait = terms.may_wait
        self._asked = 0  # of the targets, in this round
        self._unreached: list[Failure] = []  # what became of them
        self._pause_until = 0.0
        self.attempt = 0  # workers called so far
        self._setbacks: Setbacks | None = None
        self._decision: DecisionT | None = None
        self._tale = Tale()
        self._is_watched = False  # the worker that has it speaks every second, if only to say that there is no token
        self._lost_worker = ""  # the last that told tokens
        self._heard_at = now  # when it was last heard, or listened to
        self._cause: RoostError | None = None  # of the last pause, where it was the deciders

    @property
    def is_over(self) -> bool:
        """Whether nothing is to be done or heard any more."""
        return self.state in _OVER

    @property
    def is_waiting(self) -> bool:
        """Whether all it waits for is time."""
        return self.state in _PAUSES

    @property
    def told(self) -> int:
        """Tokens told so far."""
        return len(self._tale.tokens)

    def begin(self) -> Effect[TargetT, DecisionT]:
        """What is done first."""
        return self._ask(None, self._began_at)

    def hear(self, heard: Heard[DecisionT], now: float) -> Effect[TargetT, DecisionT]:
        """Something happened: what is to be done now, in place of what was being done (but `Emit`: it goes on). Raises NoRow."""
        self._heard_at = now
        if type(heard) is Token:
            if heard.index != len(self._tale.tokens):
                heard = Lost(f"it sent token {heard.index} where {len(self._tale.tokens)} was due")
        elif type(heard) is Accepted or type(heard) is Started:
            misfit = self._tale.misfit(heard, self._terms.resume)
            heard = Lost(misfit, Setback.CANNOT_GO_ON) if misfit else heard
        return self._step(_HAPPENINGS.get(type(heard)) or _judged(heard), heard, now)

    def listens(self, now: float) -> None:
        """Nobody listened to the worker until now, because the caller was busy: that was not its silence."""
        self._heard_at = now

    def next_timer(self) -> float:
        """When `handle_timer` is to be called at the latest, as long as it is not over."""
        if self.state in _PAUSES:
            return self._pause_until
        if self._is_watched and self.state in _TAKEN:
            return min(self._deadline, self._heard_at + self._terms.silence_s)
        return self._deadline

    def handle_timer(self, now: float) -> Effect[TargetT, DecisionT]:
        """The time of `next_timer` has come."""
        if self.state in _PAUSES:
            return self._step(Happening.PAUSE_OVER, None, now)
        if self.next_timer() < self._deadline:
            return self._step(Happening.LOST, Lost(f"it said nothing for {self._terms.silence_s:g} s"), now)
        return self._step(Happening.DEADLINE, None, now)

    # --- what rows do -------------------------------------------------------------------------------

    def _step(self, happening: Happening, heard: Heard[DecisionT] | None, now: float) -> Effect[TargetT, DecisionT]:
        row = row_of(self.state, happening)
        self.state = row.to
        effect: Effect[TargetT, DecisionT] = getattr(self, _METHODS[row.act])(heard, now)
        return effect

    def _ask(self, _: Heard[DecisionT] | None, now: float) -> Ask[TargetT]:
        """The next of the round. Nobody waits in a decider that is to name another worker than those that failed, nor twice for one that
        did not come: in a worker's queue the time that was waited counts.
        """
        terms, setbacks = self._terms, self._setbacks
        excluded = _NOBODY if setbacks is None else setbacks.excluded
        target = self._targets[self._asked]
        left_s = max(LEAST_S, self._deadline - now)
        self._asked += 1
        may_wait = self._may_wait and not excluded
        reach_s = min(REACH_TIMEOUT_S, left_s / (len(self._targets) - self._asked + 1))
        deadline_s = left_s - min(self._served_s, LATEST_START * left_s) if terms.is_told else 0.0
        return Ask(target, excluded, may_wait, deadline_s, reach_s, left_s if may_wait else min(left_s, terms.answer_s))

    def _ask_next(self, heard: Heard[DecisionT] | None, now: float) -> Effect[TargetT, DecisionT]:
        assert isinstance(heard, Unreachable)  # noqa: S101  # as the table says
        self._unreached.append(heard.failure)
        if self._asked < len(self._targets):
            return self._ask(None, now)
        return self._step(Happening.ALL_TRIED, None, now)

    def _call(self, heard: Heard[DecisionT] | None, now: float) -> Call[DecisionT]:
        assert isinstance(heard, Decided)  # noqa: S101  # as the table says
        self._decision = heard.decision
        self.attempt += 1
        self._asked = 0
        self._unreached.clear()
        self._is_watched = False
        previous = "" if self._setbacks is None else str(self._setbacks.failures[-1])
        waited_s = min(MAX_WAITED_S, max(0.0, now - self._began_at))
        left_s = max(LEAST_S, self._deadline - now)
        answer_s, tale = min(left_s, self._terms.silence_s), self._tale
        return Call(heard.decision, self.attempt, previous, waited_s, answer_s, left_s, tale.seed, tale.told())

    def _emit(self, heard: Heard[DecisionT] | None, _: float) -> Emit:
        if type(heard) is Token:
            self._tale.tokens.append(heard)
            return Emit(heard)
        assert isinstance(heard, Accepted | Progress | Completed)  # noqa: S101  # as the table says
        if type(heard) is Accepted:
            self._tale.accepted(heard)
            self._is_watched = bool(heard.fingerprint) or heard.seed is not None  # older workers, which say neither, may be silent
        elif type(heard) is Progress:
            self._is_watched = True
        return Emit(heard)

    def _begin(self, heard: Heard[DecisionT] | None, _: float) -> Emit | GoOn:
        assert isinstance(heard, Started)  # noqa: S101  # as the table says
        assert self._decision is not None  # noqa: S101  # it was called
        self._is_watched = True
        tale = self._tale
        tale.started(heard)
        if not tale.tokens:
            return GoOn()
        return Emit(Resumed(self._lost_worker, self._decision.worker_id, len(tale.tokens), tale.exactness, tale.approximate_because))

    def _pause(self, heard: Heard[DecisionT] | None, now: float) -> Effect[TargetT, DecisionT]:
        """The decider has nobody, or no room, now. Where it has nobody but those left out, they are let in again."""
        assert isinstance(heard, Refused)  # noqa: S101  # as the table says
        wish_s, setbacks = getattr(heard.error, "retry_after_s", 0.0), self._setbacks
        if isinstance(heard.error, NoWorkers) and setbacks is not None and setbacks.left_out:
            if setbacks.is_hopeless or (self.told and setbacks.is_stuck and now >= self._asking_since + RETURN_S):
                return self._step(Happening.GAVE_UP, None, now)
            wish_s = setbacks.let_in() or wish_s
        elif isinstance(heard.error, NoWorkers):
            self._may_wait = False
        self._cause = heard.error
        return self._rest(wish_s, now)

    def _pause_unreached(self, _: Heard[DecisionT] | None, now: float) -> Effect[TargetT, DecisionT]:
        self._cause = ClusterUnreachable(self._unreached)
        self._unreached.clear()
        return self._rest(0.0, now)

    def _resume(self, heard: Heard[DecisionT] | None, now: float) -> Effect[TargetT, DecisionT]:
        """From now on its deadline bounds it, and a number of failures that no honest run of bad luck reaches."""
        self._setbacks = self._setbacks or Setbacks(self._terms.max_attempts)
        self._setbacks.most = self._terms.max_attempts + MAX_RESUMES
        assert self._decision is not None  # noqa: S101  # it was called
        self._lost_worker = self._decision.worker_id
        return self._leave_out(heard, now)

    def _leave_out(self, heard: Heard[DecisionT] | None, now: float) -> Effect[TargetT, DecisionT]:
        assert self._decision is not None  # noqa: S101  # it was called
        setbacks = self._setbacks = self._setbacks or Setbacks(self._terms.max_attempts)
        worker_id = self._decision.worker_id
        if isinstance(heard, Declined) and heard.setback is not None:
            setbacks.worker_refused(worker_id, heard.error, heard.setback, heard.wish_s)
        else:
            assert isinstance(heard, Lost)  # noqa: S101  # as the table says
            setbacks.worker_failed(Failure(worker_id, heard.why), heard.setback)
        self._cause = None
        self._asking_since, self._retries = now, setbacks.made - 1
        return self._rest(0.0, now)

    def _rest(self, wish_s: float, now: float) -> Effect[TargetT, DecisionT]:
        wait_s = self._terms.backoff.wait_s(self._retries, self._rng, age_s=now - self._asking_since, server_wish_s=wish_s)
        self._retries += 1
        self._asked = 0
        self._pause_until = now + wait_s
        may_go_on = self._setbacks is None or not self._setbacks.is_over
        if self.state is State.RESUMING and self._terms.resume is ResumePolicy.NEVER:
            may_go_on = False
        if may_go_on and self._pause_until < self._deadline:
            return Pause(wait_s, self._cause)
        return self._step(Happening.GAVE_UP, None, now)

    # --- how it fails -------------------------------------------------------------------------------

    def _fail(self, heard: Heard[DecisionT] | None, _: float) -> Fail:
        assert isinstance(heard, Refused | Declined)  # noqa: S101  # as the table says
        return self._failed(heard.error)

    def _time_out(self, _: Heard[DecisionT] | None, __: float) -> Fail:
        """A generation that reached no decider says so."""
        if self._decision is None and isinstance(self._cause, ClusterUnreachable):
            return Fail(self._cause)
        return self._failed(CallTimedOut("the generation", self._terms.timeout_s))

    def _give_up(self, _: Heard[DecisionT] | None, __: float) -> Fail:
        """With the decider's words where no worker was called, with the worker's own where none can load the model."""
        error = self._cause if self._setbacks is None else self._setbacks.error(self._cause)
        assert error is not None  # noqa: S101  # no pause without a reason
        return self._failed(error)

    def _interrupt(self, _: Heard[DecisionT] | None, __: float) -> Fail:
        assert self._setbacks is not None  # noqa: S101  # something was lost
        last = self._setbacks.failures[-1]
        return Fail(GenerationInterrupted(last.who, last.why, self._tale.tokens))

    def _failed(self, error: RoostError) -> Fail:
        """After the first token it is an interruption, with the text so far."""
        tale, decision = self._tale, self._decision
        if decision is None or not tale.tokens:
            return Fail(error)
        interrupted = GenerationInterrupted(decision.worker_id, str(error), tale.tokens)
        interrupted.__cause__ = error
        return Fail(interrupted)

    def __repr__(self) -> str:
        worker = "" if self._decision is None else f" {self._decision.worker_id}"
        return f"<Flow {self.state.value}{worker}, attempt {self.attempt}, {self.told} tokens, {self._setbacks or 'no setbacks'}>"


def _judged(heard: object) -> Happening:
    """Refusals: whether asking again, or asking another worker, may help."""
    if isinstance(heard, Refused):
        return Happening.REFUSED if isinstance(heard.error, NoWorkers | NoCapacity) else Happening.DENIED
    assert isinstance(heard, Declined)  # noqa: S101  # everything else has a kind of its own
    return Happening.DENIED if heard.setback is None else Happening.DECLINED
