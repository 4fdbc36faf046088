"""Queries that the shell answers outside the core: what was asked, and what to do with the answer.

A command returns `Fetch`; the shell gets an Errand, and its result goes to the command's `answer`.
A query waits for at most ERRAND_S, and at most ERRANDS_AT_MOST wait at a time."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from agents.base.errors import OperatorError
from agents.core.effects import Effect, Errand
from agents.core.events import QueryFinished

ERRAND_S = 30.0
ERRANDS_AT_MOST = 20
SLOW_S = 2.0  # a query that takes longer is announced, if it has something to announce

Then = Callable[[QueryFinished, float, int], Iterator[Effect]]
"""Takes the result, `now` (monotonic seconds) and `now_ms`."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    then: Then
    until: float
    slow: Effect | None = None


@dataclass(slots=True)
class PendingQueries:
    """The queries that have not been answered yet, by their `ref`."""

    _refs: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _open: dict[str, _Waiting] = field(default_factory=dict)

    def begin_query(
        self, what: object, then: Then, now: float, slow: Effect | None = None
    ) -> Errand:
        """The effect that asks for `what`. `then` is called once, with the result or an error.
        `slow`: performed once if the answer takes longer than 2 s. Raises OperatorError when too
        many queries are waiting."""
        if len(self._open) >= ERRANDS_AT_MOST:
            raise OperatorError("Too many requests wait for their answers; try again in a moment.")
        ref = str(next(self._refs))
        self._open[ref] = _Waiting(then, now + ERRAND_S, slow)
        return Errand(ref, what)

    def finish_query(self, event: QueryFinished, now: float, now_ms: int) -> Iterator[Effect]:
        """Finish the query; a result that is no longer waited for is ignored."""
        if (waiting := self._open.pop(event.ref, None)) is not None:
            yield from waiting.then(event, now, now_ms)

    def expire_queries(self, now: float, now_ms: int) -> Iterator[Effect]:
        """Announce the slow ones, and finish those that have waited too long, with an error."""
        for ref, w in [*self._open.items()]:
            if w.slow is not None and now > w.until - ERRAND_S + SLOW_S:
                self._open[ref] = replace(w, slow=None)
                yield w.slow
        for ref in [k for k, w in self._open.items() if w.until < now]:
            yield from self.finish_query(
                QueryFinished(ref, error=f"No answer within {ERRAND_S:.0f} s; try again."),
                now,
                now_ms,
            )
