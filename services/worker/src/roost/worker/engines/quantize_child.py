"""Makes a smaller GGUF file from another, in a process of its own: `... quantize_child SOURCE DESTINATION TYPE THREADS`."""

from __future__ import annotations

import sys
from typing import Final

from cyllama.llama import llama_cpp

FTYPES: Final = {"Q4_0": 2, "Q8_0": 7, "Q2_K": 10, "Q4_K_M": 15, "Q5_K_M": 17, "Q6_K": 18}  # llama.h, enum llama_ftype


def main(source: str, destination: str, quantization: str, threads: str) -> int:
    """0 when the destination is whole; llama.cpp says on stderr why not."""
    llama_cpp.ggml_backend_load_all()
    parameters = llama_cpp.LlamaModelQuantizeParams()
    parameters.ftype = FTYPES[quantization]
    parameters.nthread = int(threads)
    parameters.allow_requantize = True
    try:
        llama_cpp.model_quantize(source, destination, parameters)
    except (RuntimeError, ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
