from __future__ import annotations

from dataclasses import replace

import pytest

from roost.gossip.frame_format import frame_size
from roost.gossip.protocol.config import LAN, Address, Bounds, StateParameters
from roost.gossip.protocol.events import (
    ClusterJoined,
    EpochRaised,
    Happening,
    HotChanged,
    LeaveCompleted,
    MemberChanged,
    NameConflict,
)
from roost.gossip.protocol.hot_state import Load
from roost.gossip.protocol.membership import owner_id
from roost.gossip.protocol.messages import (
    Ack,
    Alive,
    ColdDelta,
    Dead,
    Digest,
    HotRecord,
    HotRecords,
    IndirectPing,
    Left,
    MemberEntry,
    Nack,
    Packet,
    Ping,
    PushPull,
    PushPullReply,
    Status,
    StreamAck,
    StreamMessage,
    StreamPing,
    Suspect,
    Want,
)

from .conversation import QUIET, ObjectNode, address_of, alive, events, happenings, hear, make_node, run_timers, sent

STATE = StateParameters()


def node_with(*names: str, state: StateParameters = QUIET, is_lifeguard_enabled: bool = True) -> ObjectNode:
    node = make_node("me", swim=replace(LAN, is_lifeguard_enabled=is_lifeguard_enabled), state=state)
    for name in names:
        hear(node, name, alive(name))
    events(node)
    for name in names:
        node.rumours.drop(name)
    return node


def exchange(asking: ObjectNode, answering: ObjectNode, now: float) -> None:
    """Carry every stream request of one node to the other, and the answers back."""
    for request in asking.stream_requests(now):
        reply = answering.receive_stream(request.data, now)
        if reply is None:
            asking.stream_failed(request.request)
        else:
            asking.receive_stream_reply(request.request, reply, now)


def status_of(node: ObjectNode, name: str) -> Status:
    member = node.members.get(name)
    assert member is not None
    return member.status


# --- joining and leaving ---


def test_one_exchange_makes_two_nodes_know_each_other_and_their_state() -> None:
    one, two = make_node("one", state=STATE), make_node("two", state=STATE)
    one.publish_load(Load(queue_depth=3), 0.0)
    two.publish_keys({"zone": b"north"}, 0.0)
    one.publish_keys({"zone": b"south"}, 0.0)
    one.join([address_of("two")], 1.0)
    one.handle_timer(1.0)
    exchange(one, two, 1.0)
    exchange(one, two, 1.0)  # the third leg
    assert one.peers()[0].name == "two"
    assert one.keys_of("two") == {"zone": b"north"}
    assert two.keys_of("one") == {"zone": b"south"}
    load = two.load_of("one", 1.0)
    assert load is not None
    assert load[0] == Load(queue_depth=3)
    assert ClusterJoined(address_of("two")) in events(one)


def test_seeds_are_asked_again_until_one_answers() -> None:
    node = make_node("me")
    node.join([("seed.example", 7946)], 0.0)
    asked = []
    while (due := node.next_timer()) is not None and due <= 20.0:
        node.handle_timer(due)
        asked += [due for request in node.stream_requests(due) if request.address == ("seed.example", 7946)]
    assert 4 <= len(asked) <= 10
    assert asked[-1] - asked[-2] > asked[1] - asked[0]


def asked_within(node: ObjectNode, seconds: float) -> list[float]:
    """When a node asks anybody over a stream, up to then."""
    times = []
    while (due := node.next_timer()) is not None and due <= seconds:
        node.handle_timer(due)
        times += [due for _ in node.stream_requests(due)]
    return times


def test_a_seed_that_is_leaving_is_no_way_into_the_cluster() -> None:
    one, two = make_node("one"), make_node("two")
    two.leave(0.0)
    one.join([address_of("two")], 0.5)
    one.handle_timer(0.5)
    exchange(one, two, 0.5)
    assert not [event for event in events(one) if isinstance(event, ClusterJoined)]
    assert len(asked_within(one, 10.0)) >= 3, "it asks on"


def test_one_who_is_left_alone_asks_its_seeds_at_once() -> None:
    one, two = make_node("one"), make_node("two")
    one.join([address_of("two")], 0.5)
    one.handle_timer(0.5)
    exchange(one, two, 0.5)
    assert ClusterJoined(address_of("two")) in events(one)
    hear(one, "two", Left("two", 10, 0), now=2.0)
    again = asked_within(one, 6.0)
    assert again[0] == 2.0
    assert len(again) >= 3


