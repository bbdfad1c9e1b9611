"""Every command in docs/ and deploy/README.md does what it says: each is run here on one cluster, or named with the reason why it is not.

The README's are run by `test_documents`. What a document leaves to the reader (addresses, ids, files) is filled in; all else is as written.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from local_cluster import LocalCluster, await_port, clean_environment, free_port

from roost.client.local.ports import free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "deploy/README.md", *sorted((ROOT / "docs").glob("*.md"))]
FIRST_WORDS = ("roost", ".venv/bin/roost", "grpcurl", "docker", "make", "export", "curl", "kubectl")
CATALOGUE = "".join(
    f"""
[models.{name}]
engine = "simulated"
source = "published"
size = "10MB"
options = {{ tier = "nvme-pcie4", profile = "small-l40s", time_scale = 0.01 }}
"""
    for name in ("gemma-3-270m", "gemma-3-270m-q4_0", "llama-7b", "my-model")
)
TRACE = "req_id,arrival_s,model,prompt_tokens,output_tokens\n" + "".join(
    f"{number},{number / 4:.3f},model-{number % 7:02},{20 + number % 30},{10 + number % 90}\n" for number in range(800)
)
DOCKER = "needs Docker: tests/containers run the stack, its images and its rules"
NOT_HERE = {
    "docker compose up --build --detach --wait": DOCKER,
    "docker compose --profile load up --detach load": DOCKER,
    "docker compose --profile load down": DOCKER,
    "docker compose -f docker-compose.gossip.yml up --build --detach --wait": DOCKER,
    "docker compose -f docker-compose.gossip.yml down": DOCKER,
    "docker build --build-arg SERVICE=coordinator --tag roost-coordinator .": DOCKER,
    "docker build --build-arg SERVICE=worker --build-arg EXTRAS=llamacpp --tag roost-worker .": DOCKER,
    "docker build --build-arg SERVICE=gossip --tag roost-gossip .": DOCKER,
    "docker build --build-arg SERVICE=client --tag roost-client .": DOCKER,
    "docker run --rm --volume ./deploy/prometheus:/etc/prometheus:ro --entrypoint promtool prom/prometheus:v3.5.3 test rules "
    "/etc/prometheus/tests/recording.test.yml /etc/prometheus/tests/alerts.test.yml /etc/prometheus/tests/gossip.test.yml": DOCKER,
    "grpcurl -plaintext 127.0.0.1:9000 list": "grpcurl is no part of Roost: test_reflection asks the same",
    'grpcurl -plaintext -d \'{"request_id": "r1", "model_required": "gemma-3-270m", "priority": 5}\' 127.0.0.1:9000 '
    "roost.v1.Scheduler/Schedule": "as above",
    "roost experiment all": "takes minutes of both cores, and its results are kept in experiments/ and compared there",
    "roost experiment all --live": "takes an hour",
    "roost experiment reality": "takes 22 minutes",
    "roost experiment 2 --live --seeds 1": "takes minutes on a machine of its own",
    '.venv/bin/roost up --workers 3 --model gemma-3-270m --prompt "The capital of France is the city of"': "`make run` is this command: "
    "test_documents",
    ".venv/bin/roost up --mode gossip --workers 5": "test_documents",
    'export ROOST_COORDINATOR="127.0.0.1:7846 127.0.0.1:7847 127.0.0.1:7848"': "a variable of the shell; targets: libs/client/tests",
}


def commands_of(text: str) -> list[str]:
    """The commands of its blocks that are for a shell, without comments; what a backslash continues is one."""
    blocks = re.findall(r"^```(?:sh|bash|console)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = [line.split("  #")[0].strip() for block in blocks for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.removeprefix("$ ").split(" ")[0] in FIRST_WORDS]


COMMANDS = [(path.name, command) for path in DOCUMENTS for command in commands_of(path.read_text("utf-8"))]
HERE = [(name, command) for name, command in COMMANDS if command not in NOT_HERE]
SERVERS = [command for _, command in HERE if re.match(r"(\.venv/bin/)?roost (up|gossip|worker|coordinator)\b", command)]
ONCE = [(name, command) for name, command in HERE if command not in SERVERS]


@dataclass(frozen=True)
class Ground:
    """One cluster in both planes, and a folder with what the documents' commands leave to the reader."""

    cluster: LocalCluster
    sidecar: str
    folder: Path

    def fill_in(self, command: str) -> str:
        """The command as somebody would type it who stands here."""
        command = re.sub(r"^(\.venv/bin/)?roost ", f"{sys.executable} -m roost.client.cli ", command)
        command = command.replace("127.0.0.1:9000", self.cluster.address).replace("10.0.0.1:7846", self.sidecar)
        command = command.replace("OLD_KEY_ID", "$(tail -1 ids)").replace("KEY_ID", "$(head -1 ids)").replace("REQUEST_ID", "mine")
        return command.replace("10.0.0.1", "127.0.0.1").replace("10.0.0.2", "127.0.0.1")

    def environment(self, command: str) -> dict[str, str]:
        asks_sidecars = re.search(r"roost (keys|members)", command)
        return {**clean_environment(), "ROOST_COORDINATOR": self.sidecar if asks_sidecars else self.cluster.address}

    def run(self, command: str) -> str:
        """What it prints; it must succeed."""
        done = subprocess.run(
            ["bash", "-c", self.fill_in(command)],
            cwd=self.folder,
            env=self.environment(command),
            capture_output=True,
            text=True,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def ground(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    folder = tmp_path_factory.mktemp("documents")
    models = folder / "models.toml"
    models.write_text(CATALOGUE)
    (folder / "arena27_trace.csv").write_text(TRACE)
    cluster = LocalCluster(folder, models)
    sidecars: list[subprocess.Popen[bytes]] = []
    addresses: list[str] = []
    seed = f"127.0.0.1:{free_port()}"
    try:
        cluster.start_coordinator()
        for number in (1, 2):
            grpc_port, key = free_port(), folder / f"sidecar-{number}.key"
            key.write_text("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\n")
            key.chmod(0o600)
            port = seed.rpartition(":")[2] if number == 1 else str(free_port())
            flags = ["--node-id", f"worker-{number}", "--port", port, "--grpc-port", str(grpc_port), "--metrics-port", "0", "--seeds", seed]
            flags += ["--key-file", str(key), "--models", str(models)]
            with (folder / f"sidecar-{number}.log").open("wb") as log:
                sidecars.append(
                    subprocess.Popen([sys.executable, "-m", "roost.gossip", *flags], stdout=log, stderr=log, env=clean_environment())
                )
            await_port(grpc_port, sidecars[-1])
            addresses.append(f"127.0.0.1:{grpc_port}")
            cluster.start_worker(f"worker-{number}", "--sidecar", addresses[-1])
        cluster.await_live(2)
        yield Ground(cluster, addresses[0], folder)
    finally:
        cluster.stop()
        for sidecar in sidecars:
            sidecar.terminate()
            sidecar.wait(timeout=20)


@pytest.mark.parametrize(("document", "command"), ONCE, ids=[f"{name}-{command[:60]}" for name, command in ONCE])
def test_a_documents_command_succeeds(document: str, command: str, ground: Ground) -> None:
    del document
    if "decisions/" in command and not (ground.folder / "decisions/coordinator.jsonl").exists():
        record(ground)
    said = ground.run(command)
    if "keys list" in command or "keys install" in command:
        found = re.findall(r"\b[0-9a-f]{16}\b|\b[0-9a-f]{8}\b", ground.run("roost keys list"))
        (ground.folder / "ids").write_text("\n".join(dict.fromkeys(reversed(found))) + "\n")
    assert said or ">" in command
    if "drain" in command and "--resume" not in command:
        ground.run(f"{command} --resume")


def record(ground: Ground) -> None:
    """What the documents' `roost up --record decisions` leaves behind when a request was served."""
    [command] = [each for each in SERVERS if "--record" in each]
    with serving(ground, command) as port:
        ground.run(f'roost generate llama-7b "Once" --max-tokens 2 --request-id mine --coordinator 127.0.0.1:{port}')


class serving:  # noqa: N801  # reads as a context
    """The command as a server of its own, on free ports, until the block ends; then it must stop well."""

    def __init__(self, ground: Ground, command: str) -> None:
        self._port = free_port()
        verb = next(word for word in command.split() if word in ("up", "gossip", "worker", "coordinator"))
        flags = {
            "up": f"--coordinator-port {self._port} --base-worker-port {free_ports(4)} --base-metrics-port {free_ports(4)} "
            f"--log-dir logs --models models.toml",
            "gossip": f"--port {free_port()} --grpc-port {self._port} --metrics-port 0",
            "worker": f"--port {self._port} --metrics-port 0 --coordinator-host '' --models models.toml",
            "coordinator": f"--port {self._port} --metrics-port 0",
        }[verb]
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {ground.fill_in(command)} {flags}"],
            cwd=ground.folder,
            env=clean_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> int:
        assert self._process.stdout is not None
        watchdog = threading.Timer(120, self._process.kill)
        watchdog.start()
        printed = []
        for line in self._process.stdout:
            printed.append(line)
            if "Ready" in line or "_started" in line:
                break
        watchdog.cancel()
        threading.Thread(target=self._process.stdout.read, daemon=True).start()
        assert self._process.poll() is None, "".join(printed)
        return self._port

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(timeout=40) == 0


@pytest.mark.parametrize("command", SERVERS, ids=lambda command: command[:70])
def test_a_documents_server_starts_and_stops(command: str, ground: Ground) -> None:
    with serving(ground, command) as port:
        assert port


def test_every_command_is_run_or_named_with_the_reason() -> None:
    assert len(ONCE) >= 12
    assert set(NOT_HERE) <= {command for _, command in COMMANDS}, "a reason for a command that no document has (any more)"


PROGRAMS = [
    (path.name, program)
    for path in DOCUMENTS
    for program in re.findall(r"^```python\n(.*?)^```", path.read_text("utf-8"), re.DOTALL | re.MULTILINE)
]


@pytest.mark.parametrize(("document", "program"), PROGRAMS, ids=[f"{name}-{number}" for number, (name, _) in enumerate(PROGRAMS)])
def test_a_documents_program_runs(document: str, program: str, ground: Ground) -> None:
    script = ground.folder / f"{document}.py"
    script.write_text(program.replace("9000", str(ground.cluster.port)).replace("8009", str(free_port())))
    environment = {**clean_environment(), "ROOST_WORKER_MODELS": str(ground.folder / "models.toml")}
    done = subprocess.run(
        [sys.executable, script], cwd=ground.folder, env=environment, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
