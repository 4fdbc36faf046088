"""Things that keep repeating: a worker or a leader that restarts every few seconds, a partition
that keeps changing its owner. The repetition is reported once, and its end once."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from agents.core.fleet.troubles import TroubleKind as Trouble
from agents.core.fleet.troubles import Troubles
from agents.core.model.feeds import Severity
from agents.core.model.placement import Placed, State
from agents.core.model.times import format_duration
from agents.core.model.topology import Partition, WorkerKind, WorkerSpec, short_name

WINDOW_S = 120.0
STARTS, HANDS = 4, 8  # this many starts, or changes of owner, within the window are a loop
HELD_S = 60.0  # without another: the loop is over
LEADER = "coordinator"
REMEMBERED = 32


@dataclass(slots=True)
class _Times:
    """The times of something that repeats, the newest last (monotonic s)."""

    at: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def add_and_count(self, now: float) -> int:
        """It happened again. Returns how often it did within the window."""
        self.at.append(now)
        return sum(now - t <= WINDOW_S for t in self.at)

    def span_s(self, now: float) -> float:
        """The time from the first one within the window until now."""
        return now - min(t for t in self.at if now - t <= WINDOW_S)


@dataclass(slots=True)
class Circles:
    """Counts starts and changes of owner, and keeps `troubles` up to date."""

    troubles: Troubles
    _starts: dict[str, _Times] = field(default_factory=dict)
    _hands: dict[Partition, _Times] = field(default_factory=dict)
    _led_at: float = float("-inf")

    def note_start(self, spec: WorkerSpec, last_end: str, now: float) -> None:
        """A worker has a new boot. `last_end`: how the boot before it ended, empty if unknown."""
        times = self._starts.setdefault(spec.worker, _Times())
        count = times.add_and_count(now)
        if count >= STARTS or self.is_looping(spec.worker):
            unit = f"geolane-{spec.kind.name}@{spec.name}"
            end = f"Last exit: {last_end.rstrip('. ')}. " if last_end else ""
            text = (
                f"{spec.label} keeps restarting: {count} starts in "
                f"{format_duration(times.span_s(now))}. {end}"
                f"See its log (journalctl -u {unit}; with geolane up: log/{spec.worker}.log)."
            )
            self.troubles.set(Trouble.CRASH_LOOP, spec.worker, text, now)

    def note_leader_start(self, starts: Sequence[int], last_end: str, now: float) -> str:
        """A new leader has begun. `starts`: when it and the leaders before it began (epoch ms), the
        newest last. `last_end`: how its own process ended before. Returns the reported text, empty
        if this is not a loop."""
        lately = [ms for ms in starts if 0 <= starts[-1] - ms <= WINDOW_S * 1000]
        if len(lately) < STARTS:
            return ""
        end = f"Last exit of this one: {last_end.rstrip('. ')}. " if last_end else ""
        text = (
            f"The leader keeps restarting: {len(lately)} leaders began in "
            f"{format_duration((lately[-1] - lately[0]) / 1000)}. {end}"
            "See their logs (journalctl -u geolane-coordinator; with geolane up: "
            "log/coordinator.log)."
        )
        self._led_at = now
        self.troubles.set(Trouble.CRASH_LOOP, LEADER, text, now)
        return text

    def is_looping(self, worker: str) -> bool:
        """Whether the worker is reported as restarting again and again; each single departure and
        return is then not reported."""
        return self.troubles.is_set(Trouble.CRASH_LOOP, worker)

    def note_owner(self, p: Partition, placed: Placed, now: float) -> None:
        """A partition's record was written; a new owner counts as a change."""
        if placed.state is not State.ASSIGNED:
            return
        times = self._hands.setdefault(p, _Times())
        if (count := times.add_and_count(now)) >= HANDS:
            text = (
                f"{p.label} keeps changing its owner: {count} times in "
                f"{format_duration(times.span_s(now))}, now to {short_name(placed.worker)} "
                f"({placed.why[:100]}). "
                f"{'pause stops the planner; ' if WorkerKind.NODE.works(p) else ''}history shows "
                "each reason."
            )
            self.troubles.set(Trouble.CIRCLES, p.key, text, now, Severity.WARNING)

    def end_finished_loops(self, present: frozenset[str], now: float) -> None:
        """End the loops that are over. `present`: the workers that are present."""
        for worker, times in self._starts.items():
            if self.is_looping(worker) and now - times.at[-1] >= HELD_S:
                name = short_name(worker)
                ended = (
                    f"{name} has been stable for {format_duration(HELD_S)}."
                    if worker in present
                    else f"{name} no longer restarts."
                )
                self.troubles.clear(Trouble.CRASH_LOOP, worker, now, ended)
        if now - self._led_at >= HELD_S:
            self.troubles.clear(
                Trouble.CRASH_LOOP,
                LEADER,
                now,
                f"The leader has been stable for {format_duration(HELD_S)}.",
            )
        for p, times in self._hands.items():
            if now - times.at[-1] >= HELD_S:
                self.troubles.clear(
                    Trouble.CIRCLES, p.key, now, f"{p.label} no longer changes its owner."
                )
