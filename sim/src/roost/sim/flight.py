"""One request on its way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from roost.flow.flow import Flow
from roost.placement.decision import Decision
from roost.worker.core.jobs import Job

if TYPE_CHECKING:
    from roost.sim.machine import Machine


@dataclass(eq=False, slots=True)
class Flight:
    """From its arrival to its end. `service_s` was drawn when it came, where service is drawn; token counts where it is computed.

    `due_at` is when it will end on the worker that runs it now: what was put down for another time is void. `client` is the closed loop's,
    -1 in open ones. `home` is the sidecar that its client asks first.
    """

    number: int
    model: str
    arrival_s: float
    service_s: float = 0.0
    prompt_tokens: int = 0
    output_tokens: int = 0
    client: int = -1
    home: int = 0
    priority: int = 0
    decision_id: str = ""
    waited_for_load: bool = False  # in the decider, until some worker had the model: a join, though it finds the model ready
    flow: Flow[str, Decision] | None = None
    machine: Machine | None = None
    job: Job | None = None
    due_at: float = -1.0
    first_at: float = -1.0
    # Of a generation whose speed depends on how many run beside it: tokens still to come, as of when, and at what pace.
    tokens_left: float = 0.0
    as_of: float = 0.0
    token_s: float = 0.0
    told_share: float = 0.0  # of one whose worker died after its first token: how much of the whole is not to be made again
