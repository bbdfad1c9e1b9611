"""Clusters in seeded virtual time: the product's own decisions, caches, slots and gossip, and times that are drawn or computed.

```python
from roost.sim import Simulation, exponential, poisson

run = Simulation(workers=4, arrivals=poisson(3.2), service=exponential(1.0), policy="least-loaded", seed=1).run(requests=200_000)
print(sum(run.waits) / len(run.waits))
```
"""

from roost.sim.arrivals import closed_loop, diurnal, flash_crowd, gamma, poisson, renewal
from roost.sim.clients import Delays
from roost.sim.distributions import Distribution, deterministic, exponential, gamma_time, lognormal, uniform_between
from roost.sim.faults import FailingLoads, Fault, kill_coordinator, kill_worker, partition, restart_coordinator, restart_worker
from roost.sim.fleet_of import equal_models, named_models
from roost.sim.links import Reports
from roost.sim.popularity import Popularity, drifting, shares, uniform, zipf
from roost.sim.run import Run
from roost.sim.simulation import Simulation
from roost.sim.workload import Ask, Tokens

__all__ = [
    "Ask",
    "Delays",
    "Distribution",
    "FailingLoads",
    "Fault",
    "Popularity",
    "Reports",
    "Run",
    "Simulation",
    "Tokens",
    "closed_loop",
    "deterministic",
    "diurnal",
    "drifting",
    "equal_models",
    "exponential",
    "flash_crowd",
    "gamma",
    "gamma_time",
    "kill_coordinator",
    "kill_worker",
    "lognormal",
    "named_models",
    "partition",
    "poisson",
    "renewal",
    "restart_coordinator",
    "restart_worker",
    "shares",
    "uniform",
    "uniform_between",
    "zipf",
]
