"""Which names have changed since when."""

from __future__ import annotations

from roost.worker.core.change_log import MAX_NAMES, ChangeLog


def test_each_reader_hears_of_what_changed_since_it_read_last_and_of_no_name_twice() -> None:
    log = ChangeLog()
    assert log.since(0) == ()
    log.changed("a")
    early = log.version
    log.changed("b")
    log.changed("c")
    log.changed("b")
    assert set(log.since(0) or ()) == {"a", "b", "c"}
    assert sorted(log.since(early) or ()) == ["b", "c"]
    assert log.since(log.version) == ()


def test_what_lies_too_far_back_is_not_remembered_and_that_is_said() -> None:
    log = ChangeLog()
    for number in range(MAX_NAMES + 1):
        log.changed(f"m-{number}")
    assert log.since(0) is None
    assert len(log.since(1) or ()) == MAX_NAMES
