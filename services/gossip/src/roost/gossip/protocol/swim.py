"""Membership at work: SWIM (Das, Gupta, Motivala 2002) with Lifeguard's four parts, in memberlist's reading of them.

Claims are judged by `Members`; this module owns what follows from them: the running suspicions, our local health and the
rumours. Invariant: a suspicion (and its timer) exists for exactly the members whose row says SUSPECT.
"""

from __future__ import annotations

from collections.abc import Callable

from roost.gossip.protocol.config import Address
from roost.gossip.protocol.contenders import Contenders
from roost.gossip.protocol.context import Context
from roost.gossip.protocol.events import Happening, LeaveCompleted, MemberChanged, NameConflict
from roost.gossip.protocol.local_health import LocalHealth
from roost.gossip.protocol.membership import Outcome
from roost.gossip.protocol.messages import Alive, Claim, Dead, Left, Suspect
from roost.gossip.protocol.probing import Probing, StateSide
from roost.gossip.protocol.rng import jittered, sample
from roost.gossip.protocol.rumours import Rumours, retransmissions
from roost.gossip.protocol.suspicion import Suspicion, expected_confirmations, minimum_timeout_s
from roost.gossip.protocol.timers import TimerKey

GOSSIP: TimerKey = ("gossip", 0)
PRUNE: TimerKey = ("prune", 0)
LEAVE: TimerKey = ("leave", 0)
RESEED: TimerKey = ("reseed", 0)

_PRUNE_INTERVAL_S = 1.0
_FIT_SCORE = 1  # of local health: what one failed probe without helpers makes of it. Above, our own probes prove too little
_HAPPENING_OF = {
    Outcome.JOINED: Happening.JOINED,
    Outcome.RESTARTED: Happening.RESTARTED,
    Outcome.RECOVERED: Happening.RECOVERED,
    Outcome.SUSPECTED: Happening.SUSPECTED,
    Outcome.DIED: Happening.DIED,
    Outcome.LEFT: Happening.LEFT,
}


