"""The events of one generation, put together."""

from __future__ import annotations

from roost.client.results import Accepted, Completed, Decision, Event, Generation, Resumed, Scheduled, Token


class Gathering:
    """State: the events so far. `generation` is whole once Completed was added."""

    def __init__(self) -> None:
        self._decisions: list[Decision] = []
        self._tokens: list[Token] = []
        self._resumed: list[Resumed] = []
        self._request_id = ""
        self._completed: Completed | None = None

    def add(self, event: Event) -> None:
        match event:
            case Scheduled():
                self._decisions.append(event.decision)
                self._request_id = event.decision.request_id
            case Accepted():
                self._request_id = event.request_id
            case Resumed():
                self._resumed.append(event)
            case Token():
                self._tokens.append(event)
            case Completed():
                self._completed = event

    @property
    def attempts(self) -> int:
        """Workers asked so far."""
        return len(self._decisions)

    def generation(self) -> Generation:
        """The whole. Only after an iteration that ended well, whose last event is Completed."""
        if self._completed is None:
            raise AssertionError("an iteration that ends without an error ends with Completed")
        return Generation(
            request_id=self._request_id,
            text="".join(token.text for token in self._tokens),
            tokens=tuple(self._tokens),
            decisions=tuple(self._decisions),
            usage=self._completed.usage,
            timings=self._completed.timings,
            cache=self._completed.cache,
            finish_reason=self._completed.finish_reason,
            resumed=tuple(self._resumed),
            resumes=self._completed.resumes,
            exactness=self._completed.exactness,
            approximate_because=self._completed.approximate_because,
        )
