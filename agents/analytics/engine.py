"""Hotspots in process: whoever owns the one partition of the topic `hotspots` reads all of
`events.lanes` and tells what rises (docs/hotspots.md).

    read -> count, test (in a thread) -> one transaction: rises, hotspots, progress, positions

What was found is kept until it is committed; nothing is read meanwhile, so a Kafka that is away
costs neither a hotspot nor memory. After a crash, the next owner restores the newest snapshot,
reads again what came after it, and keeps silent about what was told
(agents/analytics/checkpoint.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import msgspec

from agents import settings
from agents.analytics.base_engine import (
    COMMIT_S,
    HISTORY_S,
    LOOK_S,
    REST_S,
    AnalyticsTopics,
    BaseEngine,
    Row,
    Work,
)
from agents.analytics.checkpoint import (
    PROGRESS,
    CheckpointUnusable,
    Progress,
    Snapshot,
    join_snapshot,
    split_snapshot,
)
from agents.analytics.detection import Detection
from agents.base import log
from agents.base.errors import KafkaUnavailable
from agents.base.text import counted
from agents.base.worker_thread import WorkThread
from agents.core.geo.cell_names import CellNames
from agents.core.model.hotspots import Hotspot, Rise
from agents.core.model.times import format_utc
from agents.core.model.topology import ASIDE, MAIN, Partition
from agents.kafka.cell_names import CellNameReader
from agents.kafka.follow import ask_for_topic
from agents.kafka.offsets import Offsets
from agents.observe.metrics import declared as m
from agents.observe.metrics.samples import Samples
from agents.worker.lane import WorkedPartition
from agents.worker.reader import Reader, Unreadable
from agents.worker.worker_engine import Clients

BATCH_RECORDS = 20_000
SNAPSHOT_S = 10.0
SNAPSHOT_SHARE = 0.05
"""Snapshots take up to this share of the time: with many cells they are made more seldom."""
MOST_PENDING = 1_000_000
"""Counts of slots that are not closed. Beyond, only the partitions that hold the watermark back are
read."""
UNSEEN_S = 15.0
LATE_S, LATE_EVENTS = 10.0, 100
STILL_S = 60.0
"""Event time that stands still for this long, although later events wait, is told."""

_log = log.get_logger("analytics.engine")


@dataclass(slots=True, kw_only=True)
class _Work(Work):
    """What one ownership works with. `positions`: the offset behind the last record counted, by
    partition of `events.lanes`. `heard_at`: when each partition last had a record (monotonic).
    `stopped`: partitions that cannot be read, and why.
    `late_at`, `late_of`, `late`: when it was looked how many are late, of how many, and how many
    were; `late_share`: of those between the last two looks; `dropped`: how many of them there was
    no room for. `waited_for`: the partitions that are not idle. `watermark_ms`, `moved_at`: the
    watermark, and when it last moved (monotonic)."""

    detection: Detection
    positions: dict[int, int]
    heard_at: dict[int, float]
    snapshot: Snapshot
    rises: list[Rise] = field(default_factory=list)
    changes: list[Hotspot] = field(default_factory=list)
    stopped: dict[int, str] = field(default_factory=dict)
    snapshot_at: float = 0.0
    snapshot_took_s: float = 0.0
    late_at: float = 0.0
    late_of: int = 0
    late: int = 0
    late_share: float = 0.0
    dropped_before: int = 0
    dropped: int = 0
    waited_for: list[int] = field(default_factory=list)
    watermark_ms: int = -1
    moved_at: float = 0.0


class HotspotEngine(BaseEngine[_Work]):
    """Finds them in this process."""

    def __init__(
        self,
        kafka: settings.Kafka,
        analytics: settings.Analytics,
        boot: str,
        *,
        leave: Callable[[], None] = lambda: None,
        topics: AnalyticsTopics | None = None,
        snapshot_s: float = SNAPSHOT_S,
    ) -> None:
        topics = topics or AnalyticsTopics()
        super().__init__(
            kafka, analytics, boot, leave=leave, topics=topics, read_topic=topics.lanes
        )
        self._snapshot_s = snapshot_s
        self._dropped = 0
        self._names = CellNames()

    def add_metrics(self, worker: str, out: Samples) -> None:
        """What is not tested."""
        out.add(m.EVENTS_DROPPED, self._dropped, worker)

    async def _work_owned(self, clients: Clients, tasks: asyncio.TaskGroup) -> None:
        topic, link = self._topics.context, clients.offsets.link
        names = CellNameReader(
            self._kafka, topic, self._names, look=lambda: ask_for_topic(link, topic)
        )
        tasks.create_task(names.run())
        await super()._work_owned(clients, tasks)

    # Begin: the checkpoint, or an hour of history

    async def _begin_anew(
        self, lane: WorkedPartition, clients: Clients, before: Progress | None = None
    ) -> _Work:
        """Begin with the last hour. `before`: what another engine has told."""
        topic, offsets = f"{MAIN}/{self._topics.lanes}", clients.offsets
        lanes = [Partition(topic, n) for n in await clients.reader.find_partitions()]
        since_ms = round((time.time() - HISTORY_S) * 1000)
        begins = await offsets.read_offsets_since(since_ms, lanes)
        ends = await offsets.read_end_offsets(lanes)
        positions = {p.n: begins[p] if begins[p] >= 0 else ends[p] for p in lanes}
        _log.info("begun_anew", partitions=len(positions))
        detection = Detection.of_settings(self._analytics)
        if before is not None:
            detection.resume(before.told_s, before.open)
        return self._made_work(lane, detection, positions, Snapshot(0, 0, {}))

    async def _restore(
        self,
        lane: WorkedPartition,
        progress: Progress,
        rows: Mapping[bytes, bytes],
        clients: Clients,
    ) -> _Work:
        if not progress.snapshot.id:
            return await self._begin_anew(lane, clients, progress)
        saved = join_snapshot(rows, progress.snapshot)
        detection = Detection.of_settings(self._analytics)
        try:
            detection.detector.restore(saved)
        except (KeyError, ValueError, TypeError) as e:
            raise CheckpointUnusable(f"the snapshot is not one of this version: {e}") from e
        detection.resume(progress.told_s, progress.open)
        await clients.reader.find_partitions()  # so that one that was added is waited for, too
        _log.info(
            "restored",
            transaction=progress.count,
            cells=len(detection.detector.keys),
            open=len(progress.open),
        )
        return self._made_work(
            lane, detection, dict(progress.snapshot.positions), progress.snapshot
        )

    def _made_work(
        self,
        lane: WorkedPartition,
        detection: Detection,
        positions: dict[int, int],
        snapshot: Snapshot,
    ) -> _Work:
        now = time.monotonic()
        detection.names = self._names
        return _Work(
            detection=detection,
            positions=positions,
            heard_at=dict.fromkeys(positions, now),
            count=max(lane.committed, 0),
            snapshot=snapshot,
            counts=lane.counts,
            snapshot_at=now if snapshot.id else 0.0,
            late_at=now,
            late_of=lane.counts.taken,
            late=detection.detector.slots.late,
            moved_at=now,
        )

    # The loop

    async def _work(self, lane: WorkedPartition, work: _Work, clients: Clients) -> None:
        reader, thread = clients.reader, clients.thread
        reading = dict[int, int]()
        while not self.tenure.is_asked_back(lane.partition.n):
            if not self._is_owned(lane):
                return
            wanted = self._partitions_to_read(work, reader)
            if wanted.keys() != reading.keys():
                reader.assign_partitions(wanted)
            reading = wanted
            try:
                await self._read_once(lane, work, reader, thread)
            except Unreadable as e:
                reading = {}
                await self._skip_or_stop(work, e, clients.offsets)
                continue
            except KafkaUnavailable as e:
                self.note_unavailable(e)
                reading = {}
                await asyncio.sleep(REST_S)
                continue
            self.note_available()
            now = time.monotonic()
            self._look_at_counts(work, now)
            lane.fault = (
                self._describe_unread(work, reader, reading)
                or self._describe_standstill(work, now)
                or self._describe_late(work)
                or self._describe_dropped(work)
                or self.current_notice()
            )
            if work.rises or work.changes or now - work.committed_at >= COMMIT_S:
                due = self._is_snapshot_due(work, now)
                await self._commit(lane, work, clients, snapshot=due)
        await self._commit(lane, work, clients, snapshot=True)
        self._leave(lane)

    def _partitions_to_read(self, work: _Work, reader: Reader) -> dict[int, int]:
        """The partitions to read, with their positions: all, or those that hold the watermark back
        if too many counts wait for it."""
        for n in reader.known_partitions()[len(work.positions) :]:
            work.positions[n], work.heard_at[n] = 0, time.monotonic()
        readable = {n: at for n, at in work.positions.items() if n not in work.stopped}
        slots = work.detection.detector.slots
        if len(slots.pending.slot_s) < MOST_PENDING:
            return readable
        lowest = min((slots.high_ms.get(n, -1) for n in readable), default=-1)
        return {n: at for n, at in readable.items() if slots.high_ms.get(n, -1) <= lowest + 1000}

    async def _read_once(
        self, lane: WorkedPartition, work: _Work, reader: Reader, thread: WorkThread
    ) -> None:
        """Read what there is, and test the slots that it closes. Raises Unreadable,
        KafkaUnavailable."""
        now = time.monotonic()
        got = await reader.gather_records(BATCH_RECORDS, now, now + LOOK_S, self._own.told.is_set)
        self._own.told.clear()
        assigned = [n for n in work.positions if reader.last_stable_offset(n) is not None]
        positions = await reader.positions_of(assigned)
        now = time.monotonic()
        ends = {n: reader.last_stable_offset(n) or 0 for n in assigned}
        idle_s = self._analytics.idle_s
        waited_for = work.waited_for = [
            n
            for n in work.positions
            if n not in work.stopped
            and (
                n in got or positions.get(n, 0) < ends.get(n, 1) or now - work.heard_at[n] <= idle_s
            )
        ]

        def count_and_test() -> tuple[int, list[Rise], list[Hotspot]]:
            late = work.detection.detector.slots.late
            valid = sum(work.detection.count_records(n, some) for n, some in got.items())
            counted = valid - (work.detection.detector.slots.late - late)
            return counted, *work.detection.advance(waited_for, time.time())

        counted, rises, changes = await thread.run(count_and_test)
        work.heard_at |= dict.fromkeys(got, time.monotonic())  # our own work makes nobody idle
        records = sum(map(len, got.values()))
        work.positions |= positions
        work.counts = work.counts.plus_batch(counted, records - counted, 0)
        work.rises += rises
        work.changes += changes
        lane.done += records
        lane.behind = sum(max(0, end - positions[n]) for n, end in ends.items())
        lane.end = max(lane.committed, 0) + lane.behind

    async def _skip_or_stop(self, work: _Work, unreadable: Unreadable, offsets: Offsets) -> None:
        """Go on where the log begins if our position is not in it any more; stop reading the
        partition if it is."""
        part, at = unreadable.partition, work.positions[unreadable.partition.n]
        try:
            begin = await self._find_lost_begin(part, at, offsets)
        except KafkaUnavailable as e:
            self.note_unavailable(e)
            return
        self.meters.faults += 1
        if begin is not None:
            work.positions[part.n] = begin
            return
        work.stopped[part.n] = str(unreadable)
        _log.error("lane_not_read", lane=part.n, why=str(unreadable))

    def _describe_unread(self, work: _Work, reader: Reader, reading: Iterable[int]) -> str:
        """What people must know of lanes that cannot be read; `reading`: those that should be."""
        long_ago = time.monotonic() - UNSEEN_S
        unread = dict(work.stopped)
        for n in reading:
            if reader.last_stable_offset(n) is None and work.heard_at[n] < long_ago:
                unread.setdefault(n, f"no broker has answered for it for {UNSEEN_S:g} s")
        if not unread:
            return ""
        n, why = min(unread.items())
        more = f" (and {len(unread) - 1} more lanes)" if len(unread) > 1 else ""
        return f"{ASIDE}lane {n} is not read: {why}{more}"

    def _look_at_counts(self, work: _Work, now: float) -> None:
        """Note what has become of the events of the last LATE_S, and whether event time moves."""
        slots = work.detection.detector.slots
        if slots.watermark_ms != work.watermark_ms:
            work.watermark_ms, work.moved_at = slots.watermark_ms, now
        if now - work.late_at < LATE_S:
            return
        came = work.counts.taken - work.late_of
        work.late_share = (slots.late - work.late) / came if came >= LATE_EVENTS else 0.0
        work.dropped = slots.dropped - work.dropped_before
        self._dropped += work.dropped
        work.late_at, work.late_of, work.late = now, work.counts.taken, slots.late
        work.dropped_before = slots.dropped

    def _describe_standstill(self, work: _Work, now: float) -> str:
        """What people must know if a partition has held the watermark back for STILL_S."""
        high_ms = work.detection.detector.slots.high_ms
        marks = [(high_ms[n], n) for n in work.waited_for if n in high_ms]
        if now - work.moved_at < STILL_S or not marks:
            return ""
        (low_ms, n), newest_ms = min(marks), max(high_ms.values())
        if newest_ms - low_ms <= STILL_S * 1000:
            return ""
        return (
            f"{ASIDE}event time stands still: the newest event of lane {n} is of "
            f"{format_utc(low_ms)}, that of another lane of {format_utc(newest_ms)}; look at the "
            f"clocks of the sources of lane {n}"
        )

    def _describe_late(self, work: _Work) -> str:
        """What people must know if most events of the last LATE_S were late."""
        if work.late_share <= 0.5:
            return ""
        return (
            f"{ASIDE}{work.late_share:.0%} of the events are late and not counted: raise "
            f"analytics.lateness_s (now {self._analytics.lateness_s:g} s)"
        )

    def _describe_dropped(self, work: _Work) -> str:
        """What people must know if there was no room for events of the last LATE_S."""
        if not work.dropped:
            return ""
        return (
            f"{ASIDE}{counted(work.dropped, 'event')} of the last {LATE_S:g} s are of places that "
            f"are not watched, since {len(work.detection.detector.keys):,} are already: find the "
            "source whose places are random, or build a lane map of a coarser resolution"
        )

    def _is_snapshot_due(self, work: _Work, now: float) -> bool:
        every_s = max(self._snapshot_s, work.snapshot_took_s / SNAPSHOT_SHARE)
        return not work.snapshot.id or now - work.snapshot_at >= every_s

    async def _commit(
        self, lane: WorkedPartition, work: _Work, clients: Clients, *, snapshot: bool = False
    ) -> None:
        began, t = time.monotonic(), self._topics
        rows: list[Row] = [(t.rises, r.cell.encode(), msgspec.json.encode(r)) for r in work.rises]
        rows += [(t.hotspots, h.id.encode(), h.encode()) for h in work.changes]
        made = work.snapshot
        if snapshot:
            number = work.snapshot.id + 1
            before = work.snapshot.chunks
            state = await clients.thread.run(
                lambda: list(split_snapshot(number, work.detection.detector.save(), before))
            )
            chunks = sum(1 for _, value in state if value is not None)
            made = Snapshot(number, chunks, dict(work.positions))
            rows += [(t.state, key, value) for key, value in state]
        progress = Progress(
            work.count + 1,
            work.detection.told_s,
            made,
            list(work.detection.lifecycle.open.values()),
        )
        rows.append((t.state, PROGRESS, progress.encode()))
        lanes = f"{MAIN}/{t.lanes}"
        positions = {Partition(lanes, n): at for n, at in work.positions.items()}
        await self._commit_rows(lane, work, clients.producer, rows, positions)
        work.rises, work.changes, work.snapshot = [], [], made
        if snapshot:
            work.snapshot_at = work.committed_at
            work.snapshot_took_s = work.committed_at - began