def test_while_somebody_is_dead_seeds_are_asked_more_often_where_nobody_is_known_to_live() -> None:
    lasting: dict[str, list[Address]] = {}
    for who in ("alive", "dead"):
        one, two = make_node("one"), make_node("two")
        one.join([address_of("two"), address_of("gone")], 0.5)
        one.handle_timer(0.5)
        exchange(one, two, 0.5)
        hear(one, "two", alive("gone"), *([Dead("gone", 10, 0, "two")] if who == "dead" else []), now=1.0)
        lasting[who] = []
        while (due := one.next_timer()) is not None and due <= 50.0:
            one.handle_timer(due)
            for _, frame in sent(one, due):
                if isinstance(frame, Ping):
                    hear(one, frame.target, Ack(frame.sequence), now=due)
            lasting[who] += [request.address for request in one.stream_requests(due) if due > 2.0]
    assert address_of("gone") not in lasting["alive"]
    assert lasting["dead"].count(address_of("gone")) >= 4  # once in 10 s each, of two


def test_a_leave_is_told_and_is_no_death() -> None:
    me, other = node_with("a", "b", "c"), node_with("me")
    me.leave(5.0)
    goodbyes = [frame for _, frame in run_timers(me, 7.0) if isinstance(frame, Left)]
    assert len(goodbyes) >= 4
    assert events(me) == [LeaveCompleted()]
    assert me.next_timer() is None
    hear(other, "a", goodbyes[0])
    other_me = make_node("other")
    hear(other_me, "me", alive("me"), goodbyes[0])
    assert happenings(other_me) == [("me", Happening.JOINED), ("me", Happening.LEFT)]


def test_one_who_has_left_says_nothing_more() -> None:
    me = node_with("a")
    me.leave(0.0)
    run_timers(me, 2.0)
    hear(me, "a", Ping(1, "me"), now=3.0)
    assert sent(me, 3.0) == []


# --- probing ---


def first_ping(node: ObjectNode) -> tuple[float, Ping]:
    while (due := node.next_timer()) is not None:
        node.handle_timer(due)
        for _, frame in sent(node, due):
            if isinstance(frame, Ping):
                return due, frame
    raise AssertionError("no ping")


def test_an_answered_probe_accuses_nobody() -> None:
    node = node_with("a")
    for _ in range(5):
        at, ping = first_ping(node)
        hear(node, "a", Ack(ping.sequence), now=at + 0.1)
    assert status_of(node, "a") is Status.ALIVE


def test_an_unanswered_probe_goes_through_helpers_and_a_stream_and_then_accuses() -> None:
    node = node_with("a", "b", "c", "d")
    at, ping = first_ping(node)
    frames = run_timers(node, at + 0.6)
    helpers = [frame for _, frame in frames if isinstance(frame, IndirectPing)]
    assert [frame.target for frame in helpers] == [ping.target] * 3
    (request,) = node.stream_requests(at + 0.6)
    assert isinstance(request.data, StreamMessage)
    assert isinstance(request.data.body, StreamPing)
    run_timers(node, at + 1.01)
    assert status_of(node, ping.target) is Status.SUSPECT


@pytest.mark.parametrize("by", ["helper", "stream"])
def test_a_probe_may_be_answered_by_a_helper_or_by_the_stream(by: str) -> None:
    node = node_with("a", "b", "c", "d")
    at, ping = first_ping(node)
    run_timers(node, at + 0.6)
    if by == "helper":
        hear(node, "b", Ack(ping.sequence), now=at + 0.8)
    else:
        (request,) = node.stream_requests(at + 0.6)
        node.receive_stream_reply(request.request, StreamMessage(ping.target, 10, StreamAck(request.request)), at + 0.8)
    run_timers(node, at + 1.01)
    assert status_of(node, ping.target) is Status.ALIVE


@pytest.mark.parametrize(("nacks", "score"), [(0, 3), (1, 2), (3, 0), (9, 0)])
def test_missing_nacks_lower_our_health(nacks: int, score: int) -> None:
    node = node_with("a", "b", "c", "d")
    at, ping = first_ping(node)
    run_timers(node, at + 0.6)
    hear(node, "b", *(Nack(ping.sequence) for _ in range(nacks)), now=at + 0.95)
    run_timers(node, at + 1.01)
    assert node.swim.health.score == score


