"""What both engines of analytics share: the lease and the one partition, and a checkpoint that is
committed together with the results."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from agents import settings
from agents.analytics.checkpoint import PROGRESS, CheckpointUnusable, Progress
from agents.base import log
from agents.base.errors import KafkaUnavailable
from agents.core.model.messages import Arrival, LaneLoad
from agents.core.model.topology import (
    ASIDE,
    MAIN,
    TOPIC_GEO_CONTEXT,
    TOPIC_HOTSPOT_STATE,
    TOPIC_HOTSPOTS,
    TOPIC_LANES,
    TOPIC_RISES,
    Partition,
    WorkerKind,
)
from agents.kafka.compacted import read_table
from agents.kafka.offsets import Offsets
from agents.kafka.producer import LeasedProducer
from agents.kafka.refusals import NotSent, TransactionRefused
from agents.kafka.rights import FLINK_JOB
from agents.worker.lane import Phase, RunningCounts, WorkedPartition
from agents.worker.ownership import Ownership
from agents.worker.reader import Reader
from agents.worker.stage import Outbox
from agents.worker.worker_engine import Clients, WorkerEngine, log_unavailable

LOOK_S = 0.2
"""How often it is looked at what has changed when nothing comes."""
COMMIT_S = 1.0
"""How often progress is committed if nothing was found; what is found is committed at once."""
HISTORY_S = 3600.0
"""Where there is no checkpoint, it begins with what was appended in the last hour."""
PARTITIONS_S = 10.0
"""How often it is looked for new partitions. What comes in one before may be late."""
SHOWN_S = 10.0
"""How long the last owner's last transaction may take to show in `hotspots.state`."""
REST_S = 0.2
MAX_REST_S = 5.0
NOTICE_S = 60.0
"""How long people are shown what has happened once."""

_log = log.get_logger("analytics.engine")


@dataclass(frozen=True, slots=True)
class AnalyticsTopics:
    """Kafka's names, and that of Flink's job; only tests, which share servers, use others."""

    lanes: str = TOPIC_LANES
    hotspots: str = TOPIC_HOTSPOTS
    rises: str = TOPIC_RISES
    state: str = TOPIC_HOTSPOT_STATE
    group: str = WorkerKind.ANALYTICS.group
    job: str = FLINK_JOB
    context: str = TOPIC_GEO_CONTEXT


@dataclass(slots=True, kw_only=True)
class Work:
    """What one ownership works with. `count`: transactions so far."""

    count: int
    counts: RunningCounts
    committed_at: float = 0.0


Row = tuple[str, bytes, bytes | None]
"""A record to write: topic, key and value."""
W = TypeVar("W", bound=Work)


