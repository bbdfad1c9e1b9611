"""The compose cluster, end to end: generate, scrape, look at the dashboard, lose a worker, stop. The tests run in this order."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.containers.asking import MODEL, MODELS, SCRAPE_DEADLINE_S, generate, has_numbers, liveness, queries_of, stops_cleanly
from tests.containers.stack import WORKERS, WORKSPACE, Stack, eventually, run

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]  # the first of them builds and starts the stack

LONG_RUNNING = ("coordinator", *WORKERS)
LOAD_S = 60


def recorded_series() -> list[str]:
    return re.findall(r"- record: (\S+)", (WORKSPACE / "deploy/prometheus/rules/recording.rules.yml").read_text())


def test_everything_is_healthy_and_the_model_was_prepared_first(stack: Stack) -> None:
    assert {stack.inspect(service, "{{.State.Health.Status}}") for service in (*LONG_RUNNING, "prometheus")} == {"healthy"}
    assert stack.inspect("prepare-models", "{{.State.Status}} {{.State.ExitCode}}") == "exited 0"
    prepared, started = (stack.inspect("prepare-models", "{{.State.FinishedAt}}"), stack.inspect("worker-1", "{{.State.StartedAt}}"))
    assert prepared < started
    assert liveness(stack) == dict.fromkeys(WORKERS, "live")


def test_text_of_a_real_model_streams_to_the_host(stack: Stack) -> None:
    with stack.streaming("generate", MODEL, "The capital of France is", "--max-tokens", "48") as command:
        assert command.stdout is not None
        first = command.stdout.read(8)
        was_running = command.poll() is None
        text = first + command.stdout.read()
        assert command.wait() == 0
    assert was_running, "the text came in one piece"
    assert len(re.findall("[A-Za-z]{3,}", text)) > 10, text


def test_the_second_request_is_a_hit_on_the_same_worker_and_prometheus_says_so(stack: Stack) -> None:
    first, second = generate(stack, MODELS[1]), generate(stack, MODELS[1])
    assert (first.cache, second.cache) == ("cold_start", "hit")
    assert second.worker_id == first.worker_id
    assert second.text == first.text != ""
    counted = f'sum(roost_cache_lookups_total{{instance="{first.worker_id}", model="{MODELS[1]}", result="%s"}})'
    eventually(lambda: stack.value(counted % "hit") == 1 or None, deadline_s=SCRAPE_DEADLINE_S, what="one hit in Prometheus")
    assert stack.value(counted % "miss") == 1


def test_every_process_is_scraped(stack: Stack) -> None:
    expected = {("roost-coordinator", "coordinator"), *(("roost-worker", worker) for worker in WORKERS)}
    up = {(sample.labels["job"], sample.labels["instance"]) for sample in stack.query("up == 1")}
    assert up >= expected


def test_under_load_every_panel_and_every_rule_has_data_and_nothing_fails(stack: Stack) -> None:
    before = stack.value("sum(roost_evictions_total) or vector(0)")
    settings = {"ROOST_LOAD_DURATION": str(LOAD_S), "ROOST_LOAD_RATE": "3"}
    stack.compose("--profile", "load", "up", "--detach", "--no-deps", "--no-build", "load", settings=settings)
    refused = stack.roost("schedule", "--reserve", "gemma-3-271m")  # the panel of refusals needs some
    assert refused.returncode != 0
    assert MODEL in refused.stderr, "the nearest names are told"
    missing = queries_of("overview")
    rules = set(recorded_series())

    def all_have_data() -> bool | None:
        stack.roost("schedule", "--reserve", "gemma-3-271m")  # rates need more than one refusal in the window
        for query in [query for query in missing if has_numbers(stack.query(query))]:
            del missing[query]
        rules.difference_update([rule for rule in rules if has_numbers(stack.query(rule))])
        return None if missing or rules else True

    try:
        eventually(all_have_data, deadline_s=LOAD_S, what="data for every panel and rule")
    except AssertionError as failure:
        failure.add_note(f"panels without data: {missing}\nrules without data: {rules}")
        raise
    eventually(lambda: stack.inspect("load", "{{.State.Status}}") == "exited" or None, deadline_s=LOAD_S + 30, what="the end of the load")
    logs = stack.compose("--profile", "load", "logs", "--no-log-prefix", "load")
    assert stack.inspect("load", "{{.State.ExitCode}}") == "0", logs
    assert re.search(r"failed 0\b", logs), logs
    after = stack.value("sum(roost_evictions_total) or vector(0)")
    assert before is not None
    assert after is not None
    assert after > before, "four models do not fit three budgets of one"


def test_what_the_cluster_counted_is_what_prometheus_counted(stack: Stack) -> None:
    def agree() -> bool | None:
        state = stack.state()
        hits = stack.value('sum(roost_cache_lookups_total{result="hit"})')
        return hits == state["cache_hits"] or None

    eventually(agree, deadline_s=SCRAPE_DEADLINE_S, what="the same number of hits")


def test_alerts_are_evaluated_without_errors(stack: Stack) -> None:
    answer = stack.prometheus("rules")
    assert isinstance(answer, dict)
    rules = [rule for group in answer["groups"] for rule in group["rules"]]
    assert {rule["name"] for rule in rules if rule["health"] != "ok"} == set()
    assert {rule["type"] for rule in rules} == {"alerting", "recording"}


def test_alerts_are_about_metrics_that_exist(stack: Stack) -> None:
    alerts = (WORKSPACE / "deploy/prometheus/rules/alerts.rules.yml").read_text()
    asked = set(re.findall(r"\b(?:\w+:)?(roost_\w+)(?=[{\s)\[]|$)", "\n".join(re.findall(r"expr: (?:\|\n(?: {10}.*\n)+|.*)", alerts))))
    names = stack.prometheus("label/__name__/values")
    assert isinstance(names, list)
    assert len(asked) >= 5
    assert asked - {name.removesuffix("_bucket") for name in names} == set()


@pytest.mark.parametrize("service", LONG_RUNNING)
def test_a_container_cannot_write_to_its_own_files(stack: Stack, service: str) -> None:
    tried = run(
        "docker", "exec", stack.container(service), "sh", "-c", "id -u; touch /opt/roost/x || touch /etc/x || touch /var/lib/roost/models/x"
    )
    assert tried.returncode != 0
    assert tried.stdout.split() == ["10001"]
    assert tried.stderr.count("Read-only file system") == 3
    effective = run("docker", "exec", stack.container(service), "grep", "CapEff", "/proc/1/status").stdout.split()
    assert effective == ["CapEff:", "0000000000000000"]


def test_no_container_was_killed_for_memory_or_restarted(stack: Stack) -> None:
    for service in LONG_RUNNING:
        assert stack.inspect(service, "{{.State.OOMKilled}} {{.RestartCount}}") == "false 0", service


def test_a_killed_worker_is_dead_to_the_cluster_while_the_others_serve(stack: Stack) -> None:
    victim = generate(stack, MODEL).worker_id
    assert run("docker", "kill", stack.container(victim)).returncode == 0
    eventually(lambda: liveness(stack)[victim] != "live" or None, deadline_s=5, what=f"{victim} is no longer live")
    answers = [generate(stack, model, max_tokens=4) for model in MODELS]
    assert victim not in {answer.worker_id for answer in answers}
    eventually(lambda: liveness(stack)[victim] == "dead" or None, deadline_s=20, what=f"{victim} is dead")
    firing = 'ALERTS{alertname="RoostWorkerDead", alertstate="firing"}'
    eventually(lambda: stack.query(firing) or None, deadline_s=SCRAPE_DEADLINE_S, what="the alert fires")


def test_a_restarted_worker_is_back(stack: Stack) -> None:
    dead = next(worker for worker, life in liveness(stack).items() if life == "dead")
    stack.compose("start", dead)
    eventually(lambda: liveness(stack)[dead] == "live" or None, deadline_s=20, what=f"{dead} is live again")
    eventually(lambda: stack.inspect(dead, "{{.State.Health.Status}}") == "healthy" or None, deadline_s=30, what=f"{dead} is healthy again")


def test_a_restarted_coordinator_knows_its_workers_again(stack: Stack) -> None:
    stops_cleanly(stack, "coordinator")  # with its workers' streams open
    stack.compose("start", "coordinator")

    def all_live() -> bool | None:
        done = stack.roost("state", "--json")
        return (done.returncode == 0 and json.loads(done.stdout)["active_workers"] == len(WORKERS)) or None

    eventually(all_live, deadline_s=15, what="three live workers")
    assert generate(stack, MODEL).completion_tokens > 0


def test_stopping_workers_finish_what_they_run(stack: Stack) -> None:
    with stack.streaming("generate", MODEL, "Once upon a time", "--max-tokens", "128", "--verbose") as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert command.stdout.read(8), "it runs"
        stops_cleanly(stack, *WORKERS)
        assert command.stdout.read()
        explained = command.stderr.read()
        assert command.wait() == 0, explained
    assert ": 128 tokens" in explained
    assert "attempt 2" not in explained, "the same worker finished it"


def test_a_coordinator_without_workers_stops_cleanly_and_alerts_say_what_is_wrong(stack: Stack) -> None:
    refused = stack.roost("generate", MODEL, "Is anyone there?", "--timeout", "5")
    assert refused.returncode != 0
    assert "Traceback" not in refused.stderr
    stops_cleanly(stack, "coordinator")
    firing = 'ALERTS{alertname="RoostCoordinatorDown", alertstate="firing"}'
    eventually(lambda: stack.query(firing) or None, deadline_s=SCRAPE_DEADLINE_S, what="the alert fires")


def test_the_models_volume_outlives_its_containers(stack: Stack) -> None:
    stack.compose("rm", "--force", "--stop", *WORKERS, "prepare-models")
    volume = f"{stack.project}_models"
    listed = run("docker", "run", "--rm", "--volume", f"{volume}:/models:ro", "--entrypoint", "ls", stack.image("roost-client"), "/models")
    found = [Path(name).suffix for name in listed.stdout.split()]
    assert found.count(".gguf") == len(MODELS)
    assert not any(suffix == ".partial" for suffix in found)
