"""llama.cpp's own OpenAI-compatible server as a process: `completions_server.py GGUF NAME`, key in ROOST_TEST_KEY.

Prints its address on one line, serves until stdin ends.
"""

from __future__ import annotations

import os
import sys

import xllamacpp


def main(path: str, name: str) -> None:
    params = xllamacpp.CommonParams()
    params.model.path = path
    params.model_alias = {name}
    params.n_ctx = 1024
    params.n_parallel = 4
    params.n_gpu_layers = 0
    params.cpuparams.n_threads = 1
    params.cpuparams_batch.n_threads = 1
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [os.environ["ROOST_TEST_KEY"]]
    params.warmup = False
    server = xllamacpp.Server(params)
    sys.stdout.write(f"ADDRESS {server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
