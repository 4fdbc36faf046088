"""Queries that the shell answers outside the core: what was asked, and what to do with the answer.

A command returns `Fetch`; the shell gets an Errand, and its result goes to the command's `answer`.
A query waits for at most ERRAND_S, and at most ERRANDS_AT_MOST wait at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from agents.base.errors import OperatorError
from agents.core.effects import Effect, Errand
from agents.core.events import QueryFinished

ERRAND_S = 30.0
ERRANDS_AT_MOST = 20

Then = Callable[[QueryFinished, float, int], Iterator[Effect]]
"""Takes the result, `now` (monotonic seconds) and `now_ms`."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    then: Then
    until: float


@dataclass(slots=True)
class PendingQueries:
    """The queries that have not been answered yet, by their `ref`."""

    _refs: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _open: dict[str, _Waiting] = field(default_factory=dict)

    def begin_query(self, what: object, then: Then, now: float) -> Errand:
        """The effect that asks for `what`. `then` is called once, with the result or an error.
        Raises OperatorError when too many queries are waiting."""
        if len(self._open) >= ERRANDS_AT_MOST:
            raise OperatorError("Too many requests wait for their answers; try again in a moment.")
        ref = str(next(self._refs))
        self._open[ref] = _Waiting(then, now + ERRAND_S)
        return Errand(ref, what)

    def finish_query(self, event: QueryFinished, now: float, now_ms: int) -> Iterator[Effect]:
        """Finish the query; a result that is no longer waited for is ignored."""
        if (waiting := self._open.pop(event.ref, None)) is not None:
            yield from waiting.then(event, now, now_ms)

    def expire_queries(self, now: float, now_ms: int) -> Iterator[Effect]:
        """Finish the queries that have waited too long, with an error."""
        for ref in [k for k, w in self._open.items() if w.until < now]:
            yield from self.finish_query(
                QueryFinished(ref, error=f"No answer within {ERRAND_S:.0f} s; try again."),
                now,
                now_ms,
            )
