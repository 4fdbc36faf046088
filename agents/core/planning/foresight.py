"""The forecast at work: it is told what arrives, asked what will, and held to it: each forecast is compared with what came, beside
the last value that was known when it was made."""

from __future__ import annotations

from collections import deque

import numpy as np

from agents.core.planning.forecast import Forecast
from kernels.tables import Floats

WAITING = 4_000  # forecasts that wait for what comes
MEMORY = 0.999  # what each comparison leaves of those before it


class Foresight:
    """`horizon_s`: how far ahead it looks, on the clock of `at_s`. Rates are events/s per lane, float64[L]."""

    def __init__(self, forecast: Forecast, horizon_s: float) -> None:
        self.forecast, self.horizon_s = forecast, horizon_s
        self._made: deque[tuple[float, Floats, Floats]] = deque(maxlen=WAITING)
        self._off = self._off_last = self._came = 0.0

    def observe(self, at_s: float, rate_eps: Floats) -> None:
        """What arrives now, NaN for unknown."""
        self.forecast.observe(at_s, rate_eps)
        if self._made and at_s < self._made[-1][0] - self.horizon_s:  # the clock stepped back
            self._made.clear()
        while self._made and self._made[0][0] <= at_s:
            due_s, ahead, last = self._made.popleft()
            if at_s - due_s <= self.horizon_s:
                self._compare(ahead, last, rate_eps)
        if self.horizon_s > 0:
            self._made.append((at_s + self.horizon_s, self.ahead(at_s), rate_eps))

    def look(self, horizon_s: float) -> None:
        """From now on so far ahead; what was foretold for another distance is not held against it."""
        if horizon_s != self.horizon_s:
            self.horizon_s = horizon_s
            self._made.clear()

    def ahead(self, at_s: float) -> Floats:
        """What will arrive `horizon_s` after `at_s`; NaN for a lane of which nothing was told yet."""
        return self.forecast.ahead(at_s, self.horizon_s)

    def error(self) -> tuple[float, float] | None:
        """How far the forecasts were off, and how far the last value would have been: shares of the rate that came, summed
        over the lanes. None until one came due."""
        return (self._off / self._came, self._off_last / self._came) if self._came > 0 else None

    def _compare(self, ahead: Floats, last: Floats, came: Floats) -> None:
        known = np.isfinite(ahead) & np.isfinite(last) & np.isfinite(came)
        self._off = self._off * MEMORY + float(np.abs(ahead - came)[known].sum())
        self._off_last = self._off_last * MEMORY + float(np.abs(last - came)[known].sum())
        self._came = self._came * MEMORY + float(came[known].sum())