def test_an_ill_node_probes_more_slowly() -> None:
    node = node_with("a", "b", "c", "d")
    at, _ = first_ping(node)
    run_timers(node, at + 1.01)  # no nacks: three points
    assert node.timers.deadline(("probe", 0)) == pytest.approx(at + 1.0 + 4.0)


def test_a_helper_relays_the_ping_and_the_ack() -> None:
    node = node_with("a", "b")
    hear(node, "a", IndirectPing(77, "b", address_of("b")), now=1.0)
    ((address, ping),) = sent(node, 1.0)
    assert (address, type(ping)) == (address_of("b"), Ping)
    assert isinstance(ping, Ping)
    hear(node, "b", Ack(ping.sequence), now=1.2)
    assert sent(node, 1.2) == [(address_of("a"), Ack(77))]


def test_a_helper_without_an_answer_says_so_at_four_fifths_of_the_timeout() -> None:
    node = node_with("a", "b")
    node.timers.clear()
    hear(node, "a", IndirectPing(77, "b", address_of("b")), now=1.0)
    sent(node, 1.0)
    assert node.next_timer() == pytest.approx(1.4)
    assert run_timers(node, 1.5) == [(address_of("a"), Nack(77))]
    run_timers(node, 3.0)
    assert not node.swim.probing.prober.relays


def test_a_suspect_is_told_in_the_ping_itself() -> None:
    node = node_with("a")
    hear(node, "b", Suspect("a", 10, 0, "b"))
    node.rumours.drop("a")
    while (due := node.next_timer()) is not None:
        node.handle_timer(due)
        frames = [frame for _, frame in sent(node, due)]
        if frames and isinstance(frames[0], Ping):
            assert frames[1] == Suspect("a", 10, 0, "me")
            return


def test_only_the_one_who_is_meant_answers_a_ping() -> None:
    node = node_with("a")
    hear(node, "a", Ping(5, "somebody"), Ping(6, "me"))
    assert sent(node) == [(address_of("a"), Ack(6))]


def test_a_stalled_process_accuses_nobody_and_trusts_itself_less() -> None:
    node = node_with("a", "b", "c", "d")
    hear(node, "b", Suspect("a", 10, 0, "b"), now=0.0)
    before = node.timers.deadline(("suspicion", "a"))
    at, ping = first_ping(node)
    node.handle_timer(at + 7.0)
    assert node.timers.deadline(("suspicion", "a")) == pytest.approx((before or 0.0) + 6.5, abs=0.6)
    assert node.swim.health.score == 1
    if ping.target != "a":
        assert status_of(node, ping.target) is Status.ALIVE


def test_those_who_leave_a_state_exchange_unanswered_are_probed_at_once_and_side_by_side() -> None:
    node = node_with("a", "b", "c", "d", "e")
    at, ping = first_ping(node)
    hear(node, ping.target, Ack(ping.sequence), now=at)
    for name in ("d", "e", "d"):
        node.swim.probing.doubt(name, at + 0.3)
    pings = [frame for _, frame in sent(node, at + 0.3)]
    assert [frame.target for frame in pings if isinstance(frame, Ping)] == ["d", "e"]


def test_of_many_silent_members_only_a_few_are_probed_beside_the_ring() -> None:
    node = node_with(*"abcdefgh")
    first_ping(node)
    for name in "abcdefgh":
        node.swim.probing.doubt(name, 1.1)
    assert len([frame for _, frame in sent(node, 1.1) if isinstance(frame, Ping)]) == 3


def test_whom_we_have_accused_waits_for_the_ring_until_it_answers_for_itself() -> None:
    node = node_with(*"abcde")
    node.timers.cancel(("probe", 0))
    node.swim.probing.doubt("a", 1.0)
    (_, ping) = sent(node, 1.0)[0]
    assert isinstance(ping, Ping)
    run_timers(node, 1.6)
    hear(node, "b", *(Nack(ping.sequence) for _ in range(3)), now=1.9)
    run_timers(node, 2.0)
    assert status_of(node, "a") is Status.SUSPECT
    node.swim.probing.doubt("a", 2.1)
    assert not node.swim.probing.prober.probes
    hear(node, "a", alive("a", incarnation=1), now=2.2)
    node.swim.probing.doubt("a", 2.3)
    assert node.swim.probing.prober.is_probing("a")


