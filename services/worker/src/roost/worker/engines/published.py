"""Published speeds of storage and of inference, each with its source, and the arithmetic of the simulated engine. Pure.

GB are 1e9 bytes. Where a figure is derived (size divided by a published median load time) it says so. The result is a model of
other people's machines: good for comparing placements, no measurement of this one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

GB: Final = 1e9
BYTES_PER_TOKEN: Final = 4  # of English text, the common rule of thumb for byte-pair vocabularies (OpenAI, "What are tokens")

# From where weights are read, in bytes a second.
BANDWIDTH_BY_TIER: Final[Mapping[str, float]] = {
    # Derived from the load times published with ServerlessLLM (Fu et al., OSDI 2024; repository ServerlessLLM/ServerlessLLM,
    # benchmarks/results, Apache-2.0): size / median of 30 loads.
    "published-serverlessllm-nvme-raid0": 12.6 * GB,  # opt-6.7b 13.3 GB in 1.055 s, A5000, 2 x NVMe PCIe 4 RAID 0
    "published-safetensors-nvme-raid0": 2.7 * GB,  # opt-6.7b 13.3 GB in 4.947 s, same machine
    "published-serverlessllm-h100": 23.8 * GB,  # Llama-3.1-8B 16.06 GB in 0.674 s, H100
    "published-safetensors-h100": 3.6 * GB,  # Llama-3.1-8B 16.06 GB in 4.507 s, same machine
    # Nominal figures of the interface; real loads are slower.
    "pinned-memory-pcie4": 25 * GB,  # PCI Express 4.0 x16: 31.5 GB/s raw (PCI-SIG), about 25 GB/s for large copies
    "nvme-pcie4": 5.5 * GB,  # one PCIe 4 x4 drive, sequential read as data sheets give it: 5-7 GB/s
    "nvme-pcie4-raid0": 12 * GB,  # two of them
    "sata-ssd": 0.5 * GB,  # SATA 3: 6 Gbit/s with 8b/10b coding, 0.55 GB/s at best
    "network-10gbe": 1.25 * GB,  # line rate, IEEE 802.3
    "network-25gbe": 3.1 * GB,
    "network-100gbe": 12.5 * GB,
}


@dataclass(frozen=True, slots=True)
class TokenTimes:
    """How fast one published set-up reads and writes. Times in seconds; `load_factor` multiplies them when it is fully busy."""

    size_bytes: float
    prefill_overhead_s: float
    prefill_s_per_token: float
    decode_s_per_token: float
    load_factor: float


# llm-d-inference-sim (Apache-2.0), its latency profiles: prefill overhead and time per token, inter-token latency and
# time-factor-under-load. The size is the model's parameters times two bytes.
TIMES_BY_PROFILE: Final[Mapping[str, TokenTimes]] = {
    "8b-h100": TokenTimes(16.06 * GB, 0.030, 250e-6, 0.012, 2.0),
    "70b-h100-tp8": TokenTimes(138.0 * GB, 0.080, 500e-6, 0.025, 3.0),
    "small-l40s": TokenTimes(5.3 * GB, 0.020, 350e-6, 0.015, 1.5),
}

DEFAULT_TIER: Final = "published-safetensors-h100"
DEFAULT_PROFILE: Final = "8b-h100"


@dataclass(frozen=True, slots=True)
class SimulatedSpeed:
    """What a simulated model costs, in seconds. `time_scale` multiplies everything: 0.01 is a hundred times faster, 0.0 instant."""

    size_bytes: int
    bandwidth_bytes_per_s: float
    times: TokenTimes
    max_parallel: int = 1
    time_scale: float = 1.0

    def load_s(self) -> float:
        """From the start of a load to ready: size over bandwidth."""
        return self.time_scale * self.size_bytes / self.bandwidth_bytes_per_s

    def prefill_s(self, prompt_tokens: int, running: int) -> float:
        """To read a prompt while `running` generations (this one included) share the machine."""
        seconds = self.times.prefill_overhead_s + prompt_tokens * self.times.prefill_s_per_token
        return self.time_scale * self._size_ratio() * self._slowdown(running) * seconds

    def decode_s(self, running: int) -> float:
        """For one token while `running` generations (this one included) share the machine."""
        return self.time_scale * self._size_ratio() * self._slowdown(running) * self.times.decode_s_per_token

    def _size_ratio(self) -> float:
        """Our assumption, not a published figure: token times grow in proportion to the bytes of the weights."""
        return self.size_bytes / self.times.size_bytes

    def _slowdown(self, running: int) -> float:
        """From 1 alone to `load_factor` when all of `max_parallel` run, in a straight line, as llm-d-inference-sim has it."""
        others = min(running, self.max_parallel) - 1
        return 1.0 + (self.times.load_factor - 1.0) * others / (self.max_parallel - 1) if others > 0 else 1.0


def estimated_tokens(text: str) -> int:
    """How many tokens a text has about: a quarter of its bytes, at least 1."""
    return max(1, -(-len(text.encode("utf-8", "replace")) // BYTES_PER_TOKEN))
