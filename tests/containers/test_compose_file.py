"""What the compose file promises about every service, read the way Compose reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TypedDict, cast

import pytest

from tests.containers.stack import WORKSPACE, Stack, succeed

pytestmark = pytest.mark.containers
ONE_SHOT = {"prepare-models", "load"}


class Port(TypedDict):
    host_ip: str
    published: str
    target: int


class Build(TypedDict):
    args: dict[str, str]


class Logging(TypedDict):
    options: dict[str, str]


class Healthcheck(TypedDict):
    test: list[str]


class Wait(TypedDict):
    condition: str


class Service(TypedDict, total=False):
    """What Compose says of a service, as far as it is asked here."""

    image: str
    build: Build
    environment: dict[str, str]
    healthcheck: Healthcheck
    ports: list[Port]
    depends_on: dict[str, Wait]
    restart: str
    read_only: bool
    cap_drop: list[str]
    cap_add: list[str]
    privileged: bool
    security_opt: list[str]
    logging: Logging
    mem_limit: str
    cpus: float
    pids_limit: int


@pytest.fixture(scope="module")
def services(engine: str) -> dict[str, Service]:
    stack = Stack(project="roost-config", ports=[19000, 18001, 18002, 18003, 19090])
    config = json.loads(stack.compose("--profile", "load", "config", "--format", "json"))
    return cast("dict[str, Service]", config["services"])


def published(services: dict[str, Service]) -> Iterator[tuple[str, Port]]:
    for name, service in services.items():
        for port in service.get("ports", []):
            yield name, port


def test_the_file_is_valid_as_it_is(engine: str) -> None:
    succeed("docker", "compose", "config", "--quiet")


def test_every_published_port_is_on_loopback_and_can_be_moved(services: dict[str, Service]) -> None:
    ports = list(published(services))
    assert {name: int(port["published"]) for name, port in ports} == {
        "coordinator": 19000,
        "worker-1": 18001,
        "worker-2": 18002,
        "worker-3": 18003,
        "prometheus": 19090,
        "grafana": 3000,
    }
    assert {port["host_ip"] for _, port in ports} == {"127.0.0.1"}


def test_a_worker_advertises_the_port_that_is_published(services: dict[str, Service]) -> None:
    for number in (1, 2, 3):
        worker = services[f"worker-{number}"]
        assert worker["environment"]["ROOST_WORKER_ADVERTISE"] == f"127.0.0.1:{worker['ports'][0]['published']}"
        assert worker["environment"]["ROOST_WORKER_PORT"] == str(worker["ports"][0]["target"])
        assert worker["healthcheck"]["test"][-1] == f"127.0.0.1:{worker['ports'][0]['target']}"


def test_nothing_runs_with_more_rights_than_it_needs(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert service.get("read_only") is True, name
        assert service.get("cap_drop") == ["ALL"], name
        assert "cap_add" not in service, name
        assert "privileged" not in service, name
        assert service.get("security_opt") == ["no-new-privileges:true"], name


def test_everything_is_bounded(services: dict[str, Service]) -> None:
    for name, service in services.items():
        assert int(service["mem_limit"]) <= 2 << 30, name
        assert 0 < float(service["cpus"]) <= 1, f"{name}: an engine refuses more processors than the machine has"
        assert 0 < int(service["pids_limit"]) <= 256, name
        assert service["logging"]["options"]["max-size"], name


def test_services_restart_and_one_shots_do_not(services: dict[str, Service]) -> None:
    assert {name for name, service in services.items() if service["restart"] == "no"} == ONE_SHOT
    assert all(service["restart"] == "unless-stopped" for name, service in services.items() if name not in ONE_SHOT)


def test_services_start_in_the_order_of_their_health(services: dict[str, Service]) -> None:
    waits = {name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()} for name, service in services.items()}
    for number in (1, 2, 3):
        assert waits[f"worker-{number}"] == {"prepare-models": "service_completed_successfully", "coordinator": "service_healthy"}
    assert waits["prometheus"] == {"coordinator": "service_healthy"}
    assert waits["grafana"] == {"prometheus": "service_healthy"}


def test_other_peoples_images_are_pinned(services: dict[str, Service]) -> None:
    for name, service in services.items():
        if not service["image"].startswith("roost-"):
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), name
    bases = set(re.findall(r"^FROM (python\S*)", (WORKSPACE / "Dockerfile").read_text(), re.MULTILINE))
    assert bases == {"python:3.13-slim-trixie"}


def test_only_the_one_shot_is_built_with_the_model(services: dict[str, Service]) -> None:
    extras = {name: service["build"]["args"].get("EXTRAS", "") for name, service in services.items() if "build" in service}
    with_model = {name for name, wanted in extras.items() if "demo" in wanted.split(",")}
    assert with_model == {"prepare-models"}
    assert len({service["image"] for name, service in services.items() if name.startswith("worker-")}) == 1
