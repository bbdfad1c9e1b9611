"""What must hold whatever the network does. Each checker looks at one host after everything that happened to it, and raises Violation."""

from __future__ import annotations

from typing import TypeVar

from roost.gossip.protocol.cold_state import ColdState
from roost.gossip.protocol.config import Address
from roost.gossip.protocol.membership import Member
from roost.gossip.protocol.messages import HotRecord, Status
from roost.gossip.protocol.node import Node
from roost.gossip.protocol.probing import FEW_PROBES

from .cluster import Cluster, Host

D = TypeVar("D")
Observer = tuple[str, int]  # a host's name and which of its lives


class Violation(AssertionError):
    """An invariant does not hold."""


class EachMember:
    """Base of the checkers that follow each member in each observer's table."""

    def observe(self, cluster: Cluster[D], host: Host[D]) -> None:
        if host.node is not None:
            for member in host.node.members:
                self.check((host.name, host.lives), member, cluster.now)

    def check(self, observer: Observer, member: Member, now: float) -> None:
        raise NotImplementedError


class IncarnationsGrow(EachMember):
    """What an observer knows of a member's (epoch, incarnation) never goes back."""

    def __init__(self) -> None:
        self._known: dict[tuple[Observer, str], tuple[int, int]] = {}

    def check(self, observer: Observer, member: Member, now: float) -> None:
        key, life = (observer, member.name), (member.epoch, member.incarnation)
        if life < self._known.get(key, life):
            raise Violation(f"{now:.3f} {observer} saw {member.name} go back from {self._known[key]} to {life}")
        self._known[key] = life


class NoResurrection(EachMember):
    """Who was gone comes back only with a higher incarnation, who left only with a higher epoch, pruned from the table or not."""

    def __init__(self) -> None:
        self._gone: dict[tuple[Observer, str], tuple[int, int, Status]] = {}

    def check(self, observer: Observer, member: Member, now: float) -> None:
        key = (observer, member.name)
        if member.is_gone:
            self._gone[key] = (member.epoch, member.incarnation, member.status)
            return
        was = self._gone.pop(key, None)
        if was is None:
            return
        epoch, incarnation, status = was
        has_right = member.epoch > epoch or (status is Status.DEAD and (member.epoch, member.incarnation) > (epoch, incarnation))
        if not has_right:
            raise Violation(f"{now:.3f} {observer} resurrected {member.peer()} that was {was}")


class OneStatePerIncarnation(EachMember):
    """Within one incarnation a member only goes from alive to suspect to dead; one life has one address everywhere."""

    def __init__(self) -> None:
        self._status: dict[tuple[Observer, str], tuple[int, int, Status]] = {}
        self._addresses: dict[tuple[str, int], Address] = {}

    def check(self, observer: Observer, member: Member, now: float) -> None:
        key = (observer, member.name)
        was = self._status.get(key)
        if was is not None and was[:2] == (member.epoch, member.incarnation) and member.status < was[2]:
            raise Violation(f"{now:.3f} {observer} saw {member.peer()} go back from {was[2].name}")
        self._status[key] = (member.epoch, member.incarnation, member.status)
        address = self._addresses.setdefault((member.name, member.epoch), member.address)
        if address != member.address:
            raise Violation(f"{now:.3f} {observer} has {member.peer()} and others have it at {address}")


class SelfLiveness:
    """A running node believes in itself and has no row for itself; nobody knows a life or incarnation of it that it has not reached."""

    def __init__(self) -> None:
        self._reached: dict[str, tuple[int, int]] = {}

    def observe(self, cluster: Cluster[D], host: Host[D]) -> None:
        node = host.node
        if node is None:
            return
        me = node.identity
        if node.members.get(me.name) is not None:
            raise Violation(f"{cluster.now:.3f} {me.name} has a row for itself")
        if not me.is_leaving and me.entry().status is not Status.ALIVE:
            raise Violation(f"{cluster.now:.3f} {me.name} runs and says it is {me.entry().status.name}")
        self._reached[me.name] = max(self._reached.get(me.name, (0, 0)), (me.epoch, me.incarnation))
        for member in node.members:
            if (member.epoch, member.incarnation) > self._reached.get(member.name, (0, 0)):
                raise Violation(f"{cluster.now:.3f} {me.name} knows {member.peer()}, which never was")