class BaseEngine(WorkerEngine, Generic[W]):
    """One analytics worker's data plane for one boot; the same calls as those of `Engine`.
    `read_topic`: what it reads, without its cluster."""

    def __init__(
        self,
        kafka: settings.Kafka,
        analytics: settings.Analytics,
        boot: str,
        *,
        leave: Callable[[], None],
        topics: AnalyticsTopics,
        read_topic: str,
    ) -> None:
        super().__init__(
            kafka,
            Ownership(
                f"{MAIN}/{topics.hotspots}",
                boot,
                leave=leave,
                begun=lambda n: None,
                released=lambda lane: None,
            ),
        )
        self._analytics, self._topics = analytics, topics
        self._read_topic = read_topic
        self._load_at = time.monotonic()
        self._away = False
        self._notice, self._notice_until = "", 0.0

    # The control side

    def apply_settings(self, worker: settings.Worker) -> None:
        """Nothing to do: the tuned settings are those of nodes and routers."""

    def take_load(self) -> tuple[tuple[LaneLoad, ...], tuple[Arrival, ...]]:
        """For telemetry: events/s counted since the last call, and how many records wait."""
        now = time.monotonic()
        over_s, self._load_at = now - self._load_at, now
        cut_off = self._describe_cut_off(now)
        return tuple(lane.take_load(over_s, cut_off) for lane in self.owned_partitions()), ()

    # The life of this boot

    @property
    def _topic_names(self) -> Sequence[str]:
        t = self._topics
        return self._read_topic, t.hotspots, t.rises, t.state

    @property
    def _group(self) -> str:
        return self._topics.group

    def _make_reader(self) -> Reader:
        topic = f"{MAIN}/{self._read_topic}"
        return Reader(self._kafka, topic, look_s=PARTITIONS_S, rtt_ms_to=self._rtt_ms_to)

    async def _work_owned(self, clients: Clients, tasks: asyncio.TaskGroup) -> None:
        handed_over: W | None = None
        while True:
            if (lane := self._find_working()) is not None:
                if (work := await self._begin(lane, clients)) is not None:
                    await self._work(lane, work, clients)
                    handed_over = work
            elif (left := self._find_uncommitted()) is not None and handed_over:
                left.recommit = False  # the group's offsets were deleted meanwhile
                await self._commit(left, handed_over, clients)
            else:
                await self._wait_until_told()

    def _find_working(self) -> WorkedPartition | None:
        return next((x for x in self._own.lanes.values() if x.phase is Phase.WORKING), None)

    def _find_uncommitted(self) -> WorkedPartition | None:
        """What is leaving and whose commit does not show."""
        return next((x for x in self._own.lanes.values() if x.recommit and x.is_started), None)

    async def _wait_until_told(self) -> None:
        """Wait for a change of what this worker owns; let go what was never begun."""
        for lane in list(self._own.lanes.values()):
            if self.tenure.is_asked_back(lane.partition.n) and not lane.is_started:
                await self._own.release_partition(lane, lane.told)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await self._own.told.wait()
        self._own.told.clear()

    def _is_owned(self, lane: WorkedPartition) -> bool:
        """Whether it is still this worker's; if it is asked back, it is until the last commit."""
        return self._own.lanes.get(lane.partition.n) is lane

    def _leave(self, lane: WorkedPartition) -> None:
        """All is committed: the partition may go to the next owner."""
        lane.phase, lane.asked_at = Phase.LEAVING, time.monotonic()
        self._own.pending.set()

    # What is told

    def note_unavailable(self, error: KafkaUnavailable) -> None:
        """Log that Kafka is away, once until `note_available`."""
        if not self._away:
            log_unavailable(error)
        self._away = True

    def note_available(self) -> None:
        if self._away:
            _log.info("kafka_available")
        self._away = False

    def show_notice(self, text: str) -> None:
        """Show people what has happened, as a fault of the task that ends by itself."""
        self._notice, self._notice_until = f"{ASIDE}{text}", time.monotonic() + NOTICE_S

    def current_notice(self) -> str:
        return self._notice if time.monotonic() < self._notice_until else ""

    # Begin: the checkpoint, or anew

    async def _begin(self, lane: WorkedPartition, clients: Clients) -> W | None:
        """Restore the checkpoint of the last owner. None: Kafka is away, or the last owner's
        transaction does not show yet; try again."""
        try:
            progress: Progress | None = None
            try:
                rows = await read_table(self._kafka, self._topics.state)
                progress = Progress.decode(rows[PROGRESS]) if PROGRESS in rows else None
                count = progress.count if progress else 0
                behind = max(lane.committed, 0) - count
                if behind > 0:
                    if time.monotonic() - lane.committed_at < SHOWN_S:
                        await asyncio.sleep(REST_S)  # its markers come a moment after the offsets'
                        return None
                    raise CheckpointUnusable(
                        f"transaction {lane.committed} was committed, but hotspots.state only has "
                        f"transaction {count}: was the topic deleted?"
                    )
                if progress is not None:
                    work = await self._restore(lane, progress, rows, clients)
                    # A reset may have set less: the count never falls, so that a checkpoint that
                    # does not show yet is not taken for the newest.
                    work.count = max(work.count, count)
                    return work
            except CheckpointUnusable as e:
                _log.error("checkpoint_unusable", why=str(e), then="begin with the last hour")
                self.show_notice(
                    f"it began anew with the last hour, of which hotspots may be told twice: {e}"
                )
            return await self._begin_anew(lane, clients)
        except KafkaUnavailable as e:
            self.note_unavailable(e)
            await asyncio.sleep(REST_S)
            return None

    @abstractmethod
    async def _restore(
        self,
        lane: WorkedPartition,
        progress: Progress,
        rows: Mapping[bytes, bytes],
        clients: Clients,
    ) -> W:
        """Go on from a checkpoint; `rows`: the whole topic of them. Raises CheckpointUnusable,
        KafkaUnavailable."""

    @abstractmethod
    async def _begin_anew(self, lane: WorkedPartition, clients: Clients) -> W:
        """Begin without a checkpoint. Raises KafkaUnavailable."""

    async def _find_lost_begin(self, part: Partition, at: int, offsets: Offsets) -> int | None:
        """Where the log begins, if the offset `at` is not in it any more, which people are told;
        None if it is. Raises KafkaUnavailable."""
        begin = (await offsets.read_beginning_offsets([part]))[part]
        end = (await offsets.read_end_offsets([part]))[part]
        if begin <= at <= end:
            return None
        _log.error("records_are_gone", partition=part.label, wanted=at, begins=begin, ends=end)
        self.show_notice(
            f"{part.label}: records {at:,} to {begin - 1:,} are gone, and hotspots in them were "
            f"not found; {part.kafka_topic} must keep more (retention.ms)"
            if at < begin
            else f"{part.label} was made again or cut: it is read from its beginning, {begin:,}"
        )
        return begin

    @abstractmethod
    async def _work(self, lane: WorkedPartition, work: W, clients: Clients) -> None:
        """Work until the partition is asked back; then commit everything, for the next owner."""

    @abstractmethod
    async def _commit(self, lane: WorkedPartition, work: W, clients: Clients) -> None:
        """Commit what was found and how far it has come; retry until it is done. Raises
        LeaseLost."""

    async def _commit_rows(
        self,
        lane: WorkedPartition,
        work: W,
        producer: LeasedProducer,
        rows: Sequence[Row],
        positions: Mapping[Partition, int],
    ) -> None:
        """What `_commit` does with its rows, one of which is the Progress with the next count.
        `positions`: in what it reads."""
        began = time.monotonic()
        offsets = {part: (at, "") for part, at in positions.items()}
        offsets[lane.partition] = (work.count + 1, work.counts.encode())
        rest_s, before = REST_S, lane.fault
        while not await self._try_commit(lane, producer, rows, offsets):
            await asyncio.sleep(rest_s)
            rest_s = min(2 * rest_s, MAX_REST_S)
        lane.fault = before
        now = time.monotonic()
        self.meters.commit.add([now - began])
        self.meters.count_batch(
            0,
            work.counts.out - lane.committed_counts.out,
            work.counts.filtered - lane.committed_counts.filtered,
            0,
            (),
        )
        work.count, work.committed_at = work.count + 1, now
        lane.committed = lane.next = work.count
        lane.committed_counts, lane.committed_at = work.counts, now

    async def _try_commit(
        self,
        lane: WorkedPartition,
        producer: LeasedProducer,
        rows: Sequence[Row],
        offsets: Mapping[Partition, tuple[int, str]],
    ) -> bool:
        outbox = Outbox(producer.new_batch, round(time.time() * 1000))
        for topic, key, value in rows:
            outbox.add_record(topic, 0, key, value, [])
        try:
            await producer.send_transaction(outbox.batches, offsets, self._topics.group)
        except (TransactionRefused, NotSent) as e:
            self.meters.aborts += 1
            if lane.fault != (fault := f"held: {e}"):
                _log.warning("not_committed", error=str(e))
                lane.fault = fault
            return False
        return True
