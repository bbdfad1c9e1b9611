"""The view of the cluster: which report counts, who is alive, what is known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.cluster.errors import NoCapacity, NoWorkers, UnknownModel, UnknownWorker
from roost.cluster.silence import STOOD_STILL_S
from roost.cluster.view import Applied, ClusterView, LivenessChange, WorkerEntry
from roost.cluster.worker_state import CacheCounters, CatalogueModel, Liveness, ModelStatus, Phase, WorkerState

LIVE, SUSPECT, DEAD = Liveness.LIVE, Liveness.SUSPECT, Liveness.DEAD
LLAMA = CatalogueModel("llama-7b", "simulated", 13_000)
PHI = CatalogueModel("phi-2", "simulated", 5_000)
PINNED = {"phi-2": ModelStatus("phi-2", Phase.READY, 5_000, is_pinned=True)}


def report(
    view: ClusterView,
    now: float = 0.0,
    node_id: str = "w",
    *,
    epoch: int = 1,
    sequence: int = 1,
    stream: int = 0,
    is_streamed: bool = True,
    resident: dict[str, Phase] | None = None,
    **fields: object,
) -> Applied:
    models = {name: ModelStatus(name, phase, 7) for name, phase in (resident or {}).items()}
    state = WorkerState(node_id, **{"models": models, "epoch": epoch, "sequence": sequence} | fields)  # type: ignore[arg-type]
    return view.apply(state, now, is_streamed=is_streamed, stream=stream)


# --- which report counts --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("is_draining", "epoch", "stream", "has_left"),
    [
        pytest.param(True, 2, 3, True, id="its own stream, after it said that it drains"),
        pytest.param(False, 2, 3, False, id="it did not say that it stops"),
        pytest.param(True, 1, 3, False, id="the stream of an earlier life"),
        pytest.param(True, 2, 2, False, id="an older stream of this life"),
    ],
)
def test_a_draining_worker_that_ends_its_stream_has_left(*, is_draining: bool, epoch: int, stream: int, has_left: bool) -> None:
    view = ClusterView()
    report(view, epoch=2, stream=3, is_draining=is_draining, resident={"llama-7b": Phase.READY})
    assert view.leave("w", epoch, stream) is has_left
    assert ("w" not in view.entries) is has_left
    assert sum(view.counts().values()) == (0 if has_left else 1)
    assert ("llama-7b" not in view.catalogue()) is has_left
    assert not view.leave("nobody", 1, 1)


@pytest.mark.parametrize(
    ("known", "arrives", "is_accepted"),
    [
        pytest.param((1, 5), (1, 6), True, id="next"),
        pytest.param((1, 5), (1, 9), True, id="later, with a gap"),
        pytest.param((1, 5), (1, 5), False, id="the same again"),
        pytest.param((1, 5), (1, 4), False, id="older"),
        pytest.param((2, 5), (1, 9), False, id="of an earlier life"),
        pytest.param((1, 5), (2, 1), True, id="of a later life"),
        pytest.param((0, 0), (0, 0), True, id="epoch not tracked"),
        pytest.param((7, 5), (0, 0), True, id="not tracked any more"),
        pytest.param((0, 0), (1, 1), True, id="tracked from now on"),
        pytest.param((1, 5), (1, 0), True, id="sequence not tracked"),
    ],
)
def test_only_what_is_newer_is_accepted(known: tuple[int, int], arrives: tuple[int, int], *, is_accepted: bool) -> None:
    view = ClusterView()
    first = report(view, epoch=known[0], sequence=known[1])
    second = report(view, 1.0, epoch=arrives[0], sequence=arrives[1], queue_depth=3)
    assert first.is_accepted
    assert second.is_accepted is is_accepted
    assert view.entry("w").state.queue_depth == (3 if is_accepted else 0)
    assert view.entry("w").received_at == (1.0 if is_accepted else 0.0)


def test_a_first_report_makes_a_live_worker() -> None:
    applied = report(ClusterView())
    assert (applied.is_accepted, applied.is_new_epoch, applied.became_live) == (True, True, True)
    assert applied.entry.liveness is LIVE


def test_a_restarted_worker_is_believed_at_once_and_its_counts_are_kept() -> None:
    view = ClusterView()
    report(view, cache=CacheCounters(hits=5, loads=1))
    report(view, sequence=2, cache=CacheCounters(hits=7, loads=2))
    applied = report(view, 1.0, epoch=2, cache=CacheCounters(hits=1))
    assert (applied.is_new_epoch, applied.became_live) == (True, False)
    assert applied.entry.counters == CacheCounters(hits=8, loads=2)


def test_a_report_that_tracks_no_epoch_is_not_a_restart() -> None:
    view = ClusterView()
    report(view, cache=CacheCounters(hits=5), catalogue=(PHI,))
    view.stream_lost("w", 1, 0.5)
    applied = report(view, 1.0, epoch=0, sequence=0, is_streamed=False)
    assert (applied.is_accepted, applied.is_new_epoch) == (True, False)
    applied = report(view, 2.0, sequence=2, cache=CacheCounters(hits=6))
    assert (applied.is_new_epoch, applied.entry.counters.hits) == (False, 6)
    assert view.can_load("w", "phi-2")


@pytest.mark.parametrize("epoch", [0, 1, 2])
def test_a_live_workers_stream_is_believed_before_a_report_without_one(epoch: int) -> None:
    view = ClusterView()
    report(view, address="host:8001")
    applied = report(view, 1.0, epoch=epoch, sequence=9, is_streamed=False)
    assert not applied.is_accepted
    entry = view.entry("w")
    assert (entry.is_streamed, entry.state.address, entry.received_at) == (True, "host:8001", 0.0)
    view.stream_lost("w", 1, 2.0)
    assert report(view, 3.0, epoch=epoch, sequence=9, is_streamed=False).is_accepted


def test_a_dead_worker_whose_clock_was_set_back_is_believed() -> None:
    view = ClusterView()
    report(view, epoch=100)
    view.advance(11.0)
    assert report(view, 12.0, epoch=50).became_live


@pytest.mark.parametrize(
    ("lost", "stream", "is_accepted"),
    [
        pytest.param("broken", 4, True, id="a stream opened after the later life's broke"),
        pytest.param("broken", 3, False, id="the same stream"),
        pytest.param("broken", 2, False, id="a stream opened before: its reports are from the past"),
        pytest.param("broken", 0, False, id="no stream: it may be delayed"),
        pytest.param("silent", 4, True, id="a stream opened when the later life is silent"),
        pytest.param("live", 4, False, id="while the later life lives"),
    ],
)
def test_an_older_epoch_is_believed_on_a_new_stream_once_the_life_that_is_known_is_not_live(
    lost: str, stream: int, *, is_accepted: bool
) -> None:
    view = ClusterView()
    report(view, epoch=100, stream=3, cache=CacheCounters(hits=5))
    if lost == "broken":
        view.stream_lost("w", 100, 0.5, stream=3)
    elif lost == "silent":
        view.advance(3.5)
    applied = report(view, 4.0, epoch=50, stream=stream, is_streamed=stream > 0, cache=CacheCounters(hits=1))
    assert applied.is_accepted is is_accepted
    if is_accepted:
        assert (applied.is_new_epoch, applied.became_live, applied.entry.counters.hits) == (True, True, 6)
        assert not view.stream_lost("w", 100, 5.0, stream=3)
        assert report(view, 6.0, epoch=100, sequence=9, stream=stream + 1).is_accepted  # it lives after all: the later epoch wins


# --- who is alive ---------------------------------------------------------------------------------


def test_a_broken_stream_makes_a_worker_suspect_at_once_and_a_report_heals_it() -> None:
    view = ClusterView()
    report(view)
    assert view.stream_lost("w", 1, 0.5)
    assert view.entry("w").liveness is SUSPECT
    assert report(view, 0.6, sequence=2).became_live
    assert view.entry("w").liveness is LIVE


def test_the_loss_of_an_earlier_lifes_stream_changes_nothing() -> None:
    view = ClusterView()
    report(view)
    report(view, epoch=2)
    assert not view.stream_lost("w", 1, 1.0)
    assert view.entry("w").liveness is LIVE


def test_the_loss_of_an_older_stream_of_the_same_life_changes_nothing() -> None:
    view = ClusterView()
    report(view, stream=1)
    report(view, sequence=2, stream=2)
    assert not view.stream_lost("w", 1, 1.0, stream=1)
    assert view.entry("w").liveness is LIVE
    assert view.stream_lost("w", 1, 1.0, stream=2)


def test_the_loss_of_an_unknown_workers_stream_changes_nothing() -> None:
    assert not ClusterView().stream_lost("w", 1, 0.0)


def test_a_suspect_worker_is_dead_ten_seconds_after_its_last_report() -> None:
    view = ClusterView()
    report(view, 0.0, "lost")
    report(view, 5.0, "other")
    view.stream_lost("lost", 1, 6.0)
    report(view, 8.0, "other", sequence=2)
    assert view.advance(10.0) == []
    assert view.advance(10.5) == [LivenessChange("lost", SUSPECT, DEAD, 10.5)]


@pytest.mark.parametrize("is_streamed", [True, False])
def test_a_silent_worker_is_suspect_before_it_is_dead(*, is_streamed: bool) -> None:
    view = ClusterView()
    report(view, is_streamed=is_streamed)
    assert view.advance(3.0) == []
    assert view.advance(3.5) == [LivenessChange("w", LIVE, SUSPECT, 3.5)]
    assert view.advance(10.0) == []
    assert view.advance(10.1) == [LivenessChange("w", SUSPECT, DEAD, 10.1)]
    assert view.advance(10.2) == []


def test_the_next_report_of_a_worker_that_fell_silent_makes_it_live() -> None:
    view = ClusterView()
    report(view)
    view.advance(3.5)
    assert report(view, 4.0, sequence=2).became_live
    assert view.advance(7.0) == []


def test_a_bound_for_death_below_that_for_suspicion_holds() -> None:
    view = ClusterView(dead_after_s=1.0)
    report(view)
    assert view.advance(1.0) == []
    assert view.advance(1.1) == [LivenessChange("w", LIVE, DEAD, 1.1)]


# --- when the decider itself stood still ----------------------------------------------------------


def test_silence_while_the_decider_stood_still_is_nobodys() -> None:
    view = ClusterView()
    report(view, 0.0, "healthy")
    report(view, 0.0, "gone")
    assert view.advance(0.25, expected_interval_s=0.25) == []
    assert view.advance(60.0, expected_interval_s=0.25) == []
    changes = []
    for step in range(1, 60):
        now = 60.0 + step * 0.25
        report(view, now, "healthy", sequence=1 + step)  # the first of these lay unread
        changes += [(now, change.node_id, change.after) for change in view.advance(now, expected_interval_s=0.25)]
    assert changes == [(63.25, "gone", SUSPECT), (70.25, "gone", DEAD)]


@pytest.mark.parametrize(
    ("expected_interval_s", "is_judged"),
    [
        pytest.param(None, True, id="nothing was expected"),
        pytest.param(2.5, True, id="a second late"),
        pytest.param(1.9, False, id="later"),
    ],
)
def test_only_a_timer_that_is_far_too_late_excuses_silence(expected_interval_s: float | None, *, is_judged: bool) -> None:
    view = ClusterView()
    report(view)
    view.advance(0.0)
    assert bool(view.advance(3.5, expected_interval_s=expected_interval_s)) is is_judged


def test_a_pause_that_passes_for_lateness_makes_no_healthy_worker_suspect() -> None:
    view = ClusterView()
    report(view)
    assert view.advance(1.0, expected_interval_s=0.25) == []  # the next report is due now
    assert view.advance(1.0 + 0.25 + STOOD_STILL_S, expected_interval_s=0.25) == []


def test_a_worker_comes_back_from_the_dead() -> None:
    view = ClusterView()
    report(view)
    view.advance(11.0)
    assert report(view, 12.0, sequence=2).became_live
    assert view.counts() == {LIVE: 1, SUSPECT: 0, DEAD: 0}


def test_a_long_dead_worker_is_forgotten() -> None:
    view = ClusterView(forget_after_s=60.0)
    report(view, resident={"only-here": Phase.READY})
    view.advance(11.0)
    assert view.advance(61.0) == [LivenessChange("w", DEAD, None, 61.0)]
    assert dict(view.entries) == {}
    assert dict(view.catalogue()) == {}
    assert view.counts() == {LIVE: 0, SUSPECT: 0, DEAD: 0}


def test_a_full_table_refuses_a_new_worker_but_drops_a_dead_one_for_it() -> None:
    view = ClusterView(max_workers=2)
    report(view, 0.0, "a")
    report(view, 5.0, "b")
    with pytest.raises(NoCapacity, match="the view holds 2 workers and none of them is dead"):
        report(view, 6.0, "c")
    assert report(view, 7.0, "b", sequence=2).is_accepted
    view.advance(11.0)
    report(view, 11.0, "c")
    assert set(view.entries) == {"b", "c"}


# --- what is known --------------------------------------------------------------------------------


def test_models_of_every_catalogue_and_those_seen_resident_are_known() -> None:
    view = ClusterView(catalogue=[LLAMA])
    report(view, catalogue=(PHI,))
    report(view, 0.0, "simple", epoch=0, resident={"seen": Phase.LOADING})
    assert list(view.catalogue()) == ["llama-7b", "phi-2", "seen"]
    assert view.catalogue()["seen"] == CatalogueModel("seen", "", 7)
    for name in view.catalogue():
        view.check_known(name)


def test_a_model_stays_known_while_any_worker_lists_it() -> None:
    view = ClusterView()
    report(view, 0.0, "a", catalogue=(PHI,))
    report(view, 0.0, "b", catalogue=(PHI,))
    report(view, 0.0, "a", sequence=2, catalogue=())
    view.check_known("phi-2")
    report(view, 0.0, "b", sequence=2, catalogue=(LLAMA,))
    with pytest.raises(UnknownModel):
        view.check_known("phi-2")


def test_a_report_without_catalogue_leaves_the_last_one_and_a_new_life_begins_without() -> None:
    view = ClusterView()
    report(view, catalogue=(PHI,))
    report(view, sequence=2)
    assert view.can_load("w", "phi-2")
    report(view, epoch=2)
    assert list(view.catalogue()) == []


def test_equal_catalogues_are_kept_once() -> None:
    view = ClusterView()
    one = report(view, 0.0, "a", catalogue=(PHI, LLAMA)).entry
    other = report(view, 0.0, "b", catalogue=(PHI, LLAMA)).entry
    assert one.catalogue is other.catalogue


def test_an_unknown_model_is_refused_with_the_nearest_names() -> None:
    view = ClusterView(catalogue=[LLAMA, PHI])
    report(view)
    with pytest.raises(UnknownModel, match="no catalogue knows a model named 'lama7b'; did you mean llama-7b"):
        view.check_known("lama7b")


def test_no_model_is_called_unknown_while_no_worker_is_live() -> None:
    view = ClusterView(catalogue=[LLAMA])
    view.check_known("llama-7b")
    with pytest.raises(NoWorkers, match="no live worker is known yet that could have 'phi-2' in its catalogue"):
        view.check_known("phi-2")
    report(view)
    with pytest.raises(UnknownModel):
        view.check_known("phi-2")
    view.stream_lost("w", 1, 1.0)
    with pytest.raises(NoWorkers):
        view.check_known("phi-2")
    view.advance(11.0)
    with pytest.raises(NoWorkers):
        view.check_known("phi-2")


def test_an_unknown_worker_is_refused_with_the_nearest_names() -> None:
    view = ClusterView()
    report(view, 0.0, "worker-1")
    with pytest.raises(UnknownWorker, match="did you mean worker-1"):
        view.entry("woker-1")


def test_a_spelling_hint_among_many_names_is_still_found() -> None:
    view = ClusterView(catalogue=[CatalogueModel(f"model-{number:05}", "simulated", 1) for number in range(5_000)] + [LLAMA])
    report(view)
    with pytest.raises(UnknownModel, match="llama-7b"):
        view.check_known("llama-7B")


def test_a_hint_follows_what_is_known() -> None:
    view = ClusterView(catalogue=[PHI])
    for sequence, (catalogue, nearest) in enumerate([((), ()), ((LLAMA,), ("llama-7b",)), ((), ())], start=1):
        report(view, sequence=sequence, catalogue=catalogue)
        with pytest.raises(UnknownModel) as refused:
            view.check_known("llama-8b")
        assert refused.value.nearest == nearest


@pytest.mark.parametrize(
    ("fields", "can_load"),
    [
        pytest.param({"catalogue": (LLAMA,)}, True, id="in its catalogue"),
        pytest.param({"catalogue": (PHI,)}, False, id="not in its catalogue"),
        pytest.param({"catalogue": ()}, False, id="loads nothing new"),
        pytest.param({}, True, id="sent no catalogue"),
        pytest.param({"catalogue": (LLAMA,), "memory_capacity_bytes": 12_999}, False, id="larger than its memory"),
        pytest.param({"catalogue": (LLAMA,), "memory_capacity_bytes": 13_000}, True, id="just fits"),
        pytest.param({"memory_capacity_bytes": 12_999}, False, id="no catalogue, larger than its memory"),
        pytest.param({"catalogue": (), "resident": {"llama-7b": Phase.READY}}, True, id="has it"),
        pytest.param({"memory_capacity_bytes": 1, "resident": {"llama-7b": Phase.LOADING}}, True, id="is loading it"),
        pytest.param({"memory_capacity_bytes": 18_000, "models": PINNED}, True, id="just fits beside what is pinned"),
        pytest.param({"memory_capacity_bytes": 17_999, "models": PINNED}, False, id="does not fit beside what is pinned"),
        pytest.param({"memory_capacity_bytes": 5_000, "models": PINNED}, False, id="everything is pinned"),
        pytest.param({"models": PINNED}, True, id="pinned, of a memory nobody knows"),
    ],
)
def test_what_a_worker_can_load(fields: dict[str, object], *, can_load: bool) -> None:
    view = ClusterView(catalogue=[LLAMA])
    report(view, **fields)  # type: ignore[arg-type]
    assert view.can_load("w", "llama-7b") is can_load


def test_totals_are_over_live_workers() -> None:
    view = ClusterView()
    report(view, 0.0, "a", gpu_utilization=0.5, queue_depth=3)
    report(view, 0.0, "b", gpu_utilization=0.1, queue_depth=4, is_draining=True)
    report(view, 0.0, "c", gpu_utilization=0.9, queue_depth=9)
    view.stream_lost("c", 1, 0.1)
    totals = view.totals()
    assert (totals.active_workers, totals.total_queue_depth) == (1, 7)
    assert totals.average_gpu_utilization == pytest.approx(0.3)
    assert ClusterView().totals().average_gpu_utilization == 0.0


def test_residency_names_live_workers_in_order() -> None:
    view = ClusterView()
    report(view, 0.0, "b", resident={"m": Phase.READY})
    report(view, 0.0, "a", resident={"m": Phase.READY, "n": Phase.LOADING})
    report(view, 0.0, "lost", resident={"m": Phase.READY})
    view.stream_lost("lost", 1, 0.1)
    found = view.residency()
    assert (found["m"].ready_on, found["m"].loading_on) == (["a", "b"], [])
    assert (found["n"].ready_on, found["n"].loading_on) == ([], ["a"])


# --- changes --------------------------------------------------------------------------------------


def test_the_version_grows_with_what_an_operator_would_see_and_not_with_repetition() -> None:
    view = ClusterView()
    report(view)
    seen = view.version
    report(view, 1.0, sequence=2)
    assert view.version == seen
    report(view, 2.0, sequence=3, queue_depth=1)
    assert view.version == seen + 1
    view.stream_lost("w", 1, 3.0)
    assert view.version == seen + 2


def test_listeners_hear_of_each_change_and_of_what_was_there_before_them() -> None:
    view = ClusterView(forget_after_s=20.0)
    report(view)
    heard: list[tuple[WorkerEntry | None, WorkerEntry | None]] = []
    view.subscribe(lambda before, after: heard.append((before, after)))
    report(view, 1.0, sequence=2)
    view.stream_lost("w", 1, 2.0)
    view.advance(12.0)
    view.advance(30.0)
    after = [entry.liveness if entry else None for _, entry in heard]
    assert after == [LIVE, LIVE, SUSPECT, DEAD, None]
    assert heard[0][0] is None
    assert all(before is earlier for (before, _), (_, earlier) in zip(heard[1:], heard, strict=False))


def test_the_repr_is_written_to_be_read_in_a_failure() -> None:
    view = ClusterView(catalogue=[LLAMA])
    report(view)
    report(view, 1.0, "x")
    view.stream_lost("x", 1, 1.5)
    assert repr(view) == "<ClusterView v=3, 1 live, 1 suspect, 0 dead, 1 models, oldest live 1.5 s>"


steps = st.lists(
    st.tuples(st.sampled_from(["report", "unary", "lost", "advance"]), st.integers(0, 4), st.integers(0, 2), st.floats(0, 6)), max_size=80
)


@settings(derandomize=True, deadline=None)
@given(steps=steps)
def test_counts_and_liveness_always_follow_from_what_was_heard(steps: list[tuple[str, int, int, float]]) -> None:
    view = ClusterView(forget_after_s=30.0, catalogue=[LLAMA])
    now = 0.0
    for number, (what, worker, epoch, gap_s) in enumerate(steps, start=1):
        now += gap_s
        name = f"w{worker}"
        if what == "advance":
            view.advance(now)
            for entry in view.entries.values():
                silent_s = now - entry.received_at
                assert (entry.liveness is DEAD) == (silent_s > 10.0)
                assert silent_s <= 30.0
                assert entry.liveness is not LIVE or silent_s <= 3.0
        elif what == "lost":
            view.stream_lost(name, epoch, now)
        else:
            catalogue = [None, (PHI,), ()][number % 3]
            resident = {"seen": Phase.READY} if number % 2 else {}
            report(view, now, name, epoch=epoch, sequence=number, is_streamed=what == "report", catalogue=catalogue, resident=resident)
        counted = [entry.liveness for entry in view.entries.values()]
        assert view.counts() == {liveness: counted.count(liveness) for liveness in Liveness}
        expected = {"llama-7b"}
        for entry in view.entries.values():
            expected |= set(entry.state.models) | (set(entry.catalogue.models) if entry.catalogue else set())
        assert set(view.catalogue()) == expected
