"""The compose cluster without a coordinator: any sidecar answers, and nothing that dies stops the others. The tests run in this order."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.containers.asking import (
    MODEL,
    MODELS,
    SCRAPE_DEADLINE_S,
    generate,
    has_numbers,
    liveness,
    queries_of,
    stops_cleanly,
)
from tests.containers.stack import SIDECARS, WORKERS, Stack, eventually, run

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]  # the first of them builds and starts the stack

SUSPECT_S = 3.0
DEAD_S = 4.0 + 1.6  # the shortest suspicion of up to ten members, and the time that a probe and the news take
PATIENCE = 3.0  # a loaded machine with seven containers is given this many times as long


def statuses(stack: Stack, through: str) -> dict[str, str]:
    done = stack.roost("members", "--json", "--coordinator", through)
    assert done.returncode == 0, done.stderr
    return {member["node_id"]: member["status"] for member in json.loads(done.stdout)["members"]}


def everywhere_live(stack: Stack) -> bool | None:
    """True if each sidecar answers and sees all three; one that was just started may not answer yet."""
    for target in stack.targets:
        done = stack.roost("state", "--json", "--coordinator", target)
        if done.returncode != 0 or json.loads(done.stdout)["active_workers"] != len(WORKERS):
            return None
    return True


def test_every_sidecar_knows_every_worker_and_there_is_no_coordinator(gossip_stack: Stack) -> None:
    assert {gossip_stack.inspect(service, "{{.State.Health.Status}}") for service in (*SIDECARS, *WORKERS)} == {"healthy"}
    assert "coordinator" not in gossip_stack.compose("ps", "--all", "--services").split()
    eventually(lambda: everywhere_live(gossip_stack), deadline_s=20, what="three live workers in every view")
    for target in gossip_stack.targets:
        assert statuses(gossip_stack, target) == dict.fromkeys(WORKERS, "alive")


def test_text_of_a_real_model_comes_through_any_sidecar(gossip_stack: Stack) -> None:
    first = generate(gossip_stack, MODEL, through=gossip_stack.targets[0])
    assert (first.cache, first.completion_tokens) == ("cold_start", 16)

    def is_hit_through_all() -> bool | None:
        answers = [generate(gossip_stack, MODEL, through=target) for target in gossip_stack.targets]
        return {(answer.worker_id, answer.cache, answer.text) for answer in answers} == {(first.worker_id, "hit", first.text)} or None

    eventually(is_hit_through_all, deadline_s=20, what="every sidecar sends the request to the worker that has the model")


def test_under_load_every_panel_has_data_and_nothing_fails(gossip_stack: Stack) -> None:
    gossip_stack.compose("--profile", "load", "build", "--quiet", "load", deadline_s=600)
    settings = {"ROOST_LOAD_DURATION": "45", "ROOST_LOAD_RATE": "3"}
    gossip_stack.compose("--profile", "load", "up", "--detach", "--no-deps", "--no-build", "load", settings=settings)
    missing = queries_of("gossip")
    assert len(missing) > 15

    def all_have_data() -> bool | None:
        for query in [query for query in missing if has_numbers(gossip_stack.query(query))]:
            del missing[query]
        return None if missing else True

    try:
        eventually(all_have_data, deadline_s=45, what="data for every panel")
    except AssertionError as failure:
        failure.add_note(f"panels without data: {missing}")
        raise
    eventually(lambda: gossip_stack.inspect("load", "{{.State.Status}}") == "exited" or None, deadline_s=90, what="the end of the load")
    logs = gossip_stack.compose("--profile", "load", "logs", "--no-log-prefix", "load")
    assert gossip_stack.inspect("load", "{{.State.ExitCode}}") == "0", logs
    assert "failed 0" in logs, logs


def test_a_worker_that_dies_gets_nothing_and_comes_back(gossip_stack: Stack) -> None:
    victim = generate(gossip_stack, MODEL).worker_id
    assert run("docker", "kill", gossip_stack.container(victim)).returncode == 0

    def is_not_live(target: str) -> bool | None:
        return liveness(gossip_stack, through=target)[victim] != "live" or None

    for target in gossip_stack.targets:
        eventually(partial(is_not_live, target), deadline_s=5, what="not live")
    answers = [generate(gossip_stack, model, max_tokens=4) for model in MODELS]
    assert victim not in {answer.worker_id for answer in answers}
    gossip_stack.compose("start", victim)
    eventually(lambda: everywhere_live(gossip_stack), deadline_s=30, what=f"{victim} is live again")


def test_a_sidecar_that_dies_is_suspect_then_dead_and_the_others_decide_on(gossip_stack: Stack) -> None:
    victim, (_, *others) = WORKERS[0], gossip_stack.targets
    assert run("docker", "kill", gossip_stack.container(SIDECARS[0])).returncode == 0

    def is_one_of(target: str, *expected: str) -> bool | None:
        return statuses(gossip_stack, target)[victim] in expected or None

    for target in others:
        eventually(partial(is_one_of, target, "suspect", "dead"), deadline_s=SUSPECT_S * PATIENCE, what=f"{victim} is suspect")
        eventually(partial(is_one_of, target, "dead"), deadline_s=DEAD_S * PATIENCE, what=f"{victim} is dead")
        assert generate(gossip_stack, MODEL, through=target).worker_id != victim
    assert generate(gossip_stack, MODEL).completion_tokens == 16, "the first target is gone and the command takes the next"
    firing = 'ALERTS{alertname="RoostSidecarDown", alertstate="firing"}'
    eventually(lambda: gossip_stack.query(firing) or None, deadline_s=SCRAPE_DEADLINE_S + 30, what="the alert fires")
    gossip_stack.compose("start", SIDECARS[0])
    eventually(lambda: everywhere_live(gossip_stack), deadline_s=30, what=f"{victim} is live again, in every view")


def test_alerts_are_evaluated_without_errors(gossip_stack: Stack) -> None:
    answer = gossip_stack.prometheus("rules")
    assert isinstance(answer, dict)
    rules = [rule for group in answer["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules if rule["health"] != "ok"} == set()
    assert "RoostSidecarDown" in {rule["name"] for rule in rules}


def test_all_sidecars_at_once_can_be_started_anew(gossip_stack: Stack) -> None:
    gossip_stack.compose("restart", *SIDECARS)
    eventually(lambda: everywhere_live(gossip_stack), deadline_s=30, what="one cluster again")
    assert generate(gossip_stack, MODEL).completion_tokens == 16


def test_everything_stops_cleanly(gossip_stack: Stack) -> None:
    stops_cleanly(gossip_stack, *WORKERS)
    stops_cleanly(gossip_stack, *SIDECARS)
