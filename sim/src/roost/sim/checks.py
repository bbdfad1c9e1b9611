"""What may be said at the simulator's front door; each error names the parameter and what was given."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from numbers import Integral, Real  # numpy's are these, too
from types import MappingProxyType
from typing import Final

from roost.cluster.view import MAX_WORKERS
from roost.sim.arrivals import Arrivals, ClosedLoop
from roost.sim.clients import Delays
from roost.sim.distributions import Distribution, as_distribution
from roost.sim.links import Reports
from roost.sim.popularity import Popularity
from roost.sim.workload import Ask, Tokens

PLANES: Final = ("central", "gossip", "hybrid")


def whole(name: str, value: object, *, least: int, most: int | None = None) -> None:
    """Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least or (most is not None and int(value) > most):
        wanted = f"{least} or more" if most is None else f"{least}-{most}"
        raise ValueError(f"{name} must be a whole number, {wanted} (got {value!r})")


def between(name: str, value: object, low: float, high: float = math.inf, *, is_open: bool = False) -> None:
    """A finite number from `low` to `high`; `is_open`: more than `low`. Raises ValueError."""
    if not isinstance(value, Real) or not math.isfinite(value) or not low <= float(value) <= high or (is_open and value == low):
        wanted = f"{low:g}-{high:g}" if math.isfinite(high) else f"more than {low:g}" if is_open else f"{low:g} or more"
        raise ValueError(f"{name} must be {wanted} (got {value!r})")


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Raises ValueError."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)} (got {value!r})")


def made_by(name: str, value: object, kind: type) -> None:
    """Raises ValueError."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {kind.__name__}(...) (got {value!r})")  # noqa: TRY004  # as all that is wrong here


_AT_LEAST_ONE: Final = partial(whole, least=1)
_NOT_NEGATIVE: Final = partial(between, low=0.0)
_RULES: Final[Mapping[str, Callable[..., None]]] = MappingProxyType({
    "workers": partial(whole, least=1, most=MAX_WORKERS),  # as many as a decider's view holds
    "slots": _AT_LEAST_ONE,
    "queue_capacity": _AT_LEAST_ONE,
    "max_attempts": _AT_LEAST_ONE,
    "requests": _AT_LEAST_ONE,
    "entries": partial(whole, least=0),
    "staleness_s": _NOT_NEGATIVE,
    "sample_s": _NOT_NEGATIVE,
    "gossip_interval_s": _NOT_NEGATIVE,
    "time_scale": _NOT_NEGATIVE,
    "timeout_s": partial(between, low=0.0, is_open=True),
    "duration_s": partial(between, low=0.0, is_open=True),
    "first_token_share": partial(between, low=0.0, high=1.0),
    "reports": partial(made_by, kind=Reports),
    "delays": partial(made_by, kind=Delays),
    "tokens": partial(made_by, kind=Tokens),
    "popularity": partial(made_by, kind=Popularity),
    "plane": partial(one_of, allowed=PLANES),
    "eviction": partial(one_of, allowed=("lru", "cost-aware")),
    "gossip_model": partial(one_of, allowed=("auto", "protocol", "drawn")),
})  # fmt: skip


def check(**said: object) -> None:
    """Each by its parameter's name; None is left out. Raises ValueError."""
    for name, value in said.items():
        if value is not None:
            _RULES[name](name, value)


def check_arrivals(arrivals: Arrivals | ClosedLoop | Distribution | None, trace: Iterable[Ask] | None) -> None:
    """Raises ValueError."""
    if (arrivals is None) == (trace is None):
        raise ValueError("give either arrivals or a trace")
    if not (arrivals is None or isinstance(arrivals, Distribution | ClosedLoop) or hasattr(arrivals, "times")):
        raise ValueError(f"arrivals must be poisson(rate), gamma(rate, cv), a distribution of gaps, ... (got {arrivals!r})")


def seconds(name: str, value: object) -> Distribution:
    """A distribution of times; a number stands for itself. Raises ValueError."""
    if isinstance(value, Distribution):
        return value
    if not isinstance(value, Real):
        raise ValueError(f"{name} must be a distribution or a number of seconds (got {value!r})")  # noqa: TRY004  # as all that is wrong here
    between(name, value, 0.0)
    return as_distribution(float(value))


def in_order(asks: Iterable[Ask], models: int) -> Iterator[Ask]:
    """The requests of a trace as they come. Raises ValueError at one that cannot be."""
    last_s = 0.0
    for number, ask in enumerate(asks):
        if not last_s <= ask.at_s < math.inf:
            raise ValueError(f"trace: request {number} comes at {ask.at_s!r} s, after one at {last_s!r} s; they must be in order of time")
        if not 0 <= ask.model < models:
            raise ValueError(f"trace: request {number} asks for model {ask.model} and there are {models}, numbered from 0")
        last_s = ask.at_s
        yield ask
