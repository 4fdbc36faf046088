"""Counts what became of every raw event, from outside and through Kafka only: in = clean + filtered
+ dead + unplaced + open.

`in` is what a read-committed reader of events.raw gets: no transaction markers, nothing aborted,
each replay of a dead letter once more, and none that geo sent back with its coordinates. clean and
dead are what a read-committed reader gets, by source; unplaced are those in events.unplaced that
geo has neither sent back nor made a dead letter. filtered is the sum in the metadata of the offset
commits (PROTOCOL 1). Events that are still open when nothing moves any more are missing."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError as AnyKafkaError

from agents import settings
from agents.base import log
from agents.base.errors import KafkaUnavailable
from agents.core.lanes.records import (
    PART,
    PLACED,
    RAW_MS,
    REASON,
    REPLAYS,
    SRC,
    UNPLACED_AT,
    Reason,
    is_placed_header,
    parse_number,
    parse_source,
)
from agents.core.model.topology import (
    TOPIC_CLEAN,
    TOPIC_DEAD,
    TOPIC_RAW,
    TOPIC_UNPLACED,
    Partition,
    WorkerKind,
)
from agents.kafka.connection import make_committed_reader, stop_client, to_geolane_error
from agents.kafka.offsets import Offsets
from agents.kafka.topics import MAX_DEAD_BYTES
from agents.local.audit.ledger import Ledger
from agents.worker.lane import RunningCounts

OUTCOMES = {TOPIC_CLEAN: "clean", TOPIC_DEAD: "dead"}
POLL_S = 0.5
WINDOW_S = 10.0
EARLY_AT_MOST = 10_000
"""Outputs from a partition of events.raw that was added so recently that it is not known here
yet."""
_REASONS = frozenset(Reason)
_log = log.get_logger("embedded.accounting")


class Accounting:
    """Call `start`, then `run` until cancelled. `lane_out` counts clean records by lane. `moved_at`
    is when a number last changed (monotonic). `rewound`: by how many offsets each lane was rewound
    (from the Follower). `ledger`: what came out. `to_geo`, `from_geo`: what waited in
    events.unplaced, and what geo did with it."""

    def __init__(self, kafka: settings.Kafka, lanes: int, raw_partitions: int) -> None:
        self.events_in = 0
        self.filtered = 0
        self.ledger, self.to_geo, self.from_geo = Ledger(), Ledger(), Ledger()
        self.processing, self.visible = LatencyHistogram(), LatencyHistogram()
        self.recent = LatencyHistogram()
        self.lane_out: Counter[int] = Counter()
        self.reasons: Counter[str] = Counter()
        self.moved_at = time.monotonic()
        self.rewound: Mapping[int, int] = {}
        self.lanes = [WorkerKind.NODE.partition(n) for n in range(lanes)]
        self.raw = [WorkerKind.ROUTER.partition(n) for n in range(raw_partitions)]
        self._kafka = kafka
        self._nodes = Offsets(kafka, WorkerKind.NODE.group)
        self._consumer: Any = None  # aiokafka has no types
        self._base: dict[Partition, int] = {}
        self._filtered_before = 0
        self._raw_count: RawCount | None = None
        self._early: list[tuple[str, int, Any]] = []
        self._window: tuple[float, LatencyHistogram] = (time.monotonic(), LatencyHistogram())

    async def start(self) -> None:
        """Read the current ends: only events after them are counted. Raises KafkaUnavailable,
        KafkaError."""
        await self._nodes.start()
        self._base = await self._nodes.read_end_offsets(self.raw)
        for part, end in self._base.items():
            self._begin_partition(part.n, end)
        self._raw_count = RawCount(
            self._kafka, self._base, self._add_raw_partition, self._count_placed
        )
        self._filtered_before = await self._read_filtered_count()
        self._consumer = make_committed_reader(
            self._kafka,
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=MAX_DEAD_BYTES,
            fetch_max_bytes=2 * MAX_DEAD_BYTES,
        )
        outputs = [TopicPartition(TOPIC_CLEAN, p.n) for p in self.lanes]
        outputs += [TopicPartition(t, 0) for t in (TOPIC_DEAD, TOPIC_UNPLACED)]
        try:
            async with asyncio.timeout(30):
                await self._consumer.start()
                outputs += [
                    TopicPartition(t, n)
                    for t in (TOPIC_DEAD, TOPIC_UNPLACED)
                    for n in sorted(self._consumer.partitions_for_topic(t) or ())
                    if n
                ]
                self._consumer.assign(outputs)
                for partition, end in (await self._consumer.end_offsets(outputs)).items():
                    self._consumer.seek(partition, end)
        except (AnyKafkaError, OSError, TimeoutError) as e:
            raise to_geolane_error(e, "start the accounting's reader") from e

    async def stop(self) -> None:
        if self._consumer is not None:
            await stop_client(self._consumer.stop())
        await self._nodes.stop()

    async def run(self) -> None:
        """Count until cancelled; waits for a broker that is away."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_outputs())
            if self._raw_count is not None:
                tasks.create_task(self._raw_count.run())
            tasks.create_task(self._poll_counts())

    @property
    def clean(self) -> int:
        return self.ledger.counts["clean"]

    @property
    def dead(self) -> int:
        return self.ledger.counts["dead"]

    @property
    def unplaced(self) -> int:
        """Events that wait for their coordinates."""
        return max(0, self.to_geo.counts.total() - self.from_geo.counts.total())

    @property
    def placed(self) -> int:
        """Events that geo has sent back with their coordinates."""
        return self.from_geo.counts["placed"]

    @property
    def open(self) -> int:
        """Events that went in and have not come out: in flight, or missing if the number stays."""
        return self.events_in - self.clean - self.dead - self.unplaced - self.filtered

    @property
    def in_now(self) -> int:
        """Events that went in, including those that came out before they were counted in. This and
        `open_now` may be shown while everything moves."""
        return self.events_in + max(0, -self.open)

    @property
    def open_now(self) -> int:
        return max(0, self.open)

    @property
    def duplicates(self) -> int:
        """Sources seen twice, and events that came out beyond those that went in (a filtered event
        that also came out). The second part is right only when nothing moves any more: outputs are
        read at once, `in` and `filtered` twice a second. Events that were processed `again` on
        purpose do not count."""
        return self._doubled - self.again

    @property
    def doubled_now(self) -> int:
        """Sources seen twice, except those of rewound lanes. This may be shown while everything
        moves."""
        return max(0, self._seen_twice - sum(self.rewound.values()))

    @property
    def again(self) -> int:
        """Duplicates because lanes were rewound: at most as many as the rewound offsets."""
        return min(self._doubled, sum(self.rewound.values()))

    @property
    def _doubled(self) -> int:
        return self._seen_twice + max(0, -self.open)

    @property
    def _seen_twice(self) -> int:
        return sum(x.duplicates for x in self._ledgers)

    @property
    def _ledgers(self) -> tuple[Ledger, Ledger, Ledger]:
        return self.ledger, self.to_geo, self.from_geo

    async def _read_outputs(self) -> None:
        while True:
            batches = await self._consumer.getmany(timeout_ms=200)
            now_ms = time.time() * 1000
            for partition, records in batches.items():
                self._count_outputs(partition.topic, partition.partition, records, now_ms)
                await asyncio.sleep(0)

    def _count_outputs(self, topic: str, n: int, records: Iterable[Any], now_ms: float) -> None:
        for record in records:
            headers = dict(record.headers)
            part = (headers.get(PART) or b"").decode("ascii", "replace")
            source = _ledger_source(headers)
            if self._unknown_partition_of(source) is not None and len(self._early) < EARLY_AT_MOST:
                self._early.append((topic, n, record))
                continue
            self.moved_at = time.monotonic()
            if (outcome := OUTCOMES.get(topic)) is None:
                self.to_geo.add_source("unplaced", source)
                continue
            new = self.ledger.add_source(outcome, source, part)
            if outcome == "dead":
                if UNPLACED_AT in headers:
                    self.from_geo.add_source("dead", source)
                reason = (headers.get(REASON) or b"?").decode("ascii", "replace")
                self.reasons[reason if reason in _REASONS else "?"] += 1
            if not new or outcome != "clean":
                continue
            self.lane_out[n] += 1
            raw_ms = parse_number(headers.get(RAW_MS), record.timestamp)
            self.processing.add(record.timestamp - raw_ms)
            self.visible.add(now_ms - raw_ms)
            self._window[1].add(record.timestamp - raw_ms)
        if time.monotonic() - self._window[0] > WINDOW_S:
            self.recent, self._window = self._window[1], (time.monotonic(), LatencyHistogram())

    def _count_placed(self, record: Any) -> None:
        """Geo has sent this record back to events.raw."""
        self.from_geo.add_source("placed", _ledger_source(dict(record.headers)))
        self.moved_at = time.monotonic()

    def _begin_partition(self, n: int, offset: int) -> None:
        for ledger in self._ledgers:
            ledger.begin_partition(f"{TOPIC_RAW}/{n}", offset)

    def _add_raw_partition(self, n: int) -> None:
        """events.raw has one more partition."""
        self.raw.append(WorkerKind.ROUTER.partition(n))
        self._begin_partition(n, 0)
        early, self._early = self._early, []
        for topic, lane, record in early:  # outputs that arrived before the partition was known
            self._count_outputs(topic, lane, [record], time.time() * 1000)

    def _unknown_partition_of(self, source: str) -> int | None:
        """The partition of events.raw that the source names, if it is not known yet."""
        topic, _, n = source.rpartition("/")[0].rpartition("/")
        if topic != TOPIC_RAW or not (n.isascii() and n.isdigit()) or len(n) > 6:
            return None
        return int(n) if WorkerKind.ROUTER.partition(int(n)) not in self.raw else None

    async def _poll_counts(self) -> None:
        down = False
        while True:
            try:
                filtered = await self._read_filtered_count() - self._filtered_before
                down = False
            except KafkaUnavailable as e:
                if not down:
                    _log.warning("accounting_waits", error=str(e))
                down = True
            else:
                events_in = self._raw_count.count if self._raw_count is not None else 0
                if (filtered, events_in) != (self.filtered, self.events_in):
                    self.moved_at = time.monotonic()
                self.filtered, self.events_in = filtered, events_in
            await asyncio.sleep(POLL_S)

    async def _read_filtered_count(self) -> int:
        committed = await self._nodes.read_committed_offsets(self.lanes)
        total = 0
        for entry in committed.values():
            if entry is not None:
                total += RunningCounts.decode(entry[1]).filtered
        return total


