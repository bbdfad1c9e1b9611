"""What the compose file promises about every service, read the way Compose reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import TypedDict, cast

import pytest

from tests.containers.stack import CENTRAL, GOSSIP, WORKSPACE, Plan, Stack, succeed

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
    network_mode: str
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


def read(stack: Stack) -> dict[str, Service]:
    config = json.loads(stack.compose("--profile", "load", "config", "--format", "json"))
    return cast("dict[str, Service]", config["services"])


@pytest.fixture(scope="module")
def central(engine: str) -> dict[str, Service]:
    return read(Stack(CENTRAL, "roost-config", [19000, 18001, 18002, 18003, 19090]))


@pytest.fixture(scope="module")
def gossip(engine: str) -> dict[str, Service]:
    return read(Stack(GOSSIP, "roost-config", [17846, 17847, 17848, 18001, 18002, 18003, 19090]))


@pytest.fixture(params=["central", "gossip"])
def services(request: pytest.FixtureRequest) -> dict[str, Service]:
    """Of each of the two files."""
    return cast("dict[str, Service]", request.getfixturevalue(request.param))


def published_ports(services: dict[str, Service]) -> dict[str, list[int]]:
    return {name: [int(port["published"]) for port in service["ports"]] for name, service in services.items() if service.get("ports")}


def published(services: dict[str, Service]) -> Iterator[tuple[str, Port]]:
    for name, service in services.items():
        for port in service.get("ports", []):
            yield name, port


@pytest.mark.parametrize("plan", [CENTRAL, GOSSIP], ids=lambda plan: plan.file)
def test_the_file_is_valid_as_it_is(engine: str, plan: Plan) -> None:
    succeed("docker", "compose", "--file", plan.file, "config", "--quiet")


def test_every_published_port_can_be_moved(central: dict[str, Service], gossip: dict[str, Service]) -> None:
    workers = {f"worker-{number}": [18000 + number] for number in (1, 2, 3)}
    pods = {f"pod-{number}": [18000 + number, 17845 + number] for number in (1, 2, 3)}
    watching = {"prometheus": [19090], "grafana": [3000]}
    assert published_ports(central) == {"coordinator": [19000]} | workers | watching
    assert published_ports(gossip) == pods | watching


def test_every_published_port_is_on_loopback(services: dict[str, Service]) -> None:
    assert {port["host_ip"] for _, port in published(services)} == {"127.0.0.1"}


def test_without_a_coordinator_a_worker_and_its_sidecar_share_a_network_and_their_name(gossip: dict[str, Service]) -> None:
    assert "coordinator" not in gossip
    for number in (1, 2, 3):
        worker, sidecar, pod = (gossip[f"{kind}-{number}"] for kind in ("worker", "sidecar", "pod"))
        assert worker["network_mode"] == sidecar["network_mode"] == f"service:pod-{number}"
        assert worker["environment"]["ROOST_WORKER_NODE_ID"] == sidecar["environment"]["ROOST_GOSSIP_NODE_ID"] == f"worker-{number}"
        assert worker["environment"]["ROOST_WORKER_COORDINATOR_HOST"] == ""
        advertised = {worker["environment"]["ROOST_WORKER_ADVERTISE"], sidecar["environment"]["ROOST_GOSSIP_GRPC_ADVERTISE"]}
        assert advertised == {f"127.0.0.1:{port['published']}" for port in pod["ports"]}


def test_a_worker_advertises_the_port_that_is_published(central: dict[str, Service]) -> None:
    for number in (1, 2, 3):
        worker = central[f"worker-{number}"]
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


def waits_of(services: dict[str, Service]) -> dict[str, dict[str, str]]:
    return {name: {other: how["condition"] for other, how in service.get("depends_on", {}).items()} for name, service in services.items()}


def test_services_start_in_the_order_of_their_health(central: dict[str, Service], gossip: dict[str, Service]) -> None:
    waits = waits_of(gossip)
    for number in (1, 2, 3):
        assert waits[f"worker-{number}"] == {
            "prepare-models": "service_completed_successfully",
            f"pod-{number}": "service_started",
            f"sidecar-{number}": "service_healthy",
        }
    assert waits["prometheus"] == {"sidecar-1": "service_healthy"}
    waits = waits_of(central)
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
