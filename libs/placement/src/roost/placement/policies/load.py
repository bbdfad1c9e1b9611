"""How loaded a candidate is, by the measure that least-loaded and power-of-two share."""

from __future__ import annotations

from roost.placement.candidate import Candidate

# Below one request on the largest worker there may be (10,000 slots), so that utilisation decides between equals and nothing else.
_UTILIZATION_WEIGHT = 1e-5


def load(candidate: Candidate) -> float:
    """Requests waiting, running and reserved for each slot; between equals the accelerator's utilisation decides."""
    return candidate.outstanding / candidate.state.slots + _UTILIZATION_WEIGHT * candidate.state.gpu_utilization
