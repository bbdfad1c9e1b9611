"""Probes: our own, those we relay for others, and the answers to those of others (SWIM section 3.1, Lifeguard's local-health-aware probe).

What a failed probe means is for `Swim` to say: this module only hands it the accusation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from roost.gossip.protocol.config import Address
from roost.gossip.protocol.context import Context
from roost.gossip.protocol.local_health import LocalHealth
from roost.gossip.protocol.membership import Member
from roost.gossip.protocol.messages import Ack, Claim, Dead, Frame, IndirectPing, Nack, Ping, Status, StreamPing, Suspect
from roost.gossip.protocol.probe import Probe, Prober
from roost.gossip.protocol.rng import sample
from roost.gossip.protocol.streams import Asked, Purpose
from roost.gossip.protocol.timers import TimerKey

PROBE: TimerKey = ("probe", 0)

FEW_PROBES = 4  # while fewer are out, one more is begun of a member who owes us an answer; the ring waits for no other probe


class StateSide(Protocol):
    """What membership needs of the state half: written as a Protocol because the tests of this half alone have their own."""

    def forget(self, owner: int) -> None:
        """The owner is gone, or has a new epoch."""
        ...

    def stamp(self) -> tuple[Frame, ...]:
        """Our own load record, for a reply that is sent anyway."""
        ...


class Probing:
    """Who answers, and who does not."""

    def __init__(
        self,
        context: Context,
        state: StateSide,
        health: LocalHealth,
        accuse: Callable[[Claim, float], None],
        vouch_for: Callable[[str], None],
    ) -> None:
        self._context = context
        self._swim = context.config.swim
        self._me = context.identity
        self._members = context.members
        self._timers = context.timers
        self._outbox = context.outbox
        self._state = state
        self._accuse = accuse
        self._vouch_for = vouch_for
        self.health = health
        self.prober = Prober(context.rng, context.config.bounds.relays)
        self._accused: dict[str, tuple[int, int]] = {}  # reachable member -> the epoch and incarnation our last failed probe was of

    def start(self, now: float) -> None:
        self._timers.set(PROBE, now + self._context.rng.random() * self._swim.probe_interval_s)

    def stop(self) -> None:
        self._timers.cancel(PROBE)
        for probe in list(self.prober.probes.values()):
            self._end(probe)

    def void(self) -> None:
        """This process stood still: the probes that are out prove nothing."""
        for probe in self.prober.probes.values():
            probe.is_void = True

    def follow(self, member: Member) -> None:
        """Let the ring hold `member` iff it is reachable."""
        ring = self.prober.ring
        is_in_ring = member.name in ring
        if member.is_gone and is_in_ring:
            ring.remove(member.name)
            self._accused.pop(member.name, None)
        elif not member.is_gone and not is_in_ring:
            ring.insert(member.name)

    # --- probes of our own ---

    def begin_probe(self, now: float) -> None:
        """The probe timer: probe the next of the ring."""
        target = self._next_target()
        if target is not None:
            self._probe(target, now)
        self._timers.set(PROBE, now + self.health.scale(self._swim.probe_interval_s))  # after this probe's verdict, which is due then

    def doubt(self, name: str, now: float) -> None:
        """`name` left a state exchange unanswered: probe it now, beside whatever probes are out.

        Of several who die together none then waits for the verdict on another. Whom we have accused the ring probes soon enough; and if
        we are ill, we doubt nobody.
        """
        member = self._members.get(name)
        if not self._swim.is_doubting or self.health.score > 0 or member is None or member.is_gone or self._me.is_leaving:
            return
        if not self.has_failed(member) and len(self.prober.probes) < FEW_PROBES and not self.prober.is_probing(name):
            self._probe(member, now)

    def has_failed(self, member: Member) -> bool:
        """Whether our own last probe of `member`, as it is known now, was not answered."""
        return self._accused.get(member.name) == (member.epoch, member.incarnation)

    def _next_target(self) -> Member | None:
        ring = self.prober.ring
        for _ in range(len(ring) + 1):
            name = ring.next()
            member = self._members.get(name) if name is not None else None
            if member is not None and not member.is_gone and not self.prober.is_probing(member.name):
                return member
        return None

    def _probe(self, target: Member, now: float) -> None:
        probe = self.prober.begin(target.name)
        self._timers.set(("probe_timeout", probe.sequence), now + self.health.scale(self._swim.probe_timeout_s))
        self._timers.set(("verdict", probe.sequence), now + self.health.scale(self._swim.probe_interval_s))
        self._outbox.put(target.address, *self._ping(target.name, probe.sequence))

    def probe_indirectly(self, sequence: int, now: float) -> None:
        """The probe timeout: ask helpers, and try a stream beside them."""
        probe = self.prober.probes.get(sequence)
        target = self._members.get(probe.target) if probe is not None else None
        if probe is None or target is None or target.is_gone:
            return
        helpers = self._helpers()
        for helper in helpers:
            self._outbox.put(helper.address, IndirectPing(probe.sequence, target.name, target.address))
        probe.expected_nacks = len(helpers) if self._swim.is_lifeguard_enabled else 0
        probe.stream_request = self._context.streams.next_request()
        left_s = max(0.05, (self._timers.deadline(("verdict", sequence)) or now) - now)
        ping = StreamPing(probe.stream_request, target.name)
        self._context.streams.ask(Asked(probe.stream_request, Purpose.PING, target.address, ping, left_s), now)

    def _helpers(self) -> list[Member]:
        """Unsuspected members, and none who is being probed: it may be dead too, and the dead do not nack."""
        fit = [m for m in self._members.reachable() if m.status is Status.ALIVE and not self.prober.is_probing(m.name)]
        return sample(fit, self._swim.indirect_probes, self._context.rng)

    def judge(self, sequence: int, now: float) -> None:
        """The verdict timer: nobody reached the target."""
        probe = self.prober.probes.get(sequence)
        if probe is None:
            return
        self._end(probe)
        member = self._members.get(probe.target)
        if probe.is_void or member is None or member.is_gone:
            return
        self._context.counters.count("probes_failed")
        self.health.probe_failed(probe.expected_nacks, probe.nacks)
        self._accused[member.name] = (member.epoch, member.incarnation)
        self._accuse(Suspect(member.name, member.epoch, member.incarnation, self._me.name), now)

    def _answered(self, probe: Probe) -> None:
        self._end(probe)
        self.health.probe_succeeded()
        self._vouch_for(probe.target)

    def _end(self, probe: Probe) -> None:
        del self.prober.probes[probe.sequence]
        self._timers.cancel(("probe_timeout", probe.sequence))
        self._timers.cancel(("verdict", probe.sequence))

    def _ping(self, target: str, sequence: int) -> tuple[Frame, ...]:
        """A ping; a suspect is told so in the ping itself (Lifeguard's buddy system)."""
        accusation = self._accusation(target) if self._swim.is_lifeguard_enabled else None
        return (Ping(sequence, target),) if accusation is None else (Ping(sequence, target), accusation)

    def _accusation(self, name: str) -> Claim | None:
        """What we hold against `name`, if anything."""
        member = self._members.get(name)
        if member is None or member.status in (Status.ALIVE, Status.LEFT):
            return None
        claim = Suspect if member.status is Status.SUSPECT else Dead
        return claim(name, member.epoch, member.incarnation, self._me.name)

    # --- probes of others, and answers ---

    def receive_ping(self, frame: Ping, sender: str, address: Address) -> None:
        if frame.target != self._me.name:
            self._context.counters.count("pings_for_others")
            return
        accusation = self._accusation(sender)
        news = () if accusation is None else (accusation,)
        self._outbox.put(address, Ack(frame.sequence), *self._state.stamp(), *news)

    def receive_indirect_ping(self, frame: IndirectPing, address: Address, now: float) -> None:
        sequence = self.prober.relay(address, frame.sequence)
        if sequence is None:
            self._context.counters.count("relays_full")
            return
        self._outbox.put(frame.address, *self._ping(frame.target, sequence))
        self._timers.set(("relay", sequence), now + self._swim.nack_share * self._swim.probe_timeout_s)

    def receive_ack(self, frame: Ack) -> None:
        relay = self.prober.relays.pop(frame.sequence, None)
        if relay is not None:
            self._timers.cancel(("relay", frame.sequence))
            self._outbox.put(relay.origin, Ack(relay.origin_sequence))
            return
        probe = self.prober.probes.get(frame.sequence)
        if probe is not None:
            self._answered(probe)

    def receive_nack(self, frame: Nack) -> None:
        probe = self.prober.probes.get(frame.sequence)
        if probe is not None:
            probe.nacks = min(probe.nacks + 1, probe.expected_nacks)

    def receive_stream_ack(self, request: int) -> None:
        for probe in list(self.prober.probes.values()):
            if probe.stream_request == request:
                self._answered(probe)

    def end_relay(self, sequence: int, now: float) -> None:
        """The relay timer: first say "no answer yet" and wait on, then give up."""
        relay = self.prober.relays.get(sequence)
        if relay is None:
            return
        if relay.is_nacked:
            del self.prober.relays[sequence]
            return
        relay.is_nacked = True
        self._timers.set(("relay", sequence), now + self._swim.probe_interval_s)
        if self._swim.is_lifeguard_enabled:
            self._outbox.put(relay.origin, Nack(relay.origin_sequence))
