"""`python -m roost.sim.measure_ageing 10 25 50`: how long news takes in the protocol, for the table in `roost.sim.ageing`.

Every node's load changes once a second, each at its own moment; a watcher notes when each other node first has each record. Then one node
after the other falls, and it is noted when each survivor suspects it. Prints the quantiles at SHARES.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from roost.gossip.protocol.events import Event, Happening, HotChanged, MemberChanged
from roost.gossip.protocol.hot_state import Load
from roost.sim.ageing import SHARES
from roost.sim.agenda import Agenda
from roost.sim.gossip_network import GossipNetwork
from roost.sim.seeds import rng_for
from roost.sim.summary import quantile

WARM_S = 8.0
MEASURED_S = 20.0
PERIOD_S = 1.0
FALLS = 5


class Watch:
    """State: when each node last wrote, and what the others took to have it."""

    def __init__(self, nodes: int, seed: int) -> None:
        self.agenda = Agenda()
        self.heard_after_s: list[float] = []
        self.noticed_after_s: list[float] = []
        self._rng = rng_for(seed, "measured loads")
        self._names = [f"node-{number}" for number in range(nodes)]
        self._numbers = {name: number for number, name in enumerate(self._names)}
        self._written_at = [0.0] * nodes
        self._has = [[0] * nodes for _ in range(nodes)]  # listener, owner -> the load it has: loads count up
        self._load = [0] * nodes
        self._fallen: dict[str, float] = {}
        self.network = GossipNetwork(self.agenda, self._names, seed, self._heard)

    def run(self) -> None:
        self.network.form()
        for number in range(len(self._names)):
            self.agenda.at(self._rng.random() * PERIOD_S, self._write, number)
        self.agenda.run_until(WARM_S)
        self.heard_after_s.clear()
        self.agenda.run_until(WARM_S + MEASURED_S)
        for number in range(FALLS):
            self._fallen[self._names[number]] = self.agenda.now
            self.network.crash(number)
            self.agenda.run_until(self.agenda.now + 5.0 + self._rng.random())

    def _write(self, number: int) -> None:
        node = self.network.nodes[number]
        if node is not None:
            self._load[number] += 1
            self._written_at[number] = self.agenda.now
            node.publish_load(Load(queue_depth=self._load[number]), self.agenda.now)
            self.network.settle(number)
            self.agenda.at(self.agenda.now + PERIOD_S, self._write, number)

    def _heard(self, listener: int, event: Event) -> None:
        match event:
            case HotChanged(names):
                for name in names:
                    self._took(listener, self._numbers[name], name)
            case MemberChanged(Happening.SUSPECTED, member) if member.name in self._fallen:
                self.noticed_after_s.append(self.agenda.now - self._fallen[member.name])
            case _:
                pass

    def _took(self, listener: int, owner: int, name: str) -> None:
        node = self.network.nodes[listener]
        told = None if node is None else node.load_of(name, self.agenda.now)
        if told is not None and self._has[listener][owner] < told[0].queue_depth == self._load[owner]:
            self._has[listener][owner] = told[0].queue_depth
            self.heard_after_s.append(self.agenda.now - self._written_at[owner])


def main(sizes: Sequence[int]) -> None:
    for nodes in sizes:
        watch = Watch(nodes, seed=1)
        watch.run()
        for what, values in (("hears", watch.heard_after_s), ("notices", watch.noticed_after_s)):
            told = ", ".join(f"{quantile(values, share):.4f}" for share in SHARES)
            sys.stdout.write(f"{what} {nodes}: ({told}),  # {len(values)} values\n")


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [10, 25, 50])