def test_who_is_being_probed_helps_no_other_probe() -> None:
    node = node_with("a", "b", "c", "d")
    node.timers.cancel(("probe", 0))
    node.swim.probing.doubt("a", 1.0)
    node.swim.probing.doubt("b", 1.0)
    asked = {(frame.target, address) for address, frame in run_timers(node, 1.6) if isinstance(frame, IndirectPing)}
    assert asked == {(target, address_of(helper)) for target in "ab" for helper in "cd"}


# --- suspicion ---


def test_an_accused_node_refutes_with_a_higher_incarnation_than_the_accusation() -> None:
    node = node_with("a")
    hear(node, "a", Suspect("me", 10, 4, "a"))
    assert node.identity.incarnation == 5
    assert node.swim.health.score == 1
    node.outbox.put(address_of("a"))
    assert sent(node) == [(address_of("a"), Alive("me", address_of("me"), 10, 5))]
    hear(node, "a", Dead("me", 10, 4, "a"))
    assert node.identity.incarnation == 5  # answered before


def test_who_has_missed_our_refutation_hears_it_again_in_the_answer_to_its_ping() -> None:
    node = node_with("a")
    hear(node, "b", Suspect("me", 10, 0, "b"))
    run_timers(node, 10.0)
    assert "me" not in node.rumours  # told as often as a rumour is
    hear(node, "a", Ping(7, "me"), Suspect("me", 10, 0, "a"))
    assert (address_of("a"), Alive("me", address_of("me"), 10, 1)) in sent(node)


def test_a_lone_accuser_waits_long_and_two_confirmations_shorten_it() -> None:
    node = node_with("a", "b", "c", "d")
    hear(node, "b", Suspect("a", 10, 0, "b"), now=0.0)
    assert node.timers.deadline(("suspicion", "a")) == pytest.approx(24.0)
    hear(node, "b", Suspect("a", 10, 0, "b"), now=1.0)
    assert node.timers.deadline(("suspicion", "a")) == pytest.approx(24.0)
    hear(node, "c", Suspect("a", 10, 0, "c"), now=1.0)
    hear(node, "d", Suspect("a", 10, 0, "d"), now=1.0)
    assert node.timers.deadline(("suspicion", "a")) == pytest.approx(4.0)


def test_a_confirmation_is_told_on() -> None:
    node = node_with("a", "b", "c", "d")
    hear(node, "b", Suspect("a", 10, 0, "b"))
    node.rumours.drop("a")
    hear(node, "c", Suspect("a", 10, 0, "c"))
    assert "a" in node.rumours


def test_every_accuser_of_a_suspicion_is_told_of_for_each_of_them_counts() -> None:
    node = node_with("a", "b", "c", "d")
    hear(node, "b", *(Suspect("a", 10, 0, accuser) for accuser in "bc"))
    node.outbox.put(address_of("d"))
    assert {frame for _, frame in sent(node)} == {Suspect("a", 10, 0, "b"), Suspect("a", 10, 0, "c")}


def test_without_lifeguard_the_wait_is_the_minimum_and_nobody_nacks() -> None:
    node = node_with("a", "b", "c", "d", is_lifeguard_enabled=False)
    hear(node, "b", Suspect("a", 10, 0, "b"), now=0.0)
    assert node.timers.deadline(("suspicion", "a")) == pytest.approx(4.0)
    hear(node, "a", Suspect("me", 10, 0, "a"))
    assert node.swim.health.score == 0


def test_a_suspicion_that_runs_out_is_a_death_and_is_told() -> None:
    node = node_with("a", "b", "c", "d")
    hear(node, "b", *(Suspect("a", 10, 0, accuser) for accuser in "bcd"), now=0.0)
    node.timers.cancel(("probe", 0))
    frames = run_timers(node, 4.3)
    assert status_of(node, "a") is Status.DEAD
    assert Dead("a", 10, 0, "me") in [frame for _, frame in frames]


def test_a_refutation_ends_the_suspicion() -> None:
    node = node_with("a", "b")
    hear(node, "b", Suspect("a", 10, 0, "b"))
    hear(node, "a", alive("a", incarnation=1))
    assert happenings(node) == [("a", Happening.SUSPECTED), ("a", Happening.RECOVERED)]
    assert node.timers.deadline(("suspicion", "a")) is None


# --- epochs, conflicts, reconnection ---


def test_a_restart_is_noticed_with_its_first_packet() -> None:
    node = node_with("a")
    hear(node, "b", Dead("a", 10, 3, "b"))
    hear(node, "a", Ack(1), epoch=11)
    assert happenings(node) == [("a", Happening.DIED), ("a", Happening.RESTARTED)]


