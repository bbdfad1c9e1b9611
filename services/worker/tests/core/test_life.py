"""Which life of a worker goes on, where the wall clock was set back, and where two living workers share a name. In virtual time."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.view import ClusterView
from roost.cluster.worker_state import Liveness, WorkerState
from roost.worker.core.life import MAX_OUTBIDS, Life

HOUR_NS = 3600 * 10**9


def test_a_life_that_is_told_of_one_in_its_future_outbids_it() -> None:
    life = Life(epoch=9 * HOUR_NS)
    assert life.outbid(10 * HOUR_NS, now_ns=9 * HOUR_NS + 5)
    assert life.epoch == 10 * HOUR_NS + 1


def test_a_life_that_is_told_of_one_that_began_meanwhile_does_not_outbid_it() -> None:
    life = Life(epoch=9 * HOUR_NS)
    assert not life.outbid(10 * HOUR_NS, now_ns=11 * HOUR_NS)
    assert life.epoch == 9 * HOUR_NS


@given(st.integers(1, 2**62), st.lists(st.tuples(st.integers(0, 2**62), st.integers(0, 2**62)), max_size=10))
def test_an_epoch_never_decreases_and_is_raised_a_bounded_number_of_times(epoch: int, told: list[tuple[int, int]]) -> None:
    life, known = Life(epoch), epoch
    for told_epoch, now_ns in told:
        has_outbid = life.outbid(told_epoch, now_ns)
        assert life.epoch == (told_epoch + 1 if has_outbid else known)
        assert life.epoch >= known
        known = life.epoch
    assert life.outbids <= MAX_OUTBIDS


@dataclass
class Machine:
    """A worker that dials its decider every second while it lives. `offset_ns`: its wall clock minus the true time."""

    life: Life
    offset_ns: int
    is_alive: bool = True
    stream: int = 0
    sequence: int = 0
    refused: int = 0


@dataclass
class World:
    """One decider and workers that all have one name, told as a coordinator tells them: by the view's word on each report."""

    view: ClusterView = field(default_factory=ClusterView)
    now: float = 0.0
    streams: int = 0
    holders: list[Machine] = field(default_factory=list)  # who held the name, in order

    def machine(self, offset_h: float = 0.0) -> Machine:
        offset_ns = round(offset_h * HOUR_NS)
        return Machine(Life(epoch=1000 * HOUR_NS + round(self.now * 1e9) + offset_ns), offset_ns)

    def tick(self, *machines: Machine) -> None:
        """A second passes: who lives reports on its stream, or dials."""
        self.now += 1.0
        self.view.advance(self.now)
        for machine in machines:
            while machine.is_alive and not self._says(machine):
                pass

    def _says(self, machine: Machine) -> bool:
        """False if it is to try again at once."""
        machine.sequence += 1
        if not machine.stream:
            self.streams += 1
        stream = machine.stream or self.streams
        state = WorkerState("w", epoch=machine.life.epoch, sequence=machine.sequence)
        is_current = not machine.stream or (bool(self.holders) and self.holders[-1] is machine)
        applied = self.view.apply(state, self.now, is_streamed=True, stream=stream) if is_current else None
        if applied is not None and applied.is_accepted:
            machine.stream = stream
            if not self.holders or self.holders[-1] is not machine:
                self.holders.append(machine)
            return True
        machine.stream = 0
        machine.refused += 1
        told = self.view.entry("w").state.epoch
        return not machine.life.outbid(told, 1000 * HOUR_NS + round(self.now * 1e9) + machine.offset_ns)

    def kill(self, machine: Machine) -> None:
        """As a process is: its stream breaks."""
        machine.is_alive = False
        self.view.stream_lost("w", machine.life.epoch, self.now, stream=machine.stream)


def test_a_worker_whose_clock_went_back_an_hour_is_taken_as_soon_as_its_earlier_lifes_stream_broke() -> None:
    world = World()
    before = world.machine()
    world.tick(before)
    world.kill(before)
    after = world.machine(offset_h=-1)
    world.tick(before, after)
    assert world.holders == [before, after]
    assert after.life.outbids == 0


def test_a_worker_whose_clock_went_back_is_taken_at_once_where_nobody_saw_its_earlier_life_end() -> None:
    world = World()
    before = world.machine()
    world.tick(before)
    before.is_alive = False  # the machine lost its power: no stream breaks
    after = world.machine(offset_h=-1)
    world.tick(before, after)
    assert world.holders == [before, after]
    assert after.life.outbids == 1


def test_a_worker_that_moved_to_a_machine_with_a_slow_clock_is_taken_when_the_other_has_fallen_silent() -> None:
    world = World()
    before = world.machine()
    world.tick(before)
    before.is_alive = False
    after = Machine(Life(epoch=before.life.epoch - 1), offset_ns=HOUR_NS)  # an epoch that is no future to it
    for _ in range(5):
        world.tick(before, after)
    assert world.holders == [before, after]
    assert world.view.entry("w").liveness is Liveness.LIVE


@pytest.mark.parametrize("seed", range(50))
def test_two_living_workers_of_one_name_do_not_fight_for_ever_and_one_of_them_is_refused(seed: int) -> None:
    rng = random.Random(seed)
    world = World()
    first = world.machine(offset_h=rng.choice((-1, 0, 1)))
    world.tick(first)
    second = world.machine(offset_h=rng.choice((-2, -1, 0, 1)))
    for _ in range(100):
        pair = [first, second]
        rng.shuffle(pair)
        world.tick(*pair)
        if rng.random() < 0.05:
            pair[0].offset_ns -= rng.choice((0, HOUR_NS))  # a clock is set back while both live
    assert len(world.holders) <= 2 + 2 * MAX_OUTBIDS
    assert first.refused + second.refused > 20  # the loser comes back again and again: that is what the warning is made of


def test_the_loser_of_a_shared_name_takes_over_when_the_holder_ends() -> None:
    world = World()
    first = world.machine()
    world.tick(first)
    second = world.machine()
    world.tick(first, second)
    assert world.holders == [first, second]
    world.tick(first, second)
    assert (first.refused > 0, world.holders[-1] is second) == (True, True)
    world.kill(second)
    world.tick(first, second)
    assert world.holders[-1] is first
