"""What the engine knows of one partition that it works: its progress, running counts and recent
speed. The counters for metrics are here, too; they change once per batch, never per event."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

import msgspec

from agents.core.model.messages import LaneLoad
from agents.core.model.topology import Partition
from agents.observe.metrics.samples import BucketCounts

_LATENCIES = 2000
HOLD_S, MAX_HOLD_S = 1.0, 30.0
LOOKED_S = 5.0
"""How long a partition that was empty counts as empty. Each is looked at twice per second, unless
Kafka is away, a batch takes long, or the partition is stopped."""


class RunningCounts(msgspec.Struct, frozen=True):
    """A partition's counts of input records since its first one, kept as metadata of its committed
    offset (PROTOCOL 1). in = out + filtered + dead."""

    taken: int = msgspec.field(default=0, name="in")
    out: int = 0
    filtered: int = 0
    dead: int = 0

    def plus_batch(self, out: int, filtered: int, dead: int) -> RunningCounts:
        """With one more batch: input records by their outcome."""
        return RunningCounts(
            self.taken + out + filtered + dead,
            self.out + out,
            self.filtered + filtered,
            self.dead + dead,
        )

    def encode(self) -> str:
        return msgspec.json.encode(self).decode()

    @classmethod
    def decode(cls, metadata: str) -> RunningCounts:
        """The counts that a former owner committed; zeros if another program set the offset (such
        as a tool that resets offsets)."""
        try:
            return msgspec.json.decode(metadata, type=cls)
        except msgspec.DecodeError:
            return cls()


class Phase(Enum):
    """WAITING until the told offset shows -> WORKING -> LEAVING until its own offset shows; or
    STOPPED by a fault."""

    WAITING = auto()
    WORKING = auto()
    LEAVING = auto()
    STOPPED = auto()


@dataclass(slots=True, eq=False)
class WorkedPartition:
    """One tenure of a partition.

    `told`: the lowest offset at which work may start.
    `after`: an earlier tenure of the same partition in this process, whose last commit must show
    first.
    `next`: the offset behind the last record that is committed or staged for a commit.
    `committed`: the offset behind the last committed record; -1 if there is none.
    `since`, `asked_at`: when it began to wait, and to leave (monotonic).
    `recommit`: its commit does not show and must be repeated.
    `end`: the offset behind the last record that may be read; -1 until that is known.
    `passed`: no event is left before this offset. It can be beyond `committed`, since transaction
    markers follow the records.
    `clear_ms`: no event is left that was appended before this time (epoch ms; 0 until known).
    `held_until`: it is not worked before this time (monotonic), since a topic refuses its outputs
    or its first record must wait.
    `holds`: how often it was held in a row."""

    partition: Partition
    epoch: int
    told: int
    after: WorkedPartition | None = None
    phase: Phase = Phase.WAITING
    since: float = 0.0
    next: int = 0
    counts: RunningCounts = field(default_factory=RunningCounts)
    committed: int = -1
    committed_counts: RunningCounts = field(default_factory=RunningCounts)
    committed_at: float = 0.0
    asked_at: float = 0.0
    recommit: bool = False
    fault: str = ""
    behind: int = 0
    end: int = -1
    passed: int = 0
    clear_ms: float = 0.0
    done: int = 0
    holds: int = 0
    held_until: float = 0.0
    latencies_ms: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES))

    def start_at_offset(self, offset: int | None, metadata: str, now: float) -> None:
        """Begin to work at `offset` (None: nothing was ever committed, so at 0)."""
        self.phase = Phase.WORKING
        self.committed = -1 if offset is None else offset
        self.committed_counts = RunningCounts.decode(metadata)
        self.committed_at = now
        self.rewind_to_committed()

    def rewind_to_committed(self) -> None:
        """Go back to the committed offset: staged records were not committed (PROTOCOL 3.3)."""
        self.next = max(self.committed, 0)
        self.counts = self.committed_counts

    @property
    def is_started(self) -> bool:
        return self.committed_at > 0.0

    @property
    def is_quiet(self) -> bool:
        """Whether nothing is staged or in flight."""
        return self.next == max(self.committed, 0)

    def note_position(
        self, end: int | None, position: int, first_ms: int | None, now_ms: float | None
    ) -> None:
        """Note that the reader is at `position` of `end` (None: not known). `first_ms`: when the
        first of the records just read was appended; None if there were none. `now_ms`: None if no
        broker can be asked, so that later appends are not known."""
        if first_ms is None and self.is_quiet:
            self.passed = position
        if first_ms is not None and not self.clear_ms:
            self.clear_ms = first_ms
        if end is not None:
            self.behind, self.end = max(0, end - position), end
            if self.lag_events == 0 and now_ms is not None:
                self.clear_ms = max(self.clear_ms, now_ms)

    @property
    def lag_events(self) -> int | None:
        """The number of offsets that are not committed yet; None until it is known."""
        return (
            None
            if self.end < 0 or not self.is_started
            else max(0, self.end - max(self.committed, self.passed))
        )

    def oldest_event_age_s(self, now_ms: float) -> float | None:
        """How long the oldest uncommitted event has waited at most, in s; 0 if there is none, None
        until it is known."""
        if not self.clear_ms:
            return None
        ago_s = max(0.0, now_ms - self.clear_ms) / 1000
        return 0.0 if self.lag_events == 0 and ago_s < LOOKED_S else ago_s

    def stop_with_fault(self, fault: str) -> None:
        self.phase, self.fault = Phase.STOPPED, fault

    def hold_with_backoff(self, fault: str, now: float) -> None:
        """Do not work it for HOLD_S, doubled each time up to MAX_HOLD_S; then it is retried."""
        self.held_until = now + min(HOLD_S * 2.0**self.holds, MAX_HOLD_S)
        self.holds = min(self.holds + 1, 30)
        self.fault = fault

    def end_hold(self) -> None:
        """Note that its outputs were committed: it is no longer held."""
        if self.holds:
            self.holds, self.held_until, self.fault = 0, 0.0, ""

    @property
    def earliest_offset(self) -> int:
        """The lowest offset that OffsetFetch must show before work may start."""
        return max(self.told, self.after.next if self.after is not None else 0)

    def take_load(self, over_s: float, held: str) -> LaneLoad:
        """The load for telemetry over the last `over_s` seconds; rate and latencies then start
        again. `held`: why nothing can be sent."""
        done, self.done = self.done, 0
        p50, p99 = percentiles(self.latencies_ms)
        self.latencies_ms.clear()
        return LaneLoad(
            self.partition.topic,
            self.partition.n,
            self.epoch,
            done / over_s if over_s > 0 else 0.0,
            self.behind,
            p50,
            p99,
            self.fault or held,
        )


def percentiles(values: deque[float]) -> tuple[float, float]:
    """p50 and p99; zeros if there are no values."""
    if not values:
        return 0.0, 0.0
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


@dataclass(slots=True)
class Meters:
    """The work of this process since its start. `done`: by partition, whether it still owns it or
    not, so that no count decreases when a partition returns. `processing`: the time from the append
    in raw to the commit. `commit`: the duration of transactions."""

    done: dict[int, RunningCounts] = field(default_factory=dict)
    processing: BucketCounts = field(default_factory=BucketCounts)
    commit: BucketCounts = field(default_factory=BucketCounts)
    aborts: int = 0
    faults: int = 0

    def count_batch(
        self, n: int, out: int, filtered: int, dead: int, took_ms: Sequence[float]
    ) -> None:
        """Count a committed batch of partition `n`: input records by outcome, and how long a sample
        of them took."""
        self.done[n] = self.done.get(n, RunningCounts()).plus_batch(out, filtered, dead)
        if took_ms:
            self.processing.add(
                [ms / 1000 for ms in took_ms], (out + filtered + dead) / len(took_ms)
            )