ELSEWHERE = ("10.9.9.9", 7946)


def answer_probes(node: ObjectNode, until: float, *silent: str) -> None:
    """Time passes; whoever is pinged answers, but for the silent."""
    while (due := node.next_timer()) is not None and due <= until:
        node.handle_timer(due)
        for _, frame in sent(node, due):
            if isinstance(frame, Ping) and frame.target not in silent:
                hear(node, frame.target, Ack(frame.sequence), now=due)
            elif isinstance(frame, IndirectPing):
                hear(node, "b", Nack(frame.sequence), now=due)
        for request in node.stream_requests(due):
            node.stream_failed(request.request)


def address_known(node: ObjectNode, name: str) -> Address:
    member = node.members.get(name)
    assert member is not None
    return member.address


def test_a_name_in_use_stays_with_a_holder_that_answers_and_that_is_reported_once() -> None:
    node = node_with("a", "b")
    for at in (0.0, 3.0, 6.0):
        hear(node, "b", Alive("a", ELSEWHERE, 99, 0), now=at)
        answer_probes(node, at + 2.5)
    assert events(node) == [NameConflict("a", address_of("a"), ELSEWHERE)]
    assert (status_of(node, "a"), address_known(node, "a")) == (Status.ALIVE, address_of("a"))
    assert not len(node.swim.contenders)


def test_a_claim_to_a_name_that_is_of_no_later_life_is_a_conflict_at_once() -> None:
    node = node_with("a")
    hear(node, "b", Alive("a", ELSEWHERE, 10, 7))
    assert events(node) == [NameConflict("a", address_of("a"), ELSEWHERE)]


def test_a_member_that_moved_is_taken_as_soon_as_its_old_address_has_not_answered() -> None:
    node = node_with("a", "b")
    hear(node, "b", Alive("a", ELSEWHERE, 99, 0), now=0.5)
    answer_probes(node, 0.5 + LAN.probe_interval_s + 0.1, "a")
    assert happenings(node) == [("a", Happening.SUSPECTED), ("a", Happening.DIED), ("a", Happening.RESTARTED)]
    assert (status_of(node, "a"), address_known(node, "a")) == (Status.ALIVE, ELSEWHERE)


def test_a_member_that_moved_is_taken_at_once_where_its_old_address_has_not_answered_before() -> None:
    node = node_with("a", "b")
    answer_probes(node, 3.5, "a")
    assert status_of(node, "a") is Status.SUSPECT
    events(node)
    hear(node, "b", Alive("a", ELSEWHERE, 99, 0), now=3.6)
    assert happenings(node) == [("a", Happening.DIED), ("a", Happening.RESTARTED)]


def test_others_suspicions_of_a_holder_do_not_give_its_name_away() -> None:
    node = node_with("a", "b")
    hear(node, "b", Suspect("a", 10, 0, "b"), now=0.0)
    hear(node, "b", Alive("a", ELSEWHERE, 99, 0), now=0.1)
    assert (status_of(node, "a"), address_known(node, "a")) == (Status.SUSPECT, address_of("a"))
    hear(node, "a", alive("a", incarnation=1), now=0.2)
    assert events(node)[-1] == NameConflict("a", address_of("a"), ELSEWHERE)
    assert address_known(node, "a") == address_of("a")


def test_a_node_that_is_ill_gives_no_name_away_until_its_holder_is_dead() -> None:
    node = node_with("a")
    for _ in range(3):
        node.swim.health.was_late()
    hear(node, "b", Alive("a", ELSEWHERE, 99, 0), now=0.5)
    run_timers(node, 6.0)  # the one probe of ours that lasts (1 + 3) s is not answered
    assert (status_of(node, "a"), address_known(node, "a")) == (Status.SUSPECT, address_of("a"))
    hear(node, "b", Dead("a", 10, 0, "b"), now=6.0)
    assert (status_of(node, "a"), address_known(node, "a")) == (Status.ALIVE, ELSEWHERE)


def test_a_packet_of_a_later_life_from_elsewhere_makes_us_ask_it_where_it_is() -> None:
    node = node_with("a", "b")
    for at in (0.1, 0.2):
        node.receive_datagram(Packet("a", 99, ()), ELSEWHERE, at)
    [request] = node.stream_requests(0.2)  # at most one a second
    assert request.address == ELSEWHERE
    mover = MemberEntry("a", ELSEWHERE, 99, 0, Status.ALIVE)
    node.receive_stream_reply(request.request, StreamMessage("a", 99, PushPullReply(request.request, (mover,), (), (), ())), 0.3)
    answer_probes(node, 0.3 + LAN.probe_interval_s + 0.1, "a")
    assert address_known(node, "a") == ELSEWHERE


