"""How many bytes one request may move, so that it is answered well within its time-out.

The bound starts low and grows while it is used and the requests are quick. It follows the measured
bandwidth, and falls at once when a request times out."""

from __future__ import annotations

from collections import deque

GROWTH = 4
MEASURED_BYTES = 16 << 10
"""Smaller answers say nothing about the bandwidth unless the bound is as small."""


class SizeBound:
    """`first`, `most`: the bound in bytes at the start, and at most. `target_s`: how long that many
    bytes may take beyond the round trip; it can be twice as long for a single request."""

    def __init__(self, first: int, most: int, target_s: float) -> None:
        self.bytes = first
        self.bandwidth_bps = 0.0
        """Bytes per second of the last large request; 0: not known."""
        self.timeouts = 0
        """How many requests in a row have timed out while their answer was arriving."""
        self._most, self._target_s = most, target_s
        self._took_s: deque[float] = deque(maxlen=32)

    def note_passed(self, size: int, took_s: float) -> None:
        """Note that a request moved `size` bytes in this time."""
        self.timeouts = 0
        self._took_s.append(took_s)
        is_full = 2 * size >= self.bytes
        if size < MEASURED_BYTES and not is_full:
            return
        # The quickest is an upper bound of the round trip only: it may have moved as much.
        moving_s = max(took_s - min(self._took_s), took_s / 2, 1e-6)
        self.bandwidth_bps = size / moving_s
        passes = int(self.bandwidth_bps * self._target_s)
        larger = GROWTH * max(size, self.bytes) if is_full else self.bytes
        self.bytes = max(1, min(larger, passes, self._most))

    def note_timeout(self, size: int, took_s: float) -> None:
        """Note that a request timed out after `size` bytes of its answer had arrived."""
        self.timeouts += 1
        self.bandwidth_bps = size / took_s
        passes = int(self.bandwidth_bps * self._target_s)
        self.bytes = max(1, min(passes, self.bytes // (GROWTH * GROWTH)))
