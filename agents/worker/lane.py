"""What the engine knows of one partition that it works: where it stands, its running counts, its
recent speed."""

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
"""A partition that was empty is believed to be so for this long: each is looked at twice a second,
unless Kafka is away, a batch takes long, or the partition is stopped."""


class RunningCounts(msgspec.Struct, frozen=True):
    """A partition's running counts by input record, since its first: they travel as metadata of its
    committed offset (PROTOCOL 1). in = out + filtered + dead."""

    taken: int = msgspec.field(default=0, name="in")
    out: int = 0
    filtered: int = 0
    dead: int = 0

    def plus(self, out: int, filtered: int, dead: int) -> RunningCounts:
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
        """What a former owner committed; zeros where somebody else set the offset (a tool that
        resets offsets does)."""
        try:
            return msgspec.json.decode(metadata, type=cls)
        except msgspec.DecodeError:
            return cls()


class Phase(Enum):
    """WAITING for the told offset to show -> WORKING -> LEAVING until its own offset shows; or
    STOPPED by a fault."""

    WAITING = auto()
    WORKING = auto()
    LEAVING = auto()
    STOPPED = auto()


@dataclass(slots=True, eq=False)
class WorkedPartition:
    """`told`: where to start at the earliest. `next`: the offset behind the last record that is
    committed or on its way to it; `committed`: behind the last that is committed (-1: nothing is).
    `after`: an earlier tenure of the same partition in this process, whose last commit must show
    first. `since`: when it began to wait, `asked_at`: to leave (monotonic); `recommit`: what it
    committed does not show, and is to be committed once more. `end`: behind the last record that
    may be read, -1 before that is known; `passed`: no event before that is left (transaction
    markers are behind what is committed); `clear_ms`: nor one that was appended before that (epoch
    ms, 0 before that is known). `held_until`: it is not worked before that (monotonic), since a
    topic refuses what becomes of it; `holds`: how often in a row."""

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

    def start(self, offset: int | None, metadata: str, now: float) -> None:
        """Work from here (None: nothing was ever committed, so from 0)."""
        self.phase = Phase.WORKING
        self.committed = -1 if offset is None else offset
        self.committed_counts = RunningCounts.decode(metadata)
        self.committed_at = now
        self.rewind()

    def rewind(self) -> None:
        """What was on its way is void: back to what is committed (PROTOCOL 3.3)."""
        self.next = max(self.committed, 0)
        self.counts = self.committed_counts

    @property
    def started(self) -> bool:
        return self.committed_at > 0.0

    @property
    def quiet(self) -> bool:
        """Nothing is on its way to be committed."""
        return self.next == max(self.committed, 0)

    def looked(
        self, end: int | None, position: int, first_ms: int | None, now_ms: float | None
    ) -> None:
        """The reader is at `position` of `end` now (None: not known); `first_ms`: when the first of
        the records that it took was appended, None if there were none; `now_ms`: None where the
        broker cannot be asked, so that nothing is known of what came since."""
        if first_ms is None and self.quiet:
            self.passed = position
        if first_ms is not None and not self.clear_ms:
            self.clear_ms = first_ms
        if end is not None:
            self.behind, self.end = max(0, end - position), end
            if self.lag_events == 0 and now_ms is not None:
                self.clear_ms = max(self.clear_ms, now_ms)

    @property
    def lag_events(self) -> int | None:
        """Offsets that are not committed yet; None while that is not known."""
        return (
            None
            if self.end < 0 or not self.started
            else max(0, self.end - max(self.committed, self.passed))
        )

    def oldest_s(self, now_ms: float) -> float | None:
        """For how long the oldest event that is not committed has waited, in s and at most; 0 where
        there is none, None while that is not known."""
        if not self.clear_ms:
            return None
        ago_s = max(0.0, now_ms - self.clear_ms) / 1000
        return 0.0 if self.lag_events == 0 and ago_s < LOOKED_S else ago_s

    def stop(self, fault: str) -> None:
        self.phase, self.fault = Phase.STOPPED, fault

    def hold(self, why: str, now: float) -> None:
        """Nothing of it is worked for a while, longer each time; then it is tried again."""
        self.held_until = now + min(HOLD_S * 2.0**self.holds, MAX_HOLD_S)
        self.holds = min(self.holds + 1, 30)
        self.fault = f"held: {why}"

    def sent(self) -> None:
        """What became of it is taken."""
        if self.holds:
            self.holds, self.held_until, self.fault = 0, 0.0, ""

    @property
    def earliest(self) -> int:
        """What OffsetFetch must show before work may start."""
        return max(self.told, self.after.next if self.after is not None else 0)

    def load(self, over_s: float, held: str) -> LaneLoad:
        """For telemetry; the rate is over the last `over_s` seconds and starts anew. `held`: why
        nothing can be sent."""
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
    """p50 and p99; zeros when there is nothing."""
    if not values:
        return 0.0, 0.0
    ordered = sorted(values)
    return ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]


# ---- What the engine counts for its metrics, once per batch and never per event; the rest is
# read from it when somebody looks.


@dataclass(slots=True)
class Meters:
    """What this process has done since its start. `done`: by partition, whether it still has it or
    not, so that no count goes back when a partition returns. `processing`: from the append in raw
    to the commit; `commit`: of transactions."""

    done: dict[int, RunningCounts] = field(default_factory=dict)
    processing: BucketCounts = field(default_factory=BucketCounts)
    commit: BucketCounts = field(default_factory=BucketCounts)
    aborts: int = 0
    faults: int = 0

    def worked(self, n: int, out: int, filtered: int, dead: int, took_ms: Sequence[float]) -> None:
        """A committed batch of partition `n`: events by what became of them, and how long a sample
        of them took."""
        self.done[n] = self.done.get(n, RunningCounts()).plus(out, filtered, dead)
        if took_ms:
            self.processing.add(
                [ms / 1000 for ms in took_ms], (out + filtered + dead) / len(took_ms)
            )
