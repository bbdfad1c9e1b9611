"""Two workers, twelve models, and one of the workers can load none of them: callers notice nothing, in either plane."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from local_cluster import LocalCluster, await_port, clean_environment, free_port

from roost.client.client import RoostClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
MODELS = 12
LONGEST_FIRST_BACKOFF_S = 4.0  # one second, doubling once because two requests may have tried, and jitter


class Completions(BaseHTTPRequestHandler):
    """A model server that serves every model, and says two words."""

    def do_GET(self) -> None:
        self._answer("application/json", json.dumps({"data": [{"id": f"m{number}"} for number in range(MODELS)]}))

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        chunks = [{"choices": [{"index": 0, "text": text, "finish_reason": end}]} for text, end in (("a", None), (" b", "stop"))]
        self._answer("text/event-stream", "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n")

    def _answer(self, kind: str, text: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # its name there
        del format, args


@contextlib.contextmanager
def completions(port: int) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", port), Completions)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def catalogue(path: Path, port: int) -> str:
    path.write_text("".join(f'[models.shared-{n}]\nengine = "openai"\nsource = "http://127.0.0.1:{port}/v1#m{n}"\n' for n in range(MODELS)))
    return str(path)


@contextlib.contextmanager
def cluster(plane: str, folder: Path, files: dict[str, str]) -> Iterator[str]:
    """The address to ask at."""
    made = LocalCluster(folder)
    sidecars: list[subprocess.Popen[bytes]] = []
    asked, seed = made.address, ""
    try:
        if plane == "central":
            made.start_coordinator()
        for name, models in files.items():
            reports = []
            if plane == "gossip":
                grpc_port, port = free_port(), free_port()
                seed = seed or f"127.0.0.1:{port}"
                asked = f"127.0.0.1:{grpc_port}"
                flags = ["--node-id", name, "--port", str(port), "--grpc-port", str(grpc_port), "--metrics-port", "0", "--seeds", seed]
                with (folder / f"sidecar-{name}.log").open("wb") as log:
                    sidecars.append(
                        subprocess.Popen([sys.executable, "-m", "roost.gossip", *flags], stdout=log, stderr=log, env=clean_environment())
                    )
                await_port(grpc_port, sidecars[-1])
                reports = ["--coordinator-host", "", "--sidecar", asked]
            made.start_worker(name, "--models", models, *reports)
        yield asked
    finally:
        made.stop()
        for sidecar in sidecars:
            sidecar.terminate()
            sidecar.wait(timeout=20)


async def live(client: RoostClient, count: int) -> None:
    async with asyncio.timeout(20), contextlib.aclosing(client.watch(0.05)) as states:
        async for state in states:
            if state.active_workers == count:
                return


@pytest.mark.parametrize("plane", ["central", "gossip"])
async def test_who_cannot_load_is_tried_once_for_each_model_told_of_and_used_again_when_it_is_mended(plane: str, tmp_path: Path) -> None:
    dead, alive = free_port(), free_port()
    files = {"broken": catalogue(tmp_path / "broken.toml", dead), "fine": catalogue(tmp_path / "fine.toml", alive)}
    with completions(alive), cluster(plane, tmp_path, files) as asked:
        async with RoostClient(asked) as client:
            await live(client, 2)
            made = [
                [await client.generate_text(f"shared-{number}", "go", max_tokens=4, request_id=f"r{number}-{turn}") for turn in range(3)]
                for number in range(MODELS)
            ]
            failed = [sum(generation.attempts - 1 for generation in of_one) for of_one in made]
            assert max(failed) <= 1, failed
            assert sum(failed) >= 1, "the broken worker was never tried: nothing is shown"
            assert {generation.worker_id for of_one in made for generation in of_one} == {"fine"}
            assert {generation.text for of_one in made for generation in of_one} == {"a b"}

            number = next(number for number, failures in enumerate(failed) if failures)
            passed_over = [each for decision in await client.explain(f"r{number}-0") for each in decision.passed_over]
            known = [each for model in await client.models() if model.model.name == f"shared-{number}" for each in model.passed_over]
            told = passed_over + known
            assert {each.worker_id for each in told} <= {"broken"}
            assert any(str(dead) in each.why for each in told), told

            with completions(dead):  # it is mended, and the other one takes nothing any more
                await client.drain_worker("fine")
                mended_at = time.monotonic()
                served = [await client.generate_text(f"shared-{number}", "go", max_tokens=4, timeout_s=30.0) for number in range(MODELS)]
                assert {generation.worker_id for generation in served} == {"broken"}
                assert time.monotonic() - mended_at <= LONGEST_FIRST_BACKOFF_S
