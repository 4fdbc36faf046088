"""Machines whose clock is off, compared with Kafka's, on which all times of events rest. People are
told; nothing is decided by it.

A worker sends its own time along. A message arrives late, never early: so a clock that is ahead
shows at once, and one that is behind by the least delay of WINDOW_S."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from agents.core.fleet.fleet import Fleet
from agents.core.fleet.troubles import TroubleKind, Troubles
from agents.core.model.feeds import Severity
from agents.core.model.times import format_duration
from agents.core.model.topology import short_name

OWN, KAFKA = "coordinator", "kafka"
OWN_OFF_S = 2.0
"""The leader writes to Kafka every second, and knows its own clock's error within a round trip."""
OFF_S = 10.0  # a worker's message may be delayed by seconds
READ_EVERY_S, WINDOW_S = 5.0, 30.0
AGREES_S = 60.0
MOST_AT_LEAST = 2  # workers, to blame Kafka's clock


@dataclass(slots=True)
class _Delays:
    """The least (Kafka's time less the sender's) of this window and of the one before, in s."""

    began_s: float
    least_s: float
    before_s: float | None = None
    read_s: float = 0.0

    @property
    def ahead_s(self) -> float:
        """How far the sender is ahead of Kafka's clock; 0 while that cannot be known yet."""
        if self.before_s is None:
            return max(0.0, -self.least_s)
        return -min(self.least_s, self.before_s)


@dataclass(slots=True)
class Clocks:
    """`own_ahead_s`: how far the leader's machine is ahead of Kafka's clock."""

    fleet: Fleet
    troubles: Troubles
    own_ahead_s: float = 0.0
    _delays: dict[str, _Delays] = field(default_factory=dict)

    def note_telemetry(self, worker: str, ts: str, now: float, now_ms: int) -> None:
        """`ts`: the worker's time as it wrote it; whatever is not a time tells nothing. `now_ms`:
        Kafka's clock."""
        known = self._delays.get(worker)
        if known is not None and now - known.read_s < READ_EVERY_S:
            return
        try:
            at = datetime.fromisoformat(ts)
        except ValueError:
            return
        if at.tzinfo is None:
            return
        delay_s = now_ms / 1000 - at.timestamp()
        if known is None:
            self._delays[worker] = known = _Delays(now, delay_s)
        elif now - known.began_s >= WINDOW_S:
            known.began_s, known.before_s, known.least_s = now, known.least_s, delay_s
        known.least_s, known.read_s = min(known.least_s, delay_s), now

    def report(self, now: float) -> None:
        """Keep the troubles up to date."""
        for worker in self._delays.keys() - self.fleet.views.keys():
            del self._delays[worker]
            self.troubles.clear(TroubleKind.CLOCK_OFF, worker, now)
        told = self._describe_kafkas() or dict(self._describe_clocks())
        self._clear_others(told, now)
        for about, text in told.items():
            self.troubles.set(TroubleKind.CLOCK_OFF, about, text, now, Severity.WARNING)

    def _describe_kafkas(self) -> dict[str, str]:
        """Kafka's own clock, if the leader and most workers differ from it to the same side."""
        own_s, all_s = self.own_ahead_s, [d.ahead_s for d in self._delays.values()]
        off_s = [s for s in all_s if abs(s) >= OFF_S and s * own_s > 0]
        if abs(own_s) < OFF_S or len(off_s) < MOST_AT_LEAST or 2 * len(off_s) <= len(all_s):
            return {}
        return {
            KAFKA: f"Kafka's clock is {_describe(-own_s, 'mine')}, and {len(off_s)} of "
            f"{len(all_s)} workers say so, too. Times of events, history and hotspots go by it. "
            "Set the brokers' clocks: a time service (chrony)."
        }

    def _describe_clocks(self) -> Iterator[tuple[str, str]]:
        if abs(self.own_ahead_s) >= OWN_OFF_S:
            yield (
                OWN,
                f"The clock of my machine is {_describe(self.own_ahead_s)}. I go by Kafka's; my "
                f"log and tools there do not. {_MEND}",
            )
        for worker, delays in self._delays.items():
            if abs(delays.ahead_s) >= OFF_S:
                yield (
                    worker,
                    f"The clock of {short_name(worker)}'s machine is {_describe(delays.ahead_s)}. "
                    f"{_MEND}",
                )

    def _clear_others(self, told: Mapping[str, str], now: float) -> None:
        for about in {*self.fleet.views, OWN, KAFKA} - told.keys():
            name = {OWN: "My machine", KAFKA: "The brokers"}.get(about) or short_name(about)
            ended = f"{name}: the clock agrees again."
            self.troubles.clear(TroubleKind.CLOCK_OFF, about, now, ended, holds_s=AGREES_S)


_MEND = "Set it: a time service (chrony, systemd-timesyncd)."


def _describe(ahead_s: float, than: str = "Kafka's") -> str:
    side = "ahead of" if ahead_s > 0 else "behind"
    return f"{format_duration(abs(ahead_s))} {side} {than}"
