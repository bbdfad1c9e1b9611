"""What one run of an experiment is, whoever carries it out: a cluster, the requests that come, and what is killed when. Pure.

The simulator and the runner of real processes take the same plan, so that their results can be laid side by side.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from roost.client.traffic import Popularity, next_arrival_s
from roost.cluster.worker_state import CatalogueModel
from roost.worker.engines.published import BANDWIDTH_BY_TIER, TIMES_BY_PROFILE, SimulatedSpeed

CENTRAL, GOSSIP, HYBRID = "central", "gossip", "hybrid"
PROFILE = "8b-h100"
TIER = "published-serverlessllm-h100"
MODEL_BYTES = 16_060_000_000  # Llama-3.1-8B in 16 bits, which the profile was measured with


@dataclass(frozen=True, slots=True)
class Setup:
    """The cluster and its load. The published times are stretched by `time_scale`: a load takes 0.675 s times that, a token 12 ms.

    `places` is how many models each worker has memory for; all models are of one size. Popularity is Zipf's with `zipf`.
    """

    workers: int = 10
    slots: int = 4
    places: int = 2
    models: int = 24
    zipf: float = 0.9
    rate: float = 20.0
    duration_s: float = 60.0
    time_scale: float = 2.0
    prompt_tokens: int = 64
    output_tokens: int = 16
    policy: str = "expected-wait"

    @property
    def worker_names(self) -> tuple[str, ...]:
        return tuple(f"worker-{number}" for number in range(1, self.workers + 1))

    @property
    def model_names(self) -> tuple[str, ...]:
        """Most popular first."""
        return tuple(f"sim-{number:02}" for number in range(1, self.models + 1))

    @property
    def memory_bytes(self) -> int:
        return self.places * MODEL_BYTES + MODEL_BYTES // 2

    @property
    def speed(self) -> SimulatedSpeed:
        """How fast the simulated engine is with this time scale and as many places as slots."""
        return SimulatedSpeed(MODEL_BYTES, BANDWIDTH_BY_TIER[TIER], TIMES_BY_PROFILE[PROFILE], self.slots, self.time_scale)

    @property
    def load_s(self) -> float:
        return self.speed.load_s()

    def catalogue(self) -> tuple[CatalogueModel, ...]:
        return tuple(
            CatalogueModel(name, "simulated", MODEL_BYTES, is_simulated=True, context_tokens=8192, load_time_s=self.load_s)
            for name in self.model_names
        )


@dataclass(frozen=True, slots=True)
class Ask:
    """One request that will come."""

    arrival_s: float
    model: str
    prompt_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Fault:
    """`victim` ("coordinator", or a worker with its sidecar) is killed at `at_s` and started anew `back_after_s` later."""

    at_s: float
    victim: str
    back_after_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """One run: everything that does not depend on who carries it out.

    `told_every_s`: how often workers report to the coordinator, and sidecars exchange state with each other; 0.0: as the services do, which
    is on change, at most 20 times a second, to a coordinator, and every 0.2 s between sidecars.
    """

    plane: str
    setup: Setup
    seed: int
    faults: tuple[Fault, ...] = ()
    told_every_s: float = 0.0

    def asks(self) -> tuple[Ask, ...]:
        """The requests in order of arrival; equal seeds and setups give equal requests, whatever the plane."""
        setup = self.setup
        rng = random.Random(f"asks {self.seed}")  # noqa: S311 - seeded on purpose
        popularity = Popularity(setup.model_names, setup.zipf)
        asks: list[Ask] = []
        at_s = next_arrival_s(setup.rate, rng)
        while at_s < setup.duration_s:
            asks.append(Ask(at_s, popularity.choose(rng), setup.prompt_tokens, setup.output_tokens))
            at_s += next_arrival_s(setup.rate, rng)
        return tuple(asks)