class Swim:
    """The membership half of a node."""

    def __init__(self, context: Context, rumours: Rumours, state: StateSide, be_reborn: Callable[[int, float], None]) -> None:
        self._context = context
        self._swim = context.config.swim
        self._me = context.identity
        self._members = context.members
        self._timers = context.timers
        self._outbox = context.outbox
        self._state = state
        self._be_reborn = be_reborn
        self.rumours = rumours
        self.health = LocalHealth(self._swim.max_health_score if self._swim.is_lifeguard_enabled else 0)
        self.probing = Probing(context, state, self.health, self.receive_claim, self._vouch_for)
        self.suspicions: dict[str, Suspicion] = {}
        self.contenders = Contenders(context.config.bounds.conflicts)
        self._conflicts: dict[tuple[str, Address], None] = {}

    def start(self, now: float) -> None:
        rng = self._context.rng
        self.probing.start(now)
        self._timers.set(GOSSIP, now + rng.random() * self._swim.gossip_interval_s)
        self._timers.set(PRUNE, now + _PRUNE_INTERVAL_S)

    @property
    def cluster_size(self) -> int:
        """Alive and suspect members, and we."""
        return self._members.reachable_count + 1

    @property
    def rumour_limit(self) -> int:
        return retransmissions(self._swim.retransmit_lambda, self.cluster_size)

    @property
    def reseed_interval_s(self) -> float:
        """Between questions to a seed. Shorter while somebody is dead: a new machine that knows nobody may have taken a seed's place.

        All members together ask once in `reseed_dead_s` then, so that no seed is overrun as it comes back.
        """
        longest_s = self._swim.reseed_interval_s
        return min(longest_s, self._swim.reseed_dead_s * self.cluster_size) if self._members.has_dead else longest_s

    def silent_addresses(self) -> set[Address]:
        """Of the suspects, and of those whose answer to a probe is awaited."""
        names = (*self.suspicions, *(probe.target for probe in self.probing.prober.probes.values()))
        return {member.address for name in names if (member := self._members.get(name)) is not None}

    # --- claims ---

    def receive_claim(self, claim: Claim, now: float, *, is_hearsay: bool = False) -> None:
        """Judge a claim. Hearsay (from a push/pull) may begin a suspicion but confirms none: it is no independent observation."""
        if claim.name == self._me.name:
            self._answer_for_myself(claim, now)
            return
        before = self._members.get(claim.name)
        address = before.address if before is not None else ("", 0)
        owner = before.owner if before is not None else None
        outcome = self._members.apply(claim, now)
        if outcome.is_news:
            self._take_in(outcome, claim, owner, now)
        elif outcome is Outcome.CONFLICT and isinstance(claim, Alive):
            self._contend(claim, address, now)
        elif outcome is Outcome.STALE and isinstance(claim, Suspect) and not is_hearsay:
            self._confirm(claim, now)
        else:
            self._context.counters.count(f"claims_{outcome.value}")
        if isinstance(claim, Suspect) and claim.accuser == self._me.name and not is_hearsay:
            self._settle(claim.name, now)  # our own probe failed

    # --- one name, two addresses ---

    def _contend(self, claim: Alive, holder: Address, now: float) -> None:
        """Another address claims a name in use. A later life may have moved there: ask the holder; nothing else is a claim to a name."""
        member = self._members.get(claim.name)
        if member is None or claim.epoch <= member.epoch:
            self.report_conflict(claim.name, holder, claim.address)
            return
        self._context.counters.count("claims_contending")
        self.contenders.note(claim)
        self._settle(claim.name, now)
        self.probing.doubt(claim.name, now)

    def _settle(self, name: str, now: float) -> None:
        """Admit a later life from another address once the holder is gone, or has left our own probe of it unanswered.

        To declare the holder dead then, before its suspicion runs out, takes both: its own later life says that it is over, and we,
        being well, did not reach it, nor did our helpers.
        """
        member = self._members.get(name)
        if member is None or self.contenders.get(name) is None:
            return
        if not member.is_gone:
            if self.health.score <= _FIT_SCORE and self.probing.has_failed(member):
                self.receive_claim(Dead(name, member.epoch, member.incarnation, self._me.name), now)  # which settles it
            return
        claim = self.contenders.take(name)
        if claim is not None:
            self.receive_claim(claim, now)

    def _vouch_for(self, name: str) -> None:
        """The holder of a name answered, or answered for itself: whoever claims it from elsewhere is a second one."""
        claim, member = self.contenders.take(name), self._members.get(name)
        if claim is not None and member is not None and claim.address != member.address:
            self.report_conflict(name, member.address, claim.address)

    def is_second(self, name: str, address: Address) -> bool:
        """Whether the holder of that name was found to live elsewhere."""
        return (name, address) in self._conflicts

    def report_conflict(self, name: str, holder: Address, claimant: Address) -> None:
        """One event for each claimant, however often it claims."""
        self._context.counters.count("claims_conflict")
        if (name, claimant) in self._conflicts:
            return
        if len(self._conflicts) >= self._context.config.bounds.conflicts:
            del self._conflicts[next(iter(self._conflicts))]
        self._conflicts[name, claimant] = None
        self._context.emit(NameConflict(name, holder, claimant))

    def _confirm(self, claim: Suspect, now: float) -> None:
        suspicion = self.suspicions.get(claim.name)
        member = self._members.get(claim.name)
        if suspicion is None or member is None or (member.epoch, member.incarnation) != (claim.epoch, claim.incarnation):
            return
        if suspicion.confirm(claim.accuser):
            self._timers.set(("suspicion", claim.name), max(now, suspicion.deadline))  # a shortened wait may be over: that is not lateness
            self.rumours.add(claim)

    def _take_in(self, outcome: Outcome, claim: Claim, old_owner: int | None, now: float) -> None:
        member = self._members.get(claim.name)
        if member is None:
            return
        self._end_suspicion(claim.name)
        if isinstance(claim, Suspect):
            self._begin_suspicion(claim, now)
        self.probing.follow(member)
        if old_owner is not None and (member.is_gone or member.owner != old_owner):
            self._state.forget(old_owner)
        self.rumours.add(claim)
        if isinstance(claim, Suspect | Dead) and claim.accuser == self._me.name:
            self._timers.set(GOSSIP, now)  # news of our own sets out at once, not at the next round
        happening = _HAPPENING_OF.get(outcome)
        if happening is not None:
            self._context.emit(MemberChanged(happening, member.peer()))
        if member.is_gone:
            self._reseed_sooner(now)
        if member.owner == self._me.owner and (self._me.epoch, self._me.name) > (member.epoch, member.name):
            self._be_reborn(self._me.epoch, now)  # our state records would be taken for its
        if member.is_gone:
            self._settle(claim.name, now)
        elif isinstance(claim, Alive) and outcome is not Outcome.RESTARTED:
            self._vouch_for(claim.name)

    def _reseed_sooner(self, now: float) -> None:
        """At once if nobody is left to tell us who comes back; else when it is due for somebody who is dead."""
        due = self._timers.deadline(RESEED)
        soon = now + (jittered(self.reseed_interval_s, self._context.rng) if self._members.reachable_count else 0.0)
        if due is not None and soon < due:
            self._timers.set(RESEED, soon)

    def _begin_suspicion(self, claim: Suspect, now: float) -> None:
        swim = self._swim
        minimum_s = minimum_timeout_s(swim.suspicion_alpha, self.cluster_size, swim.probe_interval_s)
        expected = expected_confirmations(swim.suspicion_alpha, self.cluster_size) if swim.is_lifeguard_enabled else 0
        suspicion = Suspicion(claim.incarnation, now, minimum_s, swim.suspicion_beta * minimum_s, expected, claim.accuser)
        self.suspicions[claim.name] = suspicion
        self._timers.set(("suspicion", claim.name), suspicion.deadline)

    def _end_suspicion(self, name: str) -> None:
        if self.suspicions.pop(name, None) is not None:
            self._timers.cancel(("suspicion", name))

    def expire_suspicion(self, name: str, now: float) -> None:
        """The suspicion timer: the suspect did not answer for itself."""
        suspicion = self.suspicions.get(name)
        member = self._members.get(name)
        if suspicion is not None and member is not None:
            self.receive_claim(Dead(name, member.epoch, suspicion.incarnation, self._me.name), now)

    def postpone(self, lateness_s: float) -> None:
        """This process stood still: judge nobody for what we may have missed, and trust ourselves less."""
        self._context.counters.count("late_timers")
        self.health.was_late()
        for name, suspicion in self.suspicions.items():
            suspicion.postpone(lateness_s)
            self._timers.set(("suspicion", name), suspicion.deadline)
        self.probing.void()

    def _answer_for_myself(self, claim: Claim, now: float) -> None:
        me = self._me
        if me.is_leaving:
            return
        if isinstance(claim, Alive) and claim.address != me.address:
            self.report_conflict(me.name, claim.address, me.address)
        elif isinstance(claim, Alive) and claim.epoch > me.epoch:
            self._be_reborn(claim.epoch, now)  # a later life of ours: our clock went back
        elif claim.epoch == me.epoch and isinstance(claim, Left):
            self._be_reborn(claim.epoch, now)  # a leave is final for its epoch
        elif claim.epoch == me.epoch and claim.incarnation >= me.incarnation + (1 if isinstance(claim, Alive) else 0):
            me.outbid(claim.incarnation)
            if not isinstance(claim, Alive):
                self.health.refuted()
            self.rumours.add(me.alive())
            self._timers.set(GOSSIP, now)
        elif claim.epoch == me.epoch and isinstance(claim, Suspect | Dead) and me.name not in self.rumours:
            self.rumours.add(me.alive())  # we have answered that, but not everybody has heard it

    # --- rumours, tombstones, goodbye ---

    def gossip(self, now: float) -> None:
        """The gossip timer: tell the rumours to a few members, the recently dead among them (they may only have been cut off)."""
        self._timers.set(GOSSIP, now + self._swim.gossip_interval_s)
        if not len(self.rumours):
            return
        recent = [m for m in self._members.dead() if now - m.since <= self._swim.gossip_to_the_dead_s]
        if recent:
            targets = sample([*self._members.reachable(), *recent], self._swim.gossip_fanout, self._context.rng)
        else:
            targets = self._members.pick(self._swim.gossip_fanout, self._context.rng)
        for target in targets:
            self._outbox.put(target.address)

    def prune(self, now: float) -> None:
        self._timers.set(PRUNE, now + _PRUNE_INTERVAL_S)
        swim = self._swim
        for member in self._members.prune(now, dead_after_s=swim.prune_dead_after_s, left_after_s=swim.prune_left_after_s):
            self.rumours.drop(member.name)

    def leave(self, now: float) -> None:
        """Say goodbye; `complete_leave` follows when it has been said."""
        self._me.is_leaving = True
        self.rumours.add(self._me.left())
        self.probing.stop()
        linger_s = self._swim.leave_linger_s if self._members.reachable_count else 0.0
        self._timers.set(LEAVE, now + linger_s)
        self._timers.set(GOSSIP, now)

    def complete_leave(self) -> None:
        self._me.has_left = True
        self._timers.clear()
        self._context.emit(LeaveCompleted())
