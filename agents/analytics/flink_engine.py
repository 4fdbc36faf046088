"""Hotspots from Apache Flink: whoever owns the one partition of the topic `hotspots` looks after
the job that finds rises, and makes hotspots of what it writes (docs/hotspots.md, docs/flink.md).

    events.lanes -> Flink -> hotspots.rises -> read -> one transaction: hotspots, progress, position

The job writes each row once, in the order of event time, and a tick for every 10 s of event time.
If it must begin again from a checkpoint that is not its last, or anew, it writes rows a second
time: those up to the last tick, and the few after it that were told already, are left out.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import aiokafka.errors as kafka_errors
from aiokafka import TopicPartition

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
from agents.analytics.checkpoint import PROGRESS, FlinkProgress, JobRecord, Progress, Snapshot
from agents.analytics.events import EventReader
from agents.analytics.flink import JobManager
from agents.analytics.flink_job import JobHealth, JobKeeper, JobScript
from agents.analytics.sql_gateway import SqlGateway
from agents.base import log
from agents.base.errors import KafkaError, KafkaUnavailable
from agents.core.hotspots.job_rows import JobRows, decode_row
from agents.core.hotspots.lifecycle import Lifecycle
from agents.core.model.hotspots import Hotspot
from agents.core.model.topology import ASIDE, MAIN, Partition
from agents.kafka.connection import make_committed_reader, to_geolane_error
from agents.kafka.follow import is_topic_there
from agents.kafka.offsets import Offsets
from agents.observe.metrics import declared as m
from agents.observe.metrics.samples import Samples
from agents.worker.lane import WorkedPartition
from agents.worker.reader import Unreadable
from agents.worker.worker_engine import Clients, log_unavailable

BATCH_ROWS = 10_000
LAG_S = 2.0
FIRST_RECORDS, FIND_S = 200, 30.0

_log = log.get_logger("analytics.flink")


@dataclass(slots=True, kw_only=True)
class _Work(Work):
    """What one ownership works with. `position`: in `hotspots.rises`. `saved`, `saved_position`:
    what was committed last. `saving`: who waits for the next commit."""

    rows: JobRows
    position: int
    keeper: JobKeeper
    saved: JobRecord | None
    saved_position: int
    saving: list[asyncio.Future[None]] = field(default_factory=list)
    changes: list[Hotspot] = field(default_factory=list)
    skipped: int = 0


class FlinkEngine(BaseEngine[_Work]):
    """Flink finds the rises."""

    def __init__(
        self,
        kafka: settings.Kafka,
        analytics: settings.Analytics,
        clients: tuple[JobManager, SqlGateway],
        boot: str,
        *,
        leave: Callable[[], None] = lambda: None,
        topics: AnalyticsTopics | None = None,
    ) -> None:
        topics = topics or AnalyticsTopics()
        super().__init__(
            kafka, analytics, boot, leave=leave, topics=topics, read_topic=topics.rises
        )
        self._jobmanager, self._gateway = clients
        self._script = JobScript(kafka, analytics, topics)
        self._keeper: JobKeeper | None = None

    @property
    def job_health(self) -> JobHealth:
        """Of the job that this engine looks after."""
        return self._keeper.health if self._keeper is not None else JobHealth()

    def add_metrics(self, worker: str, out: Samples) -> None:
        """Of the job."""
        if self._keeper is None:
            return
        health = self._keeper.health
        out.add(m.FLINK_JOB_UP, health.state == "RUNNING", worker)
        out.add(m.FLINK_RESTARTS, health.restarts, worker)
        if health.checkpoint_age_s is not None:
            out.add(m.FLINK_CHECKPOINT_AGE, health.checkpoint_age_s, worker)

    async def _restore(
        self,
        lane: WorkedPartition,
        progress: Progress,
        rows: Mapping[bytes, bytes],
        clients: Clients,
    ) -> _Work:
        await self._look_for_names()
        flink = progress.flink
        if flink is None:  # of the engine in process: its rises are in the topic already
            flink = FlinkProgress(await self._end_of_rises(clients.offsets))
        job = flink.job.job_id if flink.job else "-"
        _log.info("restored", transaction=progress.count, job=job, open=len(progress.open))
        return self._made_work(lane, flink, progress.told_s, progress.open)

    async def _begin_anew(self, lane: WorkedPartition, clients: Clients) -> _Work:
        await self._look_for_names()
        position = await self._end_of_rises(clients.offsets)
        _log.info("begun_anew", position=position)
        return self._made_work(lane, FlinkProgress(position), -1, [])

    async def _look_for_names(self) -> None:
        """Let the job read `geo.context`, if there is such a topic: without it, it could not
        start. Raises KafkaUnavailable."""
        try:
            named = await is_topic_there(self._kafka, self._topics.context)
        except KafkaUnavailable:
            raise
        except KafkaError:  # we may not read it
            named = False
        self._script = replace(self._script, named=named)

    async def _end_of_rises(self, offsets: Offsets) -> int:
        return (await offsets.read_end_offsets([self._rises]))[self._rises]

    @property
    def _rises(self) -> Partition:
        return Partition(f"{MAIN}/{self._topics.rises}", 0)

    def _made_work(
        self, lane: WorkedPartition, flink: FlinkProgress, told_s: int, opened: Sequence[Hotspot]
    ) -> _Work:
        saving = list[asyncio.Future[None]]()

        async def save() -> None:
            saving.append(asyncio.get_running_loop().create_future())
            await saving[-1]

        self._keeper = JobKeeper(
            self._jobmanager, self._gateway, self._script, flink.job, self._find_begin, save
        )
        return _Work(
            count=max(lane.committed, 0),
            counts=lane.counts,
            rows=JobRows(Lifecycle({h.id: h for h in opened}), told_s, list(flink.recent)),
            position=flink.position,
            keeper=self._keeper,
            saved=flink.job,
            saved_position=flink.position,
            saving=saving,
        )

    async def _find_begin(self) -> tuple[int, int] | None:
        """Where a job without a past begins: with the last hour, and the event time of its first
        record, in s. None if there is no event. Raises KafkaUnavailable."""
        from_ms = round((time.time() - HISTORY_S) * 1000)
        first_ms = await find_first_event_ms(self._kafka, self._topics.lanes, from_ms)
        return None if first_ms is None else (from_ms, first_ms // 1000)

    # The loop

    async def _work(self, lane: WorkedPartition, work: _Work, clients: Clients) -> None:
        async with asyncio.TaskGroup() as tasks:
            beside = (
                tasks.create_task(work.keeper.run()),
                tasks.create_task(self._watch_lag(lane, work, clients.offsets)),
            )
            await self._follow_rises(lane, work, clients)
            for task in beside:
                task.cancel()
        self._keeper = None
        if self._is_owned(lane):
            await self._commit(lane, work, clients)
            self._leave(lane)

    async def _follow_rises(self, lane: WorkedPartition, work: _Work, clients: Clients) -> None:
        """Make hotspots of rises until the partition is asked back. The job runs on."""
        assigned = False
        while self._is_owned(lane) and not self.tenure.is_asked_back(lane.partition.n):
            try:
                if not assigned:
                    clients.reader.assign_partitions({0: work.position})
                assigned = True
                await self._read_once(work, lane, clients)
                fault = work.keeper.trouble
            except Unreadable as e:
                assigned, fault = False, await self._go_on(work, e, clients.offsets)
            except KafkaUnavailable as e:
                log_unavailable(e)
                assigned, fault = False, work.keeper.trouble
                await asyncio.sleep(REST_S)
            lane.fault = f"{ASIDE}{fault}" if fault else ""
            await self._commit_if_due(lane, work, clients)

    async def _commit_if_due(self, lane: WorkedPartition, work: _Work, clients: Clients) -> None:
        is_new = work.position != work.saved_position or work.keeper.record != work.saved
        long_ago = time.monotonic() - work.committed_at >= COMMIT_S
        if work.changes or work.saving or (is_new and long_ago):
            await self._commit(lane, work, clients)

    async def _read_once(self, work: _Work, lane: WorkedPartition, clients: Clients) -> None:
        """Read what there is. Raises Unreadable, KafkaUnavailable."""
        now = time.monotonic()
        got = await clients.reader.gather_records(
            BATCH_ROWS, now, now + LOOK_S, lambda: self._own.told.is_set() or bool(work.saving)
        )
        self._own.told.clear()
        records, before = got.get(0, []), work.rows.events
        rows = [row for r in records if (row := decode_row(r.value, r.timestamp)) is not None]
        if len(rows) < len(records) and not work.skipped:
            _log.warning("rows_skipped", topic=self._topics.rises, offset=records[0].offset)
        work.skipped += len(records) - len(rows)
        work.changes += work.rows.take(rows)
        work.position = (await clients.reader.positions_of([0]))[0]
        events = work.rows.events - before
        work.counts = work.counts.plus_batch(events, 0, 0)
        lane.done += events

    async def _go_on(self, work: _Work, unreadable: Unreadable, offsets: Offsets) -> str:
        """Go on where the log begins, if our position is not in it any more; otherwise, return what
        people must know."""
        try:
            begin = await self._find_lost_begin(self._rises, work.position, offsets)
        except KafkaUnavailable as e:
            log_unavailable(e)
            return ""
        if begin is None:
            await asyncio.sleep(REST_S)
            return f"{self._topics.rises} is not read: {unreadable}"
        work.position = begin
        return ""

    async def _watch_lag(self, lane: WorkedPartition, work: _Work, offsets: Offsets) -> None:
        """How many records the job has not read; it commits its positions with its checkpoints."""
        topic = f"{MAIN}/{self._topics.lanes}"
        while True:
            try:
                lanes = [Partition(topic, n) for n in await offsets.find_partitions(topic)]
                ends = await offsets.read_end_offsets(lanes)
                read = await offsets.read_committed_offsets(lanes)
                lane.behind = sum(
                    max(0, ends[p] - at[0]) for p in lanes if (at := read.get(p)) is not None
                )
                lane.end = max(lane.committed, 0) + lane.behind
            except KafkaUnavailable as e:
                log_unavailable(e)
            await asyncio.sleep(LAG_S)

    async def _commit(self, lane: WorkedPartition, work: _Work, clients: Clients) -> None:
        t, position, record = self._topics, work.position, work.keeper.record
        saving = list(work.saving)
        progress = Progress(
            work.count + 1,
            work.rows.told_s,
            Snapshot(0, 0, {}),
            list(work.rows.lifecycle.open.values()),
            flink=FlinkProgress(position, work.rows.recent, record),
        )
        rows: list[Row] = [(t.hotspots, h.id.encode(), h.encode()) for h in work.changes]
        rows.append((t.state, PROGRESS, progress.encode()))
        await self._commit_rows(lane, work, clients.producer, rows, {self._rises: position})
        work.changes, work.saved, work.saved_position = [], record, position
        for done in saving:
            work.saving.remove(done)
            if not done.done():  # it was cancelled
                done.set_result(None)


async def find_first_event_ms(kafka: settings.Kafka, topic: str, from_ms: int) -> int | None:
    """The earliest event time among the first records of each partition that were appended at
    `from_ms` or later; None if there is no event. Raises KafkaUnavailable, KafkaError."""
    consumer = make_committed_reader(kafka, request_timeout_ms=5000, fetch_max_wait_ms=50)
    events, found = EventReader(), list[int]()
    try:
        async with asyncio.timeout(FIND_S):
            await consumer.start()
            await consumer._client._wait_on_metadata(topic)
            parts = [TopicPartition(topic, n) for n in consumer.partitions_for_topic(topic) or ()]
            begins = await consumer.offsets_for_times(dict.fromkeys(parts, from_ms))
            ends = await consumer.end_offsets(parts)
            for part, begin in begins.items():
                if begin is None:
                    continue
                consumer.assign([part])
                consumer.seek(part, begin.offset)
                records: list[Any] = []
                while len(records) < FIRST_RECORDS and await consumer.position(part) < ends[part]:
                    got = await consumer.getmany(timeout_ms=100, max_records=FIRST_RECORDS)
                    records += got.get(part, [])
                found += events.read_columns(records)[0].tolist()
    except (kafka_errors.KafkaError, OSError, TimeoutError) as e:
        raise to_geolane_error(e, f"read the first events of {topic}") from e
    finally:
        await consumer.stop()
    return min(found, default=None)
