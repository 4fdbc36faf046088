"""A circuit breaker, as a value: the clock and the dice are passed in.

Closed, it lets all requests pass. After OPEN_AFTER failures in a row it opens: none passes, for a
random time that doubles from one opening to the next. Then one passes, as a trial: if it succeeds
the circuit closes, else it opens again."""

from __future__ import annotations

from dataclasses import dataclass

OPEN_AFTER = 5
FIRST_S, MOST_S = 2.0, 300.0
TRIAL_S = 1.0
"""How long to wait while another request is the trial."""


@dataclass(slots=True)
class Circuit:
    """`failures` in a row; `openings` in a row. Times are in seconds, of any clock that does not go
    backwards."""

    failures: int = 0
    openings: int = 0
    open_until: float = 0.0
    _on_trial: bool = False

    @property
    def is_open(self) -> bool:
        """Whether requests are held back, or only one is on trial."""
        return self.failures >= OPEN_AFTER

    def admit(self, now: float) -> float:
        """0 if a request may be sent now: then `succeed`, `fail` or `release` has to follow. Else
        how long to wait."""
        if now < self.open_until:
            return self.open_until - now
        if self.is_open:
            if self._on_trial:
                return TRIAL_S
            self._on_trial = True
        return 0.0

    def succeed(self) -> bool:
        """Returns whether this closed the circuit."""
        closes = self.is_open
        self.failures = self.openings = 0
        self.open_until = 0.0
        self._on_trial = False
        return closes

    def fail(self, now: float, dice: float) -> float:
        """`dice` is from 0 to 1. Returns for how long this opened the circuit; 0: it did not."""
        self.failures += 1
        self._on_trial = False
        if not self.is_open or now < self.open_until:  # or: a request from before it opened
            return 0.0
        self.openings += 1
        longest = min(MOST_S, FIRST_S * 2.0 ** min(self.openings - 1, 16))
        return self.open_for(now, longest * (0.5 + dice / 2))

    def open_for(self, now: float, open_s: float) -> float:
        """Open it for this long: the server has refused us in a way that a retry does not mend."""
        self.failures = max(self.failures, OPEN_AFTER)
        self.open_until = max(self.open_until, now + open_s)
        self._on_trial = False
        return open_s

    def release(self) -> None:
        """The request was given up, and says nothing about the server."""
        self._on_trial = False
