"""Commands whose answer lies outside the core: what was sent for, who waits for it, and until when.

A command answers with `Fetch`; the shell is given the Errand, and what it found goes to the
command's own `answer`. No errand is waited for longer than ERRAND_S, and no more than
ERRANDS_AT_MOST at a time."""

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
"""Takes what was found, at `now` (monotonic seconds) and `now_ms`."""


@dataclass(frozen=True, slots=True)
class _Waiting:
    then: Then
    until: float


@dataclass(slots=True)
class PendingQueries:
    _refs: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    _open: dict[str, _Waiting] = field(default_factory=dict)

    def begin(self, what: object, then: Then, now: float) -> Errand:
        """The effect that sends for `what`; `then` is called once. Raises OperatorError when too
        many wait."""
        if len(self._open) >= ERRANDS_AT_MOST:
            raise OperatorError("Too many questions wait for their answers; try again in a moment.")
        ref = str(next(self._refs))
        self._open[ref] = _Waiting(then, now + ERRAND_S)
        return Errand(ref, what)

    def found(self, event: QueryFinished, now: float, now_ms: int) -> Iterator[Effect]:
        """Nothing, if it is not waited for any more."""
        if (waiting := self._open.pop(event.ref, None)) is not None:
            yield from waiting.then(event, now, now_ms)

    def expire(self, now: float, now_ms: int) -> Iterator[Effect]:
        """Tells those that wait too long."""
        for ref in [k for k, w in self._open.items() if w.until < now]:
            yield from self.found(
                QueryFinished(ref, error=f"No answer within {ERRAND_S:.0f} s; try again."),
                now,
                now_ms,
            )
