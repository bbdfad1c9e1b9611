"""What a worker tells of what has failed, model by model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.cluster.errors import EngineFailed, ModelLoadFailed
from roost.cluster.worker_state import MAX_FAILING, MAX_WHY, NOTHING_FAILS, Failing
from roost.worker.core.failures import Failures


def after(*happened: str) -> Failures:
    failures = Failures()
    for each in happened:
        match each:
            case "load failed":
                failures.load_failed("a", ModelLoadFailed("a", "no file"))
            case "call lost":
                failures.call_lost("a", EngineFailed("a", "it broke"))
            case "loaded":
                failures.loaded("a")
            case "served":
                failures.served("a")
            case "forget":
                failures.forget()
    return failures


@pytest.mark.parametrize(
    ("happened", "told"),
    [
        ((), None),
        (("load failed",), Failing(1, 0, "no file")),
        (("load failed", "load failed"), Failing(2, 0, "no file")),
        (("load failed", "loaded"), None),
        (("call lost", "call lost", "load failed", "loaded"), Failing(0, 2, "no file")),
        (("load failed", "loaded", "load failed"), Failing(1, 0, "no file")),
        (("call lost", "loaded"), Failing(0, 1, "it broke")),
        (("call lost", "served"), None),
        (("call lost", "served", "call lost"), Failing(0, 1, "it broke")),
        (("load failed", "call lost", "forget"), None),
        (("loaded", "served"), None),
    ],
)
def test_what_went_wrong_in_a_row_is_told_until_it_goes_well(happened: tuple[str, ...], told: Failing | None) -> None:
    failures = after(*happened)
    assert failures.told.get("a") == told
    assert (failures.told is NOTHING_FAILS) is (told is None)


@given(st.lists(st.sampled_from(["load failed", "call lost", "loaded", "served", "forget"]), max_size=30))
def test_what_is_told_changes_only_with_news(happened: list[str]) -> None:
    failures = Failures()
    for each in happened:
        before = failures.told
        failures.is_news = False
        if each == "load failed":
            failures.load_failed("a", ModelLoadFailed("a", "no file"))
        elif each == "call lost":
            failures.call_lost("a", EngineFailed("a", "it broke"))
        else:
            {"loaded": lambda: failures.loaded("a"), "served": lambda: failures.served("a"), "forget": failures.forget}[each]()
        assert failures.is_news or failures.told is before


def test_of_too_many_the_one_that_failed_longest_ago_is_forgotten_and_long_reasons_are_cut() -> None:
    failures = Failures()
    for number in range(MAX_FAILING + 1):
        failures.load_failed(f"m{number}", ModelLoadFailed(f"m{number}", "x" * 1000))
    assert (len(failures.told), "m0" in failures.told) == (MAX_FAILING, False)
    assert {len(each.why) for each in failures.told.values()} == {MAX_WHY}