class Bounded:
    """Nothing outgrows its limit, and a suspicion runs for exactly the suspects."""

    def observe(self, cluster: Cluster[D], host: Host[D]) -> None:
        if host.node is not None:
            self.check(host.node, cluster.now)

    def check(self, node: Node[D], now: float) -> None:
        bounds, members = node.config.bounds, node.members
        accusers = node.config.swim.suspicion_alpha - 1  # the first, and those who confirm
        sizes = {
            "members": (len(members), bounds.members),
            "tombstones": (members.tombstones(), bounds.tombstones),
            "rumours": (len(node.rumours), min(bounds.rumours, accusers * (len(members) + members.tombstones() + 1))),
            "probes": (len(node.swim.probing.prober.probes), FEW_PROBES + 1),
            "relays": (len(node.swim.probing.prober.relays), bounds.relays),
            "outbox": (len(node.outbox), 0),  # settled
            "timers": (len(node.timers), 24 + bounds.relays + bounds.streams + len(members)),
            "hot records": (len(node.state.hot), members.reachable_count + 1),
            "cold states": (len(node.state.cold), members.reachable_count + 1),
            "ring": (len(node.swim.probing.prober.ring), members.reachable_count),
        }
        for what, (size, limit) in sizes.items():
            if size > limit:
                raise Violation(f"{now:.3f} {node}: {size} {what}, at most {limit} are allowed")
        suspects = sorted(member.name for member in members if member.status is Status.SUSPECT)
        if suspects != sorted(node.swim.suspicions):
            raise Violation(f"{now:.3f} {node}: suspects {suspects}, suspicions {sorted(node.swim.suspicions)}")


class TimersMoveOn:
    """After a node has been served, nothing is left that is due."""

    def observe(self, cluster: Cluster[D], host: Host[D]) -> None:
        if host.node is None or cluster.now < host.paused_until:
            return
        due = host.node.next_timer()
        if due is not None and due < host.clock(cluster.now) - 0.001:
            raise Violation(f"{cluster.now:.3f} {host.name} has a timer {host.clock(cluster.now) - due:.3f} s overdue")


class StateIsTheOwners:
    """Every record and every key that anybody holds was written by its owner; at the owner's version a replica equals the owner."""

    def __init__(self) -> None:
        self._written: set[HotRecord] = set()
        self._owners: dict[int, ColdState] = {}

    def observe(self, cluster: Cluster[D], host: Host[D]) -> None:
        node = host.node
        if node is None:
            return
        own = node.state.hot.get(node.identity.owner)
        if own is not None:
            self._written.add(own)
        self._owners[node.identity.owner] = node.state.own_cold
        for entry in node.state.hot.entries.values():
            if entry.record not in self._written:
                raise Violation(f"{cluster.now:.3f} {host.name} holds {entry.record}, which nobody wrote")
        for owner, replica in node.state.cold.items():
            self.check(replica, self._owners[owner], cluster.now)

    def check(self, replica: ColdState, original: ColdState, now: float) -> None:
        if replica.version > original.version:
            raise Violation(f"{now:.3f} {replica} is ahead of its owner's {original}")
        if replica.version == original.version and replica.entries() != original.entries():
            raise Violation(f"{now:.3f} {replica} differs from its owner's {original}")


def disagreements(cluster: Cluster[D]) -> list[str]:
    """What is not yet as it must be once everything is calm: each running node sees exactly the running nodes, and their state."""
    running = {host.name: host for host in cluster.running()}
    return [problem for host in running.values() for problem in _disagreements_of(host, running)]


def _disagreements_of(host: Host[D], running: dict[str, Host[D]]) -> list[str]:
    node = host.node
    if node is None:
        return []
    problems: list[str] = []
    seen = {member.name: member for member in node.members if member.status is Status.ALIVE}
    suspects = [member.name for member in node.members if member.status is Status.SUSPECT]
    if suspects or seen.keys() != running.keys() - {host.name}:
        problems.append(f"{host.name} sees {sorted(seen)} alive and {suspects} suspect, not {sorted(running)}")
    for name, member in seen.items():
        other = running[name].node if name in running else None
        if other is None:
            continue
        if (member.epoch, member.incarnation) != (other.identity.epoch, other.identity.incarnation):
            problems.append(f"{host.name} knows {member.peer()} and it is {other.identity}")
        elif node.keys_of(name) != other.keys_of(name):
            problems.append(f"{host.name} has old keys of {name}")
        elif (hot := other.state.hot.get(other.identity.owner)) is not None:
            held = node.state.hot.get(member.owner)
            if held is None or held._replace(version=0) != hot._replace(version=0):
                problems.append(f"{host.name} has old load of {name}")
    return problems