def test_a_second_one_of_a_name_is_not_asked_again_and_again() -> None:
    node = node_with("a", "b")
    hear(node, "b", Alive("a", ELSEWHERE, 99, 0), now=0.0)
    answer_probes(node, 2.5)
    node.receive_datagram(Packet("a", 99, ()), ELSEWHERE, 3.0)
    assert not node.stream_requests(3.0)


def test_of_several_that_claim_a_name_the_latest_life_is_admitted() -> None:
    node = node_with("a", "b")
    for epoch in (50, 99, 70):
        hear(node, "b", Alive("a", (f"10.9.9.{epoch}", 7946), epoch, 0))
    hear(node, "b", Dead("a", 10, 0, "b"))
    assert address_known(node, "a") == ("10.9.9.99", 7946)


def test_both_holders_of_one_name_hear_of_it() -> None:
    first = make_node("same", epoch=10)
    second = make_node("same", epoch=20, address=("10.9.9.9", 7946))
    second.join([first.config.address], 0.0)
    second.handle_timer(0.0)
    exchange(second, first, 0.0)
    assert events(first) == [NameConflict("same", ("10.9.9.9", 7946), first.config.address)]
    assert events(second) == [NameConflict("same", first.config.address, ("10.9.9.9", 7946))]


def test_a_node_whose_clock_went_back_takes_a_later_epoch() -> None:
    node = make_node("me", epoch=10)
    hear(node, "a", Alive("me", address_of("me"), 50, 3))
    assert node.identity.epoch > 50
    assert EpochRaised(node.identity.epoch) in events(node)


def test_two_lives_that_outbid_the_same_one_differ() -> None:
    """The second has not heard of the first, which wrote records: under the same epoch they would be taken for its own."""
    lives = [make_node("me", epoch=epoch, seed=epoch) for epoch in (10, 3)]
    for node in lives:
        hear(node, "a", Alive("me", address_of("me"), 50, 3))
    assert lives[0].identity.owner != lives[1].identity.owner


def test_a_restarted_node_keeps_what_it_has_published() -> None:
    node = make_node("me", epoch=10, state=STATE)
    node.publish_keys({"zone": b"north"}, 0.0)
    node.publish_load(Load(queue_depth=2), 0.0)
    hear(node, "a", Alive("me", address_of("me"), 50, 3))
    assert node.keys_of("me") == {"zone": b"north"}
    assert node.state.hot.get(node.identity.owner) is not None
    assert node.state.hot.get(owner_id("me", 10)) is None


def test_of_two_nodes_with_one_owner_id_the_younger_takes_a_new_epoch() -> None:
    node = make_node("me", epoch=20)
    node.identity.owner = owner_id("a", 10)
    node.state.cold[node.identity.owner] = node.state.cold.pop(owner_id("me", 20))
    hear(node, "a", alive("a", epoch=10))
    assert node.identity.epoch > 20


def test_one_who_was_buried_under_a_later_life_hears_of_it() -> None:
    swim = replace(LAN, prune_left_after_s=1.0)
    node = make_node("me", swim=swim)
    hear(node, "a", alive("a", epoch=50), Left("a", 50, 0))
    run_timers(node, 3.0)
    assert node.members.get("a") is None
    old = make_node("a", epoch=10)
    old.join([node.config.address], 3.0)
    old.handle_timer(3.0)
    exchange(old, node, 3.0)
    assert old.identity.epoch > 50


def test_a_remote_death_is_taken_as_a_suspicion() -> None:
    node = node_with("a", "b")
    rows = (MemberEntry("a", address_of("a"), 10, 0, Status.DEAD), MemberEntry("zed", address_of("z"), 10, 0, Status.DEAD))
    node.receive_stream(StreamMessage("b", 10, PushPull(1, rows, (), ())), 0.0)
    assert status_of(node, "a") is Status.SUSPECT
    assert node.members.get("zed") is None


def test_hearsay_confirms_no_suspicion() -> None:
    node = node_with("a", "b", "c", "d")
    hear(node, "b", Suspect("a", 10, 0, "b"), now=0.0)
    row = MemberEntry("a", address_of("a"), 10, 0, Status.SUSPECT)
    for sender in ("c", "d"):
        node.receive_stream(StreamMessage(sender, 10, PushPull(1, (row,), (), ())), 0.0)
    assert node.timers.deadline(("suspicion", "a")) == pytest.approx(24.0)