def _ledger_source(headers: dict[str, bytes | None]) -> str:
    """The ledger's key for the record: its source, and for a replayed dead letter also the number
    of the replay."""
    src = parse_source(headers.get(SRC))
    again = parse_number(headers.get(REPLAYS), 0)
    if not again or not src:
        return src
    partition, _, offset = src.rpartition("/")
    return f"{partition}#{again}/{offset}"


def _is_from_geo(record: Any) -> bool:
    headers = dict(record.headers)
    return is_placed_header(headers.get(PLACED)) and bool(parse_source(headers.get(SRC)))


# Latencies in bounded memory: buckets grow by 2 %, so a quantile is right to 1 %.

_STEP = math.log(1.02)


class LatencyHistogram:
    """Values in ms, at least 0.1; 1,200 buckets reach past 30 years."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()

    def add(self, value_ms: float, count: int = 1) -> None:
        self._counts[round(math.log(max(value_ms, 0.1)) / _STEP)] += count

    def quantile(self, q: float) -> float | None:
        """The value below which the share `q` of the values lies, in ms; None without values."""
        rank = q * self._counts.total()
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank <= 0:
                return round(math.exp(bucket * _STEP), 1)
        return None

    def summary(self) -> dict[str, float | None]:
        """`{"p50": ms, "p99": ms}`"""
        return {"p50": self.quantile(0.5), "p99": self.quantile(0.99)}


# Counting events.raw. The events are read one by one by a read-committed reader, because the
# topic's ends also count transaction markers and aborted records.

LOOK_EVERY_S = 2.0
"""For added partitions."""


class RawCount:
    """`count`: committed events from `base` on that were read so far. `grew`: called with each
    added partition, whose events are counted from the first on. `placed`: called with each record
    that geo has sent back, which is not counted."""

    def __init__(
        self,
        kafka: settings.Kafka,
        base: Mapping[Partition, int],
        grew: Callable[[int], None] = lambda n: None,
        placed: Callable[[Any], None] = lambda record: None,
    ) -> None:
        self.count = 0
        self._grew, self._placed = grew, placed
        self._at = {TopicPartition(p.kafka_topic, p.n): offset for p, offset in base.items()}
        self._consumer = make_committed_reader(
            kafka,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=MAX_DEAD_BYTES,
            fetch_max_bytes=2 * MAX_DEAD_BYTES,
            metadata_max_age_ms=round(LOOK_EVERY_S * 1000),
        )

    async def run(self) -> None:
        """Count until cancelled. Raises KafkaUnavailable if the broker cannot be reached at the
        start."""
        try:
            await self._consumer.start()
            self._assign_partitions()
            looked_s = time.monotonic()
            while True:
                batches = await self._consumer.getmany(timeout_ms=200)
                for records in batches.values():
                    back = [r for r in records if r.headers and _is_from_geo(r)]
                    self.count += len(records) - len(back)
                    for record in back:
                        self._placed(record)
                if time.monotonic() - looked_s > LOOK_EVERY_S:
                    looked_s = time.monotonic()
                    await self._look_for_partitions()
        except (AnyKafkaError, OSError) as e:
            raise to_geolane_error(e, "count the records of events.raw") from e
        finally:
            await stop_client(self._consumer.stop())

    def _assign_partitions(self) -> None:
        self._consumer.assign(list(self._at))
        for partition, offset in self._at.items():
            self._consumer.seek(partition, offset)

    async def _look_for_partitions(self) -> None:
        known = {partition.partition for partition in self._at}
        new = sorted((self._consumer.partitions_for_topic(TOPIC_RAW) or set()) - known)
        if not new:
            return
        # assigning again resets the positions, so remember them first
        self._at = {partition: await self._consumer.position(partition) for partition in self._at}
        for n in new:
            self._at[TopicPartition(TOPIC_RAW, n)] = 0
            self._grew(n)
        self._assign_partitions()
