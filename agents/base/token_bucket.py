"""A limit on a rate, as a value: the clock is passed in."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class TokenBucket:
    """Allows `burst` actions at once and `per_s` more each second. `tokens`: how many were allowed
    at `refilled_at`, the time of the last call. A new bucket is full. Times are in seconds, of any
    clock that does not go backwards."""

    burst: float
    per_s: float
    tokens: float = field(init=False)
    refilled_at: float = field(init=False, default=float("-inf"))

    def __post_init__(self) -> None:
        self.tokens = self.burst

    def refill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now - self.refilled_at) * self.per_s)
        self.refilled_at = now

    def try_take(self, now: float) -> bool:
        """Use one token, if there is one. Returns whether there was."""
        self.refill(now)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