def test_the_dead_are_visited_and_a_healed_partition_needs_no_operator() -> None:
    one, two = make_node("one"), make_node("two")
    hear(one, "two", alive("two"), Dead("two", 10, 0, "x"))
    hear(two, "one", alive("one"), Dead("one", 10, 0, "x"))
    at = 0.0
    while status_of(one, "two") is Status.DEAD and at < 300.0:
        at = one.next_timer() or at
        one.handle_timer(at)
        exchange(one, two, at)
    assert status_of(one, "two") is Status.ALIVE  # its refutation came with its answer
    assert status_of(two, "one") is Status.DEAD  # ours is on its way
    one.outbox.put(address_of("two"))
    for datagram in one.datagrams_to_send(at):
        two.receive_datagram(datagram.data, address_of("one"), at)
    assert status_of(two, "one") is Status.ALIVE


def test_the_recently_dead_are_gossiped_to() -> None:
    node = node_with("a")
    hear(node, "a", Dead("a", 10, 0, "b"), now=0.0)
    assert address_of("a") in [address for address, _ in run_timers(node, 1.0)]
    run_timers(node, 31.0)
    hear(node, "z", alive("q"), Dead("q", 10, 0, "b"), now=31.0)
    late = [address for address, _ in run_timers(node, 32.0)]
    assert address_of("q") in late
    assert address_of("a") not in late


# --- state ---


def records_of(count: int) -> tuple[tuple[Alive, ...], tuple[HotRecord, ...]]:
    claims = tuple(Alive(f"n{i}", ("10.2.0.1", i), 10, 0) for i in range(count))
    return claims, tuple(HotRecord(owner_id(f"n{i}", 10), 1 + i, i, 0, 0) for i in range(count))


def test_a_digest_is_answered_with_what_is_newer_and_what_is_wanted() -> None:
    node = node_with("a", "b", "c", state=STATE)
    a, b, c = (owner_id(name, 10) for name in "abc")
    hear(node, "c", HotRecords((HotRecord(a, 5, 1, 1, 1), HotRecord(b, 7, 1, 1, 1))))
    node.outbox.flush(0)
    hear(node, "c", Digest((a, b, c), (4, 9, 3), (0, 2, 0)))
    frames = [frame for _, frame in sent(node)]
    assert frames == [HotRecords((HotRecord(a, 5, 1, 1, 1),)), Want((b, c), ((b, 0),))]
    hear(node, "c", Want((a,), ()))
    assert [frame for _, frame in sent(node)] == [HotRecords((HotRecord(a, 5, 1, 1, 1),))]


def test_even_a_digest_with_nothing_to_answer_gets_a_sign_of_life() -> None:
    node = node_with("a", state=STATE)
    hear(node, "a", Digest((), (), ()))
    assert sent(node) == [(address_of("a"), HotRecords(()))]


def test_records_and_deltas_of_strangers_are_dropped_and_counted() -> None:
    node = node_with("a", state=STATE)
    hear(node, "a", HotRecords((HotRecord(1, 1, 1, 1, 1),)), ColdDelta(1, 0, 1, 0, True, ()))
    assert node.counters["records_of_strangers"] == node.counters["deltas_of_strangers"] == 1
    assert len(node.state.hot) == 0


def test_what_a_dead_member_said_is_forgotten() -> None:
    node = node_with("a", state=STATE)
    owner = owner_id("a", 10)
    hear(node, "a", HotRecords((HotRecord(owner, 5, 1, 1, 1),)))
    hear(node, "b", Dead("a", 10, 0, "b"))
    assert len(node.state.hot) == 0
    assert node.load_of("a", 0.0) is None


def test_an_ack_carries_our_own_load() -> None:
    node = node_with("a", state=STATE)
    node.publish_load(Load(queue_depth=9), 0.0)
    node.outbox.flush(0)
    hear(node, "a", Ping(6, "me"))
    (_, ack), (_, stamp) = sent(node)
    assert ack == Ack(6)
    assert isinstance(stamp, HotRecords)
    assert stamp.records[0].queue_depth == 9


