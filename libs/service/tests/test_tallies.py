from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from roost.service.metrics import ServiceMetrics  # turns the `_created` series off, as every service does
from roost.service.tallies import CounterTally, HistogramTally

BOUNDS = (0.001, 0.01, 0.1, 1.0)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 2)), max_size=30))
def test_what_is_exposed_is_what_prometheus_client_would_expose(events: list[tuple[str, float]]) -> None:
    ServiceMetrics("service", CollectorRegistry())
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counter = CounterTally("roost_events", "Events.", ["kind"], ours)
    seconds = HistogramTally("roost_seconds", "Time.", ours, bounds=BOUNDS, labels=["kind"])
    expected_counter = Counter("roost_events", "Events.", ["kind"], registry=theirs)
    expected_seconds = Histogram("roost_seconds", "Time.", ["kind"], registry=theirs, buckets=BOUNDS)
    for kind, value in events:
        counter.series(kind).count()
        seconds.series(kind).observe(value)
        expected_counter.labels(kind).inc()
        expected_seconds.labels(kind).observe(value)
    assert generate_latest(ours) == generate_latest(theirs)


def test_label_values_may_be_shown_before_anything_is_counted() -> None:
    registry = CollectorRegistry()
    CounterTally("roost_events", "Events.", ["kind"], registry).series("a")
    assert registry.get_sample_value("roost_events_total", {"kind": "a"}) == 0


def test_a_histogram_without_labels_is_shown_from_the_start() -> None:
    registry = CollectorRegistry()
    HistogramTally("roost_seconds", "Time.", registry, bounds=BOUNDS).series()
    assert registry.get_sample_value("roost_seconds_count") == 0