@pytest.mark.parametrize(("count", "is_pushing"), [(100, False), (140, False), (160, True), (400, True)])
def test_digests_of_all_while_they_fit_and_pushes_of_the_freshest_above(count: int, is_pushing: bool) -> None:  # noqa: FBT001 - a case of the table
    node = make_node("me", state=STATE)
    claims, records = records_of(count)
    for claim in claims:
        node.swim.receive_claim(claim, 0.0)
        node.rumours.drop(claim.name)
    node.state.receive_records([record._replace(version=1) for record in records], 0.0)
    node.state.receive_records(records, 10.0)
    node.state.round(11.0)
    packets = [d.data for d in node.datagrams_to_send(11.0) if isinstance(d.data, Packet)]
    digests = [frame for packet in packets for frame in packet.frames if isinstance(frame, Digest)]
    pushes = [f.records for packet in packets for f in packet.frames if isinstance(f, HotRecords) and len(f.records) > 1]
    assert bool(pushes) is is_pushing
    assert len(digests) == (1 if is_pushing else 2)
    assert len(digests[0].owners) == count + 1 or is_pushing
    if is_pushing:
        assert len(digests[0].owners) >= 140
        assert all(len(records) == min(90, count) for records in pushes)
        assert pushes[0][0].version >= count - 90  # the freshest


def test_every_state_packet_leaves_room_for_membership() -> None:
    bounds = Bounds()
    node = make_node("me", state=STATE)
    claims, records = records_of(300)
    for claim in claims:
        node.swim.receive_claim(claim, 0.0)
    node.state.receive_records(records, 0.0)
    hear(node, "n1", Digest(tuple(r.owner for r in records[:140]), (0,) * 140, (0,) * 140))
    node.state.round(1.0)
    packets = [d.data for d in node.datagrams_to_send(1.0) if isinstance(d.data, Packet)]
    assert len(packets) >= 3
    for packet in packets:
        assert sum(isinstance(frame, Alive) for frame in packet.frames) >= 4
        assert sum(map(frame_size, packet.frames)) <= bounds.datagram_bytes - 40


def test_new_records_are_one_event() -> None:
    node = node_with("a", "b", state=STATE)
    hear(node, "a", HotRecords((HotRecord(owner_id("a", 10), 5, 1, 1, 1), HotRecord(owner_id("b", 10), 5, 1, 1, 1))))
    assert events(node) == [HotChanged(("a", "b"))]


# --- hostile peers ---


def test_invented_members_fill_the_table_and_no_more() -> None:
    bounds = Bounds(members=50, tombstones=20, rumours=30, events=40, conflicts=5)
    node = make_node("me", bounds=bounds)
    for i in range(2_000):
        hear(node, "liar", Alive(f"x{i}", ("10.3.0.1", i % 65536), 1, 0))
        hear(node, "liar", Dead(f"x{i - 1}", 1, 0, "liar"), Alive(f"x{i}", ("10.3.0.2", i % 65536), 2, 0))
    assert len(node.members) == 50
    assert len(node.rumours) <= 30
    assert node.members.tombstones() <= 20
    assert len(node.swim._conflicts) <= 5
    assert len(node.swim.contenders) <= 5
    assert len(events(node)) == 40
    assert node.counters["events_lost"] > 0


def test_relays_are_bounded() -> None:
    node = make_node("me", bounds=Bounds(relays=10))
    hear(node, "a", *(IndirectPing(i, "b", address_of("b")) for i in range(100)))
    assert len(node.swim.probing.prober.relays) == 10
    assert node.counters["relays_full"] == 90


def test_answers_nobody_asked_for_are_ignored() -> None:
    node = node_with("a")
    hear(node, "a", Ack(123), Nack(123))
    node.receive_stream_reply(99, StreamMessage("a", 10, PushPullReply(99, (), (), (), ())), 0.0)
    assert node.receive_stream(StreamMessage("a", 10, StreamAck(3)), 0.0) is None
    assert node.counters["streams_unexpected"] == 1


def test_members_are_told_apart_from_ourselves() -> None:
    node = node_with("a")
    hear(node, "me", Ping(1, "me"))
    assert sent(node) == []
    assert node.counters["packets_of_my_name"] == 1


def test_a_node_is_written_to_be_read() -> None:
    node = node_with("a", "b")
    hear(node, "b", Dead("a", 10, 0, "b"))
    assert repr(node).startswith("<Node <me e10 i0> <Members 1 reachable, 1 gone, 0 buried> <LocalHealth 0/7>")
    assert [e for e in events(node) if isinstance(e, MemberChanged)]
